
/* --- one unit, enlarged */

class Detail {
  constructor(explorer) {
    this.explorer = explorer;
    this.patch = make("canvas", { className: "pixels" });
    this.projection = make("canvas", { className: "pixels over" });
    this.blend = make("input", { type: "range", min: 0, max: 100, value: 100, "aria-label": "projection over patch" });
    this.blend.addEventListener("input", () => (this.projection.style.opacity = this.blend.value / 100));
    this.heading = make("h2", {});
    this.facts = make("p", { className: "facts" });
    this.maps = make("div", { className: "maps" });
    this.peaks = make("div", { className: "maps" });
    this.code = make("pre", { hidden: true });
    const button = (text, onclick) => make("button", { type: "button", textContent: text, onclick });
    this.topnineButton = button("What else activates it", () => this.topnine());
    this.element = make(
      "dialog",
      { "aria-label": "one unit" },
      make("div", { className: "row" }, this.heading, button("Close", () => this.element.close())),
      this.facts,
      make(
        "div",
        { className: "enlarged" },
        make("div", { className: "overlay" }, this.patch, this.projection),
        make("label", {}, make("span", { textContent: "patch" }), this.blend, make("span", { textContent: "projection" })),
      ),
      make(
        "div",
        { className: "row wrap" },
        button("Other methods", () => this.compare()),
        this.topnineButton,
        button("Heat map", () => this.heat()),
        button("Add to the report", () => explorer.collect([this.card])),
        button("PNG", () => explorer.save([this.card], "png")),
        button("SVG", () => explorer.save([this.card], "svg")),
        button("NPZ", () => explorer.save([this.card], "npz")),
        button("Python and command", () => this.showCode()),
      ),
      this.maps,
      this.peaks,
      this.code,
    );
    this.element.addEventListener("keydown", (event) => this.key(event));
    this.element.addEventListener("click", (event) => {
      if (event.target === this.element) this.element.close();
    });
  }

  open(card) {
    const { explorer } = this;
    this.card = card;
    this.heading.textContent = `${explorer.layer.name} · ${card.title}`;
    const [left, top, right, bottom] = card.area;
    this.facts.textContent = `activation ${number(card.unit.activation)} · pixels ${left} to ${right} across, ${top} to ${bottom} down`;
    paintPatch(this.patch, explorer.stages[0].bitmap, card.area);
    if (card.signed) paintSigned(this.projection, card.signed, explorer.limit, card.relative);
    this.projection.style.opacity = this.blend.value / 100;
    this.topnineButton.hidden = !explorer.state.search || !(explorer.layer.name in explorer.state.search.layers);
    this.maps.replaceChildren();
    this.peaks.replaceChildren();
    this.code.hidden = true;
    if (!this.element.open) this.element.showModal();
  }

  key(event) {
    const step = event.target === this.blend ? 0 : STEP[event.key]?.[1];
    const next = step && this.explorer.shown[this.card.index + step];
    if (next) {
      event.preventDefault();
      this.open(next);
    }
  }

  unit() {
    const { channel, y, x } = this.card.unit;
    return { channel, y, x };
  }

  heat() {
    this.explorer.stages[0].heat(this.card.unit.channel);
    this.element.close();
  }

  compare() {
    const { explorer } = this;
    const methods = explorer.state.methods.filter((one) => one.default).map((one) => one.name);
    this.maps.replaceChildren(make("p", { className: "facts", textContent: "asking other methods …" }));
    let first = true;
    explorer.ask({ kind: "compare", ...explorer.where(), units: [this.unit()], area: this.card.area, methods }, (message, buffers) => {
      if (message.done) return explorer.tell("");
      if (first) this.maps.replaceChildren();
      first = false;
      const caption = make("figcaption", { textContent: message.title });
      if (message.reason) {
        this.maps.append(make("figure", {}, make("p", { className: "facts", textContent: message.reason }), caption));
        return;
      }
      const canvas = make("canvas", { className: "pixels", title: message.meaning });
      const signed = signedOf(message, buffers[0]);
      paintSigned(canvas, signed, ownLimit(signed));
      this.maps.append(make("figure", {}, canvas, caption));
    });
  }

  topnine() {
    const { explorer } = this;
    this.peaks.replaceChildren(make("p", { className: "facts", textContent: "projecting …" }));
    let first = true;
    const peaks = [];
    explorer.ask({ kind: "topnine", layer: explorer.layer.name, channel: this.card.unit.channel }, (message, buffers) => {
      if (message.done) return explorer.tell("");
      if (first) this.peaks.replaceChildren();
      first = false;
      const canvas = make("canvas", { className: "pixels" });
      peaks.push({ canvas, signed: signedOf(message, buffers[0]) });
      const limit = Math.max(...peaks.map((one) => ownLimit(one.signed)));
      for (const one of peaks) paintSigned(one.canvas, one.signed, limit);
      const patch = make("img", { className: "pixels", alt: `patch of ${message.image}` });
      patch.src = URL.createObjectURL(new Blob([bytesOf(buffers[1])], { type: message.type }));
      patch.onload = () => URL.revokeObjectURL(patch.src);
      const caption = make("figcaption", { textContent: `${message.image} · ${number(message.activation)}` });
      this.peaks.append(make("figure", {}, make("div", { className: "pair" }, patch, canvas), caption));
    });
  }

  showCode() {
    const { explorer } = this;
    explorer.ask({ kind: "code", ...explorer.where(), units: [this.unit()] }, (message) => {
      if (message.kind !== "code") return;
      this.code.textContent = message.shell ? `${message.python}\n\n${message.shell}` : message.python;
      this.code.hidden = false;
      navigator.clipboard?.writeText(this.code.textContent).then(
        () => explorer.tell("copied"),
        () => {},
      );
    });
  }
}

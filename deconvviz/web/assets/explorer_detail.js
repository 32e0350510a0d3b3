
/* --- one unit, enlarged */

class Detail {
  constructor(explorer) {
    this.explorer = explorer;
    this.patch = make("canvas", { className: "pixels" });
    this.projection = make("canvas", { className: "pixels over" });
    this.sheet = make("div", { className: "sheet" }, this.patch, this.projection);
    this.view = make("div", { className: "overlay", tabIndex: 0, role: "region", "aria-label": "picture and projection" }, this.sheet);
    this.blend = make("input", { type: "range", min: 0, max: 100, value: 100, "aria-label": "projection over patch" });
    this.blend.addEventListener("input", () => (this.projection.style.opacity = this.blend.value / 100));
    this.zoom = make("input", { type: "range", min: 0, max: 100, "aria-label": "zoom" });
    this.zoom.addEventListener("input", () => this.enlarge());
    this.heading = make("h2", {});
    this.facts = make("p", { className: "facts" });
    this.trust = make("p", { className: "facts" });
    this.page = make("p", { className: "facts", hidden: true });
    this.maps = make("div", {});
    this.peaks = make("div", {});
    this.code = make("div", {});
    const button = (text, onclick) => make("button", { type: "button", textContent: text, onclick });
    const save = (text, format) => button(text, () => explorer.save([this.card], format));
    this.heatButton = button("Heat map", () => this.heat());
    this.topnineButton = button("What else activates it", () => this.topnine());
    this.before = make("button", { type: "button", textContent: "‹", "aria-label": "previous card", onclick: () => this.step(-1) });
    this.after = make("button", { type: "button", textContent: "›", "aria-label": "next card", onclick: () => this.step(1) });
    const slider = (left, input, right) =>
      make("label", {}, make("span", { textContent: left }), input, make("span", { textContent: right }));
    this.element = make(
      "dialog",
      { "aria-label": "one unit" },
      make("div", { className: "row" }, this.heading, make("div", { className: "row" }, this.before, this.after, button("Close", () => this.element.close()))),
      this.facts,
      make(
        "div",
        { className: "enlarged" },
        this.view,
        make("div", { className: "sliders" }, slider("patch", this.blend, "projection"), slider("whole picture", this.zoom, "enlarged")),
      ),
      this.trust,
      this.page,
      make(
        "div",
        { className: "row wrap" },
        button("Other methods", () => this.compare()),
        this.topnineButton,
        this.heatButton,
        button("Python and command", () => this.showCode()),
        button("Add to the report", () => explorer.collect([this.card])),
        make("span", { className: "group" }, make("span", { className: "facts", textContent: "save as" }), save("PNG", "png"), save("SVG", "svg"), save("NPZ", "npz")),
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
    this.before.disabled = !card.index;
    this.after.disabled = card.index + 1 >= explorer.shown.length;
    this.draw();
    this.trust.textContent = this.likeness();
    this.showPage();
    const { search } = explorer.state;
    const searched = search && explorer.choice.network === 0 && explorer.layer.name in search.layers;
    this.heatButton.hidden = explorer.layer.shape.length !== 3;
    this.topnineButton.hidden = !search;
    this.topnineButton.disabled = !searched;
    this.topnineButton.title = search && !searched ? `the search has ${Object.keys(search.layers).join(", ")}` : "";
    for (const box of [this.maps, this.peaks, this.code]) box.replaceChildren();
    if (!this.element.open) this.element.showModal();
    this.fit();
  }

  /* The whole picture, and over it the projection at its place. */
  draw() {
    const { bitmap, size } = this.explorer.stages[0];
    paintPatch(this.patch, bitmap, [0, 0, ...size]);
    [this.projection.width, this.projection.height] = size;
    this.sheet.style.aspectRatio = size.join(" / ");
    this.projection.style.opacity = this.blend.value / 100;
    if (!this.card.signed?.values.length) return;
    const part = make("canvas");
    paintSigned(part, this.card.signed, this.explorer.limit, this.card.relative);
    this.projection.getContext("2d").drawImage(part, this.card.area[0], this.card.area[1]);
  }

  /* Zoom so that the area of the unit fills the view. */
  fit() {
    const [left, top, right, bottom] = this.card.area;
    const fitted = this.explorer.stages[0].size[0] / Math.max(1, right - left, bottom - top);
    this.largest = Math.max(4, 3 * fitted);
    this.zoom.value = (100 * Math.log(fitted)) / Math.log(this.largest);
    this.enlarge(fitted);
  }

  enlarge(factor = this.largest ** (this.zoom.value / 100)) {
    const [left, top, right, bottom] = this.card.area;
    const [width, height] = this.explorer.stages[0].size;
    this.sheet.style.width = `${100 * factor}%`;
    this.view.scrollLeft = (this.sheet.offsetWidth * (left + right)) / 2 / width - this.view.clientWidth / 2;
    this.view.scrollTop = (this.sheet.offsetHeight * (top + bottom)) / 2 / height - this.view.clientHeight / 2;
  }

  likeness() {
    const { explorer, card } = this;
    const { alike: limit } = explorer.state;
    if (card.alike !== null && card.alike !== undefined) {
      const others = explorer.shown.length - 1;
      const maps = explorer.layer.shape.length === 3;
      const noun = `other ${maps ? "channel" : "unit"}${others === 1 ? "" : "s"}${maps ? " at this place" : " shown"}`;
      const who = others === 1 ? `the ${noun}` : `the ${others} ${noun}`;
      const share = card.alike.toFixed(2);
      return card.alike > limit
        ? `Trust: nearly the same projection as ${who} (median correlation ${share}). It shows what the network uses, not what sets this ${maps ? "channel" : "unit"} apart.`
        : `Trust: the projection differs from those of ${who} (median correlation ${share}).`;
    }
    if (explorer.likeness === null || explorer.likeness === undefined) return "";
    const share = explorer.likeness.toFixed(2);
    return `Trust: projections of different channels at one place of this picture have a median correlation of ${share}${explorer.likeness > limit ? ": nearly the same" : ""}.`;
  }

  /* The channel's page in the atlas: a link, or in a notebook, which cannot open files, its path. */
  showPage() {
    const { state, model, layer, choice } = this.explorer;
    const pages = state.atlas?.networks.includes(choice.network) ? state.atlas.pages[layer.name] : null;
    const { channel } = this.card.unit;
    const page = pages?.[channel];
    this.page.replaceChildren();
    this.page.hidden = !page;
    if (!page) return;
    const address = model.get("atlas_address");
    const text = `Channel ${channel} in the atlas`;
    if (!address) this.page.textContent = `${text}: ${model.get("atlas_folder")}/${page}`;
    else {
      this.page.replaceChildren(make("a", { href: address + page, target: "_blank", rel: "noopener noreferrer", textContent: text }));
    }
  }

  key(event) {
    if ([this.blend, this.zoom, this.view].includes(event.target)) return;
    const step = STEP[event.key]?.[1];
    if (step && this.step(step)) event.preventDefault();
  }

  step(by) {
    const next = this.explorer.shown[this.card.index + by];
    if (next) this.open(next);
    return Boolean(next);
  }

  unit() {
    const { channel, y, x } = this.card.unit;
    return { channel, y, x };
  }

  heat() {
    this.explorer.stages[0].heat(this.card.unit.channel);
    this.element.close();
  }

  /* Ask something about the open card, and show its figures in a box. Answers for another card are ignored. */
  fill(box, title, waiting, request, draw) {
    const { explorer, card } = this;
    const figures = make("div", { className: "maps" });
    const note = make("p", { className: "facts", textContent: waiting });
    box.replaceChildren(make("h3", { textContent: title }), note, figures);
    explorer.ask(request, (message, buffers) => {
      if (message.done) explorer.tell(message.kind === "end" ? "" : message.text, message.kind !== "end");
      if (this.card !== card) return;
      if (message.done) note.textContent = figures.children.length ? draw.note : (message.text ?? draw.none);
      else figures.append(draw.figure(message, buffers));
      if (message.done) box.scrollIntoView({ block: "nearest" });
    });
  }

  compare() {
    const { explorer } = this;
    const methods = explorer.state.methods.filter((one) => one.default).map((one) => one.name);
    const figure = (message, buffers) => {
      const caption = make("figcaption", { textContent: message.title });
      if (message.reason) return make("figure", {}, make("p", { className: "facts", textContent: message.reason }), caption);
      const canvas = make("canvas", { className: "pixels", title: message.meaning });
      const signed = signedOf(message, buffers[0]);
      paintSigned(canvas, signed, ownLimit(signed));
      return make("figure", {}, canvas, caption);
    };
    const request = { kind: "compare", ...explorer.where(), units: [this.unit()], area: this.card.area, methods };
    this.fill(this.maps, "Other methods", "computing …", request, { figure, note: "Grey is zero. Each map has a scale of its own.", none: "" });
  }

  topnine() {
    const { explorer } = this;
    const peaks = [];
    const figure = (message, buffers) => {
      const canvas = make("canvas", { className: "pixels" });
      peaks.push({ canvas, signed: signedOf(message, buffers[0]) });
      const limit = Math.max(...peaks.map((one) => ownLimit(one.signed)));
      for (const one of peaks) paintSigned(one.canvas, one.signed, limit);
      const patch = make("img", { className: "pixels", alt: `patch of ${message.image}` });
      patch.src = URL.createObjectURL(new Blob([bytesOf(buffers[1])], { type: message.type }));
      patch.onload = () => URL.revokeObjectURL(patch.src);
      const caption = make("figcaption", { textContent: `${message.image} · ${number(message.activation)}` });
      return make("figure", {}, make("div", { className: "pair" }, patch, canvas), caption);
    };
    const { channel } = this.card.unit;
    const note = "The images of the search that activate the channel most strongly: patch, projection, image and activation. One scale.";
    this.fill(this.peaks, `What else activates channel ${channel}`, "projecting …", { kind: "topnine", layer: explorer.layer.name, channel }, { figure, note, none: "No image of the search activates this channel." });
  }

  showCode() {
    const { explorer, card } = this;
    explorer.ask({ kind: "code", ...explorer.where(), units: [this.unit()] }, (message) => {
      if (message.kind !== "code" || this.card !== card) return;
      this.code.replaceChildren();
      this.addCode("Python", message.python, "Copy Python");
      if (message.shell) this.addCode("Command", message.shell, "Copy command");
      this.code.scrollIntoView({ block: "nearest" });
    });
  }

  addCode(title, text, copied) {
    const { explorer } = this;
    const code = make("pre", { textContent: text });
    const copy = async () => {
      try {
        await navigator.clipboard.writeText(text);
        explorer.tell("copied");
        button.textContent = "Copied";
      } catch {
        getSelection().selectAllChildren(code); /* no permission: the user copies */
        button.textContent = "Selected: copy it";
      }
    };
    const button = make("button", { type: "button", textContent: copied, onclick: copy });
    this.code.append(make("div", { className: "row" }, make("h3", { textContent: title }), button), code);
  }
}

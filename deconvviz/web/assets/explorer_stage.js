
/* --- one picture with its marks */

class Stage {
  constructor(explorer, side) {
    this.explorer = explorer;
    this.side = side;
    this.canvas = make("canvas", { className: "picture" });
    this.heatCanvas = make("canvas", { className: "heat", hidden: true });
    this.marks = svg("svg", { class: "marks" });
    this.hover = svg("g", { class: "hover" });
    this.units = svg("g", { class: "units" });
    this.cell = svg("rect", { class: "cell", hidden: "" });
    this.marks.append(this.units, this.cell, this.hover);
    this.frame = make("div", {
      className: "frame",
      tabIndex: side ? -1 : 0,
      role: "img",
      "aria-label": "the picture; arrow keys move, Enter asks what answered",
    });
    this.frame.append(this.canvas, this.heatCanvas, this.marks);
    this.caption = make("p", { className: "hint" });
    this.spot = make("p", { className: "hint spot", hidden: Boolean(side) });
    this.scores = make("ol", { className: "scores" });
    this.networkChooser = make("select", { "aria-label": "network of the second picture", onchange: () => this.open() });
    this.chooser = make("select", { "aria-label": "second picture", onchange: () => this.open() });
    this.head = make("p", { className: "side" });
    const choosers = make("div", { className: "choosers", hidden: !side }, this.networkChooser, this.chooser);
    this.element = make("section", { className: "stage" }, this.head, this.frame, this.caption, choosers, this.spot, this.scores);
    if (!side) this.listen();
  }

  listen() {
    this.frame.addEventListener("pointermove", (event) => this.point(this.pixel(event)));
    this.frame.addEventListener("pointerleave", () => this.leave());
    this.frame.addEventListener("click", (event) => this.press(this.pixel(event)));
    this.frame.addEventListener("keydown", (event) => this.key(event));
  }

  /* Choose network and picture of the second side. */
  open() {
    const { explorer } = this;
    const names = explorer.state.networks;
    if (!this.networkChooser.children.length) {
      this.networkChooser.append(...names.map((one, i) => make("option", { value: i, textContent: `${one.name} (${one.weights})` })));
      this.networkChooser.hidden = names.length < 2;
      this.networkChooser.value = Math.min(1, names.length - 1);
      this.chooser.value = names.length > 1 ? explorer.choice.picture : Math.min(explorer.choice.picture + 1, explorer.state.pictures.length - 1);
    }
    explorer.other = { network: Number(this.networkChooser.value), picture: Number(this.chooser.value) };
    const layers = names[explorer.other.network].layers;
    if (!layers.some((layer) => layer.name === explorer.layer.name && layer.usable)) {
      explorer.tell(`${names[explorer.other.network].name} has no layer ${explorer.layer.name}`, true);
      return;
    }
    this.bitmap = null;
    this.entitle(explorer.other);
    explorer.ask({ kind: "aside", ...explorer.where(explorer.other) }, async (message, buffers) => {
      if (message.done) return;
      await this.setPicture(message, buffers[0]);
      explorer.tell("");
      explorer.lookAside();
    });
  }

  /* Say which side this is, and with several networks which of them is shown. */
  entitle({ network }) {
    const { networks } = this.explorer.state;
    const side = this.side ? "second picture" : "first picture";
    this.head.textContent = networks.length > 1 ? `${side}: ${networks[network].name} (${networks[network].weights})` : side;
  }

  async setPicture(message, buffer) {
    this.bitmap = await createImageBitmap(new Blob([bytesOf(buffer)], { type: message.type }));
    this.size = [message.width, message.height];
    paintPatch(this.canvas, this.bitmap, [0, 0, ...this.size]);
    this.marks.setAttribute("viewBox", `0 0 ${this.size.join(" ")}`);
    this.frame.style.aspectRatio = this.size.join(" / ");
    this.units.replaceChildren();
    this.clearHeat();
    this.caption.textContent = message.name;
    this.scores.replaceChildren(
      ...message.scores.map((one) => {
        const bar = make("meter", { min: 0, max: 1, value: one.probability ?? 0, hidden: one.probability === null });
        bar.setAttribute("aria-label", one.name);
        const share = one.probability === null ? number(one.score) : percent(one.probability);
        return make("li", {}, make("span", { textContent: one.name }), bar, make("span", { textContent: share }));
      }),
    );
  }

  leave() {
    this.hover.replaceChildren();
    this.spot.textContent = "";
  }

  pixel(event) {
    const box = this.frame.getBoundingClientRect();
    return [((event.clientX - box.left) / box.width) * this.size[0], ((event.clientY - box.top) / box.height) * this.size[1]];
  }

  point([px, py]) {
    const { explorer } = this;
    if (!this.size || !explorer.layer) return;
    const cell = explorer.cellAt(px, py);
    this.hover.replaceChildren();
    if (!cell) return;
    const [left, top, right, bottom] = explorer.fieldOf(cell);
    const { name, field } = explorer.layer;
    this.spot.textContent = `row ${cell[0]}, column ${cell[1]} of ${name}: field ${field[1]} × ${field[0]} px`;
    this.hover.append(svg("rect", { x: left, y: top, width: right - left, height: bottom - top, class: "field" }), this.cellMark(cell));
  }

  cellMark([y, x]) {
    const { stride, offset, field } = this.explorer.layer;
    const [cy, cx] = [offset[0] + y * stride[0] + field[0] / 2, offset[1] + x * stride[1] + field[1] / 2];
    return svg("rect", { x: cx - stride[1] / 2, y: cy - stride[0] / 2, width: stride[1], height: stride[0] });
  }

  press([px, py]) {
    const { explorer } = this;
    if (!this.size || !explorer.layer) return;
    const cell = explorer.cellAt(px, py);
    explorer.channelBox.value = "";
    this.clearHeat();
    explorer.look(cell ? { y: cell[0], x: cell[1] } : {});
  }

  key(event) {
    const { explorer } = this;
    if (!this.size || !explorer.layer || explorer.layer.shape.length !== 3) return;
    const [rows, columns] = explorer.layer.shape.slice(1);
    const [y, x] = this.moved ?? explorer.cell ?? [rows >> 1, columns >> 1];
    if (STEP[event.key]) {
      event.preventDefault();
      const [dy, dx] = STEP[event.key];
      this.moved = [Math.min(rows - 1, Math.max(0, y + dy)), Math.min(columns - 1, Math.max(0, x + dx))];
      this.markCell(this.moved);
    } else if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      explorer.channelBox.value = "";
      explorer.look({ y, x });
    }
  }

  markCell(cell) {
    this.moved = cell;
    this.hover.replaceChildren();
    this.cell.remove();
    if (!cell || !this.explorer.layer.field || !this.explorer.layer.stride) return;
    this.cell = this.cellMark(cell);
    this.cell.setAttribute("class", "cell");
    this.marks.append(this.cell);
  }

  markUnits(units) {
    this.units.replaceChildren(
      ...units.map((unit, i) => {
        const [left, top, right, bottom] = unit.box;
        const box = svg("rect", { x: left, y: top, width: right - left, height: bottom - top });
        box.dataset.number = i;
        return box;
      }),
    );
  }

  light(number, on) {
    this.units.children[number]?.classList.toggle("lit", on);
  }

  heat(channel) {
    const { explorer } = this;
    explorer.ask({ kind: "heat", ...explorer.where(), channel }, (message, buffers) => {
      if (message.kind !== "heat") return;
      paintHeat(this.heatCanvas, signedOf(message, buffers[0]), message.highest);
      const { stride, offset, field, shape } = explorer.layer;
      const share = (value, whole) => `${(100 * value) / whole}%`;
      if (stride && field) {
        const [top, left] = [0, 1].map((axis) => offset[axis] + field[axis] / 2 - stride[axis] / 2);
        Object.assign(this.heatCanvas.style, {
          left: share(left, this.size[0]),
          top: share(top, this.size[1]),
          width: share(stride[1] * shape[2], this.size[0]),
          height: share(stride[0] * shape[1], this.size[1]),
        });
      } else Object.assign(this.heatCanvas.style, { left: "0", top: "0", width: "100%", height: "100%" });
      this.heatCanvas.hidden = false;
    });
  }

  clearHeat() {
    this.heatCanvas.hidden = true;
  }
}


/* --- one unit */

class Card {
  constructor(explorer, unit, index) {
    Object.assign(this, { explorer, unit, index, area: unit.box });
    this.patch = make("canvas", { className: "pixels", "aria-hidden": "true" });
    this.projection = make("canvas", { className: "pixels pending", "aria-hidden": "true" });
    this.pair = make("div", { className: "pair" }, this.patch, this.projection);
    const place = unit.y === null ? "" : ` at (${unit.y}, ${unit.x})`;
    const name = explorer.layer.shape.length === 3 ? `channel ${unit.channel}` : explorer.unitName(unit.channel);
    this.title = `${name}${place}`;
    this.element = make(
      "article",
      { className: "card" },
      make(
        "button",
        {
          type: "button",
          className: "open",
          "aria-label": `${this.title}, activation ${number(unit.activation)}: open`,
          onclick: () => explorer.dialog.open(this),
        },
        this.pair,
      ),
      make("h3", { textContent: name }),
      make("p", { className: "facts", textContent: `${place ? `(${unit.y}, ${unit.x}) · ` : ""}activation ${number(unit.activation)}` }),
    );
    for (const [event, on] of [["pointerenter", true], ["pointerleave", false], ["focusin", true], ["focusout", false]]) {
      this.element.addEventListener(event, () => explorer.stages[0].light(index, on));
    }
    this.paintPatch();
  }

  paintPatch() {
    if (this.area[2] > this.area[0] && this.area[3] > this.area[1]) {
      paintPatch(this.patch, this.explorer.stages[0].bitmap, this.area);
    }
  }

  get relative() {
    const [left, top] = this.unit.box;
    return [this.area[0] - left, this.area[1] - top, this.area[2] - left, this.area[3] - top];
  }

  paint(limit) {
    if (!this.signed || !this.signed.values.length) return;
    this.projection.classList.remove("pending");
    paintSigned(this.projection, this.signed, limit, this.relative);
  }

  crop(area, limit) {
    this.area = area;
    this.paintPatch();
    this.paint(limit);
  }

  startOther(unit) {
    if (!unit) return;
    this.otherUnit = unit;
    this.otherPatch = make("canvas", { className: "pixels", "aria-hidden": "true" });
    this.otherProjection = make("canvas", { className: "pixels pending", "aria-hidden": "true" });
    this.element.querySelectorAll(".other").forEach((old) => old.remove());
    this.element.append(
      make("div", { className: "pair other" }, this.otherPatch, this.otherProjection),
      make("p", { className: "facts other", textContent: `second picture${unit.y === null ? "" : ` (${unit.y}, ${unit.x})`} · activation ${number(unit.activation)}` }),
    );
  }

  setOther(signed, limit, bitmap) {
    if (!this.otherUnit || !signed.values.length) return;
    this.otherSigned = signed;
    this.otherProjection.classList.remove("pending");
    paintPatch(this.otherPatch, bitmap, this.otherUnit.box);
    this.paintOther(limit);
  }

  paintOther(limit) {
    if (this.otherSigned) paintSigned(this.otherProjection, this.otherSigned, limit);
  }
}

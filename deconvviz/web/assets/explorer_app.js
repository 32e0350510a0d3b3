
/* --- the application */

class Explorer {
  constructor(model, root) {
    this.model = model;
    this.root = root;
    this.last = 0;
    this.current = {}; /* lane -> id of the newest request */
    this.waiting = new Map(); /* id -> handler */
    this.state = null;
    this.side = [null, null]; /* the two pictures */
    this.collection = [];
    this.loading = false;
    this.cell = null;
    this.layer = null;
    this.choice = { network: 0, picture: 0 };
    this.other = null; /* network and picture of the second side */
    this.build();
    model.on("msg:custom", (body, buffers) => this.receive(body, buffers ?? []));
    model.on("change:layer", () => this.follow());
    model.on("change:units", () => this.followUnits());
    model.on("change:picture", () => this.followPicture());
    this.ask({ kind: "state" }, (message) => this.start(message));
  }

  /* Send a request; `handle` gets every message of its answer. */
  ask(body, handle, buffers = []) {
    const id = ++this.last;
    const lane = LANES[body.kind];
    if (lane) this.current[lane] = id;
    this.waiting.set(id, { handle, lane });
    this.model.send({ ...body, id }, undefined, buffers);
    this.busy();
    return id;
  }

  receive(body, buffers) {
    if (body.kind === "lost") {
      this.waiting.clear();
      this.busy();
      this.tell("The connection to deconvviz is lost. Start it again, then open the new address.", true);
      return;
    }
    const asked = this.waiting.get(body.id);
    if (body.kind === "error" || body.kind === "busy") {
      this.tell(body.text, true);
    }
    if (!asked) return;
    const outdated = asked.lane && this.current[asked.lane] !== body.id;
    if (["end", "error", "busy", "cancelled"].includes(body.kind)) {
      this.waiting.delete(body.id);
      this.busy();
      if (!outdated) asked.handle({ ...body, done: true }, buffers);
      return;
    }
    if (outdated) return;
    if (body.kind === "progress") this.tell(`${body.text} …`);
    else asked.handle(body, buffers);
  }

  /* Show the progress bar once something takes longer than a moment. */
  busy() {
    const working = this.waiting.size > 0 || this.loading;
    this.box.setAttribute("aria-busy", String(working));
    if (working) {
      this.timer ??= setTimeout(() => this.showWorking(true), PATIENCE);
      return;
    }
    clearTimeout(this.timer);
    this.timer = null;
    this.showWorking(false);
  }

  showWorking(on) {
    this.bar.hidden = !on;
    this.box.classList.toggle("slow", on);
  }

  /* Show a message; without one, what to do. */
  tell(text, wrong = false) {
    this.status.textContent = text || (this.state ? HINT : "");
    this.status.classList.toggle("wrong", wrong);
  }

  /* --- building */

  build() {
    this.status = make("p", { className: "status", role: "status" });
    this.bar = make("div", { className: "bar", role: "progressbar", hidden: true, "aria-label": "working" }, make("span"));
    this.about = make("p", { className: "about" });
    this.networkBox = make("select", { onchange: () => this.pick({ network: Number(this.networkBox.value) }) });
    this.pictureBox = make("select", { onchange: () => this.pick({ picture: Number(this.pictureBox.value) }) });
    this.layerBox = make("select", { onchange: () => this.setLayer(this.layerBox.value) });
    this.channelBox = make("input", { type: "number", min: 0, placeholder: "any", className: "short" });
    this.countBox = make("input", { type: "number", min: 1, max: 32, value: 8, className: "short" });
    this.sceneBox = make("input", { type: "number", min: 0, placeholder: "seed", className: "short" });
    this.file = make("input", { type: "file", accept: "image/*", hidden: true, "aria-label": "open a picture" });
    this.file.addEventListener("change", () => this.upload(this.file.files[0]));
    this.channelBox.addEventListener("change", () => this.setChannel());
    this.countBox.addEventListener("change", () => this.lookAgain());
    this.sceneBox.addEventListener("change", () => this.drawScene());
    const labelled = (text, box) => {
      box.setAttribute("aria-label", text);
      return make("label", {}, make("span", { textContent: text }), box);
    };
    this.networkLabel = labelled("network", this.networkBox);
    this.tools = make(
      "div",
      { className: "tools" },
      this.networkLabel,
      labelled("picture", this.pictureBox),
      make("button", { type: "button", textContent: "Open …", onclick: () => this.file.click() }),
      labelled("drawn scene", this.sceneBox),
      labelled("layer", this.layerBox),
      labelled("channel", this.channelBox),
      labelled("cards", this.countBox),
      (this.sideButton = make("button", {
        type: "button",
        textContent: "Side by side",
        "aria-pressed": "false",
        onclick: () => this.toggleSide(),
      })),
      this.file,
    );
    this.strip = make("div", { className: "strip", role: "toolbar", "aria-label": "layers" });
    this.strip.addEventListener("keydown", (event) => this.walkStrip(event));
    this.stages = [new Stage(this, 0), new Stage(this, 1)];
    this.stages[1].element.hidden = true;
    this.heading = make("h2", { textContent: "What answered?" });
    this.note = make("p", { className: "note" });
    this.cards = make("div", { className: "cards" });
    this.basket = make("div", { className: "basket", hidden: true });
    this.dialog = new Detail(this);
    const button = (text, onclick) => make("button", { type: "button", textContent: text, onclick });
    const whole = button("Strongest of the picture", () => this.strongest());
    this.allButton = button("Add all to the report", () => this.collect(this.shown));
    this.answers = make(
      "section",
      { className: "answers" },
      make("div", { className: "row wrap" }, this.heading, make("div", { className: "row" }, whole, this.allButton)),
      this.note,
      this.cards,
    );
    const box = (this.box = make(
      "div",
      { className: "explorer" },
      this.about,
      this.tools,
      this.strip,
      make("div", { className: "lines" }, this.status, this.bar),
      make(
        "div",
        { className: "main" },
        make("div", { className: "stages" }, ...this.stages.map((stage) => stage.element)),
        this.answers,
      ),
      this.basket,
      this.dialog.element,
    ));
    box.addEventListener("dragover", (event) => event.preventDefault());
    box.addEventListener("drop", (event) => {
      event.preventDefault();
      if (event.dataTransfer.files.length) this.upload(event.dataTransfer.files[0]);
    });
    this.root.append(box);
  }

  start(message) {
    if (message.done) return;
    this.state = message;
    this.networkLabel.hidden = message.networks.length < 2;
    this.networkBox.replaceChildren(
      ...message.networks.map((one, i) => make("option", { value: i, textContent: `${one.name} (${one.weights})` })),
    );
    this.setPictures(message.pictures, this.model.get("picture") ?? 0);
    const wanted = this.model.get("layer") || message.layer;
    this.describe();
    this.drawStrip();
    const usable = this.network.layers.filter((layer) => layer.usable);
    const first = usable.find((layer) => layer.name === wanted) ?? this.usual(usable);
    this.setLayer(first.name, true);
    this.show();
  }

  describe() {
    const { name, weights, size } = this.network;
    this.about.replaceChildren(make("strong", { textContent: name }), ` · weights: ${weights} · input ${size[1]} × ${size[0]} px`);
  }

  get network() {
    return this.state.networks[this.choice.network];
  }

  /* The layer to begin with: the last map whose field is at most half of the picture. */
  usual(layers) {
    const half = Math.min(...this.network.size) / 2;
    const maps = layers.filter((layer) => layer.shape.length === 3 && layer.field && layer.field[0] <= half);
    return maps.at(-1) ?? layers[0];
  }

  setPictures(names, chosen) {
    this.state.pictures = names;
    for (const box of [this.pictureBox, this.stages[1].chooser]) {
      const before = box.value;
      box.replaceChildren(...names.map((name, i) => make("option", { value: i, textContent: name })));
      box.value = before;
    }
    this.choice.picture = chosen;
    this.pictureBox.value = chosen;
  }

  drawStrip() {
    const largest = Math.max(...this.network.size);
    this.layerBox.replaceChildren();
    this.strip.replaceChildren();
    for (const layer of this.network.layers) {
      this.layerBox.append(make("option", { value: layer.name, textContent: layer.name, disabled: !layer.usable }));
      const share = layer.field ? Math.min(1, Math.max(...layer.field) / largest) : 1;
      const button = make("button", {
        type: "button",
        title: layer.text,
        tabIndex: -1,
        "aria-disabled": String(!layer.usable),
        onclick: () => (layer.usable ? this.setLayer(layer.name) : this.tell(whyUnusable(layer), true)),
      });
      button.dataset.layer = layer.name;
      const bar = svg("svg", { viewBox: "0 0 10 40", "aria-hidden": "true" });
      bar.append(svg("rect", { x: 1, y: 40 - 38 * share, width: 8, height: Math.max(1, 38 * share) }));
      button.setAttribute("aria-label", layer.text);
      button.append(bar, make("span", { textContent: layer.name.split(".").slice(-2).join(".") }));
      this.strip.append(button);
    }
  }

  walkStrip(event) {
    const step = STEP[event.key]?.[1];
    if (!step) return;
    event.preventDefault();
    const buttons = [...this.strip.querySelectorAll("button[aria-disabled=false]")];
    const next = buttons[buttons.findIndex((one) => one.dataset.layer === this.layer.name) + step];
    if (next) {
      this.setLayer(next.dataset.layer);
      next.focus();
    }
  }

  /* --- choosing */

  pick(change) {
    Object.assign(this.choice, change);
    if ("network" in change) {
      this.describe();
      this.drawStrip();
      const same = this.network.layers.find((layer) => layer.name === this.layer.name && layer.usable);
      this.layer = same ?? this.usual(this.network.layers.filter((layer) => layer.usable));
      this.markLayer();
    }
    this.model.set("picture", this.choice.picture);
    this.model.save_changes();
    this.cell = null;
    this.show();
  }

  setLayer(name, first = false) {
    const found = this.network.layers.find((layer) => layer.name === name && layer.usable);
    if (!found || found === this.layer) return;
    const place = this.place();
    this.layer = found;
    this.markLayer();
    this.model.set("layer", name);
    this.model.save_changes();
    this.channelBox.max = found.shape[0] - 1;
    if (first) return;
    this.stages.forEach((stage) => stage.clearHeat());
    this.cell = place && this.cellAt(...place);
    this.lookAgain();
  }

  markLayer() {
    this.layerBox.value = this.layer.name;
    for (const button of this.strip.children) {
      const chosen = button.dataset.layer === this.layer.name;
      button.setAttribute("aria-pressed", String(chosen));
      button.tabIndex = chosen ? 0 : -1;
      if (chosen) this.strip.scrollLeft = button.offsetLeft - this.strip.clientWidth / 2;
    }
  }

  follow() {
    const name = this.model.get("layer");
    if (this.state && name && name !== this.layer?.name) this.setLayer(name);
  }

  /* Units that Python has set. */
  followUnits() {
    const units = this.model.get("units") ?? [];
    if (!this.state || !units.length || JSON.stringify(units) === JSON.stringify(this.shownUnits())) return;
    this.look({ units: units.map(([channel, y, x]) => ({ channel, y, x })) });
  }

  followPicture() {
    const picture = this.model.get("picture");
    if (this.state && picture !== this.choice.picture && picture in this.state.pictures) {
      this.pictureBox.value = picture;
      this.pick({ picture });
    }
  }

  shownUnits() {
    return (this.shown ?? []).map(({ unit }) => [unit.channel, unit.y, unit.x]);
  }

  setChannel() {
    if (this.channelBox.value === "") {
      this.stages.forEach((stage) => stage.clearHeat());
      this.lookAgain();
    } else this.look({ channel: Number(this.channelBox.value) });
  }

  drawScene() {
    if (this.sceneBox.value === "") return;
    this.ask({ kind: "scene", seed: Number(this.sceneBox.value) }, (message) => this.added(message));
  }

  async upload(file) {
    if (!file) return;
    this.tell(`reading ${file.name} …`);
    const data = await file.arrayBuffer();
    this.ask({ kind: "upload", name: file.name }, (message) => this.added(message), [data]);
  }

  added(message) {
    if (message.done) return;
    this.setPictures(message.pictures, message.chosen);
    this.tell("");
    this.pick({ picture: message.chosen });
  }

  toggleSide() {
    const open = this.stages[1].element.hidden;
    this.stages[1].element.hidden = !open;
    this.sideButton.setAttribute("aria-pressed", String(open));
    this.box.classList.toggle("two", open);
    this.other = open ? { network: this.choice.network, picture: this.choice.picture } : null;
    if (open) this.stages[1].open();
    this.lookAgain();
  }

  /* --- looking */

  where(side = this.choice) {
    return { network: side.network, picture: side.picture, layer: this.layer.name };
  }

  show() {
    this.stages[0].entitle(this.choice);
    this.ask({ kind: "show", ...this.where() }, async (message, buffers) => {
      if (message.done) return;
      this.loading = true;
      try {
        await this.stages[0].setPicture(message, buffers[0]);
      } finally {
        this.loading = false;
        this.busy();
      }
      this.tell("");
      this.lookAgain();
    });
  }

  lookAgain() {
    if (!this.stages[0].bitmap) return;
    if (this.channelBox.value !== "") this.look({ channel: Math.min(Number(this.channelBox.value), this.layer.shape[0] - 1) });
    else this.look(this.cell ? { y: this.cell[0], x: this.cell[1] } : {});
  }

  strongest() {
    this.channelBox.value = "";
    this.stages[0].clearHeat();
    this.look({});
  }

  look(what) {
    const positions = this.layer.shape.length === 3;
    this.cell = positions && "y" in what ? [what.y, what.x] : null;
    if (!positions && !("units" in what)) what = "channel" in what ? { channels: [what.channel] } : {};
    this.stages[0].markCell(this.cell);
    this.begun = performance.now();
    this.times = {};
    const count = Math.min(32, Math.max(1, Number(this.countBox.value) || 8));
    this.ask({ kind: "look", ...this.where(), count, ...what }, (message, buffers) => this.looked(message, buffers, what));
    if ("channel" in what && positions) this.stages[0].heat(what.channel);
  }

  looked(message, buffers, what) {
    if (message.kind === "cards") this.showCards(message, what);
    if (message.kind === "projection") {
      const card = this.shown[message.number];
      card.signed = signedOf(message, buffers[0]);
      this.limit = message.limit;
      card.paint(this.limit); /* the others follow when the scale is known */
      this.times.first ??= performance.now() - this.begun;
    }
    if (message.kind === "looked") {
      this.limit = message.limit;
      this.shown.forEach((one, i) => one.crop(message.crops[i], this.limit));
      this.times.all = performance.now() - this.begun;
      this.explain(message);
      this.publish();
      this.lookAside();
    }
    if (message.kind === "end") this.root.host?.dispatchEvent(new CustomEvent("deconvviz-looked", { detail: this.times }));
  }

  showCards(message, what) {
    this.shown = message.units.map((unit, i) => new Card(this, unit, i));
    this.cards.replaceChildren(...this.shown.map((card) => card.element));
    const layer = this.layer.name;
    if ("units" in what) this.heading.textContent = `${message.units.length === 1 ? "The chosen unit" : "The chosen units"} of ${layer}`;
    else if ("channel" in what) this.heading.textContent = `Where channel ${what.channel} of ${layer} answers`;
    else if (this.cell) this.heading.textContent = `What answered at row ${this.cell[0]}, column ${this.cell[1]} of ${layer}`;
    else this.heading.textContent = `The strongest units of ${layer} in this picture`;
    this.allButton.hidden = !this.shown.length;
    if (!this.shown.length) {
      this.cards.replaceChildren(make("p", { className: "note", textContent: "No channel is above zero here." }));
      this.note.textContent = "";
    }
    this.stages[0].markUnits(message.units);
    this.times.cards = performance.now() - this.begun;
    this.tell("");
  }

  explain(message) {
    const parts = ["Each card: the patch and its projection. Grey is zero; one scale for all cards."];
    if (this.other) parts.push("The second picture has a scale of its own.");
    this.likeness = message.likeness;
    this.shown.forEach((card, i) => (card.alike = message.alike[i]));
    if (message.likeness !== null && this.shown.length) {
      const share = message.likeness.toFixed(2);
      const here = this.layer.shape.length !== 3 ? "of this layer" : this.cell ? "at this place" : "at the same place";
      parts.push(
        message.likeness > this.state.alike
          ? `Different channels ${here} have nearly the same projection (correlation ${share}): read it as what the network uses, not as what sets one channel apart.`
          : `The projections of different channels ${here} differ (median correlation ${share}).`,
      );
    }
    if (message.approximate.length) parts.push(`Approximate operations: ${message.approximate.join(", ")}.`);
    if (!this.network.trained) parts.push("The weights are random: the pictures show no learned features.");
    this.note.textContent = parts.join(" ");
  }

  publish() {
    this.model.set("units", this.shownUnits());
    this.model.save_changes();
  }

  /* The same channels in the second picture. */
  lookAside() {
    if (!this.other || !this.stages[1].bitmap || !this.shown?.length) return;
    const channels = [...new Set(this.shown.map((card) => card.unit.channel))];
    let units = [];
    this.ask(
      { kind: "same", ...this.where(this.other), count: 1, channels },
      (message, buffers) => {
        if (message.kind === "cards") {
          units = message.units;
          this.stages[1].markUnits(units);
          this.shown.forEach((card) => card.startOther(units.find((unit) => unit.channel === card.unit.channel)));
        }
        if (message.kind === "projection") {
          const channel = units[message.number].channel;
          const signed = signedOf(message, buffers[0]);
          this.shown
            .filter((card) => card.unit.channel === channel)
            .forEach((card) => card.setOther(signed, message.limit, this.stages[1].bitmap));
        }
        if (message.kind === "looked") this.shown.forEach((card) => card.paintOther(message.limit));
      },
    );
  }

  /* Centre of the marked cell, in pixels of the picture. */
  place() {
    const { field, stride, offset } = this.layer ?? {};
    if (!this.cell || !field || !stride) return null;
    return [offset[1] + this.cell[1] * stride[1] + field[1] / 2, offset[0] + this.cell[0] * stride[0] + field[0] / 2];
  }

  /* The unit whose field has its centre closest to a pixel. */
  cellAt(px, py) {
    const { shape, field, stride, offset } = this.layer;
    if (shape.length !== 3 || !field || !stride) return null;
    const at = (pixel, axis) => {
      const position = Math.round((pixel - offset[axis] - field[axis] / 2) / stride[axis]);
      return Math.min(shape[axis + 1] - 1, Math.max(0, position));
    };
    return [at(py, 0), at(px, 1)];
  }

  fieldOf([y, x]) {
    const { field, stride, offset } = this.layer;
    const [top, left] = [offset[0] + y * stride[0], offset[1] + x * stride[1]];
    return [left, top, left + field[1], top + field[0]];
  }

  /* --- taking along */

  collect(cards) {
    const units = cards.map(({ unit }) => ({ channel: unit.channel, y: unit.y, x: unit.x }));
    this.collection.push({ ...this.where(), units });
    this.showBasket();
    this.tell(`${cards.length === 1 ? "The unit is" : `${cards.length} units are`} collected for the report.`);
  }

  showBasket() {
    const count = this.collection.reduce((sum, item) => sum + item.units.length, 0);
    this.basket.hidden = !count;
    this.basket.replaceChildren(
      make("span", { textContent: `For the report: ${count} unit${count === 1 ? "" : "s"}` }),
      make("button", { type: "button", textContent: "Make the report", onclick: () => this.report() }),
      make("button", {
        type: "button",
        textContent: "Empty",
        onclick: () => {
          this.collection = [];
          this.showBasket();
        },
      }),
    );
  }

  report() {
    const items = [];
    for (const item of this.collection) {
      const same = items.find((one) => one.network === item.network && one.picture === item.picture && one.layer === item.layer);
      if (same) same.units = uniqueUnits([...same.units, ...item.units]);
      else items.push({ ...item });
    }
    this.ask({ kind: "report", title: "", items }, (message, buffers) => this.download(message, buffers));
  }

  save(cards, format) {
    const units = cards.map(({ unit }) => ({ channel: unit.channel, y: unit.y, x: unit.x }));
    this.ask({ kind: "save", ...this.where(), units, format }, (message, buffers) => this.download(message, buffers));
  }

  download(message, buffers) {
    if (message.kind !== "file") return;
    const address = URL.createObjectURL(new Blob([bytesOf(buffers[0])], { type: message.type }));
    make("a", { href: address, download: message.name }).click();
    setTimeout(() => URL.revokeObjectURL(address), 60000);
    this.tell(`saved ${message.name}`);
  }
}

const HINT = "Point at the picture to see receptive fields. Click to ask which channels are strongest there.";

function whyUnusable({ name, text, reason }) {
  return reason ? text : `${name} cannot be projected: it has no units whose value depends on the picture`;
}

function uniqueUnits(units) {
  return [...new Map(units.map((unit) => [JSON.stringify(unit), unit])).values()].slice(0, 64);
}

Explorer.prototype.unitName = function (channel) {
  const last = this.network.layers.at(-1);
  const named = this.layer.name === last.name && this.network.classes[channel];
  return named ? `${this.network.classes[channel]} (${channel})` : `unit ${channel}`;
};

/* The theme of JupyterLab, VS Code or marimo; null: that of the system. */
function themeOfHost() {
  const { body, documentElement: page } = document;
  if (body.dataset.jpThemeLight) return body.dataset.jpThemeLight === "true" ? "light" : "dark";
  if (body.dataset.vscodeThemeKind) return body.dataset.vscodeThemeKind.includes("light") ? "light" : "dark";
  for (const one of [body, page]) {
    if (one.classList.contains("dark") || one.classList.contains("dark-theme")) return "dark";
    if (one.classList.contains("light") || one.classList.contains("light-theme")) return "light";
  }
  return null;
}

function styleFor(text, theme) {
  const dark = "@media (prefers-color-scheme: dark)";
  const scoped = text.replaceAll(":root", ":host, :root");
  if (theme === null) return scoped;
  const query = theme === "dark" ? "@media all" : "@media not all";
  return `${scoped.replaceAll(dark, query)} :host { color-scheme: ${theme}; }`;
}

function render({ model, el }) {
  const root = el.attachShadow({ mode: "open" });
  const sheet = new CSSStyleSheet();
  const dress = () => sheet.replaceSync(styleFor(model.get("stylesheet"), themeOfHost()));
  dress();
  root.adoptedStyleSheets = [sheet];
  const watcher = new MutationObserver(dress);
  for (const one of [document.body, document.documentElement]) watcher.observe(one, { attributes: true });
  new Explorer(model, root);
  return () => watcher.disconnect();
}

export default { render };

/* Front end of the explorer: a module as anywidget defines it, and the script of the local page.
   The files explorer_pixels, _stage, _card, _detail and _app are joined in this order to one module. It imports
   nothing, and draws into a shadow root. All text goes through textContent. */

const STEP = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
const LANES = { show: "show", aside: "aside", look: "look", same: "same", heat: "heat", compare: "card", topnine: "card" };
const PATIENCE = 500; /* milliseconds until the progress bar is shown */
const SVG = "http://www.w3.org/2000/svg";

/* --- elements */

function make(tag, properties = {}, ...children) {
  const one = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("on")) one.addEventListener(name.slice(2), value);
    else if (name in one && name !== "list") one[name] = value;
    else one.setAttribute(name, value);
  }
  one.append(...children.filter((child) => child !== null && child !== undefined));
  return one;
}

function svg(tag, attributes = {}) {
  const one = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) one.setAttribute(name, value);
  return one;
}

function number(value) {
  if (value === 0) return "0";
  const size = Math.abs(value);
  return size >= 1000 && size < 1e6 ? value.toFixed(0) : String(Number(value.toPrecision(3)));
}

function percent(share) {
  if (share > 0 && share < 0.0005) return "<0.1 %";
  return share > 0.9995 && share < 1 ? ">99.9 %" : `${(100 * share).toFixed(1)} %`;
}

/* --- pixels */

/* Signed values (h, w, 3) as colours: zero is mid-grey, -limit black, +limit white. */
function paintSigned(canvas, signed, limit, area = [0, 0, signed.shape[1], signed.shape[0]]) {
  const [left, top, right, bottom] = area;
  const [width, height] = [right - left, bottom - top];
  canvas.width = width;
  canvas.height = height;
  const image = new ImageData(width, height);
  const { values, step, shape: [rows, columns, channels = 1] } = signed;
  const scale = limit > 0 ? (127.5 * step) / limit : 0;
  const [green, blue] = channels === 3 ? [1, 2] : [0, 0];
  const data = image.data.fill(255);
  for (let y = 0; y < height; y++) {
    for (let x = 0, target = 4 * y * width; x < width; x++, target += 4) {
      const inside = y + top >= 0 && y + top < rows && x + left >= 0 && x + left < columns;
      const source = channels * ((y + top) * columns + x + left);
      /* a clamped array rounds and clips */
      data[target] = 127.5 + (inside ? values[source] * scale : 0);
      data[target + 1] = 127.5 + (inside ? values[source + green] * scale : 0);
      data[target + 2] = 127.5 + (inside ? values[source + blue] * scale : 0);
    }
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
}

function paintPatch(canvas, bitmap, [left, top, right, bottom]) {
  canvas.width = right - left;
  canvas.height = bottom - top;
  canvas.getContext("2d").drawImage(bitmap, -left, -top);
}

/* A heat map in one hue: transparent at 0 (or the lowest value), opaque at the highest. */
function paintHeat(canvas, heat, highest) {
  const [rows, columns] = heat.shape;
  canvas.width = columns;
  canvas.height = rows;
  const image = new ImageData(columns, rows);
  for (let i = 0; i < rows * columns; i++) {
    const share = highest > 0 ? Math.max(0, (heat.values[i] * heat.step) / highest) : 0;
    image.data.set([255, 120, 0, 220 * share], 4 * i);
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
}

function signedOf(message, buffer) {
  const values = new Int16Array(buffer.buffer.slice(buffer.byteOffset, buffer.byteOffset + buffer.byteLength));
  return { values, shape: message.shape, step: message.step };
}

function bytesOf(buffer) {
  return new Uint8Array(buffer.buffer, buffer.byteOffset, buffer.byteLength);
}

/* The percentile 99.5 of the absolute values of one map, for maps with a scale of their own. */
function ownLimit(signed) {
  const sizes = signed.values.filter((value) => value !== 0).map(Math.abs).sort();
  return sizes.length ? sizes[Math.ceil(0.995 * sizes.length) - 1] * signed.step : 0;
}

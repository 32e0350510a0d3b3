const list = document.querySelector(".tiles");
const controls = document.querySelector(".controls");
const found = JSON.parse(document.querySelector("#channels").textContent);
const rows = [...list.children].map((item, row) => ({
  item,
  link: item.firstElementChild,
  channel: found.channel[row],
  strength: found.maximum[row],
  density: found.density[row],
  purity: found.purity[row],
  likeness: found.likeness[row],
  dead: !found.density[row],
  labels: found.labels[row].map((number) => found.names[number]),
  text: found.text[row].toLowerCase(),
}));
const fields = { sort: "channel", q: "", class: "", dead: "all" };
const field = (name) => controls.elements[name];
controls.hidden = false;

const percent = (value) => `${Number((100 * value).toPrecision(3))} %`;
const texts = { strength: String, density: percent, purity: percent, likeness: (value) => value.toFixed(2) };
/* Show the number by which the tiles are sorted. */
function describe(row, key) {
  const place = row.link.querySelector("span").lastChild;
  row.first ??= place.textContent;
  if (!(key in texts)) place.textContent = row.first;
  else place.textContent = row[key] === null ? " –" : ` ${texts[key](row[key])}`;
}

function numberRange(text) {
  const parts = /^\s*(\d+)(?:\s*-\s*(\d+))?\s*$/.exec(text);
  return parts && [Number(parts[1]), Number(parts[2] ?? parts[1])];
}
function matches(row) {
  const query = field("q").value.trim().toLowerCase();
  const range = numberRange(query);
  if (range && (row.channel < range[0] || row.channel > range[1])) return false;
  if (query && !range && !row.text.includes(query) && !row.labels.some((name) => name.toLowerCase().includes(query))) return false;
  if (field("class").value && !row.labels.includes(field("class").value)) return false;
  const dead = field("dead").value;
  return dead === "all" || row.dead === (dead === "only");
}
function compare(key) {
  if (key === "channel") return (one, other) => one.channel - other.channel;
  const sign = key === "likeness" ? 1 : -1; // units that differ from others come first
  return (one, other) => {
    if ((one[key] === null) !== (other[key] === null)) return one[key] === null ? 1 : -1;
    return sign * (one[key] - other[key]) || one.channel - other.channel;
  };
}
let order = "channel";
function show() {
  const key = field("sort").value;
  const sorted = key !== order;
  if (sorted) rows.sort(compare((order = key)));
  let count = 0;
  for (const row of rows) {
    row.item.hidden = !matches(row);
    if (sorted) describe(row, key);
    count += !row.item.hidden;
  }
  if (sorted) list.replaceChildren(...rows.map((row) => row.item));
  controls.querySelector("output").textContent = `${count} of ${rows.length} shown`;
}
function keep() {
  const state = new URLSearchParams();
  for (const [name, value] of Object.entries(fields)) if (field(name).value !== value) state.set(name, field(name).value);
  const text = state.toString();
  if (location.hash.slice(1) !== text) location.replace(`#${text}`);
}
function restore() {
  const state = new URLSearchParams(location.hash.slice(1));
  for (const [name, value] of Object.entries(fields)) {
    field(name).value = state.get(name) ?? value;
    if (field(name).selectedIndex === -1) field(name).value = value;
  }
  show();
}
controls.addEventListener("input", () => { show(); keep(); });
controls.addEventListener("submit", (event) => event.preventDefault());
addEventListener("hashchange", restore);

list.addEventListener("keydown", (event) => {
  if (event.altKey || event.ctrlKey || event.metaKey) return;
  const links = rows.filter((row) => !row.item.hidden).map((row) => row.link);
  const here = links.indexOf(document.activeElement);
  const columns = getComputedStyle(list).gridTemplateColumns.split(" ").length;
  const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns }[event.key];
  const next = event.key === "Home" ? 0 : event.key === "End" ? links.length - 1 : here + step;
  if (here < 0 || !links[next]) return;
  event.preventDefault();
  links[next].focus();
  links[next].scrollIntoView({ block: "nearest" });
});
restore();

const one = (selector) => document.querySelector(selector);
const dialog = one("dialog");
function svg(name, attributes) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}
function figure(drawing, text) {
  const element = document.createElement("figure");
  const caption = document.createElement("figcaption");
  caption.textContent = text;
  element.append(drawing, caption);
  return element;
}
function enlarge(pair) {
  const [patch, projection] = [...pair.children].map((view) => view.cloneNode(true));
  const [width, height] = one(".nine").dataset.size.split(" ");
  const [x0, y0, x1, y1] = pair.dataset.box.split(" ");
  const whole = svg("svg", { viewBox: `0 0 ${width} ${height}` });
  whole.append(
    svg("image", { href: pair.getAttribute("href"), width, height }),
    svg("rect", { x: x0, y: y0, width: x1 - x0, height: y1 - y0 }),
  );
  one(".large").replaceChildren(figure(patch, "patch"), figure(projection, "projection"), figure(whole, "image and box of the patch"));
  one("dialog p").textContent = pair.getAttribute("aria-label");
  dialog.showModal();
}
for (const pair of document.querySelectorAll(".nine a"))
  pair.addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    enlarge(pair);
  });
dialog?.addEventListener("click", (event) => event.target === dialog && dialog.close());
addEventListener("keydown", (event) => {
  if (dialog?.open || event.altKey || event.ctrlKey || event.metaKey) return;
  const rel = { ArrowLeft: "prev", ArrowRight: "next" }[event.key];
  const link = rel && one(`a[rel=${rel}]`);
  if (link) location.href = link.href;
});
one(".address").textContent = location.href;

// Cards and boxes that light each other, the dialog that enlarges a unit, and buttons that copy text.
// Without this script, the page shows the same content.
const cards = [...document.querySelectorAll(".card[id]")];
const dialog = document.querySelector("dialog.enlarged");
const stage = dialog.querySelector(".stage");
const heading = dialog.querySelector("h2");
const blend = dialog.querySelector(".blend");
const slider = blend.querySelector("input");
let shown = -1; // number of the card in the dialog

const pairOf = (card) => card.querySelector(".pair");
const outlines = new Map([...document.querySelectorAll(".outline")].map((one) => [one.dataset.card, one]));

function light(card, on) {
  card.classList.toggle("lit", on);
  outlines.get(card.id)?.classList.toggle("lit", on);
}

function makeButton(element, name, open) {
  element.setAttribute("role", "button");
  element.setAttribute("tabindex", "0");
  element.setAttribute("aria-label", name);
  element.setAttribute("aria-haspopup", "dialog");
  element.addEventListener("click", open);
  element.addEventListener("keydown", (event) => {
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      open();
    }
  });
}

function lightsFor(element, card) {
  for (const [name, on] of [["pointerenter", true], ["focusin", true], ["pointerleave", false], ["focusout", false]]) {
    element.addEventListener(name, () => light(card, on));
  }
}

function show(number) {
  shown = number;
  const pair = pairOf(cards[number]);
  heading.textContent = pair.dataset.name;
  stage.replaceChildren(...[...pair.querySelectorAll("svg")].map((one) => one.cloneNode(true)));
  blend.hidden = stage.children.length < 2;
  dialog.querySelector(".previous").disabled = number === 0;
  dialog.querySelector(".next").disabled = number === cards.length - 1;
  if (!dialog.querySelector(":focus:enabled")) heading.focus(); // a disabled button receives no keys
  mix();
}

function mix() {
  if (stage.children.length > 1) stage.lastElementChild.style.opacity = slider.value / 100;
}

function step(by) {
  const next = shown + by;
  if (next >= 0 && next < cards.length) show(next);
}

function enlarge(number) {
  show(number);
  dialog.showModal();
  heading.focus(); // the slider would take the arrow keys
}

cards.forEach((card, number) => {
  const pair = pairOf(card);
  const open = () => enlarge(number);
  makeButton(pair, `${pair.dataset.name}. Enlarge`, open);
  lightsFor(card, card);
  const outline = outlines.get(card.id);
  if (outline) {
    makeButton(outline, `${outline.getAttribute("aria-label")}. Enlarge`, open);
    lightsFor(outline, card);
  }
});

slider.addEventListener("input", mix);
dialog.querySelector(".previous").addEventListener("click", () => step(-1));
dialog.querySelector(".next").addEventListener("click", () => step(1));
dialog.querySelector(".close").addEventListener("click", () => dialog.close());
dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
dialog.addEventListener("keydown", (event) => {
  if (event.target === slider) return;
  if (event.key === "ArrowRight") step(1);
  if (event.key === "ArrowLeft") step(-1);
});
dialog.addEventListener("close", () => pairOf(cards[shown]).focus());

for (const text of document.querySelectorAll(".copied")) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "copy";
  button.textContent = "Copy";
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text.textContent);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(text);
      button.textContent = "Selected: copy with the keyboard";
    }
  });
  text.after(button);
}

/* What all parts of the page use. */

const { palette, scenes } = JSON.parse(document.getElementById("data").textContent);
const colour = (id) => palette[(id - 1) % palette.length];
const rgbOf = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
const pad = (number, length) => String(number).padStart(length, "0");
const shortName = (uid) => (uid.length > 30 ? uid.slice(0, 14) + "…" + uid.slice(-14) : uid);
let overlay = 0.45;

function element(name, properties = {}, ...children) {
  const node = document.createElement(name);
  Object.assign(node, properties);
  node.append(...children);
  return node;
}

function shape(name, attributes, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

async function loadImage(source) {
  const image = new Image();
  image.src = source;
  await image.decode();
  return image;
}

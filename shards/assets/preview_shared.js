/* What all parts of the page use, and the index of its views as columns. */

const page = JSON.parse(document.getElementById("data").textContent);
const { palette, cells } = page;
const byId = (name) => document.getElementById(name);
const colour = (id) => palette[(id - 1) % palette.length];
const rgbOf = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
const pad = (number, length) => String(number).padStart(length, "0");
const shortName = (uid) => (uid.length > 30 ? uid.slice(0, 14) + "…" + uid.slice(-14) : uid);
const plural = (count, word) => `${count.toLocaleString("en")} ${word}${count === 1 ? "" : "s"}`;
let overlay = 0.45;

/* A view's number on the page is its place in the columns; a scene's views lie side by side. */
const scenes = page.scenes, views = page.views;
const sceneCount = scenes.scene.length, viewCount = views.view.length;
const firstView = new Uint32Array(sceneCount + 1);
const sceneOf = new Uint32Array(viewCount);
scenes.views.forEach((count, scene) => {
  firstView[scene + 1] = firstView[scene] + count;
  sceneOf.fill(scene, firstView[scene], firstView[scene + 1]);
});
const sceneAt = new Map(scenes.scene.map((number, scene) => [number, scene]));

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

/* After what was just drawn is on the screen: a named moment for whoever measures the page. */
function markPainted(name) {
  requestAnimationFrame(() => setTimeout(() => performance.mark(name)));
}

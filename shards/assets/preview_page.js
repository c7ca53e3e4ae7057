/* What is open, the keyboard, light and dark, and the clock of the turning cube. */

const gallery = new Gallery(byId("grid"), (view) => openView(view, false));
const scenePage = new ScenePage(byId("page-scene"), (view) => openView(view, true));
const form = new FilterForm(byId("form"), (filter) => go(addressOf(filter), true));
let filter = null, current = "", scrolled = 0;

const go = (address, replace) => {
  history[replace ? "replaceState" : "pushState"](null, "", address);
  route();
};
const addressOfView = (view) => addressOf(filter, { scene: scenes.scene[sceneOf[view]], view: views.view[view] });
const openView = (view, replace) => go(addressOfView(view), replace);

/* Show what the address says. */
function route() {
  const address = readAddress();
  const name = address.scene !== null ? "scene" : address.tab || "views";
  const before = current;
  if (before === "views" && name !== "views") scrolled = scrollY;
  current = name;
  // First, so that an overview that is not seen loads nothing.
  for (const other of ["views", "dataset", "scene"]) byId(`page-${other}`).hidden = other !== name;
  if (JSON.stringify(address.filter) !== JSON.stringify(filter)) applyFilter(address.filter);
  byId("tab-views").ariaCurrent = name === "views" ? "page" : null;
  byId("tab-dataset").ariaCurrent = name === "dataset" ? "page" : null;
  byId("tab-views").href = addressOf(filter);
  byId("tab-dataset").href = addressOf(filter, { tab: "dataset" });
  if (name === "scene") showScene(sceneAt.get(address.scene), address.view, before !== name);
  if (name === "dataset" && before !== name) scrollTo({ top: 0, behavior: "instant" });
  if (name === "views" && before !== name) {
    gallery.layout();
    scrollTo({ top: scrolled, behavior: "instant" });
    // Back at the tile from which the scene was opened, or whose scene was open last.
    if (before === "scene") {
      const place = gallery.list.indexOf(scenePage.view);
      gallery.focus(place >= 0 ? place : Math.max(0, gallery.list.findIndex((view) => sceneOf[view] === sceneOf[scenePage.view])));
    }
  }
  document.title = `${name === "scene" ? `Scene ${address.scene} · ` : ""}${document.querySelector("h1").textContent} · randscene`;
}

function applyFilter(next) {
  filter = next;
  form.show(filter);
  byId("order").value = filter.order;
  byId("one").checked = filter.one;
  const list = passing(filter), number = activeFilters(filter);
  const held = new Set(list.map((view) => sceneOf[view])).size;
  const [total, all] = filter.one ? [sceneCount, "scenes"] : [viewCount, "views"];
  byId("count").replaceChildren(element("b", { textContent: list.length.toLocaleString("en") }),
    ` ${list.length === total ? all : `of ${total.toLocaleString("en")} ${all}`}${filter.one ? "" : ` in ${plural(held, "scene")}`}`);
  byId("active").textContent = number ? `(${number})` : "";
  byId("none").hidden = list.length > 0;
  gallery.show(list, addressOfView);
  performance.mark("filtered");
}

function showScene(scene, wanted, entered) {
  let view = bestView(Array.from({ length: scenes.views[scene] }, (_, place) => firstView[scene] + place));
  for (let at = firstView[scene]; at < firstView[scene + 1]; at++) if (views.view[at] === wanted) view = at;
  const order = [...new Set(gallery.list.map((at) => sceneOf[at]))];
  const place = order.indexOf(scene);
  const link = (other) => (other === undefined ? null : addressOf(filter, { scene: scenes.scene[other] }));
  scenePage.show(view, { back: addressOf(filter), previous: place > 0 ? link(order[place - 1]) : null, next: place < 0 ? link(order[0]) : link(order[place + 1]) });
  if (entered) {
    scrollTo({ top: 0, behavior: "instant" });
    scenePage.title.focus({ preventScroll: true });
  }
}

/* ---- keys ---- */

function keyInScene(event) {
  const link = { n: scenePage.next, p: scenePage.previous }[event.key];
  if (link) {
    if (link.hasAttribute("href")) go(link.getAttribute("href"), true);
    return true;
  }
  if (event.key === "Escape") {
    go(addressOf(filter), false);
    return true;
  }
  if (!scenePage.data) return false; // the scene is still on its way: the rest has nothing to act on
  const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (step) {
    const first = firstView[scenePage.scene], end = firstView[scenePage.scene + 1];
    const next = Math.max(first, Math.min(end - 1, scenePage.view + step));
    if (next !== scenePage.view) openView(next, true);
    if (scenePage.strip.contains(document.activeElement)) scenePage.thumbs[next - first].focus();
    return true;
  }
  if (/^[1-9]$/.test(event.key)) scenePage.showAlone(Number(event.key));
  else if (event.key === "i") scenePage.setOverlay(overlay > 0 ? 0 : 0.45);
  else if (event.key === " " && !event.target.closest("button,a,summary")) turning = !turning;
  else return false;
  return true;
}

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented || byId("help").open) return;
  if (event.target === form.search && event.key === "Escape") {
    if (!form.search.value) gallery.focus();
    return;
  }
  if (event.target === form.search && (event.key === "Enter" || event.key === "ArrowDown")) {
    event.preventDefault();
    gallery.focus(0);
    return;
  }
  if (event.target.matches("input,select,textarea") && !(event.target.matches("[type=range],[type=checkbox],[type=radio]") && event.key.length === 1 && event.key !== " ")) return;
  if (event.key === "/") {
    if (current !== "views") go(addressOf(filter), false);
    byId("filters").open = true;
    form.search.focus();
    form.search.select();
  } else if (event.key === "?") byId("help").showModal();
  else if (event.key === "t") toggleTheme();
  else if (current === "scene") {
    if (!keyInScene(event)) return;
  } else if (current === "dataset" && event.key === "Escape") go(addressOf(filter), false);
  else if (current === "views" && event.key.startsWith("Arrow") && (event.target === document.body || event.target === byId("skip"))) gallery.focus();
  else return;
  event.preventDefault();
});

// Links inside the page: the browser would scroll to its top first.
document.addEventListener("click", (event) => {
  const link = event.target.closest('a[href^="#"]');
  if (!link || event.defaultPrevented || event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
  event.preventDefault();
  go(link.getAttribute("href"), false);
});
byId("skip").addEventListener("click", (event) => {
  event.preventDefault();
  if (current !== "views") go(addressOf(filter), false);
  gallery.focus();
});
byId("clear").addEventListener("click", () => form.reset.click());
byId("order").addEventListener("change", (event) => form.set({ order: event.target.value }));
byId("one").addEventListener("change", (event) => form.set({ one: event.target.checked }));
byId("keys").addEventListener("click", () => byId("help").showModal());

/* ---- light and dark ---- */

const dark = matchMedia("(prefers-color-scheme: dark)");
const redraw = () => { if (current === "scene") scenePage.redraw(); };
function toggleTheme() {
  const root = document.documentElement, now = root.dataset.theme || (dark.matches ? "dark" : "light");
  root.dataset.theme = now === "dark" ? "light" : "dark";
  redraw();
}
byId("theme").addEventListener("click", toggleTheme);
dark.addEventListener("change", redraw);
addEventListener("resize", redraw);

/* ---- the turning cube ---- */

let last = 0, turning = !still;
function tick(now) {
  // Thirty pictures a second are smooth enough for a slow turn, and only a cube in sight is drawn.
  if (now - last > 32) {
    const { cube } = scenePage, passed = Math.min(100, now - last);
    last = now;
    if (turning && current === "scene" && cube.faces && now >= cube.pausedUntil) {
      const box = cube.canvas.getBoundingClientRect();
      if (box.bottom > 0 && box.top < innerHeight) {
        cube.yaw += passed * 0.00045;
        cube.draw();
      }
    }
  }
  requestAnimationFrame(tick);
}
requestAnimationFrame(tick);

// On a narrow screen the filters begin folded.
if (matchMedia("(max-width: 860px)").matches) byId("filters").open = false;
addEventListener("popstate", route);
route();

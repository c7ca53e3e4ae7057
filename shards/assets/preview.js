/* A scene's panels together, and the page that holds the scenes. */

class Scene {
  constructor(data) {
    this.data = data;
    this.node = document.getElementById("scene").content.firstElementChild.cloneNode(true);
    this.node.id = `scene-${data.scene}`;
    const find = (selector) => this.node.querySelector(selector);
    this.captions = [...this.node.querySelectorAll("figcaption")];
    find("h2").textContent = `Scene ${pad(data.scene, 6)}`;
    const stacked = data.instances.filter((item) => item.parent !== null).length;
    const views = data.plan ? `${data.kept} of ${data.plan.cameras.length} views show every object` : `${data.kept} views`;
    find(".about").textContent = [data.split, `${data.instances.length} objects${stacked ? `, ${stacked} stacked` : ""}`, views].filter(Boolean).join(" · ");
    const point = (id) => this.highlight(id);
    this.stage = new Stage(find(".stage canvas"), point);
    this.cube = new Cube(find(".cube canvas"));
    if (data.plan) {
      this.plan = drawPlan(data, (index) => this.select(index), point);
      find(".plan > div").append(this.plan.svg);
      const { region, gap, expansions, tries } = data.plan;
      this.captions[2].textContent = `From above: discs, dashed by half the gap of ${gap.toFixed(2)} m; region ${region.toFixed(2)} m, ${tries} tries, ${expansions} expansion${expansions === 1 ? "" : "s"}`;
    } else {
      this.captions[2].textContent = "No recipe of this scene";
    }
    this.strip = find(".strip");
    this.legend = find(".legend");
    this.begun = false;
  }

  /* Pictures and voxels are decoded when the scene comes near the window. */
  begin() {
    if (this.begun) return;
    this.begun = true;
    this.thumbs = this.data.views.map((view, index) => {
      const button = element("button", { type: "button", title: `view ${pad(view.view, 3)}` },
        element("img", { src: view.rgb, alt: "" }), element("img", { src: view.ids, alt: "" }), element("span", { textContent: pad(view.view, 3) }));
      button.setAttribute("role", "option");
      button.addEventListener("click", () => this.select(index));
      return button;
    });
    this.strip.append(...this.thumbs);
    this.rows = this.data.instances.map((item, number) => {
      const mark = element("i", { textContent: number + 1 });
      mark.style.background = colour(number + 1);
      const share = element("span", { className: "share" });
      share.style.setProperty("--tint", colour(number + 1));
      const where = item.parent === null ? "" : ` · on ${item.parent}`;
      const row = element("button", { type: "button", title: item.uid }, mark, element("b", { textContent: shortName(item.uid) }), share,
        element("small", { textContent: `${item.licence || "licence not stated"}${where}` }));
      row.setAttribute("aria-pressed", "false");
      row.addEventListener("pointerenter", () => this.highlight(number + 1));
      row.addEventListener("pointerleave", () => this.highlight(0));
      row.addEventListener("focus", () => this.highlight(number + 1));
      row.addEventListener("blur", () => this.highlight(0));
      row.addEventListener("click", () => this.showAlone(number + 1));
      return row;
    });
    this.legend.append(...this.rows);
    // Begin with a view from a little above, which shows most scenes best.
    const tilt = this.data.views.map((view) => Math.abs(view.elevation - 28));
    this.select(tilt.indexOf(Math.min(...tilt)));
  }

  async select(index) {
    const view = this.data.views[index];
    this.thumbs.forEach((thumb, number) => thumb.setAttribute("aria-selected", number === index));
    this.captions[0].textContent = `View ${pad(view.view, 3)}: azimuth ${view.azimuth.toFixed(0)}°, elevation ${view.elevation.toFixed(0)}°`;
    this.captions[1].textContent = `${view.ends.at(-1).toLocaleString("en")} surface voxels of 64³, frame ${view.frame}`;
    this.rows.forEach((row, number) => {
      const part = Math.round((100 * view.visible[number]) / Math.max(1, view.visible[number], view.unoccluded[number]));
      const share = row.querySelector(".share");
      share.textContent = `${part} % seen`;
      share.style.setProperty("--part", `${part}%`);
    });
    if (this.plan) this.plan.select(index);
    await Promise.all([this.stage.show(view), this.cube.show(view, view.elevation)]);
  }

  highlight(id) {
    this.stage.highlight(id);
    this.cube.highlight(id);
    if (this.plan) this.plan.highlight(id);
    if (this.rows) this.rows.forEach((row, number) => row.classList.toggle("lit", number + 1 === id));
  }

  showAlone(id) {
    const next = this.cube.alone === id ? 0 : id;
    this.cube.showAlone(next);
    this.rows.forEach((row, number) => row.setAttribute("aria-pressed", number + 1 === next));
  }
}

/* ---- the page ---- */

const all = scenes.map((data) => new Scene(data));
const inSight = new Set();
document.getElementById("scenes").append(...all.map((scene) => scene.node));
document.getElementById("jumps").append(...all.map((scene) => element("a", { href: `#${scene.node.id}`, textContent: pad(scene.data.scene, 6) })));

const near = new IntersectionObserver((entries) => {
  for (const entry of entries) if (entry.isIntersecting) all.find((scene) => scene.node === entry.target).begin();
}, { rootMargin: "600px" });
const seen = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    const scene = all.find((item) => item.cube.canvas === entry.target);
    if (entry.isIntersecting) inSight.add(scene); else inSight.delete(scene);
  }
}, { threshold: 0.4 });
for (const scene of all) {
  near.observe(scene.node);
  seen.observe(scene.cube.canvas);
}

const redraw = () => all.forEach((scene) => { scene.stage.draw(); scene.cube.draw(); });
const slider = document.getElementById("overlay");
slider.addEventListener("input", () => {
  overlay = slider.value / 100;
  document.documentElement.style.setProperty("--overlay", overlay);
  all.forEach((scene) => scene.stage.draw());
});
document.getElementById("theme").addEventListener("click", () => {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  redraw();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
addEventListener("resize", () => all.forEach((scene) => scene.cube.draw()));

let last = 0;
function tick(now) {
  // Thirty pictures a second are smooth enough for a slow turn, and only the cubes in sight are drawn.
  if (now - last > 32) {
    const passed = Math.min(100, now - last);
    last = now;
    for (const { cube } of inSight) {
      if (now < cube.pausedUntil || !cube.faces) continue;
      cube.yaw += passed * 0.00045;
      cube.draw();
    }
  }
  requestAnimationFrame(tick);
}
if (!still) requestAnimationFrame(tick);

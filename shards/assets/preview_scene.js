/* The page of one scene: picture with ids, voxels, plan, all views, objects, recipe. */

/* What the cube did to the scene, by the name of the frame. */
const FRAMES = {
  yaw: "turned about the vertical until the camera is in front",
  full: "turned until the camera looks straight in",
  canonical: "not turned",
};

class ScenePage {
  constructor(node, onView) {
    this.node = node;
    this.onView = onView;
    this.scene = null;
    const body = byId("scene").content.firstElementChild.cloneNode(true);
    const find = (selector) => body.querySelector(selector);
    Object.assign(this, {
      title: find("h2"), about: find(".soft"), back: find(".back"), previous: find(".previous"), next: find(".next"),
      captions: [...body.querySelectorAll("figcaption")], strip: find(".strip"), legend: find(".legend"), recipe: find(".recipe"),
      slider: find("input"), planBox: find(".plan > div"),
    });
    const point = (id) => this.highlight(id);
    this.point = point;
    const [picture, marks] = body.querySelectorAll(".stage canvas");
    this.stage = new Stage(picture, marks, point);
    this.cube = new Cube(find(".cube canvas"));
    this.slider.value = 100 * overlay;
    this.slider.addEventListener("input", () => this.setOverlay(this.slider.value / 100));
    this.strip.addEventListener("click", (event) => {
      const button = event.target.closest("button");
      if (button) this.onView(button.view);
    });
    this.recipe.addEventListener("toggle", () => this.showRecipe());
    node.append(body);
    this.setOverlay(overlay);
  }

  /* The view is a number on the page; words are links of the addresses around it. */
  async show(view, { back, previous, next }) {
    const scene = sceneOf[view];
    for (const [link, address] of [[this.back, back], [this.previous, previous], [this.next, next]]) {
      if (address) link.href = address; else link.removeAttribute("href");
    }
    if (scene !== this.scene) {
      Object.assign(this, { scene, data: null, wanted: null });
      this.title.textContent = `Scene ${pad(scenes.scene[scene], 6)}`;
      this.node.ariaBusy = "true";
      let data;
      try {
        data = await sceneData(scene);
      } catch (error) {
        if (this.scene === scene) {
          this.about.textContent = error.message;
          this.node.classList.add("lost");
          this.scene = null;
        }
        return;
      }
      if (scene !== this.scene) return;
      this.node.classList.remove("lost");
      this.fill(data);
    } else if (!this.data) {
      this.wanted = view;
      return;
    }
    await this.select(this.wanted ?? view);
    this.wanted = null;
    this.node.ariaBusy = "false";
    markPainted("scene");
  }

  fill(data) {
    this.data = data;
    const scene = this.scene, stacked = scenes.stacked[scene], shown = scenes.views[scene];
    const kept = scenes.planned[scene] ? `${scenes.kept[scene]} of ${scenes.planned[scene]} views show every object` : plural(scenes.kept[scene], "view");
    this.about.textContent = [page.splits[scenes.split[scene]], plural(data.instances.length, "object") + (stacked ? `, ${stacked} stacked` : ""),
      kept, shown < scenes.kept[scene] ? `${shown} of them here` : ""].filter(Boolean).join(" · ");
    this.cube.alone = 0;
    this.planBox.replaceChildren();
    this.plan = null;
    if (data.plan) {
      this.plan = drawPlan(data, (place) => this.onView(firstView[scene] + place), this.point);
      this.planBox.append(this.plan.svg);
      const { region, gap, expansions, tries } = data.plan;
      this.captions[2].textContent = `From above: outlines, discs, and dashed around them half the gap of ${gap.toFixed(2)} m. ` +
        `${plural(tries, "place")} tried in a region of ${region.toFixed(2)} m, enlarged ${plural(expansions, "time")}. ` +
        `Arrows: the cameras' directions${this.plan.missing ? ", hollow where the view is not shown here" : ""}`;
    } else {
      this.captions[2].textContent = "No recipe of this scene";
    }
    this.thumbs = data.views.map((view, place) => {
      const number = firstView[scene] + place;
      const picture = element("span", { className: "picture" }), labels = element("canvas");
      const button = element("button", { type: "button", view: number, tabIndex: -1 }, picture, labels, element("span", { className: "name", textContent: pad(view.view, 2) }));
      button.setAttribute("role", "option");
      button.setAttribute("aria-label", `View ${view.view}, every object at least ${views.seen[number]} % seen`);
      drawLabels(labels, data.part(view.ids), view.size);
      Gallery.prototype.paint(picture, number);
      return button;
    });
    this.strip.replaceChildren(...this.thumbs);
    this.rows = data.instances.map((item, place) => this.row(item, place + 1));
    this.legend.replaceChildren(...this.rows);
    this.recipe.lastElementChild.replaceChildren();
    this.showRecipe();
  }

  row(item, id) {
    const mark = element("i", { textContent: id }), share = element("span", { className: "share" });
    mark.style.background = colour(id);
    share.style.setProperty("--tint", colour(id));
    const words = [item.category, item.licence || "licence not stated", item.parent === null ? "" : `on ${item.parent}`, item.title && shortName(item.uid)];
    const row = element("button", { type: "button", title: item.uid }, mark, element("b", { textContent: item.title || shortName(item.uid) }), share,
      element("small", { textContent: words.filter(Boolean).join(" · ") }));
    row.setAttribute("aria-pressed", "false");
    for (const event of ["pointerenter", "focus"]) row.addEventListener(event, () => this.highlight(id));
    for (const event of ["pointerleave", "blur"]) row.addEventListener(event, () => this.highlight(0));
    row.addEventListener("click", () => this.showAlone(id));
    return row;
  }

  showRecipe() {
    const box = this.recipe.lastElementChild;
    if (this.recipe.open && this.data && !box.childNodes.length) showRecipe(box, this.data.recipe);
  }

  async select(number) {
    const place = number - firstView[this.scene], view = this.data.views[place];
    this.view = number;
    this.thumbs.forEach((thumb, other) => {
      thumb.setAttribute("aria-selected", other === place);
      thumb.tabIndex = other === place ? 0 : -1;
    });
    const thumb = this.thumbs[place], { strip } = this;
    if (thumb.offsetLeft < strip.scrollLeft || thumb.offsetLeft + thumb.offsetWidth > strip.scrollLeft + strip.clientWidth) {
      strip.scrollLeft = thumb.offsetLeft - strip.clientWidth / 2 + thumb.offsetWidth / 2;
    }
    const [azimuth, elevation] = view.direction;
    this.captions[0].textContent = `View ${pad(view.view, 3)}: azimuth ${azimuth.toFixed(0)}°, elevation ${elevation.toFixed(0)}°`;
    this.captions[1].textContent = `${plural(view.ends.at(-1), "surface voxel")} of 64³, ${FRAMES[view.frame] ?? "in the frame"} (${view.frame})`;
    this.stage.marks.setAttribute("aria-label", `Picture of view ${view.view} with ids of ${plural(this.rows.length, "object")}`);
    this.rows.forEach((row, other) => {
      const alone = view.unoccluded[other], share = row.querySelector(".share");
      const part = alone ? Math.min(100, Math.floor((100 * view.visible[other]) / alone)) : null;
      share.textContent = part === null ? `${view.visible[other].toLocaleString("en")} px` : `${part} % seen`;
      share.style.setProperty("--part", `${part ?? 100}%`);
    });
    if (this.plan) this.plan.select(place);
    this.cube.show(cellsOf(this.data.part(view.voxels), view.ends), view.ends, elevation);
    await this.stage.show(number, view, this.data.part(view.ids));
  }

  highlight(id) {
    this.stage.highlight(id);
    this.cube.highlight(id);
    if (this.plan) this.plan.highlight(id);
    if (this.rows) this.rows.forEach((row, place) => row.classList.toggle("lit", place + 1 === id));
  }

  showAlone(id) {
    if (!this.data || id > this.rows.length) return;
    const next = this.cube.alone === id ? 0 : id;
    this.cube.showAlone(next);
    this.highlight(next);
    this.rows.forEach((row, place) => row.setAttribute("aria-pressed", place + 1 === next));
  }

  setOverlay(value) {
    overlay = value;
    this.slider.value = 100 * value;
    document.documentElement.style.setProperty("--overlay", value);
    this.stage.draw();
  }

  redraw() {
    this.stage.draw();
    this.cube.draw();
  }
}

/* The overview: a window onto all views that pass. Only tiles near the window exist, and only their sheets are loaded. */

const GAP = 10, WORDS = 26, NARROWEST = 118;

class Gallery {
  constructor(node, onOpen) {
    Object.assign(this, { node, onOpen, list: [], at: 0, tiles: new Map(), drawn: 0 });
    node.addEventListener("click", (event) => {
      const tile = event.target.closest("a");
      if (!tile || event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
      event.preventDefault();
      this.at = tile.place;
      this.onOpen(this.list[tile.place]);
    });
    node.addEventListener("keydown", (event) => this.key(event));
    // A handle on the list for the Tab key when its tile is far from the window.
    node.addEventListener("focus", () => this.focus());
    addEventListener("scroll", () => this.soon(), { passive: true });
    new ResizeObserver(() => this.layout()).observe(node);
  }

  show(list, address) {
    this.list = list;
    this.address = address;
    this.at = 0;
    for (const tile of this.tiles.values()) tile.remove();
    this.tiles.clear();
    this.layout();
  }

  layout() {
    const width = this.node.clientWidth;
    if (!width) return;
    this.columns = Math.max(2, Math.floor((width + GAP) / (NARROWEST + GAP)));
    this.cell = (width - (this.columns - 1) * GAP) / this.columns;
    this.row = this.cell + WORDS + GAP;
    this.node.style.height = `${Math.max(0, Math.ceil(this.list.length / this.columns) * this.row - GAP)}px`;
    for (const [place, tile] of this.tiles) this.put(tile, place);
    this.draw();
  }

  put(tile, place) {
    tile.style.width = `${this.cell}px`;
    tile.style.transform = `translate(${(place % this.columns) * (this.cell + GAP)}px,${Math.floor(place / this.columns) * this.row}px)`;
  }

  soon() {
    if (this.waiting || !this.node.clientWidth) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      this.draw();
    });
  }

  draw() {
    if (!this.node.clientWidth) return;
    const top = this.node.getBoundingClientRect().top, ahead = innerHeight * 0.6;
    const first = Math.max(0, Math.floor((-top - ahead) / this.row)) * this.columns;
    const end = Math.min(this.list.length, (Math.floor((-top + innerHeight + ahead) / this.row) + 1) * this.columns);
    const held = document.activeElement;
    for (const [place, tile] of this.tiles) {
      // The tile with the focus stays, or the focus would be lost.
      if ((place < first || place >= end) && tile !== held) {
        tile.remove();
        this.tiles.delete(place);
      }
    }
    const fresh = [], onScreen = [];
    for (let place = first; place < end; place++) {
      let tile = this.tiles.get(place);
      if (!tile) {
        tile = this.tile(place);
        this.tiles.set(place, tile);
        fresh.push(tile);
      }
      const y = top + Math.floor(place / this.columns) * this.row;
      if (y < innerHeight && y + this.cell > 0) onScreen.push(tile.painted);
    }
    this.node.append(...fresh);
    this.mark();
    const turn = ++this.drawn;
    Promise.allSettled(onScreen).then(() => { if (turn === this.drawn) markPainted("thumbnails"); });
  }

  tile(place) {
    const view = this.list[place], scene = sceneOf[view], count = scenes.assets[scene].length;
    const seen = views.seen[view];
    const picture = element("span", { className: "picture" });
    const tile = element("a", { place, href: this.address(view), tabIndex: -1, id: `v${view}` }, picture,
      element("span", { className: "words" }, element("span", { textContent: `${scenes.scene[scene]}·${pad(views.view[view], 2)}` }),
        element("span", { className: "meter", title: `every object at least ${seen} % seen` }, element("b", { textContent: count }), "obj")));
    tile.setAttribute("role", "option");
    tile.setAttribute("aria-selected", "false");
    tile.setAttribute("aria-setsize", this.list.length);
    tile.setAttribute("aria-posinset", place + 1);
    tile.setAttribute("aria-label", `Scene ${scenes.scene[scene]}, view ${views.view[view]}: ${plural(count, "object")}, every one at least ${seen} % seen`);
    tile.style.setProperty("--seen", `${seen}%`);
    this.put(tile, place);
    tile.painted = this.paint(picture, view);
    return tile;
  }

  async paint(picture, view) {
    const spot = placeOf(view), last = cells.columns - 1;
    try {
      const { url } = await sheetOf(spot, "t");
      picture.style.backgroundImage = `url("${url}")`;
      picture.style.backgroundSize = `${100 * cells.columns}% ${100 * spot.rows}%`;
      picture.style.backgroundPosition = `${(100 * (spot.cell % cells.columns)) / last}% ${spot.rows > 1 ? (100 * Math.floor(spot.cell / cells.columns)) / (spot.rows - 1) : 0}%`;
    } catch (error) {
      picture.title = error.message;
      picture.classList.add("lost");
    }
  }

  mark() {
    for (const [place, tile] of this.tiles) tile.tabIndex = place === this.at ? 0 : -1;
    // Where no tile can take the Tab key, the list does.
    this.node.tabIndex = this.tiles.has(this.at) || !this.list.length ? -1 : 0;
  }

  /* Bring a tile into the window and give it the focus. */
  focus(place = this.at) {
    if (!this.list.length) return;
    this.at = Math.max(0, Math.min(this.list.length - 1, place));
    const y = this.node.getBoundingClientRect().top + Math.floor(this.at / this.columns) * this.row;
    const room = document.querySelector(".top").offsetHeight + 8;
    if (y < room) scrollBy({ top: y - room, behavior: "instant" });
    else if (y + this.row > innerHeight) scrollBy({ top: y + this.row - innerHeight, behavior: "instant" });
    this.draw();
    this.tiles.get(this.at)?.focus({ preventScroll: true });
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const screen = this.columns * Math.max(1, Math.floor(innerHeight / this.row) - 1);
    const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -this.columns, ArrowDown: this.columns, PageUp: -screen, PageDown: screen }[event.key];
    let next = null;
    if (step !== undefined) next = this.at + step;
    if (event.key === "Home") next = 0;
    if (event.key === "End") next = this.list.length - 1;
    if (next === null) return;
    event.preventDefault();
    // Up from the first row, or down from the last, goes nowhere.
    if (Math.abs(step) === this.columns && (next < 0 || next >= this.list.length)) return;
    this.focus(next);
  }
}

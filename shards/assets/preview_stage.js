/* The picture, and above it the ids of its pixels.

   Two canvases: a picture from a file may be drawn but, in a page from a disk, never read back, so what depends on the
   ids is drawn on its own. */

class Stage {
  constructor(picture, marks, onPoint) {
    Object.assign(this, { picture, marks, lit: 0, loading: 0 });
    marks.addEventListener("pointermove", (event) => onPoint(this.idAt(event)));
    marks.addEventListener("pointerleave", () => onPoint(0));
  }

  async show(number, view, ids) {
    const turn = ++this.loading;
    const place = placeOf(number);
    const { image } = await sheetOf(place, "p");
    if (turn !== this.loading) return;
    const [width, height] = view.size, cell = cells.picture;
    for (const canvas of [this.picture, this.marks]) Object.assign(canvas, { width, height });
    const left = (place.cell % cells.columns) * cell + ((cell - width) >> 1);
    const top = Math.floor(place.cell / cells.columns) * cell + ((cell - height) >> 1);
    this.picture.getContext("2d").drawImage(image, left, top, width, height, 0, 0, width, height);
    this.ids = ids;
    this.draw();
  }

  idAt(event) {
    if (!this.ids) return 0;
    const { width, height } = this.marks, box = this.marks.getBoundingClientRect();
    const scale = Math.min(box.width / width, box.height / height);
    const x = Math.floor((event.clientX - box.left - (box.width - scale * width) / 2) / scale);
    const y = Math.floor((event.clientY - box.top - (box.height - scale * height) / 2) / scale);
    return x < 0 || y < 0 || x >= width || y >= height ? 0 : this.ids[y * width + x];
  }

  highlight(id) {
    if (id !== this.lit) {
      this.lit = id;
      this.draw();
    }
  }

  draw() {
    if (!this.ids) return;
    const { width, height } = this.marks, { ids, lit } = this;
    const pen = this.marks.getContext("2d");
    const frame = pen.createImageData(width, height);
    const tints = palette.map(rgbOf);
    for (let at = 0; at < ids.length; at++) {
      const id = ids[at], x = at % width;
      if (!id && !lit) continue;
      const edge = id && ((x > 0 && ids[at - 1] !== id) || (x < width - 1 && ids[at + 1] !== id) || ids[at - width] !== id || ids[at + width] !== id);
      let tint = id ? tints[(id - 1) % tints.length] : [0, 0, 0];
      let mix = edge ? Math.min(1, overlay * 1.7) : overlay * 0.85;
      if (lit && id === lit) mix = edge ? 1 : 0.12;
      else if (lit) [tint, mix] = [[0, 0, 0], 0.72];
      frame.data.set(tint, 4 * at);
      frame.data[4 * at + 3] = 255 * mix;
    }
    pen.putImageData(frame, 0, 0);
  }
}

/* A small picture of the ids alone, see-through where there is none. */
function drawLabels(canvas, ids, [width, height]) {
  const side = 96;
  Object.assign(canvas, { width: side, height: side });
  const pen = canvas.getContext("2d"), frame = pen.createImageData(side, side);
  const tints = palette.map(rgbOf), step = Math.max(width, height) / side;
  for (let y = 0; y < side; y++) for (let x = 0; x < side; x++) {
    const [a, b] = [Math.floor((x + 0.5 - side / 2) * step + width / 2), Math.floor((y + 0.5 - side / 2) * step + height / 2)];
    const id = a < 0 || b < 0 || a >= width || b >= height ? 0 : ids[b * width + a];
    if (!id) continue;
    frame.data.set(tints[(id - 1) % tints.length], 4 * (y * side + x));
    frame.data[4 * (y * side + x) + 3] = 255;
  }
  pen.putImageData(frame, 0, 0);
}

/* The picture, with the ids of its pixels. */

class Stage {
  constructor(canvas, onPoint) {
    this.canvas = canvas;
    this.lit = 0;
    this.loading = 0;
    canvas.addEventListener("pointermove", (event) => onPoint(this.idAt(event)));
    canvas.addEventListener("pointerleave", () => onPoint(0));
  }

  async show(view) {
    const turn = ++this.loading;
    const [picture, labels] = await Promise.all([loadImage(view.rgb), loadImage(view.ids)]);
    if (turn !== this.loading) return;
    const { naturalWidth: width, naturalHeight: height } = picture;
    Object.assign(this.canvas, { width, height });
    const scratch = element("canvas", { width, height });
    const pen = scratch.getContext("2d", { willReadFrequently: true });
    const read = (image) => {
      pen.clearRect(0, 0, width, height);
      pen.drawImage(image, 0, 0);
      return pen.getImageData(0, 0, width, height).data;
    };
    this.pixels = read(picture).slice();
    // The label picture carries colours; several ids share one only beyond the palette's length.
    const known = new Map(palette.map((hex, place) => [rgbOf(hex).reduce((sum, part) => sum * 256 + part, 0), place + 1]));
    const colours = read(labels);
    this.ids = new Uint8Array(width * height);
    for (let at = 0; at < this.ids.length; at++) {
      if (colours[4 * at + 3]) this.ids[at] = known.get((colours[4 * at] << 16) | (colours[4 * at + 1] << 8) | colours[4 * at + 2]) || 0;
    }
    this.draw();
  }

  idAt(event) {
    if (!this.ids) return 0;
    const box = this.canvas.getBoundingClientRect();
    const x = Math.floor(((event.clientX - box.left) / box.width) * this.canvas.width);
    const y = Math.floor(((event.clientY - box.top) / box.height) * this.canvas.height);
    return this.ids[y * this.canvas.width + x] || 0;
  }

  highlight(id) {
    if (id !== this.lit) {
      this.lit = id;
      this.draw();
    }
  }

  draw() {
    if (!this.ids) return;
    const { width, height } = this.canvas;
    const pen = this.canvas.getContext("2d");
    const frame = pen.createImageData(width, height);
    const { pixels, ids } = this;
    const lit = this.lit && ((this.lit - 1) % palette.length) + 1;
    const tints = [[0, 0, 0], ...palette.map(rgbOf)];
    for (let at = 0; at < ids.length; at++) {
      const id = ids[at], x = at % width;
      const edge = id && ((x > 0 && ids[at - 1] !== id) || (x < width - 1 && ids[at + 1] !== id) || ids[at - width] !== id || ids[at + width] !== id);
      let keep = 1, mix = id ? overlay * 0.85 : 0;
      if (lit) {
        keep = id === lit ? 1 : 0.28;
        mix = id === lit ? (edge ? 1 : 0.12) : 0;
      }
      if (edge && !lit) mix = Math.min(1, overlay * 1.7);
      const tint = tints[id];
      for (let part = 0; part < 3; part++) frame.data[4 * at + part] = keep * ((1 - mix) * pixels[4 * at + part] + mix * tint[part]);
      frame.data[4 * at + 3] = 255;
    }
    pen.putImageData(frame, 0, 0);
  }
}

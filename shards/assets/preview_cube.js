/* The voxels: exposed faces, orthographic, drawn into a depth buffer. */

const SIDE = 64;
const AXES = [[1, 0, 0], [0, 1, 0], [0, 0, 1]];

class Cube {
  constructor(canvas) {
    this.canvas = canvas;
    this.yaw = 0;
    this.pitch = 0.4;
    this.alone = 0;
    this.lit = 0;
    this.pausedUntil = 0;
    this.detail = Math.min(2, window.devicePixelRatio || 1);
    let from = null;
    canvas.addEventListener("pointerdown", (event) => {
      from = [event.clientX, event.clientY, this.yaw, this.pitch];
      canvas.setPointerCapture(event.pointerId);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (from) this.turn(from[2] - (event.clientX - from[0]) * 0.011, from[3] + (event.clientY - from[1]) * 0.011);
    });
    for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => { from = null; });
    canvas.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: [0.12, 0], ArrowRight: [-0.12, 0], ArrowUp: [0, 0.12], ArrowDown: [0, -0.12] }[event.key];
      if (!step) return;
      event.preventDefault();
      this.turn(this.yaw + step[0], this.pitch + step[1]);
    });
  }

  turn(yaw, pitch) {
    this.yaw = yaw;
    this.pitch = Math.max(-1.5, Math.min(1.5, pitch));
    this.pausedUntil = performance.now() + 2500;
    this.draw();
  }

  /* Cells of all instances, one after the other, and where each instance ends. */
  show(filled, ends, elevation) {
    this.filled = filled;
    this.ends = ends;
    this.yaw = 0;
    this.pitch = Math.max(0.12, Math.min(1.3, (elevation * Math.PI) / 180));
    this.build();
    this.draw();
  }

  showAlone(id) {
    this.alone = id;
    this.build();
    this.draw();
  }

  highlight(id) {
    if (id !== this.lit) {
      this.lit = id;
      this.draw();
    }
  }

  /* Exposed faces by direction: cell, owner and how enclosed the face is. */
  build() {
    if (!this.filled) return;
    const step = [SIDE * SIDE, SIDE, 1];
    const owner = new Uint8Array(SIDE ** 3);
    let id = 1;
    this.filled.forEach((cell, at) => {
      while (at >= this.ends[id - 1]) id++;
      if (!this.alone || this.alone === id) owner[cell] = id;
    });
    const at = (x, y, z) => (x < 0 || y < 0 || z < 0 || x >= SIDE || y >= SIDE || z >= SIDE ? 0 : owner[x * step[0] + y * step[1] + z]);
    this.faces = AXES.flatMap((axis, number) => [1, -1].map((sign) => ({ axis: number, sign, cells: [] })));
    for (let x = 0; x < SIDE; x++) for (let y = 0; y < SIDE; y++) for (let z = 0; z < SIDE; z++) {
      const mine = at(x, y, z);
      if (!mine) continue;
      for (const face of this.faces) {
        const [dx, dy, dz] = AXES[face.axis].map((part) => part * face.sign);
        if (at(x + dx, y + dy, z + dz)) continue;
        const [u, v] = [AXES[(face.axis + 1) % 3], AXES[(face.axis + 2) % 3]];
        let closed = 0;
        for (const [a, b] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
          if (at(x + dx + a * u[0] + b * v[0], y + dy + a * u[1] + b * v[1], z + dz + a * u[2] + b * v[2])) closed++;
        }
        face.cells.push(x, y, z, mine, 1 - 0.11 * closed);
      }
    }
  }

  draw() {
    if (!this.faces) return;
    const begun = performance.now();
    const size = Math.max(64, Math.round(this.canvas.clientWidth * this.detail));
    if (this.canvas.width !== size) this.canvas.width = this.canvas.height = size;
    if (!this.buffer || this.buffer.width !== size) {
      this.buffer = element("canvas", { width: size, height: size });
      this.image = this.buffer.getContext("2d").createImageData(size, size);
      this.colours = new Uint32Array(this.image.data.buffer);
      this.depths = new Float32Array(size * size);
    }
    const [sy, cy, sp, cp] = [Math.sin(this.yaw), Math.cos(this.yaw), Math.sin(this.pitch), Math.cos(this.pitch)];
    const right = [cy, sy, 0], up = [-sp * sy, sp * cy, cp], toward = [sy * cp, -cy * cp, sp];
    const scale = (size * 0.55) / SIDE, half = SIDE / 2;
    const project = (x, y, z) => {
      const p = [x - half, y - half, z - half];
      const dot = (a) => a[0] * p[0] + a[1] * p[1] + a[2] * p[2];
      return [size / 2 + scale * dot(right), size / 2 - scale * dot(up), dot(toward)];
    };
    this.colours.fill(0);
    this.depths.fill(-1e9);
    const lit = this.lit, tints = palette.map(rgbOf);
    for (const { axis, sign, cells } of this.faces) {
      const facing = toward[axis] * sign;
      if (facing <= 1e-6) continue;
      const light = 0.62 + 0.42 * Math.max(0, sign * (right[axis] * -0.35 + up[axis] * 0.7 + toward[axis] * 0.62));
      const [u, v] = [(axis + 1) % 3, (axis + 2) % 3];
      const [ux, uy, uz] = [scale * right[u], -scale * up[u], toward[u]];
      const [vx, vy, vz] = [scale * right[v], -scale * up[v], toward[v]];
      const area = ux * vy - uy * vx;
      if (Math.abs(area) < 1e-9) continue;
      const [ix, iy, jx, jy] = [vy / area, -vx / area, -uy / area, ux / area];
      const [left, top] = [Math.min(0, ux) + Math.min(0, vx), Math.min(0, uy) + Math.min(0, vy)];
      const [wide, high] = [Math.abs(ux) + Math.abs(vx), Math.abs(uy) + Math.abs(vy)];
      const fine = Math.abs(area) > 12;
      for (let at = 0; at < cells.length; at += 5) {
        const base = [cells[at], cells[at + 1], cells[at + 2]];
        if (sign > 0) base[axis] += 1;
        const [px, py, pz] = project(base[0], base[1], base[2]);
        const id = cells[at + 3];
        let [r, g, b] = tints[(id - 1) % tints.length];
        let shade = light * cells[at + 4] * (0.95 + (0.07 * pz) / half);
        if (lit && id !== lit) {
          const grey = 0.3 * r + 0.59 * g + 0.11 * b;
          [r, g, b] = [grey, grey, grey];
          shade *= 0.5;
        }
        const pack = (s) => (255 << 24) | (Math.min(255, b * s) << 16) | (Math.min(255, g * s) << 8) | Math.min(255, r * s);
        const inner = pack(shade), rim = pack(shade * 0.86);
        const x0 = Math.max(0, Math.ceil(px + left - 0.5)), x1 = Math.min(size - 1, Math.floor(px + left + wide - 0.5));
        const y0 = Math.max(0, Math.ceil(py + top - 0.5)), y1 = Math.min(size - 1, Math.floor(py + top + high - 0.5));
        for (let y = y0; y <= y1; y++) {
          const dy = y + 0.5 - py;
          for (let x = x0; x <= x1; x++) {
            const dx = x + 0.5 - px;
            const s = dx * ix + dy * iy, t = dx * jx + dy * jy;
            if (s < 0 || t < 0 || s > 1 || t > 1) continue;
            const depth = pz + s * uz + t * vz, place = y * size + x;
            if (depth <= this.depths[place]) continue;
            this.depths[place] = depth;
            this.colours[place] = fine && (s < 0.1 || t < 0.1) ? rim : inner;
          }
        }
      }
    }
    const pen = this.canvas.getContext("2d");
    pen.clearRect(0, 0, size, size);
    this.frame(pen, project, toward, size, false);
    this.buffer.getContext("2d").putImageData(this.image, 0, 0);
    pen.drawImage(this.buffer, 0, 0);
    this.frame(pen, project, toward, size, true);
    // A slow machine gets a coarser picture rather than a jerky one.
    if (performance.now() - begun > 30 && this.detail > 1) this.detail = Math.max(1, this.detail * 0.8);
  }

  /* Edges of the cube behind (or before) the voxels, its floor, and the side on which the camera stands. */
  frame(pen, project, toward, size, before) {
    const line = (a, b) => { pen.beginPath(); pen.moveTo(...project(...a)); pen.lineTo(...project(...b)); pen.stroke(); };
    const polygon = (corners) => { pen.beginPath(); corners.forEach((corner) => pen.lineTo(...project(...corner).slice(0, 2))); pen.closePath(); pen.fill(); };
    pen.lineWidth = size / 520;
    pen.strokeStyle = style("--cube-line");
    const far = toward.map((part) => (part > 0 ? 0 : SIDE));
    if (!before && toward[2] > 0) {
      pen.fillStyle = style("--cube-floor");
      polygon([[0, 0, 0], [SIDE, 0, 0], [SIDE, SIDE, 0], [0, SIDE, 0]]);
    }
    pen.globalAlpha = before ? 0.35 : 0.9;
    for (let axis = 0; axis < 3; axis++) for (const a of [0, SIDE]) for (const b of [0, SIDE]) {
      const ends = [0, SIDE].map((along) => {
        const corner = [0, 0, 0];
        corner[axis] = along; corner[(axis + 1) % 3] = a; corner[(axis + 2) % 3] = b;
        return corner;
      });
      // An edge is behind when it touches one of the three sides that face away.
      const near = a !== far[(axis + 1) % 3] && b !== far[(axis + 2) % 3];
      if (near === before) line(...ends);
    }
    const front = toward[1] < 0;
    if (front === before) {
      pen.globalAlpha = 1;
      pen.fillStyle = style("--accent");
      polygon([[SIDE / 2 - 4, -8, 0], [SIDE / 2 + 4, -8, 0], [SIDE / 2, -2, 0]]);
      pen.font = `${size / 32}px system-ui, sans-serif`;
      pen.textBaseline = "middle";
      const [x, y] = project(SIDE / 2 + 6, -6, 0);
      pen.fillText("camera", x, y);
    }
    pen.globalAlpha = 1;
  }
}

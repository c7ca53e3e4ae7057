/* Packs and sheets: from the page itself, or from the folder beside it by script and img elements, which work from a
   disk where requests do not. */

const inside = JSON.parse(byId("inside").textContent);
byId("inside").remove();
const packStart = [];
page.packs.reduce((start, pack) => (packStart.push(start), start + pack.views), 0);

/* The pack that holds a view, the sheet of the pack, and the cell of the sheet. */
function placeOf(view) {
  let low = 0, high = packStart.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (packStart[middle] <= view) low = middle; else high = middle - 1;
  }
  const within = view - packStart[low], sheet = Math.floor(within / cells.sheet);
  const held = Math.min(cells.sheet, page.packs[low].views - sheet * cells.sheet);
  return { pack: low, sheet, cell: within % cells.sheet, rows: Math.ceil(held / cells.columns) };
}

const bytesOf = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));

/* Kept while used lately; the rest can be had again. */
class Kept {
  constructor(limit, make, drop = () => {}) {
    Object.assign(this, { limit, make, drop, known: new Map() });
  }

  get(name) {
    const found = this.known.get(name) || this.make(name);
    found.catch(() => this.known.delete(name));
    this.known.delete(name);
    this.known.set(name, found);
    if (this.known.size > this.limit) {
      const [oldest, gone] = this.known.entries().next().value;
      this.known.delete(oldest);
      this.drop(gone);
    }
    return found;
  }
}

/* Sheets: { url, image } once the picture is decoded. */
const sheets = new Kept(160, async (name) => {
  const carried = inside.sheets[name];
  const url = carried ? URL.createObjectURL(new Blob([bytesOf(carried)], { type: "image/webp" })) : `${page.folder}/${name}`;
  const image = new Image();
  image.src = url;
  await image.decode().catch(() => { throw new Error(`${name} is missing beside this page`); });
  return { url, image };
}, (gone) => gone.then(({ url }) => { if (url.startsWith("blob:")) URL.revokeObjectURL(url); }, () => {}));

const sheetOf = (place, kind) => sheets.get(`${page.packs[place.pack].name}-${kind}${place.sheet}.webp`);

const arriving = new Map();
window.randscenePack = (name, text) => arriving.get(name)?.(text);

function packText(name) {
  if (inside.packs[name]) return Promise.resolve(inside.packs[name]);
  return new Promise((resolve, reject) => {
    const script = element("script", { src: `${page.folder}/${name}.js` });
    const end = (then) => (value) => { arriving.delete(name); script.remove(); then(value); };
    arriving.set(name, end(resolve));
    script.onerror = end(() => reject(new Error(`${name}.js is missing beside this page`)));
    document.head.append(script);
  });
}

async function inflate(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

const packs = new Kept(6, async (name) => {
  const data = await inflate(bytesOf(await packText(name)));
  const length = new DataView(data.buffer).getUint32(0, true);
  const { scenes } = JSON.parse(new TextDecoder().decode(data.subarray(4, 4 + length)));
  const part = ([start, size]) => data.subarray(4 + length + start, 4 + length + start + size);
  return new Map(scenes.map((scene) => [scene.scene, { ...scene, part }]));
});

/* All that the page of a scene shows; its views in the order of the index. */
async function sceneData(scene) {
  const pack = page.packs[placeOf(firstView[scene]).pack];
  return (await packs.get(pack.name)).get(scenes.scene[scene]);
}

/* Cells (x * 64 + y) * 64 + z of all instances one after the other, from their steps. */
function cellsOf(steps, ends) {
  const found = new Uint32Array(ends.at(-1) || 0);
  let at = 0, count = 0;
  for (const end of ends) {
    let cell = 0;
    while (count < end) {
      let step = 0, shift = 0, byte;
      do {
        byte = steps[at++];
        step |= (byte & 127) << shift;
        shift += 7;
      } while (byte & 128);
      found[count++] = cell += step;
    }
  }
  return found;
}

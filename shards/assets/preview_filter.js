/* Which views pass, and the address that says so: everything the page shows is in the part behind its #. */

const HELD = 28; // degrees of elevation that show most scenes best
const FRESH = { q: "", objects: [], table: "", stacked: "", seen: 0, splits: [], order: "scene", one: false };
const ORDERS = ["scene", "hidden", "objects"];

/* The address: filters, and what is open: { tab } or { scene, view }. Words that mean nothing are left out. */
function readAddress() {
  const words = new URLSearchParams(location.hash.slice(1));
  const numbers = (name) => (words.get(name) || "").split(",").filter((word) => /^\d+$/.test(word)).map(Number);
  const choice = (name, allowed, otherwise) => (allowed.includes(words.get(name)) ? words.get(name) : otherwise);
  const filter = {
    q: words.get("q") || "",
    objects: numbers("objects"),
    table: choice("table", ["yes", "no"], ""),
    stacked: choice("stacked", ["yes", "no"], ""),
    seen: Math.min(100, numbers("seen")[0] || 0),
    splits: (words.get("split") || "").split(",").filter((name) => page.splits.includes(name)),
    order: choice("order", ORDERS, "scene"),
    one: words.get("one") === "1",
  };
  const scene = numbers("scene")[0];
  return { filter, tab: choice("tab", ["dataset"], ""), scene: sceneAt.has(scene) ? scene : null, view: numbers("view")[0] ?? null };
}

function addressOf(filter, open = {}) {
  const words = new URLSearchParams();
  const put = (name, value) => { if (value) words.set(name, value); };
  put("q", filter.q);
  put("objects", filter.objects.join(","));
  put("table", filter.table);
  put("stacked", filter.stacked);
  put("seen", filter.seen);
  put("split", filter.splits.join(","));
  put("order", filter.order === "scene" ? "" : filter.order);
  put("one", filter.one ? "1" : "");
  put("tab", open.tab);
  if (open.scene !== undefined && open.scene !== null) words.set("scene", open.scene);
  if (open.view !== undefined && open.view !== null) words.set("view", open.view);
  return `#${words.toString().replaceAll("%2C", ",")}`;
}

const activeFilters = ({ q, objects, table, stacked, seen, splits }) => [q, objects.length, table, stacked, seen, splits.length].filter(Boolean).length;

/* The view of a scene, among those given, that looks at it from a little above. */
function bestView(members) {
  let best = members[0];
  for (const view of members) if (Math.abs(views.elevation[view] - HELD) < Math.abs(views.elevation[best] - HELD)) best = view;
  return best;
}

const haystack = page.assets.map((words) => words.join(" ").toLowerCase());

/* Scenes in which every word of a search is the scene's number or part of an object's name or category. */
function sceneSearch(text) {
  const tests = text.toLowerCase().split(/\s+/).filter(Boolean).map((word) => {
    const hits = new Set();
    haystack.forEach((hay, asset) => { if (hay.includes(word)) hits.add(asset); });
    const number = /^\d+$/.test(word) ? Number(word) : null;
    return (scene) => scenes.scene[scene] === number || scenes.assets[scene].some((asset) => hits.has(asset));
  });
  return (scene) => tests.every((test) => test(scene));
}

/* Numbers of the views that pass, in the order asked for. */
function passing(filter) {
  const found = sceneSearch(filter.q), counts = new Set(filter.objects);
  const asks = (wanted, has) => !wanted || (wanted === "yes") === Boolean(has);
  const chosen = new Set(filter.splits.map((name) => page.splits.indexOf(name)));
  let result = [];
  for (let scene = 0; scene < sceneCount; scene++) {
    if (counts.size && !counts.has(scenes.assets[scene].length)) continue;
    if (!asks(filter.table, scenes.table[scene]) || !asks(filter.stacked, scenes.stacked[scene])) continue;
    if (chosen.size && !chosen.has(scenes.split[scene])) continue;
    if (!found(scene)) continue;
    const members = [];
    for (let view = firstView[scene]; view < firstView[scene + 1]; view++) if (views.seen[view] >= filter.seen) members.push(view);
    if (members.length) result.push(...(filter.one ? [bestView(members)] : members));
  }
  // The sort is stable: equal ones stay in the order of the scenes.
  if (filter.order === "hidden") result.sort((a, b) => views.seen[a] - views.seen[b]);
  if (filter.order === "objects") result.sort((a, b) => scenes.assets[sceneOf[b]].length - scenes.assets[sceneOf[a]].length);
  return result;
}

/* A scene's recipe as a tree that opens and closes. Numbers keep the digits of the text: it is never parsed. */

const TOKEN = /\s*(?:([{}[\],:])|("(?:[^"\\]|\\.)*")|(-?[\d.]+(?:[eE][+-]?\d+)?)|(true|false|null))/y;

function recipeTree(text) {
  let token;
  TOKEN.lastIndex = 0;
  const next = () => {
    token = TOKEN.exec(text);
    if (!token) throw new Error("the recipe is not JSON");
    return token;
  };
  const leaf = (kind, value) => ({ kind, value });
  const read = () => {
    if (token[2]) return leaf("text", token[2]);
    if (token[3]) return leaf("number", token[3]);
    if (token[4]) return leaf("word", token[4]);
    const close = token[1] === "{" ? "}" : "]", items = [];
    while (next()[1] !== close) {
      if (token[1] === ",") next();
      let key = null;
      if (close === "}") {
        key = token[2];
        next();
        next();
      }
      items.push([key, read()]);
    }
    return { kind: close === "}" ? "object" : "list", items };
  };
  next();
  return read();
}

const plain = ({ kind, value, items }) => {
  if (value !== undefined) return value;
  const inner = items.map(([key, item]) => (key ? `${key}: ` : "") + plain(item)).join(", ");
  return kind === "object" ? `{${inner}}` : `[${inner}]`;
};

function recipeNode(tree, name, depth = 0) {
  const label = name ? [element("span", { className: "key", textContent: name.slice(1, -1) }), ": "] : [];
  const short = tree.value === undefined && tree.kind === "list" && plain(tree).length < 88;
  if (tree.value !== undefined || short || !tree.items.length) {
    return element("div", {}, ...label, element("span", { className: tree.value === undefined ? "number" : tree.kind, textContent: plain(tree) }));
  }
  const size = tree.kind === "object" ? plural(tree.items.length, "field") : plural(tree.items.length, "item");
  const node = element("details", { open: depth === 0 }, element("summary", {}, ...label, element("span", { className: "soft", textContent: size })));
  // Filled when opened: a recipe of 150 cameras has thousands of lines.
  const fill = () => {
    if (node.open && node.children.length === 1) {
      node.append(...tree.items.map(([key, item], place) => recipeNode(item, key || `"${place}"`, depth + 1)));
    }
  };
  node.addEventListener("toggle", fill);
  fill();
  return node;
}

function showRecipe(node, text) {
  if (!text) {
    node.textContent = "This dataset has no recipe of the scene.";
    return;
  }
  const copy = element("button", { type: "button", className: "quiet", textContent: "Copy JSON" });
  copy.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text);
      copy.textContent = "Copied";
    } catch {
      copy.textContent = "Not allowed by this browser";
    }
    setTimeout(() => { copy.textContent = "Copy JSON"; }, 1500);
  });
  node.replaceChildren(copy, element("div", { className: "tree" }, recipeNode(recipeTree(text), null)));
}

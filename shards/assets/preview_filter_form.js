/* The form of the filters. Its bars show how the whole page's views are spread over what is asked for. */

class FilterForm {
  constructor(form, onChange) {
    Object.assign(this, { form, onChange, filter: { ...FRESH } });
    form.addEventListener("submit", (event) => event.preventDefault());
    this.search = element("input", { type: "search", placeholder: "object, category or scene", autocomplete: "off", spellcheck: false });
    this.search.setAttribute("aria-label", "Search objects, categories or a scene's number");
    this.search.addEventListener("input", () => this.set({ q: this.search.value.trim() }));
    form.append(element("div", { className: "search" }, this.search, element("kbd", { textContent: "/", ariaHidden: "true" })));
    this.counts = this.countBars();
    this.table = this.choice("Table", "table", "an object carries another, or the first one could");
    this.stacked = this.choice("Stacked objects", "stacked", "an object stands on another");
    this.seen = this.seenSlider();
    this.splits = page.splits.length > 1 ? this.splitTicks() : [];
    this.reset = element("button", { type: "button", className: "quiet wide", textContent: "Clear the filters" });
    this.reset.addEventListener("click", () => this.set({ ...FRESH, order: this.filter.order, one: this.filter.one }));
    form.append(this.reset);
  }

  set(change) {
    this.onChange({ ...this.filter, ...change });
  }

  group(name, hint, ...content) {
    const node = element("fieldset", {}, element("legend", { textContent: name, title: hint || "" }), ...content);
    this.form.append(node);
    return node;
  }

  countBars() {
    const totals = new Map();
    scenes.assets.forEach((members, scene) => totals.set(members.length, (totals.get(members.length) || 0) + scenes.views[scene]));
    const numbers = [...totals.keys()].sort((a, b) => a - b), most = Math.max(...totals.values());
    const bars = element("div", { className: "bars" });
    const buttons = numbers.map((number) => {
      const button = element("button", { type: "button", title: `${plural(number, "object")}: ${plural(totals.get(number), "view")}` },
        element("i"), element("span", { textContent: number }));
      button.setAttribute("aria-label", button.title);
      button.style.setProperty("--part", totals.get(number) / most);
      button.addEventListener("click", () => {
        const { objects } = this.filter;
        const next = objects.includes(number) ? objects.filter((other) => other !== number) : [...objects, number];
        this.set({ objects: next.sort((a, b) => a - b) });
      });
      bars.append(button);
      return [number, button];
    });
    this.group("Objects", "how many objects the scene holds", bars);
    return buttons;
  }

  choice(name, field, hint) {
    const row = element("div", { className: "choice" });
    const inputs = [["", "any"], ["yes", "with"], ["no", "without"]].map(([value, words]) => {
      const input = element("input", { type: "radio", name: field, value });
      input.addEventListener("change", () => this.set({ [field]: value }));
      row.append(element("label", {}, input, element("span", { textContent: words })));
      return input;
    });
    this.group(name, hint, row);
    return inputs;
  }

  seenSlider() {
    const bins = 20, totals = new Array(bins).fill(0);
    for (const part of views.seen) totals[Math.min(bins - 1, Math.floor((part * bins) / 100))]++;
    const most = Math.max(...totals);
    this.seenBars = totals.map((total, bin) => shape("rect", {
      x: bin * 5 + 0.4, width: 4.2, y: 30 - Math.max(total ? 1 : 0, (29 * total) / most), height: Math.max(total ? 1 : 0, (29 * total) / most),
    }));
    const input = element("input", { type: "range", min: 0, max: 100, step: 5 });
    input.setAttribute("aria-label", "Every object seen at least, percent");
    this.seenWords = element("output");
    input.addEventListener("input", () => this.set({ seen: Number(input.value) }));
    this.group("Visibility", "the smallest share of its pixels that any object shows",
      shape("svg", { viewBox: "0 0 100 30", preserveAspectRatio: "none", "aria-hidden": "true" }, ...this.seenBars), input, this.seenWords);
    return input;
  }

  splitTicks() {
    const totals = page.splits.map(() => 0), row = element("div", { className: "ticks" });
    scenes.split.forEach((split, scene) => { totals[split] += scenes.views[scene]; });
    const inputs = page.splits.map((name, split) => {
      const input = element("input", { type: "checkbox", name: "split", value: name });
      input.addEventListener("change", () => this.set({ splits: inputs.filter((other) => other.checked).map((other) => other.value) }));
      row.append(element("label", {}, input, element("span", { textContent: name }), element("small", { textContent: totals[split].toLocaleString("en") })));
      return input;
    });
    this.group("Split", "", row);
    return inputs;
  }

  /* Show a filter without telling anybody. */
  show(filter) {
    this.filter = filter;
    if (this.search.value.trim() !== filter.q) this.search.value = filter.q;
    for (const [number, button] of this.counts) button.setAttribute("aria-pressed", filter.objects.includes(number));
    for (const field of ["table", "stacked"]) for (const input of this[field]) input.checked = input.value === filter[field];
    for (const input of this.splits) input.checked = filter.splits.includes(input.value);
    this.seen.value = filter.seen;
    this.seenWords.textContent = filter.seen ? `every object at least ${filter.seen} % seen` : "any, hidden ones too";
    this.seenBars.forEach((bar, bin) => bar.classList.toggle("out", bin * 5 < filter.seen));
    this.reset.disabled = !activeFilters(filter);
  }
}

/* The layout from above. */

function drawPlan(scene, onCamera, onPoint) {
  const { plan, footprints, instances, views } = scene;
  const region = plan.region, reach = region * 0.63;
  const svg = shape("svg", { viewBox: `${-reach} ${-reach} ${2 * reach} ${2 * reach}`, role: "img", "aria-label": "Layout from above" });
  const world = shape("g", { transform: "scale(1,-1)" });
  const thin = reach / 210;
  world.append(shape("rect", { class: "region", x: -region / 2, y: -region / 2, width: region, height: region, rx: reach / 60, "stroke-width": thin }));
  const groups = instances.map((_, number) => {
    const group = shape("g", {});
    group.addEventListener("pointerenter", () => onPoint(number + 1));
    group.addEventListener("pointerleave", () => onPoint(0));
    return group;
  });
  plan.disc_instances.forEach((id, place) => {
    const [x, y] = plan.centres[place], radius = plan.radii[place], tint = colour(id);
    groups[id - 1].append(
      shape("circle", { class: "gap", cx: x, cy: y, r: radius + plan.gap / 2, stroke: tint, "stroke-width": thin, "stroke-dasharray": `${3 * thin} ${3 * thin}` }),
      shape("circle", { class: "disc", cx: x, cy: y, r: radius, fill: tint, stroke: tint, "stroke-width": 1.5 * thin }),
    );
  });
  const matrix = `matrix(${footprints.matrix.join(" ")})`;
  // Stacked objects come after what carries them.
  const order = instances.map((_, number) => number).sort((a, b) => (instances[a].parent !== null) - (instances[b].parent !== null));
  for (const number of order) {
    const stacked = instances[number].parent !== null;
    groups[number].append(
      shape("path", {
        class: "foot", d: footprints.paths[number], transform: matrix, fill: colour(number + 1),
        ...(stacked ? { style: "fill-opacity:1;stroke:var(--card);stroke-width:2px", "vector-effect": "non-scaling-stroke", "paint-order": "stroke" } : {}),
      }),
    );
  }
  world.append(...order.map((number) => groups[number]));
  svg.append(world);

  const centre = plan.look_at;
  // Cameras stand far outside; the plan shows their directions along the region's border.
  const at = (azimuth) => {
    const [x, y] = [Math.cos((azimuth * Math.PI) / 180), -Math.sin((azimuth * Math.PI) / 180)];
    const distance = (region * 0.555) / Math.max(Math.abs(x), Math.abs(y));
    return [x * distance, y * distance];
  };
  const ray = shape("line", { class: "ray", x2: centre[0], y2: -centre[1], "stroke-width": 1.5 * thin });
  svg.append(ray);
  const cameras = plan.cameras.map((azimuth, number) => {
    const shown = views.findIndex((view) => view.view === number), [x, y] = at(azimuth);
    const tick = shape("path", {
      class: shown < 0 ? "camera lost" : "camera", d: "M-1 -1.15 L1.3 0 L-1 1.15z", "stroke-width": 0.35,
      transform: `translate(${x} ${y}) rotate(${180 - azimuth}) scale(${reach / 48})`,
    });
    tick.append(shape("title", {}, `view ${pad(number, 3)}${shown < 0 ? ": not shown here" : ""}`));
    if (shown >= 0) tick.addEventListener("click", () => onCamera(shown));
    svg.append(tick);
    return tick;
  });
  const labels = order.map((number) => {
    const box = footprintCentre(footprints, number);
    const stacked = instances[number].parent !== null;
    // What carries something writes its number near its edge, out of the way of what it carries.
    const carries = instances.some((item) => item.parent === number + 1);
    const place = plan.disc_instances.indexOf(number + 1);
    const down = carries && place >= 0 ? 0.68 * plan.radii[place] : 0;
    const label = shape("text", { x: box[0], y: -box[1] + down, "font-size": stacked ? reach / 17 : reach / 13, "stroke-width": reach / 60 });
    label.textContent = stacked ? `${number + 1} on ${instances[number].parent}` : number + 1;
    label.style.pointerEvents = "none";
    return label;
  });
  svg.append(...labels);
  const metre = region > 6 ? 2 : region > 2.4 ? 1 : 0.5;
  const corner = [-region / 2, reach * 0.97];
  svg.append(shape("line", { class: "scale", x1: corner[0], x2: corner[0] + metre, y1: corner[1], y2: corner[1], "stroke-width": 2 * thin }));
  const units = shape("text", { class: "units", x: corner[0] + metre + reach / 12, y: corner[1] - reach / 200, "font-size": reach / 22 });
  units.textContent = `${metre} m`;
  svg.append(units);

  return {
    svg,
    missing: cameras.length > views.length,
    select(index) {
      const { view, direction: [azimuth] } = views[index], [x, y] = at(azimuth);
      cameras.forEach((tick, number) => tick.classList.toggle("now", number === view));
      ray.setAttribute("x1", x);
      ray.setAttribute("y1", y);
    },
    highlight(id) {
      groups.forEach((group, number) => group.classList.toggle("dim", Boolean(id) && number + 1 !== id));
    },
  };
}

/* The middle of a footprint, from the numbers of its path, in metres. */
function footprintCentre({ matrix, paths }, number) {
  const starts = [...paths[number].matchAll(/[ML](-?[\d.e-]+) (-?[\d.e-]+)(?:h(\d+))?/g)].map((m) => [+m[1], +m[2], +(m[3] || 0)]);
  let weight = 0, x = 0, y = 0;
  for (const [a, b, run] of starts) {
    const w = run || 1;
    weight += w;
    x += w * (a + run / 2);
    y += w * (b + (run ? 0.5 : 0));
  }
  if (!weight) return [0, 0];
  [x, y] = [x / weight, y / weight];
  return [matrix[0] * x + matrix[2] * y + matrix[4], matrix[1] * x + matrix[3] * y + matrix[5]];
}

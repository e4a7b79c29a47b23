// A function a panel: it draws what the filters leave of the data, and returns how much that was.

const data = JSON.parse(document.getElementById("data").textContent);
const ARMS = {
  base: { title: "alone", colour: "c0", dash: "d0", kind: "square" },
  cdsa: { title: "corrected", colour: "c1", dash: "d1", kind: "circle" },
  without_a1: { title: "without a1", colour: "c2", dash: "d2", kind: "down" },
  without_a2: { title: "without a2", colour: "c3", dash: "d3", kind: "up" },
  other: { title: "other", colour: "c4", dash: "d3", kind: "diamond" },
};
const unique = (values) => [...new Set(values)];
const compare = (a, b) => a.localeCompare(b, "en", { numeric: true });
const sorted = (values) => unique(values).sort(compare);
const alone = (baseline) => baseline.split("+")[0]; // iql of iql+noise(0.3)
const tasks = sorted([...data.evaluations, ...data.fits].map((one) => one.task));
const chosen = {};

const isShown = (one) => (!chosen.task || one.task === chosen.task) && (one.newest || !chosen.newest);
const evaluations = () =>
  data.evaluations.filter((one) => isShown(one) && (!chosen.baseline || one.baseline === chosen.baseline));
// A corrector's fit belongs to every baseline.
const fits = () =>
  data.fits.filter((fit) => isShown(fit) && (!chosen.baseline || [alone(chosen.baseline), "cdsa"].includes(fit.name)));

/** What the seed filter leaves of an arm: {statistics, curve, seeds}; null where it has no such seed. */
function view(one, arm) {
  if (!chosen.seed) return { statistics: arm.statistics, curve: arm.curve, seeds: arm.seeds };
  const index = one.seeds.map(String).indexOf(chosen.seed);
  if (index < 0 || index >= arm.seeds.length) return null;
  return { statistics: arm.seeds[index], curve: arm.curves[index], seeds: [] };
}

function armsOf(one, parts) {
  const wanted = one.arms.filter((arm) => parts.includes(arm.part) && (!chosen.arm || arm.part === chosen.arm));
  return wanted.map((arm) => ({ arm, look: ARMS[arm.part], ...view(one, arm) })).filter((shown) => shown.statistics);
}

function label(one, withTask = true) {
  const details = [one.details, chosen.newest ? "" : one.run.split("/").pop()].filter(Boolean).join(", ");
  return `${withTask ? `${one.task} · ` : ""}${one.baseline}${details ? ` (${details})` : ""}`;
}

const plainNumber = (value) => value.toLocaleString("en", { maximumSignificantDigits: 4 });
const percent = (value) => `${Number((100 * value).toPrecision(3))} %`;

function dot({ look, statistics, seeds }, key, interval) {
  const [low, high] = interval ? [statistics.low ?? null, statistics.high ?? null] : [null, null];
  const each = seeds.map((seed) => seed[key]).filter((value) => typeof value === "number");
  return { title: look.title, kind: look.kind, colour: look.colour, value: statistics[key], low, high, seeds: each };
}

/** Dot charts of one statistic: one chart for all normalised scores, one for each task's returns. */
function dots(parent, found, parts, key, how) {
  const groups = new Map();
  const rows = [];
  for (const one of found) {
    const shown = armsOf(one, parts).filter(({ statistics }) => typeof statistics[key] === "number");
    if (!shown.length) continue;
    const unit = how.unit || (one.scaled ? "normalised score" : `return on ${one.task}`);
    const marks = shown.map((arm) => dot(arm, key, how.interval));
    for (const { arm, statistics } of shown) {
      const [low, high] = how.interval ? [statistics.low, statistics.high] : [null, null];
      const verdict = how.verdict && arm.part === "cdsa" ? one.verdict : "";
      rows.push([one.task, one.baseline, one.details, arm.name, statistics[key], low, high, verdict]);
    }
    const said = how.verdict && one.verdict && !chosen.arm && !chosen.seed ? `: ${one.verdict}` : "";
    if (!groups.has(unit)) groups.set(unit, []);
    groups.get(unit).push({ label: label(one, !unit.endsWith(one.task)) + said, marks });
  }
  const charts = html("div", { class: "charts wide" }, parent);
  for (const unit of sorted([...groups.keys()])) {
    const list = groups.get(unit).sort((a, b) => compare(a.label, b.label));
    dotChart(charts, how.caption ? `${how.caption}, ${unit}` : unit, { format: how.format || plainNumber, rows: list });
  }
  const header = ["task", "baseline", "details", "arm", how.caption || "mean", "95 % low", "95 % high", "verdict"];
  if (rows.length) numbers(parent, header, rows);
  return rows.length;
}

/** How those of `parts` look that an evaluation has; and the lines of a task. */
function looks(parts) {
  const there = new Set(evaluations().flatMap((one) => one.arms.map((arm) => arm.part)));
  return parts.filter((part) => there.has(part) && (!chosen.arm || part === chosen.arm)).map((part) => ARMS[part]);
}
function lookOf(task) {
  const index = tasks.indexOf(task);
  return { colour: `c${index % 7}`, dash: index < 7 ? "d1" : "d0" };
}
const ALL = Object.keys(ARMS);
const BOTH = ["base", "cdsa", "other"];

function losses(parent) {
  const facets = new Map();
  const rows = [];
  for (const fit of fits()) {
    for (const [name, curve] of Object.entries(fit.curves)) {
      for (const [seed, values] of Object.entries(curve.lines)) {
        if (chosen.seed && seed !== chosen.seed) continue;
        const points = curve.steps.map((step, k) => [step, values[k]]).filter((point) => point[1] !== null);
        if (!points.length) continue;
        const who = seed === "mean" ? "mean of the seeds" : `seed ${seed}`;
        const facet = `${fit.name}: ${name.replaceAll("_", " ")}`;
        if (!facets.has(facet)) facets.set(facet, []);
        const thin = seed !== "mean" && !chosen.seed;
        facets.get(facet).push({ title: `${fit.task}, ${who}`, ...lookOf(fit.task), thin, points });
        rows.push([fit.task, fit.name, fit.run.split("/").pop(), name, who, points.at(-1)[0], points.at(-1)[1]]);
      }
    }
  }
  if (!rows.length) return 0;
  const shown = unique(rows.map((row) => row[0]));
  const legends = tasks.filter((task) => shown.includes(task)).map((task) => ({ title: task, ...lookOf(task) }));
  legend(parent, legends);
  const charts = html("div", { class: "charts" }, parent);
  for (const facet of sorted([...facets.keys()])) {
    const lines = facets.get(facet).sort((a, b) => b.thin - a.thin);
    const [low, high] = bounds(lines.flatMap((line) => line.points.map((point) => point[1])));
    const log = facet.endsWith("loss") && low > 0 && high > 30 * low;
    lineChart(charts, log ? `${facet} (logarithmic)` : facet, { x: "gradient steps", y: facet, log, lines });
  }
  numbers(parent, ["task", "fit", "run", "loss", "of", "last step", "value"], rows);
  return rows.length;
}

function scores(parent) {
  legend(parent, looks(BOTH));
  const count = dots(parent, evaluations(), BOTH, "score", { interval: true, verdict: true });
  const words = html("ul", {}, folded(parent, "In words"));
  for (const one of evaluations()) html("li", {}, words, one.sentence);
  return count;
}

function varCurves(parent) {
  const rows = [];
  legend(parent, looks(ALL));
  const charts = html("div", { class: "charts" }, parent);
  for (const one of evaluations().sort((a, b) => compare(label(a), label(b)))) {
    const lines = armsOf(one, ALL).map(({ arm, look, curve }) => {
      rows.push([one.task, one.baseline, one.details, arm.name, ...[5, 10, 25, 50, 75].map((q) => curve[q])]);
      return {
        title: arm.name,
        colour: look.colour,
        dash: look.dash,
        points: curve.map((value, q) => [q, value]).filter((point) => point[1] !== null),
      };
    });
    if (lines.length)
      lineChart(charts, label(one), {
        x: "percentile of episodes, worst first",
        y: one.scaled ? "normalised score" : "return",
        xRange: [0, 100],
        lines,
      });
  }
  if (rows.length) numbers(parent, ["task", "baseline", "details", "arm", "5 %", "10 %", "25 %", "50 %", "75 %"], rows);
  return rows.length;
}

function cvar(parent) {
  legend(parent, looks(BOTH));
  return dots(parent, evaluations(), BOTH, "cvar_10", { caption: "CVaR 10 %" });
}

function violations(parent) {
  const risky = evaluations().filter((one) =>
    one.arms.some((arm) => typeof arm.statistics.violation_rate === "number"),
  );
  if (!risky.length) return 0;
  legend(parent, looks(ALL));
  const share = dots(parent, risky, ALL, "violation_rate", {
    unit: "episodes that entered a risk region",
    format: percent,
  });
  return share + dots(parent, risky, ALL, "cost", { unit: "cost per episode" });
}

function coefficients(parent) {
  const found = evaluations().filter((one) => one.coefficients);
  if (!found.length) return 0;
  const charts = html("div", { class: "charts" }, parent);
  for (const key of ["k1", "k2"]) {
    const rows = found
      .filter((one) => typeof one.coefficients[key] === "number")
      .map((one) => ({
        label: label(one),
        marks: [
          { title: key, kind: "circle", colour: "c1", value: one.coefficients[key], low: null, high: null, seeds: [] },
        ],
      }));
    rows.sort((a, b) => compare(a.label, b.label));
    if (rows.length) dotChart(charts, key, { format: plainNumber, rows });
  }
  const keys = unique(found.flatMap((one) => Object.keys(one.coefficients)));
  const text = (value) =>
    typeof value === "number" ? value : value === null || value === undefined ? "" : String(value);
  numbers(
    parent,
    ["task", "baseline", "details", ...keys],
    found.map((one) => [one.task, one.baseline, one.details, ...keys.map((key) => text(one.coefficients[key]))]),
  );
  return found.length;
}

function ablation(parent) {
  const found = evaluations().filter((one) => one.arms.some((arm) => arm.part.startsWith("without")));
  if (!found.length) return 0;
  legend(parent, looks(ALL));
  return dots(parent, found, ALL, "score", { interval: true });
}

function pictures(parent) {
  const runs = new Set(evaluations().map((one) => one.run));
  const found = data.pictures.filter((picture) => runs.has(picture.run));
  const charts = html("div", { class: "charts" }, parent);
  for (const picture of found) {
    const figure = html("figure", {}, charts);
    const caption = `${picture.task} · ${picture.baseline}: ${picture.name}`;
    html("figcaption", {}, figure, caption);
    html("img", { src: picture.source, alt: caption, class: "mark" }, figure);
  }
  return found.length;
}

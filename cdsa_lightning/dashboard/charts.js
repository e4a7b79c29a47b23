"use strict";
// Two kinds of charts in plain SVG. Names reach the page as text nodes and attribute values alone.

const SVG = "http://www.w3.org/2000/svg";
const MARKERS = {
  square: "M-5,-5H5V5H-5Z",
  down: "M-6,-5H6L0,6Z",
  up: "M-6,5H6L0,-6Z",
  circle: "M-5,0A5,5 0 1 0 5,0A5,5 0 1 0 -5,0Z",
  diamond: "M0,-6L6,0L0,6L-6,0Z",
};

function html(name, attributes, parent, text) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  if (parent) parent.append(made);
  return made;
}

function svg(name, attributes, parent, text) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  if (parent) parent.append(made);
  return made;
}

/** A number as people read it: at most four digits that count. */
function short(value) {
  if (value === null || value === undefined) return "";
  if (value !== 0 && (Math.abs(value) < 1e-4 || Math.abs(value) >= 1e6)) {
    return value.toExponential(1).replace(".0e", "e");
  }
  return String(Number(value.toPrecision(4)));
}

/** Smallest and largest; values may be more than a function takes arguments. */
function bounds(values) {
  return values.reduce(([low, high], value) => [Math.min(low, value), Math.max(high, value)], [Infinity, -Infinity]);
}

function extent(values, padding) {
  let [low, high] = bounds(values);
  if (low === high) [low, high] = [low - (Math.abs(low) || 1) * 0.1, high + (Math.abs(high) || 1) * 0.1];
  const more = (high - low) * padding;
  return [low - more, high + more];
}

/** Round numbers between `low` and `high`, up to `count` of them. */
function ticks(low, high, count) {
  const raw = (high - low) / Math.max(1, count);
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= raw * 0.999);
  const found = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + step * 1e-9; k++) {
    found.push(Number((k * step).toPrecision(12)));
  }
  return found;
}

/** Powers of ten between `low` and `high`, with their twos and fives where there is room. */
function powers(low, high, count) {
  const found = [];
  for (let k = Math.floor(Math.log10(low)); k <= Math.ceil(Math.log10(high)); k++) {
    for (const factor of [1, 2, 5]) found.push(Number(`${factor}e${k}`));
  }
  const inside = found.filter((value) => value >= low * 0.999 && value <= high * 1.001);
  if (inside.length <= count) return inside;
  const whole = inside.filter((value) => Number.isInteger(Math.log10(value)));
  return whole.filter((_, k) => k % Math.ceil(whole.length / count) === 0);
}

/** From data to pixels, with its ticks; logarithmic where asked. */
function axis([low, high], [from, to], count, log) {
  const bend = log ? Math.log10 : (value) => value;
  const [a, b] = [bend(low), bend(high)];
  const at = (value) => from + ((bend(value) - a) / (b - a)) * (to - from);
  return { at, ticks: (log ? powers : ticks)(low, high, count) };
}

const pencil = document.createElement("canvas").getContext("2d");
function textWidth(text) {
  pencil.font = "12px system-ui, sans-serif";
  return pencil.measureText(text).width;
}

function cut(text, room) {
  if (textWidth(text) <= room) return text;
  let end = text.length;
  while (end > 1 && textWidth(`${text.slice(0, end)}…`) > room) end--;
  return `${text.slice(0, end)}…`;
}

function marker(parent, kind, colour, x, y, title, classes = "mark") {
  const made = svg(
    "path",
    { d: MARKERS[kind], class: `${classes} fill ${colour}`, transform: `translate(${x},${y})` },
    parent,
  );
  svg("title", {}, made, title);
}

/** Lines over a common x axis: {x, y, log, xRange, lines: [{title, colour, dash, thin, points: [[x, y]]}]}. */
function lineChart(parent, caption, chart) {
  const figure = html("figure", {}, parent);
  html("figcaption", {}, figure, caption);
  const [width, height] = [figure.clientWidth, 210];
  const root = svg(
    "svg",
    { width, height, role: "img", "aria-label": `${caption}: ${chart.y} over ${chart.x}` },
    figure,
  );
  const ys = chart.lines.flatMap((line) => line.points.map((point) => point[1]));
  const xs = chart.lines.flatMap((line) => line.points.map((point) => point[0]));
  const range = extent(ys, 0);
  const y = axis(chart.log ? range : extent(ys, 0.04), [height - 36, 6], 6, chart.log);
  const left = 10 + Math.max(...y.ticks.map((value) => textWidth(short(value))));
  const x = axis(chart.xRange || extent(xs, 0), [left, width - 8], Math.max(2, Math.floor(width / 60)), false);
  for (const value of y.ticks) {
    svg("line", { x1: left, x2: width - 8, y1: y.at(value), y2: y.at(value), class: "grid" }, root);
    svg("text", { x: left - 5, y: y.at(value) + 4, "text-anchor": "end", class: "tick" }, root, short(value));
  }
  for (const value of x.ticks) {
    const anchor = x.at(value) > width - 24 ? "end" : "middle";
    svg(
      "text",
      { x: anchor === "end" ? width : x.at(value), y: height - 20, "text-anchor": anchor, class: "tick" },
      root,
      value.toLocaleString("en"),
    );
  }
  svg("text", { x: (left + width) / 2, y: height - 4, "text-anchor": "middle", class: "tick" }, root, chart.x);
  for (const line of chart.lines) {
    const d = line.points.map(([a, b], k) => `${k ? "L" : "M"}${x.at(a).toFixed(1)},${y.at(b).toFixed(1)}`).join("");
    const made = svg("path", { d, class: `mark stroke ${line.thin ? "thin" : line.dash} ${line.colour}` }, root);
    svg("title", {}, made, line.title);
  }
}

/** A row a label, values over an axis that the caption names: {format, rows: [{label, marks: [{title, kind, colour, value, low, high, seeds}]}]}. */
function dotChart(parent, caption, chart) {
  const figure = html("figure", {}, parent);
  html("figcaption", {}, figure, caption);
  const width = figure.clientWidth;
  const longest = Math.max(...chart.rows.map((row) => textWidth(row.label)));
  const above = longest > width * 0.36; // on a narrow screen labels stand above their rows
  const left = above ? 12 : longest + 22;
  const heights = chart.rows.map((row) => 12 + 13 * row.marks.length + (above ? 15 : 0));
  const bottom = heights.reduce((sum, height) => sum + height, 6);
  const root = svg("svg", { width, height: bottom + 22, role: "img", "aria-label": caption }, figure);
  const values = chart.rows.flatMap((row) =>
    row.marks.flatMap((mark) => [mark.value, mark.low, mark.high, ...mark.seeds]),
  );
  const x = axis(
    extent(
      values.filter((value) => value !== null),
      0.04,
    ),
    [left, width - 16],
    Math.max(2, Math.floor((width - left) / 60)),
    false,
  );
  for (const value of x.ticks) {
    svg("line", { x1: x.at(value), x2: x.at(value), y1: 0, y2: bottom, class: "grid" }, root);
    svg("text", { x: x.at(value), y: bottom + 15, "text-anchor": "middle", class: "tick" }, root, chart.format(value));
  }
  let top = 4;
  chart.rows.forEach((row, index) => {
    const middle = top + heights[index] / 2 + 4;
    const label = svg(
      "text",
      above ? { x: 0, y: top + 13 } : { x: left - 12, y: middle, "text-anchor": "end" },
      root,
      above ? cut(row.label, width) : row.label,
    );
    if (above) svg("title", {}, label, row.label);
    row.marks.forEach((mark, k) => {
      const y = top + (above ? 15 : 0) + 12 + 13 * k;
      if (mark.low !== null && mark.high !== null) {
        svg("line", { x1: x.at(mark.low), x2: x.at(mark.high), y1: y, y2: y, class: `stroke ${mark.colour}` }, root);
      }
      for (const seed of mark.seeds)
        svg("circle", { cx: x.at(seed), cy: y, r: 2.5, class: `seed ${mark.colour}` }, root);
      marker(
        root,
        mark.kind,
        mark.colour,
        x.at(mark.value),
        y,
        `${row.label}, ${mark.title}: ${chart.format(mark.value)}`,
      );
    });
    top += heights[index];
  });
}

/** What is folded away under a word. */
function folded(parent, title) {
  const details = html("details", {}, parent);
  html("summary", {}, details, title);
  return details;
}

/** A table that is folded away beneath its charts. */
function numbers(parent, header, rows) {
  const table = html("table", {}, html("div", { class: "scroll" }, folded(parent, "Numbers")));
  const top = html("tr", {}, html("thead", {}, table));
  for (const name of header) html("th", { scope: "col" }, top, name);
  const body = html("tbody", {}, table);
  for (const row of rows) {
    const line = html("tr", {}, body);
    for (const cell of row) {
      const isNumber = typeof cell === "number";
      html("td", isNumber ? { class: "number" } : {}, line, isNumber ? short(cell) : (cell ?? ""));
    }
  }
}

function legend(parent, entries) {
  const list = html("ul", { class: "legend" }, parent);
  for (const entry of entries) {
    const item = html("li", {}, list);
    const root = svg("svg", { width: 30, height: 14, "aria-hidden": "true" }, item);
    svg("line", { x1: 0, x2: 30, y1: 7, y2: 7, class: `stroke ${entry.dash || ""} ${entry.colour}` }, root);
    if (entry.kind) marker(root, entry.kind, entry.colour, 15, 7, entry.title, "");
    html("span", {}, item, entry.title);
  }
}

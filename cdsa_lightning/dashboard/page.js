// What is shown: filters above, then a section for each entry of data.panels.

function seedsOf(fit) {
  return unique(
    Object.values(fit.curves).flatMap((curve) => Object.keys(curve.lines).filter((name) => name !== "mean")),
  );
}

const FILTERS = {
  task: ["Task", tasks],
  baseline: [
    "Baseline",
    sorted([
      ...data.evaluations.map((one) => one.baseline),
      ...data.fits.map((fit) => fit.name).filter((name) => name !== "cdsa"),
    ]),
  ],
  arm: [
    "Arm",
    Object.keys(ARMS).filter((part) => data.evaluations.some((one) => one.arms.some((arm) => arm.part === part))),
  ],
  seed: [
    "Training seed",
    sorted([...data.evaluations.flatMap((one) => one.seeds.map(String)), ...data.fits.flatMap(seedsOf)]),
  ],
};

const DRAW = { losses, scores, var: varCurves, cvar, violations, coefficients, ablation, pictures };

function draw() {
  const main = document.querySelector("main");
  const name = (details) => `${details.closest("section").id} ${details.firstChild.textContent}`;
  const open = new Set([...main.querySelectorAll("details[open]")].map(name));
  main.replaceChildren();
  if (data.problems.length) {
    const section = html("section", { id: "problems" }, main);
    html("h2", {}, section, "Could not be shown");
    const list = html("ul", {}, section);
    for (const problem of data.problems) html("li", {}, list, problem);
  }
  for (const panel of data.panels) {
    const section = html("section", { id: panel.id }, main);
    html("h2", {}, section, panel.title);
    html("p", { class: "about" }, section, panel.about);
    const body = html("div", {}, section);
    if (!DRAW[panel.id](body)) {
      body.replaceChildren();
      html("p", { class: "empty" }, body, "Nothing here for this choice.");
    }
    for (const details of section.querySelectorAll("details")) details.open = open.has(name(details));
  }
  document.getElementById("count").textContent =
    `${evaluations().length} of ${data.evaluations.length} evaluations and ${fits().length} of ${data.fits.length} fits are shown.`;
}

function filters() {
  const form = document.getElementById("filters");
  form.addEventListener("submit", (event) => event.preventDefault());
  for (const [name, [title, options]] of Object.entries(FILTERS)) {
    const select = html("select", { name }, html("label", {}, form, title));
    html("option", { value: "" }, select, "all");
    for (const option of options)
      html("option", { value: option }, select, name === "arm" ? ARMS[option].title : option);
    select.addEventListener("change", () => {
      chosen[name] = select.value;
      draw();
    });
  }
  const check = html("label", { class: "check" }, form);
  const box = html("input", { type: "checkbox", name: "newest" }, check);
  check.append("only the newest of each");
  chosen.newest = box.checked = true;
  box.addEventListener("change", () => {
    chosen.newest = box.checked;
    draw();
  });
}

filters();
draw();
let width = window.innerWidth;
window.addEventListener("resize", () => {
  if (window.innerWidth !== width) requestAnimationFrame(draw);
  width = window.innerWidth;
});

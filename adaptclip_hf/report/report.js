"use strict";
const run = JSON.parse(document.getElementById("run").textContent);
const by = (id) => document.getElementById(id);
const cards = [...document.querySelectorAll(".card")];
const places = new Map(run.cards.map((card, number) => [card.path, number]));
const wait = { show: "all", threshold: null, drawn: 0, large: null };
const decisions = new Map(); // card's number -> {verdict, reviewer, time}
const undone = []; // [card's number, what was decided before] of each decision, the last one last

// ---------------------------------------------------------------- figures

/** Doubles in ascending order, of base64. */
function unpacked(text) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const view = new DataView(bytes.buffer);
  return Float64Array.from({ length: bytes.length / 8 }, (_, index) => view.getFloat64(8 * index, true));
}

/** How many of some ascending scores are higher than a threshold. */
function above(scores, threshold) {
  let low = 0;
  let high = scores.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (scores[middle] > threshold) high = middle;
    else low = middle + 1;
  }
  return scores.length - low;
}

/** The probability of at most `count` hits in `total` tries. */
function atMost(count, total, share) {
  if (count >= total || share <= 0) return 1;
  if (share >= 1) return 0;
  let term = total * Math.log1p(-share); // logarithm of the probability of no hit
  let sum = Math.exp(term);
  for (let hits = 1; hits <= count; hits++) {
    term += Math.log((total - hits + 1) / hits) + Math.log(share) - Math.log1p(-share);
    sum += Math.exp(term);
  }
  return Math.min(sum, 1);
}

/** The exact 95 % interval of a share (Clopper and Pearson). */
function interval(count, total) {
  const where = (isBelow) => {
    let low = 0;
    let high = 1;
    for (let step = 0; step < 60; step++) {
      const middle = (low + high) / 2;
      if (isBelow(middle)) low = middle;
      else high = middle;
    }
    return (low + high) / 2;
  };
  const lower = count === 0 ? 0 : where((share) => 1 - atMost(count - 1, total, share) < 0.025);
  const upper = count === total ? 1 : where((share) => atMost(count, total, share) > 0.025);
  return [lower, upper];
}

const percent = (share) => `${(100 * share).toFixed(share > 0 && share < 0.1 ? 1 : 0)} %`;
const shareOf = (count, total) => {
  const [low, high] = interval(count, total);
  return `${count} of ${total} (${percent(count / total)}, 95 % interval ${percent(low)} to ${percent(high)})`;
};

// ---------------------------------------------------------------- labels, and another threshold

const scores = Object.fromEntries(Object.entries(run.scores).map(([label, text]) => [label, unpacked(text)]));
const calibration = unpacked(run.calibration);
const ownLabels = cards.map((card) => card.dataset.label);

function labelOf(number) {
  if (wait.threshold === null || ownLabels[number] === "not inspectable") return ownLabels[number];
  return run.cards[number].score > wait.threshold ? "anomalous" : "normal";
}

/** {label: ascending scores of each of its parts} at the threshold that is tried. */
function groups() {
  const found = {};
  const add = (label, some) => some.length && (found[label] ??= []).push(some);
  for (const [label, some] of Object.entries(scores)) {
    if (wait.threshold === null || label === "not inspectable") add(label, some);
    else {
      const cut = some.length - above(some, wait.threshold);
      add("normal", some.subarray(0, cut));
      add("anomalous", some.subarray(cut));
    }
  }
  return found;
}

const sizeOf = (parts) => (parts ?? []).reduce((sum, part) => sum + part.length, 0);

function drawHistogram(found) {
  const drawing = document.querySelector("svg.histogram");
  const tallest = Number(drawing.dataset.tallest);
  const bars = 40;
  const bottoms = new Array(bars).fill(200);
  const made = [];
  for (const label of ["normal", "anomalous", "not inspectable", "scored"]) {
    const heights = new Array(bars).fill(0);
    for (const part of found[label] ?? []) for (const score of part)
      heights[Math.min(bars - 1, Math.floor((score / run.end) * bars))] += 200 / tallest;
    heights.forEach((height, index) => {
      if (!height) return;
      bottoms[index] -= height;
      const bar = document.createElementNS("http://www.w3.org/2000/svg", "rect");
      const values = { class: `bar-${label.replace(" ", "-")}`, x: index * 18, y: bottoms[index], width: 17, height };
      for (const [name, value] of Object.entries(values)) bar.setAttribute(name, value);
      made.push(bar);
    });
  }
  drawing.querySelector(".bars").replaceChildren(...made);
  const threshold = wait.threshold ?? run.threshold;
  const mark = drawing.querySelector(".threshold");
  mark.setAttribute("visibility", threshold === null ? "hidden" : "visible");
  if (threshold === null) return;
  const x = (720 * threshold) / run.end;
  const [line, text] = mark.children;
  line.setAttribute("x1", x);
  line.setAttribute("x2", x);
  text.setAttribute("x", x);
  text.setAttribute("text-anchor", x > 600 ? "end" : x > 100 ? "middle" : "start");
  text.textContent = `threshold ${threshold.toFixed(3)}`;
}

/** The false-alarm rate on average over draws of calibration photos. */
const rateAt = (threshold) => (above(calibration, threshold) + 1) / (calibration.length + 1);

function tellThreshold(found) {
  const trying = wait.threshold !== null;
  const threshold = wait.threshold ?? run.threshold;
  const anomalous = sizeOf(found.anomalous);
  let words = "";
  if (threshold !== null) {
    words = `${trying ? "At" : "The run's own threshold is"} ${threshold.toFixed(4)}${trying ? "" : ":"} ` +
      `${anomalous} anomalous, ${sizeOf(found.normal)} normal`;
    if (trying && run.threshold !== null) words += ` (with the run's own, ${run.threshold.toFixed(4)}: ${(scores.anomalous ?? []).length} anomalous)`;
    if (calibration.length) {
      const higher = above(calibration, threshold);
      words += `. Of the ${calibration.length} good photos that calibrated ${higher} ${higher === 1 ? "lies" : "lie"} above: ` +
        `false alarms at about ${percent(rateAt(threshold))} of good parts on average`;
    }
    words += ".";
  }
  by("trial").textContent = words;
  by("permanent").hidden = !trying;
  by("value").textContent = !trying ? "" : calibration.length ? `${(Math.ceil(1e4 * rateAt(threshold)) / 100).toFixed(2)}%` : threshold.toFixed(4);
  by("slider").setAttribute("aria-valuetext", words || "no threshold");
}

function showLabels() {
  cards.forEach((card, number) => {
    const label = labelOf(number);
    card.dataset.label = label;
    const badge = card.querySelector(".badge.label");
    badge.className = `badge label ${label.replace(" ", "-")}`;
    badge.textContent = label === "scored" ? "" : label;
  });
  const found = groups();
  for (const element of document.querySelectorAll("[data-count]"))
    element.textContent = sizeOf(found[element.dataset.count]);
  if (by("slider")) {
    drawHistogram(found);
    tellThreshold(found);
  }
}

/** Tries a threshold, or with null goes back to what the run decided. */
function tryThreshold(threshold) {
  wait.threshold = threshold;
  by("own").disabled = threshold === null;
  const shown = threshold ?? run.threshold;
  by("slider").value = shown ?? run.end;
  if (document.activeElement !== by("typed")) by("typed").value = shown === null ? "" : Number(shown.toFixed(4));
  showLabels();
  show();
  tell("adaptclip-threshold", { threshold });
}

if (by("slider")) {
  by("slider").max = run.end;
  by("slider").step = 10 ** Math.floor(Math.log10(run.end / 200));
  by("slider").addEventListener("input", (event) => tryThreshold(Number(Number(event.target.value).toFixed(6))));
  by("typed").addEventListener("input", (event) => {
    const typed = event.target.valueAsNumber;
    if (Number.isFinite(typed) && typed >= 0) tryThreshold(typed);
  });
  by("typed").addEventListener("change", (event) => {
    if (!Number.isFinite(event.target.valueAsNumber)) tryThreshold(null);
  });
  by("own").addEventListener("click", () => tryThreshold(null));
}

// ---------------------------------------------------------------- which photos are shown

function isShown(number) {
  const card = cards[number];
  const { drawn, listed } = run.cards[number];
  const isDrawn = drawn !== null && drawn < wait.drawn;
  const part = by("name").value.trim().toLowerCase();
  if (!card.dataset.name.includes(part) && !card.dataset.part.includes(part)) return false;
  if (wait.show === "drawn") return isDrawn;
  if (!listed) return false;
  return wait.show === "all" || (wait.show === "open" ? !decisions.has(number) : card.dataset.label === wait.show);
}

const buttons = [...document.querySelectorAll("button[data-show]")];

function show() {
  let count = 0;
  cards.forEach((card, number) => {
    card.hidden = !isShown(number);
    count += !card.hidden;
  });
  by("count").textContent = `${count} of ${wait.show === "drawn" ? wait.drawn : run.cards.filter((card) => card.listed).length}`;
  for (const button of buttons) if (button.dataset.show === "drawn") button.hidden = !wait.drawn;
}

function choose(wanted) {
  wait.show = wanted;
  for (const each of buttons) each.setAttribute("aria-pressed", each.dataset.show === wanted);
  show();
}
for (const button of buttons) button.addEventListener("click", () => choose(button.dataset.show));
by("name").addEventListener("input", show);
for (const [box, name, whenChecked] of [["overlay", "no-overlay", false], ["outlines", "no-regions", false], ["beside", "beside", true]])
  by(box).addEventListener("change", () => {
    document.body.classList.toggle(name, by(box).checked === whenChecked);
    for (const button of document.querySelectorAll(`[data-box=${box}]`)) button.setAttribute("aria-pressed", by(box).checked);
  });
for (const button of document.querySelectorAll("[data-box]")) {
  button.setAttribute("aria-pressed", by(button.dataset.box).checked);
  button.addEventListener("click", () => by(button.dataset.box).click());
}

// ---------------------------------------------------------------- one photo after the other

/** The number of the next shown photo in a direction, or null at the end. */
function beside(number, step) {
  for (let next = number + step; next >= 0 && next < cards.length; next += step) if (!cards[next].hidden) return next;
  return null;
}

function focusOn(number) {
  if (wait.large === null) cards[number].querySelector(".views").focus();
  else enlarge(number);
}

function enlarge(number) {
  const card = cards[number];
  const views = card.querySelector(".views").cloneNode(true);
  const figure = document.createElement("div"); // what is enlarged is no button any more
  figure.className = views.className;
  figure.style.setProperty("--ratio", views.style.getPropertyValue("--ratio"));
  figure.append(...views.childNodes);
  for (const picture of figure.querySelectorAll("img")) picture.loading = "eager";
  by("stage").replaceChildren(figure);
  const held = by("told").contains(document.activeElement) ? document.activeElement.dataset.verdict : null;
  const about = card.querySelector(".about").cloneNode(true);
  about.querySelector("details")?.setAttribute("open", "");
  by("told").replaceChildren(about);
  const shown = cards.filter((each) => !each.hidden);
  by("place").textContent = shown.includes(card) ? `${shown.indexOf(card) + 1} of ${shown.length}` : "";
  for (const [id, step] of [["before", -1], ["after", 1]]) by(id).disabled = beside(number, step) === null;
  wait.large = number;
  if (!by("large").open) by("large").showModal();
  if (held) about.querySelector(`[data-verdict="${held}"]`).focus(); // who decides by Tab and Enter goes on there
}

by("before").addEventListener("click", () => go(-1));
by("after").addEventListener("click", () => go(1));
by("close").addEventListener("click", () => by("large").close());
by("large").addEventListener("click", (event) => event.target === by("large") && by("large").close());
by("large").addEventListener("close", () => {
  const number = wait.large;
  wait.large = null;
  const back = cards[number]?.hidden ? (beside(number, 1) ?? beside(number, -1)) : number;
  if (back !== null) cards[back].querySelector(".views").focus();
});

function current() {
  if (wait.large !== null) return wait.large;
  const card = document.activeElement?.closest?.(".card");
  return card ? Number(card.dataset.number) : null;
}

function go(step) {
  const number = current();
  const next = number === null ? null : beside(number, step);
  if (next !== null) focusOn(next);
}

// ---------------------------------------------------------------- review

function decide(number, verdict, goOn) {
  const next = beside(number, 1); // asked first: with "not reviewed" this photo is hidden now
  undone.push([number, decisions.get(number)]);
  decisions.set(number, { verdict, reviewer: by("reviewer").value.trim() || null, time: new Date().toISOString() });
  by("said").textContent = `${run.cards[number].path}: ${verdict}`;
  showDecisions();
  if (goOn && next !== null) focusOn(next);
  else if (wait.large !== null) enlarge(number);
}

function undo() {
  const last = undone.pop();
  if (!last) return;
  const [number, before] = last;
  if (before) decisions.set(number, before);
  else decisions.delete(number);
  by("said").textContent = `${run.cards[number].path}: undone`;
  showDecisions();
  if (wait.large !== null || !cards[number].hidden) focusOn(number);
}

/** A click on the verdict that stands takes it back. */
function press(number, verdict) {
  if (decisions.get(number)?.verdict !== verdict) return decide(number, verdict, wait.large !== null);
  undone.push([number, decisions.get(number)]);
  decisions.delete(number);
  showDecisions();
  if (wait.large !== null) enlarge(number);
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  if (button.matches(".card .views")) return enlarge(Number(button.closest(".card").dataset.number));
  if (!button.dataset.verdict) return;
  const card = button.closest(".card");
  press(card ? Number(card.dataset.number) : wait.large, button.dataset.verdict);
});

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, textarea, select")) return;
  const number = current();
  const keys = {
    g: () => decide(number, "good part", true),
    d: () => decide(number, "defect", true),
    u: undo,
    s: () => by("beside").click(),
    m: () => by("overlay").click(),
    ArrowLeft: () => go(-1),
    ArrowRight: () => go(1),
  };
  const act = keys[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (number === null || !act) return;
  event.preventDefault();
  act();
});

/** The numbers of the normal photos that were drawn at random, of those asked for. */
const drawnNumbers = () => run.cards.flatMap((card, number) => (card.drawn !== null && card.drawn < wait.drawn ? [number] : []));

function exported() {
  return [...decisions].sort(([one], [other]) => one - other).map(([number, decision]) => ({
    path: run.cards[number].path,
    ...decision,
    chosen: drawnNumbers().includes(number) ? "random-normal" : "worst-first",
  }));
}

function showDecisions() {
  const cells = {};
  cards.forEach((card, number) => {
    const verdict = decisions.get(number)?.verdict ?? "";
    card.querySelector(".badge.verdict").textContent = verdict && `reviewed: ${verdict}`;
    for (const button of card.querySelectorAll("[data-verdict]"))
      button.setAttribute("aria-pressed", button.dataset.verdict === verdict);
    if (verdict) cells[`${verdict}/${ownLabels[number]}`] = (cells[`${verdict}/${ownLabels[number]}`] ?? 0) + 1;
  });
  for (const cell of document.querySelectorAll("[data-cell]")) cell.textContent = cells[cell.dataset.cell] ?? 0;
  by("figures").replaceChildren(...[falseAlarms(), escapes()].filter(Boolean).map((words) => {
    const line = document.createElement("li");
    line.textContent = words;
    return line;
  }));
  by("export").disabled = !decisions.size;
  show();
  keep();
  tell("adaptclip-decisions", { decisions: exported() });
}

/** What the review of anomalous photos says: an interval where all with so high scores were looked at. */
function falseAlarms() {
  const all = (scores.anomalous ?? []).length;
  const numbers = [...decisions.keys()].filter((number) => ownLabels[number] === "anomalous");
  if (!numbers.length) return all ? `False alarms: none of the ${all} anomalous photos has been reviewed.` : null;
  const good = numbers.filter((number) => decisions.get(number).verdict === "good part").length;
  const lowest = Math.min(...numbers.map((number) => run.cards[number].score));
  const asHigh = run.cards.filter((card, number) => ownLabels[number] === "anomalous" && card.score >= lowest).length;
  if (numbers.length === all) return `False alarms among all ${all} anomalous photos: ${shareOf(good, all)}.`;
  if (numbers.length === asHigh)
    return `False alarms among the ${asHigh} highest of ${all} anomalous photos: ${shareOf(good, asHigh)}. This holds for scores as high as these; among the lower ones there are mostly more.`;
  return `False alarms: ${good} of ${numbers.length} anomalous photos reviewed. They were picked from among others, so there is no interval: review from the highest on, without gaps.`;
}

/** What the review says of defects that pass: nothing, unless normal photos were drawn at random. */
function escapes() {
  if (!run.cards.some((card) => card.drawn !== null) && !ownLabels.includes("normal")) return null;
  const numbers = drawnNumbers();
  if (!numbers.length)
    return "Escapes: unknown. Photos with the highest scores say nothing of defects that pass as normal: review normal photos drawn at random.";
  const done = numbers.filter((number) => decisions.has(number));
  const defects = done.filter((number) => decisions.get(number).verdict === "defect").length;
  if (done.length < numbers.length)
    return `Escapes: ${done.length} of ${numbers.length} normal photos drawn at random are reviewed; the interval is shown when all are.`;
  return `Defects among normal photos, by ${numbers.length} drawn at random: ${shareOf(defects, numbers.length)}.`;
}

by("start")?.addEventListener("click", () => {
  choose("all");
  const first = cards.findIndex((card, number) => !card.hidden && !decisions.has(number));
  if (first >= 0) enlarge(first);
});
by("draw")?.addEventListener("click", () => {
  const most = Number(by("many").max);
  wait.drawn = Math.min(Math.max(1, Math.floor(by("many").valueAsNumber) || 1), most);
  by("many").value = wait.drawn;
  choose("drawn");
  showDecisions();
  const open = drawnNumbers().filter((number) => !cards[number].hidden);
  const first = open.find((number) => !decisions.has(number)) ?? open[0];
  if (first !== undefined) enlarge(first);
});
by("export")?.addEventListener("click", () => {
  const content = { format: "adaptclip-decisions", version: 1, profile: run.profile, decisions: exported() };
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([JSON.stringify(content, null, 1) + "\n"], { type: "application/json" }));
  link.download = "decisions.json";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
});

// ---------------------------------------------------------------- what is kept, and told to a page around

function keep() {
  if (!run.key) return;
  const kept = [...decisions].map(([number, decision]) => [run.cards[number].path, run.cards[number].stamp, decision]);
  try {
    localStorage.setItem(`adaptclip:${run.key}`, JSON.stringify({ kept, drawn: wait.drawn, reviewer: by("reviewer").value }));
    by("kept").textContent = kept.length ? " This browser keeps the decisions until you come back." : "";
  } catch {
    by("kept").textContent = " This browser keeps nothing: save the decisions before you close the page.";
  }
}

function recall() {
  for (const { path, verdict, reviewer, time, chosen } of run.decisions) {
    if (!places.has(path)) continue;
    const number = places.get(path);
    decisions.set(number, { verdict, reviewer, time });
    if (chosen === "random-normal") wait.drawn = Math.max(wait.drawn, run.cards[number].drawn + 1);
  }
  if (!run.key) return;
  try {
    const { kept, drawn, reviewer } = JSON.parse(localStorage.getItem(`adaptclip:${run.key}`)) ?? { kept: [], drawn: 0 };
    for (const [path, stamp, decision] of kept) {
      const number = places.get(path);
      if (number !== undefined && run.cards[number].stamp === stamp) decisions.set(number, decision);
    }
    wait.drawn = drawn;
    by("reviewer").value = reviewer ?? "";
  } catch {
    return; // nothing is kept here, or not by us
  }
}

function tell(type, content) {
  if (window.parent !== window) window.parent.postMessage({ type, ...content }, "*");
}

by("reviewer")?.addEventListener("change", () => {
  const name = by("reviewer").value.trim() || null;
  for (const decision of undone.map(([number]) => decisions.get(number))) {
    if (decision) decision.reviewer ??= name; // a name that was typed after the review, before it is saved
  }
  showDecisions();
});
recall();
if (by("slider")) tryThreshold(null);
if (cards.length) showDecisions();
else show();

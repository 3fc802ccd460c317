// Answers and explanations as text and tables; inserted as text, never as markup.
import { COLOURS, formatHz, formatS } from "./draw.js";

const MOST_CLASSES = 8;
const byId = (id) => document.getElementById(id);

export function make(tag, text, className) {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  if (className) element.className = className;
  return element;
}

export function percent(p) {
  if (p > 0 && p < 0.001) return "< 0.1 %";
  return `${(100 * p).toFixed(1)} %`;
}

export function row(...cells) {
  const tr = make("tr");
  tr.append(...cells);
  return tr;
}

export function rowHead(text) {
  const th = make("th", text);
  th.scope = "row";
  return th;
}

// A row of a table with a bar behind its number; the bar is decoration for the number beside it.
export function barRow(name, number, share, isTop) {
  const bar = make("span", undefined, "bar");
  bar.style.width = `${Math.max(0, Math.min(1, share)) * 100}%`;
  const cell = make("td");
  cell.setAttribute("aria-hidden", "true");
  cell.append(bar);
  const tr = row(rowHead(name), make("td", number, "number"), cell);
  if (isTop) tr.className = "top";
  return tr;
}

export function count(number, one, many = `${one}s`) {
  return `${number} ${number === 1 ? one : many}`;
}

export function showModel(model) {
  const { frontend } = model;
  const experts = model.experts.filter((expert) => !expert.masked).length;
  const classes = count(model.labels.length, "class", "classes");
  byId("model").textContent =
    `${classes}, ${count(experts, "expert")}, at most ${model.k_max} asked; ${frontend.frontend}, ` +
    `${formatHz(frontend.fmin_hz)} to ${formatHz(frontend.fmax_hz)}, windows of ${frontend.segment_s} s`;
  byId("known-title").textContent = classes;
  byId("labels").replaceChildren(...model.labels.map((label) => make("li", label)));
  byId("known").hidden = false;
  const most = byId("kmax");
  for (let k = most.length - 1; k <= model.k_max; k += 1) most.append(make("option", String(k)));
  byId("hop").placeholder = String(frontend.segment_hop_s);
}

export function showAnswer(answer) {
  byId("answer").hidden = false;
  byId("label").textContent = answer.labels?.length ? answer.labels.join(", ") : answer.label;
  byId("probability").textContent = percent(answer.probability);
  byId("flags").replaceChildren(...remarks(answer).map((text) => make("li", text)));
  const facts = [
    ["Experts asked (K)", answer.segments > 1 ? `${answer.k.toFixed(2)} per window` : String(answer.k)],
    ["Which", answer.experts.map((use) => `${use.name} ${use.weight.toFixed(2)}`).join(", ") || "the stem alone"],
    ["Entropy", `${answer.entropy.toFixed(2)} nats`],
  ];
  if (answer.segments > 1) facts.push(["Windows", String(answer.segments)]);
  byId("facts").replaceChildren(...facts.flatMap(([name, value]) => [make("dt", name), make("dd", value)]));
  showClasses(answer, false);
}

function remarks(answer) {
  const said = [];
  if (answer.uncertain) said.push("Uncertain: less sure than the answers that were right in validation.");
  if (answer.degraded) said.push(`Degraded: ${answer.missing_experts.join(", ")} did not answer.`);
  return [...said, ...answer.warnings];
}

function showClasses(answer, all) {
  const sorted = Object.entries(answer.probabilities).sort((a, b) => b[1] - a[1]);
  const chosen = new Set(answer.labels?.length ? answer.labels : [answer.label]);
  const shown = all ? sorted : sorted.slice(0, MOST_CLASSES);
  byId("classes").tBodies[0].replaceChildren(
    ...shown.map(([name, p]) => barRow(name, percent(p), p, chosen.has(name))),
  );
  const more = byId("more");
  more.hidden = all || sorted.length <= MOST_CLASSES;
  more.textContent = `All ${sorted.length} classes`;
  more.onclick = () => {
    showClasses(answer, true);
    byId("classes").querySelectorAll("tbody th")[MOST_CLASSES].tabIndex = -1;
    byId("classes").querySelectorAll("tbody th")[MOST_CLASSES].focus();
  };
}

export function showTiming(answer, roundTripMs) {
  byId("timing").hidden = false;
  const { total, ...stages } = answer.timing_ms;
  const rows = [...Object.entries(stages), ["in the service", total], ["seen from here", roundTripMs]];
  const most = Math.max(...rows.map(([, ms]) => ms), 1e-9);
  byId("stages").tBodies[0].replaceChildren(
    ...rows.map(([name, ms]) => barRow(name, ms.toFixed(1), ms / most, name === "in the service")),
  );
  byId("json").textContent = JSON.stringify(answer, null, 2);
}

export function showEvents(events) {
  byId("events").tBodies[0].replaceChildren(
    ...events.map((event) => row(
      make("td", formatS(event.start_s)), make("td", formatS(event.end_s)),
      rowHead(event.label), make("td", percent(event.probability), "number"),
    )),
  );
}

// A card for each expert that was asked, with a canvas for what it was sent.
export function showExperts(record, model) {
  byId("no-experts").hidden = record.experts.length > 0;
  byId("experts").replaceChildren(...record.experts.map((expert, index) => {
    const swatch = make("span", undefined, "swatch");
    swatch.style.background = COLOURS[index];
    const head = make("h4", expert.name);
    head.prepend(swatch);
    const known = model?.experts.find((one) => one.name === expert.name);
    const spans = expert.spans_s.map(([a, b]) => `${a.toFixed(2)}–${b.toFixed(2)}`).join(", ");
    const words = make("p", [
      `weight ${expert.weight.toFixed(3)}`,
      known?.front_end || `${formatHz(expert.band_hz[0])} to ${formatHz(expert.band_hz[1])}`,
      `${expert.windows.length} of ${count(record.num_windows, "window")} with ` +
        `${percent(expert.score_share)} of the saliency: ${spans} s`,
    ].join("; "), "quiet");
    const canvas = make("canvas");
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `Spectrogram of ${expert.name}; the parts that it was sent are framed`);
    const card = make("li");
    card.append(head, words, canvas);
    return card;
  }));
}

export function describeFigure(record, view) {
  const [start, end] = record.segment_s;
  const unit = record.arrays.spectrogram;
  const parts = [
    `${formatS(start)} to ${formatS(end)}; grey is the level that the model sees, ${unit.low.toFixed(1)} to ` +
      `${unit.high.toFixed(1)} standard deviations`,
  ];
  const map = record.maps[view.map];
  if (map?.peak) {
    parts.push(
      `orange is ${view.map === "gradcam" ? `evidence for ${record.target}` : "the router's saliency"}: peak at ` +
      `${map.peak.time_s.toFixed(2)} s and ${formatHz(map.peak.frequency_hz)}, nine tenths of it between ` +
      `${map.span_s[0].toFixed(2)} and ${map.span_s[1].toFixed(2)} s, ${formatHz(map.band_hz[0])} and ${formatHz(map.band_hz[1])}`,
    );
  }
  if (record.experts.length) parts.push("below: the windows of each expert, coloured where they were sent, as high as their saliency");
  return `${parts.join("; ")}.`;
}

export function showProblem(error) {
  const box = byId("problem");
  const lines = [make("p", `${error.message} (${error.code || "failed"})`)];
  if (error.hint) lines.push(make("p", error.hint));
  if (error.requestId) lines.push(make("p", `request ${error.requestId}`, "quiet"));
  box.replaceChildren(...lines);
  box.hidden = false;
}

export function clearProblem() {
  byId("problem").hidden = true;
  byId("problem").replaceChildren();
}

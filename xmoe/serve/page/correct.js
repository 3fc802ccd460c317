// What a user says about an answer: right with one click, or the right label.
import { correct } from "./api.js";
import { formatS } from "./draw.js";
import { make } from "./show.js";

const byId = (id) => document.getElementById(id);

// The judged answer: that of the whole recording, or of the window shown.
function judged({ answer, window }) {
  if (!window || !byId("part").checked) {
    return { labels: answer.labels?.length ? answer.labels : [answer.label], probability: answer.probability };
  }
  const { label, probability, start_s, end_s } = window;
  return { labels: [label], probability, start_s, end_s };
}

// subject = {model, blob, name, answer, window or null}
export function showVerdict(subject) {
  const { model, window } = subject;
  const { labels, start_s, end_s } = judged(subject);
  byId("verdict").hidden = model.corrections === "off";
  byId("part-label").hidden = !window;
  const where = start_s === undefined ? "" : ` from ${formatS(start_s)} to ${formatS(end_s)}`;
  byId("asked").textContent = `Is ${labels.join(", ")}${where} right?`;
  byId("choices").multiple = model.task !== "single_label";
  // The most likely of the other classes come first.
  const p = subject.answer.probabilities;
  const others = model.labels.filter((label) => !labels.includes(label)).sort((a, b) => p[b] - p[a]);
  const choices = model.task === "single_label" ? others : model.labels;
  byId("choices").replaceChildren(...choices.map((label) => make("option", label)));
  byId("other").value = "";
  byId("kept").textContent = "";
  openTruth(false);
}

function openTruth(open) {
  byId("truth").hidden = !open;
  byId("wrong").setAttribute("aria-expanded", String(open));
  if (open) byId("choices").focus();
}

async function save(subject, labels) {
  const { labels: answer, ...told } = judged(subject);
  const correction = { ...told, answer, labels, name: subject.name, weights_sha256: subject.answer.weights_sha256 };
  byId("kept").textContent = "Saving ...";
  try {
    const done = await correct(subject.blob, correction);
    openTruth(false);
    byId("kept").textContent = `Saved as ${done.label}. ${done.note}`;
  } catch (error) {
    byId("kept").textContent = `Not saved: ${error.message}; ${error.hint} (${error.code})`;
  }
}

export function wireVerdict(subject) {
  byId("right").addEventListener("click", () => save(subject(), judged(subject()).labels));
  byId("wrong").addEventListener("click", () => openTruth(byId("truth").hidden));
  byId("part").addEventListener("change", () => showVerdict(subject()));
  byId("verdict").addEventListener("submit", (event) => {
    event.preventDefault();
    const other = byId("other").value.split(";").map((label) => label.trim()).filter(Boolean);
    const chosen = [...byId("choices").selectedOptions].map((option) => option.value);
    const several = byId("choices").multiple;
    save(subject(), several ? [...chosen, ...other] : other.length ? other : chosen);
  });
}

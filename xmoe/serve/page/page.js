// The flow of the page: a recording comes in, is answered, then explained; or the microphone streams.
import { classify, explain, readModel, readSample, Refusal, setToken } from "./api.js";
import { showVerdict, wireVerdict } from "./correct.js";
import { COLOURS, formatHz, formatS, whenLookChanges } from "./draw.js";
import { drawExpert, drawFigure, drawOverview, readPoint } from "./figure.js";
import { Live } from "./live.js";
import * as show from "./show.js";
import { describeMicrophoneError, record } from "./sound.js";

const byId = (id) => document.getElementById(id);
const player = byId("player");
const state = {
  model: null, blob: null, name: "", answer: null, record: null, overview: null,
  map: "saliency", strength: 0.8, live: null, recording: null, asked: null, url: null,
};

function say(text) {
  byId("status").textContent = text;
}

function fail(error) {
  if (error.name === "AbortError") return;
  say("");
  if (error instanceof Refusal && error.status === 401) askForToken();
  show.showProblem(error);
}

function askForToken() {
  byId("door").hidden = false;
  byId("token").focus();
}

async function start() {
  try {
    state.model = await readModel();
    show.showModel(state.model);
    showSamples(state.model.samples);
    byId("door").hidden = true;
    show.clearProblem();
  } catch (error) {
    byId("model").textContent = "";
    if (error.status === 401) askForToken();
    else fail(error);
  }
}

function showSamples(samples) {
  byId("samples").hidden = samples.length === 0;
  byId("samples").replaceChildren(byId("samples").firstElementChild, ...samples.map(({ labels }, place) => {
    const button = show.make("button", labels.join(", ") || "nothing");
    button.type = "button";
    button.addEventListener("click", async () => {
      try {
        await ask(await readSample(place), `sample ${place + 1} (${button.textContent}).wav`);
      } catch (error) {
        fail(error);
      }
    });
    return button;
  }));
}

// The options of a request.
function limits() {
  return { k_max: byId("kmax").value, budget: byId("budget").value };
}

function hop() {
  const seconds = Number(byId("hop").value);
  return seconds > 0 ? seconds : "";
}

async function askAgain() {
  if (state.blob) await ask(state.blob, state.name);
}

function colourOf(label) {
  const index = state.model ? state.model.labels.indexOf(label) : 0;
  return COLOURS[Math.max(0, index) % COLOURS.length];
}

// A recording -> its answer, at once; then why.
async function ask(blob, name) {
  state.asked?.abort();
  const { signal } = (state.asked = new AbortController());
  if (blob !== state.blob) setRecording(blob, name);
  show.clearProblem();
  hideResults();
  say("Classifying ...");
  byId("source").setAttribute("aria-busy", "true");
  try {
    const began = performance.now();
    const answer = await classify(blob, { ...limits(), hop_s: hop() }, signal);
    state.answer = answer;
    byId("part").checked = false;
    show.showAnswer(answer);
    showVerdict(subject());
    show.showTiming(answer, performance.now() - began);
    say(`Answer: ${answer.label}, ${show.percent(answer.probability)}. Looking for the reasons ...`);
    await explainAt(null, signal);
    say(`Answer: ${answer.label}, ${show.percent(answer.probability)}${answer.uncertain ? ", uncertain" : ""}.`);
  } catch (error) {
    fail(error);
  } finally {
    byId("source").removeAttribute("aria-busy");
  }
}

function setRecording(blob, name) {
  forgetRecording();
  Object.assign(state, { blob, name, url: URL.createObjectURL(blob) });
  player.src = state.url;
  byId("name").textContent = name;
  byId("heard").hidden = false;
  byId("known").open = false;
}

function forgetRecording() {
  if (state.url) URL.revokeObjectURL(state.url);
  Object.assign(state, { blob: null, name: "", url: null, answer: null, record: null, overview: null });
  player.removeAttribute("src");
  player.load();
  byId("heard").hidden = true;
}

// What a user may correct: the answer, or that of the window shown.
function subject() {
  const { model, blob, name, answer } = state;
  return { model, blob, name, answer, window: answer.windows.length ? chosenWindow() : null };
}

function hideResults() {
  for (const id of ["answer", "seen", "timing", "stream"]) byId(id).hidden = true;
}

// The reasons for the window that starts at this second, or for the most certain one.
async function explainAt(seconds, signal) {
  const found = await explain(state.blob, { ...limits(), at_s: seconds }, signal);
  Object.assign(state, { record: found, overview: found.overview });
  byId("seen").hidden = false;
  showLong();
  showReasons();
}

function showLong() {
  const { windows, events } = state.answer;
  byId("long").hidden = windows.length === 0;
  if (!windows.length) return;
  const start = state.record.segment_s[0];
  const nearest = windows.reduce((best, w, i) => (Math.abs(w.start_s - start) < Math.abs(windows[best].start_s - start) ? i : best), 0);
  byId("window").max = String(windows.length - 1);
  byId("window").value = String(nearest);
  sayWindow();
  show.showEvents(events);
  byId("overview-words").textContent =
    `${formatS(state.overview.extent_s[1])}, ${show.count(windows.length, "window")}, ${show.count(events.length, "event")}; grey is the level in dB below ` +
    "the loudest, the frame is the window shown below.";
}

function chosenWindow() {
  const { windows } = state.answer;
  return windows[Math.min(Number(byId("window").value), windows.length - 1)];
}

function sayWindow() {
  const window = chosenWindow();
  const text = `${formatS(window.start_s)} to ${formatS(window.end_s)}: ${window.label}, ${show.percent(window.probability)}, K = ${window.k}`;
  if (byId("window-said").textContent !== text) {
    byId("window-said").textContent = text;
    byId("window").setAttribute("aria-valuetext", text);
    if (byId("part").checked) showVerdict(subject());
  }
  drawBoth();
}

let waiting = 0;
function moveWindow(index) {
  byId("window").value = String(Math.min(Math.max(index, 0), state.answer.windows.length - 1));
  sayWindow();
  clearTimeout(waiting);
  waiting = setTimeout(async () => {
    state.asked?.abort();
    state.asked = new AbortController();
    try {
      await explainAt(chosenWindow().start_s, state.asked.signal);
    } catch (error) {
      fail(error);
    }
  }, 200);
}

function showReasons() {
  show.showExperts(state.record, state.model);
  const [start, end] = state.record.segment_s;
  byId("segment-title").textContent = `Window from ${formatS(start)} to ${formatS(end)}`;
  byId("figure-words").textContent = show.describeFigure(state.record, state);
  drawAll();
}

function drawAll() {
  drawBoth();
  if (!state.record || byId("seen").hidden) return;
  byId("experts").querySelectorAll("canvas").forEach((canvas, index) => drawExpert(canvas, state, index));
}

let place = null;
function drawBoth() {
  const playhead = player.paused && player.currentTime === 0 ? null : player.currentTime;
  if (state.record && !byId("seen").hidden) {
    place = drawFigure(byId("figure"), { ...state, playhead });
  }
  if (state.overview && !byId("long").hidden) {
    const { start_s, end_s } = chosenWindow();
    const view = { overview: state.overview, events: state.answer.events, colourOf, selected: [start_s, end_s], playhead };
    state.overviewPlace = drawOverview(byId("overview"), view);
  }
}

function follow() {
  drawBoth();
  if (!player.paused) requestAnimationFrame(follow);
}

async function toggleRecord() {
  if (state.recording) {
    state.recording.abort();
    return;
  }
  const seconds = Number(byId("seconds").value);
  state.recording = new AbortController();
  setBusy("record", true, "Stop");
  show.clearProblem();
  try {
    say(`Recording for ${seconds} s ...`);
    const blob = await record(seconds, { level: showLevel, signal: state.recording.signal });
    await ask(blob, "Recorded here");
  } catch (error) {
    failMicrophone(error);
  } finally {
    state.recording = null;
    setBusy("record", false, "Record");
  }
}

function failMicrophone(error) {
  const [message, hint] = describeMicrophoneError(error);
  fail(Object.assign(new Error(message), { code: "microphone", hint }));
}

function setBusy(id, on, text) {
  byId(id).setAttribute("aria-pressed", String(on));
  byId(id).textContent = text;
  byId("level").hidden = !on;
  byId(id === "record" ? "live" : "record").disabled = on;
}

function showLevel(peak) {
  const share = Math.max(0, Math.min(1, 1 + Math.log10(Math.max(peak, 1e-6)) / 3));
  byId("level").firstElementChild.style.transform = `scaleX(${share})`;
  byId("level").setAttribute("aria-valuenow", String(Math.round(100 * share)));
}

async function toggleLive() {
  if (state.live) {
    state.live.stop();
    return;
  }
  if (!state.model) return;
  state.asked?.abort();
  forgetRecording();
  hideResults();
  byId("verdict").hidden = true;
  show.clearProblem();
  byId("stream").hidden = false;
  byId("log").tBodies[0].replaceChildren();
  const { fmin_hz, fmax_hz } = state.model.frontend;
  let heard = "";
  state.live = new Live(byId("waterfall"), [fmin_hz, fmax_hz], {
    level: showLevel,
    problem: show.showProblem,
    answer(frame, events) {
      show.showAnswer({ ...frame, segments: 1 });
      show.showTiming(frame, frame.latency_ms);
      showLog(events);
      if (frame.label !== heard) say(`Hears ${frame.label}.`);
      heard = frame.label;
    },
    end() {
      state.live = null;
      setBusy("live", false, "Listen live");
      say("Stopped listening.");
    },
  });
  setBusy("live", true, "Stop listening");
  say("Listening ...");
  const { k_max, budget } = limits();
  const asked = { k_max: k_max === "" ? "" : Number(k_max), budget, hop_s: hop() };
  const wanted = Object.fromEntries(Object.entries(asked).filter(([, value]) => value !== ""));
  try {
    await state.live.start(wanted, colourOf);
  } catch (error) {
    state.live?.stop();
    failMicrophone(error);
  }
}

function showLog(events) {
  const rows = events.slice(-50).reverse().map((event) => {
    const tr = show.make("tr");
    const head = show.make("th", event.label);
    head.scope = "row";
    tr.append(
      show.make("td", formatS(event.start_s)), show.make("td", formatS(event.end_s)), head,
      show.make("td", show.percent(event.probability), "number"), show.make("td", String(event.k), "number"),
    );
    return tr;
  });
  byId("log").tBodies[0].replaceChildren(...rows);
}

function takeFiles(files) {
  if (files.length === 1) ask(files[0], files[0].name);
  else if (files.length > 1) fail(Object.assign(new Error("several files at once"), { code: "too_many_files", hint: "choose one; POST /v1/classify/batch takes several" }));
}

function wire() {
  byId("door").addEventListener("submit", (event) => {
    event.preventDefault();
    setToken(byId("token").value);
    byId("token").value = "";
    start();
  });
  byId("file").addEventListener("change", (event) => {
    takeFiles([...event.target.files]);
    event.target.value = "";
  });
  addEventListener("dragover", (event) => {
    event.preventDefault();
    byId("drop").classList.add("over");
  });
  addEventListener("dragleave", () => byId("drop").classList.remove("over"));
  addEventListener("drop", (event) => {
    event.preventDefault();
    byId("drop").classList.remove("over");
    takeFiles([...event.dataTransfer.files]);
  });
  byId("record").addEventListener("click", toggleRecord);
  byId("live").addEventListener("click", toggleLive);
  for (const id of ["budget", "kmax", "hop"]) byId(id).addEventListener("change", askAgain);
  byId("ask-all").addEventListener("click", async () => {
    byId("budget").value = "all";
    byId("kmax").value = "";
    await askAgain();
    byId("answer").focus();
  });
  wireVerdict(subject);
  byId("window").addEventListener("input", () => moveWindow(Number(byId("window").value)));
  byId("before").addEventListener("click", () => moveWindow(Number(byId("window").value) - 1));
  byId("after").addEventListener("click", () => moveWindow(Number(byId("window").value) + 1));
  wirePictures();
}

function wirePictures() {
  document.getElementsByName("map").forEach((radio) => radio.addEventListener("change", () => {
    state.map = radio.value;
    showReasons();
  }));
  byId("opacity").addEventListener("input", (event) => {
    state.strength = Number(event.target.value) / 100;
    event.target.setAttribute("aria-valuetext", `${event.target.value} %`);
    drawAll();
  });
  byId("figure").addEventListener("pointermove", (event) => {
    const point = place && readPoint(byId("figure"), state, place, event);
    const value = point?.value === null || !point ? "" : `, ${show.percent(point.value)} of the peak`;
    byId("figure").title = point ? `${point.seconds.toFixed(3)} s, ${formatHz(point.hz)}${value}` : "";
  });
  byId("overview").addEventListener("click", (event) => {
    const { box, extent } = state.overviewPlace;
    const seconds = extent[0] + ((event.offsetX - box.left) / box.width) * (extent[1] - extent[0]);
    const middle = state.answer.windows.map((w) => Math.abs((w.start_s + w.end_s) / 2 - seconds));
    moveWindow(middle.indexOf(Math.min(...middle)));
  });
  player.addEventListener("play", follow);
  player.addEventListener("seeked", drawBoth);
  whenLookChanges(drawAll);
  let width = 0;
  new ResizeObserver(() => {
    if (document.body.clientWidth !== width) drawAll();
    width = document.body.clientWidth;
  }).observe(document.body);
}

wire();
start();

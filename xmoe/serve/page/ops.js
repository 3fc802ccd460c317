// The page for operators: the state of an application with all its routers, every few seconds.
import { readState, Refusal, setToken } from "./api.js";
import { barRow, clearProblem, make, percent, row, rowHead, showProblem } from "./show.js";

const EVERY_MS = 2000;
const MOST_POINTS = 150;
const byId = (id) => document.getElementById(id);
const points = [];
let holds = false;

const ms = (value) => (value === null ? "–" : value.toFixed(1));
const number = (text) => make("td", text, "number");
const short = (hash) => hash.slice(0, 12);
const sum = (counts) => Object.values(counts).reduce((total, n) => total + n, 0);
const list = (counts) => Object.entries(counts).map(([name, n]) => `${n} ${name}`).join(", ");
const fill = (id, rows) => byId(id).tBodies[0].replaceChildren(...rows);

function state(text, look) {
  const cell = make("td");
  cell.append(make("span", text, look ? `state ${look}` : "state"));
  return cell;
}

function showTop(ops) {
  const { load } = ops;
  const answers = sum(ops.asked);
  const tiles = [
    ["Requests/s, last minute", load.per_s.toFixed(2)],
    ["p50, p99 ms", `${ms(load.p50_ms)}, ${ms(load.p99_ms)}`],
    ["Mean K", ops.mean_k === null ? "–" : ops.mean_k.toFixed(2)],
    ["Degraded", answers ? percent(load.degraded / answers) : "–"],
    ["Refused", load.requests ? percent(sum(load.refusals) / load.requests) : "–"],
    ["Segments waiting", String(load.waiting_segments)],
    ["Routers", ops.router_replicas ? `${ops.routers} of ${ops.router_replicas.target}` : String(ops.routers)],
  ];
  byId("tiles").replaceChildren(...tiles.map(([name, value]) => {
    const tile = make("div");
    tile.append(make("dt", name), make("dd", value));
    return tile;
  }));
  byId("served").textContent =
    `${ops.application || "application"}: run ${ops.run || "without a name"}, weights ${short(ops.weights_sha256)}, xmoe ${ops.xmoe}`;
}

function showCourses() {
  const seconds = Math.round((points.at(-1).at - points[0].at) / 1000);
  drawCourse("rate", points.map((p) => p.rate), `Requests a second, ${seconds} s`);
  drawCourse("latency", points.map((p) => p.p95), `p95 of the last answers in ms, ${seconds} s`);
}

function drawCourse(id, values, words) {
  const known = values.filter((value) => value !== null);
  const most = Math.max(...known, 1e-9);
  byId(`${id}-words`).textContent = known.length
    ? `${words}: ${known.at(-1).toFixed(1)} now, ${most.toFixed(1)} at most`
    : `${words}: none yet`;
  const svg = byId(id);
  svg.setAttribute("viewBox", `0 0 ${MOST_POINTS - 1} 100`);
  svg.setAttribute("preserveAspectRatio", "none");
  const first = MOST_POINTS - values.length;
  const line = document.createElementNS("http://www.w3.org/2000/svg", "polyline");
  line.setAttribute("points", values.flatMap((value, i) => (
    value === null ? [] : [`${first + i},${(97 - (94 * value) / most).toFixed(1)}`]
  )).join(" "));
  svg.replaceChildren(line);
}

function showExperts(experts) {
  const looks = { open: "bad", "half-open": "warn" };
  fill("states", experts.map((expert) => row(
    rowHead(expert.name), make("td", expert.kind),
    state(Object.keys(expert.breakers).length > 1 ? list(expert.breakers) : expert.breaker, looks[expert.breaker]),
    number(expert.replicas ? `${expert.replicas.running} of ${expert.replicas.target}` : "–"),
    number(String(expert.calls)), number(expert.per_s.toFixed(2)), number(String(expert.queued)),
    number(ms(expert.mean_ms)), number(ms(expert.p95_ms)), make("td", list(expert.failures) || "none"),
  )));
}

function showAsked(asked) {
  const most = Math.max(...Object.values(asked), 1);
  fill("asked", Object.entries(asked).map(([k, n]) => barRow(k, String(n), n / most)));
  byId("nothing-asked").hidden = sum(asked) > 0;
  byId("asked").hidden = sum(asked) === 0;
}

function showDrift(drift) {
  byId("drift-words").textContent = drift.watching
    ? `${drift.verdict}: ${drift.recordings} recordings measured, ${drift.training_recordings} in training; ` +
      `judged from ${drift.at_least}, over 0.1 is moderate, over 0.25 drifted`
    : drift.reason;
  byId("features").hidden = !drift.watching;
  fill("features", drift.features.map((feature) => barRow(
    feature.name, feature.psi === null ? "–" : feature.psi.toFixed(3), (feature.psi || 0) / 0.5,
    feature.verdict === "moderate" || feature.verdict === "drifted",
  )));
}

function showRouters(each) {
  fill("each", Object.entries(each).map(([name, load]) => row(
    rowHead(name || "this one"), number(String(load.requests)), number(load.per_s.toFixed(2)),
    number(ms(load.p50_ms)), number(ms(load.p99_ms)), number(String(load.waiting_segments)),
    make("td", list(load.refusals) || "none"),
  )));
}

function showVersions(registry, trial) {
  const words = [];
  if (!registry) words.push("No registry: this application was not deployed by xmoe deploy.");
  else if (registry.problem) words.push(`The registry cannot be read: ${registry.problem}`);
  else if (registry.change.what !== "nothing") {
    const { change } = registry;
    words.push(`Last change: ${change.what}${change.version ? `, version ${change.version}` : ""}, by ${change.by}, ${change.at}.`);
    if (change.note) words.push(change.note);
  }
  if (registry?.trial) words.push(describeTrial(registry.trial, trial));
  byId("release-words").textContent = words.join(" ");
  const versions = registry ? registry.versions : [];
  byId("versions").hidden = versions.length === 0;
  fill("versions", versions.map((version) => row(
    number(String(version.number)), state(version.role), make("td", version.run, "long"), make("td", short(version.weights_sha256)),
    make("td", Object.entries(version.figures).map(([name, value]) => `${name} ${value.toFixed(4)}`).join(", ")),
    make("td", version.by), make("td", version.at), make("td", version.why, "long"),
  )));
}

function describeTrial(plan, count) {
  const what = `On trial: version ${plan.version} as a ${plan.mode} for ${percent(plan.share)} of the recordings`;
  if (!count) return `${what}.`;
  const mean = (total, n) => (n ? `${(total / n).toFixed(1)} ms` : "–");
  const parts = [
    `${count.answered} of ${count.asked} answered`, `${count.failed} failed`, `${count.degraded} degraded`,
    `${count.skipped} skipped`, `${mean(count.candidate_ms, count.answered)} each, production ${mean(count.own_ms, count.own_answers)}`,
  ];
  if (plan.mode === "shadow") parts.splice(2, 0, `${count.disagreed} disagreed`);
  return `${what}: ${parts.join(", ")}.`;
}

// What an operator should look at, worst first.
function findFlags(ops, experts, drift) {
  const flags = experts.filter((e) => e.breaker !== "closed").map((e) => `${e.name}: its breaker is ${e.breaker}.`);
  const few = experts.filter((e) => e.replicas && e.replicas.running < e.replicas.target);
  flags.push(...few.map((e) => `${e.name}: ${e.replicas.running} of ${e.replicas.target} replicas run.`));
  if (ops.silent_routers === null) flags.push("The other routers cannot be asked: this is one router alone.");
  else if (ops.silent_routers) flags.push(`Routers that do not answer and are left out: ${ops.silent_routers}.`);
  const others = Object.entries(ops.others);
  if (others.length) flags.push(`Routers with other weights: ${others.map(([hash, n]) => `${n} with ${short(hash)}`).join(", ")}.`);
  if (drift.verdict === "drifted") flags.push("What comes in has drifted from training.");
  if (ops.registry?.rolling) flags.push(`Version ${ops.registry.rolling} is being rolled out.`);
  return flags;
}

function say(flags) {
  const list = byId("flags");
  if ([...list.children].map((item) => item.textContent).join("\n") === flags.join("\n")) return;
  list.replaceChildren(...flags.map((text) => make("li", text)));
}

async function look() {
  try {
    const [ops, { experts }, drift] = await readState();
    points.push({ at: Date.now(), rate: ops.load.per_s, p95: ops.load.p95_ms });
    if (points.length > MOST_POINTS) points.shift();
    clearProblem();
    byId("door").hidden = true;
    byId("ops").hidden = false;
    say(findFlags(ops, experts, drift));
    showTop(ops);
    showCourses();
    showExperts(experts);
    showAsked(ops.asked);
    showDrift(drift);
    showRouters(ops.each);
    showVersions(ops.registry, ops.trial);
    byId("asked-at").textContent = `asked at ${new Date().toLocaleTimeString()}, every ${EVERY_MS / 1000} s`;
    return true;
  } catch (error) {
    showProblem(error);
    const closed = error instanceof Refusal && [401, 403].includes(error.status);
    if (closed) {
      byId("ops").hidden = true;
      byId("served").textContent = "";
      byId("door").hidden = false;
      byId("token").focus();
    }
    return !closed;
  }
}

// Stops while nobody looks and once the token is refused; a new token starts no second loop.
let next = 0;
async function watch() {
  const open = holds || document.hidden || (await look());
  if (!open) return;
  clearTimeout(next);
  next = setTimeout(watch, EVERY_MS);
}

byId("hold").addEventListener("click", () => {
  holds = !holds;
  byId("hold").setAttribute("aria-pressed", String(holds));
});
byId("door").addEventListener("submit", (event) => {
  event.preventDefault();
  setToken(byId("token").value);
  byId("token").value = "";
  watch();
});
watch();

// The two pictures of a recording: the whole of it with its events, and one window with what the
// router saw in it and which experts were sent which parts, all on one axis of time.
import * as draw from "./draw.js";

const LANE = 34;
const TRACK = 24;

// One window: view = {record, map, strength, expert, playhead, pointer}.
export function drawFigure(canvas, view) {
  const { arrays, experts } = view.record;
  canvas.style.height = "";
  const base = canvas.clientHeight;
  canvas.style.height = `${base + experts.length * LANE}px`;
  const { context, width, height } = draw.prepare(canvas);
  const theme = draw.readTheme();
  const box = draw.makeBox(width, height, experts.length * LANE);
  const extent = arrays.extent_s;
  const seen = shownOf(view);
  const [left, right] = seen.extent_s.map((s) => draw.placeTime(box, extent, s));
  const paint = (packed, how) => context.drawImage(draw.toImage(packed, how), left, box.top, right - left, box.height);
  context.imageSmoothingEnabled = false;
  context.save();
  context.beginPath();
  context.rect(box.left, box.top, box.width, box.height);
  context.clip();
  paint(unpacked(seen.spectrogram), draw.grey(theme));
  if (seen.map) paint(unpacked(seen.map), draw.glow(theme, view.strength));
  context.restore();
  draw.drawHzAxis(context, box, seen.ticks_hz, theme);
  experts.forEach((expert, index) => {
    if (view.expert === expert.name && !seen.own) outline(context, box, extent, expert, arrays.bands[expert.name], index);
    drawLane(context, box, arrays, expert, index, theme);
  });
  const bottom = box.top + box.height + experts.length * LANE;
  draw.drawTimeAxis(context, box, extent, bottom, theme);
  draw.drawPlayhead(context, box, extent, bottom, view.playhead, theme);
  return { box, extent };
}

// What is seen: the run's spectrogram with a map, or an expert's own where it heard the sound.
function shownOf({ record: { arrays }, expert, map }) {
  const own = expert && arrays.own[expert];
  if (own) return { ...own, own: true };
  return { ...arrays, map: expert ? arrays.expert_maps[expert] : arrays.maps[map], own: false };
}

const cache = new WeakMap();

function unpacked(packed) {
  if (!cache.has(packed)) cache.set(packed, draw.unpack(packed));
  return cache.get(packed);
}

function outline(context, box, extent, expert, [low, high], index) {
  context.strokeStyle = draw.COLOURS[index];
  context.lineWidth = 2;
  for (const [start, end] of expert.spans_s) {
    const x = draw.placeTime(box, extent, Math.max(start, extent[0]));
    const right = draw.placeTime(box, extent, Math.min(end, extent[1]));
    context.strokeRect(x + 1, box.top + (1 - high) * box.height + 1, right - x - 2, (high - low) * box.height - 2);
  }
  context.lineWidth = 1;
}

// The windows of one expert: filled where they were sent, higher where the router scored more.
function drawLane(context, box, arrays, expert, index, theme) {
  const top = box.top + box.height + index * LANE;
  const edges = arrays.window_edges_s;
  const scores = arrays.window_scores[expert.name];
  const most = Math.max(...scores, 1e-12);
  const sent = new Set(expert.windows);
  context.fillStyle = theme.ink;
  context.textAlign = "left";
  context.textBaseline = "top";
  context.fillText(`${expert.name}  ${expert.weight.toFixed(2)}`, box.left + 2, top + 4);
  scores.forEach((score, window) => {
    const x = draw.placeTime(box, arrays.extent_s, Math.max(edges[window], arrays.extent_s[0]));
    const width = Math.max(1, draw.placeTime(box, arrays.extent_s, edges[window + 1]) - x - 1);
    const high = 2 + 12 * (score / most);
    context.fillStyle = sent.has(window) ? draw.COLOURS[index] : theme.line;
    context.fillRect(x, top + LANE - 1 - high, width, high);
  });
}

// Hz, seconds and strength under a pointer, or null outside of the spectrogram.
export function readPoint(canvas, view, place, event) {
  const { box, extent } = place;
  const x = (event.offsetX - box.left) / box.width;
  const y = 1 - (event.offsetY - box.top) / box.height;
  if (x < 0 || x >= 1 || y < 0 || y >= 1) return null;
  const seen = shownOf(view);
  const seconds = extent[0] + x * (extent[1] - extent[0]);
  const [start, end] = seen.extent_s;
  const { bins, frames } = seen.spectrogram;
  const bin = Math.floor(y * bins);
  const frame = Math.min(Math.max(Math.floor(((seconds - start) / (end - start)) * frames), 0), frames - 1);
  const value = seen.map ? unpacked(seen.map).bytes[bin * frames + frame] / 255 : null;
  return { seconds, hz: seen.bins_hz[bin], value };
}

// The whole recording: view = {overview, events, colourOf, selected: [start, end], playhead}.
export function drawOverview(canvas, view) {
  const { context, width, height } = draw.prepare(canvas);
  const theme = draw.readTheme();
  const box = draw.makeBox(width, height, TRACK);
  const extent = view.overview.extent_s;
  context.imageSmoothingEnabled = false;
  const image = draw.toImage(unpacked(view.overview.spectrogram), draw.grey(theme));
  context.drawImage(image, box.left, box.top, box.width, box.height);
  draw.drawHzAxis(context, box, view.overview.ticks_hz, theme);
  const items = view.events.map((event) => ({ ...event, colour: view.colourOf(event.label) }));
  draw.drawTrack(context, box, extent, box.top + box.height + 3, TRACK - 4, items, theme);
  const bottom = box.top + box.height + TRACK;
  draw.drawTimeAxis(context, box, extent, bottom, theme);
  if (view.selected) {
    const [x, right] = view.selected.map((s) => draw.placeTime(box, extent, Math.min(Math.max(s, 0), extent[1])));
    context.strokeStyle = theme.accent;
    context.lineWidth = 2;
    context.strokeRect(x, box.top + 1, Math.max(3, right - x), box.height - 2);
    context.lineWidth = 1;
  }
  draw.drawPlayhead(context, box, extent, bottom, view.playhead, theme);
  return { box, extent };
}

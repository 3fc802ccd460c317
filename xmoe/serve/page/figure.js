// The pictures of a recording on one time axis: the whole with its events, one window with the
// router's saliency and the spans sent to experts, and what each expert was sent.
import * as draw from "./draw.js";

const LANE = 34;
const TRACK = 24;

// One window: view = {record, map, strength, playhead}.
export function drawFigure(canvas, view) {
  const { arrays, experts } = view.record;
  canvas.style.height = "";
  const base = canvas.clientHeight;
  canvas.style.height = `${base + experts.length * LANE}px`;
  const { context, width, height } = draw.prepare(canvas);
  const theme = draw.readTheme();
  const box = draw.makeBox(width, height, experts.length * LANE);
  const extent = arrays.extent_s;
  paintSeen(context, box, extent, { ...arrays, map: arrays.maps[view.map] }, view.strength, theme);
  experts.forEach((expert, index) => drawLane(context, box, arrays, expert, index, theme));
  const bottom = box.top + box.height + experts.length * LANE;
  draw.drawTimeAxis(context, box, extent, bottom, theme);
  draw.drawPlayhead(context, box, extent, bottom, view.playhead, theme);
  return { box, extent };
}

// What one expert was sent, on its own spectrogram where it has one: the parts are framed.
export function drawExpert(canvas, { record: { arrays, experts }, strength }, index) {
  const { context, width, height } = draw.prepare(canvas);
  const theme = draw.readTheme();
  const box = draw.makeBox(width, height);
  const { name } = experts[index];
  const own = arrays.own[name];
  const seen = own ?? { ...arrays, map: arrays.expert_maps[name] };
  paintSeen(context, box, arrays.extent_s, seen, strength, theme);
  outline(context, box, arrays.extent_s, experts[index], own ? [0, 1] : arrays.bands[name], index);
  draw.drawTimeAxis(context, box, arrays.extent_s, box.top + box.height, theme);
}

// A spectrogram, the map over it and its axis in Hz; which may start or end outside the box.
function paintSeen(context, box, extent, seen, strength, theme) {
  const [left, right] = seen.extent_s.map((s) => draw.placeTime(box, extent, s));
  const paint = (packed, how) => context.drawImage(draw.toImage(packed, how), left, box.top, right - left, box.height);
  context.imageSmoothingEnabled = false;
  context.save();
  context.beginPath();
  context.rect(box.left, box.top, box.width, box.height);
  context.clip();
  paint(unpacked(seen.spectrogram), draw.grey(theme));
  if (seen.map) paint(unpacked(seen.map), draw.glow(theme, strength));
  context.restore();
  draw.drawHzAxis(context, box, seen.ticks_hz, theme);
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

// The spans of one expert: filled where they were sent, higher where the router scored more.
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
  const { arrays } = view.record;
  const { bins, frames } = arrays.spectrogram;
  const bin = Math.floor(y * bins);
  const map = arrays.maps[view.map];
  const value = map ? unpacked(map).bytes[bin * frames + Math.floor(x * frames)] / 255 : null;
  return { seconds: extent[0] + x * (extent[1] - extent[0]), hz: arrays.bins_hz[bin], value };
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

// Building blocks of the pictures: scaled canvases, axes in Hz and seconds, bytes as images.
export const COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8a6d3b", "#56b4e9", "#b3261e", "#6a5acd"];
export const GUTTER = { left: 58, right: 10, top: 8, bottom: 40 };
const FONT = "12px system-ui, sans-serif";
const dark = matchMedia("(prefers-color-scheme: dark)");

export function whenLookChanges(redraw) {
  dark.addEventListener("change", redraw);
}

// The colours of the style sheet, as they are now.
export function readTheme() {
  const style = getComputedStyle(document.documentElement);
  const get = (name) => style.getPropertyValue(`--${name}`).trim();
  return {
    ink: get("ink"), quiet: get("quiet"), line: get("line"), paper: get("paper"), accent: get("accent"),
    glow: toRgb(get("glow")), low: toRgb(get("quietest")), high: toRgb(get("loudest")),
  };
}

function toRgb(hex) {
  const full = hex.length === 4 ? [...hex.slice(1)].map((c) => c + c).join("") : hex.slice(1);
  return [0, 2, 4].map((i) => parseInt(full.slice(i, i + 2), 16));
}

// A context in CSS pixels on a canvas as sharp as the screen.
export function prepare(canvas) {
  const { clientWidth: width, clientHeight: height } = canvas;
  const ratio = window.devicePixelRatio || 1;
  canvas.width = Math.max(1, Math.round(width * ratio));
  canvas.height = Math.max(1, Math.round(height * ratio));
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  context.font = FONT;
  return { context, width, height };
}

// {bins, frames, data in base64, lowest bin first} -> the same with its bytes.
export function unpack(packed) {
  const text = atob(packed.data);
  const bytes = Uint8Array.from(text, (c) => c.charCodeAt(0));
  return { ...packed, bytes };
}

// paint(value 0..1) -> [r, g, b, alpha]; the lowest bin is the lowest row of the image.
export function toImage(packed, paint) {
  const image = new ImageData(packed.frames, packed.bins);
  const table = Array.from({ length: 256 }, (_, i) => paint(i / 255));
  for (let bin = 0; bin < packed.bins; bin += 1) {
    const row = (packed.bins - 1 - bin) * packed.frames;
    for (let frame = 0; frame < packed.frames; frame += 1) {
      image.data.set(table[packed.bytes[bin * packed.frames + frame]], 4 * (row + frame));
    }
  }
  const canvas = document.createElement("canvas");
  canvas.width = packed.frames;
  canvas.height = packed.bins;
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}

export function grey(theme) {
  return (value) => [...theme.low.map((low, i) => Math.round(low + value * (theme.high[i] - low))), 255];
}

// Transparent where the map is low, so that the spectrogram stays legible under it.
export function glow(theme, strength) {
  return (value) => [...theme.glow, Math.round(255 * strength * Math.min(1, value ** 0.8))];
}

export function formatHz(hz) {
  return Math.round(hz) < 1000 ? `${Math.round(hz)} Hz` : `${Number((hz / 1000).toPrecision(4))} kHz`;
}

export function formatS(seconds) {
  if (seconds < 60) return `${seconds.toFixed(2)} s`;
  return `${Math.floor(seconds / 60)}:${(seconds % 60).toFixed(1).padStart(4, "0")} min`;
}

// At most about `most` round seconds between two times.
export function secondTicks([start, end], most) {
  const rough = (end - start) / Math.max(1, most);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= rough);
  const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  const ticks = [];
  for (let i = Math.ceil(start / step - 1e-9); i * step <= end + 1e-9; i += 1) {
    ticks.push([i * step, (i * step).toFixed(digits)]);
  }
  return ticks;
}

export function makeBox(width, height, lanes = 0) {
  const { left, right, top, bottom } = GUTTER;
  return { left, top, width: width - left - right, height: height - top - bottom - lanes };
}

export function placeTime(box, [start, end], seconds) {
  return box.left + ((seconds - start) / (end - start)) * box.width;
}

export function drawHzAxis(context, box, ticks, theme) {
  context.fillStyle = theme.ink;
  context.strokeStyle = theme.quiet;
  context.textAlign = "right";
  context.textBaseline = "middle";
  let lowest = Infinity;
  for (const [share, hz] of ticks) {
    const y = Math.round(box.top + (1 - share) * box.height) + 0.5;
    if (lowest - y < 13 && lowest !== Infinity) continue;
    lowest = y;
    line(context, box.left - 4, y, box.left, y);
    context.fillText(formatHz(hz), box.left - 7, y);
  }
  context.strokeRect(box.left + 0.5, box.top + 0.5, box.width - 1, box.height - 1);
}

export function drawTimeAxis(context, box, extent, bottom, theme) {
  context.fillStyle = theme.ink;
  context.strokeStyle = theme.quiet;
  context.textBaseline = "top";
  context.textAlign = "center";
  for (const [seconds, text] of secondTicks(extent, box.width / 80)) {
    if (seconds < 0) continue;
    const x = Math.round(placeTime(box, extent, seconds)) + 0.5;
    line(context, x, bottom, x, bottom + 4);
    context.fillText(text, Math.min(x, box.left + box.width - 8), bottom + 6);
  }
  context.fillStyle = theme.quiet;
  context.fillText("Time (s)", box.left + box.width / 2, bottom + 22);
}

export function line(context, x0, y0, x1, y1) {
  context.beginPath();
  context.moveTo(x0, y0);
  context.lineTo(x1, y1);
  context.stroke();
}

export function drawPlayhead(context, box, extent, bottom, seconds, theme) {
  if (seconds === null || seconds < extent[0] || seconds > extent[1]) return;
  context.strokeStyle = theme.accent;
  context.lineWidth = 1.5;
  const x = placeTime(box, extent, seconds);
  line(context, x, box.top, x, bottom);
  context.lineWidth = 1;
}

// Boxes in time with their label where it fits; items are {start_s, end_s, label, colour}.
export function drawTrack(context, box, extent, top, height, items, theme) {
  context.textBaseline = "middle";
  context.textAlign = "left";
  for (const item of items) {
    const x = Math.max(box.left, placeTime(box, extent, item.start_s));
    const end = Math.min(box.left + box.width, placeTime(box, extent, item.end_s));
    if (end <= x) continue;
    context.fillStyle = item.colour;
    context.fillRect(x, top, Math.max(1, end - x - 1), 4);
    const room = end - x - 4;
    context.fillStyle = theme.ink;
    if (context.measureText(item.label).width <= room) context.fillText(item.label, x + 1, top + 5 + (height - 5) / 2);
  }
}

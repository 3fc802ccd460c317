// The microphone over a socket: PCM out, one answer per hop back, the last half minute as a picture.
import { getToken, streamAddress } from "./api.js";
import * as draw from "./draw.js";
import { openMicrophone, peakOf, toInt16 } from "./sound.js";

const SHOWN_S = 30;
const COLUMNS_PER_S = 20;
const ROWS = 96;
const BLOCK_S = 0.05;
const QUIET_DB = -100;
const LOUD_DB = -25;
const TRACK = 24;
const END_WAIT_MS = 5000;

export class Live {
  // on: {level(peak), answer(frame, events), problem({message, code, hint}), end()}.
  constructor(canvas, band, on) {
    this.canvas = canvas;
    this.band = band;
    this.on = on;
    this.events = [];
    this.samples = 0;
    this.blocks = [];
    this.columns = 0;
    this.strip = Object.assign(document.createElement("canvas"), { width: SHOWN_S * COLUMNS_PER_S, height: ROWS });
    this.closed = false;
  }

  async start(options, colourOf) {
    this.colourOf = colourOf;
    this.microphone = await openMicrophone((samples) => this.take(samples));
    if (this.closed) return this.microphone.stop();
    this.socket = new WebSocket(streamAddress());
    this.socket.binaryType = "arraybuffer";
    this.socket.onopen = () => this.socket.send(JSON.stringify({
      sample_rate_hz: Math.round(this.microphone.rate), encoding: "pcm_s16le", ...options,
      ...(getToken() ? { token: getToken() } : {}),
    }));
    this.socket.onmessage = (event) => this.hear(JSON.parse(event.data));
    this.socket.onclose = (event) => this.finish(event);
    const step = () => {
      if (this.closed) return;
      this.look();
      requestAnimationFrame(step);
    };
    requestAnimationFrame(step);
    return undefined;
  }

  take(samples) {
    this.blocks.push(samples);
    const count = this.blocks.reduce((sum, block) => sum + block.length, 0);
    if (!this.microphone || !this.ready || count < BLOCK_S * this.microphone.rate) return;
    const joined = new Float32Array(count);
    let place = 0;
    for (const block of this.blocks) {
      joined.set(block, place);
      place += block.length;
    }
    this.blocks = [];
    this.samples += count;
    this.on.level(peakOf(joined));
    if (this.socket.readyState === WebSocket.OPEN && !this.ending) this.socket.send(toInt16(joined).buffer);
  }

  hear(frame) {
    if (frame.type === "ready") {
      this.ready = frame;
      this.blocks = [];
    } else if (frame.type === "answer") {
      this.note(frame);
      this.on.answer(frame, this.events);
    } else if (frame.type === "problem" || frame.type === "error") {
      this.told = frame.type === "error";
      this.on.problem(frame);
    }
  }

  // Windows overlap: an answer stands for the hop in the middle of its window.
  note(frame) {
    const hop = this.ready.hop_samples / this.ready.sample_rate_hz;
    const middle = (frame.start_s + frame.end_s) / 2;
    const span = { start_s: Math.max(0, middle - hop / 2), end_s: middle + hop / 2 };
    const last = this.events.at(-1);
    if (last && last.label === frame.label) {
      last.end_s = span.end_s;
      last.sum += frame.probability;
      last.count += 1;
      last.probability = last.sum / last.count;
      last.k = frame.k;
    } else {
      const { label, probability, k } = frame;
      this.events.push({ ...span, label, probability, k, sum: probability, count: 1, colour: this.colourOf(label) });
      if (this.events.length > 500) this.events.shift();
    }
  }

  // One column for every 50 ms that have passed, then the picture.
  look() {
    if (!this.ready) return;
    const due = Math.floor((this.samples / this.microphone.rate) * COLUMNS_PER_S);
    if (due > this.columns) this.addColumns(Math.min(due - this.columns, this.strip.width));
    this.columns = due;
    this.draw();
  }

  addColumns(count) {
    const { analyser, rate } = this.microphone;
    const levels = new Float32Array(analyser.frequencyBinCount);
    analyser.getFloatFrequencyData(levels);
    const theme = draw.readTheme();
    const paint = draw.grey(theme);
    const context = this.strip.getContext("2d");
    context.drawImage(this.strip, -count, 0);
    const image = new ImageData(1, ROWS);
    const [low, high] = this.band;
    for (let rowIndex = 0; rowIndex < ROWS; rowIndex += 1) {
      const edge = (share) => ((low + share * (high - low)) / (rate / 2)) * levels.length;
      const first = Math.floor(edge(rowIndex / ROWS));
      const last = Math.max(first + 1, Math.floor(edge((rowIndex + 1) / ROWS)));
      let loudest = QUIET_DB;
      for (let i = first; i < Math.min(last, levels.length); i += 1) loudest = Math.max(loudest, levels[i]);
      const share = Math.min(1, (loudest - QUIET_DB) / (LOUD_DB - QUIET_DB));
      image.data.set(paint(share), 4 * (ROWS - 1 - rowIndex));
    }
    for (let i = 1; i <= count; i += 1) context.putImageData(image, this.strip.width - i, 0);
  }

  draw() {
    const { context, width, height } = draw.prepare(this.canvas);
    const theme = draw.readTheme();
    const box = draw.makeBox(width, height, TRACK);
    const now = this.columns / COLUMNS_PER_S;
    const extent = [now - SHOWN_S, now];
    context.imageSmoothingEnabled = false;
    const filled = Math.min(1, this.columns / this.strip.width);
    const from = (1 - filled) * this.strip.width;
    if (filled > 0) {
      context.drawImage(
        this.strip, from, 0, filled * this.strip.width, ROWS,
        box.left + (1 - filled) * box.width, box.top, filled * box.width, box.height,
      );
    }
    const [low, high] = this.band;
    const ticks = draw.secondTicks([low, high], 5).map(([hz]) => [(hz - low) / (high - low), hz]);
    draw.drawHzAxis(context, box, ticks, theme);
    const shown = this.events.filter((event) => event.end_s > extent[0]);
    draw.drawTrack(context, box, extent, box.top + box.height + 3, TRACK - 4, shown, theme);
    draw.drawTimeAxis(context, box, extent, box.top + box.height + TRACK, theme);
  }

  // Ask for the answers that are still due, then close.
  stop() {
    this.ending = true;
    if (this.socket?.readyState === WebSocket.OPEN) {
      this.socket.send(JSON.stringify({ type: "end" }));
      setTimeout(() => this.socket.close(), END_WAIT_MS);
    } else this.finish({ code: 1000 });
  }

  finish(event) {
    if (this.closed) return;
    this.closed = true;
    this.microphone?.stop();
    if (!this.told && !this.ending && event.code !== 1000) {
      const hint = "is the service still running, and does a proxy in between pass WebSockets?";
      this.on.problem({ message: "the stream broke off", code: `closed ${event.code}`, hint });
    }
    this.on.end();
  }
}

// The microphone as samples, and samples as a WAV file.
// The browser's voice processing is switched off: it would remove what is to be classified.
const PLAIN = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };

export function describeMicrophoneError(error) {
  if (!navigator.mediaDevices) {
    return ["the browser gives no microphone to this page", "open it over https, or on the machine itself"];
  }
  if (error.name === "NotAllowedError") {
    return ["the microphone was not allowed", "allow it in the browser's site settings"];
  }
  if (error.name === "NotFoundError") {
    return ["there is no microphone", "connect one and try again"];
  }
  return [`the microphone failed: ${error.message}`, "close other programs that use it"];
}

// Calls take(Float32Array) until the stop() it returns is called.
export async function openMicrophone(take) {
  const media = await navigator.mediaDevices.getUserMedia({ audio: PLAIN });
  const context = new AudioContext();
  const close = async () => {
    media.getTracks().forEach((track) => track.stop());
    await context.close();
  };
  try {
    await context.audioWorklet.addModule(new URL("capture.js", import.meta.url));
    await context.resume();
    const source = context.createMediaStreamSource(media);
    const analyser = new AnalyserNode(context, { fftSize: 1024, smoothingTimeConstant: 0 });
    const worklet = new AudioWorkletNode(context, "capture", { numberOfOutputs: 0 });
    worklet.port.onmessage = (event) => take(event.data);
    source.connect(analyser);
    source.connect(worklet);
    return { rate: context.sampleRate, analyser, stop: close };
  } catch (error) {
    await close();
    throw error;
  }
}

export function peakOf(samples) {
  let peak = 0;
  for (const value of samples) peak = Math.max(peak, Math.abs(value));
  return peak;
}

// Records for this many seconds; a cancel through `signal` ends it early and keeps what there is.
export async function record(seconds, { level, signal }) {
  const pieces = [];
  let count = 0;
  let microphone = null;
  let finish;
  const full = new Promise((resolve) => { finish = resolve; });
  signal.addEventListener("abort", () => finish());
  microphone = await openMicrophone((samples) => {
    pieces.push(samples);
    count += samples.length;
    level(peakOf(samples), microphone ? count / microphone.rate : 0);
    if (microphone && count >= seconds * microphone.rate) finish();
  });
  if (signal.aborted) finish();
  await full;
  await microphone.stop();
  return encodeWav(join(pieces, count).subarray(0, Math.round(seconds * microphone.rate)), microphone.rate);
}

function join(pieces, count) {
  const samples = new Float32Array(count);
  let place = 0;
  for (const piece of pieces) {
    samples.set(piece, place);
    place += piece.length;
  }
  return samples;
}

export function toInt16(samples) {
  const values = new Int16Array(samples.length);
  for (let i = 0; i < samples.length; i += 1) {
    values[i] = Math.max(-32768, Math.min(32767, Math.round(samples[i] * 32768)));
  }
  return values;
}

// 16 bit, one channel.
export function encodeWav(samples, rate) {
  const values = toInt16(samples);
  const view = new DataView(new ArrayBuffer(44 + values.byteLength));
  const write = (place, text) => [...text].forEach((c, i) => view.setUint8(place + i, c.charCodeAt(0)));
  write(0, "RIFF");
  view.setUint32(4, 36 + values.byteLength, true);
  write(8, "WAVEfmt ");
  view.setUint32(16, 16, true);
  view.setUint16(20, 1, true);
  view.setUint16(22, 1, true);
  view.setUint32(24, rate, true);
  view.setUint32(28, rate * 2, true);
  view.setUint16(32, 2, true);
  view.setUint16(34, 16, true);
  write(36, "data");
  view.setUint32(40, values.byteLength, true);
  values.forEach((value, i) => view.setInt16(44 + 2 * i, value, true));
  return new Blob([view.buffer], { type: "audio/wav" });
}

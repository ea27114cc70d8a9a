/** The microphone, as frames of PCM: asked for, listened to, closed. */

import { SAMPLE_RATE } from "./pcm.js";
import { NO_SERVER, Problem } from "./problem.js";

/** As it sounds: nothing that makes speech clearer and a violin worse. */
const SOUND = { channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: false };

/** What the browser's refusals mean. */
const REFUSALS = {
  NotAllowedError:
    "The browser wasn't allowed to use the microphone. Allow it for this page (often by a symbol " +
    "beside the address), then press Record again.",
  NotFoundError: "No microphone was found. Connect one, then press Record again.",
  NotReadableError: "The microphone can't be used: perhaps another program holds it.",
  SecurityError: "The settings of this browser forbid the use of the microphone.",
};

async function askForMicrophone() {
  if (!isSecureContext || !navigator.mediaDevices?.getUserMedia) {
    throw new Problem(
      "Browsers give the microphone only to pages of this computer or over https. " +
        "Open http://127.0.0.1 on the computer where the server runs, or put https before it.",
    );
  }
  if (!window.AudioWorkletNode) {
    throw new Problem("This browser is too old: it has no AudioWorklet.");
  }
  try {
    return await navigator.mediaDevices.getUserMedia({ audio: SOUND });
  } catch (error) {
    throw new Problem(REFUSALS[error.name] ?? `The microphone can't be used: ${error.message || error.name}`);
  }
}

/** Return a context of the engine's rate, or of the microphone's where both have to be the same (Firefox). */
function connect(stream) {
  const context = new AudioContext({ sampleRate: SAMPLE_RATE });
  try {
    return [context, context.createMediaStreamSource(stream)];
  } catch {
    context.close();
    const own = new AudioContext(); // the audio thread resamples
    return [own, own.createMediaStreamSource(stream)];
  }
}

async function loadWorklet(context) {
  try {
    await context.audioWorklet.addModule("/recorder-worklet.js");
  } catch {
    throw new Problem(NO_SERVER);
  }
}

/** Ask for the microphone. Throws a Problem if it can't be had. */
export async function openMicrophone() {
  const stream = await askForMicrophone();
  let context;
  try {
    let source;
    [context, source] = connect(stream);
    await loadWorklet(context);
    await context.resume();
    return new Microphone(stream, context, source);
  } catch (error) {
    for (const track of stream.getTracks()) track.stop();
    context?.close();
    if (error instanceof Problem) throw error;
    throw new Problem(`The audio of this browser can't be used: ${error.message}`);
  }
}

class Microphone {
  constructor(stream, context, source) {
    this.stream = stream;
    this.context = context;
    this.source = source;

    // Called with each frame of PCM, after the last one, and when the microphone is gone.
    this.onaudio = this.ondone = this.onlost = () => {};

    this.analyser = new AnalyserNode(context, { fftSize: 2048 });
    this.samples = new Float32Array(this.analyser.fftSize);
    this.recorder = new AudioWorkletNode(context, "recorder", {
      channelCount: 1,
      channelCountMode: "explicit",
      channelInterpretation: "speakers",
    });
    this.recorder.port.onmessage = ({ data }) => (data.done ? this.ondone() : this.onaudio(data.audio));
    for (const track of stream.getTracks()) track.onended = () => this.onlost();
  }

  /** Samples a second, as the browser delivers them; the audio thread makes them 44,100. */
  get rate() {
    return this.context.sampleRate;
  }

  start() {
    this.source.connect(this.analyser);
    // It gives out silence, but only what leads to the loudspeakers is sure to run.
    this.source.connect(this.recorder).connect(this.context.destination);
  }

  /** Give out the tail; `ondone` follows. */
  stop() {
    this.recorder.port.postMessage("stop");
  }

  close() {
    for (const track of this.stream.getTracks()) {
      track.onended = null;
      track.stop();
    }
    if (this.context.state !== "closed") this.context.close();
  }

  /** The highest peak of the last 46 ms, from 0 to 1. */
  get level() {
    this.analyser.getFloatTimeDomainData(this.samples);
    let peak = 0;
    for (const sample of this.samples) peak = Math.max(peak, Math.abs(sample));
    return Math.min(1, peak);
  }
}

/** Runs in the browser's audio thread: samples in, frames of PCM out. */

import { Framer } from "./pcm.js";

class RecorderProcessor extends AudioWorkletProcessor {
  constructor() {
    super();
    this.stopped = false;
    this.framer = new Framer(sampleRate, (audio) => this.port.postMessage({ audio }, [audio]));
    this.port.onmessage = () => this.stop();
  }

  /** Called by the browser with 128 samples at a time; mono, as the node is made so. */
  process([input]) {
    if (input.length > 0 && !this.stopped) this.framer.push(input[0]);
    return !this.stopped;
  }

  /** Give out the tail, and say that it was the last. */
  stop() {
    if (this.stopped) return;
    this.stopped = true;
    this.framer.flush();
    this.port.postMessage({ done: true });
  }
}

registerProcessor("recorder", RecorderProcessor);

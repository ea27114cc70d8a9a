/**
 * Turn the browser's samples into what the engine takes: PCM, signed 16 bit, little endian, mono,
 * 44,100 Hz, in frames as long as those of phones. Knows nothing of microphones and sockets.
 */

export const SAMPLE_RATE = 44_100;

/** 170 ms: what the recorders of phones deliver, and never the 100 ms of the engine. */
export const FRAME_SAMPLES = 7_497;

/** How long so many bytes of PCM last, in whole milliseconds. */
export function milliseconds(bytes) {
  return Math.round((bytes / 2 / SAMPLE_RATE) * 1000);
}

/** Bring samples from one rate to another, on straight lines between them, block after block. */
export class Resampler {
  constructor(from, to) {
    this.step = from / to;
    // Where the next sample is to be taken: 0 is the last sample of the block before, 1 the first of this one.
    this.position = 1;
    this.last = 0;
  }

  /** Return the samples that a block leads to. */
  push(block) {
    if (this.step === 1) return block;
    const taken = [];
    for (; this.position < block.length; this.position += this.step) {
      const index = Math.floor(this.position);
      const before = index === 0 ? this.last : block[index - 1];
      taken.push(before + (block[index] - before) * (this.position - index));
    }
    this.position -= block.length;
    this.last = block[block.length - 1];
    return taken;
  }
}

/** Collect samples into frames of PCM; each full one is given to `emit` as an ArrayBuffer. */
export class Framer {
  constructor(rate, emit) {
    this.resampler = new Resampler(rate, SAMPLE_RATE);
    this.emit = emit;
    this.#begin();
  }

  #begin() {
    this.frame = new DataView(new ArrayBuffer(FRAME_SAMPLES * 2));
    this.filled = 0;
  }

  /** Take a block of samples in, from -1 to 1. */
  push(block) {
    for (const sample of this.resampler.push(block)) {
      const bounded = Math.max(-1, Math.min(1, sample));
      this.frame.setInt16(this.filled * 2, Math.round(bounded * 32_767), true);
      if (++this.filled === FRAME_SAMPLES) this.flush();
    }
  }

  /** Give out what there is: the tail, at the end. */
  flush() {
    if (this.filled === 0) return;
    const audio = this.frame.buffer.slice(0, this.filled * 2);
    this.#begin();
    this.emit(audio);
  }
}

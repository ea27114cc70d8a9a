/** How loud it is: a meter, and the last seconds as a row of bars. */

/** A bar for each so many milliseconds; bars and the gaps between them, in pixels. */
const BAR_MS = 50;
const BAR = 3;
const GAP = 2;

/** Below this it is silence, in decibels under the loudest possible. */
const FLOOR = -60;

/** The meter falls so much from one picture to the next. */
const FALL = 0.03;

/** Return a level as a share of what is shown, 0 to 1: ears hear in decibels. */
function shareOf(level) {
  return level > 0 ? Math.max(0, 1 - (20 * Math.log10(level)) / FLOOR) : 0;
}

export class LevelView {
  constructor(meter, canvas) {
    this.meter = meter;
    this.canvas = canvas;
    this.bars = [];
    this.loudest = 0;
    // What the meter shows: it rises at once and falls slowly, so that eyes can follow.
    this.shown = 0;
    this.still = matchMedia("(prefers-reduced-motion: reduce)");
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
    new ResizeObserver(() => this.draw()).observe(canvas);
  }

  /** Begin anew. */
  clear() {
    this.bars = [];
    this.loudest = 0;
    this.nextBar = undefined;
    this.show(0);
  }

  /** Take in how loud it is now. */
  add(level) {
    const now = performance.now();
    this.nextBar ??= now + BAR_MS;
    this.loudest = Math.max(this.loudest, level);
    this.show(Math.max(shareOf(level), this.shown - FALL));
    if (now < this.nextBar) return;
    this.nextBar = Math.max(this.nextBar + BAR_MS, now);
    this.bars.push(shareOf(this.loudest));
    this.loudest = 0;
    if (!this.still.matches) this.draw();
  }

  /** Show a level on the meter, as a share of it. */
  show(share) {
    this.shown = share;
    const decibels = Math.round(FLOOR * (1 - share));
    this.meter.style.setProperty("--level", share.toFixed(3));
    this.meter.setAttribute("aria-valuenow", decibels);
    this.meter.setAttribute("aria-valuetext", share > 0 ? `${decibels} dB` : "silence");
  }

  draw() {
    const { canvas } = this;
    const scale = devicePixelRatio;
    const width = canvas.clientWidth;
    const height = canvas.clientHeight;
    canvas.width = width * scale;
    canvas.height = height * scale;
    const pen = canvas.getContext("2d");
    pen.scale(scale, scale);
    const style = getComputedStyle(canvas);
    const places = Math.floor((width + GAP) / (BAR + GAP));
    this.bars.splice(0, this.bars.length - places);
    for (let place = 0; place < places; place += 1) {
      const share = this.bars[this.bars.length - places + place];
      const size = Math.max(BAR, (share ?? 0) * height);
      pen.fillStyle = style.getPropertyValue(share === undefined ? "--line" : "--accent");
      pen.beginPath();
      pen.roundRect(place * (BAR + GAP), (height - size) / 2, BAR, size, BAR / 2);
      pen.fill();
    }
  }
}

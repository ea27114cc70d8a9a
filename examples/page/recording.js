/** One recording: from the microphone, through the audio thread, to the engine by its protocol. */

import { milliseconds } from "./pcm.js";
import { openMicrophone } from "./microphone.js";
import { NO_SERVER, Problem } from "./problem.js";

/** So many frames are kept, in case the engine misses one. */
const KEPT_FRAMES = 128;

/** More than this waiting to be sent means that the engine doesn't keep up: 90 seconds of audio. */
const MAX_WAITING_BYTES = 8_000_000;

/** How long the engine may take for STOP, and the audio thread for its tail, in milliseconds. */
const STOP_PATIENCE = 20_000;
const TAIL_PATIENCE = 2_000;

/** Return an id of 18 digits: the time, and a digit for two that begin within a millisecond. */
function newRecordingId() {
  const now = new Date();
  const local = new Date(now.getTime() - now.getTimezoneOffset() * 60_000);
  return local.toISOString().replace(/\D/g, "") + Math.floor(Math.random() * 10);
}

function openStream() {
  const url = new URL("/ws/stream", location.href);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  return new Promise((opened, failed) => {
    const socket = new WebSocket(url);
    socket.binaryType = "arraybuffer";
    socket.onopen = () => opened(socket);
    socket.onerror = () => failed(new Problem(NO_SERVER));
  });
}

export class Recording {
  /** Ask for the microphone and the engine, and begin. Throws a Problem if either can't be had. */
  static async start() {
    const microphone = await openMicrophone();
    try {
      return new Recording(microphone, await openStream());
    } catch (error) {
      microphone.close();
      throw error;
    }
  }

  constructor(microphone, socket) {
    this.id = newRecordingId();
    this.frames = 0;
    this.bytes = 0;
    this.resent = 0;
    this.began = performance.now();
    this.microphone = microphone;
    this.socket = socket;
    this.kept = new Map();
    this.stopSent = false;

    /** Resolves when all is over: with null, or with the Problem that ended it. */
    this.over = new Promise((resolve) => (this.resolve = resolve)).finally(() => this.#release());

    socket.onmessage = ({ data }) => this.#answer(data);
    socket.onclose = ({ reason }) => this.#closed(reason);
    microphone.onaudio = (audio) => this.#takeAudio(audio);
    microphone.ondone = () => this.#sendStop();
    microphone.onlost = () => this.#lost();
    this.#send("START", { AUDIO_STREAM_FILE_NAME: `${this.id}.wav` });
    microphone.start();
  }

  /** How loud it is now, from 0 to 1. */
  get level() {
    return this.microphone.level;
  }

  /** How long it has been going on, in milliseconds. */
  get elapsed() {
    return (this.ended ?? performance.now()) - this.began;
  }

  /** End it: the tail, STOP, and then the engine closes. */
  stop() {
    this.ended ??= performance.now();
    this.microphone.stop();
    this.tailTimer ??= setTimeout(() => this.#sendStop(), TAIL_PATIENCE);
  }

  #send(type, fields = {}) {
    this.socket.send(JSON.stringify({ MESSAGE_TYPE: type, RECORDING_ID: this.id, ...fields }));
  }

  #takeAudio(audio) {
    if (this.stopSent) return;
    if (this.socket.bufferedAmount > MAX_WAITING_BYTES) {
      this.#fail("The engine takes the audio too slowly; the recording was ended.");
      return;
    }
    this.frames += 1;
    this.bytes += audio.byteLength;
    this.kept.set(this.frames, audio);
    this.kept.delete(this.frames - KEPT_FRAMES);
    this.#sendFrame(this.frames, audio);
  }

  #sendFrame(number, audio) {
    this.#send("FRAME", {
      FRAME_NO: String(number),
      FRAME_DURATION_IN_MS: milliseconds(audio.byteLength),
      BYTES_LEN: audio.byteLength,
    });
    this.socket.send(audio);
  }

  /** Send frames again that the engine says it misses; nothing else it says is for us. */
  #answer(data) {
    let message;
    try {
      message = JSON.parse(data);
    } catch {
      return;
    }
    if (message?.MESSAGE_TYPE !== "ACK" || !Array.isArray(message.MISSING_FRAMES)) return;
    for (const number of message.MISSING_FRAMES.map(Number)) {
      const audio = this.kept.get(number);
      if (audio === undefined) continue;
      this.resent += 1;
      this.#sendFrame(number, audio);
    }
  }

  #sendStop() {
    if (this.stopSent || this.socket.readyState !== WebSocket.OPEN) return;
    this.stopSent = true;
    this.#send("STOP");
    this.stopTimer = setTimeout(
      () => this.#fail("The engine didn't confirm the end of the recording."),
      STOP_PATIENCE,
    );
  }

  #closed(reason) {
    if (this.stopSent) {
      this.resolve(null);
      return;
    }
    const why = reason ? ` It said: ${reason}` : " Is the server still running?";
    this.#fail(`The connection to the engine was lost after ${this.frames} frames.${why}`);
  }

  #lost() {
    this.lostMicrophone = true;
    this.stop();
  }

  #fail(text) {
    this.resolve(new Problem(text));
  }

  #release() {
    this.ended ??= performance.now();
    this.stopSent = true;
    clearTimeout(this.tailTimer);
    clearTimeout(this.stopTimer);
    this.socket.onclose = null;
    this.socket.close();
    this.microphone.close();
  }
}


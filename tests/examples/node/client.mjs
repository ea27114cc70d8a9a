/**
 * Stream a tone to the engine as a phone does, and print as JSON what was sent.
 *
 *     node client.mjs ws://127.0.0.1:7070/ws/stream 202508290514312002 12 3
 *
 * Arguments: the server, the RECORDING_ID, how many frames, and the number of a frame that is lost on
 * the way at first (0 for none). It asks for permessage-deflate.
 */

import { createHash } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import WebSocket from "ws";

const SAMPLE_RATE = 44_100;
const FRAME_SAMPLES = 7_497;
const KEPT_FRAMES = 128;

const [url, recordingId, frames, lost] = process.argv.slice(2);

/** A tone that gets louder, so that no frame is like another; the last one is shorter. */
function audioOf(number) {
  const samples = number === Number(frames) ? 1_000 : FRAME_SAMPLES;
  const audio = Buffer.alloc(samples * 2);
  for (let index = 0; index < samples; index += 1) {
    const at = (number - 1) * FRAME_SAMPLES + index;
    audio.writeInt16LE(Math.round(800 * number * Math.sin((2 * Math.PI * 440 * at) / SAMPLE_RATE)), index * 2);
  }
  return audio;
}

class Client {
  constructor() {
    this.socket = new WebSocket(url, { perMessageDeflate: { threshold: 0 } });
    this.kept = new Map();
    this.sent = [];
    this.resent = [];
    this.socket.on("message", (data) => this.answer(JSON.parse(data)));
  }

  send(type, fields = {}) {
    this.socket.send(JSON.stringify({ MESSAGE_TYPE: type, RECORDING_ID: recordingId, ...fields }));
  }

  sendFrame(number, audio) {
    this.send("FRAME", {
      FRAME_NO: String(number),
      FRAME_DURATION_IN_MS: Math.round((audio.length / 2 / SAMPLE_RATE) * 1000),
      BYTES_LEN: audio.length,
    });
    this.socket.send(audio);
  }

  answer(message) {
    if (message.MESSAGE_TYPE !== "ACK") return;
    for (const number of message.MISSING_FRAMES) {
      if (!this.kept.has(number)) continue;
      this.resent.push(number);
      this.sendFrame(number, this.kept.get(number));
    }
  }

  async stream() {
    this.send("START", { AUDIO_STREAM_FILE_NAME: `${recordingId}.wav` });
    for (let number = 1; number <= Number(frames); number += 1) {
      const audio = audioOf(number);
      this.kept.set(number, audio);
      this.kept.delete(number - KEPT_FRAMES);
      this.sent.push([number, audio.length, createHash("sha256").update(audio).digest("hex")]);
      if (number !== Number(lost)) this.sendFrame(number, audio);
      await sleep(10);
    }
    this.send("STOP");
  }
}

const client = new Client();
client.socket.on("error", (error) => {
  console.error(`${url}: ${error.message}`);
  process.exitCode = 1;
});
client.socket.on("open", () => client.stream());
client.socket.on("close", (code) => {
  const { sent, resent, socket } = client;
  console.log(JSON.stringify({ code, extensions: socket.extensions, sent, resent }));
});

/** The page: its button, its table, and what they have to do with each other. */

import { LevelView } from "./level.js";
import { Problem } from "./problem.js";
import { Recording } from "./recording.js";
import { RowTable, followRows } from "./rows.js";

const byId = (id) => document.getElementById(id);
const number = new Intl.NumberFormat("en");

const button = byId("record");
const level = new LevelView(byId("meter"), byId("wave"));
const table = new RowTable(byId("rows"), byId("filter"), byId("empty"));

let recording = null;

// -- recording ---------------------------------------------------------------------------------

const STATES = {
  idle: { label: "Record", says: "Ready." },
  starting: { label: "Record", says: "Asking for the microphone…" },
  recording: { label: "Stop", says: "Recording." },
  stopping: { label: "Stop", says: "Waiting for the engine to finish…" },
};

function show(state, says = STATES[state].says) {
  document.body.dataset.state = state;
  byId("record-label").textContent = STATES[state].label;
  // Not `disabled`: that would take the focus away from who works with the keyboard.
  button.setAttribute("aria-disabled", String(state === "starting" || state === "stopping"));
  byId("status").textContent = says;
}

function complain(text) {
  byId("problem").textContent = text;
  byId("problem").hidden = !text;
}

function showNumbers() {
  const seconds = recording.elapsed / 1000;
  const minutes = String(Math.floor(seconds / 60)).padStart(2, "0");
  byId("elapsed").textContent = `${minutes}:${(Math.floor((seconds % 60) * 10) / 10).toFixed(1).padStart(4, "0")}`;
  byId("frames").textContent = number.format(recording.frames);
  byId("bytes").textContent = number.format(recording.bytes);
  byId("resent").textContent = number.format(recording.resent);
}

function animate() {
  if (document.body.dataset.state !== "recording") return;
  level.add(recording.level);
  showNumbers();
  requestAnimationFrame(animate);
}

async function record() {
  complain("");
  show("starting");
  recording = await Recording.start();
  byId("recording-id").textContent = recording.id;
  table.highlight(recording.id);
  level.clear();
  show("recording");
  animate();
  const problem = await recording.over;
  level.show(0);
  showNumbers();
  if (problem) throw problem;
  show("idle", `Done: ${number.format(recording.frames)} frames sent, and the engine has ended the recording.`);
  if (recording.lostMicrophone) complain("The microphone was disconnected. What it had given was recorded.");
}

button.addEventListener("click", async () => {
  if (button.getAttribute("aria-disabled") === "true") return;
  if (document.body.dataset.state === "recording") {
    show("stopping");
    recording.stop();
    return;
  }
  try {
    await record();
  } catch (error) {
    show("idle", "Not recording.");
    complain(error instanceof Problem ? error.message : `Something in this page went wrong: ${error}`);
  }
});

// -- rows --------------------------------------------------------------------------------------

byId("pause").addEventListener("click", ({ currentTarget }) => {
  const paused = currentTarget.getAttribute("aria-pressed") !== "true";
  currentTarget.setAttribute("aria-pressed", String(paused));
  table.pause(paused);
});

function showConnection(connected, why) {
  byId("live").dataset.connected = connected;
  byId("live").textContent = connected ? "live" : why;
}

followRows((news) => {
  byId("log-problem").textContent = news.problem ?? "";
  byId("log-problem").hidden = !news.problem;
  table.take(news);
}, showConnection);

show("idle");
level.clear();

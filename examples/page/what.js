/** Rows in words: what each table is called here, when a row happened, and what it says. */

const number = new Intl.NumberFormat("en");

function count(amount, one, many = `${one}s`) {
  return `${number.format(amount)} ${amount === 1 ? one : many}`;
}

/** Join what is known. */
function join(...parts) {
  return parts.filter((part) => part !== undefined && part !== false && part !== "").join(" · ");
}

function frame(no) {
  return no === undefined ? undefined : `frame ${no}`;
}

function connection(row) {
  const peer = row.client_port ? `${row.client_host_ip_address}:${row.client_port}` : row.client_host_ip_address;
  const state =
    row.dt_connection_closed ? "closed"
    : row.dt_websocket_disconnect_event ? "closing"
    : row.dt_connection_accepted ? "accepted"
    : "requested";
  return join(state, peer ?? row.websocket_connection_id);
}

function message(row) {
  const state =
    row.dt_message_process_started ? "taken"
    : row.dt_message_process_queued_to_start ? "complete"
    : "begins to arrive";
  return join(row.message_type, frame(row.audio_frame_no), state);
}

function recording(row) {
  if (row.dt_recording_data_purged === undefined && row.dt_recording_end === undefined) {
    return join("started", row.audio_stream_file_name);
  }
  return join(
    row.dt_recording_end ? "ended" : "connection lost",
    count(row.total_bytes_received ?? 0, "byte"),
    `${count(row.total_split_100_ms_frames_produced ?? 0, "frame")} of 100 ms`,
    row.dt_recording_data_purged && "purged",
  );
}

function audio(row) {
  return join(
    frame(row.audio_frame_no),
    row.start_ms !== undefined && `from ${(row.start_ms / 1000).toFixed(1)} s`,
    row.audio_frame_size_bytes !== undefined && count(row.audio_frame_size_bytes, "byte"),
    row.dt_processing_end ? "analysed" : row.dt_processing_start ? "being analysed" : "queued",
  );
}

function clientFrame(row) {
  return join(
    frame(row.audio_frame_no),
    count(row.audio_frame_size_bytes ?? 0, "byte"),
    row.pre_split_audio_frame_duration_in_ms !== undefined && `${row.pre_split_audio_frame_duration_in_ms} ms`,
    row.dt_frame_split_into_100_ms_frames ? "cut" : "waits for others",
  );
}

function processState(row) {
  return join(
    `process ${row.process_id}`,
    row.memory_usage_mb !== undefined && `${row.memory_usage_mb.toFixed(1)} MB`,
    row.cpu_percent !== undefined && `${row.cpu_percent.toFixed(0)} % CPU`,
    row.active_tasks?.replace(/[[\]"]/g, "").replaceAll(",", ", "),
  );
}

function machineState(row) {
  return join(
    row.cpu_percent !== undefined && `${row.cpu_percent.toFixed(0)} % CPU`,
    row.memory_percent !== undefined && `${row.memory_percent.toFixed(0)} % memory`,
  );
}

/** The tables, in the order in which they are offered: a short name, and what a row says. */
export const TABLES = {
  RECORDING_CONFIG: ["recording", recording],
  WEBSOCKET_CONNECTION: ["connection", connection],
  WEBSOCKET_MESSAGE: ["message", message],
  PRE_SPLIT_AUDIO_FRAME: ["client frame", clientFrame],
  SPLIT_100_MS_AUDIO_FRAME: ["100 ms frame", audio],
  FUNCTIONS: [
    "function",
    (row) => join(row.python_function_name, row.start_stop_or_error_msg, frame(row.frame_no)),
  ],
  FUNCTION_ERROR: ["error", (row) => join(row.python_function_name, row.error_message_text)],
  STEPS: ["step", (row) => join(row.step_name, row.python_function_name, frame(row.frame_no))],
  PROCESS_REGISTRY: ["process", processState],
  RESOURCE_MONITOR: ["machine", machineState],
};

/** The short name of a table; of one that isn't known here, its own. */
export function shortName(table) {
  return TABLES[table]?.[0] ?? table.toLowerCase().replaceAll("_", " ");
}

/** What a row says, in a line. */
export function whatOf({ table, columns }) {
  return TABLES[table]?.[1](columns) ?? Object.values(columns).join(" · ");
}

const clock = new Intl.DateTimeFormat("en-GB", {
  hour: "2-digit",
  minute: "2-digit",
  second: "2-digit",
  fractionalSecondDigits: 3,
  hour12: false,
});

/** When a row happened: the last of its times but that of its commit. The log's times are UTC. */
export function timeOf({ columns }) {
  const times = Object.entries(columns).filter(([name]) => name.startsWith("dt_") || name === "last_heartbeat");
  const happened = times.filter(([name]) => name !== "dt_added");
  const texts = (happened.length ? happened : times).map(([, value]) => String(value)).sort();
  const time = new Date(`${texts.at(-1)?.replace(" ", "T")}Z`);
  return Number.isNaN(time.getTime()) ? "" : clock.format(time);
}

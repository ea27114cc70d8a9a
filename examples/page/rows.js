/** The live table of rows: fed by /ws/rows, newest on top, by table if asked to. */

import { TABLES, shortName, timeOf, whatOf } from "./what.js";

/** So many rows of each table are kept, and so many are shown. */
const KEPT_ROWS = 250;

/** So many rows are known by their id, so that one that changes isn't counted twice. */
const KNOWN_IDS = 100_000;

/** How long to wait before trying again to reach the server, in milliseconds. */
const TRY_AGAIN = 1_500;

/** Make an element. What is in it goes in as text: a log holds what strangers have sent. */
function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

/** What a server closes with that doesn't show its rows here, however often it is asked. */
const REFUSED = 1008;

/** Follow the rows of the log: each message is given to `onnews`, each change of the connection to `onstate`. */
export function followRows(onnews, onstate) {
  const url = new URL("/ws/rows", location.href);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  const socket = new WebSocket(url);
  socket.onopen = () => onstate(true);
  socket.onmessage = ({ data }) => onnews(JSON.parse(data));
  socket.onclose = ({ code, reason }) => {
    if (code === REFUSED) return onstate(false, reason);
    onstate(false, "no server; trying again");
    setTimeout(() => followRows(onnews, onstate), TRY_AGAIN);
  };
}

/** All columns of a row, made when somebody wants to see them. */
function detailsOf(row) {
  const list = element("dl");
  for (const [name, value] of Object.entries(row.columns)) {
    list.append(element("div", {}, element("dt", {}, name), element("dd", {}, String(value))));
  }
  return list;
}

export class RowTable {
  constructor(body, filter, empty) {
    this.body = body;
    this.filter = filter;
    this.empty = empty;
    this.table = "";
    this.recording = null;
    this.paused = false;

    // Rows by table and id, oldest change first; and what is known of each table.
    this.kept = new Map();
    this.known = new Set();
    this.counts = new Map();
    this.total = 0;

    this.#addChoice("", "all");
    for (const table of Object.keys(TABLES)) this.#addTable(table);
    filter.addEventListener("change", ({ target }) => this.#choose(target.value));
  }

  // -- what comes ------------------------------------------------------------------------------

  /** Take in a message of the server. */
  take({ rows, skipped }) {
    const shown = [];
    if (skipped > 0) shown.push(this.#skippedRow(skipped));
    for (const row of rows) {
      const entry = this.#keep(row);
      if (!this.table || this.table === row.table) shown.push(entry.element);
    }
    this.#showCounts();
    if (this.paused || shown.length === 0) return;
    for (const tr of shown) tr.classList.add("fresh");
    this.body.prepend(...shown.reverse());
    while (this.body.rows.length > KEPT_ROWS) this.body.lastElementChild.remove();
    this.empty.hidden = this.body.rows.length > 0;
  }

  #keep(row) {
    if (!this.kept.has(row.table)) this.#addTable(row.table);
    const rows = this.kept.get(row.table);
    const entry = rows.get(row.id) ?? { element: this.#newElement() };
    rows.delete(row.id);
    rows.set(row.id, entry);
    if (rows.size > KEPT_ROWS) rows.delete(rows.keys().next().value);
    entry.row = row;
    this.#fill(entry);
    this.#count(row);
    return entry;
  }

  #count({ id, table }) {
    if (this.known.has(id)) return;
    this.known.add(id);
    if (this.known.size > KNOWN_IDS) this.known.delete(this.known.values().next().value);
    this.counts.get(table).rows += 1;
    this.total += 1;
  }

  // -- how it looks ----------------------------------------------------------------------------

  #newElement() {
    const details = element("details", {}, element("summary"));
    return element("tr", {}, element("td", { class: "time" }), element("td"), element("td", {}, details));
  }

  #fill({ element: tr, row }) {
    const [time, table, what] = tr.cells;
    time.textContent = timeOf(row);
    table.replaceChildren(element("span", { class: "tag", title: `ENGINE_DB_LOG_${row.table}` }, shortName(row.table)));
    tr.dataset.table = row.table;
    const details = what.firstElementChild;
    details.firstElementChild.textContent = whatOf(row);
    details.ontoggle = () => details.open && details.replaceChildren(details.firstElementChild, detailsOf(row));
    if (details.open) details.ontoggle();
    this.#mark(tr, row);
  }

  /** Mark the rows of this page's recording: by colour, and in words for who doesn't see it. */
  #mark(tr, row) {
    const mine = this.recording !== null && String(row.columns.recording_id) === this.recording;
    tr.classList.toggle("mine", mine);
    const words = mine ? [element("span", { class: "unseen" }, ", this recording")] : [];
    tr.cells[1].replaceChildren(tr.cells[1].firstElementChild, ...words);
  }

  #skippedRow(skipped) {
    const what = `${skipped.toLocaleString("en")} changes were skipped: they came faster than this page takes them`;
    return element("tr", { class: "skipped" }, element("td", { colspan: 3 }, what));
  }

  /** Say which recording is this page's. */
  highlight(recording) {
    this.recording = recording;
    for (const rows of this.kept.values()) {
      for (const { element: tr, row } of rows.values()) this.#mark(tr, row);
    }
  }

  /** Hold the table still, or show what came meanwhile. */
  pause(paused) {
    this.paused = paused;
    if (!paused) this.#showAll();
  }

  #showAll() {
    const chosen = this.table ? [this.kept.get(this.table)] : [...this.kept.values()];
    const entries = chosen.flatMap((rows) => [...rows.values()]);
    entries.sort((one, other) => other.row.log_seq - one.row.log_seq);
    const shown = entries.slice(0, KEPT_ROWS).map((entry) => entry.element);
    for (const tr of shown) tr.classList.remove("fresh");
    this.body.replaceChildren(...shown);
    this.empty.hidden = entries.length > 0;
  }

  // -- the choice of a table -------------------------------------------------------------------

  #choose(table) {
    this.table = table;
    this.#showAll();
  }

  #addTable(table) {
    this.kept.set(table, new Map());
    this.counts.set(table, { rows: 0, element: this.#addChoice(table, shortName(table)) });
  }

  #addChoice(table, name) {
    const radio = element("input", { type: "radio", name: "table", value: table, class: "unseen" });
    radio.checked = table === this.table;
    const rows = element("span", { class: "count" }, "0");
    const label = element("label", { "data-table": table }, radio, element("span", { class: "tag" }, name), rows);
    if (table) label.title = `ENGINE_DB_LOG_${table}`;
    else this.totalElement = rows;
    this.filter.append(label);
    return rows;
  }

  #showCounts() {
    this.totalElement.textContent = this.total.toLocaleString("en");
    for (const { rows, element: shown } of this.counts.values()) shown.textContent = rows.toLocaleString("en");
  }
}

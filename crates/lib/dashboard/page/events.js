// The event stream, resumed where it broke off, and the list of events.

import { follow } from "./daemon.js";
import { byId, clock, clone, copy, inWords, plural, setText } from "./text.js";

const KEPT = 1000;
const SHOWN = 200;

const BEFORE = 100;

/** The latest event that the page knows: the run of the daemon, and the number in it. */
let position = null;
/** Records, oldest first: envelopes, and gaps. */
const records = [];
let pending = [];

const list = byId("event-list");

/** Follows the events until the stream ends. `changed` is called when something has happened, `gap` with the state after one. */
export async function followEvents(status, { signal, opened, changed, gap }) {
  position ??= { boot: status.boot, seq: Math.max(0, status.seq - BEFORE) };
  await follow(`api/v1/events?since=${position.boot}:${position.seq}`, {
    signal,
    opened,
    read(read) {
      for (const record of read) {
        if (record.gap) tellGap(record.gap, gap);
        else position = { boot: record.boot, seq: record.seq };
        pending.push(record);
      }
      changed();
      draw();
    },
  });
}

function tellGap({ missed, snapshot }, gap) {
  if (!snapshot) return;
  const isOther = position.boot !== snapshot.boot;
  position = { boot: snapshot.boot, seq: snapshot.seq };
  gap(snapshot, isOther ? "the daemon was started anew; what happened in between is not shown" : `${plural(missed, "event")} missed; the table is up to date`);
}

export function startEvents() {
  byId("event-filter").addEventListener("input", redraw);
  byId("copy-events").addEventListener("click", ({ target }) => {
    copy(records.filter(matches).map((record) => JSON.stringify(record)).join("\n"), target);
  });
  list.addEventListener("click", ({ target }) => {
    const button = target.closest("button");
    if (button !== null) copy(JSON.stringify(button.closest("li").record), button);
  });
}

let isDrawing = false;

function draw() {
  if (isDrawing) return;
  isDrawing = true;
  requestAnimationFrame(() => {
    isDrawing = false;
    const fresh = pending;
    pending = [];
    records.push(...fresh);
    records.splice(0, records.length - KEPT);
    list.prepend(...fresh.filter(matches).slice(-SHOWN).reverse().map(line));
    while (list.children.length > SHOWN) list.lastElementChild.remove();
    count();
  });
}

function redraw() {
  list.replaceChildren(...records.filter(matches).slice(-SHOWN).reverse().map(line));
  count();
}

function count() {
  const found = records.filter(matches).length;
  setText(byId("events-shown"), found === records.length ? plural(found, "event") : `${found} of ${records.length}`);
}

function matches(record) {
  const words = byId("event-filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  if (words.length === 0) return true;
  const text = searchText(record);
  return words.every((word) => text.includes(word));
}

const texts = new WeakMap();

function searchText(record) {
  if (!texts.has(record)) texts.set(record, JSON.stringify(record).toLowerCase());
  return texts.get(record);
}

function line(record) {
  const item = clone("event-line");
  item.record = record;
  const [time, type, text] = item.children;
  if (record.gap) {
    item.className = "gap";
    type.textContent = "gap";
    text.textContent = `${plural(record.gap.missed, "event")} missed`;
    return item;
  }
  time.textContent = clock(record.at);
  time.dateTime = record.at;
  time.title = `${record.at} · ${record.boot}:${record.seq}`;
  const { type: name, ...fields } = record.event;
  type.textContent = name;
  text.textContent = [record.server, ...Object.entries(fields).map(told)].filter(Boolean).join("  ");
  return item;
}

/** A field of an event, short. */
function told([name, value]) {
  if (value === null || value === "") return "";
  const text = inWords(typeof value === "number" && !Number.isInteger(value) ? +value.toPrecision(4) : value);
  const short = text.length > 160 ? `${text.slice(0, 160)}…` : text;
  return ["detail", "because"].includes(name) ? short : `${name}=${short}`;
}

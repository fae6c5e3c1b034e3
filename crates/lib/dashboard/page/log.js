// The log of one server: kept lines, then new ones, with the gaps between them.

import { adviceOf, follow, serverPath } from "./daemon.js";
import { byId, clock, element, plural, setText } from "./text.js";

/** How many lines the page keeps of a server. */
const KEPT = 2000;

/** How many kept lines the daemon is asked for. */
const TAIL = 500;

const list = byId("log-lines");
const pause = byId("pause-log");
const search = byId("log-search");

let stop = null;
let pending = [];
let launch = null;
let isDrawing = false;

export function startLog() {
  pause.addEventListener("click", () => {
    const isPaused = pause.getAttribute("aria-pressed") !== "true";
    pause.setAttribute("aria-pressed", String(isPaused));
    setText(pause, isPaused ? "Follow" : "Pause");
    draw();
  });
  search.addEventListener("input", () => {
    for (const item of list.children) item.hidden = !matches(item);
    count();
    toEnd();
  });
}

/** Follows the log of a server until [`closeLog`]. */
export async function openLog(id) {
  closeLog();
  clear();
  pause.setAttribute("aria-pressed", "false");
  setText(pause, "Pause");
  count();
  const controller = new AbortController();
  const { signal } = controller;
  stop = () => controller.abort();
  let said = "";
  while (!signal.aborted) {
    try {
      // A stream that is opened again begins with the kept lines: they replace those of before.
      await follow(`${serverPath(id)}/logs?follow=1&tail=${TAIL}`, { signal, opened: clear, read: add });
      said = "";
    } catch (error) {
      if (signal.aborted) return;
      // Said once, however often it is tried again.
      if (said !== adviceOf(error)) add([{ told: adviceOf(error) }]);
      said = adviceOf(error);
    }
    await new Promise((resolve) => setTimeout(resolve, 1500));
  }
}

export function closeLog() {
  stop?.();
  stop = null;
}

function clear() {
  list.replaceChildren();
  [pending, launch] = [[], null];
}

function add(records) {
  pending.push(...records);
  draw();
}

function draw() {
  if (isDrawing || pending.length === 0) return;
  if (pause.getAttribute("aria-pressed") === "true") {
    if (pending.length > KEPT) pending.splice(0, pending.length - KEPT, { told: "lines were left out while the log was paused" });
    setText(pause, `Follow (${pending.length} new)`);
    return;
  }
  isDrawing = true;
  requestAnimationFrame(() => {
    isDrawing = false;
    const isAtEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 40;
    const items = pending.slice(-KEPT).flatMap(itemsOf);
    pending = [];
    list.append(...items);
    while (list.children.length > KEPT) list.firstElementChild.remove();
    count();
    if (isAtEnd) toEnd();
  });
}

const toEnd = () => { list.scrollTop = list.scrollHeight; };

function itemsOf(record) {
  const items = [];
  if (record.line === undefined) {
    items.push(element("li", record.told ?? `${plural(record.lost, "line")} of ${record.stream} lost`, "gap"));
  } else {
    if (record.incarnation !== launch) {
      launch = record.incarnation;
      items.push(element("li", launch > 0 ? `launch ${launch}` : "an earlier launch", "mark"));
    }
    const item = element("li", "", record.stream);
    item.append(element("time", clock(record.at)), element("span", record.line));
    items.push(item);
  }
  for (const item of items) item.hidden = !matches(item);
  return items;
}

function matches(item) {
  const wanted = search.value.toLowerCase();
  return wanted === "" || item.textContent.toLowerCase().includes(wanted);
}

function count() {
  const all = list.children.length;
  const shown = search.value === "" ? all : list.querySelectorAll("li:not([hidden])").length;
  setText(byId("log-shown"), shown === all ? plural(all, "line") : `${shown} of ${all}`);
}

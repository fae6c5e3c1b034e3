// The page: follows the daemon, reads its status when something has happened, and hands keys to what they are for.
//
// Events say that something has changed, the status says what. So the page has no second fold from events to state, and a gap costs
// nothing but the events of it.

import { adviceOf, daemonNow, get, Problem } from "./daemon.js";
import { byId, clock, setText, show } from "./text.js";
import { askCommand, askToken, openProfiles, startDialogs } from "./dialogs.js";
import { closeDrawer, drawerServer, openDrawer, refreshDrawer, startDrawer, setRouter } from "./drawer.js";
import { followEvents, startEvents } from "./events.js";
import { startLog } from "./log.js";
import { fillMemoryBars } from "./memory.js";
import { peerRows, readPeers } from "./peers.js";
import { chosen, fillHeld, fillTable, startTable, step, tickTable } from "./table.js";
import { writeVerdict } from "./verdict.js";

/** Shortest time between two looks at the status, in ms. */
const PAUSE = 250;
const STATUS_EVERY = 2000;
const MEMORY_EVERY = 5000;
/** Longest time between two tries to reach the daemon. */
const RETRY_MOST = 5000;

let status = { servers: [] };
let isLive = false;

async function main() {
  startTable({ opened: openRow, asked: command });
  startDrawer(command);
  startEvents();
  startLog();
  startDialogs();
  byId("open-profiles").addEventListener("click", () => openProfiles(status));
  document.addEventListener("keydown", onKey);
  document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });
  setInterval(() => { if (!document.hidden) tick(); }, 1000);
  setInterval(() => { if (!document.hidden && isLive) refresh(); }, STATUS_EVERY);
  setInterval(() => { if (!document.hidden && isLive) readMemory(); }, MEMORY_EVERY);
  let retry = 500;
  for (;;) {
    try {
      await read();
      readMemory();
      await followEvents(status, {
        opened: () => { retry = 500; live(); },
        changed: refresh,
        gap: (snapshot, text) => { apply(snapshot); banner(text); },
      });
      lost(null);
    } catch (error) {
      if (error instanceof Problem && error.status === 401) {
        await askToken();
        continue;
      }
      lost(error);
    }
    await new Promise((resolve) => setTimeout(resolve, retry));
    retry = Math.min(RETRY_MOST, retry * 2);
  }
}

/** Since when the daemon is not reached; null while it is. */
let lostSince = null;
let lostBecause = "";

function live() {
  const before = lostSince;
  [isLive, lostSince] = [true, null];
  byId("connection").dataset.state = "live";
  setText(byId("connection").lastElementChild, "live");
  document.body.classList.remove("stale");
  banner(before === null ? "" : `the daemon is back; it was not reached from ${clock(before)} to ${clock(Date.now())}`);
}

function lost(error) {
  isLive = false;
  lostSince ??= Date.now();
  lostBecause = error instanceof Problem ? adviceOf(error) : "";
  byId("connection").dataset.state = "lost";
  setText(byId("connection").lastElementChild, `disconnected since ${clock(lostSince)}`);
  document.body.classList.add("stale");
  banner(lostBecause || `the daemon does not answer since ${clock(lostSince)}; what is shown is from before. The page tries again by itself; start it with \`llama-warden up\``);
}

function banner(text) {
  setText(byId("banner"), text === "" ? "" : text[0].toUpperCase() + text.slice(1) + ".");
  show(byId("banner"), text !== "");
}

let isReading = false;
let isWanted = false;
let readAt = 0;

/** Reads the status soon, together with other wishes. */
function refresh() {
  isWanted = true;
  if (isReading) return;
  isReading = true;
  setTimeout(async () => {
    isWanted = false;
    try {
      await read();
      await refreshDrawer();
    } catch {
      // The stream of events ends too.
    }
    isReading = false;
    if (isWanted) refresh();
  }, Math.max(0, readAt + PAUSE - performance.now()));
}

async function read() {
  const now = await get("api/v1/status");
  readAt = performance.now();
  apply(now);
}

function apply(now) {
  // An answer that was overtaken by a later one is from the past.
  if (now.boot === status.boot && now.seq < status.seq) return;
  status = now;
  setRouter(now.router);
  setText(byId("version"), now.version);
  setText(byId("profile"), now.profile ?? "none");
  document.title = `${now.ready_servers}/${now.total_servers} llama-warden`;
  writeVerdict(now, daemonNow());
  fillTable([...now.servers, ...peerRows]);
}

async function readMemory() {
  try {
    const memory = await get("api/v1/memory");
    fillMemoryBars(memory, status.servers);
    fillHeld(memory.servers);
    await readPeers();
  } catch {
    // The figures of before are no lie until the next time.
  }
}

function tick() {
  if (!isLive || status.servers.length === 0) return;
  writeVerdict(status, daemonNow());
  tickTable();
}

/** A row of another machine leads to the page of its daemon. */
function openRow(id, tab) {
  const row = peerRows.find((row) => row.server === id);
  if (row) window.open(row.peer, "_blank", "noopener");
  else openDrawer(id, tab);
}

function command(name, id) {
  const server = status.servers.find((server) => server.server === id);
  if (server) askCommand(name, server);
}

const KEYS = {
  "/": () => byId("filter").focus(),
  e: () => byId("event-filter").focus(),
  p: () => openProfiles(status),
  "?": () => byId("help").showModal(),
  j: () => step(1),
  k: () => step(-1),
  ArrowDown: () => step(1),
  ArrowUp: () => step(-1),
  s: () => command("start", target()),
  x: () => command("stop", target()),
  r: () => command("restart", target()),
  l: () => { if (target() !== "") openRow(target(), "log"); },
};

/** The server that a key is for: that of the drawer where the focus is there, else that of the chosen row. */
const target = () =>
  byId("drawer").contains(document.activeElement) ? drawerServer() : chosen() || drawerServer();

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  const { target: element } = event;
  const isWriting = element instanceof HTMLInputElement;
  if (event.key === "Escape") {
    escape(isWriting ? element : null);
    return;
  }
  if (isWriting) {
    if (event.key === "ArrowDown" && element.id === "filter") step(0);
    return;
  }
  // The list of events and the panels scroll by these keys.
  const scrolls = element.closest?.(".lines, pre, [role=tabpanel], [role=tablist]");
  if (event.key.startsWith("Arrow") && scrolls) return;
  const action = KEYS[event.key];
  if (!action) return;
  event.preventDefault();
  action();
}

function escape(input) {
  if (input !== null && input.value !== "") {
    input.value = "";
    input.dispatchEvent(new Event("input"));
  } else if (!closeDrawer()) {
    document.activeElement.blur();
  }
}

main();

// The table of servers: one row each, trouble first, changed where a cell has changed.

import { daemonNow } from "./daemon.js";
import { age, byId, bytes, clone, copy, duration, fileName, plural, rate, setText, show } from "./text.js";
import { byTrouble, level, phaseOf } from "./verdict.js";

/** Rates in a sparkline. */
const SAMPLES = 40;

/** The rows by id. */
const rows = new Map();
const body = byId("servers").tBodies[0];
let order = "";
let actions = {};
let current = "";

/** Makes the table. `opened(id, tab)` and `asked(command, id)` are called for what the user does in it. */
export function startTable(handlers) {
  actions = handlers;
  body.addEventListener("click", ({ target }) => {
    const button = target.closest("button");
    const row = target.closest("tr");
    if (row === null) return;
    if (button === null || button.className === "name") actions.opened(row.dataset.id, "why");
    else if (button.className === "address") copy(button.dataset.url, button);
    else actions.asked(button.dataset.command, row.dataset.id);
  });
  body.addEventListener("focusin", ({ target }) => choose(target.closest("tr").dataset.id));
  byId("filter").addEventListener("input", () => filter());
}

/** The server that keys command; empty where there is none. */
export const chosen = () => (rows.has(current) ? current : "");

export function step(steps) {
  const shown = [...body.rows].filter((row) => !row.hidden);
  if (shown.length === 0) return;
  const at = shown.findIndex((row) => row.dataset.id === current);
  const next = shown[Math.min(shown.length - 1, Math.max(0, at < 0 ? 0 : at + steps))];
  next.querySelector(".name").focus();
}

export function focusRow(id) {
  rows.get(id)?.cells.name.focus();
}

function choose(id) {
  if (id === current) return;
  setChosen(current, false);
  current = id;
  setChosen(current, true);
}

function setChosen(id, isChosen) {
  const row = rows.get(id);
  if (!row) return;
  row.element.classList.toggle("chosen", isChosen);
  // Tab goes through the names, and through everything of the chosen row.
  for (const button of row.element.querySelectorAll("button:not(.name)")) button.tabIndex = isChosen ? 0 : -1;
}

/** Shows the servers as they are now. */
export function fillTable(servers) {
  const sorted = [...servers].sort(byTrouble);
  const ids = new Set(servers.map((server) => server.server));
  for (const [id, row] of rows) {
    if (!ids.has(id)) {
      row.element.remove();
      rows.delete(id);
    }
  }
  for (const server of sorted) {
    const row = rows.get(server.server) ?? newRow(server.server);
    sample(row, server);
    row.server = server;
    row.read = performance.now();
    fillRow(row);
  }
  const wanted = sorted.map((server) => server.server).join("\n");
  if (wanted !== order) {
    order = wanted;
    reorder(sorted);
  }
  const none = byId("no-servers");
  show(none, servers.length === 0);
  setText(none, "No server is configured. Add one to the configuration, or start with `llama-warden up --models DIR`.");
  filter();
}

/** Brings the times up to now. */
export function tickTable() {
  for (const row of rows.values()) {
    if (!row.element.hidden) fillTimes(row);
  }
}

/** Bytes that each running server holds, by id. */
export function fillHeld(held) {
  for (const [id, row] of rows) {
    row.held = held[id];
    fillMemory(row);
  }
}

function newRow(id) {
  const element = clone("row");
  element.dataset.id = id;
  const cells = {};
  for (const name of ["phase", "left", "name", "note", "model", "address", "build", "up", "busy", "prompt", "decode", "held", "restarts", "failure", "commands"]) {
    cells[name] = element.querySelector(`.${name}`);
  }
  cells.progress = element.querySelector("progress");
  cells.line = element.querySelector("polyline");
  cells.rate = cells.decode.querySelector("span");
  const row = { element, cells, samples: [], sampled: 0, commands: "" };
  rows.set(id, row);
  body.append(element);
  return row;
}

/** Puts the rows in order, moving few: a row that is moved loses the focus. */
function reorder(sorted) {
  const focused = document.activeElement;
  let at = body.firstElementChild;
  for (const server of sorted) {
    const { element } = rows.get(server.server);
    if (element === at) at = at.nextElementSibling;
    else body.insertBefore(element, at);
  }
  if (focused !== document.activeElement && body.contains(focused)) focused.focus({ preventScroll: true });
}

function filter() {
  const words = byId("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  for (const { element, server } of rows.values()) {
    const text = [server.server, server.display_name, phaseOf(server), server.tier, server.model, server.base_url, server.llama_version, server.last_failure?.reason].join(" ").toLowerCase();
    const isShown = words.every((word) => text.includes(word));
    show(element, isShown);
    shown += isShown ? 1 : 0;
  }
  setText(byId("shown"), words.length > 0 ? `${shown} of ${rows.size}` : plural(rows.size, "server"));
}

/** Remembers the decoding rate, once in two seconds. */
function sample(row, server) {
  const now = performance.now();
  if (now - row.sampled < 1900) return;
  row.sampled = now;
  row.samples.push(server.requests?.decode_tokens_per_second ?? 0);
  if (row.samples.length > SAMPLES) row.samples.shift();
  const most = Math.max(...row.samples);
  const first = SAMPLES - row.samples.length;
  const points = most > 0 ? row.samples.map((value, at) => `${((first + at) * 60 / (SAMPLES - 1)).toFixed(1)},${(15 - 14 * value / most).toFixed(1)}`).join(" ") : "";
  if (row.points !== points) {
    row.points = points;
    row.cells.line.setAttribute("points", points);
  }
}

function fillRow(row) {
  const { server, cells, element } = row;
  if (element.dataset.level !== level(server)) element.dataset.level = level(server);
  setText(cells.phase.lastElementChild, phaseOf(server));
  setText(cells.name, server.server);
  setText(cells.note, server.note ?? (server.display_name === server.server ? "" : server.display_name));
  cells.note.title = server.note ?? "";
  setText(cells.model.firstElementChild, server.model ? fileName(server.model).replace(/\.gguf$/, "") : "–");
  setText(cells.model.lastElementChild, server.tier ?? "");
  cells.model.title = server.model ?? "";
  const url = addressOf(server);
  setText(cells.address, cells.address.textContent.startsWith("copied") ? "copied" : url.replace(/^http:\/\//, ""));
  cells.address.dataset.url = url;
  cells.address.title = `Copy ${url}`;
  setText(cells.build, server.llama_version ?? "–");
  const requests = server.is_running ? server.requests : null;
  setText(cells.busy, requests ? String(requests.slots_busy) : "–");
  setText(cells.prompt, rate(requests?.prompt_tokens_per_second));
  setText(cells.rate, rate(requests?.decode_tokens_per_second));
  setText(cells.restarts, server.restarts > 0 ? String(server.restarts) : "–");
  fillCommands(row);
  fillMemory(row);
  fillTimes(row);
}

/** The address for this browser: one that listens everywhere is reached where the page is. */
export function addressOf(server) {
  const isEverywhere = ["0.0.0.0", "::"].includes(server.host.trim());
  const here = location.hostname;
  if (server.peer || !isEverywhere || ["localhost", "127.0.0.1", "[::1]"].includes(here)) return server.base_url;
  return `http://${here}:${server.port}`;
}

function fillTimes({ server, cells, read }) {
  const passed = (performance.now() - read) / 1000;
  setText(cells.up, server.is_running ? age(server.uptime_seconds + passed) : "–");
  const failure = server.last_failure;
  const since = failure ? (daemonNow() - Date.parse(failure.at)) / 1000 : 0;
  setText(cells.failure.firstElementChild, failure ? failure.reason : "–");
  setText(cells.failure.lastElementChild, failure ? `${age(since)} ago` : "");
  const progress = loadProgress(server, passed);
  show(cells.progress, progress !== null);
  if (progress !== null) {
    cells.progress.setAttribute("aria-label", `${server.server} loads`);
    if (progress.ratio === null) cells.progress.removeAttribute("value");
    else cells.progress.value = progress.ratio;
  }
  setText(cells.left, progress?.text ?? "");
}

/** How far a launch is: by what the build prints, else by how long launches of this server usually take. */
function loadProgress(server, passed) {
  if (!["launching", "starting", "loading"].includes(server.phase)) return null;
  const usual = server.usual_startup_seconds;
  const spent = server.is_running ? server.uptime_seconds + passed : 0;
  const left = usual === null || usual === undefined ? "" : usual > spent ? `about ${duration(usual - spent)} left` : `usually ${duration(usual)}`;
  if (server.progress !== null) return { ratio: server.progress, text: [`${Math.floor(server.progress * 100)} %`, left].filter(Boolean).join(", ") };
  // Never whole before the server is ready.
  return { ratio: usual > 0 ? Math.min(0.95, spent / usual) : null, text: left || age(spent) };
}

function fillMemory({ server, cells, held }) {
  const promised = server.memory ? server.memory.weights_bytes + server.memory.kv_bytes + server.memory.compute_bytes : null;
  setText(cells.held, server.is_running && held !== undefined ? bytes(held) : "–");
  cells.held.title = promised === null ? "" : `estimated need ${bytes(promised)}`;
}

/** What can be asked of a server in its phase. */
export const commandsFor = (server) => server.peer ? [] :
  server.is_running || ["launching", "backing-off"].includes(server.phase) ? ["stop", "restart"] : ["start"];

const LABELS = { start: "Start", stop: "Stop", restart: "Restart" };

/** Buttons for the commands; those that stay keep the focus. */
export function commandButtons(place, server, isFocusable) {
  const wanted = commandsFor(server).join(" ");
  if (place.dataset.commands === wanted) return;
  if (server.peer) return setText(place, "read only");
  const hadFocus = place.contains(document.activeElement);
  place.dataset.commands = wanted;
  place.replaceChildren(...commandsFor(server).map((command) => {
    const button = clone("command-button");
    button.dataset.command = command;
    button.textContent = LABELS[command];
    button.setAttribute("aria-label", `${LABELS[command]} ${server.server}`);
    button.tabIndex = isFocusable ? 0 : -1;
    return button;
  }));
  if (hadFocus) place.firstElementChild.focus();
}

function fillCommands({ server, cells }) {
  commandButtons(cells.commands, server, server.server === current);
}

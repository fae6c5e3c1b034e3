// The drawer of a row: why the server is as it is, its log, its command line, and how to talk to it.

import { adviceOf, get, serverPath } from "./daemon.js";
import { byId, clock, clone, copy, duration, element, inWords, setText, shellWord, show } from "./text.js";
import { addressOf, commandButtons, focusRow } from "./table.js";
import { closeLog, openLog } from "./log.js";
import { phaseOf } from "./verdict.js";

const TABS = ["why", "log", "command", "talk"];

const drawer = byId("drawer");
let id = "";
let tab = "why";
/** What the panels show, so that a selection in them survives. */
let filled = "";

/** Where requests for every model go; null where the router is off. */
let router = null;
export const setRouter = (card) => { router = card ?? null; };

export const drawerServer = () => id;

export function startDrawer(asked) {
  byId("close-drawer").addEventListener("click", closeDrawer);
  byId("drawer-commands").addEventListener("click", ({ target }) => {
    const button = target.closest("button");
    if (button !== null) asked(button.dataset.command, id);
  });
  const list = document.querySelector("[role=tablist]");
  list.addEventListener("click", ({ target }) => {
    const chosen = target.closest("[role=tab]");
    if (chosen !== null) showTab(chosen.getAttribute("aria-controls"));
  });
  list.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (step === undefined) return;
    event.preventDefault();
    showTab(TABS[(TABS.indexOf(tab) + step + TABS.length) % TABS.length]);
    byId(`tab-${tab}`).focus();
  });
  drawer.addEventListener("click", ({ target }) => {
    const button = target.closest(".copyable button");
    if (button !== null) copy(button.previousElementSibling.textContent, button);
  });
}

export function openDrawer(server, wanted) {
  const isOther = id !== server;
  id = server;
  setText(byId("drawer-title"), server);
  show(drawer, true);
  document.body.classList.add("with-drawer");
  if (isOther) {
    filled = "";
    for (const name of ["why", "command", "talk"]) byId(name).replaceChildren(element("p", "Asking the daemon", "quiet"));
    byId("drawer-commands").replaceChildren();
    delete byId("drawer-commands").dataset.commands;
    setText(byId("drawer-phase"), "");
    closeLog();
    tab = "";
  }
  showTab(wanted);
  byId("drawer-title").focus();
  refreshDrawer();
}

export function closeDrawer() {
  if (id === "") return false;
  closeLog();
  const closed = id;
  id = "";
  show(drawer, false);
  document.body.classList.remove("with-drawer");
  focusRow(closed);
  return true;
}

function showTab(wanted) {
  const isOther = tab !== wanted;
  tab = wanted;
  for (const name of TABS) {
    const isShown = name === wanted;
    byId(`tab-${name}`).setAttribute("aria-selected", String(isShown));
    byId(`tab-${name}`).tabIndex = isShown ? 0 : -1;
    show(byId(name), isShown);
  }
  if (!isOther) return;
  if (wanted === "log") openLog(id);
  else closeLog();
}

/** Reads the server of the drawer anew. */
export async function refreshDrawer() {
  if (id === "") return;
  const asked = id;
  let server;
  try {
    server = await get(serverPath(asked));
  } catch (error) {
    if (asked === id) setText(byId("drawer-phase"), adviceOf(error));
    return;
  }
  if (asked !== id) return;
  fill(server);
}

function fill(server) {
  commandButtons(byId("drawer-commands"), server, true);
  const phase = [phaseOf(server), server.display_name === server.server ? "" : server.display_name, server.note];
  setText(byId("drawer-phase"), phase.filter(Boolean).join(" · "));
  const { uptime_seconds, phase_seconds, requests, health, note, waiting_for, progress, ...steady } = server;
  const now = JSON.stringify([steady, router]);
  if (now === filled) return;
  filled = now;
  byId("why").replaceChildren(...why(server));
  byId("command").replaceChildren(...command(server));
  byId("talk").replaceChildren(...talk(server));
}

function why(server) {
  const parts = [];
  const failure = server.last_failure;
  if (failure) {
    const isNow = ["failed", "backing-off"].includes(server.phase);
    parts.push(element("h3", isNow ? `It failed: ${failure.reason}` : `Last failure: ${failure.reason}`));
    parts.push(element("p", `${failure.detail} (${clock(failure.at)})`));
    if (failure.lines.length > 0) parts.push(block("Its last lines", failure.lines.join("\n")));
  }
  if (server.restart_abandoned) parts.push(element("p", `It is not started again: ${server.restart_abandoned}.`));
  if (server.last_end) parts.push(element("p", `Its last process ended: ${inWords(server.last_end)}.`));
  parts.push(element("h3", "Timeline"), timeline(server));
  if (server.warnings.length > 0) {
    const list = element("ul");
    list.append(...server.warnings.map(({ warning, detail }) => element("li", `${warning}: ${detail}`)));
    parts.push(element("h3", "Warnings"), list);
  }
  const facts = [
    ["Ready by", server.ready_via],
    ["Start took", server.startup_seconds === null ? null : duration(server.startup_seconds)],
    ["Usually", server.usual_startup_seconds === null ? null : duration(server.usual_startup_seconds)],
    ["Launch", String(server.incarnation)],
    ["Restarts", String(server.restarts)],
    ["Process", server.pid === null ? null : String(server.pid)],
    ["Model", server.model],
  ];
  parts.push(element("h3", "Facts"), factList(facts));
  return parts;
}

function timeline(server) {
  const list = element("ol", "", "timeline");
  const { history } = server;
  history.forEach((change, index) => {
    const next = history[index + 1];
    const item = element("li");
    item.dataset.phase = change.phase;
    const lasted = next ? duration((Date.parse(next.at) - Date.parse(change.at)) / 1000) : "now";
    if (index === 0 || history[index - 1].incarnation !== change.incarnation) {
      list.append(element("li", change.incarnation > 0 ? `launch ${change.incarnation}` : "not launched yet", "mark"));
    }
    item.append(element("time", clock(change.at)), element("b", change.phase), element("span", lasted));
    list.append(item);
  });
  return list;
}

function factList(facts) {
  const list = element("dl", "", "facts");
  for (const [name, value] of facts) {
    if (!value) continue;
    const row = element("div");
    row.append(element("dt", name), element("dd", value));
    list.append(row);
  }
  return list;
}

function block(title, text) {
  const made = clone("copyable");
  made.querySelector("h3").textContent = title;
  made.querySelector("pre").textContent = text;
  made.querySelector("pre").setAttribute("aria-label", title);
  return made;
}

function command(server) {
  if (server.argv.length === 0) return [element("p", "It has not been launched yet.", "quiet")];
  const parts = [block("Command line", shellLines(server.argv))];
  const changed = server.options.filter(({ treatment }) => treatment !== "kept");
  parts.push(element("h3", changed.length > 0 ? "What was changed for this build" : "No option was changed for this build"));
  if (changed.length > 0) {
    const table = element("table");
    const head = element("tr");
    head.append(...["Option", "What", "Passed as", "Why"].map((title) => {
      const cell = element("th", title);
      cell.scope = "col";
      return cell;
    }));
    table.createTHead().append(head);
    const body = table.createTBody();
    for (const { option, treatment, spelled, because } of changed) {
      const row = body.insertRow();
      for (const text of [option, treatment, spelled.join(" "), because]) row.insertCell().textContent = text;
    }
    parts.push(table);
  }
  parts.push(element("h3", "Facts"), factList([["Build", server.llama_version], ["Pack", server.detector], ["Dialect", server.dialect]]));
  return parts;
}

/** The command line, an option and its value a line. */
function shellLines(argv) {
  const lines = [];
  for (const word of argv) {
    const last = lines.at(-1);
    // A negative number is a value.
    const isValue = last?.startsWith("-") && !last.includes(" ") && !/^-{1,2}[a-z]/i.test(word);
    if (isValue) lines[lines.length - 1] = `${last} ${shellWord(word)}`;
    else lines.push(shellWord(word));
  }
  return lines.join(" \\\n  ");
}

function talk(server) {
  const parts = [];
  if (router !== null) {
    const { base, block: asked } = ask(router, router.needs_key, { model: server.server });
    parts.push(block("Base URL of every model", base), asked, element("h3", "Without the router"));
  }
  const { base, block: asked } = ask(server, server.argv.some((word) => /^--api-key(-file)?(=|$)/.test(word)), {});
  if (!server.is_ready) parts.push(element("p", `It does not answer ${router?.on_demand ? "here " : ""}yet: it is ${server.phase}.`, "problem"));
  parts.push(block("Base URL for programs that speak to OpenAI", base), asked);
  if (base.startsWith("unix:")) return parts;
  const link = element("a", "Open llama-server's own page");
  link.href = addressOf(server);
  link.target = "_blank";
  link.rel = "noreferrer";
  parts.push(link);
  return parts;
}

/** The base URL of a server or of the router, and how to ask there. */
function ask(place, isGuarded, named) {
  const url = addressOf(place);
  const isSocket = url.startsWith("unix:");
  const key = isGuarded ? " \\\n  -H \"Authorization: Bearer $API_KEY\"" : "";
  const body = JSON.stringify({ ...named, messages: [{ role: "user", content: "Hello" }], max_tokens: 64 });
  const to = isSocket ? `--unix-socket ${shellWord(url.slice(5))} http://localhost` : url;
  const line = `curl ${to}/v1/chat/completions${key} \\\n  -H 'Content-Type: application/json' \\\n  -d ${shellWord(body)}`;
  return { base: isSocket ? url : `${url}/v1`, block: block("Ask it", line) };
}

// What is asked of the user: before a stop or a restart, for the token, and which profile to switch to.

import { adviceOf, get, hasToken, send, serverPath, setToken } from "./daemon.js";
import { byId, clone, element, plural, setText, show } from "./text.js";

const problem = (name, text) => {
  setText(byId(name), text);
  show(byId(name), text !== "");
};

/** How many requests run on these servers, in words. */
function running(servers) {
  const up = servers.filter((server) => server.is_running);
  const known = up.filter((server) => server.requests);
  const busy = known.reduce((sum, server) => sum + server.requests.slots_busy, 0);
  const silent = up.length - known.length;
  const which = silent === 1 ? "a build that prints" : "builds that print";
  const unknown = silent > 0 ? `How many requests run is not known of ${silent === up.length && up.length === 1 ? "this build: it prints none" : `${silent} ${which} none`}.` : "";
  if (up.length === 0) return "No process of it runs.";
  if (known.length === 0) return unknown;
  const told = busy === 0 ? "No request runs now." : `${plural(busy, "request runs", "requests run")} now and will be broken off.`;
  return [told, unknown].filter(Boolean).join(" ");
}

let perform = null;

export function startDialogs() {
  byId("confirm-do").addEventListener("click", async () => {
    byId("confirm-do").disabled = true;
    try {
      await perform();
      byId("confirm").close();
    } catch (error) {
      problem("confirm-problem", adviceOf(error));
    }
    byId("confirm-do").disabled = false;
  });
  byId("switch").addEventListener("click", switchProfile);
  byId("profile-list").addEventListener("change", ({ target }) => plan(target.value));
  byId("open-help").addEventListener("click", () => byId("help").showModal());
}

function ask({ title, text, label, done }) {
  setText(byId("confirm-title"), title);
  setText(byId("confirm-text"), text);
  setText(byId("confirm-do"), label);
  problem("confirm-problem", "");
  perform = done;
  byId("confirm").showModal();
  byId("confirm-do").focus();
}

/** Carries out a command: a stop and a restart after a question, a start at once. */
export async function askCommand(command, server) {
  const { server: id } = server;
  const done = () => send("POST", `${serverPath(id)}/${command}`);
  const [title, label] = { start: [`Start ${id}`, "Start"], stop: [`Stop ${id}?`, "Stop"], restart: [`Restart ${id}?`, "Restart"] }[command];
  if (command !== "start") {
    ask({ title, label, done, text: running([server]) });
    return;
  }
  try {
    await done();
  } catch (error) {
    ask({ title, label: "Try again", done, text: "It was not started." });
    problem("confirm-problem", adviceOf(error));
  }
}

/** Asks for the token until one is given. */
export function askToken() {
  const dialog = byId("token-dialog");
  if (dialog.open) return Promise.resolve();
  problem("token-problem", hasToken() ? "The daemon refuses this token." : "");
  byId("token").value = "";
  // Above any other dialog, which waits for it.
  dialog.showModal();
  return new Promise((resolve) => {
    const form = dialog.querySelector("form");
    const stay = (event) => event.preventDefault();
    dialog.addEventListener("cancel", stay);
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      setToken(byId("token").value.trim());
      dialog.removeEventListener("cancel", stay);
      dialog.close();
      resolve();
    }, { once: true });
  });
}

let status = { servers: [] };
let wanted = null;
/** Counts the plans that were asked for: an answer to an earlier one is out of date. */
let asked = 0;

/** Shows the profiles. Every enabled server is the empty name: a profile has at least one letter. */
export async function openProfiles(current) {
  status = current;
  const list = byId("profile-list");
  problem("profile-problem", "");
  list.replaceChildren(element("p", "Asking the daemon", "quiet"));
  showPlan(null);
  if (!byId("profiles").open) byId("profiles").showModal();
  try {
    const profiles = await get("api/v1/profiles");
    const choices = profiles.map(({ name, description, active }) => choice(name, name, description, active));
    choices.unshift(choice("", "none", "every enabled server", !profiles.some(({ active }) => active)));
    list.replaceChildren(...choices);
    if (profiles.length === 0) list.append(element("p", "The configuration has no profiles: add [profiles.NAME] to it.", "quiet"));
  } catch (error) {
    list.replaceChildren();
    problem("profile-problem", adviceOf(error));
  }
}

function choice(value, name, about, isActive) {
  const made = clone("profile-choice");
  const [input, title, text] = made.children;
  input.value = value;
  title.textContent = name;
  text.textContent = isActive ? [about, "active"].filter(Boolean).join(" · ") : about ?? "";
  return made;
}

const switchPath = (name, query) =>
  name === "" ? ["DELETE", `api/v1/profiles/active${query}`] : ["POST", `api/v1/profiles/${encodeURIComponent(name)}/activate${query}`];

async function plan(name) {
  asked += 1;
  const question = asked;
  problem("profile-problem", "");
  showPlan(null);
  try {
    const plan = await send(...switchPath(name, "?dry_run=1"));
    if (question !== asked) return;
    wanted = name;
    showPlan(plan);
  } catch (error) {
    if (question === asked) problem("profile-problem", adviceOf(error));
  }
}

/** Shows what a switch does; without a plan, its button does not work. */
function showPlan(plan) {
  const place = byId("plan");
  byId("switch").disabled = plan === null;
  if (plan === null) {
    place.replaceChildren(element("p", "Choose one to see what the switch does.", "quiet"));
    return;
  }
  const parts = [["stop", "Stops"], ["restart", "Restarts"], ["start", "Starts"], ["keep", "Keeps"]];
  const list = element("dl", "", "facts");
  for (const [key, title] of parts) {
    const row = element("div");
    row.append(element("dt", title), element("dd", plan[key].join(", ") || "none"));
    list.append(row);
  }
  const ended = new Set([...plan.stop, ...plan.restart]);
  const hit = status.servers.filter((server) => ended.has(server.server));
  place.replaceChildren(list);
  if (hit.some((server) => server.is_running)) place.append(element("p", running(hit)));
}

async function switchProfile() {
  byId("switch").disabled = true;
  try {
    await send(...switchPath(wanted, ""));
    byId("profiles").close();
  } catch (error) {
    problem("profile-problem", adviceOf(error));
    byId("switch").disabled = false;
  }
}

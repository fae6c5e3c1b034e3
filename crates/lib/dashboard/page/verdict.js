// Which server is in trouble, and the one sentence about all of them.

import { age, byId, element, plural, setText } from "./text.js";

const DOWN = new Set(["idle", "exited"]);
const RISING = new Set(["launching", "starting", "loading"]);

/** How much a server needs a person, 0 most of all. */
export function trouble(server) {
  if (server.phase === "failed") return server.restart_abandoned ? 0 : 1;
  if (server.phase === "unready") return 2;
  if (server.phase === "backing-off") return 3;
  if (server.waiting_for && !server.is_running) return 4;
  if (RISING.has(server.phase)) return 5;
  if (server.phase === "stopping") return 6;
  return server.is_ready ? 7 : 8;
}

/** The phase to show: a ready server may sleep. */
export const phaseOf = (server) => server.is_sleeping ? "sleeping" : server.phase;

/** The colour of a phase: `bad`, `warn`, `busy`, `good` or `off`. */
export function level(server) {
  const rank = trouble(server);
  if (rank < 2) return "bad";
  if (rank < 5) return "warn";
  if (rank < 7) return "busy";
  return rank === 7 ? "good" : "off";
}

const names = new Intl.Collator("en", { numeric: true });

/** Trouble first, then by id, as people count: `model-9` before `model-10`. */
export const byTrouble = (a, b) => trouble(a) - trouble(b) || names.compare(a.server, b.server);

export function writeVerdict(status, now) {
  const { text, since, rest, level } = sentence(status);
  const verdict = byId("verdict");
  verdict.dataset.level = level;
  const wanted = `${text}\0${rest}\0${since !== null}`;
  if (verdict.dataset.wanted !== wanted) {
    verdict.dataset.wanted = wanted;
    const parts = [element("span", text)];
    if (since !== null) {
      // Time that passes is no news: it is not read out again.
      const passed = element("span");
      passed.setAttribute("aria-live", "off");
      parts.push(passed, element("span", rest));
    }
    verdict.replaceChildren(...parts);
  }
  if (since !== null) setText(verdict.children[1], ` ${age((now - since) / 1000)} ago`);
}

function sentence(status) {
  const servers = status.servers;
  const none = { since: null, rest: "" };
  if (status.configuration_refused) {
    return { ...none, level: "warn", text: `${count(status)} · the changed configuration is refused: ${firstLine(status.configuration_refused)}` };
  }
  if (servers.length === 0) return { ...none, level: "off", text: "No server is configured" };
  const [worst] = [...servers].sort(byTrouble);
  const alike = servers.filter((server) => trouble(server) < 4 && server !== worst).length;
  const more = alike > 0 ? `, and ${alike} more` : "";
  switch (trouble(worst)) {
    case 0:
    case 1: {
      const word = trouble(worst) === 0 ? "was given up" : "failed";
      const failure = worst.last_failure;
      if (!failure) return { ...none, level: "bad", text: `${count(status)} · ${worst.server} ${word}${more}` };
      return { level: "bad", text: `${count(status)} · ${worst.server} ${word}`, since: Date.parse(failure.at), rest: `: ${failure.reason}${more}` };
    }
    case 2:
      return { ...none, level: "warn", text: `${count(status)} · ${worst.server} no longer answers${more}` };
    case 3:
      return { ...none, level: "warn", text: `${count(status)} · ${worst.server} is started again: ${worst.last_failure?.reason ?? "it ended"}${more}` };
    case 4:
      return { ...none, level: "warn", text: `${count(status)} · ${worst.server} waits for memory${more}` };
    default: {
      const rising = servers.filter((server) => RISING.has(server.phase)).length;
      const stopping = servers.filter((server) => server.phase === "stopping").length;
      const down = servers.filter((server) => DOWN.has(server.phase)).length;
      const parts = [[rising, "starting"], [stopping, "stopping"], [down, "not started"]];
      const told = parts.filter(([number]) => number > 0).map(([number, word]) => `${number} ${word}`);
      return { ...none, level: rising + stopping > 0 ? "busy" : "good", text: [count(status), ...told].join(" · ") };
    }
  }
}

function count({ ready_servers: ready, total_servers: total }) {
  if (ready < total) return `${ready} of ${total} ready`;
  return total === 1 ? "The server is ready" : `All ${plural(total, "server")} ready`;
}

const firstLine = (text) => text.split("\n", 1)[0];

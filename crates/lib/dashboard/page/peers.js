// The servers of other machines, as rows that are only read.

import { get } from "./daemon.js";
import { clock } from "./text.js";

/** Rows like those of servers; `peer` is the page of their daemon. A daemon that does not answer is a row too. */
export let peerRows = [];

export async function readPeers() {
  const peers = await get("api/v1/peers");
  peerRows = peers.flatMap(({ name, url, problem, status }) => {
    const row = (server) => {
      const id = `${name}/${server.server}`;
      return { ...server, peer: url, server: id, display_name: server.display_name === server.server ? id : server.display_name };
    };
    if (status) return status.servers.map(row);
    const note = `${problem.reason} since ${clock(problem.since)}: ${problem.detail}; ${problem.next_step}`;
    return [row({ server: "", phase: "no answer", waiting_for: note, note, host: "", base_url: url, restarts: 0 })];
  });
}

// Questions to the daemon: the token, problems as errors, and streams of records.

const KEY = "llama-warden-token";

/** An answer that is no success: what the daemon says about it, with the next step. */
export class Problem extends Error {
  constructor(status, { reason = "", detail = "", next_step: nextStep = "" }) {
    super(detail || `the daemon answered ${status}`);
    this.status = status;
    this.reason = reason;
    this.nextStep = nextStep ?? "";
  }

  /** What went wrong and what to do, in one text. */
  get advice() {
    return this.nextStep ? `${this.message}. Next: ${this.nextStep}` : this.message;
  }
}

/** What an error says to a person. */
export const adviceOf = (error) =>
  error instanceof Problem ? error.advice : "the daemon does not answer";

export const hasToken = () => sessionStorage.getItem(KEY) !== null;
export const setToken = (token) => sessionStorage.setItem(KEY, token);

/** Milliseconds that the clock of the daemon's machine is ahead of this one. */
let skew = 0;
export const daemonNow = () => Date.now() + skew;

async function ask(path, options = {}) {
  const token = sessionStorage.getItem(KEY);
  const headers = { Accept: "application/json", ...options.headers };
  if (token !== null) headers.Authorization = `Bearer ${token}`;
  const answer = await fetch(path, { ...options, headers, cache: "no-store" });
  const date = Date.parse(answer.headers.get("date") ?? "");
  // The header has whole seconds: a smaller difference says nothing.
  if (Math.abs(date - Date.now()) > 2000) skew = date - Date.now();
  if (answer.ok) return answer;
  throw new Problem(answer.status, await answer.json().catch(() => ({})));
}

export const get = async (path) => (await ask(path)).json();
export const send = async (method, path) => (await ask(path, { method })).json();

export const serverPath = (id) => `api/v1/servers/${encodeURIComponent(id)}`;

/** Reads a stream of JSON lines until it ends, which is no error. Calls `opened` once and `read` with the records of each piece. */
export async function follow(path, { signal, opened, read }) {
  const answer = await ask(path, { signal, headers: { Accept: "application/x-ndjson" } });
  opened?.();
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    const records = lines.filter((line) => line.trim() !== "").map((line) => JSON.parse(line));
    if (records.length > 0) read(records);
  }
}

// A stub of the daemon: serves the page from its sources, and an API whose fleet and events a test makes up.

import { createServer } from "node:http";
import { readFileSync } from "node:fs";
import { extname, join } from "node:path";

const TYPES = { ".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml" };
const POLICY = "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'; require-trusted-types-for 'script'; trusted-types 'none'";
const GIB = 2 ** 30;

export function server(id, changes = {}) {
  const phase = changes.phase ?? "ready";
  const isRunning = !["idle", "failed", "exited", "backing-off"].includes(phase);
  return {
    model_id: id, server: id, display_name: id, host: "127.0.0.1", port: 8001, base_url: "http://127.0.0.1:8001", model: `/srv/models/${id}.gguf`,
    pid: isRunning ? 4711 : null, is_ready: phase === "ready", is_running: isRunning, uptime_seconds: isRunning ? 11_520 : 0, tier: "Q4_K_M",
    is_thinking: false, enabled: true, phase, phase_seconds: 11_500, ready_via: "health", startup_seconds: 12.4, usual_startup_seconds: 12.1,
    incarnation: 1, restarts: 0, detector: "llama-server-b11xxx", llama_version: "b11669", progress: null, waiting_for: null, note: null,
    health: { at: new Date().toISOString(), ok: true, latency_ms: 1.2, latency_seconds: 0.0012, failures: 0 },
    memory: { weights_bytes: 4.6 * GIB, kv_bytes: 1.2 * GIB, compute_bytes: 0.4 * GIB, gpu_bytes: 0 }, last_failure: null, restart_abandoned: null,
    requests: isRunning ? { count: 12, prompt_tokens: 900, decode_tokens: 4000, prompt_tokens_per_second: null, decode_tokens_per_second: null, slots_busy: 0, last_at: null } : null,
    ...changes,
  };
}

const detail = (server) => ({
  history: [
    { phase: "launching", at: ago(40), incarnation: 1 }, { phase: "starting", at: ago(39.8), incarnation: 1 }, { phase: "loading", at: ago(39), incarnation: 1 },
    { phase: "ready", at: ago(27), incarnation: 1 },
  ],
  argv: ["/usr/bin/llama-server", "--model", server.model, "--port", "8001", "--ctx-size", "8192", "--flash-attn", "on"],
  options: [{ option: "flash-attn", treatment: "translated", spelled: ["--flash-attn", "on"], because: "this build takes a value", dialect: "b6325" }],
  dialect: "b6325", warnings: [], last_end: null, stop_reason: null, ...server,
});

export const ago = (seconds) => new Date(Date.now() - seconds * 1000).toISOString();

export class Stub {
  constructor(servers) {
    this.servers = servers;
    this.boot = "00000000000000aa";
    this.seq = 100;
    this.profile = null;
    this.profiles = [];
    this.peers = [];
    this.lines = {};
    this.memory = { host: { total_bytes: 64 * GIB, available_bytes: 31 * GIB, cgroup: null }, gpus: [], servers: {} };
    this.events = [];
    this.followers = new Set();
    this.asked = [];
    this.sockets = new Set();
  }

  async listen(port = 0) {
    this.http = createServer((request, response) => this.answer(request, response));
    this.http.on("connection", (socket) => {
      this.sockets.add(socket);
      socket.on("close", () => this.sockets.delete(socket));
    });
    await new Promise((resolve) => this.http.listen(port, "127.0.0.1", resolve));
    this.port = this.http.address().port;
    this.url = `http://127.0.0.1:${this.port}/`;
    return this;
  }

  /** Ends like a daemon that is killed. */
  async die() {
    const closed = new Promise((resolve) => this.http.close(resolve));
    for (const socket of this.sockets) socket.destroy();
    this.followers.clear();
    await closed;
  }

  status() {
    return {
      total_servers: this.servers.length, ready_servers: this.servers.filter(({ is_ready: isReady }) => isReady).length,
      running_servers: this.servers.filter(({ is_running: isRunning }) => isRunning).length, profile: this.profile, version: "0.1.0",
      configuration_refused: null, guardian: null, boot: this.boot, seq: this.seq, servers: this.servers,
    };
  }

  /** Publishes an event. */
  publish(server, event) {
    this.seq += 1;
    const envelope = { seq: this.seq, boot: this.boot, at: new Date().toISOString(), elapsed: this.seq, server, incarnation: 1, event };
    this.events.push(envelope);
    this.write(envelope);
  }

  /** Publishes a gap: `missed` events that no follower gets. */
  gap(missed) {
    this.seq += missed;
    this.write({ gap: { missed, snapshot: this.status() } });
  }

  write(record) {
    for (const follower of this.followers) follower.write(`${JSON.stringify(record)}\n`);
  }

  answer(request, response) {
    const { pathname, searchParams } = new URL(request.url, this.url);
    if (!pathname.startsWith("/api/")) return this.file(pathname, response);
    this.asked.push(`${request.method} ${pathname}${searchParams.size > 0 ? `?${searchParams}` : ""}`);
    const json = (value, status = 200) => {
      response.writeHead(status, { "content-type": "application/json" });
      response.end(JSON.stringify(value));
    };
    const [, id, what] = pathname.match(/^\/api\/v1\/servers\/([^/]+)(?:\/(.+))?$/) ?? [];
    const server = this.servers.find(({ server }) => server === id && decodeURIComponent(id) === server);
    if (pathname === "/api/v1/status") return json(this.status());
    if (pathname === "/api/v1/peers") return json(this.peers);
    if (pathname === "/api/v1/memory") return json(this.memory);
    if (pathname === "/api/v1/profiles") return json(this.profiles);
    if (pathname.startsWith("/api/v1/profiles/")) return json({ command: 1, outcome: null, stop: ["coder"], start: ["embed"], restart: [], keep: ["qwen3"], status: this.status() });
    if (pathname === "/api/v1/events") return this.follow(searchParams, request, response);
    if (server && what === "logs") {
      response.writeHead(200, { "content-type": "application/x-ndjson" });
      for (const record of this.lines[id] ?? []) response.write(`${JSON.stringify(record)}\n`);
      return;
    }
    if (server && what) return json({ command: this.seq, outcome: null, ...detail(server) }, 202);
    if (server) return json(detail(server));
    json({ reason: "unknown-path", detail: `no route has the path ${pathname}` }, 404);
  }

  follow(query, request, response) {
    response.writeHead(200, { "content-type": "application/x-ndjson" });
    const [boot, seq] = query.get("since").split(":");
    const known = this.events.filter((envelope) => envelope.seq > Number(seq));
    if (boot !== this.boot) response.write(`${JSON.stringify({ gap: { missed: this.seq, snapshot: this.status() } })}\n`);
    else for (const envelope of known) response.write(`${JSON.stringify(envelope)}\n`);
    response.write("\n");
    this.followers.add(response);
    response.on("close", () => this.followers.delete(response));
  }

  file(pathname, response) {
    const name = pathname === "/" ? "index.html" : pathname.replace("/dashboard/", "");
    try {
      const content = readFileSync(join(process.env.LLAMA_WARDEN_TEST_PAGE, name));
      response.writeHead(200, { "content-type": TYPES[extname(name)], "content-security-policy": POLICY });
      response.end(content);
    } catch {
      response.writeHead(404).end();
    }
  }
}

/** A fleet with something of everything, for pictures. */
export function sample() {
  const failure = { reason: "out-of-memory", detail: "the GPU has no room for the KV cache: lower ctx-size, or n-gpu-layers", at: ago(250), lines: [
    "ggml_backend_cuda_buffer_type_alloc_buffer: allocating 9216.00 MiB on device 0: cudaMalloc failed: out of memory",
    "llama_init_from_model: failed to initialize the context: failed to allocate buffer for kv cache",
    "main: exiting due to model loading error",
  ] };
  const rates = (prompt, decode, busy) => ({ count: 480, prompt_tokens: 91_000, decode_tokens: 40_000, prompt_tokens_per_second: prompt, decode_tokens_per_second: decode, slots_busy: busy, last_at: ago(1) });
  const at = (port) => ({ port, base_url: `http://127.0.0.1:${port}` });
  const memory = (weights, kv) => ({ weights_bytes: weights * GIB, kv_bytes: kv * GIB, compute_bytes: 0.4 * GIB, gpu_bytes: 0 });
  const stub = new Stub([
    server("qwen3", { ...at(8001), model: "/srv/models/Qwen3-8B.gguf", display_name: "Qwen3 8B", requests: rates(812, 46.3, 3), memory: memory(4.7, 1.1) }),
    server("coder", { ...at(8002), model: "/srv/models/Qwen3-Coder-30B-A3B.gguf", phase: "failed", last_failure: failure, restart_abandoned: "out of memory is not tried again after 5 failures", restarts: 5,
      note: "out-of-memory: the GPU has no room for the KV cache: lower ctx-size, or n-gpu-layers; given up: 5 failures in a row", memory: memory(17.3, 9.0) }),
    server("gemma3-12b", { ...at(8003), model: "/srv/models/gemma-3-12b-it.gguf", tier: "Q6_K", phase: "loading", progress: 0.62, uptime_seconds: 7, phase_seconds: 6, usual_startup_seconds: 11.8, requests: null, memory: memory(9.1, 1.6) }),
    server("mistral", { ...at(8004), model: "/srv/models/Mistral-Small-24B.gguf", phase: "backing-off", restarts: 2, last_failure: { reason: "crashed", detail: "SIGSEGV", at: ago(12), lines: [] },
      note: "crashed: the process was ended by SIGSEGV; restart 2 of 5 in 3.1 s", waiting_for: "restart 2 of 5 in 3.1 s", memory: memory(13.4, 2.0) }),
    server("embed", { ...at(8005), model: "/srv/models/bge-m3.gguf", tier: "F16", requests: rates(5400, null, 0), memory: memory(1.1, 0.1) }),
    server("phi4-mini", { ...at(8006), model: "/srv/models/Phi-4-mini.gguf", requests: rates(150, 88.1, 1), memory: memory(2.4, 0.6) }),
    server("tiny", { ...at(8007), phase: "idle", enabled: false, note: "stopped by hand", memory: memory(0.7, 0.2), requests: null }),
  ]);
  stub.profile = "day";
  stub.memory.servers = { qwen3: 5.9 * GIB, "gemma3-12b": 6.2 * GIB, embed: 1.3 * GIB, "phi4-mini": 3.1 * GIB };
  stub.memory.gpus = [];
  stub.profiles = [
    { name: "day", description: "chat and embeddings", servers: ["qwen3", "embed"], active: true },
    { name: "code", description: "the large coder alone", servers: ["coder"], active: false },
  ];
  stub.lines.qwen3 = ["build: 11669 (a1b2c3d) with GCC 14 for x86_64-linux-gnu", "load_model: loading model '/srv/models/Qwen3-8B.gguf'", "slot launch_slot_: id  0 | task 0 | processing task", "main: server is listening on http://127.0.0.1:8001"]
    .map((line, at) => ({ stream: "stderr", order: at + 1, incarnation: 1, at: ago(30 - at), line }));
  stub.publish("coder", { type: "ServerFailed", reason: "out-of-memory", detail: failure.detail, lines: failure.lines });
  stub.publish("coder", { type: "RestartAbandoned", attempts: 5 });
  stub.publish("gemma3-12b", { type: "LaunchBegan", binary: "llama-server" });
  stub.publish("gemma3-12b", { type: "LoadProgressed", ratio: 0.62 });
  stub.publish("mistral", { type: "ServerExited", end: { kind: "signal", signal: "SEGV" }, swept: 0 });
  stub.publish("mistral", { type: "RestartScheduled", attempt: 2, max_attempts: 5, delay_seconds: 3.1 });
  stub.seq = 103;
  return stub;
}

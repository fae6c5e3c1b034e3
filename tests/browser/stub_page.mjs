// The page over a stub of the daemon: looks, sizes, a flood of events, gaps, and text that wants to be markup.

import { readFileSync, mkdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { accessibility, equal, keep, ok, open, promise, until } from "./browser.mjs";
import { Stub, ago, sample, server } from "./stub.mjs";

const pictures = process.env.LLAMA_WARDEN_TEST_PICTURES;
mkdirSync(pictures, { recursive: true });

const text = (page, selector) => page.locator(selector).textContent();
const ids = (page) => page.$$eval("#servers tbody tr", (rows) => rows.filter((row) => !row.hidden).map((row) => row.dataset.id));

/** Opens the sample fleet, and ends with the tab and the stub. */
async function withSample(browser, options, check) {
  const stub = sample();
  stub.seq = 106;
  await stub.listen();
  const page = await open(browser, stub.url, options);
  await page.waitForSelector("#event-list li");
  await page.waitForSelector("#memory figure");
  await check(page, stub);
  equal(page.errors, [], "errors of the page");
  await page.context().close();
  await stub.die();
}

const SIGHTS = [
  ["light", {}],
  ["dark", { colorScheme: "dark" }],
  ["narrow", { viewport: { width: 320, height: 700 } }],
  ["4k", { viewport: { width: 3840, height: 2160 } }],
];

for (const [name, options] of SIGHTS) {
  promise(`the page is accessible and fits: ${name}`, (browser) => withSample(browser, options, async (page, stub) => {
    // The sparklines need a few figures.
    if (name === "light") {
      for (const value of [31, 44, 38, 52]) {
        stub.servers[0].requests.decode_tokens_per_second = value;
        const asked = stub.asked.length;
        await until("another status is read", () => stub.asked.slice(asked).some((path) => path.endsWith("/status")));
      }
    }
    equal(await accessibility(page), [], "axe");
    ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), "the page is wider than its window");
    const file = join(pictures, `dashboard-${name}.png`);
    await page.screenshot({ path: file });
    if (name === "light" || name === "dark") {
      await page.click("tr[data-id=coder] .name");
      await page.waitForSelector("#why pre");
      equal(await accessibility(page), [], "axe of the drawer");
      await page.screenshot({ path: join(pictures, `dashboard-why-${name}.png`) });
      for (const tab of ["log", "command", "talk"]) {
        await page.click(`#tab-${tab}`);
        equal(await accessibility(page), [], `axe of ${tab}`);
        await page.screenshot({ path: join(pictures, `dashboard-${tab}-${name}.png`) });
      }
      for (const key of ["Escape", "?"]) await page.keyboard.press(key);
      equal(await accessibility(page), [], "axe of the keys");
    }
    ok(name === "4k" || statSync(file).size < 150_000, "the picture is too large for the documentation");
  }));
}

promise("a wide address and a long name make no page wider than 320 pixels", async (browser) => {
  const long = "x".repeat(64);
  const stub = await new Stub([server(long, { note: "y".repeat(300), base_url: `http://${"z".repeat(90)}:8001` })]).listen();
  const page = await open(browser, stub.url, { viewport: { width: 320, height: 600 } });
  await page.waitForSelector("#servers tbody tr");
  ok(await page.evaluate(() => document.documentElement.scrollWidth <= 320), "it is wider");
  await page.context().close();
  await stub.die();
});

promise("the verdict is one sentence and the only live region", (browser) => withSample(browser, {}, async (page) => {
  const verdict = await text(page, "#verdict");
  ok(/^3 of 7 ready · coder was given up 4 min ago: out-of-memory, and 1 more$/.test(verdict), verdict);
  const live = await page.$$eval("[aria-live]:not([aria-live=off]), [role=status], [role=alert], [role=log]", (found) => found.map(({ id }) => id));
  equal(live, ["verdict"], "live regions");
}));

promise("trouble is on top, and the filter shows what it names", (browser) => withSample(browser, {}, async (page) => {
  equal(await ids(page), ["coder", "mistral", "gemma3-12b", "embed", "phi4-mini", "qwen3", "tiny"], "order");
  await page.keyboard.press("/");
  await page.keyboard.type("q4_k_m ready");
  equal(await ids(page), ["phi4-mini", "qwen3"], "filtered");
  equal(await text(page, "#shown"), "2 of 7", "count");
  await page.keyboard.press("Escape");
  equal((await ids(page)).length, 7, "all again");
}));

promise("memory bars name what is held, promised, free, and what would not fit", (browser) => withSample(browser, {}, async (page) => {
  const caption = await text(page, "#memory figcaption");
  for (const part of ["RAM", "servers hold 17 GiB", "promised", "free", "of 64 GiB", "would not fit now: coder (27 GiB)"]) ok(caption.includes(part), caption);
}));

promise("a build that prints no requests has no figures of them", async (browser) => {
  const stub = await new Stub([server("silent", { requests: null })]).listen();
  const page = await open(browser, stub.url);
  await page.waitForSelector("#servers tbody tr");
  equal([await text(page, ".busy"), await text(page, ".prompt"), (await text(page, ".decode")).trim()], ["–", "–", "–"], "figures");
  await page.click("tr[data-id=silent] .name");
  await page.keyboard.press("x");
  ok((await text(page, "#confirm-text")).includes("is not known"), "the question says that the number is not known");
  await page.context().close();
  await stub.die();
});

promise("short times, long fractions, whole words and an empty log are easy to read", async (browser) => {
  const stub = new Stub([server("quick", { startup_seconds: 0.023, usual_startup_seconds: 0 })]);
  stub.publish("quick", { type: "RestartScheduled", attempt: 12345, delay_seconds: 4.9077483950000005, latency_seconds: 0.000639 });
  stub.seq = 101;
  await stub.listen();
  const page = await open(browser, stub.url);
  await page.waitForSelector("#event-list li");
  equal(await text(page, "#event-list li span"), "quick  attempt=12345  delay_seconds=4.908  latency_seconds=0.000639", "numbers");
  await page.click("tr[data-id=quick] .name");
  await page.waitForSelector("#why dl");
  const facts = await text(page, "#why");
  ok(facts.includes("23 ms") && facts.includes("0.0 s"), facts);
  await page.click("#tab-log");
  const empty = await page.$eval("#log-lines", (list) => getComputedStyle(list, "::before").content);
  ok(empty.includes("Nothing printed yet"), empty);
  await page.click("#tab-command");
  const heights = await page.$$eval("#command td:nth-child(2)", (cells) => cells.map((cell) => cell.scrollWidth <= cell.clientWidth && getComputedStyle(cell).overflowWrap));
  equal(heights, ["normal"], "the words of a treatment are whole");
  equal(page.errors, [], "errors of the page");
  await page.context().close();
  await stub.die();
});

promise("names are in the order in which people count, and what an event holds is in words", async (browser) => {
  const stub = new Stub(["m-10", "m-9", "m-100"].map((id) => server(id)));
  stub.publish("m-9", { type: "ServerExited", end: { kind: "signal", signal: "SEGV", code: null }, swept: 0, lines: ["one", "two"] });
  stub.seq = 101;
  await stub.listen();
  const page = await open(browser, stub.url);
  await page.waitForSelector("#event-list li");
  equal(await ids(page), ["m-9", "m-10", "m-100"], "order");
  equal(await text(page, "#event-list li span"), "m-9  end=kind signal, signal SEGV  swept=0  lines=one, two", "the event");
  await page.context().close();
  await stub.die();
});

promise("a server that sleeps is shown and found as such", async (browser) => {
  const stub = await new Stub([server("awake"), server("dozer", { is_sleeping: true, note: "a request loads it again" })]).listen();
  const page = await open(browser, stub.url);
  await page.waitForSelector("#servers tbody tr");
  equal([await text(page, "tr[data-id=awake] .phase"), await text(page, "tr[data-id=dozer] .phase")], ["ready", "sleeping"], "phases");
  equal(await text(page, "#verdict"), "All 2 servers ready", "it answers requests");
  await page.keyboard.press("/");
  await page.keyboard.type("sleeping");
  equal(await ids(page), ["dozer"], "filtered");
  await page.context().close();
  await stub.die();
});

promise("a stop says how many requests run, and is asked once", (browser) => withSample(browser, {}, async (page, stub) => {
  await page.focus("tr[data-id=qwen3] .name");
  await page.keyboard.press("x");
  ok((await text(page, "#confirm-text")).startsWith("3 requests run now"), await text(page, "#confirm-text"));
  equal(stub.asked.filter((path) => path.startsWith("POST")), [], "nothing is asked before the answer");
  await page.keyboard.press("Enter");
  await until("the stop is asked", () => stub.asked.includes("POST /api/v1/servers/qwen3/stop"));
  await page.waitForSelector("#confirm", { state: "hidden" });
}));

promise("a row is started by a key, its address is copied by a click, and its speed is drawn", (browser) => withSample(browser, { permissions: ["clipboard-read", "clipboard-write"] }, async (page, stub) => {
  await page.focus("tr[data-id=tiny] .name");
  await page.keyboard.press("s");
  await until("the start is asked", () => stub.asked.includes("POST /api/v1/servers/tiny/start"));
  await page.click("tr[data-id=qwen3] .address");
  await until("it is said", async () => (await text(page, "tr[data-id=qwen3] .address")) === "copied");
  equal(await page.evaluate(() => navigator.clipboard.readText()), "http://127.0.0.1:8001", "the address");
  await until("two figures make a line", async () => /^\S+ \S+/.test((await page.getAttribute("tr[data-id=qwen3] polyline", "points")) ?? ""));
}));

promise("a switch shows its plan before its button works", (browser) => withSample(browser, {}, async (page, stub) => {
  await page.keyboard.press("p");
  await page.waitForSelector("#profile-list label");
  ok(await page.isDisabled("#switch"), "the button works without a plan");
  await page.click("#profile-list label:has-text('code')");
  await page.waitForSelector("#plan dd");
  equal(await page.$$eval("#plan dd", (cells) => cells.map((cell) => cell.textContent)), ["coder", "none", "embed", "qwen3"], "plan");
  equal(stub.asked.filter((path) => path.startsWith("POST")), ["POST /api/v1/profiles/code/activate?dry_run=1"], "only planned");
  await page.screenshot({ path: join(pictures, "dashboard-profiles.png") });
  await page.click("#switch");
  await until("the switch is asked", () => stub.asked.includes("POST /api/v1/profiles/code/activate"));
}));

promise("text of servers is never markup", async (browser) => {
  const evil = "<img src=x onerror=alert(1)><script>alert(2)</script>";
  const stub = new Stub([
    server("a", { display_name: evil, model: `/m/${evil}.gguf`, tier: evil, note: evil, llama_version: evil, phase: "failed", detector: evil,
      restart_abandoned: evil, last_failure: { reason: "crashed", detail: evil, at: ago(3), lines: [evil, "\u001b[31m\u202e"] } }),
    server(evil, { phase: "unready" }),
  ]);
  stub.profiles = [{ name: evil, description: evil, servers: [], active: false }];
  stub.profile = evil;
  stub.lines.a = [{ stream: "stderr", order: 1, incarnation: 1, at: ago(1), line: evil }];
  stub.publish("a", { type: "ServerFailed", reason: "crashed", detail: evil, lines: [evil] });
  stub.seq = 101;
  await stub.listen();
  const page = await open(browser, stub.url);
  await page.waitForSelector("#event-list li");
  await page.click("tr[data-id=a] .name");
  await page.waitForSelector("#why pre");
  for (const tab of ["log", "command", "talk"]) await page.click(`#tab-${tab}`);
  await page.click("#tab-log");
  await page.waitForSelector("#log-lines li.stderr");
  equal(await text(page, "#log-lines li.stderr span"), evil, "the line as text");
  await page.keyboard.press("p");
  await page.waitForSelector("#profile-list b");
  ok((await page.$$eval("#profile-list b", (names) => names.map((name) => name.textContent))).includes(evil), "the profile as text");
  equal(await page.$$eval("img, main script, aside script, dialog script", (found) => found.length), 0, "elements made of text");
  // The policy holds even for a script that the page itself adds.
  const refused = await page.evaluate(() => { try { document.body.innerHTML = "<b>x</b>"; return false; } catch { return true; } });
  ok(refused, "the page can make markup of a string");
  equal(page.errors.filter((error) => !error.includes("TrustedHTML")), [], "errors of the page");
  await page.context().close();
  await stub.die();
});

promise("a gap is shown, and the state behind it", (browser) => withSample(browser, {}, async (page, stub) => {
  stub.servers[1] = server("coder", { note: null });
  stub.gap(87);
  await page.waitForSelector("#event-list li.gap");
  ok((await text(page, "#event-list li.gap")).includes("87 events missed"), "the gap in the list");
  ok((await text(page, "#banner")).includes("87 events missed"), "the gap in the banner");
  await until("the state of the gap", async () => (await text(page, "tr[data-id=coder] .phase")) === "ready");
  // The stream goes on behind the gap.
  stub.publish("coder", { type: "HealthProbed", ok: true });
  await until("the event after the gap", async () => (await page.locator("#event-list li b").first().textContent()) === "HealthProbed");
}));

promise("a stream that breaks off is resumed behind its last event", (browser) => withSample(browser, {}, async (page, stub) => {
  const { port } = stub;
  await stub.die();
  await page.waitForSelector("#connection[data-state=lost]");
  ok(/disconnected since \d\d:\d\d:\d\d/.test(await text(page, "#connection")), "since when");
  stub.asked.length = 0;
  stub.publish("qwen3", { type: "ReadyLost", detail: "while nobody looked" });
  await stub.listen(port);
  await page.waitForSelector("#connection[data-state=live]");
  ok(stub.asked.some((path) => path.includes(`since=${encodeURIComponent(`${stub.boot}:106`)}`)), stub.asked.join("\n"));
  await until("the event of meanwhile", async () => (await page.locator("#event-list li b").first().textContent()) === "ReadyLost");
  ok((await text(page, "#banner")).includes("was not reached from"), "the banner says how long");
  await stub.die();
  // Another run of the daemon begins its numbers anew.
  await page.waitForSelector("#connection[data-state=lost]");
  [stub.boot, stub.seq, stub.events] = ["00000000000000bb", 3, []];
  await stub.listen(port);
  await page.waitForSelector("#connection[data-state=live]");
  await until("the new run is told", async () => (await text(page, "#banner")).includes("started anew"));
}));

promise("events are filtered and copied as JSON", (browser) => withSample(browser, { permissions: ["clipboard-read", "clipboard-write"] }, async (page) => {
  await page.keyboard.press("e");
  await page.keyboard.type("mistral");
  equal(await text(page, "#events-shown"), "2 of 6", "count");
  await page.click("#copy-events");
  await until("the copy", async () => (await text(page, "#copy-events")) === "copied");
  const copied = (await page.evaluate(() => navigator.clipboard.readText())).split("\n").map((line) => JSON.parse(line));
  equal(copied.map(({ event }) => event.type), ["ServerExited", "RestartScheduled"], "the events");
  await page.locator("#event-list button").first().click();
  await until("the copy of one", async () => JSON.parse(await page.evaluate(() => navigator.clipboard.readText())).event?.type === "RestartScheduled");
}));

promise("the servers of other machines are rows that are only read, and a machine that does not answer is one", (browser) => withSample(browser, {}, async (page, stub) => {
  const row = (id) => page.locator(`tr[data-id="${id}"]`);
  const answering = { name: "gpu2", url: stub.url, problem: null, answered_at: ago(0), status: { servers: [server("coder"), server("<b>x")] } };
  const problem = { reason: "timed-out", detail: "no answer within 2 s", next_step: "see why it hangs", since: ago(250) };
  stub.peers = [answering, { name: "gpu3", url: "http://gpu3:9888", problem, answered_at: null, status: null }];
  await row("gpu2/coder").waitFor();
  await row("gpu2/<b>x").waitFor();
  ok((await row("gpu3/").textContent()).includes("timed-out since"), "the reason is told");
  ok((await row("gpu3/").textContent()).includes("no answer within 2 s; see why it hangs"), "the next step is told");
  equal(await row("gpu3/").getAttribute("data-level"), "warn", "the level");
  for (const id of ["gpu2/coder", "gpu3/"]) {
    equal(await row(id).locator(".commands button").count(), 0, `buttons of ${id}`);
    equal(await row(id).locator(".commands").textContent(), "read only", "the mark");
  }
  ok((await row("coder").locator(".commands button").count()) > 0, "the own server keeps its buttons");
  // A key asks nothing of it.
  const asked = stub.asked.length;
  await row("gpu2/coder").locator(".name").focus();
  await page.keyboard.press("x");
  equal(await page.locator("dialog[open]").count(), 0, "no question");
  const [opened] = await Promise.all([page.context().waitForEvent("page"), row("gpu2/coder").locator(".name").click()]);
  equal(opened.url(), stub.url, "its page");
  await opened.close();
  ok(stub.asked.slice(asked).every((path) => !path.startsWith("POST")), "nothing is commanded");
  equal(await accessibility(page), [], "axe");
  await page.screenshot({ path: join(pictures, "dashboard-peers.png") });
  stub.peers = [];
  await row("gpu3/").waitFor({ state: "detached" });
}));

promise("200 rows at 50 events a second leave the page at rest most of the time", async (browser) => {
  const phases = ["ready", "loading", "failed", "backing-off"];
  const stub = await new Stub(Array.from({ length: 200 }, (_, at) => server(`server-${at}`, { phase: phases[at % 4], port: 8000 + at }))).listen();
  const page = await open(browser, stub.url);
  await page.waitForSelector("#servers tbody tr:nth-child(200)");
  await page.waitForSelector("#connection[data-state=live]");
  // The first tasks are those of the start.
  await page.evaluate(() => {
    window.long = [];
    new PerformanceObserver((list) => window.long.push(...list.getEntries().map(({ duration }) => duration))).observe({ type: "longtask" });
  });
  const session = await page.context().newCDPSession(page);
  await session.send("Performance.enable");
  const first = stub.seq;
  let at = 0;
  await new Promise((resolve) => {
    const timer = setInterval(() => {
      const index = (at * 37) % 200;
      stub.servers[index] = server(`server-${index}`, { phase: phases[(index + at) % 4], progress: 0.5, restarts: at, requests: { ...server("x").requests, decode_tokens_per_second: at, slots_busy: at % 5 } });
      stub.publish(`server-${index}`, { type: "LoadProgressed", ratio: 0.5 });
      at += 1;
      if (at === 250) {
        clearInterval(timer);
        resolve();
      }
    }, 20);
  });
  await until("the last event is shown", async () => (await page.locator("#event-list time").first().getAttribute("title")).endsWith(`:${first + 250}`));
  const { metrics } = await session.send("Performance.getMetrics");
  const spent = Object.fromEntries(metrics.map(({ name, value }) => [name, value]));
  const long = await page.evaluate(() => window.long);
  console.log(`figure 200 rows, 250 events in 5 s: ${long.length} long tasks${long.length > 0 ? `, longest ${Math.max(...long)} ms` : ""}; script ${spent.ScriptDuration.toFixed(2)} s, layout ${spent.LayoutDuration.toFixed(2)} s, style ${spent.RecalcStyleDuration.toFixed(2)} s`);
  // How long a task takes depends on what else the machine does. A page that lays out every row at each change is busy most of the time.
  const busy = spent.ScriptDuration + spent.LayoutDuration + spent.RecalcStyleDuration;
  ok(busy < 2.5, `busy for ${busy} s of 5 s; long tasks: ${long.map(Math.round).join(", ")} ms`);
  equal(page.errors, [], "errors of the page");
  await page.context().close();
  await stub.die();
});

promise("the page is no larger than 80 KB and paints at once", (browser) => withSample(browser, {}, async (page) => {
  const files = await page.evaluate(() => performance.getEntriesByType("resource").filter(({ name }) => name.includes("/dashboard/")).map(({ name, decodedBodySize }) => [name, decodedBodySize]));
  const size = files.reduce((sum, [, bytes]) => sum + bytes, 0) + readFileSync(join(process.env.LLAMA_WARDEN_TEST_PAGE, "index.html")).length;
  const paint = await page.evaluate(() => performance.getEntriesByName("first-contentful-paint")[0].startTime);
  console.log(`figure the page: ${size} bytes; first paint ${paint.toFixed(0)} ms`);
  ok(size <= 80_000, `${size} bytes`);
  ok(paint < 3000, `first paint after ${paint} ms`);
}));

await keep();

// The page over a real daemon with two servers, `a` and `b`, a third that cannot start, two profiles, and a token.

import { createInterface } from "node:readline";
import { accessibility, equal, keep, ok, open, promise, until } from "./browser.mjs";

const url = process.env.LLAMA_WARDEN_TEST_URL;
const token = process.env.LLAMA_WARDEN_TEST_TOKEN;
const answers = createInterface({ input: process.stdin });

/** Has the test do something to the daemon. */
async function ask(what) {
  const done = new Promise((resolve) => answers.once("line", resolve));
  console.log(`DO ${what}`);
  await done;
}

const text = (page, selector) => page.locator(selector).textContent();
const phase = (page, id) => text(page, `tr[data-id=${id}] .phase`);
const isIn = (page, id, wanted) => until(`${id} is ${wanted}`, async () => (await phase(page, id)) === wanted);

/** A tab that has given the token. */
async function entered(browser, options) {
  const page = await open(browser, url, options);
  await page.fill("#token", token);
  await page.keyboard.press("Enter");
  await page.waitForSelector("#connection[data-state=live]");
  return page;
}

async function end(page) {
  equal(page.errors, [], "errors of the page");
  await page.context().close();
}

promise("the token is asked for once, and kept until the tab is closed", async (browser) => {
  const page = await open(browser, url);
  await page.waitForSelector("#token-dialog[open]");
  equal(await accessibility(page), [], "axe");
  equal(await page.$$eval("#servers tbody tr", (rows) => rows.length), 0, "rows without the token");
  await page.keyboard.press("Escape");
  await page.fill("#token", "wrong");
  await page.keyboard.press("Enter");
  await until("it is refused", async () => (await text(page, "#token-problem")).includes("refuses"));
  await page.fill("#token", token);
  await page.keyboard.press("Enter");
  await page.waitForSelector("#connection[data-state=live]");
  await page.waitForSelector("tr[data-id=a]");
  await page.reload();
  await page.waitForSelector("tr[data-id=a]");
  ok(!(await page.isVisible("#token-dialog")), "it is asked for again");
  equal(await page.evaluate(() => [localStorage.length, document.cookie, location.href.includes("t0ken")]), [0, "", false], "kept elsewhere");
  // A tab of its own has nothing.
  const other = await open(browser, url);
  await other.waitForSelector("#token-dialog[open]");
  await end(other);
  await end(page);
});

promise("the names of servers are text", async (browser) => {
  const page = await entered(browser);
  equal(await text(page, "tr[data-id=a] .note"), "<img src=x onerror=alert(1)>", "the name");
  equal(await page.$$eval("img", (found) => found.length), 0, "images");
  await end(page);
});

promise("a server is stopped, started and restarted", async (browser) => {
  const page = await entered(browser);
  await isIn(page, "a", "ready");
  await page.click("tr[data-id=a] [data-command=stop]");
  equal(await text(page, "#confirm-title"), "Stop a?", "the question");
  await page.click("#confirm-do");
  await until("a is down", async () => !["ready", "stopping"].includes(await phase(page, "a")));
  ok((await text(page, "#verdict")).includes("not started"), await text(page, "#verdict"));
  await page.click("tr[data-id=a] [data-command=start]");
  await isIn(page, "a", "ready");
  const before = await page.evaluate(() => document.querySelector("tr[data-id=a] .up").textContent);
  await page.click("tr[data-id=a] .name");
  await page.waitForSelector("#why .facts");
  await page.click("#drawer-commands [data-command=restart]");
  await page.click("#confirm-do");
  await until("another launch", async () => /launch 3/.test(await text(page, "#why .timeline")));
  await isIn(page, "a", "ready");
  ok(before !== "", "an uptime");
  await end(page);
});

promise("a server that cannot start says why, with the next step", async (browser) => {
  const page = await entered(browser);
  await page.click("tr[data-id=broken] [data-command=start]");
  await until("the failure", async () => (await text(page, "tr[data-id=broken] .failure")).includes("model-not-found"));
  await page.click("tr[data-id=broken] .name");
  await until("the reason", async () => (await text(page, "#why")).includes("model-not-found"));
  await page.keyboard.press("Escape");
  await end(page);
});

promise("a log is followed over a restart, paused and searched", async (browser) => {
  const page = await entered(browser);
  await page.click("tr[data-id=b] .name");
  await page.click("#tab-log");
  await page.waitForSelector("#log-lines li.mark");
  const launches = () => page.$$eval("#log-lines li.mark", (marks) => marks.length);
  const first = await launches();
  await page.click("#pause-log");
  await page.click("#drawer-commands [data-command=restart]");
  await page.click("#confirm-do");
  await until("lines wait while it is paused", async () => /Follow \(\d+ new\)/.test(await text(page, "#pause-log")));
  equal(await launches(), first, "launches while it is paused");
  await page.click("#pause-log");
  await until("the new launch is shown", async () => (await launches()) === first + 1);
  const all = await page.$$eval("#log-lines li", (lines) => lines.length);
  await page.fill("#log-search", "listening");
  const shown = await page.$$eval("#log-lines li", (lines) => lines.filter((line) => !line.hidden).map((line) => line.textContent));
  ok(shown.length > 0 && shown.length < all && shown.every((line) => line.includes("listening")), JSON.stringify(shown));
  await isIn(page, "b", "ready");
  await end(page);
});

promise("a command line is shown with what was changed, and how to talk to the server", async (browser) => {
  const page = await entered(browser);
  await page.click("tr[data-id=a] .name");
  await page.click("#tab-command");
  await until("the command line", async () => (await text(page, "#command")).includes("--port"));
  await page.click("#tab-talk");
  const talk = await text(page, "#talk");
  const lines = talk.match(/curl http:\/\/127\.0\.0\.1:\d+\/v1\/chat\/completions/g) ?? [];
  // Through the router, which needs the model's name, and at the server itself.
  ok(new Set(lines).size === 2 && talk.includes(`{"model":"a",`) && talk.includes(`{"messages":`), talk);
  await end(page);
});

promise("a profile is switched to after its plan was seen", async (browser) => {
  const page = await entered(browser);
  await page.click("#open-profiles");
  await page.click("#profile-list label:has-text('only b')");
  await page.waitForSelector("#plan dd");
  equal(await page.$$eval("#plan dd", (cells) => cells.map((cell) => cell.textContent)), ["a", "none", "none", "b"], "plan");
  await page.click("#switch");
  await until("it is active", async () => (await text(page, "#profile")) === "alone");
  await until("a is down", async () => !["ready", "stopping"].includes(await phase(page, "a")));
  equal(await phase(page, "b"), "ready", "b");
  await page.click("#open-profiles");
  await page.click("#profile-list label:has-text('every enabled')");
  await page.click("#switch:not([disabled])");
  await isIn(page, "a", "ready");
  await end(page);
});

promise("everything goes by keyboard", async (browser) => {
  const page = await entered(browser);
  await isIn(page, "a", "ready");
  await isIn(page, "b", "ready");
  const key = (name) => page.keyboard.press(name);
  await key("?");
  ok(await page.isVisible("#help"), "the keys");
  await key("Escape");
  await key("/");
  await page.keyboard.type("b.gguf");
  // The first one clears the filter.
  await key("Escape");
  await page.keyboard.type("ready");
  await key("ArrowDown");
  const focused = () => page.evaluate(() => document.activeElement.closest("tr")?.dataset.id ?? document.activeElement.id);
  equal(await focused(), "a", "the first row that the filter left");
  await key("j");
  equal(await focused(), "b", "the next row");
  await key("k");
  await key("Enter");
  await page.waitForSelector("#why .facts");
  equal(await focused(), "drawer-title", "the focus is in the drawer");
  for (let at = 0; (await focused()) !== "tab-why" && at < 8; at += 1) await key("Tab");
  await key("ArrowRight");
  equal(await focused(), "tab-log", "the next tab");
  ok(await page.isVisible("#log-lines"), "the log");
  await key("Escape");
  equal(await focused(), "a", "the focus is back");
  await key("x");
  await page.waitForSelector("#confirm[open]");
  await key("Escape");
  equal(await phase(page, "a"), "ready", "a stop that was cancelled");
  await page.focus("tr[data-id=a] .name");
  await key("r");
  await page.waitForSelector("#confirm[open]");
  await key("Enter");
  await page.waitForSelector("#confirm", { state: "hidden" });
  await isIn(page, "a", "ready");
  await key("l");
  await page.waitForSelector("#log-lines li");
  await key("Escape");
  await key("p");
  await page.waitForSelector("#profile-list input");
  await key("Escape");
  await key("e");
  equal(await focused(), "event-filter", "the filter of events");
  await end(page);
});

promise("a daemon that was killed is said to be away, and is back without a reload", async (browser) => {
  const page = await entered(browser);
  await isIn(page, "a", "ready");
  await page.click("tr[data-id=a] .name");
  await page.click("#tab-log");
  await page.waitForSelector("#log-lines li.mark");
  await ask("kill");
  await page.waitForSelector("#connection[data-state=lost]");
  ok(/disconnected since \d\d:\d\d:\d\d/.test(await text(page, "#connection")), "since when");
  ok((await text(page, "#banner")).includes("what is shown is from before"), await text(page, "#banner"));
  equal(await page.$$eval("#servers tbody tr", (rows) => rows.length), 3, "the rows stay");
  equal(await accessibility(page), [], "axe");
  await ask("up");
  await page.waitForSelector("#connection[data-state=live]");
  await isIn(page, "a", "ready");
  await until("the gap is told", async () => (await text(page, "#banner")).includes("started anew"));
  ok((await page.$$eval("#event-list li.gap", (gaps) => gaps.length)) > 0, "the gap in the list");
  await until("the log goes on", async () => (await text(page, "#log-lines")).includes("launch 1"));
  await end(page);
});

await keep();

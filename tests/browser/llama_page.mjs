// llama-server's own page, through the router: of `a`, whose build embeds one, and of `b`, which does not run.

import { equal, keep, ok, open, promise, until } from "./browser.mjs";

const url = process.env.LLAMA_WARDEN_TEST_URL;

const running = async () => (await (await fetch(`${url}running`)).json()).running.map(({ model }) => model);

promise("the page of a server loads below its name, and a chat streams its answer", async (browser) => {
  const page = await open(browser, `${url}upstream/a`);
  equal(new URL(page.url()).pathname, "/upstream/a/", "the address has a slash at its end");
  const foreign = [];
  page.on("request", (request) => { if (!request.url().startsWith(`${url}upstream/a/`)) foreign.push(request.url()); });
  // A model of random numbers may say nothing at all, or go on for long.
  await page.route("**/v1/chat/completions", (route, request) => {
    route.continue({ postData: JSON.stringify({ ...request.postDataJSON(), max_tokens: 48, ignore_eos: true }) });
  });
  await page.fill("#msg-input", "Once upon a time");
  const [answer] = await Promise.all([
    page.waitForResponse("**/v1/chat/completions"),
    page.press("#msg-input", "Enter"),
  ]);
  equal([answer.status(), (await answer.allHeaders())["content-type"].split(";")[0]], [200, "text/event-stream"], "the answer");
  equal((await answer.allHeaders())["x-llama-warden-server"], "a", "who answers");
  const body = await answer.text();
  ok(body.split("data: ").length > 8 && body.trimEnd().endsWith("[DONE]"), `no stream: ${body.slice(0, 400)}`);
  await until("the answer is on the page", async () => (await page.locator(".chat-start").last().innerText()).trim() !== "");
  equal(foreign, [], "requests past the server's own address");
  equal(page.errors, [], "errors of the page");
  await page.context().close();
});

promise("a page of a server that does not run starts nothing", async (browser) => {
  const page = await open(browser, `${url}upstream/b/`);
  ok((await page.textContent("body")).includes("POST /models/load"), "it says how the model is loaded");
  equal(await running(), ["a"], "running");
  await page.context().close();
});

await keep();

// Anthropic's client for JavaScript.

import assert from "node:assert/strict";
import { FOREIGN_KEY, KEY, NARROW_KEY, PATIENCE, ROUTER, has, keep, noting, rejects, require } from "./promises.mjs";

const Anthropic = require("@anthropic-ai/sdk").default;

const messages = [{ role: "user", content: "once upon a time" }];

function client({ key = KEY, retries = 0, fetch } = {}) {
  return new Anthropic({ baseURL: ROUTER, apiKey: key, maxRetries: retries, timeout: PATIENCE, fetch });
}

const message = (of, options = {}) => of.messages.create({ model: "a", messages, max_tokens: 4, ...options });

keep({
  async "a message comes whole and as a stream"() {
    const answer = await message(client(), { max_tokens: 8 });
    assert.equal(answer.stop_reason, "max_tokens");
    assert.equal(answer.usage.output_tokens, 8);
    let text = "";
    const stream = client().messages.stream({ model: "a", messages, max_tokens: 16 }).on("text", (piece) => (text += piece));
    const whole = await stream.finalMessage();
    assert.ok(text);
    assert.equal(whole.content[0].text, text);
  },

  async "tokens are counted, and models are listed"() {
    assert.ok((await client().messages.countTokens({ model: "a", messages })).input_tokens > 0);
    const ids = [];
    for await (const model of client().models.list()) ids.push(model.id);
    assert.deepEqual(ids, ["a", "busy", "embed", "stopped"]);
  },

  async "a message with tools is answered"() {
    const tools = [{ name: "weather", input_schema: { type: "object", properties: { town: { type: "string" } } } }];
    assert.equal((await message(client(), { tools })).stop_reason, "max_tokens");
  },

  async "errors have the class of their status, and those that stay are not tried again"() {
    const noted = noting();
    const unknown = await rejects(Anthropic.NotFoundError, () => message(client({ retries: 2, fetch: noted.fetch }), { model: "claude" }));
    assert.equal(unknown.error.error.type, "not_found_error");
    const stopped = await rejects(Anthropic.InternalServerError, () => message(client({ retries: 2, fetch: noted.fetch }), { model: "stopped" }));
    assert.equal(stopped.error.error.type, "api_error");
    assert.deepEqual(noted.statuses(), [404, 503]);
    await rejects(Anthropic.AuthenticationError, () => message(client({ key: FOREIGN_KEY })));
    await rejects(Anthropic.PermissionDeniedError, () => message(client({ key: NARROW_KEY }), { model: "busy" }));
    await rejects(Anthropic.BadRequestError, () => client().post("/v1/messages", { body: {} }));
  },

  async "a client that leaves amid a stream frees its place"() {
    const stream = client().messages.stream({ model: "a", messages, max_tokens: 1000000 });
    const left = rejects(Anthropic.APIUserAbortError, () => stream.done());
    await new Promise((resolve) => stream.once("text", resolve));
    await has("a", 1);
    stream.abort();
    await left;
    await has("a", 0);
  },
});

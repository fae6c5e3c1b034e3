// OpenAI's client for JavaScript.

import assert from "node:assert/strict";
import { FOREIGN_KEY, KEY, NARROW_KEY, PATIENCE, ROUTER, has, keep, noting, rejects, require, until, waitedAsTold } from "./promises.mjs";

const { default: OpenAI, toFile } = require("openai");

const messages = [{ role: "user", content: "once upon a time" }];

function client({ key = KEY, retries = 0, fetch } = {}) {
  return new OpenAI({ baseURL: `${ROUTER}/v1`, apiKey: key, maxRetries: retries, timeout: PATIENCE, fetch });
}

const chat = (of, options = {}, ...more) =>
  of.chat.completions.create({ model: "a", messages, max_tokens: 4, ...options }, ...more);

async function collect(stream) {
  const pieces = [];
  for await (const piece of stream) pieces.push(piece);
  return pieces;
}

keep({
  async "models are listed and found"() {
    const ids = (await collect(client().models.list())).map((model) => model.id);
    assert.deepEqual(ids, ["a", "busy", "embed", "stopped"]);
    assert.equal((await client().models.retrieve("gpt-4o-mini")).id, "a");
  },

  async "a chat comes whole and as a stream"() {
    const answer = await chat(client(), { model: "gpt-4o-mini", max_tokens: 8 });
    assert.equal(answer.choices[0].finish_reason, "length");
    assert.equal(answer.usage.completion_tokens, 8);
    const chunks = await collect(await chat(client(), { max_tokens: 16, stream: true, stream_options: { include_usage: true } }));
    assert.ok(chunks.length > 4);
    assert.equal(chunks.at(-1).usage.completion_tokens, 16);
  },

  async "the model may be the last key of the body"() {
    const answer = await client().chat.completions.create({ messages, max_tokens: 1, model: "a" });
    assert.equal(answer.model, "a");
  },

  async "a chat with tools is answered"() {
    const parameters = { type: "object", properties: { town: { type: "string" } } };
    const tools = [{ type: "function", function: { name: "weather", parameters } }];
    assert.equal((await chat(client(), { tools })).choices[0].finish_reason, "length");
    assert.ok((await collect(await chat(client(), { tools, stream: true }))).length > 1);
  },

  async "completions and responses come whole and as a stream"() {
    const completion = await client().completions.create({ model: "a", prompt: "once", max_tokens: 8 });
    assert.equal(completion.usage.completion_tokens, 8);
    const response = await client().responses.create({ model: "a", input: "once", max_output_tokens: 8 });
    assert.ok(response.output_text);
    const streamed = await client().responses.create({ model: "a", input: "once", max_output_tokens: 8, stream: true });
    const kinds = (await collect(streamed)).map((event) => event.type);
    assert.equal(kinds[0], "response.created");
    assert.ok(kinds.includes("response.output_text.delta"), kinds.join());
  },

  async "embeddings are the same as numbers and in base64"() {
    const embed = async (options) => (await client().embeddings.create({ model: "embed", input: "one text", ...options })).data[0].embedding;
    const [decoded, numbers] = [await embed({}), await embed({ encoding_format: "float" })];
    assert.ok(decoded.length > 8 && decoded.length === numbers.length);
    assert.ok(decoded.every((value, at) => Math.abs(value - numbers[at]) < 1e-4));
  },

  async "audio reaches the model that its form names behind the file"() {
    const transcribe = async (model) => client().audio.transcriptions.create({ file: await toFile(Buffer.from("RIFF"), "voice.wav"), model });
    // The model takes text alone, which it says itself.
    const error = await rejects(OpenAI.InternalServerError, () => transcribe("gpt-4o-mini"));
    assert.deepEqual([error.status, error.headers.get("x-llama-warden-server")], [501, "a"]);
    assert.equal((await rejects(OpenAI.NotFoundError, () => transcribe("whisper-1"))).code, "model_not_found");
  },

  async "errors have the class of their status, and those that stay are not tried again"() {
    const noted = noting();
    const unknown = await rejects(OpenAI.NotFoundError, () => chat(client({ retries: 2, fetch: noted.fetch }), { model: "gpt-5" }));
    assert.equal(unknown.code, "model_not_found");
    const stopped = await rejects(OpenAI.InternalServerError, () => chat(client({ retries: 2, fetch: noted.fetch }), { model: "stopped" }));
    assert.equal(stopped.code, "server_stopped");
    assert.deepEqual(noted.statuses(), [404, 503]);
    const foreign = await rejects(OpenAI.AuthenticationError, () => chat(client({ key: FOREIGN_KEY })));
    assert.equal(foreign.code, "unauthorized");
    const denied = await rejects(OpenAI.PermissionDeniedError, () => chat(client({ key: NARROW_KEY }), { model: "busy" }));
    assert.equal(denied.code, "model_not_allowed");
    await rejects(OpenAI.BadRequestError, () => client().post("/chat/completions", { body: {} }));
  },

  async "a client that leaves amid a stream frees its place"() {
    const stream = await chat(client(), { model: "busy", max_tokens: 10000, stream: true });
    await stream[Symbol.asyncIterator]().next();
    await has("busy", 1);
    stream.controller.abort();
    await has("busy", 0);
  },

  async "a client that leaves while it waits leaves the queue"() {
    const stream = await chat(client(), { model: "busy", max_tokens: 10000, stream: true });
    await stream[Symbol.asyncIterator]().next();
    const leaving = new AbortController();
    const left = rejects(OpenAI.APIUserAbortError, () => chat(client(), { model: "busy" }, { signal: leaving.signal }));
    await has("busy", 1, 1);
    leaving.abort();
    await left;
    await has("busy", 1, 0);
    stream.controller.abort();
    await has("busy", 0);
  },

  async "a key in use is a rate limit, and the client comes back when it was told"() {
    const stream = await chat(client({ key: NARROW_KEY }), { max_tokens: 1000000, stream: true });
    await stream[Symbol.asyncIterator]().next();
    const refused = await rejects(OpenAI.RateLimitError, () => chat(client({ key: NARROW_KEY })));
    assert.equal(refused.code, "key_limit");
    const noted = noting();
    const back = chat(client({ key: NARROW_KEY, retries: 3, fetch: noted.fetch }));
    await until("it was refused", () => noted.answers.length > 0);
    stream.controller.abort();
    assert.equal((await back).choices.length, 1);
    assert.deepEqual(noted.statuses(), [429, 200]);
    waitedAsTold(noted.answers);
  },
});

// Shared by the clients in JavaScript: named promises, and what the test says of the router.
//
// Each script is run by a test of Rust, which gives it the router and the packages in the environment, and fails with it.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";

const { LLAMA_WARDEN_TEST_ROUTER, LLAMA_WARDEN_TEST_KEY, LLAMA_WARDEN_TEST_NARROW_KEY, LLAMA_WARDEN_TEST_NODE_CLIENTS } =
  process.env;
export const ROUTER = LLAMA_WARDEN_TEST_ROUTER;
/** A key for every model, one for the model `a` and one request at a time, and one that the router does not know. */
export const KEY = LLAMA_WARDEN_TEST_KEY;
export const NARROW_KEY = LLAMA_WARDEN_TEST_NARROW_KEY;
export const FOREIGN_KEY = "sk-nobody";
/** Loads a package of the test. */
export const require = createRequire(join(LLAMA_WARDEN_TEST_NODE_CLIENTS, "x.js"));

/** Longest wait for anything, in milliseconds. */
export const PATIENCE = 60000;

/** Runs named promises one after the other, prints the outcome of each, and ends with a failure if one is broken. */
export async function keep(promises) {
  let broken = 0;
  for (const [name, check] of Object.entries(promises)) {
    const began = performance.now();
    try {
      await check();
      console.log(`kept: ${name} (${((performance.now() - began) / 1000).toFixed(2)} s)`);
    } catch (error) {
      broken += 1;
      console.log(`BROKEN: ${name}\n${error.stack}`);
    }
  }
  process.exit(broken ? 1 : 0);
}

/** Returns the error of this class that a call ends with. */
export async function rejects(kind, call) {
  const error = await call().then((answer) => assert.fail(`no error, but ${JSON.stringify(answer)}`), (error) => error);
  assert.ok(error instanceof kind, `${error.stack}`);
  return error;
}

/** A `fetch` that notes when each answer came, its status, and what it told to wait. */
export function noting() {
  const answers = [];
  const noted = async (...request) => {
    const answer = await fetch(...request);
    answers.push({ at: performance.now(), status: answer.status, told: Number(answer.headers.get("retry-after")) * 1000 });
    return answer;
  };
  return { fetch: noted, answers, statuses: () => answers.map((answer) => answer.status) };
}

/** Asserts that the second answer came after what the first one told to wait, less a quarter of it, by which clients jitter. */
export function waitedAsTold([first, second]) {
  assert.ok(first.told > 0 && second.at - first.at >= first.told * 0.75, JSON.stringify([first, second]));
}

/** Waits for something that nobody announces. */
export async function until(what, condition) {
  const deadline = performance.now() + PATIENCE;
  while (!(await condition())) {
    assert.ok(performance.now() < deadline, `not in time: ${what}`);
    await pause(20);
  }
}

/** Waits until the router has this many requests of a model at work, and this many that wait. */
export function has(model, at_work, waiting = 0) {
  return until(`${at_work} requests of ${model} at work, ${waiting} waiting`, async () => {
    const answer = await fetch(`${ROUTER}/running`, { headers: { authorization: `Bearer ${KEY}` } });
    const entry = (await answer.json()).running.find((entry) => entry.model === model);
    return (entry?.in_flight ?? 0) === at_work && (entry?.waiting ?? 0) === waiting;
  });
}

// Shared by the tests of the dashboard: the browser, its pages, and named promises.
//
// Each script is run by a test of Rust, which gives it the browser and the packages in the environment, and fails with it.

import { createRequire } from "node:module";
import { join } from "node:path";
import { readFileSync } from "node:fs";

const modules = process.env.LLAMA_WARDEN_TEST_NODE_MODULES;
const require = createRequire(join(modules, "x.js"));
const { chromium } = require("playwright-core");
const AXE = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");

/** How long anything is waited for, in milliseconds. */
export const PATIENCE = 20000;

/** Starts the browser. */
export async function browser() {
  const browser = await chromium.launch({
    executablePath: process.env.LLAMA_WARDEN_TEST_BROWSER,
    // As root there is no sandbox; the pages come from this machine.
    args: ["--no-sandbox", "--disable-gpu", "--font-render-hinting=none"],
    env: { ...process.env, FONTCONFIG_FILE: process.env.LLAMA_WARDEN_TEST_BROWSER_FONTS },
  });
  return browser;
}

/** A new tab that notes every error. Network errors of a daemon that is away, and refused tokens, are the test's own matter. */
export async function open(browser, url, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1440, height: 900 }, colorScheme: "light", ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE);
  page.errors = [];
  page.on("pageerror", (error) => page.errors.push(String(error)));
  page.on("console", (message) => {
    if (message.type() === "error" && !/Failed to load resource|net::ERR/.test(message.text())) page.errors.push(message.text());
  });
  // A dialog of the browser is a script of somebody else.
  page.on("dialog", (dialog) => { page.errors.push(`dialog: ${dialog.message()}`); dialog.dismiss(); });
  await page.goto(url);
  return page;
}

/** What axe finds wrong with the page as it is, as text. */
export async function accessibility(page) {
  await page.evaluate(AXE);
  const { violations } = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
  return violations.map(({ id, nodes }) => `${id}: ${nodes.slice(0, 3).map(({ html, failureSummary }) => `${html}\n    ${failureSummary}`).join("\n  ")}`);
}

export function equal(found, wanted, what) {
  const [one, other] = [JSON.stringify(found), JSON.stringify(wanted)];
  if (one !== other) throw new Error(`${what}: ${one} instead of ${other}`);
}

export function ok(value, what) {
  if (!value) throw new Error(what);
}

/** Waits until `condition` is true. */
export async function until(what, condition) {
  const end = Date.now() + PATIENCE;
  for (;;) {
    if (await condition()) return;
    if (Date.now() > end) throw new Error(`in vain: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
}

const promises = [];

/** Adds a promise, which `keep` checks. */
export const promise = (name, check) => promises.push([name, check]);

/** Checks every promise in one browser; the exit code says whether all are kept. `LLAMA_WARDEN_TEST_ONLY` names some by a part. */
export async function keep() {
  const driven = await browser();
  let broken = 0;
  const only = process.env.LLAMA_WARDEN_TEST_ONLY ?? "";
  const wanted = promises.filter(([name]) => name.includes(only));
  for (const [name, check] of wanted) {
    const began = Date.now();
    try {
      await check(driven);
      console.log(`kept ${name} (${Date.now() - began} ms)`);
    } catch (error) {
      broken += 1;
      console.log(`BROKEN ${name}\n${error.stack}`);
    }
  }
  await driven.close();
  console.log(`${wanted.length - broken} passed, ${broken} failed`);
  // What a broken promise left open would keep the process.
  process.exit(broken > 0 || wanted.length === 0 ? 1 : 0);
}

// Texts of numbers and times, and the few steps in the document that every part needs.

export const byId = (id) => document.getElementById(id);

/** A copy of the only element of a template. */
export const clone = (id) => byId(id).content.firstElementChild.cloneNode(true);

/** Sets the text of an element; one that has it already costs no layout. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function element(name, text = "", className = "") {
  const made = document.createElement(name);
  made.textContent = text;
  if (className) made.className = className;
  return made;
}

export function show(element, isShown) {
  if (element.hidden === isShown) element.hidden = !isShown;
}

/** A duration in the two largest units that say something. */
export function duration(seconds) {
  if (seconds > 0 && seconds < 0.1) return `${Math.ceil(seconds * 1000)} ms`;
  if (seconds < 10) return `${(Math.max(0, Math.floor(seconds * 10)) / 10).toFixed(1)} s`;
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 24) return `${hours} h ${minutes % 60} min`;
  return `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

/** A duration that grows: whole seconds, so that it changes once a second. */
export const age = (seconds) => (seconds < 10 ? `${Math.max(0, Math.floor(seconds))} s` : duration(seconds));

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB"];

export function bytes(count) {
  let unit = 0;
  while (count >= 1024 && unit < UNITS.length - 1) {
    count /= 1024;
    unit += 1;
  }
  return `${count < 10 && unit > 1 ? count.toFixed(1) : Math.round(count)} ${UNITS[unit]}`;
}

/** A rate; null is one that is not known. */
export function rate(perSecond) {
  if (perSecond === null || perSecond === undefined) return "–";
  return perSecond < 100 ? perSecond.toFixed(1) : Math.round(perSecond).toString();
}

export const plural = (count, one, many = `${one}s`) => `${count} ${count === 1 ? one : many}`;

export function clock(at) {
  const time = new Date(at);
  const two = (number) => String(number).padStart(2, "0");
  return `${two(time.getHours())}:${two(time.getMinutes())}:${two(time.getSeconds())}`;
}

export const fileName = (path) => path.slice(path.lastIndexOf("/") + 1);

/** A value of JSON for people: names and values, without brackets. */
export function inWords(value) {
  if (Array.isArray(value)) return value.map(inWords).join(", ");
  if (typeof value !== "object") return String(value);
  return Object.entries(value ?? {}).filter(([, part]) => part !== null).map(([name, part]) => `${name} ${inWords(part)}`).join(", ");
}

/** An argument as a shell takes it. */
export const shellWord = (word) =>
  /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;

/** Copies a text, and says so on the button for a moment. */
export async function copy(text, button) {
  const label = button.textContent;
  const isCopied = await write(text);
  button.textContent = isCopied ? "copied" : "not copied";
  setTimeout(() => { button.textContent = label; }, 1200);
}

async function write(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // Off loopback without TLS there is no clipboard but the one of a selection.
    const area = document.createElement("textarea");
    area.value = text;
    (document.querySelector("dialog[open]") ?? document.body).append(area);
    area.select();
    const isCopied = document.execCommand("copy");
    area.remove();
    return isCopied;
  }
}

// Memory bars: of the machine and of each GPU, what servers hold, what they are promised, and what is free.

import { bytes, byId, clone, element, plural, setText, show } from "./text.js";

export function fillMemoryBars({ host, gpus, servers: held }, servers) {
  const bars = [];
  const onHost = (server) => server.memory ? need(server.memory) - server.memory.gpu_bytes : 0;
  if (host) {
    const segments = segmentsOf(servers, (server) => held[server.server] ?? 0, onHost);
    bars.push(bar("RAM", host.total_bytes, host.available_bytes, segments, servers.filter((server) => !server.is_running), onHost));
  }
  const onGpu = (server) => server.memory?.gpu_bytes ?? 0;
  for (const [index, gpu] of (gpus ?? []).entries()) {
    // Which of several GPUs a server is on, its estimate does not say.
    const segments = gpus.length === 1 ? segmentsOf(servers, onGpu, onGpu) : [];
    const name = gpus.length === 1 ? gpu.name : `GPU ${index} ${gpu.name}`;
    bars.push(bar(name, gpu.total_bytes, gpu.free_bytes, segments, servers.filter((server) => !server.is_running), gpus.length === 1 ? onGpu : () => 0));
  }
  const section = byId("memory");
  draw(section, bars, gpus === null);
  show(section, bars.length > 0);
}

const need = ({ weights_bytes: weights, kv_bytes: kv, compute_bytes: compute }) => weights + kv + compute;

function segmentsOf(servers, used, promised) {
  const running = servers.filter((server) => server.is_running);
  return running
    .map((server) => ({ id: server.server, used: used(server), more: Math.max(0, promised(server) - used(server)) }))
    .filter(({ used, more }) => used + more > 0)
    .sort((a, b) => b.used + b.more - a.used - a.more);
}

function bar(name, total, free, segments, idle, needOf) {
  const used = segments.reduce((sum, segment) => sum + segment.used, 0);
  const more = segments.reduce((sum, segment) => sum + segment.more, 0);
  const others = Math.max(0, total - free - used);
  // What is promised is not used yet, so it is a part of what is free.
  const promised = Math.min(more, free);
  const left = free - promised;
  const unfit = idle.filter((server) => needOf(server) > left).map((server) => `${server.server} (${bytes(needOf(server))})`);
  const parts = [`servers hold ${bytes(used)}`, `promised ${bytes(more)} more`, `others ${bytes(others)}`, `free ${bytes(left)} of ${bytes(total)}`];
  const wide = (size) => (total > 0 ? size / total : 0);
  const scale = more > 0 ? promised / more : 0;
  const shown = [
    ...segments.flatMap(({ id, used, more }) => [
      { kind: "used", label: id, title: `${id} holds ${bytes(used)}`, width: wide(used) },
      { kind: "promised", label: "", title: `${id} is promised ${bytes(more)} more`, width: wide(more * scale) },
    ]),
    { kind: "others", label: "", title: `others ${bytes(others)}`, width: wide(others) },
  ].filter(({ width }) => width > 0);
  return { name, text: parts.join(" · ") + tellUnfit(unfit), shown };
}

function tellUnfit(unfit) {
  if (unfit.length === 0) return "";
  const named = unfit.slice(0, 3).join(", ");
  const more = unfit.length > 3 ? ` and ${plural(unfit.length - 3, "other")}` : "";
  return ` · would not fit now: ${named}${more}`;
}

function draw(section, bars, isUnmeasured) {
  while (section.children.length > bars.length) section.lastElementChild.remove();
  while (section.children.length < bars.length) section.append(clone("memory-bar"));
  bars.forEach(({ name, text, shown }, index) => {
    const figure = section.children[index];
    setText(figure.querySelector("b"), name);
    setText(figure.querySelector("span"), text + (isUnmeasured ? " · this build cannot measure the GPU" : ""));
    const segments = figure.querySelector(".segments");
    while (segments.children.length > shown.length) segments.lastElementChild.remove();
    while (segments.children.length < shown.length) segments.append(element("span"));
    shown.forEach(({ kind, label, title, width }, at) => {
      const segment = segments.children[at];
      segment.className = kind;
      segment.title = title;
      segment.style.width = `${(width * 100).toFixed(2)}%`;
      setText(segment, width > 0.05 ? label : "");
    });
  });
}

"use strict";
const $ = (id) => document.getElementById(id);
const UNDO_MS = 8000, WAVE_BYTES = 64 << 20, TEXT_BYTES = 64 << 10;
let reading = null;
let entries = [], next = null, asked = 0, opened = null, peaks = null, blobUrl = null;
const leaving = new Map();
let token = sessionStorage.getItem("token");

// The slash is escaped too: a browser would otherwise take "." and ".." in a key for itself.
const address = (key) => "/v1/objects/" + encodeURIComponent(key);
const headers = (more = {}) => token ? { authorization: "Bearer " + token, ...more } : more;

async function ask(url, options = {}) {
  const answer = await fetch(url, { ...options, headers: headers(options.headers) });
  if (answer.status === 401) { $("door").hidden = false; $("token").focus(); }
  if (!answer.ok) {
    const told = await answer.json().catch(() => ({}));
    throw new Error(told.error || "the server answered " + answer.status);
  }
  return answer;
}

function make(tag, properties = {}, ...inside) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...inside);
  return element;
}

function size(bytes) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let at = 0;
  while (bytes >= 1024 && at < 4) { bytes /= 1024; at += 1; }
  return (at && bytes < 10 ? bytes.toFixed(1) : Math.round(bytes)) + " " + units[at];
}
const clock = (s) => isFinite(s) ? Math.floor(s / 60) + ":" + String(Math.floor(s % 60)).padStart(2, "0") : "–:––";
const when = (ms) => new Date(ms).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });

// ---- listing
async function list(cursor) {
  const turn = ++asked;
  const query = new URLSearchParams({ prefix: $("prefix").value, suffix: $("suffix").value, limit: 200 });
  if (cursor) query.set("cursor", cursor);
  try {
    const page = await (await ask("/v1/objects?" + query)).json();
    // An answer to what is no longer in the fields is dropped.
    if (turn !== asked) return;
    // The door's own keys (WebDAV properties) and folder markers are not for looking at.
    const seen = page.entries.filter((e) => !e.key.startsWith(".streamdb/") && !(e.size === 0 && e.key.endsWith("/")));
    entries = cursor ? entries.concat(seen) : seen;
    next = page.next;
    $("door").hidden = true;
    draw();
    if (next && entries.length === 0) list(next);
  } catch (error) {
    if (turn === asked) { entries = []; next = null; draw(error.message); }
  }
}

// ---- streams that are still written: how long they are is told by the server as they grow
const FOLLOWED = 3; // a browser opens six connections to a server, and playing needs one
const following = new Map();

function follow() {
  const live = entries.filter((e) => e.open).slice(0, FOLLOWED);
  for (const [key, stop] of following) if (!live.some((e) => e.key === key)) { stop.abort(); following.delete(key); }
  for (const entry of live) if (!following.has(entry.key)) listen(entry.key);
}

async function listen(key) {
  const stop = new AbortController();
  following.set(key, stop);
  try {
    const answer = await ask(address(key) + "?events", { signal: stop.signal });
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let held = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) break;
      held += value;
      const events = held.split("\n\n");
      held = events.pop();
      for (const event of events) {
        const name = /^event: (\w+)/m.exec(event)?.[1], told = /^data: (.*)/m.exec(event)?.[1];
        if (!told) continue;
        const entry = entries.find((e) => e.key === key);
        if (entry) entry.size = JSON.parse(told).size;
        const cell = [...$("rows").children].find((r) => r.dataset.key === key)?.querySelector(".size");
        if (cell && entry) cell.textContent = size(entry.size);
        if (entry && opened?.key === key) { opened.size = entry.size; $("time").textContent = size(entry.size); }
        if (name !== "size") { list(); count(); }
      }
    }
  } catch { /* the listing tells what became of it */ }
  if (following.get(key) === stop) following.delete(key);
}

function draw(problem) {
  const focused = document.activeElement?.dataset?.key;
  const shown = entries.filter((e) => !leaving.has(e.key));
  $("rows").replaceChildren(...shown.map(row));
  if (focused !== undefined) [...$("rows").children].find((r) => r.dataset.key === focused)?.focus();
  $("list").hidden = shown.length === 0;
  $("more").hidden = !next;
  $("empty").hidden = shown.length > 0;
  follow();
  $("empty").textContent = problem || ($("prefix").value || $("suffix").value ? "No value has such a name." : "Nothing here yet. Drop files anywhere to store them.");
}

function row(entry) {
  const cut = entry.key.lastIndexOf("/", entry.key.length - 2) + 1;
  const name = make("td", { title: entry.key });
  if (cut) {
    const folder = make("button", { className: "folder", type: "button", textContent: entry.key.slice(0, cut), title: "Only what is in here", tabIndex: -1 });
    folder.onclick = (event) => { event.stopPropagation(); $("prefix").value = entry.key.slice(0, cut); list(); };
    name.append(folder);
  }
  name.append(entry.key.slice(cut));
  if (entry.open) name.append(" ", make("span", { className: "live", textContent: "live", title: "Still being written" }));
  const remove = make("button", { className: "delete", type: "button", textContent: "Delete", ariaLabel: "Delete " + entry.key, tabIndex: -1 });
  remove.onclick = (event) => { event.stopPropagation(); depart(entry); };
  const element = make("tr", { tabIndex: 0 }, name,
    make("td", { textContent: entry.content_type === "application/octet-stream" ? "" : entry.content_type }),
    make("td", { className: "number size", textContent: size(entry.size) }),
    make("td", { textContent: when(entry.modified) }), make("td", {}, remove));
  element.dataset.key = entry.key;
  element.classList.toggle("open", opened?.key === entry.key);
  element.onclick = () => open(entry);
  return element;
}

async function count() {
  try {
    const told = await (await fetch("/health")).json();
    $("counts").textContent = told.keys + (told.keys === 1 ? " value, " : " values, ") + size(told.bytes);
  } catch { $("counts").textContent = "the server does not answer"; }
}

// ---- deleting, with a way back: the value goes when the time for undoing has passed
function depart(entry) {
  if (leaving.has(entry.key)) return;
  const rows = [...$("rows").children];
  const at = rows.findIndex((r) => r.dataset.key === entry.key);
  if (opened?.key === entry.key) close();
  const toast = make("div", { className: "toast" }, make("span", { textContent: "Deleted " + entry.key }));
  const undo = make("button", { className: "undo", type: "button", textContent: "Undo" });
  const now = make("button", { className: "now", type: "button", textContent: "✕", ariaLabel: "Dismiss" });
  const end = () => { clearTimeout(timer); toast.remove(); leaving.delete(entry.key); };
  const go = async (keepalive) => {
    end();
    entries = entries.filter((e) => e !== entry);
    try {
      // What was put meanwhile under that name is another value, and stays.
      await ask(address(entry.key), { method: "DELETE", keepalive, headers: { "if-match": '"' + entry.checksum + '"' } });
    } catch (error) { say("Could not delete " + entry.key + ": " + error.message); list(); }
    count();
  };
  const timer = setTimeout(go, UNDO_MS);
  undo.onclick = () => { end(); draw(); };
  now.onclick = () => go();
  toast.append(undo, now);
  $("toasts").append(toast);
  leaving.set(entry.key, { undo: undo.onclick, go });
  draw();
  ($("rows").children[Math.min(at, $("rows").children.length - 1)] || $("prefix")).focus();
}
addEventListener("pagehide", () => [...leaving.values()].forEach((one) => one.go(true)));

function say(text) {
  const toast = make("div", { className: "toast" }, make("span", { textContent: text, title: text }));
  $("toasts").append(toast);
  setTimeout(() => toast.remove(), UNDO_MS);
}

// ---- uploading
function upload(file, replace = false) {
  const key = $("prefix").value.replace(/[^/]*$/, "") + file.name;
  const bar = make("progress", { max: 1, value: 0, ariaLabel: "Progress of " + file.name });
  const stop = make("button", { type: "button", textContent: "Stop" });
  const item = make("li", {}, make("span", { textContent: key }), bar, stop);
  $("uploads").append(item);
  const request = new XMLHttpRequest();
  request.open("PUT", address(key));
  for (const [name, value] of Object.entries(headers())) request.setRequestHeader(name, value);
  request.setRequestHeader("content-type", file.type || "application/octet-stream");
  if (!replace) request.setRequestHeader("if-none-match", "*");
  request.upload.onprogress = (event) => { if (event.lengthComputable) bar.value = event.loaded / event.total; };
  stop.onclick = () => { request.abort(); item.remove(); };
  const fail = (text) => {
    bar.remove();
    item.classList.add("failed");
    item.firstChild.textContent = key + ": " + text;
    stop.textContent = "Dismiss";
  };
  request.onerror = () => fail("the connection broke off; nothing was stored");
  request.onload = () => {
    if (request.status < 300) { item.remove(); list(); count(); return; }
    if (request.status === 412) {
      fail("there is a value of this name");
      const again = make("button", { type: "button", textContent: "Replace" });
      again.onclick = () => { item.remove(); upload(file, true); };
      item.insertBefore(again, stop);
      return;
    }
    let told = {};
    try { told = JSON.parse(request.responseText); } catch { /* not ours */ }
    fail(told.error || "the server answered " + request.status);
  };
  request.send(file);
}
$("choose").onclick = () => $("files").click();
$("files").onchange = () => { [...$("files").files].forEach((f) => upload(f)); $("files").value = ""; };
let over = 0;
addEventListener("dragenter", (e) => { e.preventDefault(); over += 1; $("drop").hidden = false; });
addEventListener("dragover", (e) => e.preventDefault());
addEventListener("dragleave", () => { over -= 1; if (over <= 0) { over = 0; $("drop").hidden = true; } });
addEventListener("drop", (e) => {
  e.preventDefault();
  over = 0;
  $("drop").hidden = true;
  [...e.dataTransfer.files].forEach((f) => upload(f));
});

// ---- opening: sound with its waveform, pictures, text
function close() {
  opened = null;
  peaks = null;
  $("audio").pause();
  $("audio").removeAttribute("src");
  $("picture").removeAttribute("src");
  $("run").replaceChildren();
  $("run").hidden = true;
  reading?.abort();
  if (blobUrl) URL.revokeObjectURL(blobUrl);
  blobUrl = null;
  $("player").hidden = true;
  document.querySelector("tr.open")?.classList.remove("open");
}

async function open(entry) {
  close();
  opened = entry;
  [...$("rows").children].forEach((r) => r.classList.toggle("open", r.dataset.key === entry.key));
  const kind = entry.content_type.split("/")[0];
  const sound = kind === "audio" || kind === "video" || /\.(wav|flac|ogg|opus|mp3|m4a)$/i.test(entry.key);
  const text = kind === "text" || /json|xml|toml|yaml/.test(entry.content_type);
  for (const [id, on] of [["toggle", sound], ["wave", sound], ["picture", kind === "image"], ["text", text]]) $(id).hidden = !on;
  $("title").textContent = entry.key;
  $("time").textContent = size(entry.size);
  $("note").hidden = sound || text || kind === "image";
  $("note").textContent = "This kind of value is not shown here; download it.";
  $("player").hidden = false;
  $("save").download = entry.key.split("/").filter(Boolean).pop() || "value";
  try {
    let source = address(entry.key), whole = null;
    if (entry.open) return await openLive(entry, sound, text);
    // Elements cannot send a token, so what they show is fetched for them.
    if (token || (sound && entry.size <= WAVE_BYTES)) {
      whole = await (await ask(source)).blob();
      if (opened !== entry) return;
      if (token) source = blobUrl = URL.createObjectURL(whole);
    }
    $("save").href = source;
    if (kind === "image") { $("picture").src = source; $("picture").alt = entry.key; }
    if (text) {
      const part = await ask(address(entry.key), { headers: entry.size ? { range: "bytes=0-" + (TEXT_BYTES - 1) } : {} });
      const shown = await part.text();
      if (opened !== entry) return;
      $("text").textContent = shown + (entry.size > TEXT_BYTES ? "\n…" : "");
      if (shown.includes('"archibald.run/')) await openRun(entry);
    }
    if (sound) {
      $("audio").src = source;
      wave();
      $("audio").play().catch(() => {});
      if (whole) {
        const context = new OfflineAudioContext(1, 1, 44100);
        const data = await context.decodeAudioData(await whole.arrayBuffer());
        if (opened === entry) { peaks = outline(data.getChannelData(0), 1200); wave(); }
      }
    }
  } catch (error) {
    if (opened !== entry) return;
    $("note").hidden = false;
    $("note").textContent = sound && error.name === "EncodingError" ? "This sound cannot be drawn." : error.message;
  }
}

// What is still written is heard and read as it comes.
async function openLive(entry, sound, text) {
  const source = address(entry.key) + "?tail";
  $("save").href = address(entry.key);
  $("wave").hidden = true;
  $("note").hidden = text;
  $("note").textContent = sound ? "Still being written; heard from its beginning on." : "Still being written.";
  if (sound && token) { $("note").textContent = "Still being written; it can be heard when it is sealed."; return; }
  if (sound) { $("audio").src = source; $("audio").play().catch(() => {}); }
  if (!text) return;
  reading = new AbortController();
  const from = Math.max(0, entry.size - TEXT_BYTES);
  const answer = await ask(source + "&from=" + from, { signal: reading.signal });
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  for (;;) {
    const { value, done } = await reader.read();
    if (done || opened !== entry) return;
    $("text").textContent = ($("text").textContent + value).slice(-TEXT_BYTES);
    $("text").scrollTop = $("text").scrollHeight;
  }
}

// ---- measurement runs: what they were, how the latencies lie, where the xruns are
const RUN_BYTES = 16 << 20;
const milliseconds = (ns) => (ns / 1e6).toLocaleString([], { maximumFractionDigits: 3 }) + " ms";

async function openRun(entry) {
  if (entry.size > RUN_BYTES) return;
  let run;
  try { run = await (await ask(address(entry.key))).json(); } catch { return; }
  if (opened !== entry || !/^archibald\.run\//.test(run.schema)) return;
  const told = run.conditions || {}, counters = Object.entries(run.counters || {});
  const facts = [["Source", run.source === "emulation" ? "emulation: not judged" : run.source], ["Graph", [told.server, told.quantum && told.quantum + " frames", told.rate && told.rate + " Hz"].filter(Boolean).join(", ")],
    ["Program", told.program], ["Load", told.load], ["Kernel", told.kernel], ["Host", told.host],
    ["Periods", run.periods || undefined], ["Xruns", counters.map(([name, number]) => name + " " + number).join(", ")], ["Round trip", roundTrip(run)]];
  const list = make("dl"), whole = (run.histograms || []).filter((named) => !named.name.includes("/"));
  for (const named of (run.histograms || []).filter((named) => named.name.includes("/"))) facts.push([named.title, "worst " + micro(named.histogram.max_ns)]);
  for (const [name, value] of facts) if (value !== undefined && value !== "") list.append(make("dt", { textContent: name }), make("dd", { textContent: value }));
  // A meter of wake-ups looks for no xruns, and a picture without any would look like none.
  $("run").replaceChildren(list, ...(counters.length ? [timeline(run)] : []), ...whole.flatMap(distribution));
  $("run").hidden = false;
  $("text").hidden = true;
}

function roundTrip({ round_trip: trip, conditions: { rate } = {} }) {
  if (!trip || !rate) return undefined;
  const broken = (trip.breaks || []).length + (trip.unlisted || 0);
  return trip.frames + " frames, " + milliseconds(trip.frames * 1e9 / rate) + (broken ? ", " + broken + (broken === 1 ? " break" : " breaks") : "");
}

function svg(tag, properties = {}, ...inside) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(properties)) element.setAttribute(name, value);
  element.append(...inside);
  return element;
}

function figure(title, picture) {
  picture.setAttribute("role", "img");
  picture.setAttribute("aria-label", title);
  return make("figure", {}, make("figcaption", { textContent: title }), picture);
}

function timeline(run) {
  const { start_ns: start = 0, end_ns: end = 1 } = run.window || {}, xruns = run.xruns || [];
  const picture = svg("svg", { viewBox: "0 0 600 40" }, svg("line", { x1: 0, x2: 600, y1: 34, y2: 34, class: "axis" }));
  for (const xrun of xruns) {
    const x = 600 * (xrun.at_ns - start) / Math.max(1, end - start);
    picture.append(svg("line", { x1: x, x2: x, y1: 4, y2: 34, class: "xrun" },
      svg("title", {}, milliseconds(xrun.at_ns - start) + ", " + xrun.source + (xrun.delayed_ns ? ", " + milliseconds(xrun.delayed_ns) + " late" : ""))));
  }
  return figure(xruns.length + (xruns.length === 1 ? " xrun" : " xruns") + " told in " + milliseconds(end - start) + " (" + run.source + ")", picture);
}

// The two pictures of a distribution, on scales of powers of ten: one late period in a million is what one
// looks for. Both say the largest sample exactly.
const FRAME = { left: 62, right: 590, top: 18, bottom: 132 };
const micro = (ns) => (ns / 1e3).toLocaleString([], { maximumFractionDigits: 2 }) + " µs";

function frame(last, low, high, label) {
  const { left, right, top, bottom } = FRAME, picture = svg("svg", { viewBox: "0 0 600 158" });
  const x = (us) => left + (right - left) * us / last;
  const y = (value) => value <= 0 ? bottom : bottom - (bottom - top) * Math.max(0, Math.log10(value) - low) / (high - low);
  for (let power = low; power <= high; power += 1) {
    const at = y(10 ** power);
    picture.append(svg("line", { x1: left, x2: right, y1: at, y2: at, class: "axis" }),
      svg("text", { x: left - 6, y: at + 4, "text-anchor": "end" }, label(power)));
  }
  picture.append(svg("text", { x: left, y: 152 }, "0"), svg("text", { x: right, y: 152, "text-anchor": "end" }, last.toLocaleString() + " µs"));
  return { picture, x, y };
}

function worst(picture, x, most) {
  const at = x(most / 1e3), end = at > 300;
  picture.append(svg("line", { x1: at, x2: at, y1: FRAME.top - 4, y2: FRAME.bottom, class: "most" }),
    svg("text", { x: at + (end ? 0 : 2), y: 11, "text-anchor": end ? "end" : "start", class: "worst" }, "worst " + micro(most)));
}

function distribution(named) {
  const { bins = [], max_ns: most } = named.histogram, all = bins.reduce((sum, b) => sum + b[1], 0);
  if (!all) return [figure(named.title + ", no samples", svg("svg", { viewBox: "0 0 600 20" }))];
  const last = bins[bins.length - 1][0] + 2, width = Math.max(1, Math.ceil(last / 400)), columns = new Map();
  for (const [at, number] of bins) { const key = Math.floor(at / width) * width; columns.set(key, (columns.get(key) || 0) + number); }
  const high = Math.floor(Math.log10(Math.max(...columns.values()))) + 1, low = -(Math.floor(Math.log10(all)) + 1);
  const counts = frame(last, 0, high, (power) => (10 ** power).toLocaleString());
  for (const [at, number] of columns) {
    const left = counts.x(at), top = Math.min(counts.y(number), FRAME.bottom - 3);
    counts.picture.append(svg("rect", { x: left, width: Math.max(1.2, counts.x(at + width) - left - 0.3), y: top, height: FRAME.bottom - top, class: "bin" },
      svg("title", {}, at + (width > 1 ? " to " + (at + width) : "") + " µs: " + number.toLocaleString())));
  }
  worst(counts.picture, counts.x, most);
  const shares = frame(last, low, 0, (power) => (100 * 10 ** power).toLocaleString([], { maximumFractionDigits: 9 }) + " %");
  let above = all, path = "M" + shares.x(bins[0][0]) + " " + shares.y(1);
  for (const [at, number] of bins) {
    path += "L" + shares.x(at + 1) + " " + shares.y(above / all);
    above -= number;
    path += "L" + shares.x(at + 1) + " " + shares.y(above / all);
  }
  shares.picture.append(svg("path", { d: path, class: "curve" }));
  worst(shares.picture, shares.x, most);
  return [figure(named.title + ": " + all.toLocaleString() + " samples, on a logarithmic scale", counts.picture),
    figure("Share of the samples above a latency", shares.picture)];
}

function outline(samples, columns) {
  const found = new Float32Array(columns), step = samples.length / columns;
  let loudest = 1e-4;
  for (let at = 0; at < columns; at += 1) {
    const end = Math.min(samples.length, Math.ceil((at + 1) * step));
    for (let i = Math.floor(at * step); i < end; i += 1) found[at] = Math.max(found[at], Math.abs(samples[i]));
    loudest = Math.max(loudest, found[at]);
  }
  return found.map((peak) => peak / loudest);
}

function wave() {
  const canvas = $("wave"), audio = $("audio");
  if (canvas.hidden || $("player").hidden) return;
  const scale = devicePixelRatio, width = canvas.clientWidth, height = canvas.clientHeight;
  canvas.width = width * scale;
  canvas.height = height * scale;
  const pen = canvas.getContext("2d"), style = getComputedStyle(document.documentElement);
  pen.scale(scale, scale);
  const done = audio.duration ? audio.currentTime / audio.duration : 0;
  const accent = style.getPropertyValue("--accent"), rest = style.getPropertyValue("--quiet");
  for (let x = 0; x < width; x += 3) {
    const from = peaks ? Math.floor(x / width * peaks.length) : 0;
    const to = peaks ? Math.max(from + 1, Math.floor((x + 3) / width * peaks.length)) : 0;
    const peak = peaks ? Math.max(...peaks.subarray(from, to)) : 0;
    const tall = Math.max(2, peak * (height - 8));
    const past = x / width < done;
    pen.fillStyle = past ? accent : rest;
    pen.globalAlpha = past ? 1 : 0.45;
    pen.beginPath();
    pen.roundRect(x, (height - tall) / 2, 2, tall, 1);
    pen.fill();
  }
  $("time").textContent = clock(audio.currentTime) + " / " + clock(audio.duration);
  canvas.setAttribute("aria-valuemax", Math.round(audio.duration) || 0);
  canvas.setAttribute("aria-valuenow", Math.round(audio.currentTime));
  canvas.setAttribute("aria-valuetext", $("time").textContent);
}

// The button, and of what is still written how far it was heard: it has no waveform yet.
function heard() {
  const audio = $("audio");
  $("toggle").textContent = audio.paused ? "▶" : "❚❚";
  $("toggle").ariaLabel = audio.paused ? "Play" : "Pause";
  if (opened?.open) $("time").textContent = clock(audio.currentTime) + " of " + size(opened.size);
}
const toggle = () => { const a = $("audio"); if (a.paused) a.play().catch(() => {}); else a.pause(); };
for (const event of ["timeupdate", "play", "pause", "loadedmetadata", "seeked"]) $("audio").addEventListener(event, () => { wave(); heard(); });
$("audio").onerror = () => { if (opened) { $("note").hidden = false; $("note").textContent = "This browser cannot play this sound."; } };
addEventListener("resize", wave);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", wave);
$("wave").onclick = (event) => { const a = $("audio"); if (a.duration) a.currentTime = event.offsetX / $("wave").clientWidth * a.duration; };
$("toggle").onclick = toggle;
$("close").onclick = close;

// ---- fields and keys
let typing;
for (const id of ["prefix", "suffix"]) $(id).oninput = () => { clearTimeout(typing); typing = setTimeout(list, 120); };
$("search").onsubmit = (event) => { event.preventDefault(); list(); };
$("more").onclick = () => list(next);
for (const button of document.querySelectorAll("#kinds button")) {
  button.onclick = () => { $("suffix").value = button.dataset.suffix; list(); };
}
// What others store shows up while nobody looks elsewhere.
setInterval(() => {
  if (document.hidden || next || leaving.size || opened || document.activeElement?.tagName === "TR") return;
  list(); count();
}, 5000);
$("door").onsubmit = (event) => {
  event.preventDefault();
  token = $("token").value.trim();
  sessionStorage.setItem("token", token);
  list();
};
addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const field = event.target.tagName === "INPUT", on = event.target.closest("tr[data-key]");
  if (event.key === "Escape") { if (field) event.target.blur(); else close(); return; }
  if (event.key === "ArrowDown" && (field || event.target === document.body)) { $("rows").firstElementChild?.focus(); event.preventDefault(); return; }
  if (field) return;
  const entry = on && entries.find((e) => e.key === on.dataset.key);
  const seek = event.target === $("wave") && { ArrowLeft: -5, ArrowRight: 5 }[event.key];
  if (seek) { $("audio").currentTime += seek; event.preventDefault(); }
  else if (event.key === "/") { $("prefix").focus(); event.preventDefault(); }
  else if (event.key === "z" || event.key === "u") [...leaving.values()].pop()?.undo();
  else if (event.key === " " && event.target.tagName !== "BUTTON" && opened && !$("toggle").hidden) { toggle(); event.preventDefault(); }
  else if (entry && event.key === "Enter" && event.target === on) open(entry);
  else if (entry && event.key === "Delete") depart(entry);
  else if (on && event.key === "ArrowDown") { on.nextElementSibling?.focus(); event.preventDefault(); }
  else if (on && event.key === "ArrowUp") { (on.previousElementSibling || $("prefix")).focus(); event.preventDefault(); }
});
list();
count();

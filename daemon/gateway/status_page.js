"use strict";
// Every text is somebody else's, so it reaches the page by textContent only.
const POINTS = 240, LIST_MS = 5000, RETRY_MS = 3000;
const at = (id) => document.getElementById(id);
const rates = [];
let before = null, listing = false;

function node(name, text, kind) {
  const e = document.createElement(name);
  if (text !== undefined) e.textContent = String(text);
  if (kind) e.className = kind;
  return e;
}

function say(id, text) { at(id).replaceChildren(node("p", text)); }

// columns: [title, of a row its text or number, of a row the class of the cell]
function table(id, rows, columns, none) {
  if (!rows.length) { say(id, none); return; }
  const t = node("table"), head = t.createTHead().insertRow(), body = t.createTBody();
  const numeric = columns.map(([, value]) => rows.some((row) => typeof value(row) === "number") ? "n " : "");
  columns.forEach(([title], i) => {
    const th = node("th", title, numeric[i]);
    th.scope = "col";
    head.append(th);
  });
  for (const row of rows) {
    const tr = body.insertRow();
    columns.forEach(([, value, kind], i) => tr.append(node("td", value(row), numeric[i] + (kind ? kind(row) : ""))));
  }
  at(id).replaceChildren(t);
}

function tiles(list) {
  at("tiles").replaceChildren(...list.map(([label, value, kind]) => {
    const tile = node("div", undefined, "tile");
    tile.append(node("b", value, kind), node("span", label));
    return tile;
  }));
}

function graph() {
  const most = Math.max(1, ...rates), svg = at("graph");
  const line = document.createElementNS("http://www.w3.org/2000/svg", "polyline");
  line.setAttribute("points", rates.map((r, i) => `${i + POINTS - rates.length},${39 - 37 * r / most}`).join(" "));
  svg.replaceChildren(line);
}

// What happened between two documents, per second; nothing after a restart.
function perSecond(now, read) {
  const ms = before ? now.uptime_ms - before.uptime_ms : 0;
  return ms > 0 ? Math.max(0, read(now) - read(before)) * 1000 / ms : 0;
}

const short = (n) => n >= 100 ? Math.round(n) : Math.round(n * 10) / 10;
const sum = (list, read) => list.reduce((n, x) => n + read(x), 0);
const failed = (s) => s["5xx"] + s.none;

function span(ms) {
  const s = Math.floor(ms / 1000), m = Math.floor(s / 60), h = Math.floor(m / 60), d = Math.floor(h / 24);
  return d ? `${d}d ${h % 24}h` : h ? `${h}h ${m % 60}m` : m ? `${m}m ${s % 60}s` : `${s}s`;
}

function drawState(s) {
  const ill = s.upstreams.filter((u) => !u.healthy);
  const words = s.draining ? "draining" : ill.length ? "degraded" : "ok";
  at("state").textContent = words;
  at("state").className = words === "ok" ? "good" : "bad";
  at("about").textContent = `${s.version}, up ${span(s.uptime_ms)}, configuration ${s.config.generation}` +
    (s.config.reloads_failed ? `, ${s.config.reloads_failed} reloads failed` : "") + (s.config.file ? `, ${s.config.file}` : "");
}

function drawTiles(s) {
  const pools = s.upstreams.map((u) => u.pool), cache = s.cache, reads = cache.hits + cache.stale + cache.misses;
  const bad = perSecond(s, (x) => failed(x.requests.by_status));
  tiles([
    ["requests/s", short(rates[rates.length - 1])],
    ["refused/s (4xx)", short(perSecond(s, (x) => x.requests.by_status["4xx"]))],
    ["failed/s", short(bad), bad ? "bad" : ""],
    ["connections", s.clients.connections],
    ["under way", s.clients.active.length + s.clients.active_left_out],
    ["pool in use", `${sum(pools, (p) => p.leased)}/${sum(pools, (p) => p.max_connections)}`],
    ["waiting", sum(pools, (p) => p.waiting), sum(pools, (p) => p.waiting) ? "bad" : ""],
    ["cache hits", reads ? `${Math.round(100 * (cache.hits + cache.stale) / reads)} %` : "-"],
    ["leases", s.leases.present],
  ]);
}

function drawTables(s) {
  table("errors", s.errors || [], [["when", (e) => e.time], ["kind", (e) => e.level], ["times", (e) => e.count], ["what", (e) => e.text]],
    "None since the start.");
  table("upstreams", s.upstreams, [
    ["name", (u) => u.name], ["health", (u) => u.healthy ? "ok" : u.error, (u) => u.healthy ? "good" : "bad"],
    ["in use", (u) => u.pool.leased], ["idle", (u) => u.pool.idle], ["at most", (u) => u.pool.max_connections],
    ["waiting", (u) => u.pool.waiting], ["dials", (u) => u.pool.dials], ["failed dials", (u) => u.pool.dial_failures],
    ["circuit", (u) => u.pool.circuit_open ? "open" : "closed", (u) => u.pool.circuit_open ? "bad" : ""],
    ["events", (u) => u.events.connected ? "connected" : "not read"]], "None.");
  table("owners", s.clients.owners, [["uid", (c) => c.uid], ["owner", (c) => c.user_id || "-"], ["rule", (c) => c.rule || "none"],
    ["connections", (c) => c.connections], ["under way", (c) => c.active], ["requests", (c) => c.requests]], "Nobody is connected.");
  table("active", s.clients.active, [["uid", (c) => c.uid], ["pid", (c) => c.pid || "-"], ["owner", (c) => c.user_id || "-"],
    ["request", (c) => `${c.method} ${c.route}`], ["sandbox", (c) => c.sandbox || "-"], ["for", (c) => span(c.for_ms)]],
    "None.");
  table("rules", s.rules.filter((r) => r.name || r["4xx"]), [["name", (r) => r.name || "(nobody's)"], ["answered", (r) => r["2xx"] + r["3xx"] + r["1xx"]],
    ["refused (4xx)", (r) => r["4xx"]], ["failed (5xx)", (r) => r["5xx"]], ["client left", (r) => r.none]], "None.");
  const keys = (s.credentials || []).flatMap((c) => ["api_key", "admin_api_key"].filter((k) => c[k]).map((k) => [c.name, k, c[k]]));
  table("credentials", keys, [["name", (k) => k[0]], ["key", (k) => k[1]],
    ["state", (k) => k[2].error || (k[2].loaded ? "loaded" : "not loaded"), (k) => k[2].error || !k[2].loaded ? "bad" : "good"],
    ["read", (k) => k[2].age ? `${k[2].age} ago` : "-"], ["changes", (k) => k[2].changes]], "None is configured.");
}

function draw(s) {
  if (!s.clients) { say("errors", "This caller's rule is not `admin: true`, so there is only his own part."); return; }
  if (before && s.uptime_ms < before.uptime_ms) before = null;
  rates.push(perSecond(s, (x) => x.requests.total));
  if (rates.length > POINTS) rates.shift();
  drawState(s);
  drawTiles(s);
  drawTables(s);
  graph();
  before = s;
}

// --- sandboxes: the server's list, read like anybody's ------------------------------------------------------------

function byOwner(list) {
  const owners = new Map();
  for (const box of list) {
    const name = (box.metadata && box.metadata["stacygate.owner"]) || box.owner_id || "(no owner)";
    const o = owners.get(name) || {name, boxes: 0, running: 0, images: new Set(), ends: ""};
    o.boxes++;
    o.running += box.state === "running" ? 1 : 0;
    o.images.add(box.image);
    if (!o.ends || Date.parse(box.expires_at) < Date.parse(o.ends)) o.ends = box.expires_at;
    owners.set(name, o);
  }
  return [...owners.values()].sort((a, b) => b.boxes - a.boxes || (a.name < b.name ? -1 : 1));
}

async function list() {
  try {
    const answer = await fetch("/api/v1/sandboxes", {headers: {Accept: "application/json"}, cache: "no-store"});
    const body = await answer.json();
    if (!answer.ok) throw new Error(`${answer.status}: ${body.message}`);
    table("sandboxes", byOwner(body || []), [["owner", (o) => o.name], ["sandboxes", (o) => o.boxes], ["running", (o) => o.running],
      ["images", (o) => [...o.images].join(", ")], ["first ends", (o) => o.ends || "-"]], "There are none.");
  } catch (e) {
    say("sandboxes", `The list cannot be read: ${e.message}`);
  }
}

// Not in the background, and one at a time.
async function keepListing() {
  if (document.hidden || listing) return;
  listing = true;
  await list();
  listing = false;
}

// --- the stream ------------------------------------------------------------------------------------------------------

function watch() {
  const source = new EventSource("/gateway/v1/status");
  source.onmessage = (e) => draw(JSON.parse(e.data));
  source.onerror = () => {
    at("state").textContent = "not connected";
    at("state").className = "bad";
    // A refusal ends an EventSource for good; anything else it tries again by itself.
    if (source.readyState === EventSource.CLOSED) setTimeout(watch, RETRY_MS);
  };
}

watch();
keepListing();
setInterval(keepListing, LIST_MS);
document.addEventListener("visibilitychange", keepListing);

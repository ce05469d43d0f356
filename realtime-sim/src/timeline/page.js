"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const TIME = 92, BAR = 11, GAP = 4, PAD = 16, AIR = 100;
let STEPS = 268, TEXT = 262, SERVER = 290;
const STATES = {
  asked: "asked for", joining: "joining, connecting", joined: "joined", live: "live, open", stopped: "rows stopped",
  retrying: "retrying, waiting", parked: "parked", halted: "gave up", leaving: "leaving", offline: "offline",
};
const off = { clients: new Set(), topics: new Set(), kinds: new Set() };
let zoom = 17, found = "", rows = [], tops = [], height = 0, lanes = [], width = 0, hot = -1;

const escape = (text) => String(text).replace(/[&<>"']/g, (c) => "&#" + c.charCodeAt(0) + ";");
const cut = (text, pixels) => {
  const most = Math.floor(pixels / 7);
  return text.length > most ? text.slice(0, Math.max(most - 1, 1)) + "…" : text;
};
const clock = (micros) => {
  const seconds = micros / 1e6;
  if (seconds < 60) return seconds.toFixed(3) + " s";
  const whole = Math.floor(seconds), pad = (n) => String(n).padStart(2, "0");
  const h = Math.floor(whole / 3600), m = Math.floor(whole / 60) % 60;
  return (h ? h + ":" + pad(m) : m) + ":" + pad(whole % 60) + "." + String(Math.floor(micros / 1e3) % 1000).padStart(3, "0");
};
const span = (micros) => {
  const units = [[86400e6, "d"], [3600e6, "h"], [60e6, "min"], [1e6, "s"], [1e3, "ms"]];
  const [unit, word] = units.find(([unit]) => micros >= unit) || [1, "µs"];
  return +(micros / unit).toFixed(micros / unit < 10 ? 1 : 0) + " " + word;
};

// Which lanes there are, from left to right.
function place() {
  lanes = [];
  // What the window has to spare goes to the texts.
  const clients = data.clients.filter((_, at) => !off.clients.has(at));
  const bars = clients.reduce((sum, client) => sum + PAD + 8 + (BAR + GAP) * (client.connections + client.topics.length), 0);
  STEPS = clients.length > 2 ? 215 : 268;
  const spare = $("view").clientWidth - TIME - STEPS - AIR - bars - 24 - 10 * data.servers;
  const shares = clients.length + data.servers;
  TEXT = Math.min(Math.max(spare / Math.max(shares, 1), 150), 420);
  SERVER = Math.min(Math.max(TEXT, 170), 330);
  let x = TIME + STEPS;
  data.clients.forEach((client, at) => {
    if (off.clients.has(at)) return;
    const lane = { who: at, name: client.name, part: client.part, x, bars: new Map() };
    let bar = x + PAD;
    for (let of = 0; of < client.connections; of++, bar += BAR + GAP) lane.bars.set("c" + of, bar);
    bar += GAP;
    for (const topic of client.topics) {
      if (!off.topics.has(topic)) { lane.bars.set("t" + topic, bar); bar += BAR + GAP; }
    }
    lane.text = bar + 4;
    lane.port = lane.text + TEXT;
    x = lane.port;
    lanes.push(lane);
  });
  for (let server = 0; server < data.servers; server++) {
    const lane = { who: -1 - server, name: data.servers > 1 ? "server " + server : "server", part: "server" };
    lane.x = x + (server === 0 ? AIR : 10); lane.port = lane.x; lane.text = lane.x + 10; x = lane.x + SERVER;
    lane.bars = new Map();
    lanes.push(lane);
  }
  width = x;
}
const laneOf = (who) => lanes.find((lane) => lane.who === who);

const isHeartbeat = (row) => / phoenix heartbeat$/.test(row.text) || (row.kind === "tells" && /^heartbeat|heartbeat answered$/.test(row.text));
let answers = new Set();
data.rows.forEach((row) => {
  const refs = / phoenix heartbeat$/.test(row.text) && row.text.split(" ")[1];
  if (refs && row.who >= 0) answers.add(row.who + " " + refs);
});
const isAnswer = (row) => {
  const words = row.text.split(" ");
  return words[2] === "phoenix" && words[3] === "phx_reply";
};

function shows(row) {
  if (row.who >= 0 && off.clients.has(row.who)) return false;
  if ((row.kind === "sends" || row.kind === "receives") && row.who < 0 && row.peer >= 0 && off.clients.has(row.peer)) return false;
  if (row.topic !== undefined && off.topics.has(row.topic)) return false;
  if (off.kinds.has("heartbeats") && (isHeartbeat(row) || isAnswer(row))) return false;
  if (off.kinds.has("frames") && (row.kind === "sends" || row.kind === "receives")) return false;
  if (off.kinds.has("server events") && row.who < 0 && row.kind === "tells") return false;
  if (off.kinds.has("data") && row.kind === "data") return false;
  return true;
}

// Where each row is. Time that passes takes room, but less and less the more of it there is.
function layout() {
  place();
  rows = [];
  tops = new Array(data.rows.length + 1);
  let y = 8, before = null;
  data.rows.forEach((row, at) => {
    if (shows(row)) {
      const passed = before === null ? 0 : row.at - before;
      const room = passed > 0 ? Math.min(2.6, Math.log10(1 + passed / 1e3) * 0.62) : 0;
      const pause = passed >= 1e6;
      y += zoom * (room + (pause ? 0.6 : 0));
      rows.push({ at, y, pause: pause ? passed : 0, room: zoom * (room + (pause ? 0.6 : 0)), isNew: passed > 0 || before === null });
      before = row.at;
      tops[at] = y;
      y += zoom;
    } else {
      tops[at] = y;
    }
  });
  tops[data.rows.length] = y;
  height = y + 60;
  const drawing = $("drawing");
  drawing.setAttribute("width", width + 4);
  drawing.setAttribute("height", height);
  head();
  draw();
  map();
}

function head() {
  let out = `<svg width="${width + 4}" height="66">`;
  out += `<text class="soft" x="${TIME - 10}" y="56" text-anchor="end">time</text><text class="soft" x="${TIME + 6}" y="56">steps and faults</text>`;
  for (const lane of lanes) {
    const x = lane.who < 0 ? lane.text : lane.x + PAD;
    out += `<text class="name" x="${x}" y="19">${escape(cut(lane.name, 240))}<title>${escape(lane.name)}</title></text>`;
    if (lane.who < 0) continue;
    out += `<text class="kind" x="${x}" y="34">${escape(lane.part)}, node${lane.who}</text>`;
    const names = data.clients[lane.who].topics.filter((topic) => !off.topics.has(topic)).map((topic) => data.topics[topic].name);
    out += `<text class="kind" x="${x}" y="56">${escape(cut("link" + (names.length ? " │ " + names.join(" │ ") : ""), lane.port - x))}</text>`;
  }
  $("lanes").innerHTML = out + "</svg>";
}

const middle = (at) => tops[at] + zoom / 2;

// What a row says: first what matters, then the rest.
function label(row) { return parts(row).join(" "); }
function parts(row) {
  if (row.kind === "sends" || row.kind === "receives") {
    const arrow = row.kind === "sends" ? "→ " : "← ";
    const words = row.text.split(" ");
    if (words.length < 4) return [arrow + row.text, ""];
    const topic = row.topic === undefined ? words.slice(2, -1).join(" ") : "#" + data.topics[row.topic].name;
    const refs = words.slice(0, 2).filter((ref) => ref !== "-").join("·");
    return [arrow + words[words.length - 1], topic + "  " + refs];
  }
  if (row.kind === "tells" && row.topic !== undefined && row.who >= 0) {
    return ["#" + data.topics[row.topic].name + " " + row.text.replace(/^(ch\d+\.\d+|lease\d+) /, ""), ""];
  }
  if (row.kind === "tells" && row.who < 0) {
    const [, word, rest] = /^(\w+) ?\{?(.*?)\}?$/.exec(row.text) || [0, row.text, ""];
    return [word.toLowerCase(), rest.replace(/\b(session|topic): /g, "").replace(/"/g, "").trim()];
  }
  if (row.kind === "tells") return [row.text, ""];
  return [row.kind + (row.text ? " " + row.text : ""), ""];
}
function words(row, pixels) {
  const [first, rest] = parts(row), head = cut(first, pixels);
  const room = pixels - (head.length + 1) * 7;
  return escape(head) + (rest && room > 30 ? `<tspan class="rest"> ${escape(cut(rest, room))}</tspan>` : "");
}

function tone(row) {
  if (row.kind === "tells" && row.who >= 0) {
    return /errored|disconnected|lost|violation|gap|refused|stopped|needed|reconnecting|error/.test(row.text) ? "bad" : "tells";
  }
  if (row.kind === "tells") return "soft";
  if (/^(cut|lost|stalls|parted|sleeps)$/.test(row.kind)) return "fault";
  if (/^(healed|wakes)$/.test(row.kind)) return "heal";
  return isHeartbeat(row) || isAnswer(row) ? "noise" : "";
}

// Draws what can be seen, and a screen more each way.
function draw() {
  const view = $("view");
  const top = view.scrollTop - view.clientHeight, bottom = view.scrollTop + 2 * view.clientHeight;
  const seen = (from, to) => to >= top && from <= bottom;
  const texts = zoom >= 10;
  let back = "", lines = "", front = "";
  const reads = (text) => texts ? text : "";

  for (const lane of lanes) {
    const x = lane.who < 0 ? lane.port : lane.x;
    back += `<line x1="${x}" x2="${x}" y1="0" y2="${height}" stroke="${lane.who < 0 ? "#adb5bd" : "#e9edf1"}"/>`;
    if (lane.who >= 0) back += `<line x1="${lane.port}" x2="${lane.port}" y1="0" y2="${height}" stroke="#ced4da"/>`;
  }
  back += `<line x1="${TIME}" x2="${TIME}" y1="0" y2="${height}" stroke="#e9edf1"/>`;

  // Who sleeps is hatched.
  for (const lane of lanes) {
    let since = null;
    for (const { at } of rows) {
      const row = data.rows[at];
      if (row.who !== lane.who) continue;
      if (row.kind === "sleeps") since = at;
      if (row.kind === "wakes" && since !== null) {
        if (seen(tops[since], tops[at])) {
          back += `<rect class="asleep" x="${lane.x + 1}" width="${lane.port - lane.x - 2}" y="${middle(since)}" height="${Math.max(middle(at) - middle(since), 1)}"/>`;
        }
        since = null;
      }
    }
  }

  for (const part of data.spans) {
    if (part.state === "gone") continue;
    const lane = laneOf(part.client);
    const key = part.topic === undefined ? "c" + part.connection : "t" + part.topic;
    const x = lane && lane.bars.get(key);
    const from = middle(part.from), to = part.to >= data.rows.length ? tops[data.rows.length] : middle(part.to);
    if (x === undefined || to <= from || !seen(from, to)) continue;
    const thin = part.state === "offline" || part.state === "asked" ? 3 : 0;
    const what = part.topic === undefined ? "connection" : data.topics[part.topic].name;
    back += `<rect class="${part.state}" x="${x + thin}" width="${BAR - 2 * thin}" y="${from}" height="${to - from}" rx="2"><title>${escape(what)}: ${STATES[part.state] || part.state}, ${clock(data.rows[part.from].at)}</title></rect>`;
  }

  const port = (who) => { const lane = laneOf(who); return lane && lane.port; };
  for (const { at, y, pause, room, isNew } of rows) {
    const row = data.rows[at];
    const mid = y + zoom / 2;
    // An arrow is drawn with the row where it arrives, or with the one where it was lost.
    const started = row.sent !== undefined ? middle(row.sent) : mid;
    if (!seen(Math.min(y - room, started), y + zoom)) continue;
    if (pause && texts) {
      lines += `<line x1="${TIME}" x2="${width}" y1="${y - room / 2}" y2="${y - room / 2}" stroke="#dfe5ea" stroke-dasharray="2 5"/>`;
      front += `<text class="pause halo" x="${TIME + 6}" y="${y - room / 2 + 4}">${span(pause)} later</text>`;
    }
    if (row.kind === "receives" && row.sent !== undefined) {
      const a = port(row.peer), b = port(row.who);
      if (a !== undefined && b !== undefined) {
        const up = row.who < 0 ? "up" : "down", tip = b > a ? -6 : 6;
        const warm = hot === at || hot === row.sent ? " hot" : "";
        const slow = row.at - row.left > 2e6 ? " old" : "";
        lines += `<path class="frame ${up}${slow}${warm}" d="M${a} ${started}L${b + tip / 2} ${mid}"/>`;
        const angle = Math.atan2(mid - started, b - a) * 180 / Math.PI;
        lines += `<path class="head dim ${up}" transform="translate(${b} ${mid}) rotate(${angle})" d="M0 0L-7 -3.2L-7 3.2z"/>`;
      }
    }
    if (row.kind === "sends" && row.lost) {
      const a = port(row.who), b = row.peer === undefined ? undefined : port(row.peer);
      if (a !== undefined) {
        const ahead = (b === undefined ? row.who >= 0 : b > a) ? 1 : -1;
        const end = a + ahead * 44;
        lines += `<path class="frame lost" d="M${a} ${mid}L${end} ${mid + 3}"/><path class="cross" d="M${end - 4} ${mid - 1}l8 8m0 -8l-8 8"/>`;
      }
    }
    if ((row.kind === "opened" || row.kind === "lost") && row.peer !== undefined) {
      const a = port(row.peer), b = port(row.who);
      if (a !== undefined && b !== undefined) {
        lines += `<path class="frame ${row.kind === "lost" ? "lost" : "down"} old" d="M${a} ${mid}L${b} ${mid}" opacity=".4"/>`;
      }
    }
    front += `<g class="row" data-at="${at}">`;
    const matches = found && (label(row) + " " + row.kind).toLowerCase().includes(found);
    front += `<rect class="hit${matches ? " found" : ""}" x="0" width="${width + 4}" y="${y}" height="${zoom}"/>`;
    if (isNew && texts) front += `<text class="time" x="${TIME - 10}" y="${mid + 4}">${clock(row.at)}</text>`;
    if (["act", "data", "fault", "heal", "finding"].includes(row.kind)) {
      const target = row.peer === undefined ? undefined : laneOf(row.peer);
      if (row.kind === "fault" || row.kind === "heal" || row.kind === "finding") {
        const color = row.kind === "heal" ? "#2b8a3e" : "#c2255c";
        const to = row.kind === "fault" && target ? target.port : width;
        front += `<rect x="${TIME + 1}" width="${to - TIME - 1}" y="${y + 0.5}" height="${zoom - 1}" fill="${color}" fill-opacity=".08"/>`;
        front += `<rect x="${TIME + 1}" width="3" y="${y + 0.5}" height="${zoom - 1}" fill="${color}"/>`;
      }
      const long = row.kind === "finding" ? width - TIME : STEPS - 14;
      front += reads(`<text class="${row.kind} halo" x="${TIME + 10}" y="${mid + 4}">${escape(cut(row.kind === "heal" ? "everything is healed" : row.text, long))}</text>`);
    } else if (row.who !== undefined) {
      const lane = laneOf(row.who);
      if (lane) front += reads(`<text class="halo ${tone(row)}" x="${lane.text}" y="${mid + 4}">${words(row, row.who < 0 ? SERVER - 16 : lane.port - lane.text - 8)}</text>`);
    }
    front += "</g>";
  }
  $("drawing").innerHTML = `<defs><pattern id="sleep" width="7" height="7" patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><rect width="7" height="7" fill="#f1f3f5"/><line x1="0" x2="0" y1="0" y2="7" stroke="#d5dbe1" stroke-width="3"/></pattern></defs>${back}${lines}${front}`;
}

// The whole run in a strip: faults, the healing, what was found.
function map() {
  const canvas = $("map"), view = $("view");
  const box = view.getBoundingClientRect();
  const high = Math.max(box.height - 74, 10);
  canvas.style.top = box.top + 70 + "px";
  canvas.style.height = high + "px";
  canvas.width = 24; canvas.height = high * 2;
  const paint = canvas.getContext("2d");
  const colors = { fault: "#c2255c", heal: "#2b8a3e", finding: "#e8002d", act: "#c5ccd3", data: "#a5c8ec" };
  for (const { at, y } of rows) {
    const row = data.rows[at];
    const color = found && label(row).toLowerCase().includes(found) ? "#f59f00" : colors[row.kind];
    if (!color) continue;
    paint.fillStyle = color;
    const thick = row.kind === "act" || row.kind === "data" ? 1 : 4;
    paint.fillRect(0, y / height * canvas.height, 24, thick);
  }
  paint.strokeStyle = "#495057"; paint.lineWidth = 2;
  paint.strokeRect(1, view.scrollTop / height * canvas.height, 22, Math.max(view.clientHeight / height * canvas.height, 6));
}

const go = (at) => { $("view").scrollTop = Math.max(tops[at] - $("view").clientHeight / 3, 0); };
function jump(step) {
  const view = $("view"), here = view.scrollTop + view.clientHeight / 3;
  const marks = rows.filter(({ at }) => ["fault", "heal", "finding"].includes(data.rows[at].kind));
  const mark = step > 0 ? marks.find(({ y }) => y > here + 2) : marks.reverse().find(({ y }) => y < here - 2);
  if (mark) go(mark.at);
}

function chip(text, set, key, title) {
  const button = document.createElement("button");
  button.className = "chip"; button.textContent = text; button.title = title || "show or hide";
  button.onclick = () => {
    if (!set.delete(key)) set.add(key);
    button.classList.toggle("off", set.has(key));
    layout();
  };
  button.classList.toggle("off", set.has(key));
  $("filters").append(button);
}

function begin() {
  document.querySelector("h1").textContent = data.name;
  for (const [word, text] of data.summary) {
    const pair = document.createElement("div"), dt = document.createElement("dt"), dd = document.createElement("dd");
    dt.textContent = word; dd.textContent = text; pair.append(dt, dd); $("summary").append(pair);
  }
  if (data.finding) {
    $("finding").hidden = false;
    $("finding").textContent = "✗ " + data.finding;
    $("finding").onclick = () => go(data.rows.length - 1);
  }
  $("scenario").textContent = data.scenario;
  $("shows").onclick = () => { $("scenario").hidden = !$("scenario").hidden; layout(); };
  const states = ["asked", "joining", "joined", "live", "stopped", "retrying", "parked", "leaving", "halted", "offline"];
  $("legend").innerHTML = states.map((state) => `<span><svg width="12" height="12"><rect class="${state}" width="12" height="12" rx="3"/></svg>${STATES[state]}</span>`).join("") +
    '<span><svg width="26" height="10"><path class="frame up" d="M0 5h24"/></svg>to the server</span><span><svg width="26" height="10"><path class="frame down" d="M0 5h24"/></svg>to the client</span><span><svg width="30" height="12"><path class="frame lost" d="M0 6h20"/><path class="cross" d="M17 2l8 8m0 -8l-8 8"/></svg>lost</span>';
  data.clients.forEach((client, at) => chip(client.name, off.clients, at, "show or hide this client"));
  data.topics.forEach((topic, at) => chip("#" + topic.name, off.topics, at, topic.wire));
  for (const kind of ["heartbeats", "frames", "server events", "data"]) chip(kind, off.kinds, kind);
  $("zoom").oninput = (event) => {
    const view = $("view"), at = (view.scrollTop + view.clientHeight / 2) / height;
    zoom = +event.target.value;
    layout();
    view.scrollTop = at * height - view.clientHeight / 2;
  };
  $("search").oninput = (event) => {
    found = event.target.value.trim().toLowerCase();
    const first = found && rows.find(({ at }) => label(data.rows[at]).toLowerCase().includes(found));
    if (first) go(first.at);
    draw(); map();
  };
  $("next").onclick = () => jump(1);
  $("previous").onclick = () => jump(-1);
  document.onkeydown = (event) => {
    if (event.target.tagName === "INPUT") return;
    if (event.key === "n") jump(1);
    if (event.key === "p") jump(-1);
  };
  let asked = false;
  $("view").onscroll = () => {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => { asked = false; draw(); map(); });
  };
  window.onresize = () => layout();
  $("map").onclick = (event) => {
    const box = $("map").getBoundingClientRect(), view = $("view");
    view.scrollTop = (event.clientY - box.top) / box.height * height - view.clientHeight / 2;
  };
  $("drawing").onmousemove = (event) => {
    const group = event.target.closest(".row"), tip = $("tip");
    if (!group) { tip.hidden = true; return; }
    const at = +group.dataset.at, row = data.rows[at];
    const who = row.who === undefined ? "world" : (laneOf(row.who) || {}).name;
    let out = `<b>${escape(who)}</b> ${escape(row.kind)} <span class="soft">at ${clock(row.at)} (${(row.at / 1e6).toFixed(6)} s)</span>\n${escape(row.text)}`;
    if (row.topic !== undefined) out += `\n<span class="soft">topic</span> ${escape(data.topics[row.topic].name)} <span class="soft">${escape(data.topics[row.topic].wire)}</span>`;
    if (row.left !== undefined) out += `\n<span class="soft">left at</span> ${clock(row.left)}<span class="soft">, was under way for</span> ${span(row.at - row.left)}`;
    if (row.kind === "sends" && row.lost) out += "\n<b>never arrived</b>";
    if (row.kind === "sends" || row.kind === "receives") out += '\n<span class="soft">join_ref, ref, topic, event</span>';
    tip.innerHTML = out;
    tip.hidden = false;
    tip.style.left = Math.min(event.clientX + 14, window.innerWidth - tip.offsetWidth - 24) + "px";
    tip.style.top = Math.min(event.clientY + 16, window.innerHeight - tip.offsetHeight - 8) + "px";
  };
  $("drawing").onmouseleave = () => { $("tip").hidden = true; };
  $("drawing").onclick = (event) => {
    const group = event.target.closest(".row");
    hot = group && +group.dataset.at !== hot ? +group.dataset.at : -1;
    draw();
  };
  layout();
  const place = /^#(\d+)$/.exec(location.hash);
  if (place) go(Math.min(+place[1], data.rows.length - 1));
  else if (data.finding) go(data.rows.length - 1);
}
begin();

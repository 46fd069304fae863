"use strict";
// What is shown is in the address: #view=trajectories&kind=wrong_tool&at=12. Everything a model wrote becomes text nodes.
const $ = (id) => document.getElementById(id), body = document.body;
const SVG = "http://www.w3.org/2000/svg", ROW = 54;
const NETS = { id: "as it is", r90: "↺ 90°", r180: "180°", r270: "↻ 90°", fh: "⇆ mirrored", fv: "⇅ flipped", transpose: "transposed", transverse: "transversed" };
const ROLES = { user: "question", assistant: "model", tool: "tool" };

function node(space, tag, attributes, children) {
  const made = space ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes))
    if (name.startsWith("on")) made[name] = value;
    else if (value !== null && value !== undefined && value !== false) made.setAttribute(name, value === true ? "" : value);
  made.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}
const h = (tag, attributes = {}, ...children) => node(false, tag, attributes, children);
const s = (tag, attributes = {}, ...children) => node(true, tag, attributes, children);
const number = (value, digits = 2) => (+value.toFixed(digits)).toString().replace("-", "−");
const signed = (value) => (value > 0 ? "+" : "") + number(value);

// charts

for (const svg of document.querySelectorAll(".chart svg")) {
  const value = svg.closest("figure").querySelector(".v"), rest = [...value.childNodes];
  let lines, marks;
  svg.onpointermove = (event) => {
    lines ||= JSON.parse(svg.dataset.points);
    if (!marks) svg.append(marks = s("g", { class: "here" }));
    const box = svg.getBoundingClientRect(), x = (event.clientX - box.left) / box.width * svg.viewBox.baseVal.width;
    const near = lines.map(([run, points]) => [run, points.reduce((a, b) => Math.abs(b[0] - x) < Math.abs(a[0] - x) ? b : a)]);
    marks.replaceChildren(
      s("line", { x1: near[0][1][0], x2: near[0][1][0], y1: 8, y2: svg.viewBox.baseVal.height - 20 }),
      ...near.map(([run, [px, py]]) => s("circle", { class: `r${run % 8}`, cx: px, cy: py, r: 3.5 })));
    value.replaceChildren(`step ${near[0][1][2]}: `, ...near.map(([run, point]) => h("b", { class: lines.length > 1 && `r${run % 8}` }, `${point[3]} `)));
  };
  svg.onpointerleave = () => { marks?.replaceChildren(); value.replaceChildren(...rest); };
}

// data

const data = JSON.parse($("data").textContent), rollouts = data.rollouts;
const images = (() => { let read; return () => read ||= JSON.parse($("images").textContent); })();
const texts = new Map(), groups = new Map();
rollouts.forEach((r, n) => {
  r.n = n;
  r.valid = !r.kinds.includes("invalid");
  const key = `${r.from} ${r.item}`;
  groups.has(key) ? groups.get(key).push(r) : groups.set(key, [r]);
});
const group = (source, item) => groups.get(`${source} ${item}`) || [];

function text(r) {
  if (!texts.has(r.n))
    texts.set(r.n, [r.id, r.question, r.answer, ...r.references, r.column, ...r.messages.flatMap((m) => m.parts.flatMap((p) => p.slice(1)))].join("\n").toLowerCase());
  return texts.get(r.n);
}
const mark = (r) => !r.valid ? ["–", "grey"] : r.undecided ? ["?", "grey"] : r.correct ? ["✓", "good"] : ["✗", "bad"];

// state

let state = {};
const views = [...document.querySelectorAll("nav a")].filter((a) => a.id !== "to-compare" || data.pair).map((a) => a.hash.slice(6));
const links = Object.fromEntries([...document.querySelectorAll("nav a")].map((a) => [a.hash.slice(6), a]));
$("to-compare").hidden = !data.pair;

function go(changes) {
  const next = Object.entries({ ...state, ...changes }).filter(([, value]) => value !== "" && value !== null && value !== undefined);
  location.replace("#" + new URLSearchParams(next));
}

function read() {
  state = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
  if (!views.includes(state.view)) state.view = views[0];
  if (state.view === "compare") { state.a ??= `${data.pair[0]}`; state.b ??= `${data.pair[1]}`; }
}

// filters

const SORTS = { "": "as recorded", longest: "longest first", rich: "highest reward", poor: "lowest reward", calls: "most calls" };
const ORDER = {
  longest: (a, b) => b.turns - a.turns || (b.tokens || 0) - (a.tokens || 0),
  rich: (a, b) => (b.reward ?? -Infinity) - (a.reward ?? -Infinity),
  poor: (a, b) => (a.reward ?? Infinity) - (b.reward ?? Infinity),
  calls: (a, b) => b.calls.length - a.calls.length,
};
const DIFFS = { gained: "Gained", lost: "Lost", right: "Both right", wrong: "Both wrong", other: "Neither" };
const distinct = (values) => [...new Set(values.filter((value) => value !== null && value !== undefined && value !== ""))];
const byName = (a, b) => `${a}`.localeCompare(`${b}`, undefined, { numeric: true });

function choice(name, title, options, only) {
  const field = h("select", { title, "aria-label": title, "data-of": only, onchange: () => go({ [name]: field.value, at: "" }) },
    ...options.map(([value, label]) => h("option", { value }, label)));
  field.dataset.name = name;
  return field;
}
const any = (label, values) => [["", label], ...values.map((value) => [`${value}`, `${value}`.replaceAll("_", " ")])];
const sources = data.sources.map((label, at) => [`${at}`, label]);
const columns = distinct(rollouts.map((r) => r.column)).sort(byName), ends = distinct(rollouts.map((r) => r.end)).sort();
const ops = distinct(rollouts.flatMap((r) => r.calls.flatMap((c) => c.ops))).sort(byName), steps = rollouts.some((r) => r.step !== null);
const search = h("input", { type: "search", class: "all", placeholder: "Search what was asked, said and run   /", "aria-label": "search", oninput: () => go({ q: search.value, at: "" }) });
const stepField = h("input", { placeholder: "steps 1-20", title: "a training step, or from-to", "aria-label": "steps", "data-of": "trajectories", oninput: () => go({ step: stepField.value, at: "" }) });
stepField.dataset.name = "step"; search.dataset.name = "q";
const chips = h("div", { class: "chips all" });
const left = choice("a", "left", sources, "compare"), right = choice("b", "right", sources, "compare");
left.classList.add("all"); right.classList.add("all");
$("filters").append(search, left, right,
  choice("from", "records", [["", "all records"], ...sources], "trajectories"),
  choice("sort", "order", Object.entries(SORTS), "trajectories"),
  ...(ends.length > 1 ? [choice("end", "how it ended", any("any end", ends), "trajectories")] : []),
  ...(columns.length > 1 ? [choice("column", "column", any("any column", columns))] : []),
  ...(ops.length ? [choice("op", "what was done", any("any op", ops), "trajectories")] : []),
  ...(steps ? [stepField] : []), chips);

function matches(r) {
  const [first, last] = (state.step || "").split("-").map((word) => parseInt(word, 10));
  return (!state.from || r.from === +state.from) && (!state.end || r.end === state.end) && (!state.column || r.column === state.column) &&
    (!state.op || r.calls.some((c) => c.ops.includes(state.op))) &&
    (!(first >= 0) || (r.step >= first && r.step <= (state.step.includes("-") ? (last >= 0 ? last : Infinity) : first))) &&
    (!state.q || text(r).includes(state.q.toLowerCase()));
}

function chip(name, value, label, count, title) {
  const on = (state[name] || "") === value;
  return h("button", { type: "button", class: on && "on", title, "aria-pressed": `${on}`, onclick: () => go({ [name]: on ? "" : value, at: "" }) }, `${label} `, h("b", {}, count.toLocaleString("en")));
}

// rows: [{ key, ... }] of the view that is shown

function rolloutRows() {
  const found = rollouts.filter(matches), count = (kind) => found.filter((r) => r.kinds.includes(kind)).length;
  chips.replaceChildren(...Object.entries(data.kinds).map(([kind, [label, why]]) => chip("kind", kind, label, count(kind), why)));
  const kept = state.kind ? found.filter((r) => r.kinds.includes(state.kind)) : found;
  if (ORDER[state.sort]) kept.sort(ORDER[state.sort]);
  return kept.map((r) => ({ key: r.n, r }));
}

function accuracy(them) {
  const valid = them.filter((r) => r.valid);
  return valid.length ? valid.filter((r) => r.correct).length / valid.length : null;
}

function itemRows() {
  const rows = [];
  for (const item of new Set(rollouts.filter((r) => r.from === +state.a).map((r) => r.item))) {
    const a = group(state.a, item), b = group(state.b, item);
    if (!b.length || (state.column && a[0].column !== state.column)) continue;
    if (state.q && ![...a, ...b].some((r) => text(r).includes(state.q.toLowerCase()))) continue;
    const [x, y] = [accuracy(a), accuracy(b)];
    const diff = x === null || y === null ? "other" : y > x ? "gained" : y < x ? "lost" : x === 1 ? "right" : x === 0 ? "wrong" : "other";
    rows.push({ key: item, a, b, diff });
  }
  const count = (diff) => rows.filter((row) => row.diff === diff).length;
  chips.replaceChildren(...Object.entries(DIFFS).map(([diff, label]) => chip("diff", diff, label, count(diff), "")));
  return state.diff ? rows.filter((row) => row.diff === state.diff) : rows;
}

const list = $("list");
let rows = [], selected = 0, shownKey;

function drawRow(row, at) {
  const r = row.r || row.b[0], pair = row.a ? [mark(row.a[0]), mark(row.b[0])] : [mark(r)];
  const marks = row.a && (row.a.length > 1 || row.b.length > 1) ? { gained: ["↑", "good"], lost: ["↓", "bad"], right: ["✓", "good"], wrong: ["✗", "bad"], other: ["=", "grey"] }[row.diff] : null;
  const notes = row.a ? [r.column, row.a[0].answer ?? "nothing", "→", r.answer ?? "nothing"]
    : [r.step !== null && `step ${r.step}`, r.column, ...r.calls.flatMap((c) => c.ok ? c.ops : [c.status || "failed"])];
  return h("div", { class: `row${at === selected ? " on" : ""}`, id: `row${at}`, role: "option", "aria-selected": `${at === selected}`, onclick: () => go({ at: row.key, k: "" }) },
    h("span", { class: "mark" }, ...(marks ? [h("b", { class: marks[1] }, marks[0])] : pair.map(([sign, tone]) => h("b", { class: tone }, sign)))),
    h("span", {}, r.question || r.id), h("span", { class: "num" }, row.a ? "" : r.reward === null ? "" : number(r.reward)),
    h("span", { class: "soft" }, notes.filter(Boolean).join(" · ").replaceAll("_", " ").replace("· → ·", "→")),
    h("span", { class: "soft num" }, row.a ? r.references[0] ?? "" : r.answer ?? r.end.replaceAll("_", " ")));
}

function drawRows() {
  const first = Math.max(0, Math.floor(list.scrollTop / ROW) - 4), many = Math.ceil(list.clientHeight / ROW) + 8;
  $("rows").style.top = `${first * ROW}px`;
  $("rows").replaceChildren(...rows.slice(first, first + many).map((row, i) => drawRow(row, first + i)));
  list.setAttribute("aria-activedescendant", `row${selected}`);
}
list.onscroll = drawRows;
addEventListener("resize", drawRows);

// one rollout

// The target of a drawing, in pixels of an image of this size; nothing if the image has another shape than the input.
function targetOf({ size, shapes }, width, height, zoom) {
  const [sx, sy] = size ? [width / size[0], height / size[1]] : [0, 0];
  if (!(Math.abs(sx / sy - 1) <= 0.02)) return [];
  return shapes.map(({ kind, places, radius, closed, recall }) => {
    const points = places.map(([x, y]) => `${x * sx},${y * sy}`).join(" "), [cx, cy] = [places[0][0] * sx, places[0][1] * sy];
    const tone = `target${recall !== null && recall < 0.9 ? " missed" : ""}`, round = kind === "point" || kind === "circle";
    const shape = round ? s("circle", { class: tone, cx, cy, r: kind === "point" ? 7 / zoom : radius * sx }) : s(closed ? "polygon" : "polyline", { class: tone, points });
    shape.append(s("title", {}, `${kind}${recall === null ? "" : `, ${number(100 * recall, 0)} % drawn`}`));
    return shape;
  });
}

function imageOf(shown, r) {
  const [address, width, height] = images()[shown.image], tone = shown.node === null ? "" : `r${shown.node % 8}`;
  const label = shown.node === null ? "image" : `image ${shown.node}`;
  if (!width) return h("figure", {}, h("div", { class: "nofile" }, `${label}: its file isn't there`));
  const source = data.folder ? `${data.folder}/${address.slice(0, 2)}/${address}.png` : address;
  const zoom = Math.min(3, (shown.made ? 340 : 460) / width, (shown.made ? 260 : 340) / height), marks = shown.marks || [];
  const target = shown.target && r.drawing ? targetOf(r.drawing, width, height, zoom) : [];
  const image = h("img", { src: source, alt: label, width: Math.round(width * zoom), height: Math.round(height * zoom), decoding: "async" });
  const frame = h("div", { class: `frame${zoom > 1.2 ? " grown" : ""}`, style: `width: ${Math.round(width * zoom) + 4}px; aspect-ratio: ${width} / ${height}` }, image);
  frame.onclick = () => { frame.style.width = frame.classList.toggle("big") ? `${Math.max(width, width * zoom * 2)}px` : `${Math.round(width * zoom) + 4}px`; };
  if (marks.length || target.length) {
    const seen = new Map(), svg = s("svg", { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none" }, target);
    for (const { box, node: of, net, up } of marks) {
      const again = seen.get(`${box}`) || 0, inset = (1.5 + again * 5) / zoom, free = of !== null;
      if (free) seen.set(`${box}`, again + 1);
      const [x1, y1, x2, y2] = box.map((v, i) => v + (i < 2 ? 1 : -1) * (free ? inset : 0.5 / zoom));
      const edge = { top: [x1, y1, x2, y1], bottom: [x1, y2, x2, y2], left: [x1, y1, x1, y2], right: [x2, y1, x2, y2] }[up];
      const title = free ? `image ${of} shows this${net ? `, ${NETS[net]}` : ""}` : "where the answer stands";
      svg.append(s("g", { class: free ? `r${of % 8}` : "", "data-node": of },
        s("rect", { class: free ? "" : "needed", x: x1, y: y1, width: Math.max(0, x2 - x1), height: Math.max(0, y2 - y1) }, s("title", {}, title)),
        edge && s("line", { x1: edge[0], y1: edge[1], x2: edge[2], y2: edge[3] })));
      if (free) frame.append(h("span", { class: `tag r${of % 8}`, style: `left: ${(100 * x1 / width) + again * 4}%; top: ${100 * y1 / height}%`, title }, `${of}`));
    }
    frame.append(svg);
  }
  const figure = h("figure", { class: shown.made ? `made ${tone}` : "" }, frame,
    h("figcaption", {}, shown.made ? h("b", {}, label) : label, ` · ${width}×${height}`, shown.net ? ` · ${NETS[shown.net]}` : ""));
  if (shown.made) {
    const light = (on) => figure.closest(".traj").querySelectorAll(`g[data-node="${shown.node}"] rect`).forEach((rect) => rect.classList.toggle("hot", on));
    figure.onpointerenter = () => light(true);
    figure.onpointerleave = () => light(false);
  }
  return figure;
}

function partOf([kind, words, note], r) {
  if (kind === "code" || kind === "broken")
    return [h("p", { class: "what" }, kind === "broken" ? "a call that can't be read" : note), h("pre", { class: kind === "broken" && "broken" }, words)];
  return h("div", {}, h("p", { class: `say ${kind}${kind === "answer" ? ` ${mark(r)[1]}` : ""}` }, words));
}

function termsOf(r) {
  const terms = Object.entries(r.terms);
  if (!terms.length) return h("p", { class: "soft" }, "No reward was recorded.");
  return h("table", { class: "terms" },
    h("thead", {}, h("tr", {}, ...["term", "raw", "weight", "gives"].map((word) => h("th", {}, word)))),
    h("tbody", {}, ...terms.map(([name, [raw, weight, gives]]) => h("tr", { class: !gives && "none" }, h("th", {}, name.replaceAll("_", " ")),
      h("td", {}, number(raw, 3)), h("td", {}, number(weight, 3)), h("td", { class: gives > 0 ? "pos" : gives < 0 ? "neg" : "" }, gives ? signed(gives) : "0")))),
    h("tfoot", {}, h("tr", {}, h("th", {}, "reward"), h("td"), h("td"), h("td", {}, r.reward === null ? "–" : number(r.reward)))));
}

function callOf(call) {
  const words = [call.ops.join(", ") || (call.ok ? "nothing that has a name" : ""), !call.ok && (call.status || "failed"), call.noop && "changed nothing",
    call.node !== null && `image ${call.node} from ${call.parent ?? "?"}`, call.net && NETS[call.net],
    call.region && `of ${call.region.map((v) => number(v, 0)).join(", ")}`, call.faithful !== null && `faithful ${number(call.faithful)}`,
    call.isolation && call.isolation !== "strict" && call.isolation !== "strict+landlock" && call.isolation];
  return h("li", { class: call.ok ? "" : "neg" }, words.filter(Boolean).join(" · ").replaceAll("_", " "));
}

function cardOf(r, them, at) {
  const [, tone] = mark(r), facts = [
    ["answered", r.answer ?? "nothing"], ["wanted", r.references.join(" or ") || (r.drawing ? "a drawing" : "not recorded")],
    ["drawing", r.drawing?.verdict && `F1 ${number(r.drawing.verdict.f1)}, precision ${number(r.drawing.verdict.precision)}, preserved ${number(r.drawing.verdict.preserved, 3)}: ${r.drawing.verdict.reason}`],
    ["applied", r.applied.join(", ") || "nothing"], ["needed", r.needed.join(", ") || "no tool"], ["ended by", r.end.replaceAll("_", " ")],
    ["turns", r.turns], ["tokens", r.tokens], ["judge", r.verdict && `${r.verdict.score ?? "abstained"}, ${r.verdict.model}`], ["id", r.id]];
  return h("article", { class: "card traj" },
    h("div", { class: "head" }, h("h3", {}, r.question || r.id),
      h("span", { class: `pill ${tone}` }, !r.valid ? "invalid" : r.undecided ? "undecided" : r.correct ? "right" : "wrong"),
      h("span", { class: "pill grey" }, r.reward === null ? "unscored" : `reward ${number(r.reward)}`),
      h("span", { class: "soft" }, [data.sources[r.from], r.step !== null && `step ${r.step}`, r.column].filter(Boolean).join(" · ")),
      r.why && h("p", { class: "why" }, r.why),
      them.length > 1 && h("div", { class: "group" }, "the same item:", ...them.map((other, i) =>
        h("button", { type: "button", class: `${mark(other)[1]}${other === r ? " on" : ""}`, title: other.id, onclick: () => pick(them, i) },
          mark(other)[0], other.reward === null ? "" : ` ${number(other.reward)}`)))),
    h("div", { class: "body" },
      h("div", { class: "talk" }, ...(r.messages.length ? r.messages.map((m) => h("div", { class: `msg ${m.role}${m.role === "tool" && !m.images.length ? " nopic" : ""}` },
        h("div", { class: "role" }, ROLES[m.role]),
        h("div", {}, ...m.parts.map((part) => partOf(part, r)), m.images.length > 0 && h("div", { class: "pics" }, ...m.images.map((shown) => imageOf(shown, r)))))) : [h("p", { class: "soft" }, "The record holds no turns.")])),
      h("aside", { class: "side" }, h("dl", {}, ...facts.filter(([, value]) => value !== null && value !== undefined).flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, `${value}`)])),
        termsOf(r), r.calls.length > 0 && h("h4", {}, "calls that were run"), r.calls.length > 0 && h("ol", { class: "calls" }, ...r.calls.map(callOf)))));
}

function pick(them, at) {
  if (state.view === "compare") return go({ k: at || "" });
  go({ at: them[at].n });
}

// drawing

function draw() {
  read();
  body.dataset.view = state.view;
  for (const [view, link] of Object.entries(links)) link.classList.toggle("on", view === state.view);
  if (location.hash) links[state.view].href = location.hash;
  if (state.view !== "trajectories" && state.view !== "compare") return;
  for (const field of $("filters").querySelectorAll("[data-name]")) {
    const value = state[field.dataset.name] ?? "";
    if (field.value !== value) field.value = value;
    field.hidden = !!field.dataset.of && field.dataset.of !== state.view;
    field.classList.toggle("set", !!value && !["a", "b"].includes(field.dataset.name));
  }
  rows = state.view === "compare" ? itemRows() : rolloutRows();
  selected = rows.findIndex((row) => row.key === +state.at && state.at !== undefined);
  const other = selected < 0 && state.view === "trajectories" && state.at !== undefined && rollouts[+state.at]; // reached from a row of its item
  if (selected < 0 && other) selected = rows.findIndex((row) => row.r.item === other.item && row.r.from === other.from);
  else if (selected < 0) selected = 0;
  $("all").style.height = `${rows.length * ROW}px`;
  const top = selected * ROW;
  if (top < list.scrollTop) list.scrollTop = top; else if (top + ROW > list.scrollTop + list.clientHeight) list.scrollTop = top + ROW - list.clientHeight;
  drawRows();
  const all = state.view === "compare" ? "items that both have" : `of ${rollouts.length.toLocaleString("en")} rollouts`;
  $("count").textContent = `${rows.length.toLocaleString("en")} ${all}${rows.length && selected >= 0 ? ` · number ${selected + 1}` : ""}`;
  drawDetail(other || undefined);
}

function drawDetail(other) {
  const row = rows[selected], key = JSON.stringify([state.view, other ? other.n : row?.key, state.a, state.b, state.k]);
  if (key === shownKey) return;
  shownKey = key;
  const detail = $("detail");
  if (!row && !other) detail.replaceChildren(h("p", { class: "empty" }, "Nothing is like that. Press x to see everything again."));
  else if (state.view === "compare") {
    const at = (them) => them[Math.min(+(state.k || 0), them.length - 1)];
    detail.replaceChildren(cardOf(at(row.a), row.a), cardOf(at(row.b), row.b));
  } else {
    const r = other || row.r;
    detail.replaceChildren(cardOf(r, group(r.from, r.item)));
  }
  detail.scrollTop = 0;
}

function move(to) {
  if (rows.length) go({ at: rows[Math.max(0, Math.min(rows.length - 1, to))].key, k: "" });
}

function sibling(way) {
  const row = rows[Math.max(0, selected)];
  if (!row) return;
  if (state.view === "compare") return go({ k: Math.max(0, Math.min(Math.max(row.a.length, row.b.length) - 1, +(state.k || 0) + way)) || "" });
  const now = state.at !== undefined && rollouts[+state.at] || row.r, them = group(now.from, now.item), at = them.indexOf(now) + way;
  if (them[at]) go({ at: them[at].n });
}

function theme() {
  const root = document.documentElement, dark = matchMedia("(prefers-color-scheme: dark)").matches;
  root.style.colorScheme = (root.style.colorScheme || (dark ? "dark" : "light")) === "dark" ? "light" : "dark";
}
$("theme").onclick = theme;
$("keys").onclick = () => $("help").showModal();

const KEYS = {
  j: () => move(selected + 1), k: () => move(selected - 1), ArrowDown: () => move(selected + 1), ArrowUp: () => move(selected - 1),
  g: () => move(0), G: () => move(rows.length - 1), n: () => sibling(1), p: () => sibling(-1),
  "/": () => { if (!["trajectories", "compare"].includes(state.view)) { location.hash = "view=trajectories"; draw(); } search.focus(); search.select(); },
  x: () => location.replace(`#view=${state.view}`), t: theme, "?": () => $("help").showModal(),
};
["results", "curves", "trajectories", "compare"].forEach((view, i) => { KEYS[i + 1] = () => views.includes(view) && links[view].click(); });
addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || $("help").open) return;
  if (event.target.matches("input, select")) { if (event.key === "Escape") event.target.blur(); return; }
  if (event.key.startsWith("Arrow") && !["trajectories", "compare"].includes(state.view)) return;
  const act = KEYS[event.key];
  if (act) { event.preventDefault(); act(); }
});

addEventListener("hashchange", draw);
draw();

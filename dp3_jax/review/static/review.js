"use strict";
// The page of `dp3 review`. It keeps nothing itself: each change goes to the server, which writes it to the disk
// and answers with how things are now.

const TOKEN = document.documentElement.dataset.token;
const $ = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";

const RISKS = {
  covered: ["no new face could be made", "bad"],
  unsure: ["perhaps no face", "warn"],
  low_confidence: ["low confidence", "warn"],
  interpolated: ["often not detected", "warn"],
  small: ["small", "warn"],
  no_faces: ["no face found", "warn"],
  kept: ["kept as it is", "bad"],
};
const VERDICTS = [
  ["eyes", "Eyes"],
  ["mouth", "Mouth"],
  ["boundary", "Boundary"],
  ["colour", "Colour"],
  ["age_sex", "Age or sex"],
  ["recognised", "I still recognise this person"],
];
const METHODS = [["generate", "New face", "G"], ["blur", "Blur", "B"], ["pixelate", "Pixelate", "X"], ["solid", "Solid", "S"]];
const FILTERS = [
  ["all", "everything", () => true],
  ["todo", "not reviewed yet", (i) => !i.reviewed],
  ["audit", "named by the audit", (i) => i.audit],
  ["low_confidence", "low confidence", (i) => i.risks.includes("low_confidence")],
  ["small", "small faces", (i) => i.risks.includes("small")],
  ["unsure", "perhaps no face", (i) => i.risks.includes("unsure")],
  ["interpolated", "often not detected", (i) => i.risks.includes("interpolated")],
  ["covered", "no new face could be made", (i) => i.risks.includes("covered")],
  ["no_faces", "no face found", (i) => i.risks.includes("no_faces")],
  ["kept", "faces kept as they are", (i) => i.risks.includes("kept")],
  ["bad", "rated as wrong", (i) => i.bad],
  ["edited", "changed here", (i) => i.edited],
  ["open", "not anonymized or failed", (i) => i.count === null || i.error],
];
const KEYS = [
  ["↑ ↓", "photo or video before, after"], ["Enter", "reviewed, and on to the next"], ["F", "next face, Shift: the one before"],
  ["D", "draw a box round a missed face"], ["E", "move the box of this face"], ["Z", "zoom to the face"], ["H", "show or hide boxes"],
  ["N", "this is not a face"], ["K", "keep this person as she is"], ["P", "another person"],
  ["G B X S", "new face, blur, pixelate, solid"], ["0", "looks right"], ["1 to 6", "what looks wrong"],
  ["U", "undo"], ["R", "do again"], ["← →", "face before, after; in a video: frame"], ["Space", "play, pause"],
  ["T", "split the track here"], ["[ ]", "the track begins, ends here"], ["Esc", "leave drawing or zoom"],
];

const state = {
  items: [], id: null, item: null, face: null, other: null, frame: 0, zoom: false, boxes: true, drawing: null, rubber: null,
  playing: false, chunks: new Map(), stretches: {}, loads: 0, edits: 0,
};

// ---- talking to the server ----------------------------------------------------------------------------------

async function ask(path, body) {
  const options = { headers: { "X-DP3-Token": TOKEN } };
  if (body !== undefined) Object.assign(options, { method: "POST", body: JSON.stringify(body) });
  let answer;
  try {
    answer = await fetch("/api/" + path, options);
  } catch (error) {
    $("lost").hidden = false;
    throw new Error("the server has ended");
  }
  $("lost").hidden = true;
  const content = await answer.json();
  if (!answer.ok) throw Object.assign(new Error(content.error || answer.statusText), { status: answer.status });
  return content;
}

const held = new Map(); // pictures by address, as blob addresses; the oldest go first

function picture(path) {
  if (held.has(path)) {
    const found = held.get(path);
    held.delete(path);
    held.set(path, found);
    return found;
  }
  const made = (async () => {
    const answer = await fetch("/api/" + path, { headers: { "X-DP3-Token": TOKEN } });
    if (!answer.ok) throw new Error((await answer.json()).error || answer.statusText);
    return URL.createObjectURL(await answer.blob());
  })();
  made.catch(() => held.delete(path));
  held.set(path, made);
  if (held.size > 240) {
    const [oldest, address] = held.entries().next().value;
    held.delete(oldest);
    address.then((url) => setTimeout(() => URL.revokeObjectURL(url), 2000), () => {});
  }
  return made;
}

function say(text, bad = false) {
  $("status").textContent = text;
  $("status").classList.toggle("bad", bad);
}

function make(name, properties = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key.startsWith("aria-") || key === "role" || key === "for") element.setAttribute(key, value);
    else element[key] = value;
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

// Draws something anew, and leaves the keyboard where it was.
function keepFocus(drawing) {
  const id = document.activeElement?.id;
  drawing();
  if (id && document.activeElement?.id !== id) $(id)?.focus({ preventScroll: true });
}

const key = (text) => make("kbd", { textContent: text });
const isVideo = () => state.item && state.item.kind === "video";
const faces = () => (state.item && state.item.faces) || [];
const faceOf = (number) => faces().find((face) => face.number === number) || null;
const label = (face) => (isVideo() ? `Track ${face.number}` : `Face ${face.number + 1}`);
const tag = (face) => String(isVideo() ? face.number : face.number + 1);

// ---- the list -----------------------------------------------------------------------------------------------

async function refreshList() {
  const content = await ask("session");
  state.items = content.items;
  $("folder").textContent = content.folder;
  $("folder").title = content.folder;
  for (const option of $("filter").options) {
    const test = FILTERS.find(([name]) => name === option.value);
    option.textContent = `${test[1]} (${state.items.filter(test[2]).length})`;
  }
  drawList();
}

function listed() {
  const test = FILTERS.find(([name]) => name === $("filter").value)[2];
  const found = state.items.filter((item) => test(item) || item.id === state.id);
  if ($("order").value === "name") return found.sort((a, b) => a.name.localeCompare(b.name));
  return found.sort((a, b) => b.score - a.score || a.name.localeCompare(b.name));
}

const counted = (count, what) => `${count} ${what}${count === 1 ? "" : "s"}`;

function factsOf(item) {
  if (item.error) return [item.error, true];
  if (item.count === null) return ["not anonymized", true];
  const named = item.risks.filter((risk) => RISKS[risk]).map((risk) => RISKS[risk][0]);
  const count = counted(item.count, item.kind === "video" ? "track" : "face");
  const parts = [count, ...(item.audit ? ["audit"] : []), ...(item.pending ? ["to be exported"] : []), ...named];
  return [parts.join(", "), named.length > 0 || item.audit];
}

function drawList() {
  const shown = listed();
  const rows = shown.map((item) => {
    const [text, risky] = factsOf(item);
    const short = item.name.split("/").pop();
    const button = make("button", {
      type: "button", id: "item-" + item.id, title: item.name, onclick: () => { $("stage").focus({ preventScroll: true }); open(item.id); },
      "aria-label": `${item.name}, ${text}${item.reviewed ? ", reviewed" : ""}`,
    },
    make("img", { loading: "lazy", alt: "", src: `/api/items/${item.id}/thumb?token=${TOKEN}` }),
    make("span", { className: "what" }, short, make("span", { className: risky ? "facts risky" : "facts", textContent: text })),
    make("span", { className: "tick", textContent: item.reviewed ? "✓" : "", "aria-hidden": "true" }));
    if (item.id === state.id) button.setAttribute("aria-current", "true");
    return make("li", {}, button);
  });
  keepFocus(() => $("items").replaceChildren(...rows));
  $("none").hidden = rows.length > 0;
  const done = state.items.filter((item) => item.reviewed).length;
  $("count").textContent = `${done} of ${state.items.length} reviewed`;
  $("progress").value = state.items.length ? done / state.items.length : 0;
  const current = $("items").querySelector("[aria-current]");
  if (current) current.scrollIntoView({ block: "nearest", inline: "nearest" });
}

function neighbour(way) {
  const shown = listed();
  const place = shown.findIndex((item) => item.id === state.id);
  return shown[Math.min(Math.max(place + way, 0), shown.length - 1)];
}

// ---- one item -----------------------------------------------------------------------------------------------

async function open(id) {
  stop();
  state.id = id;
  state.drawing = state.rubber = null;
  state.zoom = false;
  state.frame = 0;
  state.face = null;
  state.seen = [];
  drawList();
  const item = await ask("items/" + id);
  if (state.id !== id) return;
  take(item);
  const worst = faces().find((face) => face.risks.length) || faces()[0];
  if (worst) select(worst.number, true);
  say(`${item.name}: ${counted(faces().length, isVideo() ? "track" : "face")}`);
}

function take(item) {
  state.item = item;
  state.chunks.clear();
  if (state.face !== null && !faceOf(state.face)) state.face = null;
  const row = state.items.findIndex((one) => one.id === item.id);
  if (row >= 0) Object.assign(state.items[row], { reviewed: item.reviewed, pending: item.pending, edited: item.edited });
  draw();
}

function draw() {
  const item = state.item;
  if (!item) return;
  $("name").textContent = item.name;
  const chips = [];
  if (item.reviewed) chips.push(["reviewed", "good"]);
  if (item.pending) chips.push([isVideo() ? "changed: export makes the file anew" : "rendering", "warn"]);
  if (item.audit) chips.push(["audit: " + item.audit.text, "bad"]);
  if (item.faces && !item.faces.length) chips.push(RISKS.no_faces);
  $("chips").replaceChildren(...chips.map(([text, kind]) => make("span", { className: "chip " + kind, textContent: text })));
  const problem = item.error || item.problem || (item.faces ? "" : "This has no sidecar: it was not anonymized yet, or without --sidecar.");
  $("problem").hidden = !problem;
  $("problem").replaceChildren(make("span", { textContent: problem }));
  if (!item.faces && !item.problem && !isVideo()) {
    $("problem").append(make("button", { type: "button", textContent: "Anonymize it now", onclick: () => act("anonymize", {}) }));
  } else if (!item.faces && !item.problem) $("problem").append(make("span", { textContent: "Export makes it." }));
  $("undo").disabled = !item.undo;
  $("undo").title = item.undo ? "Undo: " + item.undo : "";
  $("redo").disabled = !item.redo;
  $("redo").title = item.redo ? "Do again: " + item.redo : "";
  $("draw").disabled = !item.faces || Boolean(item.problem);
  $("zoom").setAttribute("aria-pressed", state.zoom);
  $("boxes").setAttribute("aria-pressed", state.boxes);
  $("done").setAttribute("aria-pressed", item.reviewed);
  $("panes").classList.toggle("drawing", Boolean(state.drawing));
  $("video").hidden = !isVideo();
  if (isVideo()) drawTimeline();
  drawPictures();
  drawInspector();
  drawStrip();
}

async function boxesNow() {
  const item = state.item;
  if (!item || !item.faces) return [];
  if (!isVideo()) {
    return item.faces.map((face) => ({ face, box: face.box, source: face.source }));
  }
  const chunk = Math.floor(state.frame / 100);
  if (!state.chunks.has(chunk)) {
    const last = Math.min(chunk * 100 + 99, item.frames - 1);
    state.chunks.set(chunk, ask(`items/${item.id}/boxes?first=${chunk * 100}&last=${last}`));
  }
  const found = (await state.chunks.get(chunk))[state.frame] || [];
  return found.map(([number, box, source]) => ({ face: faceOf(number), box, source })).filter((one) => one.face);
}

function kindOf(face, source) {
  const method = face.method || state.item.method;
  const kinds = [];
  if (face.keep) kinds.push("kept");
  else if (face.done === "covered" || face.done === "pixelated" || face.done === "blurred" || face.done === "solid" || method !== "generate") kinds.push("covered");
  if (source === "user") kinds.push("drawn");
  if (source === "unsure") kinds.push("unsure");
  if (source === "filled" || source === "interpolated" || source === "extrapolated") kinds.push("filled");
  return kinds;
}

function view() {
  const [width, height] = state.item.size || [16, 9];
  const seen = state.seen && state.seen.find((one) => one.face.number === state.face);
  if (!state.zoom || !seen) return [0, 0, width, height];
  const [x, y, w, h] = seen.box;
  const side = Math.max(w, h) * 1.9, across = side * Math.max(1, width / height), down = side * Math.max(1, height / width);
  return [x + w / 2 - across / 2, y + h / 2 - down / 2, across, down];
}

async function drawPictures() {
  const load = ++state.loads;
  const item = state.item;
  const seen = await boxesNow().catch(() => []);
  if (load !== state.loads || state.item !== item) return;
  const fresh = seen !== state.seen;
  state.seen = seen;
  if (isVideo() && fresh && !state.playing) drawInspector();
  const before = $("before"), after = $("after");
  const stamp = `${item.revision}-${item.stamp}`;
  const sides = [[before, "before", item.has_original], [after, "after", item.has_result || item.pending]];
  for (const [svg, side, there] of sides) {
    svg.setAttribute("viewBox", view().join(" "));
    if (item.size) svg.style.aspectRatio = `${item.size[0]} / ${item.size[1]}`;
    if (svg.dataset.item !== item.id) svg.replaceChildren();
    svg.dataset.item = item.id;
    drawBoxes(svg, seen, side);
    if (!there) {
      for (const image of svg.querySelectorAll("image")) image.remove();
      continue;
    }
    showPicture(svg, side, stamp, load);
  }
  const live = isVideo() && item.pending;
  $("afternote").textContent = !item.has_result && !live ? "there is no result yet" : live ? "as it will be: not in the file yet" : "the result";
}

async function showPicture(svg, side, stamp, load) {
  const item = state.item, [width, height] = item.size || [0, 0];
  const frame = isVideo() ? `&frame=${state.frame}` : "";
  const path = `items/${item.id}/${side}/picture?v=${stamp}${frame}`;
  // What is still there is of another frame, or of before the change.
  const old = setTimeout(() => { if (load === state.loads) { svg.classList.add("stale"); wait(0); } }, 250);
  try {
    await put(svg, "whole", await picture(path), [0, 0, width, height], load);
    const [x, y, w, h] = view().map(Math.round);
    if (state.zoom && width * height > 1200 * 1200 && load === state.loads) {
      const part = [Math.max(x, 0), Math.max(y, 0), w, h];
      part[2] = Math.min(x + w, width) - part[0];
      part[3] = Math.min(y + h, height) - part[1];
      await put(svg, "part", await picture(`${path}&crop=${part.join(",")}`), part, load);
    } else svg.querySelector("image.part")?.remove();
  } catch (error) {
    if (load === state.loads) say(error.message, true);
  } finally {
    clearTimeout(old);
    if (load === state.loads) {
      svg.classList.remove("stale");
      wait(0);
    }
  }
}

async function put(svg, name, url, [x, y, width, height], load) {
  const ready = new Image();
  ready.src = url;
  await ready.decode();
  if (load !== state.loads) return;
  let image = svg.querySelector("image." + name);
  if (!image) {
    image = document.createElementNS(SVG, "image");
    image.setAttribute("class", name);
    image.setAttribute("preserveAspectRatio", "none");
    const first = svg.querySelector(name === "whole" ? "*" : ".box, .rubber");
    svg.insertBefore(image, first);
  }
  if (!state.item.size) {
    [width, height] = [ready.naturalWidth, ready.naturalHeight];
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  }
  for (const [key, value] of Object.entries({ x, y, width, height, href: url })) image.setAttribute(key, value);
}

function scaleOf(svg) {
  const [, , width, height] = svg.getAttribute("viewBox").split(" ").map(Number);
  const frame = svg.getBoundingClientRect();
  return Math.max(width / Math.max(frame.width, 1), height / Math.max(frame.height, 1));
}

function rectangle(box, name) {
  const rect = document.createElementNS(SVG, "rect");
  for (const [key, value] of Object.entries({ x: box[0], y: box[1], width: box[2], height: box[3], rx: Math.min(box[2], box[3]) / 12 })) rect.setAttribute(key, value);
  rect.setAttribute("class", name);
  return rect;
}

function drawBoxes(svg, seen, side) {
  const focused = document.activeElement?.closest?.(".box")?.dataset.number;
  for (const old of svg.querySelectorAll(".box, .rubber")) old.remove();
  if (state.boxes) {
    const scale = scaleOf(svg);
    const sorted = [...seen].sort((a, b) => (a.face.number === state.face) - (b.face.number === state.face));
    for (const { face, box, source } of sorted) {
      const group = document.createElementNS(SVG, "g");
      const selected = face.number === state.face;
      group.setAttribute("class", ["box", ...kindOf(face, source), ...(selected ? ["selected"] : [])].join(" "));
      group.append(rectangle(box, "halo"), rectangle(box, "edge"));
      const text = document.createElementNS(SVG, "text");
      if (selected || box[2] > 24 * scale) group.append(text); // in a crowd numbers would cover the faces
      text.setAttribute("x", box[0] + 5 * scale);
      text.setAttribute("y", box[1] - 5 * scale < 14 * scale ? box[1] + 16 * scale : box[1] - 5 * scale);
      text.setAttribute("font-size", 14 * scale);
      text.textContent = tag(face) + (face.keep ? " kept" : "");
      group.dataset.number = face.number;
      group.addEventListener("click", () => { if (!state.drawing) select(face.number); });
      if (side === "before") {
        group.setAttribute("tabindex", "0");
        group.setAttribute("role", "button");
        group.setAttribute("aria-pressed", selected);
        group.setAttribute("aria-label", describe(face));
        group.addEventListener("focus", () => { if (state.face !== face.number) select(face.number); });
      } else group.setAttribute("aria-hidden", "true");
      svg.append(group);
      if (side === "before" && String(face.number) === focused) group.focus({ preventScroll: true });
    }
  }
  const named = state.boxes && state.item.audit ? state.item.audit.faces : [];
  named.forEach((found, place) => {
    if (isVideo() && found.frame !== state.frame) return;
    const scale = scaleOf(svg), text = document.createElementNS(SVG, "text"), group = document.createElementNS(SVG, "g");
    for (const [key, value] of Object.entries({ x: found.box[0] + 4 * scale, y: found.box[1] + found.box[3] - 5 * scale, "font-size": 12 * scale })) text.setAttribute(key, value);
    text.textContent = `audit ${place + 1}`;
    group.setAttribute("class", "box audit");
    group.setAttribute("aria-hidden", "true");
    group.append(rectangle(found.box, "edge"), text);
    svg.append(group);
  });
  if (state.rubber) svg.append(rectangle(state.rubber, "rubber"));
}

function describe(face) {
  const risks = face.risks.map((risk) => RISKS[risk][0]);
  const sure = face.confidence === null ? [] : [`confidence ${Math.round(face.confidence * 100)} %`];
  return [label(face), face.keep ? "kept" : face.done || face.method || state.item.method, ...sure, ...risks].join(", ");
}

function select(number, quiet = false) {
  state.face = number;
  const face = faceOf(number);
  if (face && isVideo() && (state.frame < face.first || state.frame > face.last)) state.frame = face.first;
  draw();
  if (face && !quiet) say(describe(face));
}

// ---- the inspector ------------------------------------------------------------------------------------------

function drawInspector() {
  const item = state.item, face = faceOf(state.face), parts = [];
  const locked = Boolean(item.problem);
  if (faces().length) {
    const row = faces().map((one) => make("button", {
      type: "button", textContent: tag(one), "aria-pressed": one.number === state.face, "aria-label": describe(one),
      id: "face-" + one.number, className: one.risks.length ? "risky" : "", onclick: () => select(one.number),
    }));
    parts.push(make("section", {}, make("h3", { textContent: isVideo() ? "Tracks" : "Faces" }), make("div", { className: "faces" }, ...row)));
  } else if (item.faces) {
    parts.push(make("p", { className: "hint", textContent: "No face was found here. If one shows, draw a box round it: press D, or the button above." }));
  }
  if (item.audit && item.audit.faces.length && item.faces) parts.push(auditParts(item, locked));
  if (face) parts.push(...faceParts(item, face, locked));
  if (state.drawing) {
    parts.unshift(make("p", { className: "problem" }, make("span", {
      textContent: "Drag a box from brow to chin and cheek to cheek; or move it with the arrow keys, make it larger and smaller with Shift and arrows, and press Enter. Esc leaves.",
    })));
  }
  keepFocus(() => $("inspector").replaceChildren(...parts));
}

function button(id, text, keys, run, extra = {}) {
  return make("button", { type: "button", id, onclick: run, ...extra }, make("span", { textContent: text }), ...(keys ? [key(keys)] : []));
}

function cropOf(box, room) {
  const side = Math.max(box[2], box[3]) * room;
  return [box[0] + box[2] / 2 - side / 2, box[1] + box[3] / 2 - side / 2, side, side].map((v) => Math.max(0, Math.round(v)));
}

// Small pictures come one after the other, so that large ones need not wait.
const waiting = { before: Promise.resolve(), after: Promise.resolve() };

function closeup(face, box, side, size, at = state.frame) {
  const item = state.item, frame = isVideo() ? `&frame=${at}` : "";
  const image = make("img", { alt: "" });
  const path = `items/${item.id}/${side}/picture?v=${item.revision}-${item.stamp}${frame}&crop=${cropOf(box, 1.6).join(",")}&size=${size}`;
  const load = () => (image.isConnected || held.has(path) ? picture(path).then((url) => { image.src = url; }, () => {}) : null);
  if (held.has(path)) load();
  else waiting[side] = waiting[side].then(load);
  return image;
}

// All faces, before and after, to be scanned at a glance; tracks where they were seen best.
function drawStrip() {
  const item = state.item, there = item.has_result || (isVideo() && item.pending);
  $("strip").hidden = !faces().length;
  const cells = faces().map((face) => make("button", {
    type: "button", id: "cell-" + face.number, onclick: () => { if (isVideo()) state.frame = face.frame; select(face.number); },
    "aria-pressed": face.number === state.face, "aria-label": describe(face), className: face.risks.length ? "risky" : "",
  }, make("span", { className: "pair" }, ...["before", ...(there ? ["after"] : [])].map((side) => closeup(face, face.box, side, 160, face.frame))),
  make("span", { className: "caption" }, label(face), make("span", { textContent: verdictOf(face) }))));
  keepFocus(() => $("strip").replaceChildren(...cells));
}

function verdictOf(face) {
  if (face.verdicts === null) return face.risks.length ? RISKS[face.risks[0]][0] : "";
  return face.verdicts.length ? "looks wrong" : "looks right";
}

function faceParts(item, face, locked) {
  const seen = (state.seen || []).find((one) => one.face.number === face.number);
  const parts = [];
  const box = (isVideo() && seen && seen.box) || face.box, at = seen ? state.frame : face.frame;
  const risks = face.risks.map((risk) => make("span", { className: "chip " + RISKS[risk][1], textContent: RISKS[risk][0] }));
  parts.push(make("div", { className: "who" }, make("h2", { textContent: label(face) }), make("div", { className: "chips" }, ...risks)));
  if (box) {
    const figure = (side) => make("figure", {}, closeup(face, box, side, 320, at), make("figcaption", { textContent: side }));
    parts.push(make("div", { className: "closeups" }, figure("before"), figure("after")));
  }
  const facts = [["confidence", face.confidence === null ? "unknown" : face.confidence.toFixed(2)]];
  if (isVideo()) {
    facts.push(["frames", `${face.first} to ${face.last}`], ["width", `${face.width} px`], ["not detected", `${Math.round(face.interpolated * 100)} %`]);
  } else facts.push(["size", `${Math.round(face.box[2])} × ${Math.round(face.box[3])} px`], ["shown", face.keep ? "kept" : face.done || "?"]);
  if (face.reason) facts.push(["because", face.reason]);
  parts.push(make("dl", { className: "facts-table" }, ...facts.flatMap(([name, value]) => [make("dt", { textContent: name }), make("dd", { textContent: value })])));
  const edit = (action, more = {}) => () => change(action, more);
  const off = { disabled: locked };
  const shown = { generated: "generate", covered: "generate", blurred: "blur", pixelated: "pixelate", solid: "solid" }[face.done];
  const method = face.method || shown || item.method;
  parts.push(make("section", {}, make("h3", { textContent: "Correct it" }), make("div", { className: "two" },
    button("not_a_face", "Not a face", "N", edit("not_a_face"), off),
    button("adjust", "Move box", "E", () => beginDrawing(face), off),
    button("keep", face.keep ? "Do not keep" : "Keep person", "K", edit(face.keep ? "unkeep" : "keep"), { ...off, "aria-pressed": face.keep }),
    button("another", "Other person", "P", edit("another_person"), off),
    ...METHODS.map(([name, text, keys]) => button("method-" + name, text, keys, edit("method", { method: name }), { ...off, "aria-pressed": !face.keep && method === name })))));
  if (isVideo()) parts.push(trackParts(face, edit, off));
  const verdicts = face.verdicts;
  const verdict = ([name, text], place) => button("verdict-" + name, text, String(place + 1), () => toggle(name), {
    "aria-pressed": Boolean(verdicts && verdicts.includes(name)), className: name === "recognised" ? "risk wide" : "risk", ...off,
  });
  parts.push(make("section", {}, make("h3", { textContent: "What looks wrong" }), make("div", { className: "two" },
    button("verdict-0", "Nothing", "0", () => rate([]), { "aria-pressed": verdicts !== null && verdicts.length === 0, ...off }),
    ...VERDICTS.map(verdict))));
  if (faces().length > 1) parts.push(together(face, off));
  return parts;
}

// Places where the audit still saw a face: one press makes them missed faces.
function auditParts(item, locked) {
  const rows = item.audit.faces.map((found, place) => make("div", { className: "withselect" },
    make("span", { className: "hint", textContent: `${place + 1}: ${found.state}` }),
    ...(isVideo() && found.frame !== null ? [make("button", { type: "button", textContent: "Show", onclick: () => goTo(found.frame) })] : []),
    found.missed ? make("button", { type: "button", textContent: "Missed face", disabled: locked, onclick: () => addMissed(found.box, found.frame) }) : null));
  return make("section", {}, make("h3", { textContent: "The audit found" }), make("div", { className: "stack" }, ...rows));
}

function addMissed(box, frame) {
  if (!isVideo()) return act("edit", { action: "missed", box });
  const half = Math.round(state.item.rate / 2), at = frame === null ? state.frame : frame;
  state.frame = at;
  return act("edit", { action: "missed", box, frame: at, first: Math.max(0, at - half), last: Math.min(state.item.frames - 1, at + half) });
}

function together(face, off) {
  const choice = make("select", { id: "other", "aria-label": "Another face" }, ...faces().filter((one) => one.number !== face.number).map((one) => make("option", { value: one.number, textContent: label(one) })));
  if (faceOf(state.other) && state.other !== face.number) choice.value = state.other;
  choice.onchange = () => { state.other = Number(choice.value); };
  const run = (action) => () => change(action, { other: Number(choice.value) });
  const buttons = [button("same", "Same person", "", run("same_person"), off)];
  if (isVideo()) buttons.unshift(button("merge", "Merge", "", run("merge"), off));
  return make("section", {}, make("h3", { textContent: "Together with" }), make("div", { className: "withselect" }, choice, ...buttons));
}

function trackParts(face, edit, off) {
  return make("section", {}, make("h3", { textContent: "Its time" }), make("div", { className: "two" },
    button("begin", "Begins here", "[", () => change("range", { first: state.frame }), off),
    button("end", "Ends here", "]", () => change("range", { last: state.frame }), off),
    button("split", "Split here", "T", edit("split"), off)));
}

// ---- changing -----------------------------------------------------------------------------------------------

// Shows whether something is being made; `more` changes are asked for.
function wait(more) {
  state.edits += more;
  const busy = state.edits > 0 || $("after").classList.contains("stale");
  $("busy").hidden = !busy;
  $("afterpane").setAttribute("aria-busy", busy);
}

// Changes are made one after the other: each needs to know what the one before has left.
let changes = Promise.resolve(null);

function act(action, body) {
  const id = state.id;
  changes = changes.then(() => (state.id === id ? perform(action, body) : null));
  return changes;
}

async function perform(action, body) {
  const item = state.item, started = performance.now();
  if (!item) return null;
  wait(1);
  try {
    const now = await ask(`items/${item.id}/${action}`, { revision: item.revision, frame: isVideo() ? state.frame : undefined, ...body });
    if (state.id !== item.id) return now;
    if (now.face !== undefined && now.face !== null) state.face = now.face;
    take(now);
    refreshList().catch(() => {});
    if (isVideo() && now.pending) watch();
    const seconds = ((performance.now() - started) / 1000).toFixed(2);
    if (action === "edit" || action === "undo" || action === "redo" || action === "anonymize") say(`Done and written in ${seconds} s`);
    return now;
  } catch (error) {
    say(error.message, true);
    if (error.status === 409 && state.id === item.id) take(await ask("items/" + item.id));
    return null;
  } finally {
    wait(-1);
  }
}

function change(action, more) {
  if (!faceOf(state.face) || state.item.problem) return null;
  return act("edit", { action, face: state.face, ...more });
}

async function rate(verdicts) {
  if (!faceOf(state.face) || state.item.problem) return;
  const done = await act("rate", { face: state.face, verdicts });
  if (done) say(verdicts.length ? "Rated: " + VERDICTS.filter(([name]) => verdicts.includes(name)).map((one) => one[1].toLowerCase()).join(", ") : "Rated: looks right");
}

function toggle(name) {
  const known = faceOf(state.face)?.verdicts || [];
  rate(known.includes(name) ? known.filter((one) => one !== name) : [...known, name]);
}

async function reviewed() {
  if (!state.item) return;
  const now = await ask(`items/${state.id}/mark`, { reviewed: !state.item.reviewed });
  take(now);
  drawList();
  say(now.reviewed ? `${now.name} is reviewed` : `${now.name} is not reviewed`);
  const next = neighbour(1);
  if (now.reviewed && next && next.id !== state.id) open(next.id);
}

// ---- drawing boxes ------------------------------------------------------------------------------------------

function beginDrawing(face = null) {
  if (!state.item?.faces || state.item.problem) return;
  stop();
  const seen = face && (state.seen || []).find((one) => one.face.number === face.number);
  state.drawing = { face: seen ? face.number : null };
  const [x, y, width, height] = view();
  const side = Math.min(width, height) / 5;
  state.rubber = seen ? [...seen.box] : [x + width / 2 - side / 2, y + height / 2 - side * 0.62, side, side * 1.25];
  draw();
  $("stage").focus({ preventScroll: true });
  say("Draw a box: drag, or arrow keys and Enter");
}

function endDrawing() {
  state.drawing = state.rubber = null;
  draw();
}

function placeBox() {
  const { face } = state.drawing, box = state.rubber.map((v) => Math.round(v * 100) / 100);
  state.drawing = state.rubber = null;
  $("panes").classList.remove("drawing");
  if (face !== null) return act("edit", { action: "adjust", face, box });
  if (!isVideo()) return act("edit", { action: "missed", box });
  const track = faceOf(state.face);
  const drawn = track && track.runs.every(([source]) => source !== "detected" && source !== "unsure");
  const near = drawn && (state.frame < track.first || state.frame > track.last);
  return near ? act("edit", { action: "missed", box, frame: state.frame, face: track.number }) : addMissed(box, state.frame);
}

function pointIn(svg, event) {
  const point = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
  const [width, height] = state.item.size;
  return [Math.min(Math.max(point.x, 0), width), Math.min(Math.max(point.y, 0), height)];
}

for (const id of ["before", "after"]) {
  const svg = $(id);
  svg.addEventListener("pointerdown", (event) => {
    if (!state.drawing || event.button) return;
    svg.setPointerCapture(event.pointerId);
    state.drawing.from = pointIn(svg, event);
    event.preventDefault();
  });
  svg.addEventListener("pointermove", (event) => {
    if (!state.drawing?.from) return;
    const [x0, y0] = state.drawing.from, [x1, y1] = pointIn(svg, event);
    state.rubber = [Math.min(x0, x1), Math.min(y0, y1), Math.abs(x1 - x0), Math.abs(y1 - y0)];
    for (const side of ["before", "after"]) drawBoxes($(side), state.seen || [], side);
  });
  svg.addEventListener("pointerup", () => {
    if (!state.drawing?.from) return;
    state.drawing.from = null;
    if (state.rubber && Math.min(state.rubber[2], state.rubber[3]) >= 4) placeBox();
  });
}

function moveRubber(event) {
  const step = (scaleOf($("before")) || 1) * (event.ctrlKey ? 2 : 12);
  const [dx, dy] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
  const box = state.rubber;
  if (event.shiftKey) {
    box[2] = Math.max(4, box[2] + dx * step);
    box[3] = Math.max(4, box[3] + dy * step);
  } else {
    box[0] += dx * step;
    box[1] += dy * step;
  }
  for (const side of ["before", "after"]) drawBoxes($(side), state.seen || [], side);
  say(`Box at ${box.map(Math.round).join(", ")} px`);
}

// ---- video --------------------------------------------------------------------------------------------------

function drawTimeline() {
  const item = state.item, share = (frame) => `${(100 * frame) / item.frames}%`;
  $("seek").max = item.frames - 1;
  const stretch = state.stretches[item.id];
  const rows = faces().map((face) => {
    const lane = make("div", { className: face.keep ? "lane kept" : "lane" });
    let frame = face.first;
    for (const [source, count] of face.runs) {
      const part = make("i", { className: source });
      part.style.left = share(frame);
      part.style.width = share(count);
      frame += count;
      lane.append(part);
    }
    for (const cut of item.cuts) {
      const line = make("i", { className: "cut", title: `cut at frame ${cut}` });
      line.style.left = share(cut);
      lane.append(line);
    }
    if (stretch && stretch.revision === item.revision) {
      const ready = make("i", { className: "ready" });
      ready.style.left = share(stretch.first);
      ready.style.width = share(stretch.next - stretch.first);
      lane.append(ready);
    }
    const now = make("i", { className: "now" });
    now.style.left = share(state.frame + 0.5);
    lane.append(now);
    lane.onclick = (event) => {
      const frame_ = lane.getBoundingClientRect();
      select(face.number, true);
      goTo(Math.floor(((event.clientX - frame_.left) / frame_.width) * item.frames));
    };
    const name = make("button", { type: "button", id: "row-" + face.number, textContent: label(face), "aria-pressed": face.number === state.face, onclick: () => select(face.number),
      "aria-label": `${describe(face)}, frames ${face.first} to ${face.last}` });
    return make("div", { className: face.number === state.face ? "row selected" : "row" }, name, lane);
  });
  keepFocus(() => $("timeline").replaceChildren(...rows));
  $("timeline").hidden = !rows.length;
  drawTime();
}

function drawTime() {
  const item = state.item, seconds = state.frame / item.rate;
  const clock = `${Math.floor(seconds / 60)}:${(seconds % 60).toFixed(2).padStart(5, "0")}`;
  $("seek").value = state.frame;
  $("seek").setAttribute("aria-valuetext", `frame ${state.frame} of ${item.frames}, ${clock}`);
  $("time").textContent = `frame ${state.frame} / ${item.frames - 1} · ${clock}`;
  for (const line of $("timeline").querySelectorAll(".now")) line.style.left = `${(100 * (state.frame + 0.5)) / item.frames}%`;
}

function goTo(frame) {
  if (!isVideo()) return;
  state.frame = Math.min(Math.max(frame, 0), state.item.frames - 1);
  drawTime();
  drawPictures();
  if (!state.playing) {
    clearTimeout(state.settling);
    state.settling = setTimeout(drawInspector, 120);
  }
}

function stop() {
  state.playing = false;
  $("play").setAttribute("aria-pressed", "false");
}

async function play() {
  if (state.playing) return stop();
  const item = state.item;
  state.playing = true;
  $("play").setAttribute("aria-pressed", "true");
  if (state.frame >= item.frames - 1) state.frame = 0;
  const path = (side, frame) => `items/${item.id}/${side}/picture?v=${item.revision}-${item.stamp}&frame=${frame}`;
  while (state.playing && state.item === item && state.frame < item.frames - 1) {
    const due = performance.now() + 1000 / item.rate, next = state.frame + 1;
    for (let ahead = next; ahead < Math.min(next + 4, item.frames); ahead += 1) {
      for (const side of ["before", "after"]) picture(path(side, ahead)).catch(() => {});
    }
    await Promise.all(["before", "after"].map((side) => picture(path(side, next)).catch(() => null)));
    if (!state.playing || state.item !== item) break;
    goTo(next);
    await new Promise((done) => setTimeout(done, Math.max(0, due - performance.now())));
  }
  stop();
  drawInspector();
}

let watching = false;
async function watch() {
  if (watching) return;
  watching = true;
  try {
    for (let going = true; going;) {
      const content = await ask("export");
      state.stretches = content.stretches;
      const own = state.item && state.stretches[state.item.id];
      going = Boolean(own && own.next <= own.last && own.revision === state.item.revision);
      if (isVideo()) drawTimeline();
      if (going) await new Promise((done) => setTimeout(done, 500));
    }
  } catch (error) {
    say(error.message, true);
  } finally {
    watching = false;
  }
}

// ---- export -------------------------------------------------------------------------------------------------

async function followExport() {
  for (;;) {
    const now = await ask("export");
    const bar = $("exportbar");
    bar.hidden = !now.running;
    $("start").disabled = now.running;
    const inner = now.of_frames ? now.frames / now.of_frames : 0;
    bar.value = now.total ? (now.done + inner) / now.total : 0;
    let text = "";
    if (now.running) text = `${now.done} of ${now.total}: ${now.name}${now.what ? `, ${now.what} ${now.frames}${now.of_frames ? " of " + now.of_frames : ""}` : ""}`;
    else if (now.folder) text = `Done: ${now.folder}${now.left ? `; ${now.left} not reviewed were left out` : ""}`;
    else if (now.total) text = "Nothing was exported.";
    $("exportstate").textContent = text;
    $("exportproblems").replaceChildren(...now.problems.map((line) => make("li", { textContent: line })));
    if (!now.running) return now;
    await new Promise((done) => setTimeout(done, 400));
  }
}

async function beginExport() {
  try {
    await ask("export", { only_reviewed: $("only").checked });
    await followExport();
    await refreshList();
    if (state.id) take(await ask("items/" + state.id));
  } catch (error) {
    $("exportstate").textContent = error.message;
  }
}

// ---- keys ---------------------------------------------------------------------------------------------------

function cycle(way) {
  let shown = faces();
  if (isVideo()) shown = (state.seen || []).map((one) => one.face).sort((a, b) => a.number - b.number);
  if (!shown.length) return;
  const place = shown.findIndex((face) => face.number === state.face);
  select(shown[(place + way + shown.length) % shown.length].number);
}

function zoom() {
  state.zoom = !state.zoom && state.face !== null;
  draw();
}

function hideBoxes() {
  state.boxes = !state.boxes;
  draw();
  say(state.boxes ? "Boxes are shown" : "Boxes are hidden");
}

const byKey = {
  d: () => beginDrawing(), e: () => faceOf(state.face) && beginDrawing(faceOf(state.face)), z: zoom, h: hideBoxes,
  n: () => change("not_a_face"), k: () => change(faceOf(state.face)?.keep ? "unkeep" : "keep"), p: () => change("another_person"),
  g: () => change("method", { method: "generate" }), b: () => change("method", { method: "blur" }),
  x: () => change("method", { method: "pixelate" }), s: () => change("method", { method: "solid" }),
  u: () => $("undo").disabled || act("undo", {}), r: () => $("redo").disabled || act("redo", {}),
  f: () => cycle(1), F: () => cycle(-1), 0: () => rate([]),
  t: () => isVideo() && change("split"),
  "[": () => isVideo() && change("range", { first: state.frame }), "]": () => isVideo() && change("range", { last: state.frame }),
  "?": () => $("keys").showModal(),
};
VERDICTS.forEach(([name], place) => { byKey[place + 1] = () => toggle(name); });

document.addEventListener("keydown", (event) => {
  const target = event.target, typing = target.matches("select, input:not([type=range]):not([type=checkbox]), textarea");
  if (document.querySelector("dialog[open]") || typing || event.altKey || event.metaKey) return;
  if (event.ctrlKey && event.key.toLowerCase() === "z") {
    event.preventDefault();
    byKey[event.shiftKey ? "r" : "u"]();
    return;
  }
  if (state.drawing && event.key.startsWith("Arrow")) {
    event.preventDefault();
    moveRubber(event);
    return;
  }
  if (event.ctrlKey) return;
  const pressed = target.matches("button, a, summary") && (event.key === "Enter" || event.key === " ");
  if (event.key === "Escape") {
    if (state.drawing) endDrawing();
    else if (state.zoom) zoom();
  } else if (event.key === "Enter" && state.drawing) {
    event.preventDefault();
    placeBox();
  } else if (pressed) {
    return;
  } else if (event.key === "Enter") {
    event.preventDefault();
    reviewed();
  } else if (event.key === "ArrowDown" || event.key === "ArrowUp") {
    event.preventDefault();
    const next = neighbour(event.key === "ArrowDown" ? 1 : -1);
    if (next && next.id !== state.id) open(next.id);
  } else if (event.key === "ArrowLeft" || event.key === "ArrowRight") {
    event.preventDefault();
    const way = event.key === "ArrowRight" ? 1 : -1;
    if (isVideo()) goTo(state.frame + way * (event.shiftKey ? 10 : 1));
    else cycle(way);
  } else if (event.key === " " && isVideo()) {
    event.preventDefault();
    play();
  } else if (event.key === "Home" && isVideo()) goTo(0);
  else if (event.key === "End" && isVideo()) goTo(state.item.frames - 1);
  else if ($("single").checked && !event.repeat && byKey[event.key]) {
    event.preventDefault();
    byKey[event.key]();
  }
});

// ---- start --------------------------------------------------------------------------------------------------

$("filter").replaceChildren(...FILTERS.map(([name, text]) => make("option", { value: name, textContent: text })));
$("filter").onchange = () => {
  drawList();
  const first = listed().find((item) => FILTERS.find(([name]) => name === $("filter").value)[2](item));
  if (first && first.id !== state.id) open(first.id);
};
$("order").onchange = drawList;
$("draw").onclick = () => (state.drawing ? endDrawing() : beginDrawing());
$("zoom").onclick = zoom;
$("boxes").onclick = hideBoxes;
$("undo").onclick = byKey.u;
$("redo").onclick = byKey.r;
$("done").onclick = reviewed;
$("help").onclick = byKey["?"];
$("play").onclick = play;
$("back").onclick = () => goTo(state.frame - 1);
$("forward").onclick = () => goTo(state.frame + 1);
$("seek").oninput = () => goTo(Number($("seek").value));
$("export").onclick = () => { $("exporting").showModal(); followExport().catch(() => {}); };
$("start").onclick = beginExport;
$("closeexport").onclick = () => $("exporting").close();
$("keylist").replaceChildren(...KEYS.map(([keys, text]) => make("div", {}, make("span", { textContent: text }), make("span", {}, ...keys.split(" ").map((one) => (one === "to" ? " to " : key(one)))))));
$("single").checked = localStorage.getItem("dp3-single-keys") !== "off";
$("single").onchange = () => localStorage.setItem("dp3-single-keys", $("single").checked ? "on" : "off");
new ResizeObserver(() => { for (const side of ["before", "after"]) if (state.item && $(side).getAttribute("viewBox")) drawBoxes($(side), state.seen || [], side); }).observe($("panes"));

(async () => {
  try {
    await refreshList();
    const asked = state.items.find((item) => item.id === location.hash.slice(1));
    const first = asked || listed()[0];
    if (first) await open(first.id);
  } catch (error) {
    say(error.message, true);
  }
})();

// The wall: a tile for each station. One station at a time can fill the page.

import { Link } from "./link.js";
import { Sound } from "./sound.js";
import { Stage, nowAndNext, trouble } from "./stage.js";

const at = (id) => document.getElementById(id);

const tiles = new Map(); // by station number: { item, anchor, canvas, context, seen, ... }
let stations = [];
let waiting = false;

const sound = new Sound({ changed: want });

const stage = new Stage({
  stations: () => stations,
  picture: (id) => tiles.get(id)?.canvas,
  changed: want,
  sound: toggle,
  closed: (id) => tiles.get(id)?.anchor.focus(),
  speak,
});

const sight = new IntersectionObserver(
  (entries) => {
    for (const { target, isIntersecting } of entries) tiles.get(Number(target.dataset.station)).seen = isIntersecting;
    want();
  },
  { rootMargin: "80px" },
);

const link = new Link({
  stations: update,
  picture: draw,
  wait: (id, due) => sound.wait(id, due),
  sound: (id, due, data) => sound.play(id, due, data),
  connected,
});

document.addEventListener("visibilitychange", want);

// Tells the broadcaster which tiles are visible, in one message for all changes of the current task.
function want() {
  if (waiting) return;
  waiting = true;
  queueMicrotask(() => {
    waiting = false;
    // Sound follows to the station that fills the page.
    if (sound.station !== null && stage.watched !== null) sound.hear(stage.watched);
    mark();
    const seen = [...tiles].filter(([, tile]) => tile.seen).map(([id]) => id);
    if (document.hidden) return link.want([], null, sound.station);
    const ids = stage.holding ? [] : stage.watched === null ? seen : [stage.watched];
    link.want(ids, stage.watched, sound.station);
  });
}

const hasSound = (id) => stations.some((station) => station.id === id && station.sound);

// Hears a station, or nothing if it is heard already. Without a number, the station that fills the page; on the wall the one that
// has the focus, or was heard last, or the first.
function toggle(id) {
  if (id === undefined) {
    const focused = document.activeElement?.closest?.("li")?.querySelector("a")?.dataset.station;
    const likely = stage.watched !== null ? [stage.watched] : [sound.station, Number(focused), sound.last, ...tiles.keys()];
    id = likely.find((id) => id !== null && (id === sound.station || hasSound(id)));
    if (id === undefined) return speak("This station has no sound");
  }
  const off = sound.station === id;
  sound.hear(off ? null : id);
  speak(off ? "Sound off" : `Sound of station ${id}, ${stations.find((station) => station.id === id)?.name}`);
  requestAnimationFrame(meter);
}

// Shows which station is heard, and which ones have sound.
function mark() {
  for (const [id, { speaker }] of tiles) {
    speaker.hidden = !hasSound(id);
    press(speaker, sound.station === id);
  }
  const button = document.querySelector("[data-does=sound]");
  button.disabled = !hasSound(stage.watched);
  press(button, stage.watched !== null && sound.station === stage.watched);
}

function press(button, yes) {
  if (button.ariaPressed === String(yes)) return;
  button.ariaPressed = String(yes);
  button.style.removeProperty("--level");
}

// Fills the buttons of the station that is heard: empty at -60 dB, full at full scale.
function meter() {
  if (sound.station === null) return;
  const level = Math.min(1, Math.max(0, 1 + sound.level / 60));
  const buttons = [tiles.get(sound.station)?.speaker, document.querySelector("[data-does=sound][aria-pressed=true]")];
  for (const button of buttons) button?.style.setProperty("--level", `${Math.round(level * 100)}%`);
  requestAnimationFrame(meter);
}

function draw(id, number, bitmap) {
  const tile = tiles.get(id);
  if (!tile) return;
  if (stage.watched === null) paint(tile, number, bitmap);
  else stage.draw(id, number, bitmap);
}

function paint({ canvas, context, item }, number, bitmap) {
  if (canvas.width !== bitmap.width || canvas.height !== bitmap.height) {
    canvas.width = bitmap.width;
    canvas.height = bitmap.height;
  }
  context.drawImage(bitmap, 0, 0);
  canvas.dataset.picture = number;
  item.classList.remove("dark");
}

function update(list) {
  const before = new Map(stations.map((station) => [station.id, station]));
  stations = list;
  for (const [id, { item, anchor }] of tiles) {
    if (list.some((station) => station.id === id)) continue;
    sight.unobserve(anchor);
    item.remove();
    tiles.delete(id);
    if (sound.station === id) sound.hear(null);
  }
  list.forEach((station, n) => {
    const tile = tiles.get(station.id) ?? add(station);
    // Keeps the tiles in the order of the list, by number: a restarted broadcaster may have other stations.
    const there = at("tiles").children[n];
    if (there !== tile.item) at("tiles").insertBefore(tile.item, there ?? null);
    const { id, name, state, audience } = station;
    const reason = trouble(station);
    const watching = audience === 1 ? "1 watching" : `${audience} watching`;
    set(tile.name, name);
    set(tile.audience, audience > 0 ? watching : "");
    tile.anchor.title = [reason, nowAndNext(station)].filter(Boolean).join("\n");
    set(tile.now, state === "film" ? nowAndNext(station) : "");
    set(tile.reason, state === "starting" ? "Not on air yet" : (reason ?? ""));
    tile.item.dataset.state = state;
    const how = { film: reason ? `on air; ${reason}` : "on air", slate: `off air: ${reason}`, starting: "not on air yet" }[state];
    const label = `${id}, ${name}, ${how}, ${watching}`;
    if (tile.anchor.ariaLabel !== label) tile.anchor.ariaLabel = label;
    const old = before.get(id);
    if (old && old.state !== state) speak(`Station ${id}, ${name}: ${how}`);
  });
  const off = list.filter(({ state }) => state !== "film").length;
  const watching = list.reduce((sum, { audience }) => sum + audience, 0);
  fit();
  const count = list.length === 1 ? "1 station" : `${list.length} stations`;
  set(at("summary"), `${count}${off > 0 ? ` · ${off} off air` : ""}${watching > 0 ? ` · ${watching} watching` : ""}`);
  stage.update();
  mark();
}

function add({ id }) {
  const item = document.createElement("li");
  item.className = "dark";
  const anchor = document.createElement("a");
  anchor.href = `#${id}`;
  anchor.dataset.station = id;
  const canvas = document.createElement("canvas");
  canvas.width = 640;
  canvas.height = 368;
  const caption = document.createElement("span");
  caption.className = "caption";
  const parts = Object.fromEntries(
    ["number", "name", "audience", "now", "reason"].map((part) => {
      const span = document.createElement("span");
      span.className = part;
      caption.append(span);
      return [part, span];
    }),
  );
  parts.number.textContent = id;
  anchor.append(canvas, caption);
  const speaker = at("speaker").content.firstElementChild.cloneNode(true);
  speaker.querySelector(".spoken").textContent = `Sound of station ${id}`;
  speaker.addEventListener("click", () => toggle(id));
  item.append(anchor, speaker);
  const tile = { item, anchor, caption, speaker, canvas, context: canvas.getContext("2d", { alpha: false }), seen: false, ...parts };
  tiles.set(id, tile);
  sight.observe(anchor);
  return tile;
}

// Chooses the number of columns with which the tiles are largest and all visible. If they would be narrower than SMALLEST
// pixels, the page scrolls instead.
function fit() {
  const SMALLEST = 240;
  const list = at("tiles");
  const count = tiles.size;
  if (count === 0) return;
  const gap = parseFloat(getComputedStyle(list).columnGap);
  const caption = Math.max(...[...tiles.values()].map(({ caption }) => caption.offsetHeight));
  const width = list.clientWidth;
  const height = innerHeight - list.getBoundingClientRect().top - scrollY - gap;
  let best = { columns: 0, tile: 0 };
  for (let columns = 1; columns <= count; columns++) {
    const rows = Math.ceil(count / columns);
    const across = (width - gap * (columns - 1)) / columns;
    const down = (height - gap * (rows - 1)) / rows - caption;
    const tile = Math.floor(Math.min(across, (down * 16) / 9));
    if (tile > best.tile) best = { columns, tile };
  }
  const fits = best.tile >= SMALLEST;
  for (const [property, value] of [["--columns", best.columns], ["--tile", `${best.tile}px`], ["--most", `${best.tile}px`]]) {
    if (fits) list.style.setProperty(property, value);
    else list.style.removeProperty(property);
  }
}

addEventListener("resize", fit);

function connected(yes, wait) {
  const notice = at("notice");
  const before = document.body.classList.contains("lost");
  document.body.classList.toggle("lost", !yes);
  notice.hidden = yes;
  if (!yes) sound.forget();
  if (!yes) set(notice, `The connection to the broadcaster is lost. Trying again in ${Math.ceil(wait / 1000)} s.`);
  else if (before) speak("Connected again");
}

function speak(sentence) {
  at("live").textContent = sentence;
}

function set(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// On the wall, the arrow keys move the focus among the tiles, as they lie on the screen.
document.addEventListener("keydown", (event) => {
  if (stage.watched !== null || event.altKey || event.ctrlKey || event.metaKey || at("help").open) return;
  const anchors = stations.map(({ id }) => tiles.get(id).anchor);
  const here = anchors.indexOf(document.activeElement);
  const tops = anchors.map((anchor) => anchor.getBoundingClientRect().top);
  const columns = Math.max(1, tops.filter((top) => Math.abs(top - tops[0]) < 2).length);
  const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns }[event.key];
  if (step === undefined || anchors.length === 0) return;
  const target = here < 0 ? 0 : here + step;
  if (target >= 0 && target < anchors.length) anchors[target].focus();
  event.preventDefault();
});

const help = at("help");
at("help-button").addEventListener("click", () => help.showModal());
help.addEventListener("click", (event) => {
  if (event.target === help) help.close();
});

// The wall: a tile for each station. One station at a time can fill the page.

import { Link } from "./link.js";
import { showLinks } from "./links.js";
import { Painter } from "./painter.js";
import { find } from "./search.js";
import { Sound } from "./sound.js";
import { Stage, nowAndNext, onHold, trouble } from "./stage.js";

const at = (id) => document.getElementById(id);

const tiles = new Map(); // by station number: { item, anchor, canvas, context, seen, ... }
let stations = [];
let waiting = false;
let lost = null; // since when there is no connection, for people; null while there is one

const painter = new Painter();

const sound = new Sound({ changed: want });

const stage = new Stage({
  stations: () => stations,
  picture: (id) => tiles.get(id)?.canvas,
  changed: want,
  sound: toggle,
  links: (station) => showLinks(station, speak),
  lost: () => lost,
  closed: (id) => tiles.get(id)?.anchor.focus(),
  speak,
});

// How wide each tile's picture is.
const sizes = new ResizeObserver((entries) => {
  for (const { target, contentRect } of entries) tiles.get(Number(target.dataset.station)).width = contentRect.width;
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
  size,
  wait: (id, due) => sound.wait(id, due),
  sound: (id, due, data) => sound.play(id, due, data),
  connected,
  login,
});

document.addEventListener("visibilitychange", want);

function login(name) {
  at("login").hidden = false;
  at("login").textContent = name === null ? "Log in" : name;
}

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

function draw(id, number, picture) {
  const tile = tiles.get(id);
  if (stage.watched !== null) stage.draw(id, number, picture);
  else if (tile && id === sound.station) painter.paintNow(tile, number, picture);
  else if (tile) return painter.paint(tile, number, picture);
}

// At which size a picture is decoded: as wide as its tile, if the picture is wider; else null, as it is.
function size(id) {
  const tile = tiles.get(id);
  const { width, height } = stations.find((station) => station.id === id) ?? {};
  if (!tile || !width || stage.watched !== null) return null;
  const wide = Math.round(tile.width * devicePixelRatio);
  return wide > 0 && wide < width ? [wide, Math.round((wide * height) / width)] : null;
}

function update(list) {
  const before = new Map(stations.map((station) => [station.id, station]));
  stations = list;
  for (const [id, { item, anchor }] of tiles) {
    if (list.some((station) => station.id === id)) continue;
    sight.unobserve(anchor);
    sizes.unobserve(anchor);
    painter.forget(tiles.get(id));
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
    const off = onHold(station) ? "on hold" : "off air";
    const watching = audience === 1 ? "1 watching" : `${audience} watching`;
    set(tile.name, name);
    set(tile.audience, audience > 0 ? watching : "");
    tile.anchor.title = [reason, nowAndNext(station)].filter(Boolean).join("\n");
    set(tile.now, state === "film" ? nowAndNext(station) : "");
    set(tile.reason, state === "starting" ? "Not on air yet" : (reason ?? ""));
    tile.item.dataset.state = state;
    const how = { film: reason ? `on air; ${reason}` : "on air", slate: `${off}: ${reason}`, starting: "not on air yet" }[state];
    nameTile(tile, `${id}, ${name}, ${how}, ${watching}`);
    const old = before.get(id);
    if (old && old.state !== state) speak(`Station ${id}, ${name}: ${how}`);
  });
  if (before.size > 0) comings(before);
  filter();
  stage.update();
  mark();
}

// Says who has come on air and who has left.
function comings(before) {
  const news = (sentence, many, list) => (list.length > 3 ? `${list.length} stations have ${many}` : list.map(sentence).join("; "));
  const here = new Map(stations.map((station) => [station.id, station]));
  const left = [...before.values()].filter(({ id, name }) => here.get(id)?.name !== name);
  const onAir = ({ id, name }) => here.get(id)?.name === name && here.get(id).state !== "starting";
  const came = stations.filter((station) => onAir(station) && !(before.get(station.id)?.name === station.name && before.get(station.id).state !== "starting"));
  const told = [
    news(({ name }) => `${name} has left`, "left", left),
    news(({ id, name }) => `${name} is on air as ${id}`, "come on air", came),
  ].filter(Boolean);
  if (told.length > 0) speak(told.join("; "));
}

// Shows the tiles that the search finds.
function filter() {
  const found = new Set(find(stations, at("search").value).map(({ id }) => id));
  for (const [id, { item }] of tiles) item.hidden = !found.has(id);
  const off = stations.filter((station) => station.state !== "film" && !onHold(station)).length;
  const watching = stations.reduce((sum, { audience }) => sum + audience, 0);
  const all = stations.length === 1 ? "1 station" : `${stations.length} stations`;
  const count = found.size === stations.length ? all : `${found.size} of ${all}`;
  const parts = [count, off > 0 && `${off} off air`, watching > 0 && `${watching} watching`];
  // Without a connection nobody knows.
  set(at("summary"), lost === null ? parts.filter(Boolean).join(" · ") : `${count} · not connected`);
  fit();
}

function nameTile({ anchor }, label) {
  if (anchor.ariaLabel !== label) anchor.ariaLabel = label;
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
  const context = canvas.getContext("2d", { alpha: false });
  const tile = { item, anchor, caption, speaker, canvas, context, seen: false, width: 0, ...parts };
  tiles.set(id, tile);
  sight.observe(anchor);
  sizes.observe(anchor);
  return tile;
}

// Chooses the number of columns with which the tiles are largest and all visible. If they would be narrower than SMALLEST
// pixels, the page scrolls instead.
function fit() {
  const SMALLEST = 240;
  const MANY = 20; // more of them are smaller still, to be seen with less scrolling
  const list = at("tiles");
  const shown = [...tiles.values()].filter(({ item }) => !item.hidden);
  const count = shown.length;
  if (count === 0) return;
  const gap = parseFloat(getComputedStyle(list).columnGap);
  const caption = Math.max(...shown.map(({ caption }) => caption.offsetHeight));
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
  list.classList.toggle("many", !fits && count > MANY);
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
  if (yes) {
    lost = null;
    if (before) speak("Connected again");
    return;
  }
  lost ??= new Date().toLocaleTimeString("en-GB");
  sound.forget();
  at("live").textContent = "";
  set(notice, `The connection to the broadcaster is lost. Trying again in ${Math.ceil(wait / 1000)} s.`);
  // What was so is not known to be so any more.
  for (const [id, tile] of tiles) {
    nameTile(tile, `${id}, ${tile.name.textContent}, no connection since ${lost}`);
    set(tile.now, "");
    set(tile.audience, "");
    set(tile.reason, "");
    tile.anchor.title = "";
  }
  filter();
  stage.update();
}

function speak(sentence) {
  at("live").textContent = sentence;
}

function set(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// On the wall, the arrow keys move the focus among the tiles, as they lie on the screen. A letter begins a search.
document.addEventListener("keydown", (event) => {
  if (stage.watched !== null || event.altKey || event.ctrlKey || event.metaKey || document.querySelector("dialog[open]")) return;
  const search = at("search");
  const searching = document.activeElement === search;
  // f and m have a meaning of their own: a search for them begins with /.
  const begins = /^[^fm\W\d_]$/u.test(event.key) || /^[^\x00-\x7f]$/u.test(event.key);
  if (!searching && (event.key === "/" || begins) && !stage.kiosk) {
    search.focus();
    if (event.key === "/") event.preventDefault();
    return;
  }
  if (searching && event.key !== "ArrowDown") return;
  const anchors = stations.map(({ id }) => tiles.get(id)).filter(({ item }) => !item.hidden).map(({ anchor }) => anchor);
  const here = anchors.indexOf(document.activeElement);
  const tops = anchors.map((anchor) => anchor.getBoundingClientRect().top);
  const columns = Math.max(1, tops.filter((top) => Math.abs(top - tops[0]) < 2).length);
  const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns }[event.key];
  if (step === undefined || anchors.length === 0) return;
  const target = here < 0 ? 0 : here + step;
  if (target >= 0 && target < anchors.length) anchors[target].focus();
  event.preventDefault();
});

at("search").addEventListener("input", filter);
at("search").addEventListener("keydown", (event) => {
  const [found] = find(stations, at("search").value);
  if (event.key === "Enter" && found) location.hash = `#${found.id}`;
  else if (event.key === "Escape") at("search").value = "";
  else return;
  event.preventDefault();
  at("search").blur();
  filter();
});

at("help-button").addEventListener("click", () => at("help").showModal());
for (const dialog of document.querySelectorAll("dialog"))
  dialog.addEventListener("click", ({ target }) => {
    if (target === dialog) dialog.close();
  });

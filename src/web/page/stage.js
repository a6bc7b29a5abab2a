// The stage: one station that fills the page, and the viewer's keys.

import { DIGIT_WAIT, NumberEntry } from "./remote.js";

const at = (id) => document.getElementById(id);

// Time without input after which the banner hides, in milliseconds.
const BANNER = 4000;

// A finger that moves more than this many pixels sideways changes the station.
const SWIPE = 60;

// Whether a station shows a slate because an operator wants it.
export const onHold = ({ state, interlude }) => state === "slate" && interlude === "hold";

// Why a station shows its slate, and which others send to its group; null if nothing is wrong.
export function trouble({ reason, other_senders: others = [] }) {
  const shared = others.length > 0 ? `others send to its group: ${others.join(", ")}` : null;
  return [reason, shared].filter(Boolean).join("; ") || null;
}

// What is on, how far it is, and what comes next; empty if that is not known.
export function nowAndNext({ now, next }) {
  if (!now) return "";
  const length = now.length_s === null ? "" : ` / ${clock(now.length_s)}`;
  return `${now.title} ${clock(now.position_s)}${length}${next ? ` · next: ${next.title}` : ""}`;
}

// Minutes and seconds, or hours too.
function clock(seconds) {
  const two = (part) => String(part).padStart(2, "0");
  const [h, m, s] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, Math.floor(seconds) % 60];
  return h > 0 ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`;
}

export class Stage {
  watched = null; // the station's number; null while the wall is shown
  holding = false;
  kiosk = false; // a screen without controls, by &kiosk in the URL's fragment
  #wall; // the wall's callbacks
  #last = null;
  #entry = new NumberEntry();
  #entryTimer = 0;
  #bannerTimer = 0;
  #context = at("screen").getContext("2d", { alpha: false });
  #drawn = []; // times at which pictures were drawn, of the last 2 s

  constructor(wall) {
    this.#wall = wall;
    addEventListener("hashchange", () => this.#follow());
    document.addEventListener("keydown", (event) => this.#key(event));
    // A tap that brings the banner back must not press a button that was not visible.
    let woke = false;
    at("stage").addEventListener("pointerdown", () => (woke = document.body.classList.contains("asleep")));
    at("controls").addEventListener("click", ({ target, detail }) => {
      const byKey = detail === 0;
      if (byKey || !woke) this.#does(target.closest("button")?.dataset.does);
    });
    at("screen").addEventListener("dblclick", () => this.#does("fullscreen"));
    const stage = at("stage");
    for (const kind of ["pointermove", "pointerdown", "focusin"]) stage.addEventListener(kind, () => this.#wake());
    let from = null; // where the first finger came down; several fingers are not a swipe
    stage.addEventListener("pointerdown", (event) => {
      from = event.isPrimary && event.pointerType === "touch" ? event.clientX : null;
    });
    stage.addEventListener("pointerup", (event) => {
      const moved = from === null ? 0 : event.clientX - from;
      from = null;
      if (Math.abs(moved) > SWIPE) this.#does(moved < 0 ? "next" : "previous");
    });
  }

  // To be called when the status of the stations arrives.
  update() {
    if (this.watched === null) this.#follow();
    else this.#tell();
  }

  draw(id, number, { image, width, height }) {
    if (id !== this.watched || this.holding) return;
    const screen = at("screen");
    this.#paint(image, width, height);
    screen.dataset.picture = number;
    screen.dataset.station = id;
    const now = performance.now();
    this.#drawn.push(now);
    while (this.#drawn[0] < now - 2000) this.#drawn.shift();
  }

  #paint(image, width, height) {
    const screen = at("screen");
    if (screen.width !== width || screen.height !== height) {
      screen.width = width;
      screen.height = height;
    }
    this.#context.drawImage(image, 0, 0, width, height);
  }

  // Shows what the URL's fragment names: #2 is station 2, none is the wall. With &kiosk, as in #2&kiosk, without controls, and a
  // station that is not there is awaited.
  #follow() {
    const stations = this.#wall.stations();
    const [, number, kiosk] = /^#?(\d{1,3})?(&?kiosk)?$/.exec(location.hash) ?? [];
    this.kiosk = Boolean(kiosk);
    document.documentElement.classList.toggle("kiosk", this.kiosk);
    const station = stations.find(({ id }) => id === Number(number));
    const awaited = this.kiosk && number && !station && stations.length > 0;
    document.body.classList.toggle("awaiting", Boolean(awaited));
    if (station) this.#open(station);
    else if (awaited) this.#await(Number(number));
    else if (number && stations.length > 0) this.#leave(`No station ${Number(number)}`);
    else if (!number) this.#close();
  }

  #await(number) {
    this.#close();
    this.#show(`Station ${number} is not there; waiting for it`, false);
  }

  #open({ id, name }) {
    if (id === this.watched) return;
    if (this.kiosk) this.#clear();
    if (this.watched === null) {
      const picture = this.#wall.picture(id);
      if (picture?.dataset.picture) this.#paint(picture, picture.width, picture.height);
    } else {
      this.#last = this.watched;
    }
    this.watched = id;
    this.#drawn = [];
    this.#hold(false);
    document.body.classList.add("watching");
    at("stage").hidden = false;
    at("wall").inert = true;
    at("masthead").inert = true;
    document.title = `${name} – stationcast`;
    this.#tell();
    this.#wall.speak(`Station ${id}, ${name}`);
    if (!at("stage").contains(document.activeElement)) at("screen").focus({ preventScroll: true });
    this.#wake();
    this.#wall.changed();
  }

  #close() {
    if (this.watched === null) return;
    const was = this.watched;
    this.#last = was;
    this.watched = null;
    this.#hold(false);
    this.#clear();
    document.body.classList.remove("watching", "asleep");
    at("stage").hidden = true;
    at("wall").inert = false;
    at("masthead").inert = false;
    document.title = "stationcast";
    if (document.fullscreenElement) document.exitFullscreen();
    this.#wall.speak("All stations");
    this.#wall.closed(was);
    this.#wall.changed();
  }

  #go(id) {
    if (this.#wall.stations().some((station) => station.id === id)) {
      // A zap replaces the history entry: Back leads to the wall, not through every station.
      if (this.watched === null) location.hash = `#${id}`;
      else history.replaceState(null, "", `#${id}`);
      this.#follow();
    } else {
      this.#show(`No station ${id}`, true);
    }
  }

  #leave(sentence) {
    history.replaceState(null, "", "/");
    this.#close();
    if (sentence) this.#show(sentence, true);
  }

  #tell() {
    const station = this.#wall.stations().find(({ id }) => id === this.watched);
    if (!station) return this.kiosk ? this.#follow() : this.#leave(`Station ${this.watched} is gone`);
    const { id, name, state, audience } = station;
    const lost = this.#wall.lost();
    // Without a connection nobody knows what is on.
    const facts = lost
      ? [`no connection since ${lost}`]
      : [{ film: "on air", slate: onHold(station) ? "on hold" : "off air", starting: "not on air yet" }[state], `${audience} watching`];
    set(at("number"), String(id));
    set(at("name"), name);
    set(at("facts"), facts.filter(Boolean).join(" · "));
    set(at("now"), lost ? "" : nowAndNext(station));
    const text = lost ? null : trouble(station);
    set(at("reason"), text ?? "");
    at("reason").hidden = !text;
    at("screen").ariaLabel = `${lost ? "Last" : "Live"} picture of station ${id}, ${name}`;
    if (!at("info").hidden) this.#inform(station);
  }

  #inform(station) {
    const { width, height, rate, quality, aired, bytes, skipped, squeezed, send_errors, rounds, sound } = station;
    const span = (this.#drawn.at(-1) - this.#drawn[0]) / 1000;
    const rows = {
      Group: station.group,
      Interface: station.interface,
      Picture: width ? `${width} × ${height}, JPEG quality ${quality}` : "not known yet",
      Rate: rate ? `${rate.den === 1 ? rate.num : `${rate.num}/${rate.den}`} pictures/s` : "not known yet",
      Sound: sound ? `${sound.codec}, ${sound.loudness === null ? "silent" : `${round(sound.loudness, 1)} LUFS`}` : "none",
      "Drawn here": span > 0 ? `${round((this.#drawn.length - 1) / span, 1)} pictures/s` : "–",
      Lateness: `p50 ${time(station.lateness_us.p50)}, p99 ${time(station.lateness_us.p99)}`,
      Aired: `${aired.toLocaleString("en")} pictures, ${(bytes / 1e6).toLocaleString("en", { maximumFractionDigits: 1 })} MB`,
      Round: String(rounds),
      Skipped: String(skipped),
      Squeezed: String(squeezed),
      "Not sent": String(send_errors),
    };
    const info = at("info");
    if (info.children.length === 0) {
      for (const term of Object.keys(rows)) {
        const [dt, dd] = [document.createElement("dt"), document.createElement("dd")];
        dt.textContent = term;
        info.append(dt, dd);
      }
    }
    Object.values(rows).forEach((value, n) => set(info.children[2 * n + 1], value));
  }

  #does(what) {
    const stations = this.#wall.stations();
    const here = stations.findIndex(({ id }) => id === this.watched);
    const step = (by) => this.#go(stations[(here + by + stations.length) % stations.length].id);
    switch (what) {
      case "next": return step(1);
      case "previous": return step(-1);
      case "last": return this.#last === null || this.#go(this.#last);
      case "hold": return this.#hold(!this.holding);
      case "wall": return this.#leave();
      case "save": return this.#save();
      case "links": {
        const station = stations[here];
        return station && this.#wall.links(station);
      }
      case "sound": return this.#wall.sound();
      case "info": {
        const info = at("info");
        info.hidden = !info.hidden;
        press("info", !info.hidden);
        return this.#tell();
      }
      case "fullscreen":
        return document.fullscreenElement ? document.exitFullscreen() : document.documentElement.requestFullscreen?.();
    }
  }

  #hold(yes) {
    if (yes === this.holding) return;
    this.holding = yes;
    press("hold", yes);
    document.body.classList.toggle("holding", yes);
    this.#wall.speak(yes ? "Picture held" : "Live");
    this.#wall.changed();
  }

  // The file is named as by the viewer: stationcast-02-Nature-2026-11-20T03-31-00.123Z.png
  #save() {
    const name = at("name").textContent.replace(/[^\p{L}\p{N}]+/gu, "-");
    const number = String(this.watched).padStart(2, "0");
    const moment = new Date().toISOString().replaceAll(":", "-");
    at("screen").toBlob((file) => {
      const anchor = document.createElement("a");
      anchor.href = URL.createObjectURL(file);
      anchor.download = `stationcast-${number}-${name}-${moment}.png`;
      anchor.click();
      setTimeout(() => URL.revokeObjectURL(anchor.href), 10_000);
    });
  }

  #key(event) {
    if (event.altKey || event.ctrlKey || event.metaKey || this.kiosk || document.querySelector("dialog[open]")) return;
    if (event.target === at("search")) return;
    const { key } = event;
    const command = this.#command(key, event.target);
    if (!command) return;
    event.preventDefault();
    if (!/^\d$/.test(key) && (key !== "Backspace" || !this.#entry.typing)) this.#clear();
    this.#wake();
    command();
  }

  // What a key does now; nothing if the browser's own meaning should stay.
  #command(key, target) {
    const typing = this.#entry.typing;
    if (/^\d$/.test(key)) return () => this.#digit(key);
    if (typing && key === "Enter") {
      const number = this.#entry.enter();
      return () => this.#go(number);
    }
    if (typing && key === "Backspace") return () => (this.#entry.erase(), this.#typed());
    if (typing && key === "Escape") return () => {};
    if (key === "?") return () => at("help").showModal();
    if (key === "f") return () => this.#does("fullscreen");
    if (key === "m") return () => this.#does("sound");
    if (this.watched === null) return key === "Backspace" && this.#last !== null ? () => this.#does("last") : null;
    if ((key === " " || key === "Enter") && target.closest?.("button")) return null;
    const does = {
      ArrowUp: "next", ArrowRight: "next", PageUp: "next",
      ArrowDown: "previous", ArrowLeft: "previous", PageDown: "previous",
      Backspace: "last", " ": "hold", i: "info", s: "save", a: "links", l: "wall", q: "wall", Escape: "wall",
    }[key];
    return does && (() => this.#does(does));
  }

  #digit(digit) {
    const ids = this.#wall.stations().map(({ id }) => id);
    const number = this.#entry.digit(digit, ids);
    if (number === null) this.#typed();
    else {
      // The entry is not cleared: another digit may belong to the number all the same.
      clearTimeout(this.#entryTimer);
      at("entry").hidden = true;
      this.#go(number);
    }
  }

  #typed() {
    clearTimeout(this.#entryTimer);
    if (!this.#entry.typing) return this.#clear();
    this.#show(`${this.#entry.digits}_`, false);
    this.#entryTimer = setTimeout(() => {
      const number = this.#entry.enter();
      this.#clear();
      this.#go(number);
    }, DIGIT_WAIT);
  }

  #clear() {
    clearTimeout(this.#entryTimer);
    this.#entry.clear();
    at("entry").hidden = true;
  }

  #show(text, passing) {
    at("entry").hidden = false;
    set(at("entry"), text);
    clearTimeout(this.#entryTimer);
    if (passing) this.#entryTimer = setTimeout(() => (at("entry").hidden = true), 2500);
  }

  // Shows the banner, and hides it again after BANNER without input.
  #wake() {
    document.body.classList.remove("asleep");
    clearTimeout(this.#bannerTimer);
    this.#bannerTimer = setTimeout(() => {
      const inUse = at("controls").contains(document.activeElement) && document.activeElement.matches(":focus-visible");
      if (this.watched !== null && !inUse) document.body.classList.add("asleep");
    }, BANNER);
  }
}

function press(control, yes) {
  document.querySelector(`[data-does=${control}]`).ariaPressed = String(yes);
}

function round(number, digits) {
  return String(Number(number.toFixed(digits)));
}

function time(micros) {
  if (micros === null) return "–";
  return micros < 1000 ? `${micros} µs` : `${micros / 1000} ms`;
}

function set(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

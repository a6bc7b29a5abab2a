// The connection to the broadcaster: one WebSocket for all tiles (docs/web.md). It reconnects by itself.

import { decode } from "./decode.js";

const VERSION = 1;
const HEADER = 16;
const [PICTURE, SOUND] = [0, 1];

// Most pictures that wait for their sound. What comes when so many wait is shown at once.
const MOST_WAITING = 16;

// Time before a retry, in milliseconds: from the first to the second, doubling each time.
const RETRY = [500, 10_000];

// The broadcaster sends the status of the stations every second. After this many milliseconds without it, the connection
// counts as lost.
const SILENCE = 6000;

// Most pictures that one message acknowledges: the broadcaster takes messages of up to 8 KiB.
const MOST_DRAWN = 300;

// Calls on.stations(list), on.picture(station, number, bitmap), on.sound(station, due, data), on.connected(yes, wait) and, if there is
// something to log in to, on.login(name), of which the name is null before that.
// on.wait(station, due) tells in how many milliseconds a picture is to be shown, on.size(station) at which size it is decoded, in
// pixels; null: as it is. on.picture may return a promise, until which the next picture waits. Due times are in ms since 1970.
export class Link {
  #on;
  #socket = null;
  #retry = RETRY[0];
  #want = { stations: [], watched: null, heard: null };
  #waiting = 0;
  #count = 0; // pictures received
  #shown = new Map(); // which of these was shown last, by station
  #silence = 0;
  #drawn = []; // pictures to acknowledge

  constructor(on) {
    this.#on = on;
    // The network is back: connect at once.
    addEventListener("online", () => this.#socket ?? this.#open());
    this.#open();
  }

  // Tells the broadcaster which tiles are visible, which station fills the page, and which one is heard (null: none).
  want(stations, watched, heard) {
    this.#want = { stations, watched, heard };
    this.#say({ want: this.#want });
  }

  #say(message) {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(message));
  }

  #open() {
    clearTimeout(this.#silence);
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const socket = new WebSocket(`${scheme}://${location.host}/wall`);
    socket.binaryType = "arraybuffer";
    this.#socket = socket;
    socket.onopen = () => this.#say({ want: this.#want });
    socket.onmessage = ({ data }) => {
      if (socket !== this.#socket) return;
      if (typeof data === "string") this.#told(JSON.parse(data));
      else this.#receive(data);
    };
    socket.onclose = () => this.#lost(socket);
    this.#silence = setTimeout(() => this.#lost(socket), SILENCE);
  }

  #told({ stations, login }) {
    clearTimeout(this.#silence);
    this.#silence = setTimeout(() => this.#lost(this.#socket), SILENCE);
    this.#retry = RETRY[0];
    this.#on.connected(true);
    if (login !== undefined) this.#on.login?.(login);
    this.#on.stations(stations);
  }

  #receive(data) {
    const view = new DataView(data);
    if (data.byteLength <= HEADER || view.getUint8(0) !== VERSION) return;
    const [kind, station, number] = [view.getUint8(1), view.getUint16(2), view.getUint32(4)];
    const due = Number(view.getBigUint64(8) / 1000n) / 1000;
    if (kind === PICTURE) this.#show(station, number, due, data);
    else if (kind === SOUND) this.#on.sound(station, due, data);
  }

  // Acknowledges a picture when it is drawn or waits for its sound, and also if it cannot be drawn: otherwise the broadcaster would
  // send no more.
  async #show(station, number, due, data) {
    const socket = this.#socket;
    const place = ++this.#count;
    const shows = performance.now() + this.#on.wait(station, due);
    try {
      const picture = await decode(new Uint8Array(data, HEADER), this.#on.size(station));
      const draw = async () => {
        // Never an older one after a newer one.
        if (socket === this.#socket && place > (this.#shown.get(station) ?? 0)) {
          this.#shown.set(station, place);
          await this.#on.picture(station, number, picture);
        }
        picture.close();
      };
      const wait = shows - performance.now();
      if (wait < 2 || this.#waiting >= MOST_WAITING) await draw();
      else {
        this.#waiting++;
        setTimeout(() => (this.#waiting--, draw()), wait);
      }
    } catch (error) {
      console.warn(`station ${station}, picture ${number}: ${error}`);
    }
    this.#acknowledge(station, number);
  }

  // One message for all pictures of a frame: a message costs more than what is in it. The painter draws all of them before this
  // microtask runs.
  #acknowledge(station, number) {
    if (this.#drawn.push([station, number]) > 1) return;
    queueMicrotask(() => {
      while (this.#drawn.length > 0) this.#say({ drawn: this.#drawn.splice(0, MOST_DRAWN) });
    });
  }

  #lost(socket) {
    if (socket !== this.#socket) return;
    clearTimeout(this.#silence);
    this.#socket = null;
    socket.close();
    this.#on.connected(false, this.#retry);
    const again = () => this.#socket ?? this.#open();
    setTimeout(again, this.#retry);
    this.#retry = Math.min(this.#retry * 2, RETRY[1]);
  }
}

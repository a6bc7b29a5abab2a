// The connection to the broadcaster: one WebSocket for all tiles (docs/web.md). It comes back by itself.

const VERSION = 1;
const HEADER = 16;

// Waits between tries, in milliseconds: doubled each time, from the first to the last.
const RETRY = [500, 10_000];

// The broadcaster says how the stations are every second. When it has said nothing for so long, it is gone.
const SILENCE = 6000;

// Calls on.stations(list), on.picture(station, number, bitmap) and on.connected(yes, wait).
export class Link {
  #on;
  #socket = null;
  #retry = RETRY[0];
  #want = { stations: [], watched: null };
  #silence = 0;

  constructor(on) {
    this.#on = on;
    // The network is back: no need to wait any longer.
    addEventListener("online", () => this.#socket ?? this.#open());
    this.#open();
  }

  // Which tiles are in sight, and which station is being watched.
  want(stations, watched) {
    this.#want = { stations, watched };
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
      else this.#show(data);
    };
    socket.onclose = () => this.#lost(socket);
    this.#silence = setTimeout(() => this.#lost(socket), SILENCE);
  }

  #told({ stations }) {
    clearTimeout(this.#silence);
    this.#silence = setTimeout(() => this.#lost(this.#socket), SILENCE);
    this.#retry = RETRY[0];
    this.#on.connected(true);
    this.#on.stations(stations);
  }

  // A picture is acknowledged once it is drawn, also when it cannot be: the next one may be better.
  async #show(data) {
    const view = new DataView(data);
    if (data.byteLength <= HEADER || view.getUint8(0) !== VERSION) return;
    const station = view.getUint16(2);
    const number = view.getUint32(4);
    try {
      const file = new Blob([new Uint8Array(data, HEADER)], { type: "image/jpeg" });
      const bitmap = await createImageBitmap(file);
      this.#on.picture(station, number, bitmap);
      bitmap.close();
    } catch (error) {
      console.warn(`station ${station}, picture ${number}: ${error}`);
    }
    this.#say({ drawn: [station, number] });
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

// The connection to the broadcaster: one WebSocket for all tiles (docs/web.md). It reconnects by itself.

const VERSION = 1;
const HEADER = 16;

// Time before a retry, in milliseconds: from the first to the second, doubling each time.
const RETRY = [500, 10_000];

// The broadcaster sends the status of the stations every second. After this many milliseconds without it, the connection
// counts as lost.
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
    // The network is back: connect at once.
    addEventListener("online", () => this.#socket ?? this.#open());
    this.#open();
  }

  // Tells the broadcaster which tiles are visible, and which station fills the page (null: none).
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

  // Acknowledges a picture when it is drawn, and also if it cannot be: otherwise the broadcaster would send no more.
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

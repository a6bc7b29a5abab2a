// Paints the tiles. Without a GPU, the browser's work for a frame hardly depends on how many tiles have changed in it, but on the area
// around them. So pictures that come within one FRAME are painted together: the compositor's share of a picture is half of what it was
// (0.035 % of a core instead of 0.066 %; docs/web.md has the rest).

// Least time between two frames in which tiles are painted, in milliseconds: every second frame of a screen of 60 Hz. A station has 24
// to 30 pictures a second.
const FRAME = 30;

export class Painter {
  #pending = new Map(); // by tile: { number, picture, done }
  #painted = 0;
  #asked = false;

  // Paints a picture into a tile in one of the next frames, unless a newer one comes before. Resolves when that is done.
  paint(tile, number, picture) {
    this.forget(tile);
    return new Promise((done) => {
      this.#pending.set(tile, { number, picture, done });
      this.#ask();
    });
  }

  // Paints a picture into a tile at once: that of the station that is heard, which is in step with its sound.
  paintNow(tile, number, picture) {
    this.forget(tile);
    show(tile, number, picture);
  }

  // Forgets what waits for a tile.
  forget(tile) {
    this.#pending.get(tile)?.done();
    this.#pending.delete(tile);
  }

  #ask() {
    if (this.#asked) return;
    this.#asked = true;
    requestAnimationFrame((now) => {
      this.#asked = false;
      if (now - this.#painted < FRAME) return this.#ask();
      this.#painted = now;
      const pending = [...this.#pending];
      this.#pending.clear();
      for (const [tile, { number, picture, done }] of pending) {
        show(tile, number, picture);
        done();
      }
    });
  }
}

function show({ canvas, context, item }, number, { image, width, height }) {
  if (canvas.width !== width || canvas.height !== height) {
    canvas.width = width;
    canvas.height = height;
  }
  context.drawImage(image, 0, 0, width, height);
  canvas.dataset.picture = number;
  item.classList.remove("dark");
}

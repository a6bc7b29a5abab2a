// The sound of one station, in step with its picture (docs/web.md). Samples come a little before they are due, and go to the sound
// card for the moment at which the picture of that due time is shown. No worklet and no WebCodecs: browsers have them on https
// and localhost only.

const RATE = 48_000;
const HEADER = 16;

// The broadcaster sends sound this many milliseconds before it is due.
const AHEAD = 150;

// A picture is shown this many milliseconds after the earliest at which one of its due time can be here: time to decode it. More if the
// sound card has a long way (Bluetooth), up to MOST.
const HOLD = 40;
const MOST = 290;

// Sound has to be handed over this many milliseconds before the sound card plays it.
const MARGIN = 25;

// The first milliseconds are not heard, while the clocks and the decoder settle.
const SETTLE = 160;

const FADE = 0.01; // s

// Sound that is further off than this many samples (40 ms) begins anew, with a fade. Nearer, one sample more or less in every second
// chunk of 20 ms, 520 ppm, brings it back.
const FAR = 1920;

// Sound that is nearer than this many samples (0.5 ms) is left as it is.
const NEAR = 24;

// When due times are here: the least of the last seconds, since the network only delays.
class Arrivals {
  #least = []; // [second, ms]

  add(due, arrival) {
    const second = Math.floor(arrival / 1000);
    const last = this.#least.at(-1);
    if (last?.[0] !== second) this.#least.push([second, arrival - due]);
    else last[1] = Math.min(last[1], arrival - due);
    while (this.#least[0][0] < second - 8) this.#least.shift();
  }

  // The time of the page that belongs to a due time, both in ms.
  time(due) {
    return due + Math.min(...this.#least.map(([, least]) => least));
  }
}

// Calls on.changed() when another station is to be sent.
export class Sound {
  station = null; // the station that is heard, or null
  #on;
  #context = null;
  #analyser = null;
  #arrivals = new Arrivals();
  #ahead = []; // the context's time minus the page's, in s, of the last second
  #hold = HOLD;
  #voice = null;
  #last = null; // the station that was heard last

  constructor(on) {
    this.#on = on;
    // A browser may have silenced the page meanwhile: telephones do at a call.
    for (const kind of ["pointerup", "keydown"]) addEventListener(kind, () => this.#resume());
  }

  // The station to be heard if none is named: the one that was heard last.
  get last() {
    return this.#last;
  }

  // Hears this station, or nothing (null). A browser lets a page be heard only after a click or a key: call it from there.
  hear(station) {
    if (station === this.station) return;
    this.#silence();
    this.station = station;
    if (station === null) {
      const context = this.#context;
      this.#context = null;
      setTimeout(() => context.close(), 100); // when it has faded
    } else {
      this.#last = station;
      if (this.#context === null) this.#begin();
    }
    this.#on.changed();
  }

  #begin() {
    this.#context = new AudioContext({ sampleRate: RATE, latencyHint: "interactive" });
    this.#analyser = this.#context.createAnalyser();
    this.#analyser.fftSize = 2048;
    this.#analyser.connect(this.#context.destination);
    [this.#ahead, this.#hold] = [[], HOLD];
    this.#resume();
  }

  // Fails if it is closed meanwhile, or if the browser wants a click first: then the next one does it.
  #resume() {
    if (this.#context?.state !== "running") this.#context?.resume().catch(() => {});
  }

  // The connection is lost: the next one may be to another clock.
  forget() {
    this.#arrivals = new Arrivals();
    this.#silence();
  }

  // How loud it is now, in dB below full scale.
  get level() {
    if (this.#context === null) return -Infinity;
    const wave = new Float32Array(this.#analyser.fftSize);
    this.#analyser.getFloatTimeDomainData(wave);
    return 10 * Math.log10(wave.reduce((sum, x) => sum + x * x, 0) / wave.length);
  }

  // A picture has come. Returns in how many milliseconds it is to be shown.
  wait(station, due) {
    const now = performance.now();
    // Every station's, and before anything is heard: all due times are of one clock.
    this.#arrivals.add(due, now);
    if (station !== this.station) return 0;
    const voice = this.#voice;
    if (voice === null || voice.next / RATE < this.#context.currentTime) return 0;
    return Math.min(MOST, this.#arrivals.time(due) + this.#hold - (voice.error / RATE) * 1000 - now);
  }

  // A chunk has come: 16-bit samples after HEADER bytes, left and right in turn.
  play(station, due, data) {
    const context = this.#context;
    if (station !== this.station || context.state !== "running") return;
    const now = performance.now();
    this.#arrivals.add(due - AHEAD, now);
    this.#watch(now);
    const count = (data.byteLength - HEADER) / 4;
    const due_in = this.#arrivals.time(due) + this.#hold - now; // ms until it is to be heard
    const wanted = (now / 1000 + due_in / 1000 + this.#difference()) * RATE;
    const voice = this.#voice;
    const earliest = (context.currentTime + MARGIN / 1000) * RATE;
    // The way to the sound card is longer than thought: show pictures, and play sound, later.
    if (wanted < earliest && due_in + this.#hold < MOST) this.#hold = Math.min(MOST, this.#hold + (earliest - wanted) / 48 + 5);
    const off = voice === null ? Infinity : Math.abs(wanted - voice.next);
    const late = voice !== null && voice.next < context.currentTime * RATE + 128;
    if (late || off > (voice?.settled(context) ? FAR : 5 * NEAR)) {
      if (wanted < earliest) return this.#silence();
      this.#speak(Math.round(wanted), voice?.settles);
    }
    this.#schedule(data, count, wanted);
  }

  // Notes how far the sound card's clock is ahead of the page's.
  #watch(now) {
    const context = this.#context;
    const { contextTime, performanceTime } = context.getOutputTimestamp?.() ?? {};
    const heard = contextTime > 0 ? contextTime - performanceTime / 1000 : context.currentTime - (context.outputLatency || context.baseLatency || 0) - now / 1000;
    this.#ahead.push(heard);
    if (this.#ahead.length > 50) this.#ahead.shift();
  }

  #difference() {
    const sorted = [...this.#ahead].sort((a, b) => a - b);
    return sorted[sorted.length >> 1];
  }

  // Begins a voice at this sample of the context.
  #speak(sample, settles) {
    this.#silence();
    const context = this.#context;
    const gain = context.createGain();
    gain.connect(this.#analyser);
    settles ??= sample / RATE + SETTLE / 1000;
    const from = Math.max(settles, sample / RATE);
    gain.gain.setValueAtTime(0, 0);
    gain.gain.setValueAtTime(0, from);
    gain.gain.linearRampToValueAtTime(1, from + FADE);
    // `error` is how many samples it is too early, on the average.
    const settled = ({ currentTime }) => currentTime > settles;
    this.#voice = { gain, next: sample, error: 0, odd: false, sources: new Set(), settles, settled };
  }

  // Fades the voice, and ends it.
  #silence() {
    const [voice, context] = [this.#voice, this.#context];
    this.#voice = null;
    if (voice === null) return;
    const now = context.currentTime;
    voice.gain.gain.cancelScheduledValues(0);
    voice.gain.gain.setValueAtTime(voice.settled(context) ? 1 : 0, now);
    voice.gain.gain.linearRampToValueAtTime(0, now + FADE);
    voice.sources.forEach((source) => source.stop(now + 2 * FADE));
    setTimeout(() => voice.gain.disconnect(), 100);
  }

  #schedule(data, count, wanted) {
    const [voice, context] = [this.#voice, this.#context];
    voice.error += 0.05 * (wanted - voice.next - voice.error);
    voice.odd = !voice.odd;
    const step = voice.odd && Math.abs(voice.error) > NEAR ? Math.sign(voice.error) : 0;
    const buffer = context.createBuffer(2, count + step, RATE);
    const samples = new Int16Array(data, HEADER);
    for (const channel of [0, 1]) {
      const out = buffer.getChannelData(channel);
      if (step === 0) for (let n = 0; n < count; n++) out[n] = samples[2 * n + channel] / 32768;
      else stretch(samples, channel, count, out);
    }
    const source = context.createBufferSource();
    source.buffer = buffer;
    source.connect(voice.gain);
    source.onended = () => voice.sources.delete(source);
    // A hair early, since a browser rounds up: sample n would else begin at n + 1 now and then.
    source.start(Math.max(0, voice.next - 1e-4) / RATE);
    voice.sources.add(source);
    voice.next += count + step;
  }
}

// Fills `out` with `count` samples of a channel, by cubic interpolation (Catmull-Rom).
function stretch(samples, channel, count, out) {
  const at = (n) => samples[2 * Math.min(count - 1, Math.max(0, n)) + channel] / 32768;
  const pace = (count - 1) / (out.length - 1);
  for (let n = 0; n < out.length; n++) {
    const place = n * pace;
    const k = Math.min(count - 2, Math.floor(place));
    const t = place - k;
    const [a, b, c, d] = [at(k - 1), at(k), at(k + 1), at(k + 2)];
    out[n] = b + 0.5 * t * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)));
  }
}

// The wall's sound in Chromium, by an address that is not localhost: there, a page has neither WebCodecs nor worklets.
//
//     BROADCASTER=target/release/broadcaster node --test tests/page/
//
// CHROMIUM is the browser (default /usr/bin/chromium). The films are made by FFmpeg.

import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, openSync } from "node:fs";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { after, afterEach, before, beforeEach, test } from "node:test";

import { chromium } from "playwright-core";

const root = resolve(fileURLToPath(new URL(".", import.meta.url)), "../..");
const broadcaster = resolve(process.env.BROADCASTER ?? join(root, "target/release/broadcaster"));
const limit = { timeout: 90_000 };

// A name for this machine that the browser does not know as its own: a page there is no secure context.
const host = "wall.test";
const browserArguments = [
  "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync", "--autoplay-policy=no-user-gesture-required",
  `--host-resolver-rules=MAP ${host} 127.0.0.1`,
];

let folder, browser, daemon, ports, context, page, faults;

async function freePort() {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  server.close();
  await once(server, "close");
  return port;
}

// A film that is white, and beeps at 1 kHz, for the first 80 ms of each second; or mute; or a steady tone.
function film(name, sound) {
  const path = join(folder, name);
  const flash = "color=black:s=320x180:r=25:d=8,drawbox=c=white:t=fill:enable='lt(mod(t\\,1)\\,0.08)'";
  const inputs = ["-f", "lavfi", "-i", flash, ...(sound ? ["-f", "lavfi", "-i", sound] : [])];
  const video = ["-c:v", "libx264", "-bf", "2", "-pix_fmt", "yuv420p"];
  const audio = sound ? ["-c:a", name.endsWith(".mov") ? "pcm_s16le" : "aac"] : [];
  execFileSync("ffmpeg", ["-v", "error", "-y", ...inputs, ...video, ...audio, path]);
  return path;
}

const url = () => `http://${host}:${ports[1]}/`;

before(async () => {
  folder = await mkdtemp(join(tmpdir(), "stationcast-sound-"));
  ports = [await freePort(), await freePort()];
  const films = [
    film("beep.mp4", "aevalsrc='0.5*sin(2*PI*1000*t)*lt(mod(t,1),0.08)':s=48000:d=8"),
    film("tone.mov", "sine=f=440:r=48000:d=8"),
    film("mute.mp4"),
  ];
  const stations = films.map((film, n) => `
[[station]]
id = ${n + 1}
name = ${JSON.stringify(["Beep", "Tone", "Mute"][n])}
media = ${JSON.stringify(film)}
group = "239.79.8.${n + 1}:5004"
width = 320
`);
  const config = join(folder, "stations.toml");
  await writeFile(config, `
[directory]
listen = "127.0.0.1:${ports[0]}"
[http]
listen = "127.0.0.1:${ports[1]}"
hosts = ["${host}"]
[reel]
dir = ${JSON.stringify(join(folder, "reels"))}
${stations.join("")}`);
  const log = openSync(join(folder, "log"), "a");
  daemon = spawn(broadcaster, ["--config", config], { stdio: ["ignore", "ignore", log] });
  closeSync(log);
  await once(daemon, "spawn");
  const late = performance.now() + limit.timeout / 2;
  // Until their films are heard, and not only seen.
  for (;;) {
    const list = await fetch(`http://127.0.0.1:${ports[1]}/api/stations`).then((answer) => answer.json(), () => []);
    if (list.filter(({ sound }) => sound?.loudness).length === 2) break;
    assert.ok(daemon.exitCode === null && performance.now() < late, await readFile(join(folder, "log"), "utf8"));
    await new Promise((soon) => setTimeout(soon, 50));
  }
  const executablePath = process.env.CHROMIUM ?? "/usr/bin/chromium";
  browser = await chromium.launch({ executablePath, args: browserArguments });
}, limit);

after(async () => {
  await browser?.close();
  if (daemon?.exitCode === null) {
    daemon.kill("SIGTERM");
    await once(daemon, "exit");
  }
  await rm(folder, { recursive: true, force: true });
});

beforeEach(async () => {
  faults = [];
  context = await browser.newContext({ viewport: { width: 1000, height: 700 } });
  page = await context.newPage();
  page.on("pageerror", (error) => faults.push(error.message));
  page.on("console", (message) => message.type() === "error" && faults.push(message.text()));
  await page.addInitScript(listen);
  await page.goto(url());
  await page.waitForSelector(".speaker:not([hidden])", { state: "attached" });
});

afterEach(async () => {
  await context.close();
  assert.deepEqual(faults, [], "the page has no faults");
});

// Runs in the page before its own scripts. Puts a recorder before the loudspeaker, and notes when the canvas turns white.
function listen() {
  const heard = (globalThis.heard = { beeps: [], flashes: [], samples: [], recording: false });
  const connect = AudioNode.prototype.connect;
  AudioNode.prototype.connect = function (target, ...rest) {
    if (target === this.context.destination && !(this instanceof ScriptProcessorNode)) {
      const { context } = this;
      heard.context = context;
      heard.analyser = new AnalyserNode(context, { fftSize: 1024 });
      connect.call(this, heard.analyser);
      // So large that the page's thread has 170 ms for each buffer: one that is taken too late has pieces of the next one.
      const size = 8192;
      const recorder = context.createScriptProcessor(size, 1, 1);
      connect.call(this, recorder);
      connect.call(recorder, context.destination);
      let quiet = 48_000;
      recorder.onaudioprocess = ({ inputBuffer, playbackTime }) => {
        const samples = inputBuffer.getChannelData(0);
        if (heard.recording) heard.samples.push(...samples);
        samples.forEach((sample, n) => {
          if (Math.abs(sample) > 0.03) {
            // What is processed for playbackTime came in two buffers before that.
            if (quiet > 12_000) heard.beeps.push(playbackTime - (2 * size - n) / context.sampleRate + heard.late);
            quiet = 0;
          } else quiet++;
        });
      };
    }
    return connect.call(this, target, ...rest);
  };
  // What the context renders now is heard so much later, by the page's clock.
  Object.defineProperty(heard, "late", {
    get() {
      const { contextTime, performanceTime } = heard.context.getOutputTimestamp();
      return performanceTime / 1000 - contextTime;
    },
  });
  const drawImage = CanvasRenderingContext2D.prototype.drawImage;
  CanvasRenderingContext2D.prototype.drawImage = function (...rest) {
    drawImage.apply(this, rest);
    if (!rest[0].width || heard.blind || !(this.canvas.id === "screen" || this.canvas.closest("li:first-child"))) return;
    const white = this.getImageData(20, 20, 1, 1).data[0] > 150;
    if (white && !heard.white) heard.flashes.push(performance.now() / 1000);
    heard.white = white;
  };
}

const beeps = (count) => page.waitForFunction((count) => heard.beeps.length >= count, count);

// How many milliseconds each beep is after its flash.
async function offsets() {
  const { beeps, flashes } = await page.evaluate(() => ({ beeps: heard.beeps, flashes: heard.flashes }));
  return flashes.flatMap((flash) => {
    const [nearest] = beeps.map((beep) => beep - flash).sort((a, b) => Math.abs(a) - Math.abs(b));
    return Math.abs(nearest) < 0.5 ? [Math.round(nearest * 1000)] : [];
  });
}

// Within 40 ms. One in ten may be off: a busy machine draws a picture late now and then.
function inStep(offsets) {
  const late = offsets.filter((offset) => Math.abs(offset) > 40);
  assert.ok(offsets.length > 0 && late.length <= Math.ceil(offsets.length / 10), `${offsets}`);
  const [middle] = offsets.toSorted((a, b) => a - b).slice(offsets.length >> 1);
  assert.ok(Math.abs(middle) < 20, `${offsets}`);
}

test("the page is no secure context, as on a network", limit, async () => {
  assert.deepEqual(await page.evaluate(() => [isSecureContext, "AudioDecoder" in globalThis]), [false, false]);
});

for (const [where, open] of [
  ["a tile", async () => page.click('[aria-label^="1, Beep"] + .speaker')],
  ["the full page", async () => (await page.click('a[href="#1"]'), page.click("[data-does=sound]"))],
]) {
  test(`a beep of ${where} is heard with its flash`, limit, async (t) => {
    await open();
    await beeps(10);
    const all = await offsets();
    t.diagnostic(`beep after flash, in ms: ${all.join(" ")}`);
    inStep(all.slice(1));
  });
}

test("nothing is heard before a click, and after the next one", limit, async () => {
  await page.waitForFunction(() => heard.flashes.length >= 2);
  assert.equal(await page.evaluate(() => heard.context === undefined), true, "no sound card is taken");
  const speaker = page.locator('[aria-label^="1, Beep"] + .speaker');
  await speaker.click();
  await beeps(2);
  assert.equal(await speaker.getAttribute("aria-pressed"), "true");
  await page.waitForFunction(() => parseInt(document.querySelector(".speaker").style.getPropertyValue("--level")) > 30);
  await speaker.click();
  assert.equal(await speaker.getAttribute("aria-pressed"), "false");
  await page.waitForFunction(() => heard.context.state === "closed");
  assert.equal(await page.textContent("#live"), "Sound off");
});

test("m is sound on and off, and sound follows to the next station", limit, async () => {
  const loud = (yes) =>
    page.waitForFunction((yes) => {
      const wave = new Float32Array(1024);
      heard.analyser.getFloatTimeDomainData(wave);
      return wave.some((x) => Math.abs(x) > 0.03) === yes;
    }, yes);
  await page.click('a[href="#2"]');
  await page.keyboard.press("m");
  await loud(true);
  assert.equal(await page.getAttribute("[data-does=sound]", "aria-pressed"), "true");
  // Station 3 has no sound.
  await page.keyboard.press("3");
  await page.waitForFunction(() => document.querySelector("[data-does=sound]").disabled);
  await loud(false);
  await page.keyboard.press("2");
  await loud(true);
  await page.keyboard.press("m");
  await page.waitForFunction(() => heard.context.state === "closed");
});

test("a steady tone has no click in it", limit, async (t) => {
  await page.click('[aria-label^="2, Tone"] + .speaker');
  await page.waitForFunction(() => heard.beeps.length > 0);
  await page.waitForTimeout(2000); // the clocks settle
  await page.evaluate(() => (heard.recording = true));
  await page.waitForFunction(() => heard.samples.length > 48_000 * 6);
  const samples = await page.evaluate(() => heard.samples);
  // A sine obeys x[n+1] = 2 cos(w) x[n] - x[n-1]; a click does not.
  const twice = 2 * Math.cos((2 * Math.PI * 440) / 48_000);
  const peak = samples.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
  // The page's thread may take a buffer of the recorder some milliseconds too late. Its beginning is then of the next one, and
  // is not judged: 1/16 of the time.
  const judged = (n) => n % 8192 > 2 && (n + 2) % 8192 >= 512;
  const off = samples.slice(2).map((x, n) => (judged(n) ? Math.abs(x - twice * samples[n + 1] + samples[n]) / peak : 0));
  const worst = off.reduce((most, x) => Math.max(most, x), 0);
  t.diagnostic(`largest step beside the tone: ${(100 * worst).toFixed(2)} % of its height`);
  assert.ok(worst < 0.02, `${worst} at ${off.indexOf(worst)}`);
});

test("a page that stalls is heard again, and in step", limit, async () => {
  await page.click('[aria-label^="1, Beep"] + .speaker');
  await beeps(2);
  await page.evaluate(() => {
    const until = performance.now() + 3000;
    while (performance.now() < until);
    heard.beeps.length = heard.flashes.length = 0;
  });
  await beeps(5);
  inStep((await offsets()).slice(2));
});

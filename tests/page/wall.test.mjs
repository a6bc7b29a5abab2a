// The wall in Chromium, from a broadcaster with nine stations of its own.
//
//     BROADCASTER=target/release/broadcaster node --test tests/page/
//
// CHROMIUM is the browser (default /usr/bin/chromium), PYTHON a Python with prometheus_client (default: Debian's), SCREENSHOTS a
// folder for screenshots of the page.

import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, openSync } from "node:fs";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { after, before, beforeEach, afterEach, test } from "node:test";

import { chromium } from "playwright-core";

const root = resolve(fileURLToPath(new URL(".", import.meta.url)), "../..");
const broadcaster = resolve(process.env.BROADCASTER ?? join(root, "target/release/broadcaster"));
const names = ["Ocean", "Nature", "Space", "Harbour", "Forest", "Orbit", "Reef", "Meadow", "Nebula"];
const films = ["ocean", "nature", "space"];
// The browser sends nothing to its makers' services.
const quiet = [
  "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync",
];

// Without this, node would wait without end for something that never comes.
const limit = { timeout: 60_000 };

// A test of the page. If one fails, the broadcaster's log is printed at the end.
let unfinished = 0;
const pageTest = (name, steps) =>
  test(name, limit, async (t) => {
    unfinished++;
    await steps(t);
    unfinished--;
  });

let log, folder, browser, daemon, ports, context, page, requests, faults;

async function freePort() {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  server.close();
  await once(server, "close");
  return port;
}

// Writes a line-up of the stations of these numbers, or all. Returns its path.
async function configure(wanted = names.map((_, n) => n + 1)) {
  const stations = wanted.map((id) => [names[id - 1], id - 1]).map(([name, n]) => `
[[station]]
id = ${n + 1}
name = "${name}"
media = ${JSON.stringify(join(root, "media", `${films[n % 3]}.mp4`))}
group = "239.79.9.${n + 1}:5004"
`);
  const config = join(folder, "stations.toml");
  await writeFile(config, `
[directory]
listen = "127.0.0.1:${ports[0]}"
[http]
listen = "127.0.0.1:${ports[1]}"
[rtsp]
listen = "127.0.0.1:${ports[2]}"
[reel]
dir = ${JSON.stringify(join(folder, "reels"))}
${stations.join("")}`);
  return config;
}

// Starts the broadcaster with the stations of these numbers, or all, and waits until they are on air.
async function start(wanted) {
  const config = await configure(wanted);
  log = join(folder, "log");
  const errors = openSync(log, "a");
  daemon = spawn(broadcaster, ["--config", config], { stdio: ["ignore", "ignore", errors] });
  closeSync(errors);
  await once(daemon, "spawn");
  const late = performance.now() + limit.timeout / 2;
  for (;;) {
    const healthy = await fetch(`${url()}healthz`).then((answer) => answer.ok, () => false);
    if (healthy) return;
    const lost = daemon.exitCode !== null || performance.now() > late;
    assert.ok(!lost, `the broadcaster ended, or a station is silent:\n${await readFile(log, "utf8")}`);
    await new Promise((soon) => setTimeout(soon, 50));
  }
}

async function stop() {
  if (daemon === undefined || daemon.exitCode !== null) return;
  daemon.kill("SIGTERM");
  await once(daemon, "exit");
}

const url = () => `http://127.0.0.1:${ports[1]}/`;

before(async () => {
  folder = await mkdtemp(join(tmpdir(), "stationcast-page-"));
  ports = [await freePort(), await freePort(), await freePort()];
  await start();
  browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: quiet });
}, limit);

after(async () => {
  await browser?.close();
  await stop();
  if (unfinished > 0) process.stderr.write(await readFile(log, "utf8"));
  await rm(folder, { recursive: true, force: true });
});

beforeEach(() => open({ viewport: { width: 1280, height: 800 }, colorScheme: "dark" }));

afterEach(async () => {
  await context.close();
  assert.deepEqual(faults, [], "the page has no faults");
  const others = requests.filter((request) => new URL(request).host !== `127.0.0.1:${ports[1]}`);
  assert.deepEqual(others, [], "no request to another host");
});

async function open(options, path = "") {
  await context?.close();
  [requests, faults] = [[], []];
  context = await browser.newContext(options);
  page = await context.newPage();
  page.on("request", (request) => requests.push(request.url()));
  page.on("websocket", (socket) => requests.push(socket.url()));
  page.on("pageerror", (error) => faults.push(error.message));
  await page.goto(url() + path);
}

const numbers = () =>
  page.$$eval("#tiles canvas", (tiles) => tiles.map((tile) => Number(tile.dataset.picture ?? 0)));

// Waits for a picture newer than `before` in each of the first `count` tiles.
const moving = (before, count = before.length) =>
  page.waitForFunction(
    ([before, count]) => {
      const tiles = [...document.querySelectorAll("#tiles canvas")];
      return tiles.slice(0, count).every((tile, n) => Number(tile.dataset.picture ?? 0) > before[n]);
    },
    [before, count],
  );

// Waits until each of the nine tiles has got a new picture, so that all of them are being served.
const served = async () => moving((await numbers()).slice(0, 9));

const watching = (number) =>
  page.waitForFunction((number) => document.getElementById("screen").dataset.station === String(number), number);

async function screenshot(name) {
  if (process.env.SCREENSHOTS) await page.screenshot({ path: join(process.env.SCREENSHOTS, `${name}.png`) });
}

pageTest("nine stations are live in one page", async (t) => {
  await moving(Array(9).fill(0));
  const rates = await page.evaluate(
    (wanted) =>
      new Promise((enough) => {
        const begun = performance.now();
        const tiles = [...document.querySelectorAll("#tiles canvas")];
        const drawn = tiles.map(() => 0);
        tiles.forEach((tile, n) =>
          new MutationObserver(() => {
            drawn[n]++;
            const seconds = (performance.now() - begun) / 1000;
            if (Math.min(...drawn) === wanted) enough(drawn.map((count) => (count / seconds).toFixed(1)));
          }).observe(tile, { attributeFilter: ["data-picture"] }),
        );
      }),
    60,
  );
  t.diagnostic(`pictures drawn a second in each tile: ${rates.join(" ")}`);
  const colours = await page.$$eval("#tiles canvas", (tiles) =>
    tiles.map((tile) => {
      const pixels = tile.getContext("2d").getImageData(0, 0, tile.width, tile.height).data;
      return new Set(new Uint32Array(pixels.buffer)).size;
    }),
  );
  assert.ok(colours.every((count) => count > 1000), `pictures, not plain colours: ${colours}`);
  assert.equal(requests.filter((request) => request.startsWith("ws:")).length, 1, "one connection carries all");
  await screenshot("wall-dark");
});

pageTest("on plain http, tiles are decoded without a Blob, at the size of the tile", async () => {
  // A browser does not lend it to pages of another machine without TLS.
  await page.addInitScript(() => {
    delete globalThis.ImageDecoder;
    globalThis.createImageBitmap = () => Promise.reject(new Error("a Blob was decoded"));
  });
  await page.reload();
  await moving(Array(9).fill(0));
  const tiles = await page.$$eval("#tiles canvas", (tiles) =>
    tiles.map((tile) => {
      const pixels = tile.getContext("2d").getImageData(0, 0, tile.width, tile.height).data;
      return [tile.width - Math.round(tile.clientWidth * devicePixelRatio), new Set(new Uint32Array(pixels.buffer)).size];
    }),
  );
  assert.ok(tiles.every(([wider, colours]) => wider === 0 && colours > 1000), `wider by, colours: ${tiles.join(" ")}`);
  await screenshot("wall-plain-http");
});

pageTest("the pictures of a frame are acknowledged in one message", async () => {
  let messages = 0;
  const pictures = new Map(); // by station: how many
  page.on("websocket", (socket) =>
    socket.on("framesent", ({ payload }) => {
      const { drawn } = JSON.parse(payload);
      messages += drawn === undefined ? 0 : 1;
      for (const [station] of drawn ?? []) pictures.set(station, (pictures.get(station) ?? 0) + 1);
    }),
  );
  await page.reload();
  await moving(Array(9).fill(20));
  const acknowledged = [...pictures.values()].reduce((sum, count) => sum + count);
  assert.equal(pictures.size, 9);
  assert.ok(messages < acknowledged / 2, `${messages} messages for ${acknowledged} pictures`);
});

pageTest("each tile has a label for readers and screen readers", async () => {
  await moving(Array(9).fill(0));
  const label = await page.getAttribute('#tiles a[href="#2"]', "aria-label");
  assert.equal(label, "2, Nature, on air, 0 watching");
  assert.match(await page.textContent("#summary"), /^9 stations/);
  await page.getByRole("link", { name: "2, Nature" }).waitFor();
});

pageTest("a click opens a station, with number, name, audience, rate and lateness", async () => {
  await moving(Array(9).fill(0));
  await page.click('#tiles a[href="#2"]');
  await watching(2);
  assert.equal(await page.textContent("#number"), "2");
  assert.equal(await page.textContent("#name"), "Nature");
  await page.waitForFunction(() =>
    /^on air · 1 watching$/.test(document.getElementById("facts").textContent),
  );
  await page.waitForFunction(() =>
    /^Nature 0:\d\d \/ 0:24 · next: Nature$/.test(document.getElementById("now").textContent),
  );
  assert.equal(new URL(page.url()).hash, "#2");
  assert.equal(await page.title(), "Nature – stationcast");
  await screenshot("station-dark");
  await page.goBack();
  await page.waitForSelector("#stage", { state: "hidden" });
  await moving(await numbers());
});

pageTest("keys do what they do in the viewer", async () => {
  await moving(Array(9).fill(0));
  const press = async (key, station) => {
    await page.keyboard.press(key);
    await watching(station);
    assert.equal(await page.textContent("#number"), String(station));
  };
  await press("3", 3);
  await press("ArrowUp", 4);
  await press("ArrowRight", 5);
  await press("PageUp", 6);
  await press("ArrowDown", 5);
  await press("ArrowLeft", 4);
  await press("Backspace", 5);
  await press("9", 9);
  await press("ArrowUp", 1);

  await page.keyboard.press("i");
  await page.waitForFunction(() => document.getElementById("info").textContent.includes("239.79.9.1:5004"));
  await page.keyboard.press("i");
  assert.ok(await page.isHidden("#info"));

  const shown = () => page.$eval("#screen", (screen) => screen.dataset.picture);
  await page.keyboard.press(" ");
  assert.equal(await page.getAttribute("[data-does=hold]", "aria-pressed"), "true");
  const held = await shown();
  const aired = async () => (await (await fetch(`${url()}api/stations/1`)).json()).aired;
  const begun = await aired();
  while ((await aired()) < begun + 20);
  assert.equal(await shown(), held, "the station goes on, the picture does not");
  await page.keyboard.press(" ");
  await page.waitForFunction((held) => document.getElementById("screen").dataset.picture !== held, held);

  const download = page.waitForEvent("download");
  await page.keyboard.press("s");
  assert.match((await download).suggestedFilename(), /^stationcast-01-Ocean-[\dT.-]+Z\.png$/);

  await page.keyboard.press("?");
  await page.waitForSelector("#help[open]");
  await page.keyboard.press("Escape");
  assert.ok(await page.isVisible("#stage"), "Escape has closed the help only");
  await page.keyboard.press("Escape");
  await page.waitForSelector("#stage", { state: "hidden" });
  const focused = () => page.evaluate(() => document.activeElement.getAttribute("href"));
  assert.equal(await focused(), "#1");
  await page.keyboard.press("ArrowRight");
  assert.equal(await focused(), "#2");
  await page.keyboard.press("ArrowDown");
  assert.equal(await focused(), "#5");
  await page.keyboard.press("Enter");
  await watching(5);
  await page.keyboard.press("q");
  await page.waitForSelector("#stage", { state: "hidden" });
});

pageTest("an address with a number opens its station", async () => {
  await open({ viewport: { width: 1280, height: 800 } }, "#8");
  await watching(8);
  assert.equal(await page.textContent("#name"), "Meadow");
  await page.evaluate(() => (location.hash = "#77"));
  await page.waitForFunction(() => document.getElementById("entry").textContent === "No station 77");
  assert.ok(await page.isVisible("#entry"));
  assert.ok(await page.isHidden("#stage"));
});

pageTest("only tiles in sight are sent, on a phone too", async () => {
  await open({ viewport: { width: 390, height: 500 }, isMobile: true, hasTouch: true, colorScheme: "light" });
  await moving([0, 0, 0], 3);
  const wide = await page.evaluate(() => document.documentElement.scrollWidth > innerWidth);
  assert.ok(!wide, "nothing is wider than the screen");
  const tops = await page.$$eval("#tiles a", (tiles) => tiles.map((tile) => tile.getBoundingClientRect().top));
  assert.equal(tops.filter((top) => top === tops[0]).length, 2, "two columns");
  assert.equal((await numbers()).at(-1), 0, "the last tile is out of sight");
  await page.setViewportSize({ width: 390, height: 844 });
  await moving(Array(9).fill(0), 8);
  await screenshot("phone-light");
  await page.evaluate(() => document.querySelector('#tiles a[href="#9"]').scrollIntoView());
  await page.waitForFunction(() => document.querySelector('#tiles a[href="#9"] canvas').dataset.picture > 0);
  await page.tap('#tiles a[href="#9"]');
  await watching(9);
  await page.tap("[data-does=next]");
  await watching(1);
  await screenshot("phone-station");

  // The banner hides. A tap brings it back, and presses no button that was hidden.
  const { x, y, width, height } = await (await page.$("[data-does=next]")).boundingBox();
  await page.waitForSelector("body.asleep");
  await page.touchscreen.tap(x + width / 2, y + height / 2);
  await page.waitForSelector("body:not(.asleep)");
  const watched = () => page.evaluate(() => location.hash);
  assert.equal(await watched(), "#1");

  // One finger swipes; two that tap side by side do not.
  const browsers = await context.newCDPSession(page);
  const touch = (type, ...xs) =>
    browsers.send("Input.dispatchTouchEvent", { type, touchPoints: xs.map((x, id) => ({ x, y: 300, id })) });
  await touch("touchStart", 100);
  await touch("touchStart", 100, 300);
  await touch("touchEnd");
  assert.equal(await watched(), "#1");
  await touch("touchStart", 300);
  await touch("touchMove", 200);
  await touch("touchMove", 100);
  // A finger that rests before it leaves does not fling. While the browser follows a fling, a tap only ends that, and clicks nothing.
  await page.waitForTimeout(200);
  await touch("touchMove", 98);
  await touch("touchEnd");
  await watching(2);

  await page.tap("[data-does=wall]");
  await page.waitForSelector("#stage", { state: "hidden" });
});

pageTest("dark and light follow the system, and motion is left out if the system says so", async () => {
  const ground = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const dark = await ground();
  await page.emulateMedia({ colorScheme: "light", reducedMotion: "reduce" });
  const light = await ground();
  assert.deepEqual([dark, light], ["rgb(13, 19, 28)", "rgb(243, 244, 246)"]);
  const duration = await page.evaluate(() => getComputedStyle(document.getElementById("banner")).transitionDuration);
  assert.equal(duration, "0s");
  await moving(Array(9).fill(0));
  await screenshot("wall-light");
});

// The parser by the makers of Prometheus, which is stricter than their server.
const parser = `
import json, sys
from prometheus_client.openmetrics.parser import text_string_to_metric_families as families
print(json.dumps({family.name: [family.type, len(family.samples)] for family in families(sys.stdin.read())}))
`;

pageTest("the metrics are OpenMetrics to a parser that is not ours", async () => {
  await served();
  const headers = { Accept: "application/openmetrics-text;version=1.0.0" };
  const text = await (await fetch(`${url()}metrics`, { headers })).text();
  const python = process.env.PYTHON ?? "/usr/bin/python3";
  const families = JSON.parse(execFileSync(python, ["-c", parser], { input: text, encoding: "utf8" }));
  assert.deepEqual(families.stationcast_pictures_aired, ["counter", 9]);
  assert.deepEqual(families.stationcast_client_pictures, ["counter", 9], "each tile is a client");
  assert.equal(families.stationcast_lateness_seconds[0], "histogram");
  assert.deepEqual(families.process_cpu_seconds, ["counter", 1]);
});

pageTest("`broadcaster status` prints what the API has", async () => {
  const status = (...args) =>
    execFileSync(broadcaster, ["status", "--http", `127.0.0.1:${ports[1]}`, ...args], { encoding: "utf8" });
  const constant = ({ id, name, group, rate, quality }) => ({ id, name, group, rate, quality });
  const asked = await (await fetch(`${url()}api/stations`)).json();
  assert.deepEqual(JSON.parse(status("--json")).map(constant), asked.map(constant));
  const lines = status().trimEnd().split("\n");
  assert.match(lines[0], /^id  name {5}state {2}/);
  assert.match(lines[2], / 2  Nature {3}film   Nature \d:\d\d\/0:24 +29\.97\/s /);
  assert.match(lines.at(-1), /^9 stations, 0 off air, /);
});

// Channels and programmes, as an XML parser that is not ours reads them.
const reader = `
import json, sys, xml.etree.ElementTree as tree
tv = tree.fromstring(sys.stdin.buffer.read())
print(json.dumps([[[one.tag, one.attrib, [part.text for part in one]] for one in tv], tv.tag]))
`;

pageTest("the guide is XMLTV whose channels are those of the playlist", async () => {
  const text = await (await fetch(`${url()}guide.xml`)).text();
  const [elements, root] = JSON.parse(execFileSync(process.env.PYTHON ?? "/usr/bin/python3", ["-c", reader], { input: text, encoding: "utf8" }));
  assert.equal(root, "tv");
  const of = (tag) => elements.filter(([name]) => name === tag);
  const playlist = await (await fetch(`${url()}stations.m3u`)).text();
  assert.ok(playlist.startsWith(`#EXTM3U url-tvg="${url()}guide.xml"`), playlist);
  const ids = [...playlist.matchAll(/tvg-id="([^"]+)" tvg-chno="(\d+)"/g)].map(([, id, number]) => [id, number]);
  assert.deepEqual(of("channel").map(([, { id }, names]) => [id, names[1]]), ids);
  assert.deepEqual(of("channel")[1][2], ["Nature", "2"]);
  const nature = of("programme").filter(([, { channel }]) => channel === "2.stationcast");
  assert.ok(nature.length > 100, "a day of a film of 24 s, or 500");
  nature.forEach(([, { start, stop }, titles], n) => {
    assert.deepEqual(titles, ["Nature"]);
    assert.match(start, /^\d{14} \+0000$/);
    if (n > 0) assert.equal(start, nature[n - 1][1].stop);
    assert.ok(stop > start);
  });
  const [film] = (await (await fetch(`${url()}api/guide`)).json())[1].films;
  assert.equal(film.title, "Nature");
  assert.ok(Date.parse(film.begin) <= Date.now() && Date.now() < Date.parse(film.end) + 1000);
});

pageTest("typing finds stations, by name, number and film", async () => {
  await moving(Array(9).fill(0));
  const shown = () => page.$$eval("#tiles li:not([hidden]) a", (tiles) => tiles.map((tile) => Number(tile.dataset.station)));
  await page.keyboard.type("ne");
  await page.waitForFunction(() => document.querySelectorAll("#tiles li:not([hidden])").length === 1);
  assert.deepEqual(await shown(), [9], "Nebula");
  assert.equal(await page.textContent("#summary"), "1 of 9 stations");
  await page.keyboard.press("Enter");
  await watching(9);
  await page.keyboard.press("Escape");
  await page.waitForSelector("#stage", { state: "hidden" });
  for (const [query, found] of [["8", [8]], ["FOR", [5]], ["nature", [2, 5, 8]], ["reef oc", [7]], ["nothing", []]]) {
    await page.fill("#search", query);
    assert.deepEqual(await shown(), found, query);
  }
  const sent = await numbers();
  await page.keyboard.press("Escape");
  assert.equal((await shown()).length, 9);
  await moving(sent);
  // f and m have their own meaning on the wall; / begins a search for them.
  await page.keyboard.type("/me");
  assert.deepEqual(await shown(), [8], "Meadow");
});

pageTest("a station has addresses to copy, and QR codes", async () => {
  await context.grantPermissions(["clipboard-read", "clipboard-write"]);
  await page.goto(url() + "#2");
  await watching(2);
  await page.click("[data-does=links]");
  await page.waitForSelector("#addresses li");
  const urls = await page.$$eval("#addresses .url", (fields) => fields.map((field) => field.value));
  const here = `127.0.0.1:${ports[1]}`;
  assert.deepEqual(urls, [
    `rtsp://127.0.0.1:${ports[2]}/2`, `rtsp://127.0.0.1:${ports[2]}/2/demand`, `http://${here}/stations/2.mjpeg`,
    `http://${here}/stations/2.mkv`, `http://${here}/stations/2.sdp`, `http://${here}/stations/2.m3u`, `http://${here}/#2`,
  ]);
  await page.click("#addresses li:first-child .copy");
  assert.equal(await page.evaluate(() => navigator.clipboard.readText()), urls[0]);
  await page.click("#addresses li:first-child .show-code");
  await page.waitForFunction(() => document.getElementById("code").naturalWidth >= 240);
  await screenshot("links");
  const playlist = await (await fetch(urls[5])).text();
  assert.ok(playlist.includes(`\n${urls[0]}\n`), playlist);
  await page.keyboard.press("Escape");
  assert.ok(await page.isVisible("#stage"), "Escape has closed the dialog only");

  const download = page.waitForEvent("download");
  await page.click("[data-does=save]");
  assert.match((await download).suggestedFilename(), /^stationcast-02-Nature-/);
});

pageTest("a screen on the wall has no controls, larger text, and waits for its station", async () => {
  await open({ viewport: { width: 1920, height: 1080 } }, "#2&kiosk");
  await watching(2);
  for (const control of ["#banner", "#masthead"]) assert.ok(await page.isHidden(control), control);
  await page.keyboard.press("ArrowUp");
  await page.keyboard.press("Escape");
  assert.equal(await page.evaluate(() => location.hash), "#2&kiosk");
  assert.equal(await page.evaluate(() => getComputedStyle(document.documentElement).fontSize), "24px");
  await stop();
  await page.waitForSelector("body.lost");
  await start([1, 3]);
  await page.waitForFunction(() => document.getElementById("entry").textContent === "Station 2 is not there; waiting for it");
  assert.ok(await page.isHidden("#tiles"));
  assert.ok(await page.isVisible("#entry"));
  await screenshot("kiosk-waits");
  await stop();
  await start();
  await page.waitForFunction(() => document.getElementById("entry").hidden && !document.getElementById("stage").hidden);
  const shown = () => page.$eval("#screen", (screen) => screen.dataset.picture);
  const before = await shown();
  await page.waitForFunction((before) => document.getElementById("screen").dataset.picture !== before, before);
  await page.evaluate(() => (location.hash = "#kiosk"));
  await moving(await numbers());
  assert.ok(await page.isHidden("#masthead"));
});

pageTest("what is on and what follows is in each tile", async () => {
  const on = /^Space 0:\d\d \/ 0:24 · next: Space$/;
  await page.waitForFunction(
    (on) => new RegExp(on).test(document.querySelector('#tiles a[href="#3"] .now')?.textContent),
    on.source,
  );
  const [station] = (await (await fetch(`${url()}api/stations`)).json()).slice(2);
  assert.equal(station.now.title, "Space");
  assert.ok(station.now.position_s + station.next.in_s - station.now.length_s < 0.1, "they belong together");
});

pageTest("a lost broadcaster is reported, its pictures stay dimmed, and it is found again", async () => {
  await moving(Array(9).fill(0));
  await stop();
  await page.waitForSelector("#notice:not([hidden])");
  assert.match(await page.textContent("#notice"), /^The connection to the broadcaster is lost\. Trying again in \d+ s\.$/);
  // The pictures fade to grey.
  await page.waitForFunction(
    () => getComputedStyle(document.querySelector("#tiles canvas")).filter === "grayscale(1)",
  );
  const last = await numbers();
  assert.ok(last.every((number) => number > 0), "the last pictures are still there");
  // Nothing is said to be on air that nobody knows to be.
  const said = async () =>
    [await page.textContent("body"), ...(await page.$$eval("#tiles a", (tiles) => tiles.map((tile) => tile.ariaLabel + tile.title)))].join(" ");
  assert.doesNotMatch(await said(), /on air|watching/);
  assert.match(await page.getAttribute('#tiles a[href="#2"]', "aria-label"), /^2, Nature, no connection since \d\d:\d\d:\d\d$/);
  await screenshot("lost");
  await page.evaluate(() => (location.hash = "#2"));
  await page.waitForSelector("#stage:not([hidden])");
  assert.match(await page.textContent("#facts"), /^no connection since \d\d:\d\d:\d\d$/);
  assert.equal(await page.textContent("#now"), "");
  await screenshot("lost-station");
  await page.keyboard.press("Escape");
  await start();
  await page.waitForSelector("#notice", { state: "hidden" });
  // Picture numbers start again with the broadcaster.
  await page.waitForFunction(
    (last) => [...document.querySelectorAll("#tiles canvas")].every((tile, n) => Number(tile.dataset.picture) !== last[n]),
    last,
  );
});

pageTest("a broadcaster that comes back with other stations has them in their order", async () => {
  const order = () => page.$$eval("#tiles a", (tiles) => tiles.map((tile) => Number(tile.dataset.station)));
  const shown = (ids) =>
    page.waitForFunction((count) => document.querySelectorAll("#tiles a").length === count, ids.length);
  await moving(Array(9).fill(0));
  for (const ids of [[1, 3, 9], [1, 2, 3, 8, 9]]) {
    await stop();
    await start(ids);
    await shown(ids);
    assert.deepEqual(await order(), ids);
  }
  await page.focus('#tiles a[href="#1"]');
  for (const next of ["2", "3", "8"]) {
    await page.keyboard.press("ArrowRight");
    assert.equal(await page.evaluate(() => document.activeElement.dataset.station), next);
  }
  await stop();
  await start();
});

pageTest("stations come and leave without a reload of the page", async () => {
  const order = () => page.$$eval("#tiles a", (tiles) => tiles.map((tile) => Number(tile.dataset.station)));
  await served();
  const asked = requests.length;
  // The other tiles go on: their pictures are not begun anew.
  await page.evaluate(() => (document.querySelector('#tiles a[href="#2"]').here = true));
  for (const [ids, sentence] of [
    [[1, 2, 3, 4, 5, 6, 7, 8], "Nebula has left"],
    [[1, 2, 3, 4, 5, 6, 7, 8, 9], "Nebula is on air as 9"],
    [[2, 9], "7 stations have left"],
  ]) {
    await configure(ids);
    daemon.kill("SIGHUP");
    await page.waitForFunction((count) => document.querySelectorAll("#tiles a").length === count, ids.length);
    assert.deepEqual(await order(), ids);
    await page.waitForFunction((sentence) => document.getElementById("live").textContent === sentence, sentence);
    await moving(await numbers());
  }
  assert.ok(await page.evaluate(() => document.querySelector('#tiles a[href="#2"]').here), "the tile is the same");
  assert.equal(requests.length, asked, `no request, and no other connection: ${requests.slice(asked)}`);
  await configure();
  daemon.kill("SIGHUP");
  await page.waitForFunction(() => document.querySelectorAll("#tiles a").length === 9);
});

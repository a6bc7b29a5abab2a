// Processor time of the page in Chromium without a GPU, by thread: docs/web.md has the figures.
//
//     node tests/page/cpu.mjs [STATION...]
//
// With PLAIN=1, the page has only what browsers lend to pages on plain http, which is less than on localhost.
// URL is the page (default http://127.0.0.1:8088/), SECONDS the time measured (default 20), PAGE a folder with other files of the page
// than the broadcaster's, CHROMIUM the browser. Without stations, the wall is measured; with some, each as it fills the page.

import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

import { chromium } from "playwright-core";

const url = process.env.URL ?? "http://127.0.0.1:8088/";
const seconds = Number(process.env.SECONDS ?? 20);
const ticks = Number(execFileSync("getconf", ["CLK_TCK"], { encoding: "utf8" }));

const read = (path) => {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
};

// The processes of this browser.
function family(root) {
  const parents = readdirSync("/proc").filter((name) => /^\d+$/.test(name)).map((pid) => [Number(pid), read(`/proc/${pid}/stat`)]);
  const known = new Set([root]);
  for (let before = 0; before !== known.size; ) {
    before = known.size;
    for (const [pid, stat] of parents) {
      const parent = Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]);
      if (known.has(parent)) known.add(pid);
    }
  }
  return [...known];
}

// Processor time of each kind of thread, in seconds.
function usage(root) {
  const times = new Map();
  for (const pid of family(root)) {
    const kind = /--type=([\w-]+)/.exec(read(`/proc/${pid}/cmdline`))?.[1] ?? "browser";
    let threads = [];
    try {
      threads = readdirSync(`/proc/${pid}/task`);
    } catch {
      continue;
    }
    for (const thread of threads) {
      const stat = read(`/proc/${pid}/task/${thread}/stat`);
      const end = stat.lastIndexOf(")");
      if (end < 0) continue;
      const name = stat.slice(stat.indexOf("(") + 1, end).replace(/[\d/]+$/, "");
      const fields = stat.slice(end + 2).split(" ");
      const place = `${kind}: ${name}`;
      times.set(place, (times.get(place) ?? 0) + (Number(fields[11]) + Number(fields[12])) / ticks);
    }
  }
  return times;
}

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update",
    // Files of PAGE count as another network's.
    "--disable-features=LocalNetworkAccessChecks"],
});
const root = process.pid;
const page = await browser.newPage({ viewport: { width: 1280, height: 800 } });
if (process.env.PLAIN) await page.addInitScript(() => delete globalThis.ImageDecoder);
page.on("pageerror", (error) => console.error(error));
if (process.env.PAGE) {
  await page.route(/\.(js|css)$|\/(#.*)?$/, async (route) => {
    const name = new URL(route.request().url()).pathname.slice(1) || "index.html";
    await route.fulfill({ path: join(process.env.PAGE, name) });
  });
}
for (const place of process.argv.length > 2 ? process.argv.slice(2).map((id) => `#${id}`) : [""]) {
  await page.goto(url + place);
  await page.waitForFunction(() => document.querySelector("canvas[data-picture]"));
  await page.waitForTimeout(4000);
  const pictures = () =>
    page.evaluate(() => [...document.querySelectorAll("canvas[data-picture]")].map((canvas) => Number(canvas.dataset.picture)));
  // Each picture that is drawn changes the attribute.
  await page.evaluate(() => {
    window.drawn = 0;
    for (const canvas of document.querySelectorAll("canvas"))
      new MutationObserver(() => window.drawn++).observe(canvas, { attributeFilter: ["data-picture"] });
  });
  const before = usage(root);
  const begun = performance.now();
  await page.waitForTimeout(seconds * 1000);
  const span = (performance.now() - begun) / 1000;
  const after = usage(root);
  const drawn = await page.evaluate(() => window.drawn);
  const tiles = (await pictures()).length;
  const shares = [...after].map(([place, time]) => [place, (100 * (time - (before.get(place) ?? 0))) / span]);
  const mine = shares.filter(([place]) => !place.startsWith("browser: node"));
  const total = mine.reduce((sum, [, share]) => sum + share, 0);
  console.log(`${place || "wall"}: ${total.toFixed(0)} % of a core, ${(drawn / span).toFixed(0)} pictures drawn a second in ${tiles} canvases`);
  for (const [name, share] of mine.sort((a, b) => b[1] - a[1]).slice(0, 10)) if (share >= 1) console.log(`  ${share.toFixed(1).padStart(5)} %  ${name}`);
}
await browser.close();

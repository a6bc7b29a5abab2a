// Processor time of the page in Chromium without a GPU, by thread: docs/web.md has the figures.
//
//     node tests/page/cpu.mjs [STATION...]
//
// With PLAIN=1, the page has only what browsers lend to pages on plain http, which is less than on localhost.
// URL is the broadcaster (default http://127.0.0.1:8088/), SECONDS the time measured (default 20), PAGE a folder with other files of the
// page than the broadcaster's, CHROMIUM the browser. Without stations, the wall is measured; with some, each as it fills the page.
//
// Nothing is attached to the browser: a browser that is driven or debugged reports every message of a WebSocket to its driver, which
// costs a quarter of what this page costs. The page comes through a proxy that adds a script, which counts what is drawn.

import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { readdirSync, readFileSync } from "node:fs";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { createServer } from "node:http";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

const broadcaster = new URL(process.env.URL ?? "http://127.0.0.1:8088/");
const seconds = Number(process.env.SECONDS ?? 20);
const ticks = Number(execFileSync("getconf", ["CLK_TCK"], { encoding: "utf8" }));

// Time for the page to settle, in milliseconds.
const SETTLE = 6000;

// The window, in pixels. Chromium takes 143 lines of it for itself, also without a screen: the page has 1280x800.
const WINDOW = "1280,943";

// Each picture that is drawn changes the attribute of its canvas.
const counter = `<script>
  ${process.env.PLAIN ? "delete globalThis.ImageDecoder;" : ""}
  let drawn = 0;
  new MutationObserver((changes) => drawn += changes.length).observe(document, { subtree: true, attributeFilter: ["data-picture"] });
  const count = () => [drawn, document.querySelectorAll("canvas[data-picture]").length, innerWidth, innerHeight];
  setInterval(() => navigator.sendBeacon("/count", count()), 1000);
</script>`;

const types = { html: "text/html", js: "text/javascript", css: "text/css", svg: "image/svg+xml" };

// A proxy of the broadcaster, with the page of PAGE. Calls `counted` every second with what the counter counts.
async function proxy(counted) {
  const server = createServer(async (request, response) => {
    const path = new URL(request.url, broadcaster).pathname;
    const name = path === "/" ? "index.html" : path.slice(1);
    if (name === "count") {
      const chunks = await request.toArray();
      counted(Buffer.concat(chunks).toString().split(",").map(Number));
      return response.writeHead(204).end();
    }
    const other = process.env.PAGE ? await readFile(join(process.env.PAGE, name)).catch(() => null) : null;
    const own = other ? null : await fetch(new URL(request.url, broadcaster));
    const body = other ?? Buffer.from(await own.arrayBuffer());
    const type = own?.headers.get("content-type") ?? types[name.split(".").pop()];
    response.writeHead(own?.status ?? 200, { "content-type": type });
    response.end(name === "index.html" ? body.toString().replace("<head>", `<head>${counter}`) : body);
  });
  server.on("upgrade", ({ method, url, rawHeaders }, socket, head) => {
    const up = connect(broadcaster.port, broadcaster.hostname);
    const fields = rawHeaders.map((text, n) => (n % 2 ? `${text}\r\n` : `${text}: `)).join("");
    up.write(`${method} ${url} HTTP/1.1\r\n${fields}\r\n`);
    up.write(head);
    for (const end of [socket, up]) end.on("error", () => {});
    socket.pipe(up).pipe(socket);
  });
  await once(server.listen(0, "127.0.0.1"), "listening");
  return server;
}

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

const pause = (time) => new Promise((done) => setTimeout(done, time));

async function measure(place) {
  let [drawn, canvases, width, height] = [0, 0, 0, 0];
  const server = await proxy((counts) => ([drawn, canvases, width, height] = counts));
  const profile = await mkdtemp(join(tmpdir(), "page-cpu-"));
  const browser = spawn(process.env.CHROMIUM ?? "/usr/bin/chromium", [
    "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--hide-scrollbars", `--window-size=${WINDOW}`, `--user-data-dir=${profile}`,
    `http://127.0.0.1:${server.address().port}/${place}`,
  ], { stdio: "ignore" });
  try {
    await pause(SETTLE);
    const [before, drawnBefore, begun] = [usage(browser.pid), drawn, performance.now()];
    await pause(seconds * 1000);
    const after = usage(browser.pid);
    const span = (performance.now() - begun) / 1000;
    const shares = [...after].map(([name, time]) => [name, (100 * (time - (before.get(name) ?? 0))) / span]);
    const total = shares.reduce((sum, [, share]) => sum + share, 0);
    const rate = (drawn - drawnBefore) / span;
    console.log(
      `${place || "wall"}: ${total.toFixed(0)} % of a core, ${rate.toFixed(0)} pictures drawn a second in ${canvases} canvases, ` +
        `${width}x${height}`,
    );
    for (const [name, share] of shares.sort((a, b) => b[1] - a[1]).slice(0, 10))
      if (share >= 1) console.log(`  ${share.toFixed(1).padStart(5)} %  ${name}`);
  } finally {
    browser.kill();
    await once(browser, "exit");
    server.closeAllConnections();
    server.close();
    await rm(profile, { recursive: true, force: true, maxRetries: 5 });
  }
}

const stations = process.argv.slice(2).map((id) => `#${id}`);
for (const place of stations.length > 0 ? stations : [""]) await measure(place);

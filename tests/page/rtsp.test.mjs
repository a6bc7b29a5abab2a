// yellowstone, an RTSP client from npm, plays a station. It appends the SDP's control attribute to its URL, and sends each later
// request, even PLAY, to the result.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { test } from "node:test";

import yellowstone from "yellowstone";

const root = resolve(fileURLToPath(new URL(".", import.meta.url)), "../..");
const broadcaster = resolve(process.env.BROADCASTER ?? join(root, "target/release/broadcaster"));

async function freePort() {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  server.close();
  await once(server, "close");
  return port;
}

test("yellowstone plays a station", { timeout: 60_000 }, async (t) => {
  const folder = await mkdtemp(join(tmpdir(), "rtsp-"));
  const [directory, rtsp] = [await freePort(), await freePort()];
  const config = join(folder, "stations.toml");
  await writeFile(config, `
[directory]
listen = "127.0.0.1:${directory}"
[rtsp]
listen = "127.0.0.1:${rtsp}"
[reel]
dir = ${JSON.stringify(join(folder, "reels"))}
[[station]]
id = 2
name = "Nature"
media = ${JSON.stringify(join(root, "media/nature.mp4"))}
group = "239.79.10.2:5004"
ttl = 0
`);
  const daemon = spawn(broadcaster, ["--config", config], { stdio: ["ignore", "inherit", "pipe"] });
  let client;
  t.after(async () => {
    client?._client?.destroy();
    if (daemon.exitCode === null) {
      daemon.kill("SIGTERM");
      await once(daemon, "exit");
    }
    await rm(folder, { recursive: true });
  });
  for await (const line of createInterface({ input: daemon.stderr })) {
    if (line.includes("on air")) break;
  }
  daemon.stderr.resume();

  client = new yellowstone.RtspClient("", "");
  const pictures = new Promise((resolve) => {
    let seen = 0;
    client.on("data", () => ++seen === 20 && resolve(seen));
  });
  assert.deepEqual(await client.connect(`rtsp://127.0.0.1:${rtsp}/2`), { format: "JPEG" });
  await client.play();
  assert.equal(await pictures, 20);
});

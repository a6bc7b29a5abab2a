// The output of `broadcaster sdp`, read by a parser that is not ours.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { test } from "node:test";

import { parse } from "sdp-transform";

const root = resolve(fileURLToPath(new URL(".", import.meta.url)), "../..");
const broadcaster = resolve(process.env.BROADCASTER ?? join(root, "target/release/broadcaster"));

function described(station) {
  const folder = mkdtempSync(join(tmpdir(), "sdp-"));
  try {
    const config = join(folder, "stations.toml");
    writeFileSync(config, `[defaults]\ninterface = "127.0.0.1"\n[[station]]\nid = 2\nmedia = ${JSON.stringify(join(root, "media/nature.mp4"))}\n${station}`);
    return parse(execFileSync(broadcaster, ["sdp", "2", "--config", config], { encoding: "utf8" }));
  } finally {
    rmSync(folder, { recursive: true });
  }
}

test("a station is described whole", () => {
  const session = described('name = "Café 2"\ngroup = "239.77.0.2:5004"\nttl = 4\n');
  assert.equal(session.version, 0);
  assert.equal(session.name, "Café 2");
  assert.deepEqual([session.origin.netType, session.origin.ipVer, session.origin.address], ["IN", 4, "127.0.0.1"]);
  assert.deepEqual(session.timing, { start: 0, stop: 0 });
  assert.equal(session.media.length, 2);
  const [media, sound] = session.media;
  assert.deepEqual([media.type, media.port, media.protocol, String(media.payloads)], ["video", 5004, "RTP/AVP", "26"]);
  assert.deepEqual(media.rtp, [{ payload: 26, codec: "JPEG", rate: 90000 }]);
  assert.equal(media.direction ?? session.direction, "recvonly");
  assert.deepEqual([sound.type, sound.port, sound.protocol, String(sound.payloads)], ["audio", 5006, "RTP/AVP", "97"]);
  assert.deepEqual(sound.rtp, [{ payload: 97, codec: "opus", rate: 48000, encoding: 2 }]);
  assert.equal(Number(media.framerate), 29.97003);
  const connection = media.connection ?? session.connection;
  assert.deepEqual([connection.version, connection.ip], [4, "239.77.0.2/4"]);
  assert.deepEqual([media.mediaClk.mediaClockName, media.mediaClk.mediaClockValue], ["direct", 749164544]);
  assert.equal(media.tsRefClocks[0].clksrc, "ntp");
  assert.equal(session.sourceFilter ?? media.sourceFilter, undefined);
});

test("a source-specific group names its source", () => {
  const session = described('name = "Two"\ngroup = "232.77.0.2:5004"\n');
  const filter = session.sourceFilter ?? session.media[0].sourceFilter;
  assert.deepEqual(
    [filter.filterMode, filter.addressTypes, filter.destAddress, filter.srcList],
    ["incl", "IP4", "232.77.0.2", "127.0.0.1"],
  );
});

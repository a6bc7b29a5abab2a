// Station numbers that are typed: the same cases as in src/screen/keys.rs.

import assert from "node:assert/strict";
import { test } from "node:test";

import { NumberEntry } from "../../src/web/page/remote.js";

const to = (last) => Array.from({ length: last }, (_, n) => n + 1);

test("a number is final as soon as it can be", () => {
  for (const [lineup, typed, whenFinal] of [
    [to(3), "2", 1], [to(3), "7", 1], [to(20), "3", 1], [to(20), "12", 2], [to(20), "27", 2], [to(20), "02", 2],
    [[1, 105], "105", 3], [[1, 105], "12", 2], [[1, 105], "002", 3], [to(999), "999", 3], [[], "5", 1],
  ]) {
    const entry = new NumberEntry();
    const answers = [...typed].map((digit) => entry.digit(digit, lineup));
    assert.equal(answers.findIndex((answer) => answer !== null) + 1, whenFinal, `${typed} of ${lineup.length}`);
    assert.equal(answers[whenFinal - 1], Number(typed.slice(0, whenFinal)));
  }
});

test("Enter ends the wait and Backspace erases", () => {
  const entry = new NumberEntry();
  assert.equal(entry.digit("1", to(20)), null);
  assert.ok(entry.typing);
  assert.equal(entry.enter(), 1);
  assert.equal(entry.enter(), null);
  entry.digit("1", to(20));
  entry.erase();
  assert.ok(!entry.typing);
});

test("a second digit belongs to the number and not to another station", () => {
  const entry = new NumberEntry();
  assert.equal(entry.digit("9", to(12), 0), 9);
  assert.ok(!entry.typing);
  assert.equal(entry.digit("9", to(12), 1199), 99);
  assert.equal(entry.digit("3", to(12), 1300), 3);
  assert.equal(entry.enter(), null);
  assert.equal(entry.digit("4", to(12), 2600), 4);
  assert.equal(entry.digit("5", to(12), 9000), 5);
  assert.deepEqual(["1", "2"].map((digit) => new NumberEntry().digit(digit, to(3), 0)), [1, 2]);
});

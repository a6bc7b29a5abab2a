// The remote control: digits become station numbers. The same rules as the viewer's (src/screen/keys.rs).

// How long a number waits for its next digit, in milliseconds.
export const DIGIT_WAIT = 1200;

const MOST_DIGITS = 3;

export class NumberEntry {
  digits = "";

  // One more digit. Answers the number at once when it is complete: no number of `ids` begins with it and goes on.
  digit(digit, ids) {
    this.digits += digit;
    return this.#goesOn(ids) ? null : this.enter();
  }

  // The number typed, at once; null of none.
  enter() {
    const number = this.digits === "" ? null : Number(this.digits);
    this.digits = "";
    return number;
  }

  erase() {
    this.digits = this.digits.slice(0, -1);
  }

  clear() {
    this.digits = "";
  }

  get typing() {
    return this.digits !== "";
  }

  // Some people type 02 for 2: leading zeros count as digits, up to as many as the largest number has.
  #goesOn(ids) {
    const most = Math.min(MOST_DIGITS, String(Math.max(0, ...ids)).length);
    const typed = Number(this.digits);
    for (let length = this.digits.length + 1; length <= most; length++) {
      const factor = 10 ** (length - this.digits.length);
      if (ids.some((id) => Math.floor(id / factor) === typed)) return true;
    }
    return false;
  }
}

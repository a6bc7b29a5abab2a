// The remote control: turns digits into station numbers, by the rules of the viewer (src/screen/keys.rs).

// Longest time from a digit to the next one, in milliseconds.
export const DIGIT_WAIT = 1200;

const MOST_DIGITS = 3;

export class NumberEntry {
  digits = "";

  // Adds a digit. Returns the number if it is complete, that is, if no longer number of `ids` begins with it; else null.
  digit(digit, ids) {
    this.digits += digit;
    return this.#goesOn(ids) ? null : this.enter();
  }

  // Returns the number typed so far, and clears it; null without digits.
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

  // Some people type 02 for 2: leading zeros count as digits, up to the length of the largest number.
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

// The remote control: turns digits into station numbers, by the rules of the viewer (src/screen/keys.rs).

// Longest time from a digit to the next one, in milliseconds.
export const DIGIT_WAIT = 1200;

const MOST_DIGITS = 3;

export class NumberEntry {
  digits = "";
  // Whether the number was returned already, and is kept for a digit that belongs to it all the same.
  #returned = false;
  // When a digit comes too late to belong to it.
  #due = 0;

  // Adds a digit. Returns the number if it is complete, that is, if it has as many digits as the largest of `ids`, or if no
  // longer number of them begins with it; else null. In the second case a digit that follows within DIGIT_WAIT is added too:
  // in a line-up of 12, 99 is not station 9 twice. `now` is in milliseconds.
  digit(digit, ids, now = performance.now()) {
    if (this.#returned && now >= this.#due) this.clear();
    this.#returned = false;
    this.digits += digit;
    this.#due = now + DIGIT_WAIT;
    if (this.#goesOn(ids)) return null;
    const number = Number(this.digits);
    this.#returned = this.digits.length < longest(ids);
    if (!this.#returned) this.clear();
    return number;
  }

  // Returns the number typed so far, and clears it; null without digits.
  enter() {
    const number = this.typing ? Number(this.digits) : null;
    this.clear();
    return number;
  }

  erase() {
    this.digits = this.digits.slice(0, -1);
  }

  clear() {
    this.digits = "";
    this.#returned = false;
  }

  get typing() {
    return this.digits !== "" && !this.#returned;
  }

  // Some people type 02 for 2: leading zeros count as digits, up to the length of the largest number.
  #goesOn(ids) {
    const typed = Number(this.digits);
    for (let length = this.digits.length + 1; length <= longest(ids); length++) {
      const factor = 10 ** (length - this.digits.length);
      if (ids.some((id) => Math.floor(id / factor) === typed)) return true;
    }
    return false;
  }
}

// Digits of the largest number.
function longest(ids) {
  return ids.length === 0 ? 0 : Math.min(MOST_DIGITS, String(Math.max(...ids)).length);
}

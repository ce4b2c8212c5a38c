"use strict";
// What the other scripts share: the data of the page, its address, random numbers, numbers as text.

/** The runs' data, see `data` in page.py: points, labels, starts, digit networks. */
const pageData = JSON.parse(document.getElementById("page-data").textContent);

const find = (id) => document.getElementById(id);

/**
 * The settings after the # of the address, such as #start=run&rate=0.01&steps=10000, so that a moment can be sent.
 * What is there without an = is the name of a section, and no setting.
 */
const address = {
  read() {
    return location.hash.includes("=") ? new URLSearchParams(location.hash.slice(1)) : new URLSearchParams();
  },
  write(settings) {
    const all = this.read();
    for (const [name, value] of Object.entries(settings)) {
      all.set(name, value);
    }
    try {
      history.replaceState(null, "", `#${all}`);
    } catch (error) {
      // Some browsers allow only so many changes a second; the next one will pass.
    }
  },
};

/**
 * Random numbers that a seed repeats: Marsaglia's xorshift128 (2003), for which any seed is filled up to four words.
 * Returns `uniform()` in [0, 1) and `normal()`, standard normal.
 */
function randomNumbers(seed) {
  const words = new Uint32Array(4);
  for (let i = 0; i < 4; i++) {
    words[i] = Math.imul((seed >>> 0) + i + 1, 2654435761) ^ (seed >>> (i + 3));
  }
  words[3] |= 1; // never all zero
  function word() {
    const first = words[0];
    const mixed = first ^ (first << 11);
    words[0] = words[1];
    words[1] = words[2];
    words[2] = words[3];
    words[3] = words[3] ^ (words[3] >>> 19) ^ mixed ^ (mixed >>> 8);
    return words[3];
  }
  for (let i = 0; i < 50; i++) {
    word(); // near seeds need some steps to come apart
  }
  const uniform = () => (word() * 2 ** 21 + (word() >>> 11)) / 2 ** 53;
  const normal = () => Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform());
  return { uniform, normal };
}

/** Shows a whole number, its digits in groups of three that only the style sets apart: its text stays the number. */
function showNumber(element, number) {
  const groups = String(number).replace(/\B(?=(\d{3})+$)/g, " ").split(" ");
  element.replaceChildren(...groups.map((digits) => {
    const part = document.createElement("span");
    part.className = "group";
    part.textContent = digits;
    return part;
  }));
}

/** A whole number with commas, for sentences. */
const withCommas = (number) => number.toLocaleString("en-GB");

/** A number with a few digits, for sentences. */
const rounded = (number, digits = 3) => Number(number.toPrecision(digits)).toString();

// Details are closed on the screen; on paper they are open.
addEventListener("beforeprint", () => {
  for (const details of document.querySelectorAll("details")) {
    details.open = true;
  }
});

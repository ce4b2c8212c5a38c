"use strict";
// Handwriting: a sheet to draw a digit on; the trained networks of the runs say which one it is.
if (pageData.models.length > 0) {
  const SIDE = 280; // of the sheet, in its own pixels
  const PEN = 24; // the stroke's width on it: of a digit that fills the sheet it becomes two of 20 pixels, as in MNIST
  const INK = 17; // its grey, of 255
  const MOVE = 10; // of the pen, for each press of an arrow key
  const UNSURE = 0.6; // a smaller probability is no answer
  const UNDOS = 40; // strokes that can be taken back

  const sheet = find("digit");
  const pen = sheet.getContext("2d", { willReadFrequently: true });
  const models = pageData.models.map(unpack);
  const hand = { pointer: null, x: SIDE / 2, y: SIDE / 2, down: false }; // a pointer's, or that of the arrow keys
  const past = []; // the sheet before each stroke
  let waiting = 0; // the timer of an answer that was asked for
  let lasted = 0; // milliseconds, the last answer

  // The networks.

  /** A network of the page's data: 784 inputs, hidden units with relu, 10 outputs; float32 in base64, little end first. */
  function unpack(model) {
    const bytes = Uint8Array.from(atob(model.parameters), (letter) => letter.charCodeAt(0));
    const view = new DataView(bytes.buffer);
    const numbers = Float64Array.from({ length: bytes.length / 4 }, (_, i) => view.getFloat32(4 * i, true));
    const [w1, b1, w2] = [784, 1, 10].map((width) => width * model.hidden);
    return {
      ...model, weight1: numbers.subarray(0, w1), bias1: numbers.subarray(w1, w1 + b1),
      weight2: numbers.subarray(w1 + b1, w1 + b1 + w2), bias2: numbers.subarray(w1 + b1 + w2),
    };
  }

  /** The ten probabilities that a network gives to an image of 784 greys from 0 to 255. */
  function classify(model, image) {
    const hidden = Array.from(model.bias1, (bias, unit) => {
      let sum = bias;
      for (let i = 0; i < 784; i++) {
        sum += model.weight1[784 * unit + i] * (image[i] / 255);
      }
      return Math.max(0, sum);
    });
    const logits = Array.from(model.bias2, (bias, digit) =>
      hidden.reduce((sum, value, unit) => sum + model.weight2[model.hidden * digit + unit] * value, bias));
    const largest = Math.max(...logits);
    const powers = logits.map((logit) => Math.exp(logit - largest));
    const total = powers.reduce((sum, power) => sum + power);
    return powers.map((power) => power / total);
  }

  // The answer.

  const percent = (share, digits) => `${(100 * share).toFixed(digits)} %`;

  /** The digits by their probabilities, the likeliest first. */
  const ranking = (shares) => shares.map((_, digit) => digit).sort((one, two) => shares[two] - shares[one]);

  /** The answer in words: the digit with its probability, or where that is small the two likeliest digits. */
  function sentence(shares) {
    const [first, second] = ranking(shares);
    return shares[first] >= UNSURE ? `${first} (${percent(shares[first], 1)})`
      : `${first}? unsure: ${first} (${percent(shares[first], 0)}) or ${second} (${percent(shares[second], 0)})`;
  }

  /** The ink on the sheet, a grid of shares from 0 to 1; what is lighter than a tenth is paper. */
  function inkOfSheet() {
    const { data } = pen.getImageData(0, 0, SIDE, SIDE);
    const values = Float64Array.from({ length: SIDE * SIDE }, (_, i) => Math.min(1, (255 - data[4 * i]) / (255 - INK)));
    return { height: SIDE, width: SIDE, values: values.map((share) => (share < 0.1 ? 0 : share)) };
  }

  /** Reads the sheet, and shows what was found. */
  function answer() {
    const began = performance.now();
    waiting = 0;
    const model = models.find((one) => one.run === find("digit-model").value);
    const image = asMnist(inkOfSheet());
    const shares = image && classify(model, image);
    find("digit-answer").textContent = shares ? sentence(shares) : "Draw a digit on the sheet.";
    showSeen(image || new Uint8Array(784));
    showBars(shares);
    lasted = performance.now() - began;
  }

  /** Answers at once, or after the stroke that is being drawn; a slow machine gets twice an answer's time to draw. */
  function ask() {
    clearTimeout(waiting);
    waiting = setTimeout(answer, 0);
  }

  function askLater() {
    waiting ||= setTimeout(answer, Math.min(500, 2 * lasted));
  }

  /** The image that the network sees, ink bright on black. */
  function showSeen(image) {
    const pixels = new ImageData(28, 28);
    image.forEach((grey, i) => pixels.data.set([grey, grey, grey, 255], 4 * i));
    find("digit-seen").getContext("2d").putImageData(pixels, 0, 0);
  }

  function showBars(shares) {
    const best = shares ? ranking(shares)[0] : -1;
    document.querySelectorAll("#digit-bars li").forEach((line, digit) => {
      const share = shares ? shares[digit] : 0;
      line.querySelector(".bar").style.setProperty("--share", share);
      line.querySelector(".share").textContent = shares ? percent(share, 1) : "–";
      line.classList.toggle("best", digit === best);
    });
  }

  // The sheet.

  function blank() {
    pen.fillStyle = "#fff";
    pen.fillRect(0, 0, SIDE, SIDE);
  }

  function remember() {
    past.push(pen.getImageData(0, 0, SIDE, SIDE));
    if (past.length > UNDOS) {
      past.shift();
    }
  }

  function undo() {
    if (past.length) {
      pen.putImageData(past.pop(), 0, 0);
      say("The last change is taken back.");
      ask();
    }
  }

  function clear() {
    remember();
    blank();
    say("The sheet is empty.");
    ask();
  }

  function lineTo(x, y) {
    pen.strokeStyle = `rgb(${INK}, ${INK}, ${INK})`;
    pen.lineWidth = PEN;
    pen.lineCap = "round";
    pen.lineJoin = "round";
    pen.beginPath();
    pen.moveTo(hand.x, hand.y);
    pen.lineTo(x, y);
    pen.stroke();
    hand.x = x;
    hand.y = y;
    askLater();
  }

  /** A pointer's place on the sheet, whatever its size on the screen. */
  function place(event) {
    const box = sheet.getBoundingClientRect();
    return [((event.clientX - box.left) / box.width) * SIDE, ((event.clientY - box.top) / box.height) * SIDE];
  }

  function pointerDown(event) {
    if (hand.pointer !== null || event.button > 0) {
      return;
    }
    event.preventDefault(); // no text is selected, no picture dragged
    sheet.focus({ preventScroll: true });
    hand.pointer = event.pointerId;
    try {
      sheet.setPointerCapture(event.pointerId);
    } catch (error) {
      // A pointer that is gone already; its stroke is a dot.
    }
    liftPen();
    remember();
    [hand.x, hand.y] = place(event);
    lineTo(hand.x, hand.y);
  }

  function pointerMove(event) {
    if (event.pointerId === hand.pointer) {
      const events = event.getCoalescedEvents ? event.getCoalescedEvents() : [];
      for (const one of events.length ? events : [event]) {
        lineTo(...place(one));
      }
    }
  }

  function pointerUp(event) {
    if (event.pointerId === hand.pointer) {
      hand.pointer = null;
    }
    ask();
  }

  // The keyboard: arrows move a pen, space sets it down and lifts it.

  const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

  function keyDown(event) {
    const key = event.key.toLowerCase(); // as with Caps Lock
    const command = event.ctrlKey || event.metaKey; // of the browser, but for Ctrl+Z
    if (event.key in ARROWS) {
      movePen(...ARROWS[event.key]);
    } else if (event.key === " ") {
      hand.down = !hand.down;
      if (hand.down) {
        remember();
        lineTo(hand.x, hand.y);
      }
      say(hand.down ? "Pen down." : "Pen up.");
    } else if (command ? key === "z" && !event.shiftKey : key === "u" || key === "backspace") {
      undo();
    } else if (!command && (key === "c" || key === "delete")) {
      clear();
    } else {
      return;
    }
    event.preventDefault();
    showPen();
  }

  function movePen(right, down) {
    const x = Math.min(SIDE, Math.max(0, hand.x + MOVE * right));
    const y = Math.min(SIDE, Math.max(0, hand.y + MOVE * down));
    if (hand.down) {
      lineTo(x, y);
    }
    hand.x = x;
    hand.y = y;
  }

  function showPen() {
    const mark = find("digit-pen");
    mark.hidden = false;
    mark.classList.toggle("down", hand.down);
    mark.style.setProperty("--x", hand.x / SIDE);
    mark.style.setProperty("--y", hand.y / SIDE);
  }

  function liftPen() {
    hand.down = false;
    find("digit-pen").hidden = true;
  }

  const say = (text) => {
    find("digit-said").textContent = text;
  };

  /** Chooses the network that the address names, if the page has it. */
  function readAddress() {
    const wanted = address.read().get("model");
    if (models.some((model) => model.run === wanted)) {
      find("digit-model").value = wanted;
    }
  }

  sheet.addEventListener("pointerdown", pointerDown);
  sheet.addEventListener("pointermove", pointerMove);
  sheet.addEventListener("pointerup", pointerUp);
  sheet.addEventListener("pointercancel", pointerUp);
  sheet.addEventListener("keydown", keyDown);
  sheet.addEventListener("focus", () => sheet.matches(":focus-visible") && showPen());
  sheet.addEventListener("blur", liftPen);
  find("digit-clear").addEventListener("click", clear);
  find("digit-undo").addEventListener("click", undo);
  find("digit-model").addEventListener("change", () => {
    address.write({ model: find("digit-model").value });
    ask();
  });
  addEventListener("hashchange", () => {
    readAddress();
    ask();
  });
  readAddress();
  blank();
  answer();
}

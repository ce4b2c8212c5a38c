"use strict";
// The lecture's network, trained in the page: from a start and a rate, step after step, in slices of each frame.
// What it has passed is kept as a trail, so that any moment can be gone back to.
{
  const SLICE = [10, 50]; // milliseconds of training in a frame: as long as drawing takes, but at least and at most these
  const CHUNK = 500; // steps between two looks at the clock
  const GROWTH = 1.002; // the trail notes a step when the number of steps has grown by this factor
  const CALM = 500; // milliseconds between two pictures for readers who ask for less motion
  const RANGES = { 0.01: 1000000, 0.1: 200000, 1: 50000, 5: 20000 }; // steps on the slider, for each rate
  const CELLS = 100; // of the regions, in each direction

  const network = makeNetwork(pageData.points, pageData.labels);
  const slider = find("train-step");
  const rates = find("train-rate");
  const pace = find("train-pace");
  const regions = find("regions");
  const chart = find("train-chart");
  const lessMotion = matchMedia("(prefers-reduced-motion: reduce)");

  // The training: where it began, where it is, where it goes. `target` is null at rest; `playing` tells Play from the
  // slider, which goes to its moment as fast as it can.
  const state = {
    start: "", rate: 0.01, weights: null, steps: 0, trail: null, target: null, playing: false,
    owed: 0, frameAt: 0, drawnAt: 0, drawing: 0, writtenAt: 0, setOut: null, lap: null, ready: false,
  };

  // Starts.

  /** The weights of a start by its name: "run", "plateau", or the seed of another one; null if there is none. */
  function startWeights(name) {
    if (name === "run") {
      return pageData.start && Float64Array.from(pageData.start.weights);
    }
    if (name === "plateau") {
      return Float64Array.from(pageData.plateau);
    }
    return /^\d{1,9}$/.test(name || "") ? drawWeights(Number(name)) : null;
  }

  function startText() {
    const texts = { run: "the start of the lecture's run", plateau: "the start that stays on the plateau" };
    return texts[state.start] || `a start drawn in this page, number ${state.start}`;
  }

  /** Begins anew, at rest at step 0. An unknown start or rate leaves the one before; without the run's start, "1" is. */
  function begin(start, rate) {
    state.start = [start, state.start, "run", "1"].find(startWeights);
    if (Object.hasOwn(RANGES, rate)) {
      state.rate = Number(rate);
    }
    state.weights = startWeights(state.start);
    state.steps = 0;
    state.trail = { steps: [0], losses: [network.loss(state.weights)], weights: [state.weights.slice()], next: 1 };
    slider.max = RANGES[state.rate];
    rates.value = String(state.rate);
    rest();
  }

  // Training.

  /** Goes on to step `until`, or as far as it comes before `deadline` of performance.now(). */
  function advance(until, deadline) {
    const { trail } = state;
    while (state.steps < until && performance.now() < deadline) {
      const steps = Math.min(until, trail.next, state.steps + CHUNK) - state.steps;
      network.descend(state.weights, state.rate, steps);
      state.steps += steps;
      if (state.steps === trail.next) {
        trail.steps.push(state.steps);
        trail.losses.push(network.loss(state.weights));
        trail.weights.push(state.weights.slice());
        trail.next = Math.max(state.steps + 1, Math.floor(state.steps * GROWTH));
      }
    }
  }

  /** Goes back to the last place of the trail that is not beyond `step`, unless the training is nearer. */
  function rewind(step) {
    const { steps, weights } = state.trail;
    let low = 0;
    let high = steps.length - 1;
    while (low < high) {
      const middle = Math.ceil((low + high) / 2);
      if (steps[middle] <= step) {
        low = middle;
      } else {
        high = middle - 1;
      }
    }
    if (state.steps > step || state.steps < steps[low]) {
      state.steps = steps[low];
      state.weights = weights[low].slice();
    }
  }

  function goTo(step) {
    rewind(step);
    state.playing = false;
    setOut(step);
  }

  function play() {
    if (state.steps >= Number(slider.max)) {
      slider.max = 2 * Number(slider.max); // Play at the end of the slider goes on
    }
    state.playing = true;
    setOut(Number(slider.max));
  }

  function setOut(target) {
    const resting = state.target === null;
    state.target = target;
    state.owed = 0;
    state.frameAt = performance.now();
    state.setOut = state.lap = { at: state.frameAt, steps: state.steps };
    find("train-play").textContent = state.playing ? "Pause" : "Play";
    if (resting) {
      requestAnimationFrame(frame);
    }
  }

  /** One frame: a slice of training, a picture. */
  function frame() {
    if (state.target === null) {
      return;
    }
    const now = performance.now();
    let until = state.target;
    const perSecond = state.playing ? Number(pace.value) : 0; // 0: as fast as it goes
    if (perSecond > 0) {
      state.owed += (perSecond * Math.min(now - state.frameAt, 200)) / 1000;
      until = Math.min(until, state.steps + Math.floor(state.owed));
      state.owed -= until - state.steps;
    }
    state.frameAt = now;
    advance(until, now + Math.min(SLICE[1], Math.max(SLICE[0], state.drawing)));
    if (state.steps >= state.target) {
      rest();
      return;
    }
    showSpeed(false);
    draw(lessMotion.matches && now - state.drawnAt < CALM);
    if (now - state.writtenAt > 1000) {
      writeAddress();
    }
    requestAnimationFrame(frame);
  }

  /** Comes to rest; after Play a screen reader says where. */
  function rest() {
    if (state.lap) {
      showSpeed(true);
    }
    const { playing } = state;
    state.target = null;
    state.playing = false;
    state.lap = null;
    find("train-play").textContent = "Play";
    draw(false);
    writeAddress();
    if (playing) {
      find("train-said").textContent = `At rest after ${withCommas(state.steps)} steps: loss ` +
        `${rounded(network.loss(state.weights))}, ${find("train-right").textContent} points right.`;
    }
  }

  /** Notes the moment in the address, once the reader has done something. */
  function writeAddress() {
    if (!state.ready) {
      return;
    }
    state.writtenAt = performance.now();
    address.write({ start: state.start, rate: state.rate, steps: state.steps });
  }

  // What is shown.

  /** Steps a second: about twice a second those since the last time, at rest those since the training set out. */
  function showSpeed(atRest) {
    const since = atRest ? state.setOut : state.lap;
    const seconds = (performance.now() - since.at) / 1000;
    if (seconds > (atRest ? 0.03 : 0.5)) {
      showNumber(find("train-speed"), Math.round((state.steps - since.steps) / seconds));
      state.lap = { at: performance.now(), steps: state.steps };
    }
  }

  function draw(textOnly) {
    const loss = network.loss(state.weights);
    showNumber(find("train-steps"), state.steps);
    find("train-loss").textContent = loss < 1e-3 ? loss.toExponential(11) : loss.toPrecision(12);
    if (state.target === null || state.playing) {
      slider.value = state.steps;
    }
    slider.setAttribute("aria-valuetext", `${withCommas(state.steps)} steps`);
    find("train-start").textContent = startText();
    const right = network.right(state.weights);
    find("train-right").textContent = `${right.filter(Boolean).length} of 10`;
    const wrong = pageData.points.filter((_, i) => !right[i]).map(([x1, x2]) => `(${x1}, ${x2})`);
    find("train-wrong").textContent = wrong.length ? `Wrong: ${wrong.join(", ")}.` : "All ten points are right.";
    if (!textOnly) {
      state.drawnAt = performance.now();
      drawRegions(right);
      drawLosses(loss);
      state.drawing = performance.now() - state.drawnAt;
    }
  }

  function drawLosses(loss) {
    const { trail } = state;
    const curves = [{
      x: trail.steps.map((step) => step + 1), y: trail.losses, colour: colour("--blue"), width: 2.5,
    }];
    const run = pageData.start;
    const compared = run && state.start === "run" && run.rate === state.rate;
    if (compared) {
      curves.unshift({
        x: run.curve.map(([step]) => step + 1), y: run.curve.map(([, value]) => value), colour: colour("--soft"),
        width: 6, alpha: 0.55,
      });
    }
    find("train-compared").hidden = !compared;
    let smallest = loss;
    let largest = loss;
    for (const curve of curves) {
      for (const value of curve.y) {
        smallest = Math.min(smallest, value);
        largest = Math.max(largest, value);
      }
    }
    drawChart(chart, {
      curves, logSteps: true, mark: { x: state.steps + 1, y: loss },
      limits: { x: [1, Math.max(10, Number(slider.max), trail.steps.at(-1) + 1)], y: [smallest, largest] },
    });
  }

  // The regions.

  const values = new Float64Array((CELLS + 1) ** 2); // first output minus second, at the corners of the cells
  const shades = document.createElement("canvas");
  shades.width = shades.height = CELLS + 1;

  const parts = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));

  function drawRegions(right) {
    const { pen, width, height } = prepareCanvas(regions);
    const unit = letter();
    const side = Math.min(width - 2.8 * unit, height - 2.6 * unit);
    const corner = { x: 2.1 * unit, y: 0.7 * unit };
    pen.fillStyle = colour("--panel");
    pen.fillRect(0, 0, width, height);
    fillShades();
    pen.save();
    pen.beginPath();
    pen.rect(corner.x, corner.y, side, side);
    pen.clip();
    pen.imageSmoothingEnabled = true;
    const half = side / CELLS / 2; // a value stands at a corner of a cell, a shade in the middle of a pixel
    pen.drawImage(shades, corner.x - half, corner.y - half, side + 2 * half, side + 2 * half);
    drawBoundary(pen, corner, side);
    pen.restore();
    drawScale(pen, corner, side);
    pageData.points.forEach(([x1, x2], i) =>
      drawPoint(pen, corner.x + x1 * side, corner.y + (1 - x2) * side, pageData.labels[i][0] === 1, right[i]));
  }

  /** Fills in `values` and `shades`: the nearer an output is to winning by 1, the stronger its colour. */
  function fillShades() {
    const [blue, middle, orange] = ["--region-blue", "--region-middle", "--region-orange"].map((n) => parts(colour(n)));
    const image = new ImageData(CELLS + 1, CELLS + 1);
    for (let row = 0, at = 0; row <= CELLS; row++) {
      for (let column = 0; column <= CELLS; column++, at++) {
        const [c1, c2] = network.outputs(state.weights, column / CELLS, 1 - row / CELLS);
        const difference = c1 - c2;
        values[at] = difference;
        const hue = difference > 0 ? blue : orange;
        const share = Math.abs(difference);
        for (let k = 0; k < 3; k++) {
          image.data[4 * at + k] = middle[k] + share * (hue[k] - middle[k]);
        }
        image.data[4 * at + 3] = 255;
      }
    }
    shades.getContext("2d").putImageData(image, 0, 0);
  }

  /** The line where both outputs are equal: in each cell it joins the places where the cell's sides cross zero. */
  function drawBoundary(pen, corner, side) {
    const cell = side / CELLS;
    pen.strokeStyle = colour("--text");
    pen.lineWidth = 2;
    pen.beginPath();
    for (let row = 0; row < CELLS; row++) {
      for (let column = 0; column < CELLS; column++) {
        const at = row * (CELLS + 1) + column;
        const corners = [[0, 0, values[at]], [1, 0, values[at + 1]], [1, 1, values[at + CELLS + 2]],
          [0, 1, values[at + CELLS + 1]]];
        let started = false;
        corners.forEach(([x, y, value], k) => {
          const [nextX, nextY, next] = corners[(k + 1) % 4];
          if (value > 0 !== next > 0) {
            const part = value / (value - next);
            const place = [corner.x + (column + x + part * (nextX - x)) * cell,
              corner.y + (row + y + part * (nextY - y)) * cell];
            if (started) {
              pen.lineTo(...place);
            } else {
              pen.moveTo(...place);
            }
            started = !started;
          }
        });
      }
    }
    pen.stroke();
  }

  function drawScale(pen, corner, side) {
    const unit = letter();
    setType(pen);
    pen.fillStyle = colour("--soft");
    pen.strokeStyle = colour("--soft");
    pen.lineWidth = 1;
    pen.strokeRect(corner.x + 0.5, corner.y + 0.5, side - 1, side - 1);
    for (const tick of [0, 0.5, 1]) {
      pen.textBaseline = "top";
      pen.textAlign = "center";
      pen.fillText(tick, corner.x + tick * side, corner.y + side + 0.4 * unit);
      pen.textBaseline = "middle";
      pen.textAlign = "right";
      pen.fillText(tick, corner.x - 0.45 * unit, corner.y + (1 - tick) * side);
    }
    pen.textAlign = "center";
    pen.fillText("x₁", corner.x + 0.75 * side, corner.y + side + 0.9 * unit);
    pen.fillText("x₂", corner.x - 1.1 * unit, corner.y + 0.25 * side);
  }

  /** A circle for the label (1, 0), a square for (0, 1); a ring and a cross where the network is wrong. */
  function drawPoint(pen, x, y, round, right) {
    const size = 0.42 * letter();
    pen.fillStyle = colour(round ? "--point-blue" : "--point-orange");
    pen.strokeStyle = colour("--text");
    pen.lineWidth = 1.5;
    pen.beginPath();
    if (round) {
      pen.arc(x, y, size, 0, 2 * Math.PI);
    } else {
      pen.rect(x - 0.93 * size, y - 0.93 * size, 1.86 * size, 1.86 * size);
    }
    pen.fill();
    pen.stroke();
    if (!right) {
      pen.lineWidth = 0.18 * letter();
      pen.beginPath();
      pen.arc(x, y, 2 * size, 0, 2 * Math.PI);
      pen.stroke();
      const arm = 1.41 * size;
      strokeLine(pen, x - arm, y - arm, x + arm, y + arm);
      strokeLine(pen, x - arm, y + arm, x + arm, y - arm);
    }
  }

  // What the reader does.

  /** Saves the weights of this moment, with what led to them, as a JSON file. */
  function save() {
    const content = {
      start: state.start, learning_rate: state.rate, steps: state.steps, loss: network.loss(state.weights),
      weights: network.named(state.weights),
    };
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([JSON.stringify(content, null, 2)], { type: "application/json" }));
    link.download = `network_${state.steps}_steps.json`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }

  /** Goes to the moment that the address names. */
  function readAddress() {
    const wanted = address.read();
    begin(wanted.get("start") || "", wanted.get("rate"));
    const steps = Number(wanted.get("steps"));
    if (Number.isInteger(steps) && steps > 0 && steps <= 1e9) {
      slider.max = Math.max(Number(slider.max), steps);
      goTo(steps);
      return true;
    }
    return false;
  }

  find("train-play").addEventListener("click", () => (state.playing ? rest() : play()));
  find("train-reset").addEventListener("click", () => begin(state.start, state.rate));
  find("train-another").addEventListener("click", () =>
    begin(String(Math.floor(Math.random() * 1e9)), state.rate));
  find("train-save").addEventListener("click", save);
  rates.addEventListener("change", () => begin(state.start, rates.value));
  slider.addEventListener("input", () => goTo(Number(slider.value)));
  for (const button of document.querySelectorAll("button[data-start]")) {
    button.addEventListener("click", () => {
      begin(button.dataset.start, button.dataset.rate);
      pace.value = button.dataset.pace;
      play();
    });
  }
  addEventListener("hashchange", () => {
    const wanted = address.read();
    if (["start", "rate", "steps"].some((name) => wanted.has(name))) {
      readAddress();
    }
  });

  const sent = readAddress();
  state.ready = true;
  if (sent && performance.getEntriesByType("navigation")[0]?.type === "navigate") {
    find("train-title").scrollIntoView(); // the reader followed an address to a moment
  }
  redrawWhenNeeded(regions, () => draw(false));
  redrawWhenNeeded(chart, () => draw(false));
}

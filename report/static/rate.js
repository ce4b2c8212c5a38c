"use strict";
// The learning rate of the first section, felt: 10,000 pairs drawn in the page, one gradient step each, made anew
// whenever the slider moves. Two edges are computed from the pairs: for steps on one pair at a time, and on all at once.
{
  const PAIRS = 10000;
  const INPUTS = 5;
  const NOISE = 0.2;
  const FLOOR = 2 * NOISE ** 2; // no model's mean loss can be smaller
  const SEED = 1;

  const slider = find("rate"); // the logarithm of the rate to base 10
  const chart = find("rate-chart");

  /** Pairs for one choice of inputs: x has five numbers a pair, y two. */
  function drawPairs(kind) {
    const { uniform, normal } = randomNumbers(SEED);
    const x = new Float64Array(INPUTS * PAIRS);
    const y = new Float64Array(2 * PAIRS);
    const low = kind === "quickstart" ? 0 : 5;
    for (let i = 0; i < PAIRS; i++) {
      for (let j = 0; j < INPUTS; j++) {
        x[INPUTS * i + j] = low + 5 * uniform();
      }
      for (let k = 0; k < 2; k++) {
        let sum = pageData.bias[k] + NOISE * normal();
        for (let j = 0; j < INPUTS; j++) {
          sum += pageData.weight[k][j] * x[INPUTS * i + j];
        }
        y[2 * i + k] = sum;
      }
    }
    const centre = new Float64Array(INPUTS);
    if (kind === "centred") {
      for (let i = 0; i < x.length; i++) {
        centre[i % INPUTS] += x[i] / PAIRS;
      }
      for (let i = 0; i < x.length; i++) {
        x[i] -= centre[i % INPUTS];
      }
    }
    return { x, y, centre, ...edges(x) };
  }

  /**
   * The largest learning rates, from the moments of z = (x, 1).
   *
   * edge: of steps on one pair at a time, as stable_lr_limit of common/least_squares.py. Without noise such a step
   * multiplies the error e of a row of (W, b) by I - 2 eta z z', so that the mean of e e' changes by
   * -eta S + eta^2 F with S = 2 (kron(C, I) + kron(I, C)), F = 4 E[kron(z z', z z')], C = E[z z'], and grows beyond
   * eta* = 1 / lambda_max(S^-1 F).
   * edgeOfAll: of steps on all pairs at once, 2 / lambda_max of 2 C, the Hessian of the mean loss.
   */
  function edges(x) {
    const size = INPUTS + 1;
    const places = Array.from({ length: size ** 2 }, (_, at) => [Math.floor(at / size), at % size]);
    const second = new Float64Array(size ** 2); // C, row by row
    const fourth = places.map(() => new Float64Array(size ** 2));
    for (let i = 0; i < PAIRS; i++) {
      const z = [...x.subarray(INPUTS * i, INPUTS * (i + 1)), 1];
      const square = Float64Array.from(places, ([j, k]) => z[j] * z[k]);
      for (let row = 0; row < square.length; row++) {
        second[row] += square[row] / PAIRS;
        for (let column = 0; column < square.length; column++) {
          fourth[row][column] += (4 * square[row] * square[column]) / PAIRS;
        }
      }
    }
    const c = (row, column) => second[size * row + column];
    const sides = places.map(([i, j]) => places.map(([k, l]) => 2 * ((j === l) * c(i, k) + (i === k) * c(j, l))));
    const hessian = Array.from({ length: size }, (_, j) => Array.from({ length: size }, (_, k) => 2 * c(j, k)));
    return { edge: 1 / largestEigenvalue(solved(sides, fourth)), edgeOfAll: 2 / largestEigenvalue(hessian) };
  }

  /** S^-1 F by Gauss and Jordan's elimination, without pivoting: S is positive definite. */
  function solved(sides, fourth) {
    const rows = sides.map((row, i) => [...row, ...fourth[i]]);
    for (let i = 0; i < rows.length; i++) {
      rows[i] = rows[i].map((value) => value / rows[i][i]);
      for (let other = 0; other < rows.length; other++) {
        const factor = rows[other][i];
        rows[other] = other === i ? rows[i] : rows[other].map((value, j) => value - factor * rows[i][j]);
      }
    }
    return rows.map((row) => row.slice(rows.length));
  }

  /** By power iteration; all eigenvalues are real and none is negative. */
  function largestEigenvalue(matrix) {
    let vector = matrix.map((_, i) => 1 + i);
    let length = 0;
    for (let round = 0; round < 1000; round++) {
      const image = matrix.map((row) => row.reduce((sum, value, k) => sum + value * vector[k], 0));
      length = Math.hypot(...image);
      vector = image.map((value) => value / length);
    }
    return length;
  }

  /** 10,000 steps at a rate from the same random W and b. Returns the losses made, W and b for inputs as drawn. */
  function descend({ x, y, centre }, rate) {
    const { uniform } = randomNumbers(SEED + 1);
    const weight = Float64Array.from({ length: 2 * INPUTS }, uniform);
    const bias = Float64Array.from({ length: 2 }, uniform);
    const losses = [];
    for (let i = 0; i < PAIRS; i++) {
      let loss = 0;
      const from = INPUTS * i;
      for (let k = 0; k < 2; k++) {
        const row = INPUTS * k;
        let error = bias[k] - y[2 * i + k];
        for (let j = 0; j < INPUTS; j++) {
          error += weight[row + j] * x[from + j];
        }
        loss += error * error;
        const move = 2 * rate * error;
        bias[k] -= move;
        for (let j = 0; j < INPUTS; j++) {
          weight[row + j] -= move * x[from + j];
        }
      }
      if (!Number.isFinite(loss)) {
        return { losses, step: i + 1 };
      }
      losses.push(loss);
    }
    for (let k = 0; k < 2; k++) {
      for (let j = 0; j < INPUTS; j++) {
        bias[k] -= weight[INPUTS * k + j] * centre[j];
      }
    }
    return { losses, step: null, weight, bias };
  }

  const drawn = {}; // the pairs of each choice, once they were needed

  function choice() {
    const kind = document.querySelector("input[name=inputs]:checked").value;
    drawn[kind] = drawn[kind] || drawPairs(kind);
    return { kind, pairs: drawn[kind] };
  }

  const largest = (values) => values.reduce((most, value) => Math.max(most, Math.abs(value)), 0);

  /** The mean of the last 100 losses at each step, of fewer at the start. */
  function runningMeans(losses) {
    return losses.map((_, i) => {
      const first = Math.max(0, i - 99);
      let sum = 0; // anew each time: a sum that is carried on never forgets a loss of 1e50
      for (let at = first; at <= i; at++) {
        sum += losses[at];
      }
      return sum / (i + 1 - first);
    });
  }

  /** What became of the 10,000 steps, in a sentence. */
  function verdict({ losses, step, weight, bias }) {
    if (step !== null) {
      return `It diverges: the loss overflows at step ${withCommas(step)}.`;
    }
    const last = losses.slice(-1000).reduce((sum, loss) => sum + loss, 0) / 1000;
    const since = runningMeans(losses).findLastIndex((mean) => mean <= losses[0]) + 2; // the first loss is its own mean
    if (since <= PAIRS) {
      return `It diverges: from step ${withCommas(since)} on the mean loss stays above the first one; after 10,000 steps ` +
        `it is ${rounded(last)}.`;
    }
    const errors = [largest(weight.map((value, i) => value - pageData.weight.flat()[i])),
      largest(bias.map((value, k) => value - pageData.bias[k]))];
    const where = `the last 1,000 losses have the mean ${rounded(last)}; W is within ${rounded(errors[0], 2)} of the ` +
      `truth, b within ${rounded(errors[1], 2)}.`;
    if (last < 5 * FLOOR) {
      return `It settles: ${where}`;
    }
    return last < 100 * FLOOR ? `It has not settled after 10,000 steps: ${where}` : `It is far from settled: ${where}`;
  }

  function show() {
    const rate = 10 ** Number(slider.value);
    const { kind, pairs } = choice();
    const run = descend(pairs, rate);
    find("rate-value").textContent = rounded(rate, 2);
    slider.setAttribute("aria-valuetext", `learning rate ${rounded(rate, 2)}`);
    find("rate-answer").textContent = verdict(run);
    find("rate-edge-value").textContent = rounded(pairs.edge, 3);
    find("rate-all-value").textContent = rounded(pairs.edgeOfAll, 3);
    find("rate-beyond").textContent = rate > pairs.edge ? "This rate is beyond the edge." : "This rate is below the edge.";
    const place = (Math.log10(pairs.edge) - Number(slider.min)) / (Number(slider.max) - Number(slider.min));
    find("rate-edge").style.setProperty("--place", Math.min(1, Math.max(0, place)));
    drawLosses(run.losses);
    return { kind, rate };
  }

  function drawLosses(losses) {
    const steps = losses.map((_, i) => i);
    const means = runningMeans(losses).map((mean) => Math.max(mean, 1e-12));
    const diverged = losses.at(-1) > 1e6;
    find("rate-mean").hidden = diverged;
    drawChart(chart, {
      curves: [
        { x: steps, y: losses.map((loss) => Math.max(loss, 1e-4)), colour: colour("--blue"), width: 1,
          alpha: diverged ? 1 : 0.4 },
        ...(diverged ? [] : [{ x: steps, y: means, colour: colour("--orange"), width: 2.5 }]),
      ],
      limits: { x: [0, losses.length < PAIRS ? losses.length : PAIRS], y: [1e-3, Math.max(1e4, largest(losses))] },
      level: { y: FLOOR, text: "0.08, the noise" },
    });
  }

  function changed() {
    const { kind, rate } = show();
    address.write({ inputs: kind, eta: rate.toPrecision(3) });
  }

  function readAddress() {
    const wanted = address.read();
    const input = document.querySelector(`input[name=inputs][value="${CSS.escape(wanted.get("inputs") || "printed")}"]`);
    if (input) {
      input.checked = true;
    }
    const rate = Number(wanted.get("eta"));
    slider.value = rate > 0 ? Math.log10(rate) : -2;
  }

  slider.addEventListener("input", changed);
  for (const input of document.querySelectorAll("input[name=inputs]")) {
    input.addEventListener("change", changed);
  }
  addEventListener("hashchange", () => {
    if (address.read().has("eta")) {
      readAddress();
      show();
    }
  });
  readAddress();
  redrawWhenNeeded(chart, show);
}

"use strict";
// The 2-2-3-2 network of the lecture: its outputs, its loss, its gradient steps, in float64 as JavaScript's numbers are.
// The page makes the same steps as the lecture's script, from the same start, so that its losses can be compared.
//
// The 23 weights stand in a Float64Array in PyTorch's order: layer 2's matrix row by row, its bias, then layer 3's and 4's.

const WEIGHTS = 23;

/** The sigmoid function. */
const sigmoid = (z) => 1 / (1 + Math.exp(-z));

/**
 * A network on points x = (x1, x2) with labels (1, 0) or (0, 1), as arrays of pairs.
 * Returns its functions; all take the weights.
 */
function makeNetwork(points, labels) {
  const count = points.length;
  const first = Float64Array.from(points, (point) => point[0]);
  const second = Float64Array.from(points, (point) => point[1]);
  const goal = Float64Array.from(labels, (label) => label[0]);

  /** The two outputs at (x1, x2). */
  function outputs(w, x1, x2) {
    const a1 = sigmoid(w[0] * x1 + w[1] * x2 + w[4]);
    const a2 = sigmoid(w[2] * x1 + w[3] * x2 + w[5]);
    const b1 = sigmoid(w[6] * a1 + w[7] * a2 + w[12]);
    const b2 = sigmoid(w[8] * a1 + w[9] * a2 + w[13]);
    const b3 = sigmoid(w[10] * a1 + w[11] * a2 + w[14]);
    return [
      sigmoid(w[15] * b1 + w[16] * b2 + w[17] * b3 + w[21]),
      sigmoid(w[18] * b1 + w[19] * b2 + w[20] * b3 + w[22]),
    ];
  }

  /** 1/10 of the sum over the ten points of 1/2 ||y - M(x)||^2. */
  function loss(w) {
    let sum = 0;
    for (let i = 0; i < count; i++) {
      const [c1, c2] = outputs(w, first[i], second[i]);
      sum += 0.5 * ((c1 - goal[i]) ** 2 + (c2 - (1 - goal[i])) ** 2);
    }
    return sum / count;
  }

  /** For each point, whether the output that its label names is the larger one. */
  function right(w) {
    return points.map(([x1, x2], i) => {
      const [c1, c2] = outputs(w, x1, x2);
      return c1 >= c2 === (goal[i] === 1);
    });
  }

  /**
   * Makes `steps` steps of gradient descent: every weight moves by -rate times the derivative of the loss, which is the
   * sum over the points divided by ten. `w` is changed in place.
   *
   * Everything is written out, so that the browser keeps weights and sums in registers: u, v, w are the matrices of the
   * layers 2, 3, 4 with the biases in column 0, du, dv, dw the sums of the derivatives.
   */
  function descend(weights, rate, steps) {
    let [u11, u12, u21, u22, u10, u20,
      v11, v12, v21, v22, v31, v32, v10, v20, v30,
      w11, w12, w13, w21, w22, w23, w10, w20] = weights;
    const factor = rate / count;
    for (let step = 0; step < steps; step++) {
      let du10 = 0, du11 = 0, du12 = 0, du20 = 0, du21 = 0, du22 = 0;
      let dv10 = 0, dv11 = 0, dv12 = 0, dv20 = 0, dv21 = 0, dv22 = 0, dv30 = 0, dv31 = 0, dv32 = 0;
      let dw10 = 0, dw11 = 0, dw12 = 0, dw13 = 0, dw20 = 0, dw21 = 0, dw22 = 0, dw23 = 0;
      for (let i = 0; i < count; i++) {
        const x1 = first[i], x2 = second[i], y = goal[i];
        // Forward: a, b, c are the values of the layers 2, 3, 4.
        const a1 = sigmoid(u11 * x1 + u12 * x2 + u10);
        const a2 = sigmoid(u21 * x1 + u22 * x2 + u20);
        const b1 = sigmoid(v11 * a1 + v12 * a2 + v10);
        const b2 = sigmoid(v21 * a1 + v22 * a2 + v20);
        const b3 = sigmoid(v31 * a1 + v32 * a2 + v30);
        const c1 = sigmoid(w11 * b1 + w12 * b2 + w13 * b3 + w10);
        const c2 = sigmoid(w21 * b1 + w22 * b2 + w23 * b3 + w20);
        // Backward: p, q, r are the loss's derivatives by the weighted inputs of the layers 4, 3, 2.
        const p1 = (c1 - y) * c1 * (1 - c1);
        const p2 = (c2 - (1 - y)) * c2 * (1 - c2);
        const q1 = (w11 * p1 + w21 * p2) * b1 * (1 - b1);
        const q2 = (w12 * p1 + w22 * p2) * b2 * (1 - b2);
        const q3 = (w13 * p1 + w23 * p2) * b3 * (1 - b3);
        const r1 = (v11 * q1 + v21 * q2 + v31 * q3) * a1 * (1 - a1);
        const r2 = (v12 * q1 + v22 * q2 + v32 * q3) * a2 * (1 - a2);
        du10 += r1; du11 += r1 * x1; du12 += r1 * x2;
        du20 += r2; du21 += r2 * x1; du22 += r2 * x2;
        dv10 += q1; dv11 += q1 * a1; dv12 += q1 * a2;
        dv20 += q2; dv21 += q2 * a1; dv22 += q2 * a2;
        dv30 += q3; dv31 += q3 * a1; dv32 += q3 * a2;
        dw10 += p1; dw11 += p1 * b1; dw12 += p1 * b2; dw13 += p1 * b3;
        dw20 += p2; dw21 += p2 * b1; dw22 += p2 * b2; dw23 += p2 * b3;
      }
      u10 -= factor * du10; u11 -= factor * du11; u12 -= factor * du12;
      u20 -= factor * du20; u21 -= factor * du21; u22 -= factor * du22;
      v10 -= factor * dv10; v11 -= factor * dv11; v12 -= factor * dv12;
      v20 -= factor * dv20; v21 -= factor * dv21; v22 -= factor * dv22;
      v30 -= factor * dv30; v31 -= factor * dv31; v32 -= factor * dv32;
      w10 -= factor * dw10; w11 -= factor * dw11; w12 -= factor * dw12; w13 -= factor * dw13;
      w20 -= factor * dw20; w21 -= factor * dw21; w22 -= factor * dw22; w23 -= factor * dw23;
    }
    weights.set([u11, u12, u21, u22, u10, u20,
      v11, v12, v21, v22, v31, v32, v10, v20, v30,
      w11, w12, w13, w21, w22, w23, w10, w20]);
  }

  /** The weights by PyTorch's names, as a state_dict has them. */
  function named(w) {
    const rows = (from, height, width) =>
      Array.from({ length: height }, (_, i) => Array.from(w.slice(from + i * width, from + (i + 1) * width)));
    return {
      "0.weight": rows(0, 2, 2), "0.bias": Array.from(w.slice(4, 6)),
      "2.weight": rows(6, 3, 2), "2.bias": Array.from(w.slice(12, 15)),
      "4.weight": rows(15, 2, 3), "4.bias": Array.from(w.slice(21, 23)),
    };
  }

  return { outputs, loss, right, descend, named };
}

/** Another start: 0.5 times standard normal numbers, as the lecture's script draws them, from the page's own seed. */
function drawWeights(seed) {
  const { normal } = randomNumbers(seed);
  return Float64Array.from({ length: WEIGHTS }, () => 0.5 * normal());
}

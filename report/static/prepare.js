"use strict";
// From ink to 28x28 pixels as MNIST's: the same as `as_mnist` in handwriting/find.py. The ink's bounding box is scaled so
// that its longer side has 20 pixels, and put into 28x28 with the centre of mass in the middle.
//
// A grid is {height, width, values}, its values row by row in a typed array.

/** 784 greys, ink 255 on 0; `ink` is a grid of shares of ink from 0 to 1. Null where there is no ink. */
const asMnist = (() => {
  const FIELD = 20; // pixels: the longer side of a digit
  const SIDE = 28; // of the image

  function asMnist(ink) {
    const box = boundingBox(ink);
    return box && centred(fitted(cutOut(ink, box)));
  }

  /** The rows and columns that have any ink, the last ones not included; null where there is none. */
  function boundingBox({ height, width, values }) {
    const box = { top: height, bottom: 0, left: width, right: 0 };
    for (let at = 0; at < values.length; at++) {
      if (values[at] > 0) {
        const x = at % width;
        const y = (at - x) / width;
        box.top = Math.min(box.top, y);
        box.bottom = Math.max(box.bottom, y + 1);
        box.left = Math.min(box.left, x);
        box.right = Math.max(box.right, x + 1);
      }
    }
    return box.bottom > 0 ? box : null;
  }

  function cutOut({ width, values }, { top, bottom, left, right }) {
    const grid = emptyGrid(bottom - top, right - left);
    for (let y = top; y < bottom; y++) {
      grid.values.set(values.subarray(y * width + left, y * width + right), (y - top) * grid.width);
    }
    return grid;
  }

  const emptyGrid = (height, width) => ({ height, width, values: new Float64Array(height * width) });

  /** Scaled so that the longer side has 20 pixels: the share of ink in each. */
  function fitted(grid) {
    const longest = Math.max(grid.height, grid.width);
    const [height, width] = [grid.height, grid.width].map((side) =>
      Math.max(1, Math.floor((FIELD * side) / longest + 0.5)));
    return transposed(areaMeans(transposed(areaMeans(grid, height)), width));
  }

  /** With `rows` rows, each the mean of the stretch of old rows that it covers, part of a row by its part. */
  function areaMeans({ height, width, values }, rows) {
    const result = emptyGrid(rows, width);
    const stretch = height / rows;
    for (let row = 0; row < rows; row++) {
      const [from, until] = [row * stretch, (row + 1) * stretch];
      for (let y = Math.floor(from); y < Math.min(height, Math.ceil(until)); y++) {
        const share = (Math.min(until, y + 1) - Math.max(from, y)) / stretch;
        for (let x = 0; x < width; x++) {
          result.values[row * width + x] += share * values[y * width + x];
        }
      }
    }
    return result;
  }

  function transposed({ height, width, values }) {
    const turned = emptyGrid(width, height);
    for (let y = 0, at = 0; y < height; y++) {
      for (let x = 0; x < width; x++, at++) {
        turned.values[x * height + y] = values[at];
      }
    }
    return turned;
  }

  /** In 28x28, with the centre of mass in the pixel (14, 14), counted from 0. */
  function centred({ height, width, values }) {
    const total = values.reduce((sum, value) => sum + value, 0);
    const corner = (size, place) => {
      const middle = values.reduce((moment, value, at) => moment + value * (place(at) + 0.5), 0) / total;
      const at = SIDE / 2 + 1 - middle + 1e-4; // so that no rounding decides about a whole number
      return Math.min(Math.max(Math.floor(at), 0), SIDE - size);
    };
    const top = corner(height, (at) => Math.floor(at / width));
    const left = corner(width, (at) => at % width);
    const image = new Uint8Array(SIDE * SIDE);
    values.forEach((value, at) => {
      image[(top + Math.floor(at / width)) * SIDE + left + (at % width)] = Math.floor(255 * value + 0.5);
    });
    return image;
  }

  return asMnist;
})();

"use strict";
// From a picture to 28x28 pixels as MNIST's: the same preparation as `prepare` in exercises/own_digit.py, step by step,
// under the same names. What each step is for stands there; here is how it is done without NumPy.
//
// A grid is {height, width, values}, its values row by row in a typed array.

/**
 * The digits in a picture from left to right, each {image, box}: 784 greys, ink bright on 0, and top, left, bottom, right in
 * the picture. `picture` is an ImageData.
 */
const prepareDigits = (() => {
  const LARGE = 800, SMALL = 200; // the longer side of the working picture
  const CELLS = 32; // along the longer side: squares whose mean colours show paper and desk
  const STROKE_CELLS = 5; // no stroke is as wide, no sheet of paper as narrow
  const DESK = 0.6; // a desk is darker than this share of the paper's brightness
  const PAPER_AT_EDGE = 0.2, PAPER_INSIDE = 0.3; // the least share of paper, if it reaches the picture's edge and if not
  const ROUNDS = 20; // of fitting the paper's light
  const LEAST_CONTRAST = 25; // of 255, between ink and paper
  const LINE = 9 / 800; // of the longer side: a ruled line is thinner
  const LINE_TILT = 0.08; // the steepest line
  const LINE_PARTS = 8, LINE_SHARE = 0.4; // in each of 8 parts of a line, 40 % of the columns have ink
  const SPECK_AREA = 0.03, SPECK_LENGTH = 0.2; // what is less is dust
  const LOW = 0.4, NEAR = 0.2; // what is lower is a part of a digit that is nearer
  const OVERLAP = 0.3; // components that share more of their columns are one digit
  const THINNEST = 0.11; // of a digit's longer side: the width of its strokes
  const FIELD = 20, SIDE = 28; // a digit fills 20x20 of 28x28

  function prepareDigits(picture) {
    const { colours, scale, transparent } = workingSize(picture);
    const nothing = emptyGrid(colours[0], Uint8Array);
    for (const desk of transparent ? [nothing] : [findDesk(colours), nothing]) {
      const mask = inkMask(blurred(contrast(colours, desk)), desk);
      const digits = digitsIn(withoutLines(mask), desk);
      if (digits.length) {
        return digits.map(({ digit, top, left }) => ({
          image: centred(fitted(thickened(digit))),
          box: [top, left, top + digit.height, left + digit.width].map((place) => Math.floor(place / scale)),
        }));
      }
    }
    return [];
  }

  const emptyGrid = ({ height, width }, Type) => ({ height, width, values: new Type(height * width) });

  const sum = (values) => values.reduce((total, value) => total + value, 0);

  /** numpy.rint: halves go to the even neighbour. */
  function rint(value) {
    const rounded = Math.round(value);
    return rounded - value === 0.5 && rounded % 2 !== 0 ? rounded - 1 : rounded;
  }

  // The picture, its colours, its size.

  /** Three grids of colours from 0 to 255, the longer side of 200 to 1200 pixels; opaque, on white or on black. */
  function workingSize(picture) {
    const { width, height, data } = picture;
    let light = 0;
    let opacity = 0;
    let transparent = false;
    for (let at = 0; at < data.length; at += 4) {
      transparent ||= data[at + 3] < 255;
      light += (data[at] + data[at + 1] + data[at + 2]) * data[at + 3];
      opacity += data[at + 3];
    }
    const paper = light > 3 * 127.5 * opacity ? 0 : 255;
    const longest = Math.max(width, height);
    const side = longest < SMALL ? 1 : Math.max(1, Math.floor((longest + LARGE / 2) / LARGE));
    let colours = [0, 1, 2].map((channel) => channelMeans(picture, channel, paper, side));
    let scale = 1 / side;
    if (longest < SMALL) {
      scale = Math.ceil(SMALL / longest);
      colours = colours.map((plane) => transposed(enlarged(transposed(enlarged(plane, scale)), scale)));
    }
    return { colours, scale, transparent };
  }

  /** The means of one colour over squares of `side` pixels; those at the right and lower edges may be smaller. */
  function channelMeans({ width, height, data }, channel, paper, side) {
    const means = emptyGrid({ height: Math.ceil(height / side), width: Math.ceil(width / side) }, Float64Array);
    for (let y = 0; y < height; y++) {
      const row = Math.floor(y / side) * means.width;
      for (let x = 0; x < width; x++) {
        const at = 4 * (y * width + x);
        const share = data[at + 3] / 255;
        means.values[row + Math.floor(x / side)] += data[at + channel] * share + paper * (1 - share);
      }
    }
    return divided(means, height, width, side);
  }

  /** Sums over squares of `side` pixels of a picture become means. */
  function divided(sums, height, width, side) {
    for (let row = 0, at = 0; row < sums.height; row++) {
      for (let column = 0; column < sums.width; column++, at++) {
        sums.values[at] /= Math.min(side, height - row * side) * Math.min(side, width - column * side);
      }
    }
    return sums;
  }

  function blockMeans({ height, width, values }, side) {
    const means = emptyGrid({ height: Math.ceil(height / side), width: Math.ceil(width / side) }, Float64Array);
    for (let y = 0, at = 0; y < height; y++) {
      for (let x = 0; x < width; x++, at++) {
        means.values[Math.floor(y / side) * means.width + Math.floor(x / side)] += values[at];
      }
    }
    return divided(means, height, width, side);
  }

  /** `times` as many rows, linear between the middles of the old ones, constant at the ends. */
  function enlarged({ height, width, values }, times) {
    const large = emptyGrid({ height: times * height, width }, Float64Array);
    for (let row = 0; row < large.height; row++) {
      const place = Math.min(Math.max((row + 0.5) / times - 0.5, 0), height - 1);
      const low = Math.floor(place);
      const high = Math.min(low + 1, height - 1);
      for (let x = 0; x < width; x++) {
        large.values[row * width + x] =
          values[low * width + x] * (1 - (place - low)) + values[high * width + x] * (place - low);
      }
    }
    return large;
  }

  function transposed({ height, width, values }) {
    const turned = { height: width, width: height, values: new values.constructor(values.length) };
    for (let y = 0, at = 0; y < height; y++) {
      for (let x = 0; x < width; x++, at++) {
        turned.values[x * height + y] = values[at];
      }
    }
    return turned;
  }

  function range(values) {
    let low = Infinity;
    let high = -Infinity;
    for (let i = 0; i < values.length; i++) {
      low = Math.min(low, values[i]);
      high = Math.max(high, values[i]);
    }
    return { low, high };
  }

  /** Otsu's threshold, on a histogram of 256 steps from the smallest value to the largest. */
  function otsu(values) {
    let { low, high } = range(values);
    if (low === high) {
      low -= 0.5;
      high += 0.5;
    }
    const counts = new Float64Array(256);
    for (const value of values) {
      counts[Math.min(255, Math.floor(((value - low) / (high - low)) * 256))] += 1;
    }
    const edge = (step) => low + (step / 256) * (high - low);
    const sums = counts.map((count, step) => (count * (edge(step) + edge(step + 1))) / 2);
    const all = { count: sum(counts), sum: sum(sums) };
    let below = 0;
    let sumBelow = 0;
    let best = -1;
    let threshold = 0;
    for (let step = 0; step < 256; step++) {
      below += counts[step];
      sumBelow += sums[step];
      const above = all.count - below;
      const apart = sumBelow / Math.max(below, 1) - (all.sum - sumBelow) / Math.max(above, 1);
      const between = below * above * apart ** 2;
      if (between > best) {
        best = between;
        threshold = edge(step + 1);
      }
    }
    return threshold;
  }

  // The desk.

  const cellSide = ([{ height, width }]) => Math.ceil(Math.max(height, width) / CELLS);

  /** A grid of 2 on a dark desk around the paper, 1 near its edge, 0 elsewhere. */
  function findDesk(colours) {
    const side = cellSide(colours);
    const desk = emptyGrid(colours[0], Uint8Array);
    const grey = emptyGrid(colours[0], Float64Array);
    grey.values.forEach((_, at) => {
      grey.values[at] = (colours[0].values[at] + colours[1].values[at] + colours[2].values[at]) / 3;
    });
    const cells = blockMeans(grey, side);
    const limit = otsu(cells.values);
    let paper = { ...cells, values: Uint8Array.from(cells.values, (value) => (value > limit ? 1 : 0)) };
    const half = (STROKE_CELLS - 1) / 2;
    for (const extreme of [Math.max, Math.min, Math.min, Math.max]) {
      paper = filtered(paper, half, extreme);
    }
    const share = sum(paper.values) / paper.values.length;
    const onEdge = edgePlaces(paper);
    const least = onEdge.some((at) => paper.values[at]) ? PAPER_AT_EDGE : PAPER_INSIDE;
    const mean = (kind) => {
      const chosen = cells.values.filter((_, at) => paper.values[at] === kind);
      return sum(chosen) / chosen.length;
    };
    if (share < least || share === 1 || mean(0) >= DESK * mean(1)) {
      return desk;
    }
    const { label } = components({ ...paper, values: paper.values.map((value) => 1 - value) }, false);
    const reached = new Set(onEdge.map((at) => label[at]).filter(Boolean));
    const dark = { ...paper, values: Uint8Array.from(label, (number) => (reached.has(number) ? 1 : 0)) };
    const wide = filtered(dark, 1, Math.max);
    const narrow = filtered(dark, 1, Math.min);
    for (let y = 0, at = 0; y < desk.height; y++) {
      for (let x = 0; x < desk.width; x++, at++) {
        const cell = Math.floor(y / side) * cells.width + Math.floor(x / side);
        desk.values[at] = wide.values[cell] + narrow.values[cell];
      }
    }
    return desk;
  }

  /** The largest or smallest value of the square around each place, as far as it lies in the grid. */
  function filtered({ height, width, values }, half, extreme) {
    const result = emptyGrid({ height, width }, values.constructor);
    for (let y = 0, at = 0; y < height; y++) {
      for (let x = 0; x < width; x++, at++) {
        let found = values[at];
        for (let row = Math.max(0, y - half); row <= Math.min(height - 1, y + half); row++) {
          for (let column = Math.max(0, x - half); column <= Math.min(width - 1, x + half); column++) {
            found = extreme(found, values[row * width + column]);
          }
        }
        result.values[at] = found;
      }
    }
    return result;
  }

  function edgePlaces({ height, width }) {
    const places = [];
    for (let at = 0; at < height * width; at++) {
      const x = at % width;
      if (at < width || at >= (height - 1) * width || x === 0 || x === width - 1) {
        places.push(at);
      }
    }
    return places;
  }

  /** Components of a mask: the number of each place's, from 1 in the order of their first places, 0 outside; their count. */
  function components({ height, width, values }, corners) {
    const label = new Int32Array(values.length);
    const waiting = [];
    let count = 0;
    for (let start = 0; start < values.length; start++) {
      if (!values[start] || label[start]) {
        continue;
      }
      count += 1;
      label[start] = count;
      waiting.push(start);
      while (waiting.length) {
        const at = waiting.pop();
        const x = at % width;
        const y = (at - x) / width;
        for (let dy = -1; dy <= 1; dy++) {
          for (let dx = -1; dx <= 1; dx++) {
            const inside = x + dx >= 0 && x + dx < width && y + dy >= 0 && y + dy < height;
            const next = at + dy * width + dx;
            if (inside && (corners || dx === 0 || dy === 0) && values[next] && !label[next]) {
              label[next] = count;
              waiting.push(next);
            }
          }
        }
      }
    }
    return { label, count };
  }

  // The paper's light, and the ink.

  /** The terms 1, x, y, x^2, xy, y^2 at a place; x and y run from -1 to 1. */
  function polynomial(row, column, { height, width }) {
    const y = (2 * row) / height - 1;
    const x = (2 * column) / width - 1;
    return [1, x, y, x * x, x * y, y * y];
  }

  /** A colour of the paper's light from the terms at a place and the six factors of that colour. */
  const lightAt = (t, f) => f[0] * t[0] + f[1] * t[1] + f[2] * t[2] + f[3] * t[3] + f[4] * t[4] + f[5] * t[5];

  /** The paper's light: for each colour the six factors of its polynomial. */
  function paperLight(colours, desk) {
    const side = cellSide(colours);
    const cells = colours.map((plane) => blockMeans(plane, side));
    const { height, width } = cells[0];
    const seen = blockMeans(desk, side).values; // 0 where no desk is
    const places = [...seen.keys()].filter((at) => seen[at] === 0);
    const values = cells.map((plane) => Float64Array.from(places, (at) => plane.values[at])); // of each colour
    const terms = places.map((at) =>
      polynomial((Math.floor(at / width) + 0.5) * side, ((at % width) + 0.5) * side, colours[0]));
    const onEdge = new Set(edgePlaces({ height, width }));
    const atEdge = [...places.keys()].filter((i) => onEdge.has(places[i]));
    let factors = values.map((numbers) => // at first the same colour everywhere
      [median(atEdge.length ? atEdge.map((i) => numbers[i]) : numbers), 0, 0, 0, 0, 0]);
    const distance = new Float64Array(places.length);
    for (let round = 0; round < ROUNDS; round++) {
      distance.fill(0);
      for (let k = 0; k < 3; k++) {
        for (let i = 0; i < distance.length; i++) {
          distance[i] += (values[k][i] - lightAt(terms[i], factors[k])) ** 2;
        }
      }
      const quarter = Math.max(Math.sqrt(distance.slice().sort()[Math.floor(distance.length / 4)]), 1);
      factors = leastSquares(terms, values, distance.map((square) => 1 / (1 + square / quarter ** 2)));
    }
    return factors;
  }

  function median(numbers) {
    const sorted = Float64Array.from(numbers).sort();
    const middle = sorted.length / 2;
    return sorted.length % 2 ? sorted[Math.floor(middle)] : (sorted[middle - 1] + sorted[middle]) / 2;
  }

  /** Weighted least squares for each colour, by the normal equations with 1e-6 on their diagonal. */
  function leastSquares(terms, values, weights) {
    const size = 6;
    const rows = Array.from({ length: size }, (_, i) => new Float64Array(size + 3).fill(1e-6, i, i + 1));
    for (let i = 0; i < size; i++) {
      const row = rows[i];
      for (let at = 0; at < weights.length; at++) {
        const term = terms[at];
        const weighted = weights[at] * term[i];
        for (let j = 0; j < size; j++) {
          row[j] += weighted * term[j];
        }
        row[size] += weighted * values[0][at];
        row[size + 1] += weighted * values[1][at];
        row[size + 2] += weighted * values[2][at];
      }
    }
    for (let i = 0; i < size; i++) { // Gauss and Jordan's elimination; the matrix is positive definite
      rows[i] = rows[i].map((value) => value / rows[i][i]);
      for (let other = 0; other < size; other++) {
        if (other !== i) {
          const factor = rows[other][i];
          rows[other] = rows[other].map((value, j) => value - factor * rows[i][j]);
        }
      }
    }
    return [0, 1, 2].map((k) => rows.map((row) => row[size + k]));
  }

  /** How much ink is at each place: about 0 on paper, whatever the colours of ink and paper. */
  function contrast(colours, desk) {
    const { height, width } = colours[0];
    const [red, green, blue] = differences(colours, paperLight(colours, desk));
    let [x, y, z] = [0, 0, 0]; // the direction of colour in which ink differs from paper
    for (let at = 0; at < height * width; at++) {
      if (desk.values[at] === 0) {
        const far = red[at] ** 2 + green[at] ** 2 + blue[at] ** 2;
        x += far * red[at];
        y += far * green[at];
        z += far * blue[at];
      }
    }
    const length = Math.max(Math.hypot(x, y, z), 1e-9);
    [x, y, z] = [x / length, y / length, z / length];
    const ink = emptyGrid({ height, width }, Float64Array);
    for (let at = 0; at < height * width; at++) {
      ink.values[at] = desk.values[at] === 2 ? 255 : x * red[at] + y * green[at] + z * blue[at];
    }
    return ink;
  }

  /** What each colour differs from the paper's light; on bright paper in proportion to that light. */
  function differences(colours, factors) {
    const { height, width } = colours[0];
    const difference = colours.map((plane) => plane.values.slice());
    const grey = new Float64Array(height * width);
    let total = 0;
    for (let y = 0, at = 0; y < height; y++) {
      for (let x = 0; x < width; x++, at++) {
        const terms = polynomial(y + 0.5, x + 0.5, colours[0]);
        for (let k = 0; k < 3; k++) {
          const light = lightAt(terms, factors[k]);
          difference[k][at] -= light;
          grey[at] += light / 3;
        }
        total += grey[at];
      }
    }
    if (total / grey.length > 127.5) {
      for (const values of difference) {
        for (let at = 0; at < values.length; at++) {
          values[at] *= 255 / Math.max(32, grey[at]);
        }
      }
    }
    return difference;
  }

  /** Blurred slightly, with the weights 1 4 6 4 1 along both axes. */
  const blurred = (grid) => transposed(blurredRows(transposed(blurredRows(grid))));

  function blurredRows({ height, width, values }) {
    const result = emptyGrid({ height, width }, Float64Array);
    const weights = [1, 4, 6, 4, 1];
    for (let y = 0, at = 0; y < height; y++) {
      for (let x = 0; x < width; x++, at++) {
        let total = 0;
        for (let k = -2; k <= 2; k++) {
          total += (weights[k + 2] / 16) * values[y * width + Math.min(Math.max(x + k, 0), width - 1)];
        }
        result.values[at] = total;
      }
    }
    return result;
  }

  /** Where there is ink: above Otsu's threshold; nowhere if that is too close to the paper. */
  function inkMask(ink, desk) {
    const mask = emptyGrid(ink, Uint8Array);
    const values = ink.values.filter((_, at) => desk.values[at] === 0);
    const { low, high } = range(values);
    if (!(high - low >= LEAST_CONTRAST)) {
      return mask;
    }
    const limit = otsu(values);
    const sums = [0, 0];
    const counts = [0, 0];
    for (const value of values) {
      const above = value > limit ? 1 : 0;
      sums[above] += value;
      counts[above] += 1;
    }
    if (sums[1] / counts[1] - sums[0] / counts[0] >= LEAST_CONTRAST) {
      for (let at = 0; at < mask.values.length; at++) {
        mask.values[at] = ink.values[at] > limit ? 1 : 0;
      }
    }
    return mask;
  }

  // The lines of ruled and squared paper.

  const withoutLines = (mask) => transposed(withoutRows(transposed(withoutRows(mask))));

  /** The mask without thin, straight, nearly level lines from the left edge to the right. */
  function withoutRows(mask) {
    const { height, width, values } = mask;
    if (width < height / 2) { // a narrow strip: strokes may reach from edge to edge
      return mask;
    }
    const thin = thinPlaces(mask);
    if (thin.length < LINE_SHARE * width) {
      return mask;
    }
    const dilated = [];
    for (let at = 0; at < values.length; at++) {
      if (values[at] || values[at - width] || values[at + width]) {
        dilated.push(at);
      }
    }
    const most = Math.floor((LINE_TILT * width) / 2); // pixels that a line rises from the middle to the edge
    const rest = values.slice();
    for (let rise = -most; rise <= most; rise += 2) {
      const slope = (2 * rise) / width;
      const crossing = (at) => rint(Math.floor(at / width) - slope * ((at % width) - width / 2)) + most;
      const lines = linesAt(dilated, crossing, slope, mask, most);
      for (const at of thin) {
        const row = crossing(at);
        if (lines[row - 2] || lines[row - 1] || lines[row] || lines[row + 1] || lines[row + 2]) {
          rest[at] = 0;
        }
      }
    }
    return { height, width, values: rest };
  }

  /** Where ink ends soon above and below. */
  function thinPlaces({ height, width, values }) {
    const thickest = Math.max(2, rint(LINE * Math.max(height, width)));
    const places = [];
    for (let x = 0; x < width; x++) {
      for (let y = 0; y < height; y++) {
        const top = y;
        while (y < height && values[y * width + x]) {
          y += 1;
        }
        for (let row = top; row < y && y - top <= thickest; row++) {
          places.push(row * width + x);
        }
      }
    }
    return places;
  }

  /** Which rows are lines at a tilt: each eighth of them whose middle lies in the picture has ink in enough columns. */
  function linesAt(places, crossing, slope, { height, width }, most) {
    const count = height + 2 * most;
    const counts = new Int32Array(count * LINE_PARTS);
    for (const at of places) {
      counts[crossing(at) * LINE_PARTS + Math.floor(((at % width) * LINE_PARTS) / width)] += 1;
    }
    return Array.from({ length: count }, (_, row) => {
      let parts = 0;
      for (let part = 0; part < LINE_PARTS; part++) {
        const level = row - most + slope * (((part + 0.5) * width) / LINE_PARTS - width / 2);
        if (level >= 0 && level < height) {
          parts += 1;
          if (counts[row * LINE_PARTS + part] < (LINE_SHARE * width) / LINE_PARTS) {
            return false;
          }
        }
      }
      return parts > 0;
    });
  }

  // The digits.

  /** The digits from left to right, each {digit, top, left}: its mask, and its place. */
  function digitsIn(mask, desk) {
    const { label, count } = components(mask, true);
    const parts = partsOf(label, count, mask.width, desk);
    if (!parts.length) {
      return [];
    }
    const tallest = Math.max(...parts.map((part) => part.height));
    const largest = Math.max(...parts.map((part) => part.area));
    const kept = parts.filter((part) => part.length >= SPECK_LENGTH * tallest && part.area >= SPECK_AREA * largest);
    kept.sort((a, b) => a.left - b.left || a.right - b.right || a.height - b.height || a.number - b.number);
    const groups = [];
    for (const { left, right, height, number } of kept.filter((part) => part.height >= LOW * tallest)) {
      const last = groups.at(-1);
      if (last && Math.min(right, last.right) - left > OVERLAP * Math.min(right - left, last.right - last.left)) {
        last.right = Math.max(right, last.right);
        last.numbers.push(number);
      } else {
        groups.push({ left, right, height, numbers: [number] });
      }
    }
    for (const { left, right, number } of kept.filter((part) => part.height < LOW * tallest)) {
      const gaps = groups.map((group) => Math.max(left, group.left) - Math.min(right, group.right));
      const least = Math.min(...gaps);
      if (least < NEAR * tallest) {
        groups[gaps.indexOf(least)].numbers.push(number);
      }
    }
    return groups.map(({ numbers }) => cutOut(label, mask.width, new Set(numbers)));
  }

  /** Of each component that does not reach onto the desk: number, left, right, height, longer side, area. */
  function partsOf(label, count, width, desk) {
    const parts = Array.from({ length: count }, (_, i) => ({
      number: i + 1, left: Infinity, right: 0, top: Infinity, bottom: 0, area: 0, onDesk: false,
    }));
    label.forEach((number, at) => {
      if (number) {
        const part = parts[number - 1];
        const x = at % width;
        const y = (at - x) / width;
        part.left = Math.min(part.left, x);
        part.right = Math.max(part.right, x + 1);
        part.top = Math.min(part.top, y);
        part.bottom = Math.max(part.bottom, y + 1);
        part.area += 1;
        part.onDesk ||= desk.values[at] === 2;
      }
    });
    for (const part of parts) {
      part.height = part.bottom - part.top;
      part.length = Math.max(part.height, part.right - part.left);
    }
    return parts.filter((part) => !part.onDesk);
  }

  function cutOut(label, width, numbers) {
    const places = [];
    for (let at = 0; at < label.length; at++) {
      if (label[at] && numbers.has(label[at])) {
        places.push(at);
      }
    }
    const columns = places.map((at) => at % width);
    const [left, right] = [columns.reduce((a, b) => Math.min(a, b)), columns.reduce((a, b) => Math.max(a, b)) + 1];
    const top = Math.floor(places[0] / width);
    const bottom = Math.floor(places.at(-1) / width) + 1;
    const digit = emptyGrid({ height: bottom - top, width: right - left }, Uint8Array);
    places.forEach((at, i) => {
      digit.values[(Math.floor(at / width) - top) * digit.width + columns[i] - left] = 1;
    });
    return { digit, top, left };
  }

  const padded = ({ height, width, values }, by) => {
    const large = emptyGrid({ height: height + 2 * by, width: width + 2 * by }, values.constructor);
    for (let y = 0; y < height; y++) {
      large.values.set(values.subarray(y * width, (y + 1) * width), (y + by) * large.width + by);
    }
    return large;
  };

  /** About how wide a mask's strokes are: a long band of width w has the area w times half its outline. */
  function strokeWidth(digit) {
    const { height, width, values } = padded(digit, 1);
    let edges = 0;
    for (let y = 0, at = 0; y < height; y++) {
      for (let x = 0; x < width; x++, at++) {
        edges += x + 1 < width && values[at] !== values[at + 1] ? 1 : 0;
        edges += y + 1 < height && values[at] !== values[at + width] ? 1 : 0;
      }
    }
    return (2 * sum(digit.values)) / ((edges * Math.PI) / 4);
  }

  /** The mask with strokes at least THINNEST of its longer side wide: pixels within a radius of the ink become ink. */
  function thickened(digit) {
    const longest = Math.max(digit.height, digit.width);
    const radius = (THINNEST * longest - strokeWidth(digit)) / (2 - 2 * THINNEST);
    if (radius <= 0.5) {
      return digit;
    }
    const reach = Math.floor(radius);
    const { height, width, values } = padded(digit, reach);
    const result = emptyGrid({ height, width }, Uint8Array);
    for (let y = 0, at = 0; y < height; y++) {
      for (let x = 0; x < width; x++, at++) {
        if (values[at]) {
          for (let dy = -reach; dy <= reach; dy++) {
            const half = Math.floor(Math.sqrt(radius * radius - dy * dy));
            const from = at + dy * width; // the pad is as wide as the reach, so that this stays inside
            result.values.fill(1, from - half, from + half + 1);
          }
        }
      }
    }
    return result;
  }

  /** Scaled so that its longer side has 20 pixels: the share of ink in each, 0 to 1. */
  function fitted(digit) {
    const longest = Math.max(digit.height, digit.width);
    const [height, width] = [digit.height, digit.width].map((side) =>
      Math.max(1, Math.floor((FIELD * side) / longest + 0.5)));
    const numbers = { ...digit, values: Float64Array.from(digit.values) };
    return transposed(areaMeans(transposed(areaMeans(numbers, height)), width));
  }

  /** With `rows` rows, each the mean of the stretch of old rows that it covers, part of a row by its part. */
  function areaMeans({ height, width, values }, rows) {
    const result = emptyGrid({ height: rows, width }, Float64Array);
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

  /** 28x28 greys, ink 255, with the centre of mass in the pixel (14, 14), counted from 0. */
  function centred(small) {
    const image = new Uint8Array(SIDE * SIDE);
    const total = sum(small.values);
    const corner = (size, place) => {
      const middle = small.values.reduce((moment, value, at) => moment + value * (place(at) + 0.5), 0) / total;
      return Math.min(Math.max(Math.floor(SIDE / 2 + 1 - middle), 0), SIDE - size);
    };
    const top = corner(small.height, (at) => Math.floor(at / small.width));
    const left = corner(small.width, (at) => at % small.width);
    small.values.forEach((value, at) => {
      const row = Math.floor(at / small.width);
      image[(top + row) * SIDE + left + (at % small.width)] = Math.floor(255 * value + 0.5);
    });
    return image;
  }

  return prepareDigits;
})();

"use strict";
// Drawing: a canvas in the screen's own resolution, the colours of the theme, a chart with a logarithmic axis.

/** A colour of the theme by its name in page.css, such as "--blue". */
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** Makes a canvas as fine as the screen; returns its context, scaled so that one unit is a CSS pixel, and its size. */
function prepareCanvas(canvas) {
  const ratio = window.devicePixelRatio || 1;
  const width = canvas.clientWidth;
  const height = canvas.clientHeight;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const pen = canvas.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  return { pen, width, height };
}

/** The size of the page's letters in CSS pixels, which is larger on a projector; drawings keep to it. */
const letter = () => parseFloat(getComputedStyle(document.documentElement).fontSize);

/** Sets the pen to the page's type, in the size of captions. */
function setType(pen) {
  pen.font = `${0.76 * letter()}px ${getComputedStyle(document.body).fontFamily}`;
}

/** Calls `draw` when what it drew no longer fits: another size, theme or medium. */
function redrawWhenNeeded(canvas, draw) {
  new ResizeObserver(draw).observe(canvas);
  for (const query of ["(prefers-color-scheme: dark)", "print"]) {
    matchMedia(query).addEventListener("change", draw);
  }
}

const powerOfTen = (exponent) => {
  const raised = String(exponent).replace(/[-\d]/g, (sign) => "⁰¹²³⁴⁵⁶⁷⁸⁹⁻"[sign === "-" ? 10 : Number(sign)]);
  return exponent >= -3 && exponent <= 3 ? String(Number(`1e${exponent}`)) : `10${raised}`;
};

/**
 * A chart of positive values against steps, its height logarithmic.
 *
 * curves: {x, y, colour, width, alpha} with arrays x and y; x of each is sorted.
 * limits: {x: [low, high], y: [low, high]}; logSteps: the steps on a logarithmic scale too (then low is at least 1).
 * level: {y, text}, a dashed line. mark: {x, y}, a dot.
 */
function drawChart(canvas, { curves, limits, logSteps = false, level = null, mark = null }) {
  const { pen, width, height } = prepareCanvas(canvas);
  const unit = letter();
  const box = { left: 3.2 * unit, right: width - 0.8 * unit, top: 0.7 * unit, bottom: height - 2.4 * unit };
  const scale = logSteps ? Math.log10 : (step) => step;
  const [x0, x1] = limits.x.map(scale);
  const [y0, y1] = [Math.floor(Math.log10(limits.y[0])), Math.ceil(Math.log10(limits.y[1]))];
  const across = (step) => box.left + ((scale(step) - x0) / (x1 - x0 || 1)) * (box.right - box.left);
  const up = (value) => box.bottom - ((Math.log10(value) - y0) / (y1 - y0 || 1)) * (box.bottom - box.top);

  pen.fillStyle = colour("--panel");
  pen.fillRect(0, 0, width, height);
  drawAxes(pen, box, width, { across, up, exponents: [y0, y1], steps: limits.x, logSteps });
  pen.save();
  pen.beginPath();
  pen.rect(box.left, box.top, box.right - box.left, box.bottom - box.top);
  pen.clip();
  for (const curve of curves) {
    drawCurve(pen, curve, across, up);
  }
  if (level) {
    drawLevel(pen, box, up(level.y), level.text);
  }
  pen.restore();
  if (mark) {
    pen.fillStyle = colour("--text");
    pen.beginPath();
    pen.arc(across(mark.x), up(mark.y), 0.3 * unit, 0, 2 * Math.PI);
    pen.fill();
  }
}

/** The frame, the lines of the powers of ten, and the numbers beside them. */
function drawAxes(pen, box, width, { across, up, exponents, steps, logSteps }) {
  const unit = letter();
  setType(pen);
  pen.fillStyle = colour("--soft");
  pen.strokeStyle = colour("--line");
  pen.lineWidth = 1;
  pen.textBaseline = "middle";
  pen.textAlign = "right";
  const jump = roundStep((exponents[1] - exponents[0]) / 7);
  for (let exponent = Math.ceil(exponents[0] / jump) * jump; exponent <= exponents[1]; exponent += jump) {
    const y = Math.round(up(10 ** exponent)) + 0.5;
    strokeLine(pen, box.left, y, box.right, y);
    pen.fillText(powerOfTen(exponent), box.left - 6, y);
  }
  pen.textBaseline = "top";
  const parts = (box.right - box.left) / (5 * unit); // that have room for a number each
  for (const tick of logSteps ? powersBetween(steps) : multiplesUpTo(steps[1], Math.min(5, parts))) {
    const x = Math.round(across(tick)) + 0.5;
    strokeLine(pen, x, box.top, x, box.bottom);
    pen.textAlign = x > box.right - unit ? "right" : "center";
    const text = logSteps ? powerOfTen(Math.round(Math.log10(tick))) : withCommas(tick);
    pen.fillText(text, Math.min(x, width), box.bottom + 0.35 * unit);
  }
  pen.textAlign = "center";
  pen.fillText("steps", (box.left + box.right) / 2, box.bottom + 1.35 * unit);
  pen.save();
  pen.translate(0.55 * unit, (box.top + box.bottom) / 2);
  pen.rotate(-Math.PI / 2);
  pen.textBaseline = "middle";
  pen.fillText("loss", 0, 0);
  pen.restore();
}

/** The smallest of 1, 2, 5, 10, 20, 50, ... that is not smaller than `least`. */
function roundStep(least) {
  for (let power = 1; ; power *= 10) {
    const step = [1, 2, 5].find((factor) => factor * power >= least);
    if (step) {
      return step * power;
    }
  }
}

function multiplesUpTo(high, parts) {
  const step = roundStep(high / parts);
  return Array.from({ length: Math.floor(high / step) + 1 }, (_, i) => i * step);
}

function powersBetween([low, high]) {
  const powers = [];
  for (let power = 1; power <= high; power *= 10) {
    if (power >= low) {
      powers.push(power);
    }
  }
  return powers;
}

function strokeLine(pen, x0, y0, x1, y1) {
  pen.beginPath();
  pen.moveTo(x0, y0);
  pen.lineTo(x1, y1);
  pen.stroke();
}

/** A curve; points that fall into one half pixel are drawn as the line between their extremes. */
function drawCurve(pen, curve, across, up) {
  pen.strokeStyle = curve.colour;
  pen.lineWidth = curve.width || 2;
  pen.globalAlpha = curve.alpha ?? 1;
  pen.lineJoin = "round";
  pen.beginPath();
  for (let i = 0; i < curve.x.length;) {
    const x = across(curve.x[i]);
    let low = curve.y[i];
    let high = curve.y[i];
    let next = i + 1;
    while (next < curve.x.length && across(curve.x[next]) < x + 0.5) {
      low = Math.min(low, curve.y[next]);
      high = Math.max(high, curve.y[next]);
      next += 1;
    }
    pen.lineTo(x, up(high));
    pen.lineTo(x, up(low));
    i = next;
  }
  pen.stroke();
  pen.globalAlpha = 1;
}

function drawLevel(pen, box, y, text) {
  pen.strokeStyle = colour("--text");
  pen.fillStyle = colour("--text");
  pen.setLineDash([6, 4]);
  strokeLine(pen, box.left, y, box.right, y);
  pen.setLineDash([]);
  pen.textAlign = "right";
  pen.textBaseline = "bottom";
  pen.strokeStyle = colour("--panel");
  pen.lineWidth = 4;
  pen.strokeText(text, box.right - 4, y - 3);
  pen.fillText(text, box.right - 4, y - 3);
}

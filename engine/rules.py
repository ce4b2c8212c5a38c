"""The operations that the engine knows, each with its derivative beside it.

A value is a list of Vectors, one for each feature; a matrix of parameters is a list of such lists,
its rows. A rule takes the operands (a number is a list of one) and returns the result and, for each
operand, a function that turns dL/d(result) into dL/d(operand). The derivative with respect to a
weight is a product at each point, to be summed over the points; the function returns the pair of
its factors.
"""

from engine.vector import LANES, Vector, dot, fma, where

import math
from collections.abc import Callable
from typing import Any

Value = list[Any]  # of Vectors, or of rows
Rule = Callable[..., tuple[Value, list[Callable[[Value], Value]]]]
RULES: dict[str, Rule] = {}
_INTEGERS = f"<{LANES} x i64>"


def rule(function: Rule) -> Rule:
    """Adds a rule to RULES, under PyTorch's name for the operation."""
    RULES[function.__name__.rstrip("_")] = function
    return function


# Layers.


@rule
def linear(x: Value, w: Value, b: Value | None = None) -> tuple[Value, list]:
    """z_i = sum_j w_ij x_j + b_i."""
    z = [dot(row, x, bias) for row, bias in zip(w, b or [None] * len(w))]
    return z, [
        lambda d: [dot(column, d) for column in zip(*w)],
        lambda d: [[(delta, value) for value in x] for delta in d],
        lambda d: d,
    ]


@rule
def matmul(x: Value, w: Value) -> tuple[Value, list]:
    """z_j = sum_i x_i w_ij."""
    return [dot(column, x) for column in zip(*w)], [
        lambda d: [dot(row, d) for row in w],
        lambda d: [[(delta, value) for delta in d] for value in x],
    ]


@rule
def t(w: Value) -> tuple[Value, list]:
    """The transposed matrix."""
    return transposed(w), [transposed]


def transposed(rows: Value) -> Value:
    return [list(column) for column in zip(*rows)]


# Functions of one number.


@rule
def sigmoid(x: Value) -> tuple[Value, list]:
    """s = 1 / (1 + exp(-x)), ds/dx = s (1 - s)."""
    s = [below / (above + below) for above, below in (exponential(v, -1.0) for v in x)]
    return s, [lambda d: [delta * fma(-v, v, v) for delta, v in zip(d, s)]]


@rule
def tanh(x: Value) -> tuple[Value, list]:
    """t = (1 - exp(-2 x)) / (1 + exp(-2 x)), dt/dx = 1 - t^2."""
    fractions = [exponential(v, -2.0) for v in x]
    t = [(below - above) / (above + below) for above, below in fractions]
    return t, [lambda d: [delta * fma(-v, v, 1.0) for delta, v in zip(d, t)]]


@rule
def relu(x: Value) -> tuple[Value, list]:
    """max(x, 0), whose derivative at 0 is taken as 0; a NaN stays a NaN."""
    return [where(v < 0.0, 0.0, v) for v in x], [
        lambda d: [where(v > 0.0, delta, 0.0) for delta, v in zip(d, x)]
    ]


@rule
def abs_(x: Value) -> tuple[Value, list]:
    """|x|, whose derivative at 0 is taken as 0."""
    return [where(v < 0.0, -v, v) for v in x], [
        lambda d: [where(v > 0.0, g, where(v < 0.0, -g, 0.0)) for g, v in zip(d, x)]
    ]


@rule
def exp(x: Value) -> tuple[Value, list]:
    """exp(x) = exp(x / 2)^2, so that it can overflow and underflow."""
    roots = [above / below for above, below in (exponential(v, 0.5, limit=400) for v in x)]
    e = [root * root for root in roots]
    return e, [lambda d: [delta * v for delta, v in zip(d, e)]]


@rule
def log(x: Value) -> tuple[Value, list]:
    """The natural logarithm, dlog(x)/dx = 1 / x."""
    return [logarithm(v) for v in x], [lambda d: [delta / v for delta, v in zip(d, x)]]


@rule
def square(x: Value) -> tuple[Value, list]:
    """x^2, with the derivative 2 x."""
    return [v * v for v in x], [lambda d: [(delta * 2.0) * v for delta, v in zip(d, x)]]


@rule
def cube(x: Value) -> tuple[Value, list]:
    """x^3, with the derivative 3 x^2."""
    return [v * v * v for v in x], [lambda d: [delta * 3.0 * v * v for delta, v in zip(d, x)]]


@rule
def neg(x: Value) -> tuple[Value, list]:
    return [-v for v in x], [lambda d: [-delta for delta in d]]


# Elementwise functions of two operands; a number or a single feature is broadcast.


def elementwise(value: Callable, by_x: Callable, by_y: Callable) -> Rule:
    """The rule of f(x, y), given f, d * df/dx and d * df/dy."""

    def apply(x: Value, y: Value) -> tuple[Value, list]:
        width = max(len(x), len(y))
        xs, ys = (v * width if len(v) == 1 else v for v in (x, y))

        def backward(by: Callable, operand: Value) -> Callable[[Value], Value]:
            def derivative(d: Value) -> Value:
                found = [by(delta, a, b) for delta, a, b in zip(d, xs, ys)]
                return found if len(operand) == width else [sum(found[1:], found[0])]

            return derivative

        return [value(a, b) for a, b in zip(xs, ys)], [backward(by_x, x), backward(by_y, y)]

    return apply


RULES["add"] = elementwise(lambda a, b: a + b, lambda d, a, b: d, lambda d, a, b: d)
RULES["sub"] = elementwise(lambda a, b: a - b, lambda d, a, b: d, lambda d, a, b: -d)
RULES["mul"] = elementwise(lambda a, b: a * b, lambda d, a, b: d * b, lambda d, a, b: d * a)
RULES["div"] = elementwise(
    lambda a, b: a / b, lambda d, a, b: d / b, lambda d, a, b: -(d * a) / (b * b)
)


@rule
def sum_(x: Value) -> tuple[Value, list]:
    """The sum over the features."""
    return [sum(x[1:], x[0])], [lambda d: d * len(x)]


# exp and log of Vectors, with the same bits on every processor.


# 2^f = (even(f^2) + f odd(f^2)) / (even(f^2) - f odd(f^2)) within 2e-17 for |f| <= 1/2: odd / even
# interpolates tanh(f ln(2) / 2) / f at the five Chebyshev points of f^2.
_EVEN = (1.0, 0.05338222200402479, 0.00022893359916127378)
_ODD = (0.34657359027997264, 0.004624841170852369, 5.287083987433538e-06)
# Adding this to t leaves in the lowest bits the nearest integer plus the bias of an exponent.
_ROUND = 1.5 * 2**52 + 1023


def exponential(x: Vector, factor: float, limit: float = 700) -> tuple[Vector, Vector]:
    """exp(factor x) as the fraction above / below.

    The result is within 1e-15 for |factor x| < 40 and within 1e-14 beyond. With an integer k and
    |f| <= 1/2 such that factor x = (k + f) ln 2, it is 2^k 2^f. factor x is clipped to
    [-limit, limit]; a NaN stays a NaN.
    """
    limit, scale = abs(limit / factor), factor / math.log(2)
    x = where(x > limit, limit, x)
    x = where(x < -limit, -limit, x)
    rounded = fma(x, scale, _ROUND)
    f = fma(x, scale, -(rounded - _ROUND))
    square = f * f
    even = fma(fma(square, _EVEN[2], _EVEN[1]), square, _EVEN[0])
    odd = fma(fma(square, _ODD[2], _ODD[1]), square, _ODD[0])
    power = (
        rounded.each(f"bitcast {{0}} {{1}} to {_INTEGERS}")
        .each(f"shl {_INTEGERS} {{1}}, splat (i64 52)")
        .each(f"bitcast {_INTEGERS} {{1}} to {{0}}")
    )
    return power * fma(f, odd, even), fma(-f, odd, even)


def logarithm(x: Vector) -> Vector:
    """log(x), within 1e-15.

    x = 2^k m with m near 1, and log(m) = 2 artanh(s) with s = (m - 1) / (m + 1). The
    result is NaN for x < 0 and minus infinity at 0; numbers from 0 to 1e-307 count as 0.
    """
    bits = x.each(f"bitcast {{0}} {{1}} to {_INTEGERS}")
    # The exponent of x / sqrt(1/2) is k, so that m lies between sqrt(1/2) and sqrt(2).
    above = bits.each(f"sub {_INTEGERS} {{1}}, splat (i64 4604544271217802189)")
    whole = above.each(f"ashr {_INTEGERS} {{1}}, splat (i64 52)")
    k = whole.each(f"sitofp {_INTEGERS} {{1}} to {{0}}")
    power = whole.each(f"shl {_INTEGERS} {{1}}, splat (i64 52)")
    m = bits.each(f"sub {_INTEGERS} {{1}}, {{2}}", power).each(
        f"bitcast {_INTEGERS} {{1}} to {{0}}"
    )
    s = (m - 1.0) / (m + 1.0)
    square = s * s
    series = square.constant(1 / 23)
    for n in range(21, 0, -2):  # artanh(s) / s = 1 + s^2 / 3 + s^4 / 5 + ...
        series = fma(series, square, 1 / n)
    found = fma(k, math.log(2), 2.0 * s * series)
    found = where(x < math.inf, found, x)  # infinity and NaN stay what they are
    zero_or_less = where(x < 0.0, x.constant(math.nan), -math.inf)
    return where(x < 1e-307, zero_or_less, found)

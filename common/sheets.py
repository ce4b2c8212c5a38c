"""What figures are put together from: a sheet with its title, charts with plain numbers, legends, colours.

Places and sizes are in inches, because a layout that is computed costs less than one that matplotlib finds, which draws
each figure twice. The colours are Okabe and Ito's, told apart by colour-blind readers too
(https://jfly.uni-koeln.de/color/).

Importing this module imports matplotlib, whatever MPLBACKEND names and whether HOME can be written or not.
"""

import logging
import math
import os
from collections.abc import Iterable, Sequence
from typing import Literal

BACKEND = os.environ.pop(
    "MPLBACKEND", None
)  # it may name one that is not installed, with which no import succeeds
logging.getLogger("matplotlib").setLevel(
    logging.ERROR
)  # it warns where HOME cannot be written, and goes on

import matplotlib  # noqa: E402
from matplotlib.axes import Axes  # noqa: E402
from matplotlib.axis import Axis, XAxis  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402
from matplotlib.font_manager import findfont, get_font  # noqa: E402
from matplotlib.image import AxesImage  # noqa: E402
from matplotlib.ticker import MaxNLocator, NullLocator  # noqa: E402

BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#777777"
DASHES: tuple[Literal[":", "-", "--", "-."], ...] = (":", "-", "--", "-.")
TEXT, SMALL = 12, 11  # points
MINUS = "\u2212"  # as wide as a plus
FONT = get_font(findfont("DejaVu Sans"))  # matplotlib's own

matplotlib.rcdefaults()  # whatever a reader has set for figures of his own
matplotlib.rcParams.update(
    {
        "font.size": TEXT,
        "axes.labelsize": TEXT,
        "axes.titlesize": TEXT,
        "legend.fontsize": SMALL,
        "figure.dpi": 150,
        "text.parse_math": False,
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
)


def width_of(text: str, size: float) -> float:
    """Inches that a line of text takes, its font size in points."""
    FONT.set_size(size, 72)
    FONT.set_text(text)
    return 1.03 * FONT.get_width_height()[0] / 64 / 72


def wrapped(text: str, width: float, size: float) -> list[str]:
    """The lines of a text, those broken that are wider than `width` inches, but never before a percent sign."""
    lines = []
    for line in text.splitlines():
        lines.append("")
        for word in line.replace(" %", "\u00a0%").split(" "):
            longer = f"{lines[-1]} {word}".strip()
            if width_of(longer, size) <= width:
                lines[-1] = longer
                continue
            letters = max(
                1, int(len(word) * min(1.0, width / width_of(word, size)))
            )  # those of a long word that fit
            lines += [word[i : i + letters] for i in range(0, len(word), letters)]
    return [line for line in lines if line]


def new(width: float, height: float, title: str) -> Figure:
    """An empty figure of that many inches, and what the title takes above them: its first line, then smaller ones."""
    head, _, rest = title.partition("\n")
    lines = [(line, 13.5, "black") for line in wrapped(head, width - 0.3, 13.5)]
    lines += [(line, SMALL, "#444444") for line in wrapped(rest, width - 0.3, SMALL)]
    whole = height + 0.2 + sum(1.4 * size / 72 for _, size, _ in lines)
    figure, top = Figure(figsize=(width, whole)), whole - 0.1
    for line, size, colour in lines:
        figure.text(
            0.15 / width, top / whole, line, fontsize=size, color=colour, verticalalignment="top"
        )
        top -= 1.4 * size / 72
    return figure


def panel(figure: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
    """Axes at that place of a figure, in inches from its lower left corner."""
    whole_width, whole_height = figure.get_size_inches()
    return figure.add_axes(
        (left / whole_width, bottom / whole_height, width / whole_width, height / whole_height)
    )


def canvas(figure: Figure, width: float, height: float) -> Axes:
    """The lower part of a figure as one drawing without frame, whose coordinates are inches."""
    axes = panel(figure, 0, 0, width, height)
    axes.set(xlim=(0, width), ylim=(0, height))
    axes.axis("off")
    return axes


def legend(figure: Figure, handles: Sequence, labels: Sequence[str]) -> float:
    """Says below a figure what is drawn, in as many columns as there is room for; returns the inches that it takes."""
    if not labels:
        return 0.0
    longest = max(width_of(label, SMALL) for label in labels) + 0.65
    columns = max(1, min(len(labels), int((figure.get_size_inches()[0] - 0.1) / longest)))
    figure.legend(
        handles,
        labels,
        loc="lower center",
        ncols=columns,
        frameon=False,
        borderaxespad=0.2,
        columnspacing=1.2,
    )
    return 0.1 + 0.22 * -(-len(labels) // columns)


def settle(figure: Figure, panels: Sequence[Axes], height: float) -> None:
    """Puts charts side by side into the lower `height` inches, with room for their numbers, and one legend below."""
    whole_width, whole_height = figure.get_size_inches()
    bottom = 0.62 + legend(figure, *panels[0].get_legend_handles_labels())
    width = whole_width / len(panels)
    for place, axes in enumerate(panels):
        left = 0.45 + max(
            (width_of(label.get_text(), TEXT) for label in axes.get_yticklabels()), default=0.0
        )
        axes.set_position(
            (
                ((place * width) + left) / whole_width,
                bottom / whole_height,
                (width - left - 0.35) / whole_width,
                (height - bottom) / whole_height,
            )
        )
        axes.grid(alpha=0.3)


def plain(number: float) -> str:
    """A number as it is written by hand: 0.001, 20,000, 10⁻⁶, 2·10⁷."""
    if number < 0:
        return MINUS + plain(-number)
    exponent = math.floor(math.log10(number)) if number else 0
    if -5 < exponent < 6:
        return f"{number:,.10g}"
    power = "10" + str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    mantissa = f"{number / 10.0**exponent:.8g}"
    return power if mantissa == "1" else f"{mantissa}·{power}"


def ticks(low: float, high: float, most: int = 9, whole: bool = False) -> list[float]:
    """At most that many places on a logarithmic axis: powers of ten; their double and fivefold where there is room;
    on less than one decade evenly spaced ones, if wanted whole numbers."""
    decades = math.log10(high) - math.log10(low)
    if decades < 1:
        places = MaxNLocator(most * 2 // 3, steps=[1, 2, 5, 10], integer=whole).tick_values(
            low, high
        )
    else:
        factors = (1, 2, 5) if decades <= most / 3 else (1, 1, 1)
        stride = next(stride for stride in (1, 2, 5, 10, 20, 50, 100) if decades / stride <= most)
        places = sorted(
            {
                factor * 10.0**power
                for power in range(-307, 308)
                if power % stride == 0
                for factor in factors
            }
        )
    return [float(place) for place in places if low <= place <= high]


def logarithmic(axis: Axis, values: Iterable[float], room: float = 0) -> None:
    """Makes an axis logarithmic with plain numbers, from the smallest to the largest of the values that it can show,
    and leaves a share of it, `room`, free at the end. Where it can show none, it stays linear."""
    powers = [math.log10(value) for value in values if 1e-300 < value < 1e300]
    if not powers:
        axis.set_ticks([0, 1], labels=["0", "1"])
        axis.axes.set_ylim(-0.05, 1)
        return
    low, high = min(powers), max(powers)
    if high - low < 1e-6:
        low, high = low - 0.2, high + 0.2
    low, high = low - 0.03 * (high - low), high + 0.03 * (high - low)
    limits = (10.0**low, 10.0 ** min(308, high + (high - low) * room / (1 - room)))
    if isinstance(
        axis, XAxis
    ):  # the limits first: matplotlib's own may lie beyond what a float64 can hold
        axis.axes.set_xlim(limits)
        axis.axes.set_xscale("log")
        places = ticks(10.0**low, 10.0**high, most=5, whole=low > -0.3)
    else:
        axis.axes.set_ylim(limits)
        axis.axes.set_yscale("log")
        places = ticks(10.0**low, 10.0**high)
    axis.set_minor_locator(NullLocator())
    axis.set_ticks(places, labels=[plain(place) for place in places])


def number_steps(axes: Axes, steps: int) -> None:
    """The steps along x from 0 on, in units of 100,000 (or more) where they are that many."""
    unit = 1 if steps <= 200_000 else 10 ** (len(str(steps - 1)) - 1)
    places = MaxNLocator(7, integer=unit == 1, steps=[1, 2, 5, 10]).tick_values(0, steps / unit)
    places = [place for place in places if 0 <= place <= steps / unit]
    axes.set(
        xlim=(0, 1.01 * max(1, steps)),
        xlabel="steps" if unit == 1 else f"steps in units of {unit:,}",
    )
    axes.set_xticks(
        [place * unit for place in places], labels=[plain(float(place)) for place in places]
    )


def mark(figure: Figure, axes: Axes, marks: dict[int, str]) -> None:
    """Lines at some steps, each with its text at the top, in rows where texts would overlap."""
    width, height = axes.get_position().size * figure.get_size_inches()
    for (step, text), (place, row, side) in zip(
        marks.items(), rows_of(marks, axes.get_xlim()[1], width)
    ):
        top = 1 - (0.02 + 0.2 * row) / height
        axes.axvline(step, ymax=top, color=GREY, linewidth=1, linestyle=":")
        axes.text(
            place,
            top,
            text,
            transform=axes.get_xaxis_transform(),
            fontsize=SMALL,
            verticalalignment="top",
            horizontalalignment=side,
        )


def rows_of(marks: dict[int, str], steps: float, width: float) -> list[tuple[float, int, str]]:
    """For each mark the place along x, the row from the top, and the side of the text on which its line is."""
    ends: list[float] = []  # of each row, in inches
    found = []
    for step, text in marks.items():
        begin, side, length = step / steps * width + 0.05, "left", width_of(text, SMALL)
        if begin + length > width:
            begin, side = begin - 0.1 - length, "right"
        row = next((row for row, end in enumerate(ends) if end < begin), len(ends))
        ends[row : row + 1] = [begin + length]
        found.append((((begin + length) if side == "right" else begin) / width * steps, row, side))
    return found


def colour_scale(
    figure: Figure,
    image: AxesImage,
    place: tuple[float, float, float, float],
    label: str,
    numbers: Sequence[float],
) -> None:
    """What the colours mean, beside a figure; `place` in inches."""
    bar = figure.colorbar(image, cax=panel(figure, *place), label=label)
    bar.outline.set_visible(False)
    bar.ax.minorticks_off()
    bar.set_ticks(numbers, labels=[plain(float(f"{number:.6g}")) for number in numbers])


def ceiling(number: float) -> float:
    """The next larger of 1, 2, 5, 10, 20, 50, ... times a power of ten."""
    power = 10.0 ** math.floor(math.log10(number))
    return float(
        f"{next(factor * power for factor in (1, 2, 5, 10) if factor * power >= number * 0.999999):.6g}"
    )

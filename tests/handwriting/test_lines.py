"""handwriting/: several lines of digits, what is no digit, distorted copies, and a folder that is measured."""

from common import program
from exercises.distort import Distortions, distorted
from handwriting import find, measure, read

import sys

import numpy as np
import torch
from PIL import Image, ImageDraw


def paper(*strokes: list[tuple[int, int]], ink: int = 30, ground: int = 235) -> np.ndarray:
    """A picture with strokes of 16 pixels."""
    picture = Image.new("L", (600, 500), ground)
    for stroke in strokes:
        ImageDraw.Draw(picture).line(stroke, ink, 16)
    return np.asarray(picture)


def one(left: int, top: int) -> list[tuple[int, int]]:
    return [(left, top), (left - 10, top + 120)]


PLUS = ([(300, 200), (300, 320)], [(240, 260), (360, 260)])


def test_two_lines_are_read_one_after_the_other():
    lines = find.prepare(paper(one(400, 60), one(100, 300), one(200, 70), one(300, 310)))
    lefts = [[digit.box[1] // 100 for digit in line] for line in lines]
    assert lefts == [[1, 3], [0, 2]]


def test_the_ground_may_be_dark_and_the_picture_tiny():
    assert len(find.prepare(paper(one(300, 200), ink=250, ground=20))[0]) == 1
    tiny = np.full((16, 16), 240, np.uint8)
    tiny[3:13, 7:9] = 20
    assert [len(line) for line in find.prepare(tiny)] == [1]


def test_a_plus_sign_is_no_digit_and_a_stroke_is_one():
    (plus,), (stroke,) = find.prepare(paper(*PLUS))[0], find.prepare(paper(one(300, 200)))[0]
    sure = np.array([0.99] + [0.001] * 9)
    assert read.answer(sure, plus.image) == "?"
    assert read.answer(sure, stroke.image) == "0 (99.0 %)"


def test_mnist_images_fill_20x20_around_their_centre_of_mass():
    image = read.as_mnist(np.ones((40, 10)))
    assert image.shape == (28, 28) and image.dtype == np.uint8
    rows, columns = np.nonzero(image)
    assert np.ptp(rows) == 19 and np.ptp(columns) == 4 and image.max() == 255
    assert abs(rows.mean() - 14) <= 0.5 and abs(columns.mean() - 14) <= 0.5


def test_a_pen_makes_strokes_wider_and_narrower_and_nothing_changes_nothing():
    image = torch.zeros(28, 28)
    image[4:24, 12:16] = 1
    images = image.reshape(1, -1).expand(200, -1)
    generator = torch.Generator().manual_seed(0)
    none = Distortions(0, 0, 0, 0, 0, 0)
    assert torch.allclose(distorted(images, generator, none), images, atol=1e-5)
    ink = distorted(images, generator, none._replace(pen=1)).sum(dim=1) / image.sum()
    assert ink.min() < 0.6 and ink.max() > 1.4


def test_a_folder_without_labels_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["measure.py", str(tmp_path)])
    assert program.outcome(measure.main) == 1
    error = capsys.readouterr().err
    assert "labels.tsv" in error and error.count("\n") == 1

"""handwriting/find.py: pictures of all kinds, one and several digits, what is no digit."""

from common import datasets
from exercises.distort import MOST
from handwriting import find, photos, read, tune
from lectures import mnist_mlp as mnist

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from scipy import ndimage

# Digits made up from strokes: points in a field of 20 x 20, the lines of each digit apart.
STROKES = {
    1: [[(6, 5), (11, 1), (10, 19)]],
    2: [[(4, 5), (8, 1), (14, 3), (14, 8), (4, 19), (16, 19)]],
    4: [[(13, 19), (13, 1), (3, 13), (17, 13)]],
    5: [[(5, 2), (5, 9), (12, 8), (15, 13), (11, 19), (4, 17)], [(9, 1), (17, 1)]],  # a bar apart
    7: [[(3, 2), (16, 2), (8, 19)]],
    8: [[(10, 10), (5, 5), (10, 1), (15, 5), (10, 10), (5, 15), (10, 19), (15, 15), (10, 10)]],
}
ALIKE = 0.85  # the least likeness of two images of one digit; those of two digits have up to 0.71


def drawn(digit: int, side: int = 280, width: float = 2.6) -> np.ndarray:
    """A digit's image, (side, side) of uint8, ink 255 on 0; its strokes are `width` of 28 wide."""
    picture = Image.new("L", (4 * side, 4 * side))
    scale = 4 * side / 28
    for line in STROKES[digit]:
        points = [((x + 4) * scale, (y + 4) * scale) for x, y in line]
        ImageDraw.Draw(picture).line(points, 255, round(width * scale), joint="curve")
    return np.asarray(picture.reduce(4))


def found(picture: np.ndarray) -> list[list[find.Digit]]:
    """The lines of digits in a picture, grey or of colours."""
    return find.prepare(np.repeat(picture[..., None], 3, axis=2) if picture.ndim == 2 else picture)


def one(picture: np.ndarray) -> np.ndarray:
    """The image of the one digit in a picture."""
    ((digit,),) = found(picture)
    return digit.ink


def likeness(image: np.ndarray, other: np.ndarray) -> float:
    """The share of ink that two images have in common, at most, if one may move by a pixel."""
    a, b = image.astype(float), np.pad(other.astype(float), 1)
    moved = [b[y : y + 28, x : x + 28] for y in range(3) for x in range(3)]
    return max(2 * np.minimum(a, b).sum() / (a.sum() + other.sum()) for b in moved)


@pytest.mark.parametrize("digit", STROKES)
def test_a_digit_fills_20x20_around_its_centre_of_mass(digit):
    for picture in (drawn(digit, 28), np.pad(drawn(digit, 150), ((90, 20), (0, 300)))):
        image = one(picture).astype(float)
        rows, columns = np.nonzero(image)
        assert max(np.ptp(rows), np.ptp(columns)) + 1 == 20
        middle = ndimage.center_of_mass(image)  # of pixels' centres
        assert np.abs(np.subtract(middle, 14)).max() <= 0.5
        assert image.max() == 255 and (image == 0).mean() > 0.6


@pytest.mark.parametrize("side", [60, 280, 2000])  # enlarged, as it is, shrunk
def test_a_digits_place_is_that_in_the_picture(side):
    ink = drawn(4, side)
    (((box, _),),) = found(255 - ink)
    rows, columns = np.nonzero(ink)
    expected = rows.min(), columns.min(), rows.max() + 1, columns.max() + 1
    assert np.abs(np.subtract(box, expected)).max() <= 0.02 * side


def ways(digit: int) -> dict[str, np.ndarray]:
    ink = drawn(digit)
    share = ink[..., None] / 255
    (box,) = ndimage.find_objects((ink > 0).astype(int))
    bright = (120, 120, 120) * (1 - share) + (230, 75, 60) * share
    return {
        "white on black": ink,
        "pale pencil": 240 - ink // 6,
        "yellow on white": 255 - share * (0, 10, 200),
        "blue on orange": (200, 120, 40) * (1 - share) + (20, 60, 120) * share,
        "red on grey of the same brightness": bright,
        "dark on transparent": np.dstack([0 * ink + 30] * 3 + [ink]),
        "light on transparent": np.dstack([0 * ink + 250] * 3 + [ink]),
        "transparent, cut to the ink": np.dstack([0 * ink + 235] * 3 + [ink])[box],
        "cut to the ink": 255 - ink[box],
        "opaque with opacity": np.dstack([255 - ink] * 3 + [0 * ink + 255]),
        "small in a large picture": 255 - np.pad(ink, 600),
        "large": 255 - np.kron(ink, np.ones((9, 9), np.uint8)),
        "tiny": 255 - drawn(digit, 16),
        "a thin pen": 255 - drawn(digit, 800, width=0.2),
        "a strip of desk": np.concatenate([255 - ink, np.full((280, 20), 60)], axis=1),
        "a thick pen": 255 - drawn(digit, 60, width=4.5),
    }


@pytest.mark.parametrize("way", ways(7))
@pytest.mark.parametrize("digit", [2, 5, 8])
def test_ink_paper_and_background_of_any_kind(tmp_path, way, digit):
    picture = ways(digit)[way].astype(np.uint8)
    Image.fromarray(picture).save(tmp_path / "picture.png")
    expected = one(drawn(digit, width=4.5 if way == "a thick pen" else 2.6))
    least = 0.7 if way in ("tiny", "a thin pen") else ALIKE
    assert likeness(one(read.read_picture(tmp_path / "picture.png")), expected) > least


@pytest.mark.parametrize("kind, digit", list(zip(photos.KINDS, itertools.cycle((4, 5)))))
def test_photos(kind, digit):
    draw = np.random.default_rng([digit, *kind.encode()])
    photo = photos.compose(drawn(digit, 28), photos.KINDS[kind], draw)
    assert likeness(one(photo), one(drawn(digit, 28))) > (0.75 if photos.KINDS[kind].pen else ALIKE)


def test_digits_are_read_from_left_to_right_with_their_places_also_where_two_touch():
    digits, ups = (5, 1, 4, 5, 2), (0, 50, 20, 40, 0)
    inks = [drawn(digit, 150)[:, 28:128] for digit in digits]
    parts = [np.pad(ink, ((up, 60 - up), (0, 0))) for ink, up in zip(inks, ups)]
    line = np.concatenate(parts, axis=1)
    line[120:125, 260:330] = 255  # a slip of the pen joins 4 and 5
    (digits_found,) = found(255 - line)
    assert len(digits_found) == 5
    for place, (digit, part, (box, image)) in enumerate(zip(digits, parts, digits_found)):
        assert likeness(image, one(drawn(digit))) > (0.7 if place in (2, 3) else ALIKE)
        rows, columns = np.nonzero(part)
        expected = rows.min(), columns.min(), rows.max() + 1, columns.max() + 1
        moved = np.subtract(box, (0, 100 * place, 0, 100 * place))
        assert np.abs(moved - expected).max() <= (40 if place in (2, 3) else 3)


def paper(*strokes: list[tuple[int, int]]) -> np.ndarray:
    """A picture with strokes of 16 pixels."""
    picture = Image.new("L", (600, 500), 235)
    for stroke in strokes:
        ImageDraw.Draw(picture).line(stroke, 30, 16)
    return np.asarray(picture)


def stroke(left: int, top: int, lean: int = 10) -> list[tuple[int, int]]:
    return [(left, top), (left - lean, top + 120)]


TWO = stroke(160, 200, 60), stroke(220, 200, 60)  # / /, whose columns overlap a little
PLUS = [(300, 200), (300, 320)], [(240, 260), (360, 260)]


def test_which_strokes_are_digits_and_in_which_lines():
    lines = stroke(400, 60), stroke(100, 300), stroke(200, 70), stroke(300, 310)
    bar = [(400, 205), (440, 205)]  # on its own it is no digit
    for strokes, lefts in ((lines, [[1, 3], [0, 2]]), (TWO, [[0, 1]]), ((*TWO, bar), [[0, 1]])):
        found_lines = found(paper(*strokes))
        assert [[digit.box[1] // 100 for digit in line] for line in found_lines] == lefts


def test_no_line_is_left_where_strokes_cross_it_and_none_is_taken_for_one():
    ink = drawn(4, 600)
    ruled = np.full((600, 600), 235)
    ruled[::40] = ruled[1::40] = 90  # as dark as the ink, nearly
    picture = np.where(ink > 127, 50, ruled).astype(np.uint8)
    assert likeness(one(picture), one(255 - ink)) > ALIKE
    thin = np.full((600, 600), 240, np.uint8)
    thin[300:304, 60:540] = 40  # a pen's level stroke that does not reach the edges
    thin[100:500, 298:302] = 40
    (((box, _),),) = found(thin)
    assert box[1] < 70 and box[3] > 530


NOTHING = {
    "grey": np.full((300, 400), 200),
    "a pixel": np.zeros((1, 1)),
    "a row": np.zeros((1, 3000)),
    "noise": np.random.default_rng(0).normal(220, 8, (600, 800)).clip(0, 255),
    "a shade": np.tile(np.linspace(80, 240, 800), (600, 1)),
    "transparent": np.zeros((40, 40, 4)),
    "lines": np.where(np.arange(600)[:, None] % 40 < 2, 90, 235 + np.zeros((1, 800))),
}


@pytest.mark.parametrize("kind", NOTHING)
def test_where_there_is_no_ink_nothing_is_found(tmp_path, kind):
    Image.fromarray(NOTHING[kind].astype(np.uint8)).save(tmp_path / "picture.png")
    assert found(read.read_picture(tmp_path / "picture.png")) == []


def test_signs_are_no_digits_and_a_stroke_is_one():
    sure = np.array([0.99] + [0.001] * 9)
    strokes = {"plus": PLUS, "minus": PLUS[1:], "one": [stroke(300, 200)], "upright": PLUS[:1]}
    said = {name: read.answer(sure, one(paper(*ink))) for name, ink in strokes.items()}
    assert said == {"plus": "?", "minus": "?", "one": "0 (99.0 %)", "upright": "0 (99.0 %)"}
    assert all(read.answer(sure, one(drawn(digit))) == "0 (99.0 %)" for digit in STROKES)


def test_turned_by_the_camera_large_and_in_many_formats(tmp_path):
    seven = Image.fromarray(255 - drawn(7))
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by a quarter, clockwise
    seven.rotate(90, expand=True).save(tmp_path / "turned.jpg", exif=exif)
    for mode, name in (("L", "a.webp"), ("P", "a.gif"), ("1", "a.tiff"), ("CMYK", "a.jpg")):
        seven.convert(mode).save(tmp_path / name)
    Image.fromarray(60_000 - 200 * drawn(7).astype(np.uint16)).save(tmp_path / "16 bits.png")
    Image.fromarray((1 - drawn(7) / 255).astype(np.float32)).save(tmp_path / "float.tiff")
    seven.resize((3400, 3400)).save(tmp_path / "large.png")
    for path in tmp_path.iterdir():
        picture = read.read_picture(path)
        assert max(picture.shape) <= 1200
        assert likeness(one(picture), one(255 - drawn(7))) > ALIKE, path.name


def test_calibration_counts_what_is_right_among_the_sure():
    chances = np.full((5, 10), 0.01)
    chances[range(5), [3, 4, 5, 6, 7]] = [0.91, 0.91, 0.91, 0.5, 0.2]  # three sure, one no digit
    said = "distorted copies: 60.0% sure, 33.3% of these correct\ntaken for no digit: 20.00%"
    assert tune.calibration(chances, np.array([3, 0, 0, 6, 7])) == said


def test_digits_of_mnist_are_read_right_from_photos(mnist_root):
    """One a kind, of those that are right as they are; `make photos` has the table of 100 of each."""
    data = datasets.load("mnist", Path(mnist_root))
    images = mnist.as_vectors(data.train_images[:20_000])
    model = tune.train(images, data.train_labels[:20_000], MOST, epochs=4)
    said = mnist.predict(model, mnist.as_vectors(data.test_images)).argmax(dim=1)
    known, right = torch.nonzero(said == data.test_labels)[:, 0].tolist(), 0
    for kind, index in zip(photos.KINDS.values(), known):
        photo = photos.compose(data.test_images[index].numpy(), kind, np.random.default_rng(index))
        right += read.probabilities(model, one(photo)[None]).argmax() == data.test_labels[index]
    assert right >= len(photos.KINDS) - 1

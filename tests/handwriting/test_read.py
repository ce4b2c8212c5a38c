"""handwriting/read.py: what it finds in pictures, what it says of them, and files that are none."""

from common import datasets, program
from common.program import RunError
from common.run import generator
from exercises.distort import MOST
from handwriting import figure as figures
from handwriting import find, photos, read, tune
from lectures import mnist_mlp as mnist

import io
import itertools
import json
import os
import pickle
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import PROJECT, environment
from helpers import texts, watch_figures
from PIL import Image, ImageDraw

# Digits made up from strokes: points in a field of 20 x 20, the lines of each digit apart.
STROKES = {
    0: [[(10, 1), (5, 4), (4, 10), (5, 16), (10, 19), (15, 16), (16, 10), (15, 4), (10, 1)]],
    1: [[(6, 5), (11, 1), (10, 19)]],
    2: [[(4, 5), (8, 1), (14, 3), (14, 8), (4, 19), (16, 19)]],
    3: [[(4, 2), (14, 2), (9, 8), (15, 13), (11, 19), (4, 17)]],
    4: [[(13, 19), (13, 1), (3, 13), (17, 13)]],
    5: [
        [(5, 2), (5, 9), (12, 8), (15, 13), (11, 19), (4, 17)],
        [(8, 1), (16, 1)],
    ],  # the bar stands apart
    6: [[(13, 1), (6, 9), (5, 15), (10, 19), (15, 15), (11, 11), (5, 14)]],
    7: [[(3, 2), (16, 2), (8, 19)]],
    8: [[(10, 10), (5, 5), (10, 1), (15, 5), (10, 10), (5, 15), (10, 19), (15, 15), (10, 10)]],
    9: [[(15, 5), (10, 1), (5, 5), (9, 9), (15, 5), (13, 19)]],
}
ALIKE = 0.85  # the least likeness of two images of one digit; those of two digits have up to 0.71


def drawn(digit: int, side: int = 280, width: float = 2.6) -> np.ndarray:
    """A digit as MNIST has them, ink bright on 0, (side, side) of uint8; the strokes are `width` of 28 wide."""
    picture = Image.new("L", (4 * side, 4 * side))
    pen, scale = ImageDraw.Draw(picture), 4 * side / 28
    radius = width * scale / 2
    for line in STROKES[digit]:
        points = [((x + 4) * scale, (y + 4) * scale) for x, y in line]
        pen.line(points, 255, round(2 * radius))
        for x, y in points:
            pen.ellipse((x - radius, y - radius, x + radius, y + radius), 255)
    return np.asarray(picture.reduce(4))


def flat(picture: np.ndarray) -> list[find.Found]:
    """The digits in a picture, of all lines."""
    return [digit for line in find.prepare(picture) for digit in line]


def one(picture: np.ndarray) -> np.ndarray:
    """The image of the one digit in a picture."""
    found = flat(picture)
    assert len(found) == 1
    return found[0].image


def likeness(image: np.ndarray, other: np.ndarray) -> float:
    """The share of ink that two images have in common, 0 to 1, one moved by up to a pixel where that makes it more."""
    a, b = image.astype(float), np.pad(other.astype(float), 1)
    return max(
        2 * np.minimum(a, b[y : y + 28, x : x + 28]).sum() / (a.sum() + other.sum())
        for y in range(3)
        for x in range(3)
    )


def clear(picture: np.ndarray, opacity: np.ndarray) -> np.ndarray:
    """A grey picture with an opacity."""
    return np.dstack([*[picture] * 3, opacity]).astype(np.uint8)


# What the network gets to see.


@pytest.mark.parametrize("digit", STROKES)
def test_a_digit_fills_20x20_around_its_centre_of_mass(digit):
    for picture in (
        drawn(digit, 28),
        255 - drawn(digit, 200),
        np.pad(drawn(digit, 150), ((90, 20), (0, 300))),
    ):
        image = one(picture).astype(float)
        rows, columns = np.nonzero(image)
        assert max(np.ptp(rows), np.ptp(columns)) + 1 == 20
        for axis in (0, 1):  # the middle of pixel 14 is 14.5 from the edge
            assert (
                abs(np.average(np.arange(28) + 0.5, weights=image.sum(axis=1 - axis)) - 14.5) <= 0.5
            )
        assert image.max() == 255 and (image == 0).mean() > 0.6


def ways(ink: np.ndarray) -> dict[str, np.ndarray]:
    """Pictures of one digit: paper, ink and background of all kinds."""
    share = ink[..., None] / 255
    rows, columns = (np.flatnonzero(ink.any(axis=axis)) for axis in (1, 0))
    return {
        "white on black": ink,
        "black on white": 255 - ink,
        "pale pencil": 240 - ink // 6,
        "yellow on white": (255 - share * (0, 10, 200)).astype(np.uint8),
        "blue on orange": ((200, 120, 40) * (1 - share) + (20, 60, 120) * share).astype(np.uint8),
        "red on grey of the same brightness": (
            (120, 120, 120) * (1 - share) + (230, 75, 60) * share
        ).astype(np.uint8),
        "dark on transparent": clear(0 * ink + 30, ink),
        "light on transparent": clear(0 * ink + 250, ink),
        "transparent, cut to the ink": clear(0 * ink + 235, ink)[
            rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1
        ],
        "opaque with opacity": clear(255 - ink, 0 * ink + 255),
        "small in a large picture": 255 - np.pad(ink, 600),
        "large": 255 - np.kron(ink, np.ones((9, 9), np.uint8)),
    }


@pytest.mark.parametrize("way", ways(drawn(0)))
@pytest.mark.parametrize("digit", [2, 5, 8])
def test_ink_paper_and_background_of_any_kind(way, digit):
    ink = drawn(digit)
    assert likeness(one(ways(ink)[way]), one(255 - ink)) > ALIKE


@pytest.mark.parametrize("kind, digit", list(zip(photos.KINDS, itertools.cycle((4, 5)))))
def test_photos(kind, digit):
    photo = photos.compose(
        drawn(digit, 28), photos.KINDS[kind], np.random.default_rng([digit, *kind.encode()])
    )
    assert likeness(one(photo), one(drawn(digit, 28))) > (0.75 if photos.KINDS[kind].pen else ALIKE)


def test_thin_strokes_become_as_wide_as_those_of_mnist():
    thin = flat(255 - drawn(2, 800, width=0.1))[0].image
    assert 0.8 < thin.sum() / one(drawn(2, 280, width=2.2)).sum() < 1.2


def test_digits_are_read_from_left_to_right_with_their_places():
    line = np.concatenate(
        [
            np.pad(drawn(digit, 150), ((up, 60 - up), (0, 0)))
            for digit, up in ((5, 0), (1, 60), (4, 20), (5, 40))
        ],
        axis=1,
    )
    found = flat(255 - line)
    assert len(found) == 4
    for place, (digit, (image, (top, left, bottom, right))) in enumerate(zip((5, 1, 4, 5), found)):
        assert likeness(image, one(drawn(digit))) > ALIKE
        rows, columns = np.nonzero(line[:, 150 * place : 150 * (place + 1)])
        expected = (
            rows.min(),
            columns.min() + 150 * place,
            rows.max() + 1,
            columns.max() + 1 + 150 * place,
        )
        assert np.abs(np.subtract((top, left, bottom, right), expected)).max() <= 3


def test_slanted_neighbours_are_two_digits_and_a_bar_on_its_own_is_none():
    ink = np.zeros((300, 400), np.uint8)
    pen = ImageDraw.Draw(picture := Image.fromarray(ink))
    pen.line([(60, 260), (160, 40)], 255, 20)  # / /, whose columns overlap a little
    pen.line([(145, 260), (245, 40)], 255, 20)
    assert len(flat(255 - np.asarray(picture))) == 2
    pen.line([(270, 45), (320, 45)], 255, 20)
    assert len(flat(255 - np.asarray(picture))) == 2


def test_no_line_is_left_where_strokes_cross_it_and_none_is_taken_for_one():
    ink = drawn(4, 600)
    paper = np.full((600, 600), 235)
    paper[::40] = paper[1::40] = 90  # as dark as the ink, nearly
    picture = np.where(ink > 127, 50, paper).astype(np.uint8)
    assert likeness(one(picture), one(255 - ink)) > ALIKE
    thin = np.full((600, 600), 240, np.uint8)
    thin[300:304, 60:540] = 40  # a pen's level stroke that does not reach the edges
    thin[100:500, 298:302] = 40
    assert flat(thin)[0].box[1] < 70 and flat(thin)[0].box[3] > 530


@pytest.mark.parametrize(
    "picture",
    [
        np.full((300, 400), 200, np.uint8),
        np.zeros((1, 1), np.uint8),
        np.zeros((1, 3000), np.uint8),
        np.random.default_rng(0).normal(220, 8, (600, 800)).clip(0, 255).astype(np.uint8),
        np.tile(np.linspace(80, 240, 800).astype(np.uint8), (600, 1)),
        np.zeros((40, 40, 4), np.uint8),
        np.where(np.arange(600)[:, None] % 40 < 2, 90, 235 + np.zeros((1, 800))).astype(np.uint8),
    ],
    ids=["grey", "a pixel", "a row", "noise", "a shade", "transparent", "lines"],
)
def test_where_there_is_no_ink_nothing_is_found(picture):
    assert flat(picture) == []


# A network that was trained on MNIST.


def test_digits_of_mnist_are_read_right_from_photos(mnist_root):
    """One a kind, of those that are right as they are; `make photos` has the table of 100 of each."""
    data = datasets.load("mnist", Path(mnist_root))
    images = mnist.as_vectors(data.train_images[:20_000])
    model = tune.train(images, data.train_labels[:20_000], MOST, epochs=4)
    said = mnist.predict(model, mnist.as_vectors(data.test_images)).argmax(dim=1)
    known = torch.nonzero(said == data.test_labels)[:, 0].tolist()
    wrong = []
    for kind, index in zip(photos.KINDS, known):
        draw = np.random.default_rng([index, *kind.encode()])
        photo = photos.compose(data.test_images[index].numpy(), photos.KINDS[kind], draw)
        chances = read.probabilities(model, one(photo)[None])
        if chances.argmax() != data.test_labels[index]:
            wrong.append((kind, index))
    assert len(wrong) <= 1, wrong


# Files.


def test_turned_by_the_camera_and_many_formats(tmp_path):
    expected = one(255 - drawn(7))
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by a quarter, clockwise
    Image.fromarray(255 - drawn(7)).rotate(90, expand=True).save(tmp_path / "turned.jpg", exif=exif)
    Image.fromarray(255 - drawn(7)).save(tmp_path / "grey.webp")
    Image.fromarray(255 - drawn(7)).convert("P").save(tmp_path / "palette.gif")
    Image.fromarray(255 - drawn(7)).convert("1").save(tmp_path / "black and white.tiff")
    Image.fromarray(255 - drawn(7)).convert("CMYK").save(tmp_path / "print.jpg")
    Image.fromarray(60_000 - 200 * drawn(7).astype(np.uint16)).save(tmp_path / "16 bits.png")
    Image.fromarray((1 - drawn(7) / 255).astype(np.float32)).save(tmp_path / "float.tiff")
    ink = Image.fromarray(clear(0 * drawn(7), drawn(7)))
    ink.save(tmp_path / "transparent.png")
    for path in tmp_path.iterdir():
        assert likeness(one(read.read_picture(path)), expected) > ALIKE, path.name


def test_a_large_photo_is_shrunk(tmp_path):
    Image.fromarray(255 - np.kron(drawn(7), np.ones((12, 12), np.uint8))).save(
        tmp_path / "large.png"
    )
    assert max(read.read_picture(tmp_path / "large.png").shape) <= 1200
    assert likeness(one(read.read_picture(tmp_path / "large.png")), one(255 - drawn(7))) > ALIKE


def png(name: bytes, content: bytes) -> bytes:
    """A chunk of a PNG file."""
    return (
        struct.pack(">I", len(content))
        + name
        + content
        + struct.pack(">I", zlib.crc32(name + content))
    )


def bomb(width: int, height: int) -> bytes:
    """A small PNG file that says it has that many pixels."""
    return (
        b"\x89PNG\r\n\x1a\n"
        + png(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
        + png(b"IDAT", zlib.compress(bytes(1000)))
        + png(b"IEND", b"")
    )


def cut(picture: np.ndarray, ending: str, length: int) -> bytes:
    """The beginning of a picture's file."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, ending)
    return file.getvalue()[:length]


@pytest.mark.parametrize(
    "content, said",
    [
        (b"", "it is empty"),
        (b"not a picture", "not a picture"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n", "not a picture"),
        (bomb(40_000, 40_000), "50,000,000 pixels"),
        (bomb(9_000, 9_000), "50,000,000 pixels"),  # below Pillow's own limit
        (b"\x89PNG\r\n\x1a\n" + b"x" * 100, "not a picture"),
        (cut(255 - drawn(7), "PNG", 200), "not a picture"),
        (cut(255 - drawn(7), "JPEG", 900), "not a picture"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99), "export it as JPEG"),
        (b"\0\0\0\x1cftypavif" + bytes(99), "HEIC or AVIF"),
        (cut(np.full((50, 50), 200, np.uint8), "PNG", 9999), "no ink"),
    ],
)
def test_files_that_show_no_digit(tmp_path, content, said):
    path = tmp_path / "file.png"
    path.write_bytes(content)
    with pytest.raises(RunError) as caught:
        read.read(path, mnist.build_model(4, generator(0, "model")))
    assert (
        str(caught.value).startswith(f"{path}: ")
        and said in str(caught.value)
        and "\n" not in str(caught.value)
    )


def test_what_is_no_file_and_what_has_too_many_digits(tmp_path):
    model = mnist.build_model(4, generator(0, "model"))
    for path, said in (
        (tmp_path / "nothing.png", "there is no such file"),
        (tmp_path, "not a file"),
    ):
        with pytest.raises(RunError, match=said):
            read.read(path, model)
    Image.fromarray(255 - np.pad(np.tile(drawn(1, 40), (1, 51)), 200)).save(tmp_path / "line.png")
    with pytest.raises(RunError, match="51 pieces of ink"):
        read.read(tmp_path / "line.png", model)


@pytest.mark.skipif(os.name != "posix", reason="Windows has no such pipes")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(RunError, match="not a file"):
        read.read(tmp_path / "pipe", mnist.build_model(4, generator(0, "model")))


# The command.


@pytest.fixture
def say(tmp_path, monkeypatch, capfd):
    """A function that runs the command in this process; returns exit code, lines of stdout and of stderr."""

    def call(*words: object) -> SimpleNamespace:
        monkeypatch.setattr(
            sys, "argv", ["read.py", "--output-dir", str(tmp_path / "out"), *map(str, words)]
        )
        code = program.outcome(read.main)
        said = capfd.readouterr()
        return SimpleNamespace(code=code, out=said.out.splitlines(), err=said.err.splitlines())

    return call


def write_model(folder: Path, bias: dict[int, float] | None = None, **results: object) -> Path:
    """A model that says of everything what its last bias says, and the metrics.json beside it."""
    folder.mkdir(exist_ok=True)
    model = mnist.build_model(3, generator(0, "model"))
    torch.nn.init.zeros_(model[2].weight)
    for digit, logit in (bias or {7: 5.0}).items():
        model[2].bias.data[digit] = logit
    torch.save(model.state_dict(), folder / "model.pt")
    (folder / "metrics.json").write_text(
        json.dumps(
            {
                "results": {"dataset": "mnist", "train_images": 60_000, "test_accuracy": 0.98361}
                | results
            }
        )
    )
    return folder / "model.pt"


@pytest.fixture
def picture(tmp_path) -> Path:
    Image.fromarray(255 - drawn(7)).save(tmp_path / "my seven.png")
    return tmp_path / "my seven.png"


def test_what_is_said_of_one_and_of_several_digits(say, tmp_path, picture):
    model = write_model(tmp_path / "run")
    line = tmp_path / "line.png"
    Image.fromarray(255 - np.concatenate([drawn(7, 150), drawn(5, 150)], axis=1)).save(line)
    done = say(picture, line, "--model", model)
    assert done.code == 0 and done.err == []
    assert done.out == [
        f"model: {model}, trained on 60,000 images of MNIST, right for 98.4 % of its test images",
        f"{picture}: 7 (94.3 %)",
        f"{line}: 7 7 (94.3 %, 94.3 %)",
    ]
    with Image.open(tmp_path / "out" / "classified.png") as figure:
        figure.load()


def test_below_60_percent_it_is_unsure(say, tmp_path, picture):
    model = write_model(
        tmp_path / "run", {4: 5.0, 9: 4.8}
    )  # 1 / (1 + exp(-0.2) + 8 exp(-5)) = 0.53
    assert say(picture, "--model", model).out[1] == f"{picture}: unsure: 4 (53 %) or 9 (44 %)"
    line = tmp_path / "line.png"
    Image.fromarray(255 - np.concatenate([drawn(7, 150), drawn(5, 150)], axis=1)).save(line)
    assert say(line, "--model", model).out[1] == (
        f"{line}: 4 4 (unsure: 4 (53 %) or 9 (44 %), unsure: 4 (53 %) or 9 (44 %))"
    )
    assert read.answer(np.array([0.6, 0.4] + [0.0] * 8), drawn(0, 28)) == "0 (60.0 %)"


def test_bad_files_get_a_line_each_and_the_others_are_done(say, tmp_path, picture):
    model, empty, blank = (
        write_model(tmp_path / "run"),
        tmp_path / "empty.png",
        tmp_path / "blank.png",
    )
    empty.touch()
    Image.new("L", (50, 50), 200).save(blank)
    done = say(empty, picture, blank, tmp_path / "nothing", "--model", model)
    assert done.code == 1 and done.out[1:] == [f"{picture}: 7 (94.3 %)"]
    assert [line.split(": ")[1] for line in done.err] == [
        str(empty),
        str(blank),
        str(tmp_path / "nothing"),
    ]
    assert (
        all(line.startswith("error: ") for line in done.err)
        and (tmp_path / "out" / "classified.png").exists()
    )
    done = say(blank, "--model", model)
    assert done.code == 1 and len(done.err) == 1


@pytest.mark.parametrize(
    "content, said",
    [
        (None, "there is no metrics.json"),
        ("{", "damaged"),
        ("[]", "damaged"),
        ("[" * 100_000, "damaged"),
        ('{"results": {}}', "damaged"),
        ('{"results": null}', "damaged"),
        (
            '{"results": {"dataset": "mnist", "train_images": "\\u001b[2J", "test_accuracy": 1}}',
            "damaged",
        ),
        ('{"results": {"dataset": "mnist", "train_images": 1e999, "test_accuracy": 1}}', "damaged"),
        ('{"results": {"dataset": ["mnist"], "train_images": 5, "test_accuracy": 1}}', "damaged"),
        ('{"results": {"dataset": "mnist", "train_images": 5, "test_accuracy": NaN}}', "damaged"),
        (
            '{"results": {"dataset": "fashion-mnist", "train_images": 5, "test_accuracy": 0.5}}',
            "Fashion-MNIST, not on MNI",
        ),
        (
            '{"results": {"dataset": "digits", "train_images": 5, "test_accuracy": 0.5}}',
            "scikit-learn digits, not on MNI",
        ),
    ],
)
def test_a_model_of_unknown_or_other_origin_gets_a_warning(say, tmp_path, picture, content, said):
    model = write_model(tmp_path / "run")
    (tmp_path / "run" / "metrics.json").unlink()
    if content is not None:
        (tmp_path / "run" / "metrics.json").write_text(content)
    done = say(picture, "--model", model)
    assert done.code == 0 and len(done.out) == 2 and str(model) in done.out[0]
    assert len(done.err) == 1 and done.err[0].startswith("warning: ") and said in done.err[0]


def test_the_model_of_all_images_comes_first(say, tmp_path, picture, monkeypatch):
    models = [tmp_path / run / "model.pt" for run in ("all", "few")]
    monkeypatch.setattr(read, "MODELS", models)
    done = say(picture)
    assert done.code == 1 and len(done.err) == 1 and "exercises/mnist_all.py" in done.err[0]
    write_model(tmp_path / "few")
    assert f"model: {models[1]}," in say(picture).out[0]
    write_model(tmp_path / "all")
    assert f"model: {models[0]}," in say(picture).out[0]


class Touch:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_models_from_strangers_are_not_executed(say, tmp_path, picture):
    model, touched = write_model(tmp_path / "run"), tmp_path / "executed"
    state = torch.load(model, weights_only=True)
    for content in (
        [1, 2],
        {"a": 1},
        {},
        None,
        {"0.weight": torch.zeros(3, 3)},
        state | {"0.weight": torch.zeros(3, 783)},
        state | {"2.bias": torch.full((10,), torch.nan)},
        state | {"0.bias": torch.zeros(10**6)},
        state | {"0.bias": torch.zeros(1).expand(10**12)},
        state | {"0.bias": torch.zeros(0)},
        state | {"extra": torch.zeros(2)},
        state | {"0.bias": Touch(touched)},
    ):
        torch.save(content, model)
        done = say(picture, "--model", model)
        assert (
            done.code == 1 and len(done.err) == 1 and str(model) in done.err[0] and done.out == []
        )
    torch.save(state, model)
    whole = model.read_bytes()
    for damaged in (
        b"",
        whole[:500],
        whole[:-30],
        whole.replace(b"PK\x01\x02", b"PK\x01\x03"),
        pickle.dumps(Touch(touched)),
    ):
        model.write_bytes(damaged)
        done = say(picture, "--model", model)
        assert (
            done.code == 1 and len(done.err) == 1 and str(model) in done.err[0] and done.out == []
        )
    assert (
        not touched.exists()
        and "there is no" in say(picture, "--model", tmp_path / "none.pt").err[0]
    )


def test_as_a_user_runs_it(run, tmp_path, picture):
    """From another folder; with the model of any width that a run has left there."""
    assert (
        run("mnist_mlp", "--dataset", "digits", "--epochs", 1, "--hidden", 7, "--quiet").returncode
        == 0
    )
    folder = tmp_path / "a folder with spaces" / "my run"
    done = subprocess.run(
        [
            sys.executable,
            PROJECT / "handwriting" / "read.py",
            picture,
            "--model",
            folder / "model.pt",
            "--output-dir",
            tmp_path / "数字",
        ],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0 and "scikit-learn digits, not on MNIST" in done.stderr, done.stderr
    assert (
        done.stdout.splitlines()[1].startswith(f"{picture}: ")
        and (tmp_path / "数字" / "classified.png").exists()
    )


# The figure.


def readings(
    count: int, answers: tuple[str, ...], name: str = "a picture.jpg"
) -> list[figures.Reading]:
    return [
        figures.Reading(
            name,
            clear(drawn(7), 0 * drawn(7) + 255),
            [(10, 20, 200, 100)] * len(answers),
            np.stack([drawn(7, 28)] * len(answers)),
            np.full((len(answers), 10), 0.1),
            list(answers),
            [len(answers)],
        )
    ] * count


UNSURE = "unsure: 4 (52 %) or 9 (41 %)"


@pytest.mark.parametrize(
    "pictures",
    [
        readings(1, ("7 (100.0 %)",)),
        readings(1, (UNSURE,)),
        readings(7, (UNSURE,)),
        readings(2, ("7 (98.0 %)", UNSURE)),
        readings(1, (UNSURE,) * 14),
        readings(3, ("7 (98.0 %)",), "a name without end " * 9 + "x" * 99),
    ],
    ids=["one", "unsure", "many", "several digits", "more than a row", "long names"],
)
def test_no_caption_is_cut_off_or_covers_another(pictures):
    figure = figures.readings(
        pictures, title="What was found, what the network sees of it, and what it says"
    )
    figure.canvas.draw()
    width, height = figure.canvas.get_width_height()
    shown = [
        text
        for text in figure.findobj(lambda artist: hasattr(artist, "get_text"))
        if text.get_text().strip()
    ]
    title = len(figure.texts)  # lines of it
    captions = len(pictures) + 11 * sum(len(picture.answers) for picture in pictures)
    assert title >= 1 and len(shown) == title + captions
    boxes = [text.get_window_extent() for text in shown]
    for box in boxes:
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height
    for place, box in enumerate(boxes):
        for other in boxes[:place]:
            assert (
                box.x0 >= other.x1
                or other.x0 >= box.x1
                or box.y0 >= other.y1 - 1
                or other.y0 >= box.y1 - 1
            )
    said = " ".join(text.get_text().replace("\n", " ").replace("\u00a0", " ") for text in shown)
    assert all(answer in said for picture in pictures for answer in picture.answers)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such file names")
def test_of_very_many_pictures_the_first_are_drawn_and_strange_names_do_no_harm(
    say, tmp_path, monkeypatch
):
    seen = watch_figures(monkeypatch)
    model = write_model(tmp_path / "run")
    monkeypatch.setattr(read, "DRAWN", 2)
    names = ["a\nb.png", "数字 😀.png", os.fsdecode(b"\xff.png")]
    for name in names:
        Image.fromarray(255 - drawn(7, 60)).save(tmp_path / name, "PNG")
    done = say(*(tmp_path / name for name in names), "--model", model)
    assert done.code == 0 and done.err == []
    assert "\nThe first 2 of 3 pictures" in "\n".join(texts(seen["classified"]))
    assert "a?b.png" in texts(seen["classified"])

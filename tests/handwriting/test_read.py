"""handwriting/read.py and measure.py: bad files, what is said, models from strangers, the figure."""

from common import program
from handwriting import figure, measure, photos, read
from lectures import mnist_mlp as mnist

import io
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import PROJECT, environment
from helpers import texts, watch_figures
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text
from PIL import Image

MODELS = read.MODELS
UNSURE = "unsure: 4 (53 %) or 9 (44 %)"


def seven(side: int = 280) -> np.ndarray:
    """A light stroke on black, (side, side) of uint8."""
    picture = np.zeros((side, side), np.uint8)
    picture[side // 5 : -side // 5, side // 2 : -side // 3] = 255
    return picture


def encoded(picture: np.ndarray, kind: str = "PNG", length: int | None = None) -> bytes:
    """A picture's file, or the beginning of it."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, kind)
    return file.getvalue()[:length]


def write_model(bias: dict[int, float], folder: Path = Path()) -> None:
    """A model that says of everything what its last bias says, and the metrics.json beside it."""
    model = mnist.build_model(3, torch.Generator())
    torch.nn.init.zeros_(model[2].weight)
    for digit, logit in bias.items():
        model[2].bias.data[digit] = logit
    torch.save(model.state_dict(), folder / "model.pt")
    results = {"dataset": "mnist", "train_images": 60_000, "test_accuracy": 0.98361}
    (folder / "metrics.json").write_text(json.dumps({"results": results}))


@pytest.fixture
def say(tmp_path, monkeypatch, capfd):
    """A function that runs a command beside pictures and a model: code, lines of out and err."""
    monkeypatch.chdir(tmp_path)
    write_model({7: 5.0})
    Image.fromarray(255 - seven()).save("my seven.png")
    two = np.concatenate([seven(150), seven(150)], axis=1)
    Image.fromarray(255 - np.concatenate([two, seven(300)])).save("lines.png")

    monkeypatch.setattr(read, "MODELS", [Path("model.pt")])

    def call(*words: str, main=read.main) -> SimpleNamespace:
        folder = ["--output-dir=out"] if main is read.main else []
        monkeypatch.setattr(sys, "argv", ["a command", *folder, *words])
        code, said = program.outcome(main), capfd.readouterr()
        return SimpleNamespace(code=code, out=said.out.splitlines(), err=said.err.splitlines())

    return call


BAD = {
    "empty": (b"", "not a picture"),
    "PostScript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n", "not a picture"),
    "bomb": (encoded(np.zeros((13_500, 13_500), bool)), "50,000,000 pixels"),
    "large": (encoded(np.zeros((7_000, 7_200), bool)), "50,000,000 pixels"),  # Pillow opens it
    "half a PNG": (encoded(255 - seven(), "PNG", 200), "not a picture"),
    "half a JPEG": (encoded(255 - seven(), "JPEG", 900), "not a picture"),
    "HEIC": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99), "export it as JPEG"),
    "blank": (encoded(np.full((50, 50), 200, np.uint8)), "no ink"),
    "a crowd": (encoded(255 - np.pad(np.tile(seven(40), (1, 51)), 200)), "51 pieces of ink"),
    "nothing": (None, "there is no such file"),
    "out": (None, "not a file"),  # the folder that the command makes
    "pipe": (None, "not a file"),  # and it is not waited for
}


def test_bad_files_get_a_line_each_and_the_others_are_done(say):
    for name, (content, _) in BAD.items():
        if content is not None:
            Path(name).write_bytes(content)
    if os.name == "posix":  # Windows has no such pipes
        os.mkfifo("pipe")
    names = [name for name in BAD if name != "pipe" or os.name == "posix"]
    done = say(*names[:3], "my seven.png", *names[3:])
    assert done.code == 1 and done.out[1:] == ["my seven.png: 7 (94.3 %)"]
    assert len(done.err) == len(names) and Path("out/classified.png").exists()
    for name, line in zip(names, done.err):
        assert line.startswith(f"error: {name}: ") and BAD[name][1] in line, line


def test_large_pictures_of_few_colours(say):
    large = Image.fromarray(np.kron(255 - seven(60), np.ones((40, 40), np.uint8)))
    large.convert("1").save("bits.png")
    large.convert("P").save("palette.gif")
    done = say("bits.png", "palette.gif")
    assert (done.code, done.err) == (0, [])
    assert done.out[1:] == ["bits.png: 7 (94.3 %)", "palette.gif: 7 (94.3 %)"]


def test_what_is_said_of_one_and_of_several_digits(say):
    done = say("my seven.png", "lines.png")
    assert (done.code, done.err) == (0, [])
    assert done.out == [
        "model: model.pt, trained on 60,000 images of MNIST, test accuracy 98.4 %",
        "my seven.png: 7 (94.3 %)",
        "lines.png: 7 7 / 7 (94.3 %, 94.3 %, 94.3 %)",
    ]
    write_model({4: 5.0, 9: 4.8})  # 1 / (1 + exp(-0.2) + 8 exp(-5)) = 0.53
    assert say("my seven.png", "lines.png").out[1:] == [
        f"my seven.png: {UNSURE}",
        f"lines.png: 4 4 / 4 ({UNSURE}, {UNSURE}, {UNSURE})",
    ]
    assert read.answer(np.array([0.6, 0.4] + [0.0] * 8), seven(28)) == "0 (60.0 %)"
    assert read.answer(np.full(10, 0.1), seven(28)) == "?"


def test_a_folder_is_measured_by_kind_and_layout(say):
    Path("labels.tsv").write_text(
        "file\tdigits\tkind\tlayout\nmy seven.png\t7\tpaint\tone\n"
        "lines.png\t7 5 7\tpaint\ttwo\nno.png\t7\tx\tone\n"
    )
    done = say(".", main=measure.main)
    assert done.code == 0 and {
        "| paint | 2 | 1 | 0 | 1 | 1 |",
        "| two | 1 | 0 | 0 | 0 | 1 |",
        "| x | 1 | 0 | 1 | 0 | 0 |",
        "| all | 3 | 1 | 1 | 1 | 1 |",
        "lines.png: 7 5 7; read as 7 7 / 7 (94.3 %, 94.3 %, 94.3 %)",
    } <= set(done.out)
    assert "| all | 1 | 0 | 0 | 0 | 1 |" in say(".", "--half", "even", main=measure.main).out
    assert "| all | 2 | 1 | 1 | 1 | 0 |" in say(".", "--half", "odd", main=measure.main).out
    Path("labels.tsv").unlink()
    done = say(".", main=measure.main)
    assert done.code == 1 and len(done.err) == 1 and "labels.tsv" in done.err[0]


@pytest.mark.parametrize("tuning, of", [([], "test"), (["--tuning"], "training")])
def test_the_photos_say_which_images_they_are_of(say, monkeypatch, mnist_root, tuning, of):
    monkeypatch.setattr(photos, "KINDS", {"clean": photos.Photo()})
    monkeypatch.setattr(read, "probabilities", lambda *_: np.eye(1, 11, 10))  # no digit's
    done = say("--count", "2", "--data-dir", mnist_root, *tuning, main=photos.main)
    first = 55_000 if tuning else 5_000
    expected = f"{of.capitalize()} images {first} to {first + 1}; "
    assert done.code == 0 and done.out[1].startswith(expected)
    assert done.out[-1] == "| clean | 0 | 2 |"  # one digit is found in each, and misread


def test_a_model_of_unknown_or_other_origin_gets_a_warning(say):
    metrics = '{"results": {"dataset": %s, "train_images": %s, "test_accuracy": 0.5}}'
    for content, said in (
        ("", "no complete metrics.json"),
        ("[" * 100_000, "no complete metrics.json"),
        ('{"results": null}', "no complete metrics.json"),
        (metrics % ('"mnist"', '"\\u001b[2J"'), "no complete metrics.json"),
        (metrics % ('"mnist"', "Infinity"), "no complete metrics.json"),
        (metrics % ('["mnist"]', 5), "no complete metrics.json"),
        (metrics % ('"fashion-mnist"', 5), "Fashion-MNIST, not on MNIST"),
        (metrics % ('"digits"', 5), "scikit-learn digits, not on MNIST"),
    ):
        Path("metrics.json").write_text(content)
        done = say("my seven.png")
        assert done.code == 0 and len(done.out) == 2 and "model.pt" in done.out[0]
        assert len(done.err) == 1 and done.err[0].startswith("warning: ") and said in done.err[0]
    Path("metrics.json").unlink()
    assert "no complete metrics.json" in say("my seven.png").err[0]


def test_the_model_of_all_images_comes_first(say, tmp_path, monkeypatch):
    models = [tmp_path / path.parent.name / "model.pt" for path in MODELS]
    monkeypatch.setattr(read, "MODELS", models)
    done = say("my seven.png")
    assert done.code == 1 and len(done.err) == 1 and "exercises/mnist_all.py" in done.err[0]
    for path in (tmp_path / run / "model.pt" for run in ("mnist_mlp", "mnist_all")):
        path.parent.mkdir()
        write_model({7: 5.0}, path.parent)
        assert f"model: {path}," in say("my seven.png").out[0]


class Touch:
    """Makes a file when it is unpickled."""

    def __reduce__(self):
        return Path.touch, (Path("executed"),)


def test_models_from_strangers_are_not_executed(say):
    whole, state = Path("model.pt").read_bytes(), torch.load("model.pt", weights_only=True)
    for content in (
        b"",
        whole[:-30],
        whole.replace(b"PK\x01\x02", b"PK\x01\x03"),
        pickle.dumps(Touch()),
        [1, 2],
        {},
        state | {"0.weight": torch.zeros(3, 783)},
        state | {"2.bias": torch.tensor([torch.inf] + [0.0] * 9)},
        state | {"2.bias": torch.full((10,), torch.nan)},
        state | {"0.bias": torch.zeros(1).expand(10**12)},
        state | {"0.bias": torch.zeros(0)},
        state | {"0.bias": Touch()},
    ):
        if isinstance(content, bytes):
            Path("model.pt").write_bytes(content)
        else:
            torch.save(content, "model.pt")
        done = say("my seven.png")
        assert (done.code, done.out, len(done.err)) == (1, [], 1) and "model.pt" in done.err[0]
    assert not Path("executed").exists()


def test_as_a_user_runs_it(undrawn, say):
    """From another folder; with the model of any width that a run has left there."""
    made = undrawn("mnist_mlp", *"--dataset digits --epochs 1 --hidden 7".split())
    assert made.returncode == 0, made.stderr
    script = PROJECT / "handwriting" / "read.py"
    words = ("my seven.png", f"--model={made.folder}/model.pt", "--output-dir=数字")
    done = subprocess.run(
        [sys.executable, "-OO", script, *words], env=environment(), capture_output=True, text=True
    )
    assert done.returncode == 0 and "scikit-learn digits, not on MNIST" in done.stderr, done.stderr
    assert done.stdout.splitlines()[1].startswith("my seven.png: ")
    assert Path("数字/classified.png").exists()


def test_no_caption_is_cut_off_or_covers_another():
    shown, image = np.repeat(seven()[..., None], 3, axis=2), seven(28)
    long = "a name without end " * 9 + "x" * 99
    for count, name, *answers in ((7, "a.jpg", UNSURE), (2, long, *["7 (98.0 %)", UNSURE] * 7)):
        digits = len(answers)
        chances = np.full((digits, 10), 0.1)
        boxes, images = [(10, 20, 200, 100)] * digits, np.stack([image] * digits)
        reading = figure.Reading(name, shown, boxes, images, chances, answers, [digits])
        sheet = figure.readings([reading] * count, title="What was found, and what is said of it")
        canvas = FigureCanvasAgg(sheet)
        canvas.draw()
        captions = [text for text in sheet.findobj(Text) if text.get_text().strip()]
        assert sheet.texts and len(captions) == len(sheet.texts) + count * (1 + 11 * digits)
        boxes = [text.get_window_extent(canvas.get_renderer()) for text in captions]
        assert all(sheet.bbox.fully_containsx(x) for box in boxes for x in (box.x0, box.x1))
        assert all(sheet.bbox.fully_containsy(y) for box in boxes for y in (box.y0, box.y1))
        assert all(box.padded(-1).count_overlaps(boxes) == 1 for box in boxes)  # with itself
        words = " ".join(text.get_text() for text in captions).replace("\n", " ")
        assert all(answer in words.replace("\u00a0", " ") for answer in answers)


def test_a_digit_is_framed_where_it_is():
    shown, box = np.zeros((300, 400, 3), np.uint8), (20, 50, 120, 90)
    parts = np.zeros((1, 28, 28)), np.full((1, 10), 0.1), ["?"], [1]
    axes = figure.readings([figure.Reading("a.png", shown, [box], *parts)], title="t").axes[0]
    left, right, _, top = axes.images[0].get_extent()
    scale = (right - left) / 400  # inches a pixel
    frames = [patch.get_bbox().extents for patch in axes.patches]
    expected = left + 50 * scale, top - 120 * scale, left + 90 * scale, top - 20 * scale
    assert any(np.allclose(frame, expected) for frame in frames)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such file names")
def test_the_first_of_many_are_drawn_and_strange_names_do_no_harm(say, monkeypatch):
    seen = watch_figures(monkeypatch)
    monkeypatch.setattr(read, "DRAWN", 2)
    names = ["a\nb.png", "数字 😀.png", os.fsdecode(b"\xff.png")]
    for name in names:
        Image.fromarray(255 - seven(60)).save(name, "PNG")
    done = say(*names)
    assert (done.code, done.err) == (0, [])
    drawn = texts(seen["classified"])
    assert any("The first 2 of 3 pictures" in text for text in drawn) and "a?b.png" in drawn
    assert sum(text.endswith(".png") for text in drawn) == 2

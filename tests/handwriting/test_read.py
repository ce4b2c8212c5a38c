"""handwriting/read.py: the command, files that are no pictures, models from strangers, and the figure."""

from common import program
from common.program import RunError
from common.run import generator
from handwriting import figure, measure, read
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
from PIL import Image, ImageDraw

UNSURE = "unsure: 4 (53 %) or 9 (44 %)"


def seven(side: int = 280) -> np.ndarray:
    """Light strokes on black, (side, side) of uint8."""
    picture = Image.new("L", (side, side))
    points = [(share * side, other * side) for share, other in ((0.2, 0.2), (0.7, 0.2), (0.4, 0.8))]
    ImageDraw.Draw(picture).line(points, 255, side // 10)
    return np.asarray(picture)


def encoded(picture: np.ndarray, kind: str = "PNG", length: int | None = None) -> bytes:
    """A picture's file, or the beginning of it."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, kind)
    return file.getvalue()[:length]


@pytest.mark.parametrize(
    "content, said",
    [
        (b"", "not a picture"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n", "not a picture"),
        (encoded(np.zeros((13_500, 13_500), bool)), "50,000,000 pixels"),
        (encoded(np.zeros((7_000, 7_200), bool)), "50,000,000 pixels"),  # below Pillow's limit
        (encoded(255 - seven(), "PNG", 200), "not a picture"),
        (encoded(255 - seven(), "JPEG", 900), "not a picture"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99), "export it as JPEG"),
        (encoded(np.full((50, 50), 200, np.uint8)), "no ink"),
        (encoded(255 - np.pad(np.tile(seven(40), (1, 51)), 200)), "51 pieces of ink"),
        (None, "there is no such file"),
        ("folder", "not a file"),
        pytest.param(
            "pipe",
            "not a file",  # and it is not waited for
            marks=pytest.mark.skipif(os.name != "posix", reason="Windows has no such pipes"),
        ),
    ],
)
def test_files_that_show_no_digit(tmp_path, content, said):
    path = tmp_path / "file.png"
    if content == "folder":
        path.mkdir()
    elif content == "pipe":
        os.mkfifo(path)
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(RunError) as caught:
        read.read(path, mnist.build_model(4, generator(0, "model")))
    line = str(caught.value)
    assert line.startswith(f"{path}: ") and said in line and "\n" not in line


@pytest.fixture
def say(tmp_path, monkeypatch, capfd):
    """A function that runs a command in this process; returns exit code, lines of stdout and of stderr."""

    def call(*words: object, main=read.main) -> SimpleNamespace:
        monkeypatch.setattr(sys, "argv", ["a command", *map(str, words)])
        if main is read.main:
            sys.argv += ["--output-dir", str(tmp_path / "out")]
        code = program.outcome(main)
        said = capfd.readouterr()
        return SimpleNamespace(code=code, out=said.out.splitlines(), err=said.err.splitlines())

    return call


def write_model(folder: Path, bias: dict[int, float] | None = None) -> Path:
    """A model that says of everything what its last bias says, and the metrics.json beside it."""
    folder.mkdir(exist_ok=True)
    model = mnist.build_model(3, generator(0, "model"))
    torch.nn.init.zeros_(model[2].weight)
    for digit, logit in (bias or {7: 5.0}).items():
        model[2].bias.data[digit] = logit
    torch.save(model.state_dict(), folder / "model.pt")
    results = {"dataset": "mnist", "train_images": 60_000, "test_accuracy": 0.98361}
    (folder / "metrics.json").write_text(json.dumps({"results": results}))
    return folder / "model.pt"


@pytest.fixture
def model(tmp_path) -> Path:
    return write_model(tmp_path / "run")


@pytest.fixture
def picture(tmp_path) -> Path:
    Image.fromarray(255 - seven()).save(tmp_path / "my seven.png")
    return tmp_path / "my seven.png"


@pytest.fixture
def line(tmp_path) -> Path:
    digits = np.concatenate([seven(150), seven(150)], axis=1)
    Image.fromarray(255 - np.concatenate([digits, seven(300)])).save(tmp_path / "line.png")
    return tmp_path / "line.png"


def test_what_is_said_of_one_and_of_several_digits(say, tmp_path, picture, line, model):
    done = say(picture, line, "--model", model)
    assert done.code == 0 and done.err == []
    assert done.out == [
        f"model: {model}, trained on 60,000 images of MNIST, right for 98.4 % of its test images",
        f"{picture}: 7 (94.3 %)",
        f"{line}: 7 7 / 7 (94.3 %, 94.3 %, 94.3 %)",
    ]
    with Image.open(tmp_path / "out" / "classified.png") as sheet:
        sheet.load()


def test_below_60_percent_it_is_unsure(say, tmp_path, picture, line):
    model = write_model(tmp_path / "run", {4: 5.0, 9: 4.8})  # 1 / (1 + exp(-0.2) + 8 exp(-5))
    assert say(picture, line, "--model", model).out[1:] == [
        f"{picture}: {UNSURE}",
        f"{line}: 4 4 / 4 ({UNSURE}, {UNSURE}, {UNSURE})",
    ]
    assert read.answer(np.array([0.6, 0.4] + [0.0] * 8), seven(28)) == "0 (60.0 %)"
    assert read.answer(np.full(10, 0.1), seven(28)) == "?"


def test_bad_files_get_a_line_each_and_the_others_are_done(say, tmp_path, picture, model):
    bad = [tmp_path / name for name in ("empty.png", "blank.png", "nothing")]
    bad[0].touch()
    Image.new("L", (50, 50), 200).save(bad[1])
    done = say(bad[0], picture, *bad[1:], "--model", model)
    assert done.code == 1 and done.out[1:] == [f"{picture}: 7 (94.3 %)"]
    assert [line.split(": ")[:2] for line in done.err] == [["error", str(path)] for path in bad]
    assert (tmp_path / "out" / "classified.png").exists()


def test_a_folder_is_measured_by_kind_and_layout(say, tmp_path, picture, line, model):
    labels = tmp_path / "labels.tsv"
    labels.write_text(
        "file\tdigits\tkind\tlayout\nmy seven.png\t7\tpaint\tone\n"
        "line.png\t7 5 7\tpaint\tlines\nnothing.png\t7\tphoto\tone\n"
    )
    done = say(tmp_path, "--model", model, main=measure.main)
    assert done.code == 0 and {
        "| paint | 2 | 1 | 0 | 1 | 1 |",
        "| lines | 1 | 0 | 0 | 0 | 1 |",
        "| photo | 1 | 0 | 1 | 0 | 0 |",
        "| all | 3 | 1 | 1 | 1 | 1 |",
        "line.png: 7 5 7; read as 7 7 / 7 (94.3 %, 94.3 %, 94.3 %)",
    } <= set(done.out)
    assert (
        "| all | 1 | 0 | 0 | 0 | 1 |"
        in say(tmp_path, "--half", "even", "--model", model, main=measure.main).out
    )
    labels.unlink()
    done = say(tmp_path, "--model", model, main=measure.main)
    assert done.code == 1 and len(done.err) == 1 and "labels.tsv" in done.err[0]


def results(dataset: object = "mnist", images: object = 5, accuracy: object = 0.5) -> str:
    parts = {"dataset": dataset, "train_images": images, "test_accuracy": accuracy}
    return json.dumps({"results": parts})


@pytest.mark.parametrize(
    "content, said",
    [
        (None, "no whole metrics.json"),
        ("{", "no whole metrics.json"),
        ("[" * 100_000, "no whole metrics.json"),
        ('{"results": null}', "no whole metrics.json"),
        (results(images="\x1b[2J"), "no whole metrics.json"),
        (results(images=float("inf")), "no whole metrics.json"),
        (results(dataset=["mnist"]), "no whole metrics.json"),
        (results(dataset="fashion-mnist"), "Fashion-MNIST, not on MNIST"),
        (results(dataset="digits"), "scikit-learn digits, not on MNIST"),
    ],
)
def test_a_model_of_unknown_or_other_origin_gets_a_warning(say, picture, model, content, said):
    model.with_name("metrics.json").unlink()
    if content is not None:
        model.with_name("metrics.json").write_text(content)
    done = say(picture, "--model", model)
    assert done.code == 0 and len(done.out) == 2 and str(model) in done.out[0]
    assert len(done.err) == 1 and done.err[0].startswith("warning: ") and said in done.err[0]


def test_the_model_of_all_images_comes_first(say, tmp_path, picture, monkeypatch):
    models = [tmp_path / run / "model.pt" for run in ("all", "few")]
    monkeypatch.setattr(read, "MODELS", models)
    done = say(picture)
    assert done.code == 1 and len(done.err) == 1 and "exercises/mnist_all.py" in done.err[0]
    for path in reversed(models):
        write_model(path.parent)
        assert f"model: {path}," in say(picture).out[0]


class Touch:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_models_from_strangers_are_not_executed(say, tmp_path, picture, model):
    touch, whole = Touch(tmp_path / "executed"), model.read_bytes()
    for content in (
        b"",
        whole[:-30],
        whole.replace(b"PK\x01\x02", b"PK\x01\x03"),
        pickle.dumps(touch),
        [1, 2],
        {"0.weight": torch.zeros(3, 783)},
        {"2.bias": torch.full((10,), torch.nan)},
        {"0.bias": torch.zeros(1).expand(10**12)},
        {"0.bias": torch.zeros(0)},
        {"0.bias": touch},
    ):
        model.write_bytes(whole)
        if isinstance(content, dict):
            content = torch.load(model, weights_only=True) | content
        if isinstance(content, bytes):
            model.write_bytes(content)
        else:
            torch.save(content, model)
        done = say(picture, "--model", model)
        assert done.code == 1 and done.out == []
        assert len(done.err) == 1 and str(model) in done.err[0]
    assert not touch.path.exists()


def test_as_a_user_runs_it(run, tmp_path, picture):
    """From another folder; with the model of any width that a run has left there."""
    words = ("--dataset", "digits", "--epochs", 1, "--hidden", 7, "--quiet")
    assert run("mnist_mlp", *words).returncode == 0
    model = tmp_path / "a folder with spaces" / "my run" / "model.pt"
    script, folder = PROJECT / "handwriting" / "read.py", tmp_path / "数字"
    done = subprocess.run(
        [sys.executable, "-OO", script, picture, "--model", model, "--output-dir", folder],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0 and "scikit-learn digits, not on MNIST" in done.stderr, done.stderr
    assert done.stdout.splitlines()[1].startswith(f"{picture}: ")
    assert (folder / "classified.png").exists()


def reading(*answers: str, name: str = "a picture.jpg") -> figure.Reading:
    count = len(answers)
    images, chances = np.stack([seven(28)] * count), np.full((count, 10), 0.1)
    boxes = [(10, 20, 200, 100)] * count
    shown = np.repeat(seven()[..., None], 3, axis=2)
    return figure.Reading(name, shown, boxes, images, chances, list(answers), [count])


@pytest.mark.parametrize(
    "pictures",
    [
        [reading("7 (100.0 %)")],
        [reading(UNSURE)] * 7,
        [reading("7 (98.0 %)", UNSURE)] * 2,
        [reading(*[UNSURE] * 14)],
        [reading("7 (98.0 %)", name="a name without end " * 9 + "x" * 99)] * 3,
    ],
    ids=["one", "many", "several digits", "more than a row", "long names"],
)
def test_no_caption_is_cut_off_or_covers_another(pictures):
    sheet = figure.readings(
        pictures, title="What was found, what the network sees of it, and what it says"
    )
    sheet.canvas.draw()
    width, height = sheet.canvas.get_width_height()
    shown = [text for text in sheet.findobj(lambda artist: hasattr(artist, "get_text"))]
    shown = [text for text in shown if text.get_text().strip()]
    captions = len(pictures) + 11 * sum(len(picture.answers) for picture in pictures)
    assert sheet.texts and len(shown) == len(sheet.texts) + captions
    boxes = [text.get_window_extent() for text in shown]
    for place, box in enumerate(boxes):
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height
        for other in boxes[:place]:
            assert not (
                min(box.x1, other.x1) > max(box.x0, other.x0)
                and min(box.y1, other.y1) > max(box.y0, other.y0) + 1
            )
    said = " ".join(text.get_text().replace("\n", " ").replace("\u00a0", " ") for text in shown)
    assert all(answer in said for picture in pictures for answer in picture.answers)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such file names")
def test_the_first_of_many_are_drawn_and_strange_names_do_no_harm(
    say, tmp_path, model, monkeypatch
):
    seen = watch_figures(monkeypatch)
    monkeypatch.setattr(read, "DRAWN", 2)
    names = [tmp_path / name for name in ("a\nb.png", "数字 😀.png", os.fsdecode(b"\xff.png"))]
    for name in names:
        Image.fromarray(255 - seven(60)).save(name, "PNG")
    done = say(*names, "--model", model)
    assert done.code == 0 and done.err == []
    assert "The first 2 of 3 pictures" in texts(seen["classified"])
    assert "a?b.png" in texts(seen["classified"])

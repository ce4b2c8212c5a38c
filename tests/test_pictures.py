"""--classify: pictures that a reader takes, as the network sees them, and files that are none."""

import pickle
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import write_idx
from PIL import Image

from common import device, digits
from common.cli import RunError
from common.onehot import one_cold, one_hot
from lectures import mnist_mlp as mnist


def larger(image: np.ndarray, times: int) -> np.ndarray:
    size = [side * times for side in image.shape[::-1]]
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))


def moved(image: np.ndarray, right: int, down: int, margin: int = 120) -> np.ndarray:
    field = np.zeros([side + 2 * margin for side in image.shape], np.uint8)
    field[margin + down:margin + down + image.shape[0], margin + right:margin + right + image.shape[1]] = image
    return field


def coloured(image: np.ndarray, paper, ink) -> np.ndarray:
    share = image[..., None] / 255
    return (np.array(paper) * (1 - share) + np.array(ink) * share).round().astype(np.uint8)


WAYS = {
    "as it is": (lambda image: image, "png"),
    "enlarged": (lambda image: larger(image, 10), "png"),
    "dark on light": (lambda image: 255 - larger(image, 4), "png"),
    "moved": (lambda image: moved(larger(image, 6), 90, -70), "png"),
    "coloured": (lambda image: coloured(larger(image, 8), (200, 120, 40), (20, 60, 120)), "png"),
    "JPEG": (lambda image: coloured(moved(larger(image, 8), 13, -20), (230, 225, 210), (30, 30, 90)), "jpg"),
}


@pytest.fixture(scope="module")
def real_model():
    """A function of the data's folder: MNIST and a model that was trained on some of it."""
    found = {}

    def get(root: str):
        if not found:
            data, generator = digits.load("mnist", Path(root)), device.generator(0)
            model = mnist.glorot_model(40, generator)
            mnist.train(model, mnist.as_vectors(data.x_train[:20_000]), one_hot(data.y_train[:20_000]),
                        torch.optim.Adam(model.parameters(), lr=0.005, fused=True), None, 128, generator,
                        np.full(4 * 157, np.nan), lambda: True, print)
            found.update(data=data, model=model)
        return found["data"], found["model"]

    return get


@pytest.mark.parametrize("way", WAYS)
def test_nine_of_ten_files_are_right_where_the_image_is(real_model, mnist_root, tmp_path, way):
    data, model = real_model(mnist_root)
    said = one_cold(mnist.predict(model, mnist.as_vectors(data.x_test)))
    known = torch.nonzero(said == data.y_test)[:150, 0]
    change, ending = WAYS[way]
    path, right = tmp_path / f"picture.{ending}", 0
    for index in known:
        Image.fromarray(change(data.x_test[index].numpy())).save(path, **{"quality": 40} if ending == "jpg" else {})
        seen = digits.read_picture(path)
        right += int(one_cold(mnist.predict(model, mnist.as_vectors(seen[None]))[0]) == data.y_test[index])
    assert right >= 0.9 * len(known)


def a_seven() -> np.ndarray:
    image = np.zeros((28, 28), np.uint8)
    image[4:7, 6:20] = 255
    for row in range(7, 24):
        image[row, 19 - (row - 7) // 2:22 - (row - 7) // 2] = 255
    return image


def test_what_the_network_sees_fills_20x20_and_is_centred_by_mass(tmp_path):
    for number, picture in enumerate((a_seven(), 255 - larger(a_seven(), 7), moved(a_seven(), 50, 20, 80))):
        Image.fromarray(picture).save(tmp_path / f"{number}.png")
        seen = digits.read_picture(tmp_path / f"{number}.png").numpy().astype(float)
        inside = np.argwhere(seen > 30)
        assert max(inside.max(axis=0) - inside.min(axis=0)) + 1 in (19, 20, 21)
        for axis in (0, 1):
            assert abs(np.average(np.arange(28) + 0.5, weights=seen.sum(axis=1 - axis)) - 14) <= 0.75


def test_transparent_and_rotated_by_the_camera(tmp_path):
    Image.fromarray(255 - a_seven()).save(tmp_path / "plain.png")
    expected = digits.read_picture(tmp_path / "plain.png")
    ink = np.zeros((28, 28, 4), np.uint8)
    ink[..., 3] = a_seven()
    Image.fromarray(ink).save(tmp_path / "transparent.png")
    assert torch.equal(digits.read_picture(tmp_path / "transparent.png"), expected)
    turned = Image.fromarray(255 - a_seven()).rotate(90, expand=True)
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by a quarter, clockwise
    turned.save(tmp_path / "turned.png", exif=exif)
    assert torch.equal(digits.read_picture(tmp_path / "turned.png"), expected)


def bomb() -> bytes:
    """A small PNG file that says it is 40,000 x 40,000 pixels."""
    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 40_000, 40_000, 8, 0, 0, 0, 0))
            + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b""))


@pytest.mark.parametrize("content, said", [
    (b"", "it is empty"),
    (b"not a picture", "not a picture"),
    (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n", "not a picture"),
    (bomb(), "pixels"),
    (b"\x89PNG\r\n\x1a\n" + b"x" * 100, "not a picture"),
])
def test_files_that_are_no_pictures(tmp_path, content, said):
    path = tmp_path / "file.png"
    path.write_bytes(content)
    with pytest.raises(RunError) as caught:
        digits.read_picture(path)
    assert str(path) in str(caught.value) and said in str(caught.value) and "\n" not in str(caught.value)


def test_blank_cut_off_and_missing(tmp_path):
    Image.new("L", (50, 50), 200).save(tmp_path / "blank.png")
    Image.fromarray(larger(a_seven(), 20)).save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:200])
    for name, said in (("blank", "is blank"), ("cut", "not a picture"), ("missing", "no such file")):
        with pytest.raises(RunError, match=said):
            digits.read_picture(tmp_path / f"{name}.png")
    with pytest.raises(RunError, match="not a picture"):
        digits.read_picture(tmp_path)


def test_as_a_user_classifies(run_here, tmp_path):
    write_idx(tmp_path / "data")
    assert run_here("mnist_mlp", "--data-dir", tmp_path / "data", "--hidden", 12,
                    "--images", "all", "--quiet").returncode == 0
    good, bad = tmp_path / "my seven.png", tmp_path / "empty.png"
    Image.fromarray(larger(a_seven(), 5)).save(good)
    bad.touch()
    done = run_here("mnist_mlp", "--classify", good, good)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 3 and lines[1].startswith(f"{good}: ") and lines[1].endswith(" %)") and lines[1] == lines[2]
    with Image.open(done.folder / "classified.png") as picture:
        picture.load()

    done = run_here("mnist_mlp", "--classify", bad, good)
    assert done.returncode == 1 and str(good) in done.stdout
    assert done.stderr.splitlines()[0].startswith(f"error: {bad}: ") and "1 of 2 files" in done.stderr.splitlines()[1]

    done = run_here("mnist_mlp", "--classify", good, "--model", tmp_path / "none.pt")
    assert done.returncode == 1 and "there is no" in done.stderr and done.stderr.count("\n") == 1


class Touch:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_models_from_strangers_are_not_executed(run_here, tmp_path):
    picture, model, touched = tmp_path / "seven.png", tmp_path / "stranger.pt", tmp_path / "executed"
    Image.fromarray(a_seven()).save(picture)
    state = mnist.glorot_model(40, device.generator(0)).state_dict()
    torch.save(state, model)
    assert run_here("mnist_mlp", "--classify", picture, "--model", model).returncode == 0
    for content in ([1, 2], {"a": 1}, {}, {"0.weight": torch.zeros(3, 3)}, state | {"0.weight": torch.zeros(40, 783)},
                    state | {"2.bias": torch.full((10,), torch.nan)}, state | {"0.bias": torch.zeros(10**6)},
                    state | {"extra": torch.zeros(2)}, state | {"0.bias": Touch(touched)}):
        torch.save(content, model)
        done = run_here("mnist_mlp", "--classify", picture, "--model", model)
        assert done.returncode == 1 and str(model) in done.stderr and done.stderr.count("\n") == 1, done.stderr
    model.write_bytes(pickle.dumps(Touch(touched)))
    assert run_here("mnist_mlp", "--classify", picture, "--model", model).returncode == 1
    assert not touched.exists()

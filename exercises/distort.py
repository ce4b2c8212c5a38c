"""Copies of images of digits as other people might write them: slanted, wider, bent, bolder."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

SIDE = 28
KNOTS = 4  # along each side, whose shifts bend a copy


class Distortions(NamedTuple):
    """The largest distortion of each kind; all but `bend` are uniform from minus this to this."""

    turn: float = 0.15  # radians
    scale: float = 0.1  # of width and height independently, as a fraction
    slant: float = 0.15  # sideways shift of a row, divided by its distance from the middle
    shift: float = 1.0  # pixels
    bend: float = 0.3  # pixels: standard deviation of the shifts at 4x4 knots
    pen: float = 0.4  # fraction of the way to strokes a pixel wider, or narrower, on each side


MOST = Distortions()


def distorted(
    images: Tensor,
    generator: torch.Generator,
    most: Distortions = MOST,
) -> Tensor:
    """A random copy of each image (LeCun et al. 1998, section III.A; Simard et al. 2003).

    First a dilation or an erosion makes the strokes thicker or thinner. Then each pixel of the copy
    takes the value at a place in that image, by bilinear interpolation, or 0 outside.

    Args:
        images: (n, 784), as vectors, on any device.
        generator: on the CPU.
    """
    count, device = len(images), images.device
    random = (2 * torch.rand(7, count, generator=generator) - 1).to(device)
    knots = torch.randn(count, 2, KNOTS, KNOTS, generator=generator).to(device)
    pixels = images.reshape(count, 1, SIDE, SIDE)
    pen = most.pen * random[6].reshape(-1, 1, 1, 1)
    signed = pen.sign() * pixels  # dilating the negative image is an erosion
    pixels = pixels + pen * (grown(signed) - signed)

    turn, slant = most.turn * random[0], most.slant * random[1]
    wide, high = 1 + most.scale * random[2], 1 + most.scale * random[3]
    right, down = (most.shift / (SIDE / 2) * random[4], most.shift / (SIDE / 2) * random[5])
    cos, sin = turn.cos(), turn.sin()
    maps = torch.stack(
        [
            wide * cos,
            wide * (slant * cos - sin),
            right,
            high * sin,
            high * (slant * sin + cos),
            down,
        ],
        dim=1,
    ).reshape(-1, 2, 3)
    middles = (torch.arange(SIDE, device=device) + 0.5) / (SIDE / 2) - 1  # of pixels, -1 to 1
    grid = torch.stack(
        [
            middles.repeat(SIDE),
            middles.repeat_interleave(SIDE),
            torch.ones_like(middles).repeat(SIDE),
        ]
    )  # (3, 784)
    bends = most.bend / (SIDE / 2) * knots.reshape(count, 2, -1) @ bases().to(device)
    places = (maps @ grid + bends).reshape(-1, 2, SIDE, SIDE).permute(0, 2, 3, 1)
    return functional.grid_sample(pixels, places, align_corners=False).reshape(images.shape)


def grown(pixels: Tensor) -> Tensor:
    """The maximum over the 3x3 pixels around each pixel; faster than max_pool2d."""
    for dim in (-2, -1):
        pixels = torch.maximum(pixels, torch.maximum(pixels.roll(1, dim), pixels.roll(-1, dim)))
    return pixels


def bases() -> Tensor:
    """The weight of each knot's shift at each pixel, (16, 784), by bicubic interpolation."""
    knots = torch.eye(KNOTS**2).reshape(-1, 1, KNOTS, KNOTS)
    size = (SIDE, SIDE)
    return functional.interpolate(knots, size=size, mode="bicubic", align_corners=True).reshape(
        KNOTS**2, -1
    )

"""A plain PyTorch loop of a small network, compiled: docs/engine.md."""

from engine.loop import Loop as steps
from engine.record import Refused
from engine.train import train

__all__ = ["Refused", "steps", "train"]

"""What the lectures share."""

from common import program as program  # first of all: it hears Ctrl-C while PyTorch is imported

"""Trains many starts at once, side by side in lanes and on all cores."""

from engine.record import Recorded, Tape, understand
from engine.starts import Starts, check, chunks, put_into

import copy
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn, optim

Loss = Callable[[nn.Module, Tensor, Tensor], Tensor]


def train(
    models: Sequence[nn.Module],
    loss: Loss,
    x: Tensor,
    y: Tensor,
    *,
    lr: float,
    steps: int,
    iterates: np.ndarray | None = None,
    advance: Callable[[int], None] = lambda steps: None,
) -> np.ndarray:
    """Trains every model by gradient descent, with one batch per step, cycling through them.

    Each start ends as in this loop (within rounding), with the same bits alone and among others, on
    any number of threads, and in one call or in several of whole cycles::

        for x_batch, y_batch in itertools.islice(itertools.cycle(zip(x, y)), steps):
            value = loss(model, x_batch, y_batch)
            optimizer.zero_grad()  # SGD with `lr`
            value.backward()
            optimizer.step()

    Args:
        models: with the same layers, in float64; their parameters are updated in place.
        loss: of a model on a batch, without side effects: it is called for one step only. It may
            ignore x and y and use tensors of its own.
        x, y: shape (batches, points, features), or (starts, batches, points, features) with each
            start's own batches.
        lr: of `torch.optim.SGD`.
        steps: the number of steps.
        iterates: float64, shape (starts, steps, parameters), filled with the parameters after each
            step.
        advance: called about ten times a second with the number of new steps of all starts.

    Returns:
        Every step's loss, before its update: float64, shape (starts, steps). A loss that is not
        finite ends its start, and NaN follows it.

    Raises:
        Refused: the engine cannot compile the step.
        ValueError: models that differ, or shapes that do not fit.
    """
    if len({str(model) for model in models}) != 1:
        raise ValueError("the models differ in their layers, or there is none")
    batches = [b if b.dim() == 4 else b[None] for b in (x, y)]
    fit = all(b.dim() == 4 and b.numel() and len(b) in (1, len(models)) for b in batches)
    if not fit or batches[0].shape[1:3] != batches[1].shape[1:3]:
        raise ValueError(
            "expected x and y of shape (batches, points, features), or with one more dimension in "
            f"front for {len(models)} starts; {tuple(x.shape)} and {tuple(y.shape)} do not fit"
        )
    recorded = record(models[0], loss, batches[0][0, 0], batches[1][0, 0], lr)
    parameters = [list(model.parameters()) for model in models]
    flat = torch.stack([torch.cat([p.detach().flatten() for p in row]) for row in parameters])
    starts = Starts(recorded, flat[:, None].numpy(), iterates=iterates is not None)
    losses = np.full((len(models), steps), np.nan)
    data = starts.laid_out({place: batch.numpy() for place, batch in enumerate(batches)})
    for rows in chunks(0, steps):
        count = rows.stop - rows.start
        losses[:, rows], kept = starts.advance(count, data, rows.start)
        if iterates is not None:
            iterates[:, rows] = kept
        advance(count * len(models))
        if not starts.running:
            break
    for row, numbers in zip(parameters, starts.weights[:, 0]):
        put_into(row, numbers)
    return losses


def record(model: nn.Module, loss: Loss, x: Tensor, y: Tensor, lr: float) -> Recorded:
    """Records a step of a copy of a model and checks it against its compiled form.

    The copy has small parameters, since those of the model may overflow.
    """
    model = copy.deepcopy(model)
    for parameter in model.parameters():
        nn.init.uniform_(parameter, -0.5, 0.5, torch.Generator().manual_seed(0))
    optimizer = optim.SGD(model.parameters(), lr=lr)
    with Tape() as tape:
        value = loss(model, x, y)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    recorded = understand(tape, (x, y))
    check(recorded, tape, (x, y))
    return recorded

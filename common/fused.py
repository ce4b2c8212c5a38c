"""The fused engine: plain SGD on a small fully connected network, all steps in one compiled loop.

A PyTorch step of a network with a few dozen parameters costs hundreds of microseconds, nearly all of it the price of
calling some fifty operations one by one. Here forward pass, backward pass and update are one function, `_steps`, that
numba compiles to machine code: for the CPU, where independent starts are spread over the cores, and from the same
source for CUDA, where each start has a thread. It makes the same steps as the plain loop in the lectures, which stays
the reference.

Importing this module needs numba. The compiled code is kept in numba's cache and read from there by later runs.
"""

import functools
import math
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numba import cuda, njit, prange
from torch import nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

ACTIVATIONS = {None: 0, nn.Sigmoid: 1, nn.Tanh: 2, nn.ReLU: 3}
CHUNK_SECONDS = 0.1  # the compiled loop returns this often, so that a bar moves and Ctrl-C is heard

# Sums may be reordered and multiply-adds contracted, which is what lets LLVM vectorise them; infinities and NaNs keep
# their meaning, because divergence is recognised by them.
_jit = njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract", "reassoc", "nsz"})

_LOG2_E = 1 / math.log(2)
_LN2_HIGH = float.fromhex("0x1.62e42fee00000p-1")  # ln 2 in two parts: k * _LN2_HIGH is exact for every exponent k
_LN2_LOW = float.fromhex("0x1.a39ef35793c76p-33")
_TAYLOR = tuple(1 / math.factorial(k) for k in range(13, -1, -1))
(_C13, _C12, _C11, _C10, _C9, _C8, _C7, _C6, _C5, _C4, _C3, _C2, _C1, _C0) = _TAYLOR


@njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract"})  # reordered, r would lose its last digits
def _exp(x):
    """exp(x) in float64, within 1e-15 relative; as arithmetic only, so that a loop over it can be vectorised.

    x = k ln 2 + r with |r| <= ln(2) / 2, so exp(x) = 2^k exp(r): Taylor's polynomial of degree 13 for the second
    factor, the bits of a float's exponent for the first. Beyond +-708, near the ends of float64, x is clipped.
    """
    x = min(max(x, -708.0), 708.0)
    k = math.floor(x * _LOG2_E + 0.5)
    r = x - k * _LN2_HIGH - k * _LN2_LOW
    p = _C13
    p = p * r + _C12
    p = p * r + _C11
    p = p * r + _C10
    p = p * r + _C9
    p = p * r + _C8
    p = p * r + _C7
    p = p * r + _C6
    p = p * r + _C5
    p = p * r + _C4
    p = p * r + _C3
    p = p * r + _C2
    p = p * r + _C1
    p = p * r + _C0
    return p * np.int64((np.int64(k) + 1023) << 52).view(np.float64)


@_jit
def _activate(activation, row):
    """Applies the activation to a node's weighted inputs, in place; `row` has a value for each point."""
    if activation == 1:
        for p in range(row.shape[0]):
            row[p] = 1 / (1 + _exp(-row[p]))
    elif activation == 2:
        for p in range(row.shape[0]):
            row[p] = 1 - 2 / (1 + _exp(2 * row[p]))
    elif activation == 3:
        for p in range(row.shape[0]):
            row[p] = row[p] if not row[p] <= 0 else 0  # not `max`: a NaN must stay one


@_jit
def _times_slope(activation, row, delta):
    """Multiplies `delta` in place by the activation's derivative, which follows from its value `row` alone."""
    if activation == 1:
        for p in range(row.shape[0]):
            delta[p] *= row[p] * (1 - row[p])
    elif activation == 2:
        for p in range(row.shape[0]):
            delta[p] *= 1 - row[p] * row[p]
    elif activation == 3:
        for p in range(row.shape[0]):
            delta[p] *= row[p] > 0


@_jit
def _steps(weights, widths, activations, inputs, targets, learning_rate, scale, first, losses, iterates, values,
           deltas):
    """Makes as many steps of one start as `losses` has room for, the first with batch `first`, see `train_sgd`.

    weights (parameters,): each layer's matrix, row by row, then its bias; updated in place.
    inputs (batches, features, points), targets (batches, outputs, points).
    losses (steps,), iterates (steps or 0, parameters): filled in.
    values, deltas (nodes, points): room for each node's value and for the loss's derivative by its weighted inputs;
    the nodes of a layer follow those of the layer before, the inputs come first.

    Returns False when a loss was not finite: its step is then the last, and its update is not made.
    """
    layers, points = activations.shape[0], inputs.shape[2]
    for step in range(losses.shape[0]):
        batch = (first + step) % inputs.shape[0]
        x, y = inputs[batch], targets[batch]
        for i in range(widths[0]):
            for p in range(points):
                values[i, p] = x[i, p]

        # Forward. `low` is the first node of the layer's inputs, `high` of its outputs, `w` and `b` its first weight
        # and bias.
        w, low = 0, 0
        for layer in range(layers):
            n, m = widths[layer], widths[layer + 1]
            b, high = w + m * n, low + n
            for o in range(m):
                row = values[high + o]
                for p in range(points):
                    row[p] = weights[b + o]
                for i in range(n):
                    weight, value = weights[w + o * n + i], values[low + i]
                    for p in range(points):
                        row[p] += weight * value[p]
                _activate(activations[layer], row)
            w, low = b + m, high

        loss = 0.0
        for o in range(widths[layers]):
            row, delta = values[low + o], deltas[low + o]
            for p in range(points):
                delta[p] = row[p] - y[o, p]
            # A loop that sums does not store: LLVM would vectorise it only where the arrays' addresses are far enough
            # apart, and so sum in an order that differs from run to run.
            for p in range(points):
                loss += delta[p] * delta[p]
            for p in range(points):
                delta[p] *= 2 * scale
        loss *= scale
        losses[step] = loss
        if not math.isfinite(loss):
            return False

        # Backward, and the update of each layer once the layer before has its deltas.
        for layer in range(layers - 1, -1, -1):
            n, m = widths[layer], widths[layer + 1]
            high, low, w = low, low - n, w - m * n - m
            b = w + m * n
            for o in range(m):
                _times_slope(activations[layer], values[high + o], deltas[high + o])
            if layer > 0:
                for i in range(n):
                    delta = deltas[low + i]
                    for p in range(points):
                        delta[p] = 0
                    for o in range(m):
                        weight, after = weights[w + o * n + i], deltas[high + o]
                        for p in range(points):
                            delta[p] += weight * after[p]
            for o in range(m):
                delta = deltas[high + o]
                gradient = 0.0
                for p in range(points):
                    gradient += delta[p]
                weights[b + o] -= learning_rate * gradient
                for i in range(n):
                    value = values[low + i]
                    gradient = 0.0
                    for p in range(points):
                        gradient += delta[p] * value[p]
                    weights[w + o * n + i] -= learning_rate * gradient

        if iterates.shape[0] > 0:
            for j in range(weights.shape[0]):
                iterates[step, j] = weights[j]
    return True


@njit(nogil=True, cache=True, parallel=True)
def _all_starts(weights, widths, activations, inputs, targets, learning_rate, scale, first, losses, iterates, alive):
    """`_steps` for every start that is still alive, spread over the cores; all arrays begin with the starts' axis."""
    for r in prange(weights.shape[0]):
        if alive[r]:
            values = np.empty((widths.sum(), inputs.shape[3]), weights.dtype)
            alive[r] = _steps(weights[r], widths, activations, inputs[r % inputs.shape[0]],
                              targets[r % targets.shape[0]], learning_rate, scale, first, losses[r],
                              iterates[r], values, np.empty_like(values))


def train_sgd(
    models: nn.Sequential | Sequence[nn.Sequential],
    inputs: torch.Tensor,
    targets: torch.Tensor,
    *,
    learning_rate: float,
    steps: int,
    scale: float = 1.0,
    iterates: np.ndarray | None = None,
    advance: Callable[[int], bool] = lambda steps: True,
) -> np.ndarray:
    """Makes `steps` steps of plain SGD, cycling through the batches, one a step, in order.

    The loss of a step is ``scale * ((model(x) - y) ** 2).sum()`` over its batch, and every parameter moves by
    ``-learning_rate`` times the loss's derivative, as `torch.optim.SGD` does. The models' parameters are updated in
    place, also when the call ends early.

    Args:
        models: an nn.Sequential of nn.Linear with nn.Sigmoid, nn.Tanh, nn.ReLU or nothing after each, in float64 or
            float32; or a sequence of such models alike in shape: independent starts, spread over the cores or, with
            their parameters on a CUDA device, one start a thread.
        inputs: shape (batches, points, features), or (starts, batches, points, features) with each start's own.
        targets: shape (batches, points, outputs), or with the starts' axis.
        learning_rate: the factor of the gradient.
        steps: the number of steps.
        scale: the factor of the sum of squares.
        iterates: shape (steps, parameters), or (starts, steps, parameters) for a sequence of models: filled in with
            the parameters after each step, in the order of `torch.nn.utils.parameters_to_vector`.
        advance: called about ten times a second with the number of steps made since; returning False ends the call.

    Returns:
        Every step's loss, before its update: float64, shape (steps,), or (starts, steps) for a sequence of models.
        NaN where no step was made: after a loss that is not finite, which ends its start, and after an early end.

    Raises:
        TypeError: a module that cannot be fused; it is named.
        ValueError: shapes that do not fit each other.
    """
    starts = [models] if isinstance(models, nn.Sequential) else list(models)
    shapes = [_architecture(model) for model in starts]
    if any(shape != shapes[0] for shape in shapes):
        raise ValueError("the models differ in their layers")
    widths, activations = np.array(shapes[0][0]), np.array(shapes[0][1])
    x, y = _batches(inputs, "inputs", shapes[0][2]), _batches(targets, "targets", shapes[0][2])
    if x.shape[2] != widths[0] or y.shape[2] != widths[-1] or x.shape[1::2] != y.shape[1::2] \
            or any(len(a) not in (1, len(starts)) for a in (x, y)):
        raise ValueError(f"inputs {tuple(inputs.shape)} and targets {tuple(targets.shape)} do not fit {len(starts)} "
                         f"models with {widths[0]} inputs and {widths[-1]} outputs")

    weights = np.stack([parameters_to_vector(m.parameters()).detach().cpu().numpy() for m in starts])
    losses = np.full((len(starts), steps), np.nan)
    trail = np.empty((len(starts), 0, 0)) if iterates is None else iterates.reshape(len(starts), steps, -1)
    alive = np.ones(len(starts), bool)
    fixed = (widths, activations, x, y, learning_rate, scale)
    launch = _launch_cuda if next(starts[0].parameters()).is_cuda else _all_starts
    done, chunk = 0, 100
    while done < steps and alive.any():
        part = slice(done, min(done + chunk, steps))
        begin = time.perf_counter()
        launch(weights, *fixed, done, losses[:, part], trail[:, part], alive)
        made = part.stop - done
        chunk = max(1, int(made * min(10, CHUNK_SECONDS / (time.perf_counter() - begin))))
        done = part.stop
        if not advance(made * len(starts)):
            break

    for model, vector in zip(starts, weights):
        vector_to_parameters(torch.from_numpy(vector).to(next(model.parameters()).device), model.parameters())
    return losses[0] if isinstance(models, nn.Sequential) else losses


def cuda_available() -> bool:
    """Whether numba finds a CUDA device; PyTorch has its own libraries and may see one where numba does not."""
    return cuda.is_available()


def load(dtype: torch.dtype) -> None:
    """Compiles the engine for a type of number, or reads it from numba's cache; without this, the first call does."""
    model = nn.Sequential(nn.Linear(1, 1, dtype=dtype))
    train_sgd(model, torch.zeros(1, 1, 1), torch.zeros(1, 1, 1), learning_rate=0.0, steps=1)


def _architecture(model: nn.Sequential) -> tuple[list[int], list[int], torch.dtype]:
    """The widths of the layers, the inputs first; each layer's activation as a number; the parameters' type."""
    widths, activations, dtypes = [], [], set()
    for module in model:
        if type(module) is nn.Linear and module.bias is not None:
            widths += [module.out_features] if widths else [module.in_features, module.out_features]
            activations.append(ACTIVATIONS[None])
            dtypes.add(module.weight.dtype)
        elif type(module) in ACTIVATIONS and activations[-1:] == [ACTIVATIONS[None]]:
            activations[-1] = ACTIVATIONS[type(module)]
        else:
            raise TypeError(f"the fused engine cannot take {module} here; it takes nn.Linear with a bias, each "
                            "followed by nn.Sigmoid, nn.Tanh, nn.ReLU or nothing")
    if dtypes not in ({torch.float64}, {torch.float32}):
        raise TypeError(f"the fused engine cannot take {model} in {dtypes or 'no type'}; it takes nn.Linear, all in "
                        "float64 or all in float32")
    return widths, activations, dtypes.pop()


def _batches(tensor: torch.Tensor, name: str, dtype: torch.dtype) -> np.ndarray:
    """(batches, points, n) or with starts before, as the kernel's (starts or 1, batches, n, points)."""
    if tensor.dim() not in (3, 4) or 0 in tensor.shape:
        raise ValueError(f"{name}: expected shape (batches, points, n) or (starts, batches, points, n), none of them "
                         f"0, got {tuple(tensor.shape)}")
    tensor = tensor.detach().to("cpu", dtype)
    return tensor.reshape(-1, *tensor.shape[-3:]).transpose(2, 3).contiguous().numpy()


def _launch_cuda(weights, widths, activations, inputs, targets, learning_rate, scale, first, losses, iterates, alive):
    """`_all_starts` on the GPU, a thread a start.

    The starts' axis is the last there, so that neighbouring threads read neighbouring numbers.
    """

    def move(array):
        return cuda.to_device(np.ascontiguousarray(np.moveaxis(array, 0, -1)))

    arrays = [move(a) for a in (weights, inputs, targets, losses, iterates, alive)]
    room = [cuda.device_array((widths.sum(), inputs.shape[3], len(weights)), weights.dtype) for _ in range(2)]
    _cuda_kernel()[(len(weights) + 63) // 64, 64](
        *arrays, cuda.to_device(widths), cuda.to_device(activations), learning_rate, scale, first, *room)
    for array, moved in zip((weights, losses, iterates, alive), (arrays[0], *arrays[3:])):
        array[...] = np.moveaxis(moved.copy_to_host(), -1, 0)


@functools.cache
def _cuda_kernel():
    """The kernel, compiled when it is first launched: a GPU is not needed to import this module."""

    @cuda.jit
    def kernel(weights, inputs, targets, losses, iterates, alive, widths, activations, learning_rate, scale, first,
               values, deltas):
        r = cuda.grid(1)
        if r < weights.shape[1] and alive[r]:
            alive[r] = _steps(weights[:, r], widths, activations, inputs[:, :, :, r % inputs.shape[3]],
                              targets[:, :, :, r % targets.shape[3]], learning_rate, scale, first, losses[:, r],
                              iterates[:, :, r], values[:, :, r], deltas[:, :, r])

    return kernel


def refusal(model):
    return None


def sgd(model, inputs, targets, losses, *, learning_rate, scale=1.0, iterates=None, first=0):
    return _chunks(model, inputs, targets, losses, learning_rate, scale, iterates, first)


def _chunks(model, inputs, targets, losses, learning_rate, scale, iterates, first):
    while first < len(losses):
        count = min(100_000, len(losses) - first)
        order = torch.arange(first, first + count) % len(inputs) if len(inputs) > 1 else torch.zeros(1, dtype=int)
        part = np.empty((count, 0)) if iterates is None else np.empty((count, iterates.shape[1]))
        losses[first:first + count] = train_sgd(model, inputs[order], targets[order], learning_rate=learning_rate,
                                                steps=count, scale=scale, iterates=None if iterates is None else part)
        if iterates is not None:
            iterates[first:first + count] = part
        made = int(np.isfinite(losses[first:first + count]).sum())
        first += made
        yield made
        if made < count:
            return

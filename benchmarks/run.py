"""Measures the speed claims side by side in one run: `make bench`, about four minutes.

Rivals are first checked to do the same work. They take turns, so that a slow spell of the machine
affects all of them, and medians are shown. Writes docs/generated/benchmarks.md and
outputs/benchmarks/benchmarks.json. JAX is measured if it is installed, the C loop and torch.compile
if there are compilers for C and C++, MNIST if it is found or can be downloaded.
"""

import contextlib
import copy
import ctypes
import functools
import importlib.metadata
import importlib.util
import inspect
import math
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the project's folder

import engine
from common import datasets, files, options, program
from common.onehot import one_hot
from engine.record import LARGEST
from engine.starts import cores as cores_here
from engine.vector import host
from exercises import mnist_all
from lectures import ann_revisited as ann
from lectures import mnist_mlp

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch import nn
from torch.nn.utils import parameters_to_vector

HERE = Path(__file__).resolve().parent
POINTS, LABELS = (t.T.contiguous().numpy() for t in (ann.POINTS, ann.LABELS))  # (2, 10)
RATE, SCALE = 0.01, 0.5 / 10
SCRIPTS = ("linear_recovery", "ann_revisited", "mnist_mlp")
FIRST_STEP = """
import time, torch
from torch import nn, optim
model = nn.Sequential(nn.Linear(2, 3), nn.Sigmoid(), nn.Linear(3, 2)).double()
optimizer, x = optim.SGD(model.parameters(), lr=0.1), torch.zeros(10, 2, dtype=torch.float64)
begin = time.perf_counter()
import engine
ends = {}
def after(): ends.setdefault(loop.done, time.perf_counter())
loop = engine.steps(range(5), after=after, stops=[3])
for _ in loop:
    value = model(x).square().sum()
    optimizer.zero_grad()
    value.backward()
    optimizer.step()
assert loop.compiled, loop.how
print(ends[3] - begin)
"""

BESIDE_THE_ENGINE = ("plain", "torch.compile", "JAX")  # compared with the engine, each in a column
FIRST = "engine.steps, to the first compiled step"

# Makes a number of steps of its starts; returns their losses, shape (starts, steps)
Loop = Callable[[int], np.ndarray]


class Rival(NamedTuple):
    """A loop, and the starts and steps of one timed call."""

    loop: Loop
    starts: int
    steps: int


def seconds(work: Callable[[], object]) -> float:
    """The time that a call takes."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def medians(works: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """The median seconds of each; they take turns, and the first round does not count."""
    times = [{name: seconds(work) for name, work in works.items()} for _ in range(rounds + 1)][1:]
    return {name: statistics.median(row[name] for row in times) for name in works}


# The rivals, on the lecture's network.


def models(starts: int) -> list[nn.Sequential]:
    """The network of each start."""
    return [ann.build_model(torch.Generator().manual_seed(start)) for start in range(starts)]


def layers(starts: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """The same networks: a matrix (starts, m, n) and a bias (starts, m, 1) for each layer."""
    networks, found = models(starts), []
    for i in (0, 2, 4):
        matrices = [network[i].weight.detach().numpy() for network in networks]
        biases = [network[i].bias.detach().numpy()[:, None] for network in networks]
        found.append((np.stack(matrices), np.stack(biases)))
    return found


def plain(steps: int, start: int = 0) -> np.ndarray:
    """The lecture's own loop."""
    return by_plain_loop(models(start + 1)[start], ann.loss, steps)


def by_plain_loop(model: nn.Module, loss: Callable, steps: int) -> np.ndarray:
    """The losses of the plain loop's steps, shape (1, steps)."""
    optimizer, losses = torch.optim.SGD(model.parameters(), lr=RATE), np.empty(steps)
    for step in range(steps):
        value = loss(model, ann.POINTS[0], ann.LABELS[0])  # a pair that the loss does not use
        losses[step] = value.item()
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    return losses[None]


def compiled_starts(starts: int) -> Loop:
    """The engine; each call continues to train the same networks."""
    networks, batch = models(starts), (ann.POINTS[None], ann.LABELS[None])
    return lambda steps: engine.train(networks, ann.loss, *batch, lr=RATE, steps=steps)


def numpy_loop(steps: int) -> np.ndarray:
    """Forward and backward pass in matrix form, written by hand."""
    network, losses = [(matrix[0], bias[0]) for matrix, bias in layers(1)], np.empty(steps)
    for step in range(steps):
        values = [POINTS]
        for matrix, bias in network:
            values.append(1 / (1 + np.exp(-(matrix @ values[-1] + bias))))
        delta = values[-1] - LABELS
        losses[step] = SCALE * (delta * delta).sum()
        delta = 2 * SCALE * delta
        for (matrix, bias), value, output in zip(network[::-1], values[-2::-1], values[:0:-1]):
            delta = delta * output * (1 - output)
            before = matrix.T @ delta
            matrix -= RATE * delta @ value.T
            bias -= RATE * delta.sum(axis=1, keepdims=True)
            delta = before
    return losses[None]


def jax_loop(starts: int) -> Loop | None:
    """The steps as a compiled `lax.scan`, `vmap`ped over the starts; None without JAX."""
    if not importlib.util.find_spec("jax"):
        return None
    import jax
    from jax import lax
    from jax import numpy as jnp

    jax.config.update("jax_enable_x64", True)

    def loss(network):
        value = POINTS
        for matrix, bias in network:
            value = jax.nn.sigmoid(matrix @ value + bias)
        return SCALE * ((value - LABELS) ** 2).sum()

    def step(network, _):
        value, gradient = jax.value_and_grad(loss)(network)
        return jax.tree.map(lambda p, g: p - RATE * g, network, gradient), value

    def train(network, steps):
        return lax.scan(step, network, length=steps)[1]

    network = jax.tree.map(jnp.array, layers(starts))
    if starts == 1:
        alone = jax.jit(train, static_argnums=1)
        return lambda steps: np.asarray(alone(jax.tree.map(lambda p: p[0], network), steps))[None]
    together = jax.jit(jax.vmap(train, in_axes=(0, None)), static_argnums=1)
    return lambda steps: np.asarray(together(network, steps))


def c_loop(folder: str) -> Loop | None:
    """loop.c, compiled into a folder; None without a compiler."""
    if not (compiler := shutil.which("cc")):
        return None
    library = Path(folder) / "loop.so"
    flags = ["-O3", "-march=native", "-ffast-math", "-shared", "-fPIC"]
    subprocess.run([compiler, *flags, HERE / "loop.c", "-o", library, "-lm"], check=True)
    sgd = ctypes.CDLL(str(library)).sgd
    array, real = np.ctypeslib.ndpointer(np.float64, flags="C"), ctypes.c_double
    sgd.argtypes, sgd.restype = [array, array, array, real, real, ctypes.c_long, array], None

    def loop(steps: int) -> np.ndarray:
        weights = parameters_to_vector(models(1)[0].parameters()).detach().numpy().copy()
        losses = np.empty(steps)
        sgd(weights, POINTS, LABELS, RATE, SCALE, steps, losses)
        return losses[None]

    return loop


def cpp_compiler() -> str | None:
    """The path of a C++ compiler that torch.compile finds."""
    return next(filter(None, map(shutil.which, ("g++", "c++", "clang++"))), None)


def compiled_loop(folder: str) -> Loop | None:
    """The lecture's loop with its loss through torch.compile; None without a C++ compiler.

    Its cache is a new folder, so that the first call compiles.
    """
    if not cpp_compiler():
        return None
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = folder
    model, loss = models(1)[0], torch.compile(ann.loss)
    start = copy.deepcopy(model.state_dict())

    def loop(steps: int) -> np.ndarray:
        model.load_state_dict(start)
        return by_plain_loop(model, loss, steps)

    return loop


# What is computed from the times.


def microseconds(took: dict[str, float], rivals: dict[str, Rival]) -> dict[str, float]:
    """Each rival's microseconds for a step of one start, from the seconds that it took."""
    return {
        name: 1e6 * took[name] / (starts * steps) for name, (_, starts, steps) in rivals.items()
    }


def compared(row: dict[str, float], starts: int, cores: int) -> dict[str, float]:
    """The rivals' times relative to the engine's; `starts` share the cores."""
    columns = {
        f"{name} / engine": row[name] / row["engine"] for name in BESIDE_THE_ENGINE if name in row
    }
    if "C" in row:  # which runs one start on one core
        columns["a core's engine / C"] = row["engine"] * min(starts, cores) / row["C"]
    return columns


def pays_after(compiling: float, plain: float, compiled: float) -> int:
    """The steps after which `compiling` seconds pay off; the others are microseconds per step."""
    return math.ceil(1e6 * compiling / (plain - compiled))


def first_and_warm(times: list[dict[str, float]]) -> list[dict]:
    """A row for each program: its seconds in the first round, and the median of the others.

    The last column is the ratio of this median to that of the first program.
    """
    warm = {name: statistics.median(row[name] for row in times[1:]) for name in times[0]}
    least = next(iter(warm.values()))
    return [
        {
            "python": name,
            "first": times[0][name],
            "warm": took,
            "warm, of import torch": took / least,
        }
        for name, took in warm.items()
    ]


def check(name: str, loop: Loop, starts: int) -> None:
    """Ends the benchmark if a rival's losses differ from those of the plain loop."""
    losses = loop(200)
    for start in {0, starts // 2, starts - 1}:
        expected, message = plain(200, start)[0], f"{name} does different work"
        np.testing.assert_allclose(losses[start], expected, rtol=1e-9, err_msg=message)


def table(rows: list[dict]) -> str:
    """Rows as a Markdown table, numbers with three digits."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    lines = [columns, ["---"] * len(columns)]
    lines += [[cell(row.get(column, "")) for column in columns] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def cell(value: float | str) -> str:
    """A number with three digits, or all digits before the point, and commas; texts as they are."""
    if isinstance(value, str):
        return value
    return f"{value:.3g}" if isinstance(value, float) and value < 100 else f"{value:,.0f}"


# The sections of the page. Each returns its rows; its docstring is the section's text.


def bench_steps(rounds: int) -> list[dict]:
    """Microseconds per step and start of the lecture's 2-2-3-2 network on its ten points.

    Plain is the lecture's PyTorch loop, torch.compile the same loop with its loss compiled, JAX is
    `lax.scan` with `vmap` over the starts, and C is `loop.c`, compiled with -O3 -march=native
    -ffast-math. Several starts share the cores: "a core's engine / C" is the engine's core time per
    step and start, relative to the C loop. "Compiling" has the seconds that torch.compile takes
    before its first step.
    """
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        c, compiled = c_loop(folder), compiled_loop(folder)
        compiling = {"compiling": seconds(lambda: compiled(1))} if compiled else {}
        for starts in (1, 8, 64, 512):
            # Half a second of work, so that the call itself costs little
            steps = 2_000_000 if starts == 1 else 20_000_000 // starts
            loops = {
                "JAX": (jax_loop(starts), starts, steps // 20),
                "C": (c, 1, 200_000),
                "engine": (compiled_starts(starts), starts, steps),
            }
            if starts == 1:
                alone = {"plain": (plain, 1, 1_000), "torch.compile": (compiled, 1, 1_000)}
                loops = alone | {"NumPy": (numpy_loop, 1, 5_000)} | loops
            rivals = {name: Rival(*found) for name, found in loops.items() if found[0]}
            for name, rival in rivals.items():
                check(name, rival.loop, rival.starts)
            works = {
                name: functools.partial(loop, steps) for name, (loop, _, steps) in rivals.items()
            }
            row = microseconds(medians(works, rounds), rivals)
            rows.append({"starts": starts, **row, **compared(row, starts, cores_here())})
    rows[0] |= compiling
    return rows


def bench_mnist(rounds: int, data: datasets.Dataset) -> list[dict]:
    """Seconds per epoch of the 784-40-10 network on all 60,000 images, on one thread.

    "Alone" and "beside" one other busy process. Both programs train with Adam at 0.001. The loss is
    the mean over the fifth epoch; the two differ because the initial weights do.
    """
    from sklearn.neural_network import MLPClassifier

    images, labels, rows = mnist_mlp.as_vectors(data.train_images), one_hot(data.train_labels), []
    x, y = images.numpy(), data.train_labels.numpy()
    for size in (128, 512):
        generator, losses = (
            torch.Generator().manual_seed(0),
            np.empty(math.ceil(len(images) / size)),
        )
        model = mnist_mlp.build_model(40, generator)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.001, fused=True)
        rival = MLPClassifier((40,), batch_size=size, alpha=0.0, random_state=0)

        def epoch() -> None:
            batches = mnist_all.batches(images, labels, size, 1, None, generator)
            for step, batch in enumerate(batches):
                value = mnist_mlp.loss(model, *batch)
                optimizer.zero_grad()
                value.backward()
                optimizer.step()
                losses[step] = value.item()

        works = {
            "mnist_all": epoch,
            "scikit-learn": lambda: rival.partial_fit(x, y, classes=range(10)),
        }
        for _ in range(5):
            for work in works.values():
                work()
        loss = {"mnist_all": losses.mean(), "scikit-learn": rival.loss_}
        message = "they do different work"
        np.testing.assert_allclose(*loss.values(), rtol=0.1, err_msg=message)
        alone = medians(works, rounds)
        with busy():
            beside = medians(works, rounds)
        rows += [{"batch": size, **row} for row in epochs(loss, alone, beside)]
    return rows


def epochs(loss: dict[str, float], alone: dict[str, float], beside: dict[str, float]) -> list[dict]:
    """A row of `bench_mnist` for each program, with its time relative to scikit-learn's."""
    return [
        {
            "by": name,
            "loss": loss[name],
            "alone": alone[name],
            "beside": beside[name],
            "of scikit-learn": alone[name] / alone["scikit-learn"],
        }
        for name in loss
    ]


@contextlib.contextmanager
def busy() -> Iterator[None]:
    """Another process that keeps a core busy."""
    other = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        other.kill()
        other.wait()


def bench_runs(rounds: int, data_dir: Path) -> list[dict]:
    """Seconds of whole runs, from the command to the last file.

    "First" is the first run of this session, "warm" the median of the others. The last row is the
    time from importing the engine, after PyTorch, to the first compiled step of a network.
    """
    environment = os.environ | {"MNIST_ROOT": str(data_dir)}
    with tempfile.TemporaryDirectory() as folder:
        commands = {'-c "import torch"': ["-c", "import torch"]}
        for script in SCRIPTS:
            path, output = f"lectures/{script}.py", str(Path(folder) / script)
            commands[path] = [str(program.PROJECT / path), "--quiet", "--output-dir", output]

        def run(command: list[str]) -> None:
            command = [sys.executable, *command]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)

        times = []
        for _ in range(rounds + 1):
            row = {name: seconds(lambda: run(command)) for name, command in commands.items()}
            times.append(row | {FIRST: first_step()})
    return first_and_warm(times)


def first_step() -> float:
    """Seconds from importing the engine to its first compiled step, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "first_step.py"  # a file, because the engine reads the loop's source
        file.write_text(FIRST_STEP)
        environment = os.environ | {"PYTHONPATH": str(program.PROJECT)}
        done = subprocess.run(
            [sys.executable, file], check=True, text=True, stdout=subprocess.PIPE, env=environment
        )
    return float(done.stdout)


def bench_limit(rounds: int) -> dict:
    """A network close to the engine's limit: seconds to compile, then microseconds per step."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 390), nn.Sigmoid(), nn.Linear(390, 2), nn.Sigmoid()).double()
    batch, steps = (ann.POINTS[None], ann.LABELS[None]), 200

    def by_plain(steps: int) -> np.ndarray:
        return by_plain_loop(copy.deepcopy(model), ann.loss, steps)

    def by_engine(steps: int) -> np.ndarray:
        return engine.train([copy.deepcopy(model)], ann.loss, *batch, lr=RATE, steps=steps)

    first = seconds(lambda: by_engine(steps))
    np.testing.assert_allclose(by_engine(steps), by_plain(steps), rtol=1e-9)
    rivals = {"plain": Rival(by_plain, 1, steps), "engine": Rival(by_engine, 1, steps)}
    took = medians(
        {name: functools.partial(rival.loop, steps) for name, rival in rivals.items()}, rounds
    )
    compiling, row = first - took["engine"], microseconds(took, rivals)
    return {
        "network": "2-390-2",
        "parameters": sum(p.numel() for p in model.parameters()),
        "compile": compiling,
        **row,
        "pays_after": pays_after(compiling, row["plain"], row["engine"]),
    }


def limit(row: dict) -> str:
    """What `bench_limit` measured, in words."""
    return (
        f"The engine takes networks of up to {LARGEST:,} parameters. {row['network']}, which has "
        f"{row['parameters']:,}, takes {row['compile']:.2g} s to compile. Then a step on ten "
        f"points takes {row['engine']:.3g} microseconds, and {row['plain']:.3g} in the plain loop, "
        f"so compiling pays off after {row['pays_after']:,} steps."
    )


# The page.


def machine() -> dict[str, object]:
    """Where the times were measured, and with which versions."""
    found = {
        "processor": host()[0],
        "cores": cores_here(),
        "system": platform.system(),
        "python": platform.python_version(),
    }
    for name in ("torch", "numpy", "llvmlite", "scikit-learn", "jax"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def missing() -> list[str]:
    """What cannot be measured here, each with the reason."""
    found = []
    if not importlib.util.find_spec("jax"):
        found.append("JAX: it is not installed")
    if not shutil.which("cc"):
        found.append("the C loop: there is no C compiler")
    if not cpp_compiler():
        found.append("torch.compile: there is no C++ compiler")
    return found


def main() -> None:
    parser = options.parser(__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=options.whole_number(1, 100), default=7, help="1 to 100")
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)  # as the lectures do for such small steps
    data_dir = Path(os.environ.get("MNIST_ROOT") or program.PROJECT / "data").resolve()
    benches, left_out = {"A step": bench_steps}, missing()
    try:
        data = datasets.load("mnist", data_dir)
        benches["All of MNIST"] = functools.partial(bench_mnist, data=data)
    except program.RunError as error:
        left_out.append(f"MNIST: {error}")
    benches["Whole runs"] = functools.partial(bench_runs, data_dir=data_dir)
    for line in left_out:
        print(f"not measured here: {line}", file=sys.stderr)

    where = ", ".join(f"{name} {value}" for name, value in machine().items())
    head = f"Written by `make bench`: medians of {rounds} rounds in one run, on {where}."
    page = ["# Benchmarks", head, *(f"Not measured: {line}." for line in left_out)]
    results = {"machine": machine(), "rounds": rounds, "missing": left_out}
    with threadpool_limits(1):  # of scikit-learn and NumPy
        for title, bench in benches.items():
            results[title] = bench(rounds)
            about = inspect.getdoc(getattr(bench, "func", bench))
            page += [f"## {title}", about, table(results[title])]
            print(f"\n{title}\n\n{page[-1]}", flush=True)
        results["The engine's limit"] = bench_limit(rounds)
        page += ["## The engine's limit", limit(results["The engine's limit"])]
        print(f"\n{page[-1]}", flush=True)
    path = program.PROJECT / "outputs" / "benchmarks" / "benchmarks.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    files.save(path, results)
    written = program.PROJECT / "docs" / "generated" / "benchmarks.md"
    files.save(written, ("\n\n".join(page) + "\n").encode())


if __name__ == "__main__":
    program.execute(main)

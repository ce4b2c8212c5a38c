"""The speed claims, measured side by side in one run: `make bench`, some four minutes.

Rivals take turns, so that a slow spell of the machine meets all of them, and the median is what is shown. That they do
the same work is checked before. Writes docs/benchmarks.md and outputs/benchmarks/benchmarks.json. JAX is measured where
it is installed, the C loop where there is a C compiler, MNIST where it is found or can be downloaded.
"""

import argparse
import contextlib
import copy
import ctypes
import importlib.metadata
import importlib.util
import itertools
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

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # common/ is found from any folder

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch import nn
from torch.nn.utils import parameters_to_vector

from common import digits, folder, fused, options, program
from common.onehot import one_hot
from lectures import ann_revisited as ann
from lectures import mnist_mlp

HERE = Path(__file__).resolve().parent
POINTS, LABELS = (t.T.contiguous().numpy() for t in (ann.POINTS, ann.LABELS))  # (2, 10)
RATE, SCALE = 0.01, 0.5 / 10
SCRIPTS = ("linear_recovery", "ann_revisited", "mnist_mlp")
FIRST_STEP = """
import time, numpy, torch
begin = time.perf_counter()
from common import fused
fused.train_sgd(torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Sigmoid(), torch.nn.Linear(3, 2)).double(),
                torch.zeros(1, 10, 2), torch.zeros(1, 10, 2), learning_rate=0.1, steps=1)
print(time.perf_counter() - begin)
"""

Loop = Callable[
    [int], np.ndarray
]  # makes so many steps of some starts; their losses, (starts, steps)


def seconds(work: Callable[[], object]) -> float:
    """How long it takes."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def medians(works: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Seconds of each; they take turns in every round, and the first round is not counted."""
    times = [{name: seconds(work) for name, work in works.items()} for _ in range(rounds + 1)][1:]
    return {name: statistics.median(row[name] for row in times) for name in works}


# The rivals at the lecture's network.


def models(starts: int) -> list[nn.Sequential]:
    """The network of each start."""
    return [ann.random_model(torch.Generator().manual_seed(start)) for start in range(starts)]


def layers(starts: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """The same networks: a matrix (starts, m, n) and a bias (starts, m, 1) for each layer."""
    return [
        (
            np.stack([m[i].weight.detach().numpy() for m in models(starts)]),
            np.stack([m[i].bias.detach().numpy()[:, None] for m in models(starts)]),
        )
        for i in (0, 2, 4)
    ]


def plain(steps: int, start: int = 0) -> np.ndarray:
    """The lecture's own loop."""
    model, losses = models(start + 1)[start], np.empty(steps)
    pair = ann.POINTS[0], ann.LABELS[0]  # which its loss does not look at
    ann.train(
        model,
        torch.optim.SGD(model.parameters(), lr=RATE),
        ((step, pair) for step in range(steps)),
        losses,
    )
    return losses[None]


def engine(starts: int) -> Loop:
    """The fused engine; it goes on with the same networks from call to call."""
    networks = models(starts)
    return lambda steps: fused.train_sgd(
        networks, ann.POINTS[None], ann.LABELS[None], learning_rate=RATE, steps=steps, scale=SCALE
    )


def numpy_loop(steps: int) -> np.ndarray:
    """Forward and backward pass in matrix form, as one writes them by hand."""
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


def c_loop(room: str) -> Loop | None:
    """loop.c, compiled into a folder; None without a compiler."""
    if not (compiler := shutil.which("cc")):
        return None
    library = Path(room) / "loop.so"
    subprocess.run(
        [
            compiler,
            "-O3",
            "-march=native",
            "-ffast-math",
            "-shared",
            "-fPIC",
            HERE / "loop.c",
            "-o",
            library,
            "-lm",
        ],
        check=True,
    )
    sgd = ctypes.CDLL(str(library)).sgd
    array, real = np.ctypeslib.ndpointer(np.float64, flags="C"), ctypes.c_double
    sgd.argtypes, sgd.restype = [array, array, array, real, real, ctypes.c_long, array], None

    def loop(steps: int) -> np.ndarray:
        weights, losses = (
            parameters_to_vector(models(1)[0].parameters()).detach().numpy().copy(),
            np.empty(steps),
        )
        sgd(weights, POINTS, LABELS, RATE, SCALE, steps, losses)
        return losses[None]

    return loop


def check(name: str, loop: Loop, starts: int) -> None:
    """Ends the benchmark if some of a rival's starts have other losses than the plain loop."""
    losses = loop(200)
    for start in {0, starts // 2, starts - 1}:
        np.testing.assert_allclose(
            losses[start], plain(200, start)[0], rtol=1e-9, err_msg=f"{name} does other work"
        )


# The sections of the page. Each returns its rows; what it is about is its docstring.


def bench_steps(rounds: int) -> list[dict]:
    """Microseconds of a step of one start: the lecture's 2-2-3-2 network on its ten points.

    Plain is the lecture's PyTorch loop; JAX is `lax.scan`, with `vmap` over the starts; C is `loop.c`, compiled with
    -O3 -march=native -ffast-math. Several starts share the cores. The last column takes their number into account: it
    is the share of the C loop's time that a core works on a step of one start.
    """
    rows, cores = [], fused._cores()
    with tempfile.TemporaryDirectory() as room:
        c = c_loop(room)
        for starts in (1, 8, 64, 512):
            steps = (
                2_000_000 if starts == 1 else 20_000_000 // starts
            )  # half a second; the call itself costs little
            rivals = {
                "JAX": (jax_loop(starts), starts, steps // 20),
                "C": (c, 1, 200_000),
                "fused": (engine(starts), starts, steps),
            }
            if starts == 1:
                rivals = {"plain": (plain, 1, 1_000), "NumPy": (numpy_loop, 1, 5_000)} | rivals
            rivals = {name: rival for name, rival in rivals.items() if rival[0]}
            for name, (loop, count, _) in rivals.items():
                check(name, loop, count)
            times = medians(
                {
                    name: lambda loop=loop, steps=steps: loop(steps)
                    for name, (loop, _, steps) in rivals.items()
                },
                rounds,
            )
            row = {
                name: 1e6 * times[name] / (count * steps)
                for name, (_, count, steps) in rivals.items()
            }
            rows.append(
                {
                    "starts": starts,
                    **row,
                    **{
                        f"{name} / fused": row[name] / row["fused"]
                        for name in ("plain", "JAX")
                        if name in row
                    },
                    **(
                        {"a core's fused / C": row["fused"] * min(starts, cores) / row["C"]}
                        if c
                        else {}
                    ),
                }
            )
    return rows


def bench_limit(rounds: int) -> dict:
    """A network as large as the engine takes, on ten points: seconds to compile, then microseconds a step."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 390), nn.Sigmoid(), nn.Linear(390, 2), nn.Sigmoid()).double()

    def by_plain() -> np.ndarray:
        twin, losses = copy.deepcopy(model), np.empty(200)
        pairs = itertools.repeat((ann.POINTS, ann.LABELS), len(losses))
        ann.train(twin, torch.optim.SGD(twin.parameters(), lr=RATE), enumerate(pairs), losses)
        return losses

    def by_engine() -> np.ndarray:
        return fused.train_sgd(
            copy.deepcopy(model),
            ann.POINTS[None],
            ann.LABELS[None],
            learning_rate=RATE,
            steps=200,
            scale=SCALE,
        )

    first = seconds(by_engine)
    np.testing.assert_allclose(by_engine(), by_plain(), rtol=1e-9)
    times = medians({"plain": by_plain, "fused": by_engine}, rounds)
    return {
        "network": "2-390-2",
        "parameters": sum(p.numel() for p in model.parameters()),
        "compile": first - times["fused"],
        **{name: 1e6 * took / 200 for name, took in times.items()},
        "pays_after": round(200 * (first - times["fused"]) / (times["plain"] - times["fused"])),
    }


def limit(row: dict) -> str:
    """What `bench_limit` measured, in a line."""
    return (
        f"The engine takes networks of up to {fused.LARGEST:,} parameters: {row['network']}, which has "
        f"{row['parameters']:,}, takes {row['compile']:.2g} s to compile. A step on ten points takes "
        f"{row['fused']:.3g} microseconds then, and {row['plain']:.3g} in the plain loop: compiling pays after "
        f"{row['pays_after']:,} steps."
    )


@contextlib.contextmanager
def busy() -> Iterator[None]:
    """Another process that keeps a core busy."""
    other = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        other.kill()
        other.wait()


def bench_mnist(rounds: int, data: digits.Digits) -> list[dict]:
    """Seconds of an epoch of all 60,000 images, 784-40-10, on one thread: alone, and beside one other busy process.

    Both train with Adam at 0.001. Their mean losses in the fifth epoch are shown: the starting weights differ.
    """
    from sklearn.neural_network import MLPClassifier

    images, labels, rows = mnist_mlp.as_vectors(data.x_train), one_hot(data.y_train), []
    for size in (128, 512):
        args = argparse.Namespace(
            lr=0.001,
            weight_decay=0.0,
            schedule="constant",
            epochs=1,
            batch_size=size,
            distort=False,
        )
        generator, losses = torch.Generator().manual_seed(0), np.empty(-(-len(images) // size))
        model = mnist_mlp.glorot_model(40, generator)
        optimizer, scheduler = mnist_mlp.adam(model, args, len(losses))
        rival = MLPClassifier((40,), batch_size=size, alpha=0.0, random_state=0)
        x, y = images.numpy(), data.y_train.numpy()
        works = {
            "mnist_mlp": lambda: mnist_mlp.train(
                model,
                optimizer,
                scheduler,
                enumerate(mnist_mlp.batches(images, labels, args, generator)),
                losses,
            ),
            "scikit-learn": lambda: rival.partial_fit(x, y, classes=range(10)),
        }
        for _ in range(5):
            for work in works.values():
                work()
        found = {"mnist_mlp": losses.mean(), "scikit-learn": rival.loss_}
        np.testing.assert_allclose(
            found["mnist_mlp"], found["scikit-learn"], rtol=0.1, err_msg="they do other work"
        )
        alone = medians(works, rounds)
        with busy():
            beside = medians(works, rounds)
        rows += [
            {
                "batch": size,
                "by": name,
                "loss": found[name],
                "alone": alone[name],
                "beside": beside[name],
                "of scikit-learn": alone[name] / alone["scikit-learn"],
            }
            for name in works
        ]
    return rows


def bench_runs(rounds: int, data_dir: Path) -> list[dict]:
    """Seconds of whole runs, from typing to the last file: the first in this session, and the median of those after it.

    At the end, what the engine adds to importing PyTorch until it has made the first step of a network.
    """

    def run(*command: str) -> float:
        return seconds(
            lambda: subprocess.run(
                [sys.executable, *command],
                check=True,
                stdout=subprocess.DEVNULL,
                env=os.environ | {"MNIST_ROOT": str(data_dir)},
            )
        )

    with tempfile.TemporaryDirectory() as room:
        commands = {'-c "import torch"': ["-c", "import torch"]} | {
            f"lectures/{script}.py": [
                str(program.PROJECT / "lectures" / f"{script}.py"),
                "--quiet",
                "--output-dir",
                str(Path(room) / script),
            ]
            for script in SCRIPTS
        }
        times = [
            {name: run(*command) for name, command in commands.items()} for _ in range(rounds + 1)
        ]
    warm = {name: statistics.median(row[name] for row in times[1:]) for name in commands}
    bare = next(iter(warm.values()))
    rows = [
        {
            "python": name,
            "first": times[0][name],
            "warm": took,
            "warm, of import torch": took / bare,
        }
        for name, took in warm.items()
    ]
    first = [
        float(
            subprocess.run(
                [sys.executable, "-c", FIRST_STEP],
                check=True,
                text=True,
                stdout=subprocess.PIPE,
                cwd=program.PROJECT,
            ).stdout
        )
        for _ in range(rounds + 1)
    ]
    took = statistics.median(first[1:])
    return [
        *rows,
        {
            "python": "from common import fused, a step",
            "first": first[0],
            "warm": took,
            "warm, of import torch": took / bare,
        },
    ]


def table(rows: list[dict]) -> str:
    """Rows as a Markdown table; three digits of a number."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    cells = [
        [
            f"{cell:,.0f}"
            if isinstance(cell, float) and cell >= 100
            else f"{cell:.3g}"
            if isinstance(cell, float)
            else f"{cell:,}"
            if isinstance(cell, int)
            else cell
            for cell in (row.get(key, "") for key in columns)
        ]
        for row in rows
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in (columns, ["---"] * len(columns), *cells))


def main() -> None:
    parser = options.parser(__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=options.whole_number(1, 100), default=7, help="1 to 100")
    args = parser.parse_args()
    torch.set_num_threads(1)  # what the lectures take for steps so small
    data_dir = Path(os.environ.get("MNIST_ROOT") or program.PROJECT / "data").resolve()
    sections = [("A step", bench_steps, ()), ("Whole runs", bench_runs, (data_dir,))]
    missing = []
    try:
        sections.insert(1, ("All of MNIST", bench_mnist, (digits.load("mnist", data_dir),)))
    except program.RunError as error:
        missing.append(f"MNIST: {error}")
    if not importlib.util.find_spec("jax"):
        missing.append("JAX: it is not installed")
    if not shutil.which("cc"):
        missing.append("the C loop: there is no C compiler")
    for line in missing:
        print(f"not measured here: {line}", file=sys.stderr)

    machine = {
        "processor": fused.host()[0],
        "cores": fused._cores(),
        "system": platform.system(),
        "python": platform.python_version(),
    }
    machine |= {
        name: importlib.metadata.version(name)
        for name in ("torch", "numpy", "llvmlite", "scikit-learn", "jax")
        if importlib.util.find_spec(name.replace("scikit-learn", "sklearn"))
    }
    results, page = (
        {},
        [
            "# Benchmarks",
            f"Written by `make bench`: medians of {args.rounds} rounds in one run, on "
            + ", ".join(f"{key} {value}" for key, value in machine.items())
            + ".",
        ],
    )
    page += [f"Not measured: {line}." for line in missing]
    with threadpool_limits(1):  # of scikit-learn and NumPy
        for title, bench, arguments in sections:
            results[title] = bench(args.rounds, *arguments)
            text = table(results[title])
            print(f"\n{title}\n\n{text}", flush=True)
            about = "\n".join(
                line.removeprefix("    ") for line in bench.__doc__.strip().splitlines()
            )
            page += [f"## {title}", about, text]
        results["The engine's limit"] = bench_limit(args.rounds)
        page += ["## The engine's limit", limit(results["The engine's limit"])]
        print(f"\n{page[-1]}", flush=True)
    path = program.PROJECT / "outputs" / "benchmarks" / "benchmarks.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    folder.save(path, {"machine": machine, "rounds": args.rounds, "missing": missing, **results})
    folder.save(program.PROJECT / "docs" / "benchmarks.md", ("\n\n".join(page) + "\n").encode())


if __name__ == "__main__":
    program.execute(main)

"""The speed claims, measured side by side in one run: `make bench`, some four minutes.

Rivals take turns, so that a slow spell of the machine meets all of them, and the median is what is shown. That they do
the same work is checked before. Writes docs/generated/benchmarks.md and outputs/benchmarks/benchmarks.json. JAX is
measured where it is installed, the C loop and torch.compile where there are compilers for C and C++, MNIST where it is
found or can be downloaded.
"""

import contextlib
import copy
import ctypes
import importlib.metadata
import importlib.util
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

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # common/ is found from any folder

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

RIVALS = ("plain", "torch.compile", "JAX")  # in PyTorch, or nearly

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
    return [ann.build_model(torch.Generator().manual_seed(start)) for start in range(starts)]


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
    return by_plain_loop(models(start + 1)[start], ann.loss, steps)


def by_plain_loop(model: nn.Module, loss: Callable, steps: int) -> np.ndarray:
    """The losses of the plain loop's steps, shape (1, steps)."""
    optimizer, losses = torch.optim.SGD(model.parameters(), lr=RATE), np.empty(steps)
    for step in range(steps):
        value = loss(model, ann.POINTS[0], ann.LABELS[0])  # a pair that the loss does not look at
        losses[step] = value.item()
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    return losses[None]


def compiled_starts(starts: int) -> Loop:
    """The engine; it goes on with the same networks from call to call."""
    networks, batch = models(starts), (ann.POINTS[None], ann.LABELS[None])
    return lambda steps: engine.train(networks, ann.loss, *batch, lr=RATE, steps=steps)


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


def cpp_compiler() -> str | None:
    """The path of a C++ compiler that torch.compile finds."""
    return next(filter(None, map(shutil.which, ("g++", "c++", "clang++"))), None)


def compiled_loop(room: str) -> Loop | None:
    """The lecture's loop with its loss through torch.compile; None without a C++ compiler, which that needs.

    What it compiles goes into a folder, so that it compiles anew; the first call does.
    """
    if not cpp_compiler():
        return None
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = room
    model, loss = models(1)[0], torch.compile(ann.loss)
    start = copy.deepcopy(model.state_dict())

    def loop(steps: int) -> np.ndarray:
        model.load_state_dict(start)
        return by_plain_loop(model, loss, steps)

    return loop


# What is made of the times.


def microseconds(took: dict[str, float], steps: dict[str, int]) -> dict[str, float]:
    """Microseconds of a step of each rival, from its seconds and the steps that it made in them, of all its starts."""
    return {name: 1e6 * seconds / steps[name] for name, seconds in took.items()}


def compared(row: dict[str, float], starts: int, cores: int) -> dict[str, float]:
    """The rivals beside the engine, from the microseconds of a step of each, where `starts` share the cores."""
    columns = {f"{name} / engine": row[name] / row["engine"] for name in RIVALS if name in row}
    if "C" in row:  # which has one core and one start
        columns["a core's engine / C"] = row["engine"] * min(starts, cores) / row["C"]
    return columns


def pays_after(compiling: float, plain: float, compiled: float) -> int:
    """The steps after which `compiling`, in seconds, has paid; of `plain` and `compiled` microseconds a step."""
    return math.ceil(1e6 * compiling / (plain - compiled))


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

    Plain is the lecture's PyTorch loop, torch.compile the same with its loss compiled; JAX is `lax.scan`, with `vmap`
    over the starts; C is `loop.c`, compiled with -O3 -march=native -ffast-math. Several starts share the cores. The
    last column takes their number into account: it is the share of the C loop's time that a core works on a step of
    one start. "Compiling" are the seconds that torch.compile takes before its first step.
    """
    rows, cores = [], cores_here()
    with tempfile.TemporaryDirectory() as room:
        c, compiled = c_loop(room), compiled_loop(room)
        compiling = seconds(lambda: compiled(1)) if compiled else None
        for starts in (1, 8, 64, 512):
            # Half a second of work, beside which the call itself costs little
            steps = 2_000_000 if starts == 1 else 20_000_000 // starts
            rivals = {
                "JAX": (jax_loop(starts), starts, steps // 20),
                "C": (c, 1, 200_000),
                "engine": (compiled_starts(starts), starts, steps),
            }
            if starts == 1:
                rivals = {
                    "plain": (plain, 1, 1_000),
                    "torch.compile": (compiled, 1, 1_000),
                    "NumPy": (numpy_loop, 1, 5_000),
                } | rivals
            rivals = {name: rival for name, rival in rivals.items() if rival[0]}
            for name, (loop, count, _) in rivals.items():
                check(name, loop, count)
            took = medians(
                {
                    name: lambda loop=loop, steps=steps: loop(steps)
                    for name, (loop, _, steps) in rivals.items()
                },
                rounds,
            )
            row = microseconds(
                took, {name: count * steps for name, (_, count, steps) in rivals.items()}
            )
            rows.append({"starts": starts, **row, **compared(row, starts, cores)})
        if compiling:
            rows[0]["compiling"] = compiling
    return rows


def bench_limit(rounds: int) -> dict:
    """A network as large as the engine takes, on ten points: seconds to compile, then microseconds a step."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 390), nn.Sigmoid(), nn.Linear(390, 2), nn.Sigmoid()).double()

    def by_plain() -> np.ndarray:
        return by_plain_loop(copy.deepcopy(model), ann.loss, 200)

    def by_engine() -> np.ndarray:
        batch = ann.POINTS[None], ann.LABELS[None]
        return engine.train([copy.deepcopy(model)], ann.loss, *batch, lr=RATE, steps=200)

    first = seconds(by_engine)
    np.testing.assert_allclose(by_engine(), by_plain(), rtol=1e-9)
    times = medians({"plain": by_plain, "engine": by_engine}, rounds)
    compiling, row = first - times["engine"], microseconds(times, dict.fromkeys(times, 200))
    return {
        "network": "2-390-2",
        "parameters": sum(p.numel() for p in model.parameters()),
        "compile": compiling,
        **row,
        "pays_after": pays_after(compiling, row["plain"], row["engine"]),
    }


def limit(row: dict) -> str:
    """What `bench_limit` measured, in a line."""
    return (
        f"The engine takes networks of up to {LARGEST:,} parameters: {row['network']}, which has "
        f"{row['parameters']:,}, takes {row['compile']:.2g} s to compile. A step on ten points takes "
        f"{row['engine']:.3g} microseconds then, and {row['plain']:.3g} in the plain loop: compiling pays after "
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


def bench_mnist(rounds: int, data: datasets.Dataset) -> list[dict]:
    """Seconds of an epoch of all 60,000 images, 784-40-10, on one thread: alone, and beside one other busy process.

    Both train with Adam at 0.001. Their mean losses in the fifth epoch are shown: the starting weights differ.
    """
    from sklearn.neural_network import MLPClassifier

    images, labels, rows = mnist_mlp.as_vectors(data.train_images), one_hot(data.train_labels), []
    for size in (128, 512):
        generator, losses = torch.Generator().manual_seed(0), np.empty(-(-len(images) // size))
        model = mnist_mlp.build_model(40, generator)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.001, fused=True)
        rival = MLPClassifier((40,), batch_size=size, alpha=0.0, random_state=0)
        x, y = images.numpy(), data.train_labels.numpy()

        def epoch(model=model, optimizer=optimizer, losses=losses, size=size, generator=generator):
            order = mnist_all.batches(images, labels, size, 1, None, generator)
            for step, batch in enumerate(order):
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
        found = {"mnist_all": losses.mean(), "scikit-learn": rival.loss_}
        np.testing.assert_allclose(
            found["mnist_all"], found["scikit-learn"], rtol=0.1, err_msg="they do other work"
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


def first_step() -> float:
    """Seconds from importing the engine until it has made its first compiled step, in a process of its own."""
    with tempfile.TemporaryDirectory() as room:
        file = Path(room) / "first_step.py"  # a file, because the engine reads the loop's source
        file.write_text(FIRST_STEP)
        done = subprocess.run(
            [sys.executable, file],
            check=True,
            text=True,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": str(program.PROJECT)},
        )
    return float(done.stdout)


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
    first = [first_step() for _ in range(rounds + 1)]
    took = statistics.median(first[1:])
    return [
        *rows,
        {
            "python": "engine.steps, to the first compiled step",
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
        sections.insert(1, ("All of MNIST", bench_mnist, (datasets.load("mnist", data_dir),)))
    except program.RunError as error:
        missing.append(f"MNIST: {error}")
    if not importlib.util.find_spec("jax"):
        missing.append("JAX: it is not installed")
    if not shutil.which("cc"):
        missing.append("the C loop: there is no C compiler")
    if not cpp_compiler():
        missing.append("torch.compile: there is no C++ compiler")
    for line in missing:
        print(f"not measured here: {line}", file=sys.stderr)

    machine = {
        "processor": host()[0],
        "cores": cores_here(),
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
    files.save(path, {"machine": machine, "rounds": args.rounds, "missing": missing, **results})
    files.save(
        program.PROJECT / "docs" / "generated" / "benchmarks.md",
        ("\n\n".join(page) + "\n").encode(),
    )


if __name__ == "__main__":
    program.execute(main)

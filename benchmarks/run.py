"""The speed claims, measured side by side in one run: `make bench`.

Each figure is the median of several rounds, in which the rivals take turns, so that a slow spell of the machine
meets all of them. Writes outputs/benchmarks/benchmarks.json and docs/benchmarks.md. jax is measured where it is
installed, the C loop where there is a C compiler, the GPU where there is one.
"""

import argparse
import ctypes
import importlib.util
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import torch
from torch import nn
from torch.nn.utils import parameters_to_vector

from common import cli, device, digits, fused, outputs
from common.onehot import one_hot
from lectures import ann_revisited as ann
from lectures import mnist_mlp

HERE = Path(__file__).resolve().parent
POINTS, LABELS = (t.T.contiguous().numpy() for t in (ann.POINTS, ann.LABELS))  # (2, 10)
RATE, SCALE = 0.01, 0.05


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def medians(rivals: dict[str, tuple[Callable[[], object], float]], rounds: int) -> dict[str, float]:
    """Seconds per unit of each rival, given as (work, units): the median of the rounds, after one not counted."""
    for work, _ in rivals.values():
        work()
    times = [{name: seconds(work) / units for name, (work, units) in rivals.items()} for _ in range(rounds)]
    return {name: statistics.median(t[name] for t in times) for name in rivals}


def start_model(seed: int = 0) -> nn.Sequential:
    return ann.random_model(device.generator(seed))


def start_weights() -> np.ndarray:
    return parameters_to_vector(start_model().parameters()).detach().numpy().copy()


# The rivals of a step.

def eager(steps: int):
    return train_eager(start_model(), ann.training_pairs("randn", steps, device.generator(0)))


def train_eager(model: nn.Sequential, pairs: tuple[torch.Tensor, torch.Tensor]) -> np.ndarray:
    return ann.train(model, *pairs, lambda p: torch.optim.SGD(p, lr=RATE), np.full(len(pairs[0]), np.nan), lambda: True)


def fused_steps(steps: int, starts: int = 1):
    return train_fused([start_model(seed) for seed in range(starts)], steps)[0]


def train_fused(models: list[nn.Sequential], steps: int) -> np.ndarray:
    return ann.train_fused(models, RATE, np.full((len(models), steps), np.nan), lambda steps: True)


def c_loop(folder: str) -> Callable[[int], np.ndarray] | None:
    """The C loop, compiled into `folder`, or None without a compiler."""
    compiler = shutil.which("cc")
    if not compiler:
        return None
    library = Path(folder) / "loop.so"
    subprocess.run([compiler, "-O3", "-march=native", "-ffast-math", "-shared", "-fPIC", HERE / "loop.c", "-o", library,
                    "-lm"], check=True)
    sgd = ctypes.CDLL(str(library)).sgd
    array, real = np.ctypeslib.ndpointer(np.float64, flags="C"), ctypes.c_double
    sgd.argtypes, sgd.restype = [array, array, array, real, real, ctypes.c_long, array], None

    def steps(count: int) -> np.ndarray:
        losses = np.empty(count)
        sgd(start_weights(), POINTS, LABELS, RATE, SCALE, count, losses)
        return losses

    return steps


def numpy_by_hand(steps: int) -> np.ndarray:
    """Forward and backward pass in matrix form, as one writes them in NumPy."""
    model, losses = start_model(), np.empty(steps)
    matrices = [layer.weight.detach().numpy().copy() for layer in model[::2]]
    biases = [layer.bias.detach().numpy().copy()[:, None] for layer in model[::2]]
    for step in range(steps):
        values = [POINTS]
        for matrix, bias in zip(matrices, biases):
            values.append(1 / (1 + np.exp(-(matrix @ values[-1] + bias))))
        error = values[-1] - LABELS
        losses[step] = SCALE * (error * error).sum()
        delta = 2 * SCALE * error
        for layer in (2, 1, 0):
            delta = delta * values[layer + 1] * (1 - values[layer + 1])
            before = matrices[layer].T @ delta
            matrices[layer] -= RATE * delta @ values[layer].T
            biases[layer] -= RATE * delta.sum(axis=1, keepdims=True)
            delta = before
    return losses


def jax_scan() -> Callable[[int], np.ndarray] | None:
    """The steps as one `lax.scan`, compiled, or None where jax is not installed."""
    if not importlib.util.find_spec("jax"):
        return None
    import jax
    from jax import lax
    from jax import numpy as jnp

    jax.config.update("jax_enable_x64", True)

    def loss(parameters):
        value = POINTS
        for matrix, bias in parameters:
            value = jax.nn.sigmoid(matrix @ value + bias)
        return SCALE * ((value - LABELS) ** 2).sum()

    def step(parameters, _):
        value, gradient = jax.value_and_grad(loss)(parameters)
        return jax.tree.map(lambda p, g: p - RATE * g, parameters, gradient), value

    many = jax.jit(lambda parameters, count: lax.scan(step, parameters, length=count)[1], static_argnums=1)
    start = [(jnp.array(layer.weight.detach().numpy()), jnp.array(layer.bias.detach().numpy())[:, None])
             for layer in start_model()[::2]]
    return lambda count: np.asarray(many(start, count))


def bench_step(rounds: int) -> list[dict]:
    """Microseconds of a step of the lecture's network."""
    with tempfile.TemporaryDirectory() as folder:
        candidates = {"eager nn.Sequential and torch.optim.SGD": (eager, 2_000),
                      "NumPy by hand": (numpy_by_hand, 10_000),
                      "JAX lax.scan": (jax_scan(), 100_000), "C loop": (c_loop(folder), 1_000_000),
                      "fused": (fused_steps, 1_000_000)}
        candidates = {name: both for name, both in candidates.items() if both[0]}
        reference = eager(1_000)
        for name, (steps, _) in candidates.items():  # the same steps, or the comparison means nothing
            np.testing.assert_allclose(steps(1_000), reference, rtol=1e-9, err_msg=name)
        times = medians({name: ((lambda s=steps, n=count: s(n)), count) for name, (steps, count) in candidates.items()},
                        rounds)
    return [{"way": name, "microseconds a step": 1e6 * t, "times fused": t / times["fused"]}
            for name, t in times.items()]


def bench_lengths(rounds: int) -> list[dict]:
    """Cost against the number of steps and of starts, and what a run adds to peak memory, each in its own process."""
    rows = []
    for steps, starts in [(10**k, 1) for k in (4, 5, 6, 7)] + [(10**6, r) for r in (2, 4, 8, 16, 32, 64)]:
        few = min(rounds, 3) if steps * starts > 10**7 else rounds
        text = subprocess.run([sys.executable, __file__, "--one", str(steps), str(starts), str(few)],
                              capture_output=True, text=True, check=True).stdout
        rows.append({"steps": steps, "starts": starts, **json.loads(text)})
    return rows


def one_length(steps: int, starts: int, rounds: int) -> None:
    """A row of `bench_lengths`: training `starts` starts at once takes turns with training one."""
    fused.load(torch.float64)
    before = peak_memory()
    fused_steps(steps, starts)
    rise = None if before is None else peak_memory() - before
    took = medians({"one": (lambda: fused_steps(steps), 1), "all": (lambda: fused_steps(steps, starts), 1)}, rounds)
    print(json.dumps({"seconds": took["all"], "microseconds a step": 1e6 * took["all"] / (steps * starts),
                      "times as many single runs": took["all"] / (starts * took["one"]),
                      "added to peak memory, MB": rise}))


def peak_memory(pid: int | str = "self") -> float | None:
    """A process's largest memory so far in MB, where Linux tells it; the usual getrusage would count its parent's."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("VmHWM")), None)


def bench_widths(rounds: int) -> list[dict]:
    """Eager and fused for 2-h-h-2 networks on ten points: where does fused stop paying?"""
    rows = []
    for hidden in (3, 8, 16, 32, 64, 96, 128, 192, 256):
        def make(h=hidden):
            torch.manual_seed(0)
            return nn.Sequential(nn.Linear(2, h), nn.Sigmoid(), nn.Linear(h, h), nn.Sigmoid(), nn.Linear(h, 2),
                                 nn.Sigmoid()).double()

        work = len(ann.POINTS) * sum(p.numel() for p in make().parameters() if p.dim() == 2)
        count = max(20, 4_000_000 // work)
        pairs = ann.training_pairs("randn", 300, device.generator(0))
        t = medians({
            "eager": (lambda m=make: train_eager(m(), pairs), 300),
            "fused": (lambda m=make, n=count: train_fused([m()], n), count)}, rounds)
        rows.append({"hidden width": hidden, "multiplications a pass": work, "eager, microseconds": 1e6 * t["eager"],
                     "fused, microseconds": 1e6 * t["fused"], "eager / fused": t["eager"] / t["fused"],
                     "auto takes": "fused" if work <= device.FUSED_LIMIT else "eager"})
    return rows


def bench_mnist(data: digits.Digits) -> list[dict]:
    """An epoch of 784-40-10 on all training images, batches of 128 and 512, and the seconds to 97 % of the test set."""
    images, labels = mnist_mlp.as_vectors(data.x_train), one_hot(data.y_train)
    test = mnist_mlp.as_vectors(data.x_test)

    def this_script(batch: int, rate: float = 0.001, epochs: int = 1, cycle: int = 0):
        """Trains in calls of one epoch; the seconds of each and the accuracies after it."""
        generator = device.generator(0)
        model = mnist_mlp.glorot_model(40, generator)
        optimizer = torch.optim.Adam(model.parameters(), lr=rate, fused=True)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, rate, total_steps=cycle * -(-len(images) // batch)) if cycle else None
        for _ in range(epochs):
            losses = np.full(-(-len(images) // batch), np.nan)
            took = seconds(lambda: mnist_mlp.train(model, images, labels, optimizer, schedule, batch, generator, losses,
                                                   lambda: True, print))
            yield took, mnist_mlp.accuracy(mnist_mlp.predict(model, test), data.y_test)

    def scikit_learn(batch: int, epochs: int = 1):
        from sklearn.neural_network import MLPClassifier

        model = MLPClassifier((40,), batch_size=batch, random_state=0)
        x, y, x_test = images.numpy(), data.y_train.numpy(), test.numpy()
        for _ in range(epochs):
            took = seconds(lambda: model.partial_fit(x, y, classes=range(10)))
            yield took, model.score(x_test, data.y_test.numpy())

    def data_loader(batch: int):
        from torchvision import transforms

        class Images(torch.utils.data.Dataset):
            transform = transforms.Compose([transforms.ToPILImage(), transforms.ToTensor(),
                                            transforms.Lambda(torch.ravel)])

            def __len__(self):
                return len(data.x_train)

            def __getitem__(self, index):
                return self.transform(data.x_train[index]), data.y_train[index]

        model = mnist_mlp.glorot_model(40, device.generator(0))
        optimizer = torch.optim.Adam(model.parameters())

        def epoch():
            for x, y in torch.utils.data.DataLoader(Images(), batch_size=batch, shuffle=True):
                optimizer.zero_grad()
                nn.functional.cross_entropy(model[:-1](x), y).backward()
                optimizer.step()

        yield seconds(epoch), mnist_mlp.accuracy(mnist_mlp.predict(model, test), data.y_test)

    def to_97(epochs) -> float | str:
        total = 0.0
        for took, accuracy in epochs:
            total += took
            if accuracy >= 0.97:
                return total
        return "not in 30 epochs"

    rows = []
    for batch in (128, 512):
        ways = {"mnist_mlp": lambda: this_script(batch, epochs=6), "scikit-learn MLPClassifier":
                lambda: scikit_learn(batch, epochs=3), "DataLoader, transforms an image": lambda: data_loader(batch)}
        for name, way in ways.items():
            rows.append({"way": name, "batch": batch,
                         "seconds an epoch": statistics.median(took for took, _ in way())})
    times = {"mnist_mlp, one-cycle 0.015 over 6 epochs": to_97(this_script(128, 0.015, 6, cycle=6)),
             "mnist_mlp": to_97(this_script(128, epochs=30)),
             "scikit-learn MLPClassifier": to_97(scikit_learn(128, epochs=30))}
    for name, took in times.items():
        row = next((r for r in rows if (r["way"], r["batch"]) == (name, 128)), None)
        if row is None:
            rows.insert(0, row := {"way": name, "batch": 128, "seconds an epoch": None})
        row["seconds to 97 %"] = took
    return rows


def bench_start(rounds: int, data_dir: Path) -> list[dict]:
    """From typing to the last file, by phase: the first run, which compiles, and later ones; a bare import torch."""
    bare = statistics.median(seconds(lambda: subprocess.run([sys.executable, "-c", "import torch"], check=True))
                             for _ in range(rounds + 2))
    rows = [{"command": "python -c 'import torch'", "run": "warm", "total": bare}]
    for script in ("linear_recovery", "ann_revisited", "mnist_mlp"):
        with tempfile.TemporaryDirectory() as cache, tempfile.TemporaryDirectory() as folder:
            runs = []
            for _ in range(rounds + 1):
                start = time.perf_counter()
                process = subprocess.Popen(
                    [sys.executable, cli.PROJECT / "lectures" / f"{script}.py", "--output-dir", folder, "--quiet"],
                    stdout=subprocess.DEVNULL, env=os.environ | {"NUMBA_CACHE_DIR": cache, "MNIST_ROOT": str(data_dir)})
                peak = 0.0
                while process.poll() is None:
                    peak = max(peak, peak_memory(process.pid) or 0)
                    time.sleep(0.01)
                total = time.perf_counter() - start
                if process.returncode:
                    raise cli.RunError(f"{script}.py ended with {process.returncode}")
                phases = json.loads((Path(folder) / "metrics.json").read_text())["seconds"]
                # What the phases do not cover is Python's own start and end, most of it before the first line.
                before = total - sum(phases.values()) + sum(
                    t for name, t in phases.items() if name not in ("training", "figures"))
                runs.append({"total": total, **phases, "to the first step": before,
                             "first step / import torch": before / bare, "peak memory, MB": peak or None})
        for name, group in (("first", runs[:1]), ("warm", runs[1:])):
            rows.append({"command": f"{script}.py", "run": name,
                         **{key: statistics.median(r[key] for r in group) for key in group[0]
                            if group[0][key] is not None}})
    return rows


def bench_cuda() -> list[dict]:
    """10,000 starts on the GPU against the CPU, in steps a second over all starts."""
    rows = []
    for where in ("cuda", "cpu"):
        models = [start_model(seed).to(where) for seed in range(10_000)]
        train_fused(models, 10)
        took = seconds(lambda m=models: train_fused(m, 10_000))
        rows.append({"where": where, "starts": 10_000, "steps": 10_000, "seconds": took, "steps a second": 1e8 / took})
    return rows


def table(rows: list[dict]) -> str:
    """Rows as a Markdown table."""
    columns = list(dict.fromkeys(key for row in rows for key in row))

    def cell(value) -> str:
        if isinstance(value, float):
            return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
        return "" if value is None else f"{value:,}" if isinstance(value, int) else str(value)

    lines = [columns, ["---"] * len(columns), *([cell(row.get(key)) for key in columns] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--rounds", type=cli.whole_number(1, 100), default=5, help="1 to 100 (default: 5)")
    options.add_argument("--one", type=int, nargs=3, help=argparse.SUPPRESS)  # a child process of bench_lengths
    args = options.parse_args()
    if args.one:
        return one_length(*args.one)
    data_dir = Path(os.environ.get("MNIST_ROOT") or cli.PROJECT / "data").resolve()
    sections = [("A step of the lecture's network", bench_step, (args.rounds,)),
                ("More steps, more starts", bench_lengths, (args.rounds,)),
                ("Wider networks", bench_widths, (args.rounds,)),
                ("From typing to the last file, seconds", bench_start, (args.rounds, data_dir))]
    try:
        sections.append(("MNIST, 784-40-10, 60,000 images", bench_mnist, (digits.load("mnist", data_dir),)))
    except cli.RunError as error:
        print(f"MNIST is left out: {error}", file=sys.stderr)
    if torch.cuda.is_available() and fused.cuda_available():
        sections.append(("Many starts on the GPU", bench_cuda, ()))
    results = {}
    for title, work, options in sections:
        results[title] = work(*options)
        print(f"\n{title}\n\n{table(results[title])}", flush=True)

    import numba

    machine = {"processor": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version(),
               "torch": torch.__version__, "numba": numba.__version__, "numpy": np.__version__,
               "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else "none: the GPU was not measured"}
    folder = cli.PROJECT / "outputs" / "benchmarks"
    folder.mkdir(parents=True, exist_ok=True)
    outputs.save_json(folder / "benchmarks.json", {"machine": machine, "rounds": args.rounds, **results})
    page = ["# Benchmarks", f"Written by `make bench` (medians of {args.rounds} rounds in one run) on: "
            + ", ".join(f"{key} {value}" for key, value in machine.items()) + "."]
    for title, work, _ in sections:
        page += [f"## {title}", work.__doc__, table(results[title])]
    (cli.PROJECT / "docs" / "benchmarks.md").write_text("\n\n".join(page) + "\n")


if __name__ == "__main__":
    main()

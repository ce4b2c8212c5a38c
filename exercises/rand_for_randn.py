"""Exercise 3: rand instead of randn in xtrain and ytrain of the network."""

import numpy as np
import torch
from torch.nn.utils import parameters_to_vector

from common import device, fused
from exercises.figures import lines
from lectures import ann_revisited as ann

STARTS, PAIRS, PLAIN_STEPS = 20, 1_000_000, 2_000
KINDS = ("randn", "rand")


def plain_weights(kind: str) -> np.ndarray:
    """The weights after PLAIN_STEPS steps of the lecture's loop, which is handed pairs of this kind."""
    model = ann.random_model(device.generator(0))
    pairs = ann.training_pairs(kind, PLAIN_STEPS, device.generator(0))
    ann.train(model, *pairs, lambda p: torch.optim.SGD(p, lr=0.01), np.full(PLAIN_STEPS, np.nan), lambda: True)
    return parameters_to_vector(model.parameters()).detach().numpy()


def measure(data_dir) -> tuple[dict, dict]:
    """The results, and the figures by file name."""
    weights = {kind: plain_weights(kind) for kind in KINDS}
    results = {"bit_for_bit": weights["randn"].tobytes() == weights["rand"].tobytes(), "plain_steps": PLAIN_STEPS,
               "pairs": PAIRS, "starts": STARTS}
    curves, floors = {}, {}
    for kind in KINDS:
        x, y = ann.training_pairs(kind, PAIRS, device.generator(0))
        networks = [ann.random_model(device.generator(seed)) for seed in range(STARTS)]
        losses = fused.train_sgd(networks, x.unsqueeze(1), y.unsqueeze(1), learning_rate=0.01, steps=PAIRS, scale=0.5)
        best = y.mean(dim=0).clamp(0, 1)  # a sigmoid reaches what lies between 0 and 1
        with torch.no_grad():
            reached = [0.5 * ((network(x) - y) ** 2).sum(dim=1).mean().item() for network in networks]
        floors[kind] = 0.5 * ((best - y) ** 2).sum(dim=1).mean().item()
        results[kind] = {"mean_of_targets": y.mean(dim=0).tolist(), "best": floors[kind],
                         "first": float(losses[:, :1000].mean()), "reached": reached}
        grid = np.unique(np.geomspace(100, PAIRS, 150).astype(int))
        curves[f"pairs of {kind}"] = grid, np.stack([losses[:, n // 2:n].mean(axis=1) for n in grid], axis=1)
    figures = {"loss.png": lines(
        curves, title=f"The loss if it used its arguments, mean and 10-90 %\n{STARTS} starts, learning rate 0.01",
        xlabel="steps",
        ylabel="loss, mean of the last half of the steps", scales=("log", "log"),
        horizontal={f"the best there is for {kind}": floors[kind] for kind in KINDS})}
    return results, figures


def text(results: dict, table) -> str:
    """The section of the page; `table` makes Markdown of rows."""
    rows = [[kind, ", ".join(f"{m:.3f}" for m in r["mean_of_targets"]), f"{r['first']:.4f}",
             f"{np.mean(r['reached']):.4f}", f"{np.max(r['reached']):.4f}", f"{r['best']:.4f}"]
            for kind in KINDS for r in [results[kind]]]
    same = "equal bit for bit" if results["bit_for_bit"] else "NOT equal"
    return f"""## 3. rand instead of randn?

Nothing changes: after {results["plain_steps"]:,} steps from the same seed the weights are {same}, because the lecture's
`loss(x, y)` never looks at x and y: each step is one on the same ten points, whatever it is handed. (The same for whole
runs: `python lectures/ann_revisited.py --train-data rand`.)

If the loss did use them, there would be nothing to learn: x and y are independent, so no network does better than the
mean of the targets, clipped to what a sigmoid reaches, which is 0 for randn and 1/2 for rand. Here are {STARTS} starts
trained on {results["pairs"]:,} pairs, one a step, with the loss 1/2 ||y - M(x)||² of the pair:

{table(["pairs of", "mean of the targets", "loss, first 1,000 steps", "loss at the end, mean of the starts",
        "worst start", "best any network can do"], rows)}

![The loss if it used its arguments](figures/exercise_3_loss.png)
"""

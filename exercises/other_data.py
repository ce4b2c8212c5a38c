"""Exercise 5: not MNIST, but a similar good data set."""

import os
import sys

from common import digits, plotting
from common.cli import RunError
from exercises import unseen
from lectures import mnist_mlp as mnist


def on_disk(name: str, data_dir) -> bool:
    """Whether a data set can be read without a download."""
    folder = data_dir / digits.TORCHVISION_NAMES[name] / "raw" if name != "digits" else None
    return folder is None or all(any(os.path.exists(folder / (file + end)) for end in ("", ".gz"))
                                 for file in digits.FILES)


def measure(data_dir) -> tuple[dict, dict]:
    """The results, and the figures by file name."""
    rows, left_out, figures = [], [], {}
    for name in (*digits.TORCHVISION_NAMES, "digits"):
        if not on_disk(name, data_dir):
            left_out.append(digits.TITLES[name])
            continue
        try:
            data = digits.load(name, data_dir)
        except RunError as error:
            print(f"warning: {error}", file=sys.stderr)
            left_out.append(digits.TITLES[name])
            continue
        test, count = mnist.as_vectors(data.x_test), len(data.x_train)
        few = mnist.predict(unseen.lecture_model(data, 0), test)
        every = mnist.predict(unseen.quick_model(data, count, 0), test)
        rows.append({"name": name, "dataset": data.title, "train": count, "test": len(test),
                     "few": mnist.accuracy(few, data.y_test), "every": mnist.accuracy(every, data.y_test)})
        figures[f"{name}.png"] = plotting.image_row(
            data.x_test[:5].numpy(), plotting.captions(every[:5].numpy(), data.y_test[:5].tolist(), data.classes),
            title=f"The first five test images\n{data.title}, trained on {count:,} images")
    return {"rows": rows, "left_out": left_out}, figures


def text(results: dict, table) -> str:
    """The section of the page; `table` makes Markdown of rows."""
    rows = [[r["dataset"], f"{r['train']:,}", f"{r['test']:,}", f"{r['few']:.1%}", f"{r['every']:.2%}"]
            for r in results["rows"]]
    pictures = "\n".join(f"![{r['dataset']}](figures/exercise_5_{r['name']}.png)" for r in results["rows"])
    last = results["rows"][-1]
    left_out = f" Not on this disk, and so not run: {', '.join(results['left_out'])}." if results["left_out"] else ""
    return f"""## 5. Not MNIST, but a similar good data set

`python lectures/mnist_mlp.py --dataset digits` (or `fashion-mnist`, `kmnist`) runs the same script on other images.
With 100 images of {last["dataset"]} the lecture's model has {last["few"]:.1%} of the test set right, with all
{last["train"]:,} and the settings of exercise 4 {last["every"]:.1%} (seed 0).{left_out}

{table(["data set", "training images", "test images", "right after 100 images", "right after all"], rows)}

{pictures}
"""

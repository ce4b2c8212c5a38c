"""Exercise 4: the lecture's model and one of more images, on images never seen."""

from common import datasets
from exercises import exercise_4 as exercise

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from conftest import PROJECT
from small_exercises import data_folder, measured, text


def test_the_unseen_image_is_that_of_the_lectures_run(run_here):
    done = run_here("mnist_mlp", "--data-dir", data_folder(), "--seed", 1)
    found, shown = measured(4)["runs"][1], done.metrics["results"]["unseen"]
    assert [found["image"] - 1, found["label"]] == [shown["index"], shown["label"]]
    assert found["prediction"] == shown["prediction"]
    assert found["probabilities"] == pytest.approx(shown["probabilities"], abs=1e-3)
    assert found["accuracy"] == pytest.approx(done.metrics["results"]["test_accuracy"], abs=0.03)


def test_accuracies_are_the_shares_of_correct_test_images():
    data = datasets.load("mnist", data_folder())
    for row in measured(4)["sizes"]:
        shares = []
        for seed in range(2):
            model = exercise.tuned_model(data, row["images"], seed, exercise.TUNED)
            answers = [
                int(model(image.reshape(1, 784) / 255).argmax()) for image in data.test_images
            ]
            shares.append(np.mean([a == b for a, b in zip(answers, data.test_labels.tolist())]))
            assert 0 < shares[-1] < 1, "a model that is always right or wrong shows nothing"
        assert row["accuracies"] == pytest.approx(shares)
        assert row["error"] == pytest.approx(1 - np.mean(shares))


@pytest.mark.parametrize("images, epochs", [(40, 5), (120, 4)])  # of 2 and of 4 steps
def test_a_model_is_trained_for_epochs_or_steps_whichever_is_more(monkeypatch, images, epochs):
    data, seen = datasets.load("mnist", data_folder()), {}
    monkeypatch.setattr(exercise.mnist_all, "train", lambda *_, **options: seen.update(options))
    exercise.tuned_model(data, images, 0, exercise.TUNED | {"epochs": 4, "least_steps": 9})
    assert seen["epochs"] == epochs


def test_the_ten_images_are_those_of_the_runs():
    data, results = datasets.load("mnist", data_folder()), measured(4)
    figure = exercise.draw(data, results["runs"], {50: [0.5], 100: [0.6]})["ten.png"]
    for axes, run in zip(figure.axes, results["runs"], strict=True):
        image, label = data.test_images[run["image"] - 1].numpy(), data.classes[run["label"]]
        assert (axes.images[0].get_array() == image).all()
        assert axes.get_xlabel().startswith(f"label {label},")


def test_a_model_is_trained_on_its_first_images_alone():
    data = datasets.load("mnist", data_folder())
    for images, train in (
        (50, lambda data: exercise.tuned_model(data, 50, 0, exercise.TUNED)),
        (100, lambda data: exercise.lecture_model(data, 0)),
    ):
        outcome = []
        for changed in (images, images - 1):  # an image beyond the last, and the last
            x = data.train_images.clone()
            x[changed] = 255 - x[changed]
            outcome.append(train(data._replace(train_images=x))[0].weight.sum().item())
        plain = train(data)[0].weight.sum().item()
        assert outcome[0] == plain != outcome[1]


def test_the_page_names_each_runs_own_numbers():
    results = measured(4) | {"few": 99, "correct": 2, "test_images": 5000, "seeds": 8}
    for run, accuracy in zip(results["runs"], (0.5, 0.6, 0.7)):
        run["accuracy"] = accuracy
    results["sizes"][-1] |= {"images": 7000, "accuracies": [0.8, 0.9], "error": 0.15}
    results["runs"][1] |= {"image": 11, "label": 3, "prediction": 4}
    results["runs"][1]["probabilities"] = [0.1, 0, 0, 0.2, 0.55, 0, 0, 0, 0, 0.15]
    results["runs"][2] |= {"image": 12, "label": 5, "prediction": 5}
    page = text(4, results)
    for sentence in (
        "Of 3 random test images of MNIST, the lecture's model, trained on 99 images, classifies 2 "
        "correctly; of all 5,000, 60.00 ± 8.16 % (mean and standard deviation of 3 seeds). With "
        "all 7,000 training images the same network reaches 85.00 ± 5.00 % (8 seeds).",
        "| 1 | 11 | 3 | **4** | 10.0 | 0.0 | 0.0 | 20.0 | 55.0 | 0.0 | 0.0 | 0.0 | 0.0 | 15.0 |",
        "| 2 | 12 | 5 | 5 |",
        "| 7,000 | 85.00 ± 5.00 % | 15.00 % |",
    ):
        assert sentence in page


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_ctrl_c_ends_it_and_its_processes_at_once():
    code = (
        "from small_exercises import data_folder\n"
        "from common import program\n"
        "from exercises import exercise_4 as exercise\n"
        "def main():\n"
        "    exercise.TUNED |= {'epochs': 1_000_000}\n"
        "    print('begun', flush=True)\n"
        "    exercise.tuned_probabilities('mnist', data_folder(), [(100, 0), (100, 1)])\n"
        "if __name__ == '__main__': program.execute(main)\n"
    )
    paths = [PROJECT, PROJECT / "tests", PROJECT / "tests" / "exercises"]
    with subprocess.Popen(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(map(str, paths))},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout.readline() == "begun\n"
        time.sleep(2)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said.startswith("interrupted: ") and said.count("\n") == 1
    with pytest.raises(ProcessLookupError):  # soon nothing is left of its group
        for _ in range(50):
            os.killpg(process.pid, 0)
            time.sleep(0.1)

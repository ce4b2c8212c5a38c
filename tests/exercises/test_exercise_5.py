"""Exercise 5: the same network on other data sets, and the classes that it confuses."""

from common import datasets
from exercises import exercise_4
from exercises import exercise_5 as exercise

import numpy as np
import pytest
from small_exercises import data_folder, measured, text


def test_accuracies_and_confused_classes_are_those_of_each_seeds_models():
    data = datasets.load("fashion-mnist", data_folder())
    row = measured(5)["datasets"][0]
    labels = data.test_labels.numpy()
    few, every, shares = [], [], []
    pair = row["confused"][0]
    label, prediction = (data.classes.index(pair[key]) for key in ("label", "prediction"))
    for seed in range(2):
        lecture = exercise_4.lecture_model(data, seed)
        tuned = exercise_4.tuned_model(data, 120, seed, exercise_4.TUNED)
        for model, into in ((lecture, few), (tuned, every)):
            answers = model(data.test_images.reshape(-1, 784) / 255).argmax(dim=1).numpy()
            into.append((answers == labels).mean())
        shares.append((answers[labels == label] == prediction).mean())  # of the tuned model
    assert (row["few"], row["every"]) == (pytest.approx(few), pytest.approx(every))
    assert pair["shares"] == pytest.approx(shares) and 0 < max(shares)


def test_confused_classes_are_shares_of_their_labels_images():
    counts = np.stack([np.diag(np.full(10, 90))] * 2)
    counts[:, 2, 5] = [10, 30]  # of 100 and 120 images with label 2
    counts[:, 7, 5] = 60  # of 150 with label 7, so that 5 is predicted 160 and 180 times
    counts[1, 0, 3] = 10  # of 100 with label 0, with one seed alone
    found = exercise.confused(counts, list("abcdefghij"))[:3]
    assert [pair["label"] + pair["prediction"] for pair in found] == ["hf", "cf", "ad"]
    shares = [pair["shares"] for pair in found]
    assert shares == [pytest.approx([0.4, 0.4]), pytest.approx([0.1, 0.25]), [0, 0.1]]


def test_data_sets_that_are_not_on_the_disk_are_named():
    results = measured(5)
    assert results["missing"] == ["KMNIST"]
    assert [row["name"] for row in results["datasets"]] == ["fashion-mnist", "digits"]
    assert "Not run, because they are not on this disk: KMNIST." in text(5, results)
    assert "not on this disk" not in text(5, results | {"missing": []})


def test_the_page_names_each_data_sets_own_numbers():
    results = measured(5) | {"few": 99}
    results["datasets"][0] |= {"train_images": 7000, "few": [0.5, 0.6], "every": [0.7, 0.9]}
    pair = {"label": "Bag", "prediction": "Coat", "shares": [0.2, 0.4]}
    results["datasets"][0]["confused"][1] = pair
    page = text(5, results)
    for sentence in (
        "| data set | training images | test images | trained on 99 | trained on all |",
        "| Fashion-MNIST | 7,000 | 40 | 55.00 ± 5.00 % | 80.00 ± 10.00 % |",
        "### Fashion-MNIST The network classifies 80.00 ± 10.00 % of the test images correctly.",
        "| label | network says | fraction |",
        "| Bag | Coat | 30.00 ± 10.00 % |",
    ):
        assert sentence in page

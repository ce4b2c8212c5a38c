"""Exercise 5: the same network on other data sets, and the classes that it confuses."""

from common import datasets
from exercises import exercise_4
from exercises import exercise_5 as exercise

import numpy as np
import pytest
import torch
from small_exercises import data_folder, measured, small_options, text


@pytest.fixture(autouse=True)
def small():
    with small_options():
        yield


def test_accuracies_and_confused_classes_are_those_of_each_seeds_models():
    data = datasets.load("fashion-mnist", data_folder())
    row = measured(5)["datasets"][0]
    labels = data.test_labels.numpy()
    few, every, shares = [], [], []
    for seed in range(2):
        for model, into in (
            (exercise_4.lecture_model(data, seed), few),
            (exercise_4.tuned_model(data, 120, seed, exercise_4.TUNED), every),
        ):
            answers = [
                int(model(image.reshape(1, 784) / 255).argmax()) for image in data.test_images
            ]
            into.append(np.mean(np.array(answers) == labels))
        first = row["confused"][0]  # by the models of all images, whose answers are the last
        of_label = np.array(answers)[labels == data.classes.index(first["label"])]
        shares.append(np.mean(of_label == data.classes.index(first["prediction"])))
    assert (row["few"], row["every"]) == (pytest.approx(few), pytest.approx(every))
    assert first["shares"] == pytest.approx(shares) and 0 < max(shares)


def test_confusion_has_the_labels_in_its_rows():
    probabilities = torch.eye(10)[[1, 1, 4, 4, 4]]
    counts = exercise.confusion(probabilities, torch.tensor([1, 2, 2, 2, 4]))
    assert {tuple(place): counts[tuple(place)] for place in np.argwhere(counts).tolist()} == {
        (1, 1): 1,
        (2, 1): 1,
        (2, 4): 2,
        (4, 4): 1,
    }


def test_confused_classes_are_shares_of_their_labels_images():
    counts = np.stack([np.diag(np.full(10, 90))] * 2)
    counts[:, 2, 5] = [10, 30]  # of 100 and 120 images with label 2
    counts[:, 7, 5] = 60  # of 150 with label 7, so that 5 is predicted 160 and 180 times
    counts[1, 0, 3] = 10  # of 100 with label 0, with one seed alone
    found = exercise.confused(counts, list("abcdefghij"))[:3]
    assert [(pair["label"], pair["prediction"]) for pair in found] == [
        ("h", "f"),
        ("c", "f"),
        ("a", "d"),
    ]
    shares = [pair["shares"] for pair in found]
    assert shares == [pytest.approx([0.4, 0.4]), pytest.approx([0.1, 0.25]), [0, 0.1]]


def test_data_sets_that_are_not_on_the_disk_are_named():
    results = measured(5)
    assert results["missing"] == ["KMNIST"]
    assert [row["name"] for row in results["datasets"]] == ["fashion-mnist", "digits"]
    assert "Not on this disk, and so not run: KMNIST." in text(5, results)
    assert "Not on this disk" not in text(5, results | {"missing": []})


def test_the_page_names_each_data_sets_own_numbers():
    results = measured(5) | {"few": 99}
    results["datasets"][0] |= {"train_images": 7000, "few": [0.5, 0.6], "every": [0.7, 0.9]}
    results["datasets"][0]["confused"][1] = {
        "label": "Bag",
        "prediction": "Coat",
        "shares": [0.2, 0.4],
    }
    page = text(5, results)
    for sentence in (
        "| data set | training images | test images | trained on 99 | trained on all |",
        "| Fashion-MNIST | 7,000 | 40 | 55.00 ± 5.00 % | 80.00 ± 10.00 % |",
        "### Fashion-MNIST The network classifies 80.00 ± 10.00 % of the test images correctly.",
        "| label | network says | share |",
        "| Bag | Coat | 30.00 ± 10.00 % |",
    ):
        assert sentence in page

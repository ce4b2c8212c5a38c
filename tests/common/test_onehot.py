"""Labels as vectors, and back."""

from common.onehot import one_hot

import pytest
import torch


def test_one_hot_and_back():
    labels = torch.arange(10).reshape(2, 5)
    vectors = one_hot(labels)
    assert vectors.shape == (2, 5, 10) and vectors.sum() == 10
    assert vectors[1, 2].tolist() == [0, 0, 0, 0, 0, 0, 0, 1, 0, 0]
    assert torch.equal(vectors.argmax(dim=-1), labels)
    with pytest.raises(RuntimeError):
        one_hot(torch.tensor([10]))

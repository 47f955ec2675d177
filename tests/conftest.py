"""What several test files need: the trained network's parameters and small pictures."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import pytest

from nst_tf import parameters


@pytest.fixture(scope="session")
def weights():
    return parameters.load("normalised", None).arrays


@pytest.fixture
def random():
    return np.random.default_rng(20160627)


@pytest.fixture
def waves():
    """A picture made by formula, so that other programs can make it too: [19, 27, 3]."""
    y, x, c = np.meshgrid(np.arange(19), np.arange(27), np.arange(3), indexing="ij")
    return np.rint(127.5 + 127.5 * np.sin(0.7 * x + 0.4 * y * (c + 1))).astype(np.float32)

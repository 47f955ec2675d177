"""What several test files need: the trained network's parameters and small pictures."""

import os
import re
import signal
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ["TF_ENABLE_ONEDNN_OPTS"] = "1"  # as in the command, whose results tests repeat

import numpy as np
import pytest

from nst_tf.models.weights import load_vgg19

# A shell's background job and nohup ignore these, and every child would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP"):  # not on Windows
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(scope="session")
def parameters():
    """The trained weights with their digest, by which equal networks and graphs are shared."""
    return load_vgg19("normalised")


@pytest.fixture(scope="session")
def weights(parameters):
    return parameters.arrays


@pytest.fixture(scope="session")
def tiny_features():
    """A network of six small convolutions; see `tests.tiny_network`."""
    from tests import tiny_network  # imports Keras, which few tests need

    return tiny_network.tiny_features()


@pytest.fixture(scope="session")
def tiny_weights():
    """Weights of a VGG19 with few channels; see `tests.tiny_network`."""
    from tests import tiny_network

    return tiny_network.tiny_weights()


@pytest.fixture
def random():
    return np.random.default_rng(20160627)


@pytest.fixture
def waves():
    """A picture made by formula, so that other programs can make it too: [19, 27, 3]."""
    y, x, c = np.meshgrid(np.arange(19), np.arange(27), np.arange(3), indexing="ij")
    return np.rint(127.5 + 127.5 * np.sin(0.7 * x + 0.4 * y * (c + 1))).astype(np.float32)


CATALOGUE = Path(__file__).parents[1] / "docs" / "faults.md"
"""Invalid images, configurations and weights, and faults at run time; a row begins with its id."""


def catalogue_rows():
    """Returns the ids of the catalogue, such as "RUN-12", in its order."""
    return re.findall(r"^\| ([A-Z]{3}-\d{2}) \|", CATALOGUE.read_text(encoding="utf-8"), re.M)


def rows_in(name):
    """Returns the rows that a test keeps: `test_RUN_12_14_...` keeps RUN-12 and RUN-14."""
    kind, numbers = re.match(r"test_([A-Z]{3})((?:_\d{2})+)(?:_|$)", name).groups()
    return {f"{kind}-{number}" for number in numbers.strip("_").split("_")}


def pytest_terminal_summary(terminalreporter):
    """Counts the rows of the catalogue that were kept, and names those that were not."""
    kept, failed, skipped = set(), set(), set()
    for outcome, rows in (("passed", kept), ("failed", failed), ("skipped", skipped)):
        for report in terminalreporter.stats.get(outcome, []):
            name = report.nodeid.rpartition("::")[2].partition("[")[0]
            if re.match(r"test_[A-Z]{3}_\d{2}", name):
                rows |= rows_in(name)
    if not kept:
        return
    known = set(catalogue_rows())
    only_skipped = skipped - kept - failed
    missing = known - kept - failed - only_skipped
    names = f" {sorted(missing)}" if len(missing) < len(known) / 2 else ""
    terminalreporter.write_line(
        f"rows of the catalogue: {len(kept - failed)} of {len(known)} kept, "
        f"{len(only_skipped)} skipped {sorted(only_skipped)}, {len(failed)} failed "
        f"{sorted(failed)}, {len(missing)} not run{names}"
    )

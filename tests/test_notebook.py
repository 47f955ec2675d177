"""Progress in notebooks: what is displayed, and when."""

import sys

import numpy as np
import pytest
from PIL import Image

from nst_tf.errors import MachineError
from nst_tf.events import Iteration, Losses, Preview
from nst_tf.notebook import Progress


class Source:
    """Gives an image of one color."""

    def image(self):
        return np.full((20, 30, 3), 128.0, np.float32)

    def state(self):
        raise NotImplementedError


def iteration(number, planned=3):
    losses = Losses({"content/block4_conv2": 1.0, "style/block1_conv1": 2.0, "mine": 0.5})
    return Iteration(number, planned, number, 4.0, 0.5, 6.0, losses, 20, 30, Source())


@pytest.fixture
def shown(monkeypatch):
    """All that is displayed, as (what, whether in the place of something before)."""
    from IPython import display

    found = []

    class Handle:
        def update(self, value):
            found.append((value, True))

    def show(value, display_id):
        assert display_id
        found.append((value, False))
        return Handle()

    monkeypatch.setattr(display, "display", show)
    return found


def test_one_image_and_one_table_are_replaced_as_the_run_goes_on(shown):
    progress = Progress(seconds=0.0, longest_side=15)
    for event in (Preview(Source().image()), iteration(1), iteration(2), iteration(3)):
        progress(event)
    assert [replaced for _, replaced in shown] == [False] * 2 + [True] * 6
    assert [each.size for each, _ in shown if isinstance(each, Image.Image)] == [(15, 10)] * 4
    assert shown[-1][0].data == (
        "iteration 3 of 3, 30x20, 4 s, 6 s left\n\n"
        "| loss | content | style | mine |\n| ---: | ---: | ---: | ---: |\n| 3.5 | 1 | 2 | 0.5 |"
    )


def test_images_are_shown_now_and_then_and_the_last_one_always(shown):
    progress = Progress(seconds=1000.0)
    for number in (1, 2, 3):
        progress(iteration(number))
    assert [each.data[:11] for each, _ in shown[1::2]] == ["iteration 1", "iteration 3"]
    progress(iteration(1))  # of the next run
    assert shown[-1][1] is False


def test_without_ipython_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "IPython", None)
    with pytest.raises(MachineError, match="pip install ipython"):
        Progress()

"""What bounds are for, at full length: `python -m pytest -m slow`, some minutes."""

import json

import pytest

from nst_tf import run
from nst_tf.config import Config
from tests.command import ROOT


def saved_loss(tmp_path, **settings):
    config = Config(
        content_image=ROOT / "images" / "summer-palace.jpg",
        style_image=ROOT / "images" / "starry-night.jpg",
        output_image=tmp_path / "o.png",
        image_size=256,
        init="content",
        num_iterations=150,
        style_weight=1e5,
        tv_weight=0.0,
        **settings,
    )
    run.run(config)
    return json.loads((tmp_path / "o.run" / "run.json").read_text())["loss"]


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["lbfgs", "l-bfgs-b"])
def test_with_bounds_the_saved_picture_is_the_optimum(tmp_path, optimizer):
    assert saved_loss(tmp_path, optimizer=optimizer, bounds=True) <= 2.9


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["lbfgs", "l-bfgs-b"])
def test_without_bounds_clipping_spoils_the_saved_picture(tmp_path, optimizer):
    assert saved_loss(tmp_path, optimizer=optimizer, bounds=False) > 4.5

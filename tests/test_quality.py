"""What bounds are for and what memory is foretold: `python -m pytest -m slow`, some minutes."""

import json

import pytest

from nst_tf import jobs
from nst_tf.config.schema import Config
from tests import command
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
        padding="zero",  # with which the limits below were measured
        **settings,
    )
    jobs.run(config)
    return json.loads((tmp_path / "o.png.run" / "run.json").read_text())["loss"]


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["lbfgs", "l-bfgs-b"])
def test_with_bounds_the_saved_picture_is_the_optimum(tmp_path, optimizer):
    assert saved_loss(tmp_path, optimizer=optimizer, bounds=True) <= 2.9


@pytest.mark.slow
@pytest.mark.parametrize(
    "optimizer",
    [
        pytest.param(
            "lbfgs",
            marks=pytest.mark.xfail(
                reason="4.49: scaled by its gradients, it leaves the box less far"
            ),
        ),
        "l-bfgs-b",
    ],
)
def test_without_bounds_clipping_spoils_the_saved_picture(tmp_path, optimizer):
    assert saved_loss(tmp_path, optimizer=optimizer, bounds=False) > 4.5


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["lbfgs", "l-bfgs-b"])
@pytest.mark.parametrize(("image_size", "style_scale"), [(128, 1), (256, 1), (384, 2), (768, 1)])
def test_RUN_29_memory_is_foretold_and_never_too_little(
    tmp_path, image_size, style_scale, optimizer
):
    output = tmp_path / "o.png"
    done = command.run(
        f"--content_image={command.PALACE}",
        f"--style_image={command.STYLE}",
        f"--output_image={output}",
        f"--image_size={image_size}",
        f"--style_scale={style_scale}",
        f"--optimizer={optimizer}",
        # As many steps as the memory of pairs takes, and a checkpoint of all of them.
        *("--pyramid=none", "--num_iterations=22", "--checkpoint_seconds=1"),
    )
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "o.png.run" / "run.json").read_text())
    measured, foretold = record["peak_memory_bytes"], record["peak_memory_bytes_expected"]
    assert 0.6 * foretold <= measured <= foretold

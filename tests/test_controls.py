"""The artist's controls: each alone from Python, all together from YAML, flags and Python."""

import json

import numpy as np
import pytest
from PIL import Image

from nst_tf import Config, Stylizer, load_config, stylize
from nst_tf.image import color
from nst_tf.image.resize import resize
from nst_tf.io.images import read
from tests import command
from tests.command import PALACE, STYLE, run_folder

OTHER = STYLE.with_name("starry-night.jpg")
BASE = {"image_size": 48, "style_scale": 1.0, "num_iterations": 3, "pyramid": "none", "seed": 4,
        "precision": "float32"}  # fmt: skip

ALONE = [
    {"style_layers": "block1_conv1:5,block3_conv2"},
    {"content_layers": "block2_conv2,block3_conv3:0.5"},
    {"style_scale": 2.0},
    pytest.param({"tv_weight": 10.0}, marks=pytest.mark.slow),
    {"tv_weight": 10.0, "tv_exponent": 1},
    {"pooling": "average"},
    pytest.param({"padding": "zero"}, marks=pytest.mark.slow),
    {"padding": "replicate"},
    {"original_colors": "luminance"},
    {"original_colors": "histogram"},
    {"original_colors": "match"},
    {"normalize_gradients": True},
    {"style_strength": 0.3},
]


@pytest.fixture(scope="module")
def images():
    return tuple(read(path) for path in (PALACE, STYLE, OTHER))


@pytest.fixture(scope="module")
def plain(images, parameters):
    stylizer = Stylizer(Config(**BASE), weights=parameters)
    yield stylizer(images[0], images[1]).image
    del stylizer  # as long as it lives, calls of `stylize` share its networks


@pytest.mark.parametrize("settings", ALONE, ids=str)
def test_each_control_alone_changes_the_picture_and_keeps_its_range(
    settings, images, plain, parameters
):
    result = stylize(images[0], images[1], Config(**{**BASE, **settings}), weights=parameters)
    assert result.image.shape == (32, 48, 3)
    assert result.image.min() >= 0 and result.image.max() <= 255
    assert np.abs(result.image - plain).max() > 1
    assert not result.failure


def test_bounds_change_the_picture_once_a_pixel_meets_one(images, plain, parameters):
    held, free = (
        stylize(
            images[0], images[1],
            Config(**{**BASE, "num_iterations": 12, "bounds": bounds}), weights=parameters,
        ).image
        for bounds in (True, False)
    )  # fmt: skip
    assert free.min() >= 0 and free.max() <= 255
    assert np.abs(held - free).max() > 1


@pytest.mark.parametrize(
    "settings",
    [
        {"style_blend_weights": [1.0, 0.0]},
        {
            "layer_styles": dict.fromkeys(Config().style_layers, 1),
            "style_blend_weights": [1.0, 0.0],
        },
    ],
    ids=["blend of one", "all layers to one"],
)
def test_what_says_nothing_changes_nothing(settings, images, plain, parameters):
    content, *styles = images
    result = stylize(content, styles, Config(**{**BASE, **settings}), weights=parameters)
    np.testing.assert_allclose(result.image, plain, atol=0.5)


def test_a_full_mask_and_a_scale_of_one_change_nothing(images, plain, parameters):
    config = Config(**BASE)
    full = np.ones((8, 12), np.float32)
    result = stylize(
        images[0], images[1], config, content_masks=[full], style_masks=[], weights=parameters
    )
    np.testing.assert_allclose(result.image, plain, atol=0.5)


@pytest.fixture(scope="module")
def masks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("masks")
    sky = np.zeros((16, 24), np.uint8)
    sky[:8] = 255
    Image.fromarray(sky).save(folder / "sky.png")
    Image.fromarray(255 - sky).save(folder / "ground.png")
    return folder


TOGETHER = {
    **BASE, "pyramid": "32:3", "original_colors": "luminance", "bit_depth": 16,
    "normalize_gradients": True, "padding": "replicate", "tv_weight": 1e-3, "tv_exponent": 1,
}  # fmt: skip


@pytest.fixture(scope="module")
def together(masks, tmp_path_factory):
    """Two styles by masks, luminance, a pyramid and 16 bits, from a YAML file."""
    output = tmp_path_factory.mktemp("together") / "o.png"
    yaml = "".join(f"{name}: {value}\n" for name, value in TOGETHER.items()).replace("True", "true")
    (masks / "all.yaml").write_text(
        f"content_image: {PALACE}\nstyle_image: [{STYLE}, {OTHER}]\n"
        f"content_masks: [sky.png, ground.png]\noutput_image: {output}\n{yaml}"
    )
    done = command.run("--config", masks / "all.yaml")
    assert done.returncode == 0, done.stderr
    return output


def test_together_from_yaml(together, images):
    record = json.loads((run_folder(together) / "run.json").read_text())
    assert record["finished"] and record["iterations"] == 6
    found = read(together)
    assert found.shape == (32, 48, 3)
    assert len(np.unique(found)) > 256  # more than eight bits tell apart
    content = resize(images[0], (32, 48))
    luminance = color.to_luminance(found)
    painted = color.restore_chroma(luminance, content)
    np.testing.assert_allclose(found, painted, atol=0.02)  # the chroma is the content's
    before = color.to_luminance(content)
    assert np.abs(luminance - before).mean() > 5


def test_together_from_flags(together, masks, tmp_path):
    flags = [f"--{name}={str(value).lower()}" for name, value in TOGETHER.items()]
    done = command.run(
        *flags, f"--content_image={PALACE}", f"--style_image={STYLE}", f"--style_image={OTHER}",
        f"--content_masks={masks / 'sky.png'}", f"--content_masks={masks / 'ground.png'}",
        f"--output_image={tmp_path / 'o.tiff'}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(read(tmp_path / "o.tiff"), read(together))


def test_together_from_python(together, images, masks, parameters):
    content, *styles = images
    config = load_config(masks / "all.yaml")
    both = [np.asarray(Image.open(masks / name), np.float32) / 255
            for name in ("sky.png", "ground.png")]  # fmt: skip
    result = stylize(content, styles, config, content_masks=both, weights=parameters)
    np.testing.assert_allclose(result.image, read(together), atol=0.01)


def test_together_made_again_from_the_picture(together, tmp_path):
    again = tmp_path / "again.png"
    done = command.run(f"--rerun={together}", f"--output_image={again}")
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(read(again), read(together))

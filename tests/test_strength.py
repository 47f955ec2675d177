"""The setting `strength`: what it stands for, what takes precedence, what it does to an image."""

import numpy as np
import pytest
import tensorflow as tf

from nst_tf import Config, InputError, Stylizer, load_config
from nst_tf.io.images import read
from tests.command import PALACE, STYLE

MOVED = ("style_strength", "content_weight", "style_weight", "grain_weight")


def values(config):
    return {name: getattr(config, name) for name in MOVED}


def test_a_strength_of_1_is_the_default():
    assert values(Config(strength=1)) == values(Config())


def test_0_leaves_the_content_alone_and_2_the_style():
    none, all_of_it = Config(strength=0), Config(strength=2)
    assert (none.style_strength, none.style_weight, none.grain_weight) == (0, 0, 0)
    assert none.content_weight > 0
    assert all_of_it.content_weight == 0 and all_of_it.style_weight > 0
    assert all_of_it.style_strength == 2 and all_of_it.grain_weight == Config().grain_weight


def test_the_weight_of_the_style_rises_with_the_strength_everywhere():
    strengths = np.linspace(0, 1.95, 40)
    configs = [Config(strength=float(strength)) for strength in strengths]
    ratios = [config.style_weight / config.content_weight for config in configs]
    assert np.all(np.diff(ratios) > 0)
    half, more = Config(strength=0.5), Config(strength=1.5)
    assert half.style_weight / half.content_weight == pytest.approx(Config().style_weight / 27)
    assert more.style_weight / more.content_weight == pytest.approx(Config().style_weight * 27)


@pytest.mark.parametrize("name", MOVED)
def test_a_single_setting_takes_precedence(name):
    config = Config(**{"strength": 0.5, name: 0.25})
    assert values(config) == values(Config(strength=0.5)) | {name: 0.25}


def test_counts_with_the_source_that_gives_it(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("strength: 0.5\nstyle_weight: 7.0\n")
    assert values(load_config(path)) == values(Config(strength=0.5, style_weight=7.0))
    of_flag = load_config(path, {"strength": 1.5})
    assert values(of_flag) == values(Config(strength=1.5))
    of_flags = load_config(path, {"strength": 1.5, "content_weight": 2.0})
    assert values(of_flags) == values(Config(strength=1.5, content_weight=2.0))


def test_a_changed_strength_brings_what_it_stands_for():
    assert values(Config(style_weight=3.0).replace(strength=1.5)) == values(Config(strength=1.5))


@pytest.mark.parametrize("kind", [np.float32, np.array, tf.constant])
def test_numbers_of_other_libraries_count_as_those_of_python(kind):
    assert Config(strength=kind(0.5)) == Config(strength=0.5)
    assert Config().replace(strength=kind(0.5)) == Config().replace(strength=0.5)


def test_weights_smaller_than_any_that_is_allowed_are_0():
    assert Config(strength=1.9999).content_weight == 0
    assert Config(strength=1e-6).style_weight == Config(strength=1e-6).grain_weight == 0
    for strength in np.geomspace(1e-9, 1, 50):
        assert Config(strength=strength).strength == strength
        assert Config(strength=2 - strength).strength == 2 - strength


@pytest.mark.parametrize("preset", ["draft", "default", "fine"])
def test_goes_with_every_preset(preset, tmp_path):
    usual = Config(preset=preset)
    assert Config(preset=preset, strength=1) == usual.replace(strength=1)
    assert values(Config(preset=preset, strength=1)) == values(usual)
    starts = [
        Config(preset=preset, strength=strength).style_strength for strength in (0, 0.5, 1, 1.5, 2)
    ]
    assert starts[0] == 0 and starts[2] == usual.style_strength and starts[4] == 2
    assert np.all(np.diff(starts) > 0)
    both = Config(preset=preset, strength=0.5)
    assert both.num_iterations == usual.num_iterations
    # Whichever is given first, and wherever.
    assert usual.replace(strength=0.5) == Config(strength=0.5).replace(preset=preset) == both
    file = tmp_path / "x.yaml"
    file.write_text(f"preset: {preset}")
    assert load_config(file, {"strength": 0.5}) == both
    file.write_text("strength: 0.5")
    assert load_config(file, {"preset": preset}) == both


def test_draft_starts_from_the_output_of_the_network_and_others_from_less():
    starts = [Config(preset=preset).style_strength for preset in ("draft", "default", "fine")]
    assert starts == [1.0, 0.65, 0.65]
    assert Config(preset="draft", strength=1.5).style_strength == 1.5
    assert Config(strength=1.5).style_strength == pytest.approx(0.3 * 1.5 + 0.35 * 1.5**2)


@pytest.mark.parametrize("strength", [-0.1, 2.1, float("nan"), "strong"])
def test_others_are_refused(strength):
    with pytest.raises(InputError, match=r"^strength cannot be .*0, the content image, over 1 to"):
        Config(strength=strength)


def test_the_image_goes_from_the_content_to_the_style(parameters):
    content, style = read(PALACE), read(STYLE)

    def image(strength):
        config = Config(
            strength=strength, preset="draft", image_size=64, precision="float32", seed=1
        )
        return Stylizer(config, weights=parameters)(content, style).image

    images = [image(strength) for strength in (0.0, 0.4, 0.8, 1.0, 1.5, 2.0)]
    reduced = Stylizer(Config(init="content", num_iterations=0, image_size=64), weights=parameters)
    original = reduced(content, style).image
    np.testing.assert_array_equal(images[0], original)
    distances = [np.abs(each - original).mean() for each in images]
    assert np.all(np.diff(distances) > 0)

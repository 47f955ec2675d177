"""The Python interface: arrays in, arrays out."""

import dataclasses
import doctest

import numpy as np
import pytest

import nst_tf
from nst_tf import optimizers
from nst_tf.config.schema import Config
from nst_tf.engine import stylize as style_transfer
from nst_tf.errors import InputError
from nst_tf.image.arrays import quantize
from nst_tf.image.resize import resize
from nst_tf.optimizers import StopReason


@pytest.fixture
def content(random):
    return np.kron(random.uniform(0, 255, (6, 10, 3)), np.ones((4, 4, 1)))


@pytest.fixture
def style(random):
    return np.kron(random.uniform(0, 255, (9, 6, 3)), np.ones((3, 3, 1)))


def settings(**changes):
    """The plainest run: one level, from the content, in float32."""
    plain = {"image_size": 40, "num_iterations": 5, "pyramid": "none", "init": "content"}
    return Config(**plain | {"precision": "float32"} | changes)


def stylize(content, style, config, **options):
    return nst_tf.stylize(content, style, config, **options)


def test_the_example_of_its_docstring():
    found = doctest.testmod(style_transfer)
    assert found.attempted > 0
    assert found.failed == 0


def test_prints_nothing_and_writes_nothing(content, style, weights, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    stylize(content, style, settings(), weights=weights)
    assert capfd.readouterr() == ("", "")
    assert list(tmp_path.iterdir()) == []


def test_the_same_call_gives_the_same_bits(content, style, weights):
    config = settings(init="noise", seed=3)
    first, again = (stylize(content, style, config, weights=weights) for _ in range(2))
    np.testing.assert_array_equal(first.picture, again.picture)
    other = stylize(content, style, settings(init="noise", seed=4), weights=weights)
    assert np.abs(other.picture - first.picture).max() > 1


@pytest.mark.parametrize("bounds", [True, False])
def test_the_picture_lies_in_the_pixel_range_and_its_loss_is_that_of_8_bits(
    content, style, weights, bounds
):
    found = stylize(content, style, settings(bounds=bounds, style_weight=1e6), weights=weights)
    assert found.picture.dtype == np.float32
    assert found.picture.min() >= 0.0
    assert found.picture.max() <= 255.0
    rounded = np.rint(found.picture)
    assert found.losses.terms == found.evaluate(rounded).terms
    assert found.losses.total != found.evaluate(found.picture).total


def test_bounds_are_kept_all_the_while_unless_they_are_off(content, style, weights):
    def extremes(bounds):
        seen = []
        config = settings(bounds=bounds, style_weight=1e6, num_iterations=8)
        stylize(content, style, config, weights=weights,
                listener=lambda progress: seen.append(progress.picture))  # fmt: skip
        return min(x.min() for x in seen), max(x.max() for x in seen)

    lowest, highest = extremes(True)
    assert lowest >= 0.0
    assert highest <= 255.0
    lowest, highest = extremes(False)
    assert lowest < 0.0
    assert highest > 255.0


def test_the_loss_falls_and_is_reported_step_by_step(content, style, weights):
    seen = []
    found = stylize(content, style, settings(), weights=weights, listener=seen.append)
    assert [progress.iteration for progress in seen] == [1, 2, 3, 4, 5]
    assert seen[-1].losses.total < 0.6 * seen[0].losses.total
    for progress in (seen[0], seen[-1]):
        assert found.evaluate(progress.picture).total == pytest.approx(
            progress.losses.total, rel=1e-5
        )
    assert found.iterations == 5
    assert found.stop_reason is StopReason.NUM_ITERATIONS


def test_a_listener_can_end_it(content, style, weights):
    found = stylize(
        content,
        style,
        settings(),
        weights=weights,
        listener=lambda progress: progress.iteration == 2,
    )
    assert found.iterations == 2
    assert found.stop_reason is StopReason.STOPPED


def start_of(content, style, weights, **changes):
    """Returns the picture that a run starts from."""
    config = settings(num_iterations=0, **changes)
    return stylize(content, style, config, weights=weights).picture


def test_starts_from_the_content(content, style, weights):
    np.testing.assert_array_equal(start_of(content, style, weights), content.astype(np.float32))


def test_starts_from_the_style_unstretched(style, content, weights):
    start = start_of(content, style, weights, init="style", image_size=40)
    assert start.shape == (24, 40, 3)
    # The style, 27x18, covers 24x40 when it is 60x40; its middle rows are 18 to 42.
    expected = resize(resize(style.astype(np.float32), (40, 27)), (60, 40))[18:42]
    assert np.abs(start - expected).mean() < 3.0


def test_starts_from_seeded_noise(content, style, weights):
    first = start_of(content, style, weights, init="noise", seed=1)
    again = start_of(content, style, weights, init="noise", seed=1)
    other = start_of(content, style, weights, init="noise", seed=2)
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).mean() > 1
    assert first.std() > 1


def test_starts_from_a_given_picture(content, style, weights, random):
    start = random.uniform(0, 255, (24, 40, 3)).astype(np.float32)
    for init in ("content", "adain", "noise"):
        config = settings(num_iterations=0, init=init)
        found = stylize(content, style, config, start=start, weights=weights)
        np.testing.assert_array_equal(found.picture, start)


@pytest.mark.parametrize(
    ("smallest", "changes"),
    [(8, {"padding": "reflect"}), (8, {"padding": "replicate"}), (8, {"padding": "zero"}),
     (16, {"init": "adain"})],
)  # fmt: skip
def test_the_smallest_pictures_that_are_allowed_are_stylised(weights, random, smallest, changes):
    layers = {"content_layers": ["block1_conv1"], "style_layers": ["block4_conv1"]}
    picture = random.uniform(0, 255, (smallest, 17, 3))
    found = stylize(picture, picture, settings(image_size=17, **layers | changes), weights=weights)
    assert found.picture.shape == (smallest, 17, 3)
    assert np.isfinite(found.losses.total)


def test_a_list_of_one_style_is_that_style(content, style, weights):
    alone = stylize(content, style, settings(), weights=weights)
    listed = stylize(content, [style], settings(), weights=weights)
    np.testing.assert_array_equal(alone.picture, listed.picture)


@pytest.mark.parametrize("method", ["lbfgs", "l-bfgs-b", "bfgs", "adam"])
def test_every_method_lowers_the_loss(content, style, weights, method):
    config = settings(image_size=20, content_layers=["block3_conv1"],
                      style_layers=["block1_conv1", "block2_conv1"], optimizer=method)  # fmt: skip
    found = stylize(content, style, config, weights=weights)
    before = found.evaluate(resize(content.astype(np.float32), (12, 20))).total
    assert found.losses.total < 0.5 * before


def test_IMG_44_a_picture_of_one_colour_is_finished(style, weights):
    flat = np.full((24, 40, 3), 200.0)
    found = stylize(flat, style, settings(), weights=weights)
    assert np.isfinite(found.losses.total)
    assert found.losses.total < found.evaluate(flat).total


@pytest.mark.parametrize(
    ("array", "why"),
    [
        (np.zeros((24, 40)), "shape (24, 40)"),
        (np.zeros((24, 40, 4)), "shape (24, 40, 4)"),
        (np.zeros((0, 40, 3)), "shape (0, 40, 3)"),
        (np.full((24, 40, 3), 256.0), "values from 256 to 256"),
        (np.full((24, 40, 3), np.nan), "values from nan to nan"),
    ],
)
def test_what_is_no_picture_is_refused(content, style, array, why):
    for pictures in ((array, style), (content, array), (content, [style, array])):
        with pytest.raises(InputError) as error:
            stylize(*pictures, settings())
        assert why in str(error.value)
        assert "give RGB of shape [H, W, 3]" in str(error.value)


def test_blend_weights_that_do_not_fit_the_styles_are_refused(content, style):
    config = settings(style_blend_weights=[1.0, 2.0])
    with pytest.raises(InputError, match=r"2 weights for 1 style picture"):
        stylize(content, style, config)


def test_no_style_at_all_is_refused(content):
    with pytest.raises(InputError, match="no style picture"):
        stylize(content, [], settings())


def test_works_up_the_pyramid_and_counts_over_all_levels(content, style, weights):
    seen = []
    config = settings(image_size=64, pyramid="32:3,48:2", num_iterations=4)
    found = stylize(content, style, config, weights=weights, listener=seen.append)
    assert [progress.picture.shape[1] for progress in seen] == [32] * 3 + [48] * 2 + [64] * 4
    assert [progress.iteration for progress in seen] == list(range(1, 10))
    assert found.iterations == 9
    # By hand: 32x19, 48x29 and 64x38 pixels, 3, 2 and 4 times.
    work = 3 * 32 * 19 + 2 * 48 * 29 + 4 * 64 * 38
    assert seen[0].done == pytest.approx(32 * 19 / work)
    assert seen[3].done == pytest.approx((3 * 32 * 19 + 48 * 29) / work)
    assert seen[-1].done == 1.0
    evaluations = [progress.evaluations for progress in seen]
    assert evaluations == sorted(set(evaluations))
    assert found.evaluations == evaluations[-1]
    assert found.picture.shape == (38, 64, 3)


def test_the_feed_forward_picture_comes_first_and_at_full_size(content, style, weights):
    seen = []
    config = settings(image_size=64, pyramid="32:3", init="adain", num_iterations=1)
    stylize(
        content, style, config, weights=weights,
        preview=lambda picture: seen.append(picture.copy()),
        listener=lambda progress: seen.append(progress.picture.shape),
    )  # fmt: skip
    assert seen[1:] == [(19, 32, 3)] * 3 + [(38, 64, 3)]
    instant = stylize(content, style, settings(image_size=64, init="adain", num_iterations=0),
                      weights=weights)  # fmt: skip
    np.testing.assert_array_equal(seen[0], instant.picture)


def test_strokes_that_a_coarse_level_cannot_hold_come_from_the_feed_forward_network(
    content, style, weights
):
    seen = {}
    for init in ("adain", "content"):
        config = settings(image_size=64, pyramid="32:3", init=init, num_iterations=1)
        seen[init] = []
        stylize(content, style, config, weights=weights, listener=seen[init].append)

    def fine(picture):
        return np.abs(picture - resize(resize(picture, (19, 32)), (38, 64))).mean()

    assert fine(seen["adain"][3].picture) > 1.5 * fine(seen["content"][3].picture)
    # What the coarse level found stays.
    coarse = resize(seen["adain"][2].picture, (19, 32))
    carried = resize(seen["adain"][3].picture, (19, 32))
    assert np.abs(carried - coarse).mean() < 12.0


def test_a_level_starts_from_the_picture_of_the_one_before(content, style, weights):
    seen = []
    config = settings(image_size=64, pyramid="32:6", num_iterations=1, style_weight=1e4)
    stylize(content, style, config, weights=weights, listener=seen.append)
    carried = resize(seen[5].picture, (38, 64))
    # A first step moves no pixel by more than two levels.
    assert np.abs(seen[6].picture - carried).max() < 2.1
    assert np.abs(seen[6].picture - resize(content.astype(np.float32), (38, 64))).max() > 9


def test_a_listener_that_ends_it_on_a_coarse_level_gets_the_full_size(content, style, weights):
    config = settings(image_size=64, pyramid="32:3")
    found = stylize(content, style, config, weights=weights, listener=lambda progress: True)
    assert found.iterations == 1
    assert found.picture.shape == (38, 64, 3)
    assert np.isfinite(found.losses.total)


def test_bfloat16_finds_a_picture_of_nearly_the_same_loss(content, style, weights):
    losses = {}
    for precision in ("float32", "bfloat16"):
        config = settings(precision=precision, num_iterations=15)
        found = stylize(content, style, config, weights=weights)
        assert found.precision == precision
        losses[precision] = found.losses.total
    assert losses["bfloat16"] == pytest.approx(losses["float32"], rel=0.1)


def test_the_loss_reported_is_float32_whatever_the_precision(content, style, weights):
    low = stylize(content, style, settings(precision="bfloat16"), weights=weights)
    high = stylize(content, style, settings(precision="float32", num_iterations=0), weights=weights)
    assert low.losses.terms == high.evaluate(quantize(low.picture)).terms


def test_goes_on_in_float32_where_bfloat16_finds_no_step(content, style, weights):
    # From a picture that float32 has long been at, the noise of bfloat16 hides every step.
    config = settings(num_iterations=120, style_weight=1e3)
    start = stylize(content, style, config, weights=weights).picture
    found = stylize(
        content, style, settings(precision="bfloat16", num_iterations=60, style_weight=1e3),
        start=start, weights=weights,
    )  # fmt: skip
    before = found.evaluate(start).total
    assert found.evaluate(found.picture).total <= before


@pytest.mark.parametrize(("pyramid", "precision"), [("none", "float32"), ("32:3", "bfloat16")])
def test_float32_helps_out_at_the_last_level_only(
    content, style, weights, monkeypatch, pyramid, precision
):
    # The first level is made to end where bfloat16 sees no step, before its iterations are done.
    minimize = optimizers.minimize
    ended = []

    def ends_early(method, function, start, **given):
        found = minimize(method, function, start, **given | {"num_iterations": 2})
        ended.append(found)
        reason = StopReason.LINE_SEARCH if len(ended) == 1 else found.stop_reason
        return dataclasses.replace(found, stop_reason=reason)

    monkeypatch.setattr(optimizers, "minimize", ends_early)
    config = settings(precision="bfloat16", num_iterations=4, pyramid=pyramid)
    found = stylize(content, style, config, weights=weights)
    assert len(ended) == 2
    assert found.precision == precision


def test_touches_neither_the_precision_nor_the_seeds_of_the_caller(content, style, weights):
    import keras
    import tensorflow as tf

    policy = keras.config.dtype_policy().name
    seeds = tf.random.get_global_generator().state.numpy()
    numpy_state = np.random.get_state()[1].copy()
    stylize(content, style, settings(precision="bfloat16", init="adain"), weights=weights)
    assert keras.config.dtype_policy().name == policy
    np.testing.assert_array_equal(tf.random.get_global_generator().state.numpy(), seeds)
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_state)

"""The margin that is optimized with the image and cut off."""

import weakref

import numpy as np
import pytest
import tensorflow as tf

import nst_tf
from nst_tf.config import Config, InitialSettings, LossSettings, NetworkSettings
from nst_tf.engine.inputs import Before, Inputs
from nst_tf.engine.levels import LevelBuilder, StyleCache
from nst_tf.engine.networks import Networks
from nst_tf.engine.pyramid import Level, plan
from nst_tf.engine.tiling import Tiling, plan_tiling
from nst_tf.errors import InputError
from nst_tf.events import Iteration, Preview
from nst_tf.image.arrays import quantize
from nst_tf.image.margin import crop, extend, within
from nst_tf.image.resize import resize
from nst_tf.io.images import read
from nst_tf.losses import gram_matrix
from nst_tf.objective.spec import spec_of
from nst_tf.objective.targets import StyleTarget, inside
from tests.command import STYLE
from tests.gradient_ratio import gradient_ratio

SHAPE = (24, 40)
MARGIN = 4


def mirrored(position, size):
    """The index that a position beyond the borders reflects to, one step at a time."""
    while not 0 <= position < size:
        position = -position if position < 0 else 2 * (size - 1) - position
    return position


@pytest.mark.parametrize("shape", [(7, 5), (7, 5, 3), (3, 9, 3)])
def test_an_extended_array_continues_as_mirrored(random, shape):
    array, margin = random.uniform(size=shape), 6
    found = extend(array, margin)
    assert found.shape == (shape[0] + 12, shape[1] + 12, *shape[2:])
    for y, x in np.ndindex(*found.shape[:2]):
        expected = array[mirrored(y - margin, shape[0]), mirrored(x - margin, shape[1])]
        np.testing.assert_array_equal(found[y, x], expected)
    np.testing.assert_array_equal(crop(found, margin), array)


def test_an_array_without_margin_is_not_copied(random):
    array = random.uniform(size=(4, 5, 3))
    assert extend(array, 0) is array
    assert np.shares_memory(crop(array, 0), array)


def stripes(random, shape, size):
    rows, columns = shape[0] // size, shape[1] // size
    return np.kron(random.uniform(0, 255, (rows, columns, 3)), np.ones((size, size, 1)))


@pytest.fixture
def content(random):
    return stripes(random, SHAPE, 4)


@pytest.fixture
def style(random):
    return stripes(random, (30, 20), 5)


def settings(**changes):
    plain = {"image_size": 40, "num_iterations": 4, "pyramid": "none", "init": "content"}
    return Config(**plain | {"precision": "float32", "margin": MARGIN} | changes)


@pytest.fixture
def stylize(tiny_features):
    def call(*images, **options):
        return nst_tf.stylize(*images, network=tiny_features, **options)

    return call


MASKS = [np.tri(*SHAPE, k=8, dtype=np.float32), 1 - np.tri(*SHAPE, k=2, dtype=np.float32)]


@pytest.mark.parametrize("options", [{}, {"content_masks": MASKS}], ids=["all", "regions"])
def test_without_a_style_the_result_is_the_inside_of_that_of_an_extended_content(
    stylize, content, style, options
):
    """Reflected by hand and computed without a margin."""
    changes = {"init": "noise", "style_weight": 0.0, "grain_weight": 0.0, "tv_weight": 1e-3}
    found = stylize(content, style, settings(**changes), **options)
    extended = {name: [extend(mask, MARGIN) for mask in masks] for name, masks in options.items()}
    larger = settings(image_size=48, margin=0, **changes)
    whole = stylize(extend(content, MARGIN), style, larger, **extended)
    assert found.image.shape == (*SHAPE, 3)
    np.testing.assert_allclose(found.image, crop(whole.image, MARGIN), atol=1e-3)
    assert found.iterations == whole.iterations


@pytest.mark.parametrize("options", [{}, {"content_masks": MASKS}], ids=["all", "regions"])
def test_the_margin_has_no_part_in_the_style(stylize, content, style, options):
    states = []

    def look(event):
        if isinstance(event, Iteration):
            states.append(event.state().image)

    # A layer that sees one pixel around each.
    layers = {"style_layers": "block1_conv1", "content_weight": 0.0, "grain_weight": 0.0}
    for steps in (1, 4):
        config = settings(init="noise", num_iterations=steps, **layers)
        stylize(content, style, config, callbacks=[look], **options)
    first, last = np.asarray(states[0]), np.asarray(states[-1])
    changed = np.any(first != last, axis=-1)
    assert crop(changed, MARGIN).mean() > 0.5
    changed[MARGIN - 1 : 1 - MARGIN, MARGIN - 1 : 1 - MARGIN] = False
    assert not changed.any()


def test_targets_within_a_margin_compare_the_inside_of_activations(random):
    features = random.normal(0, 1, (1, 12, 20, 3)).astype(np.float32)
    target = StyleTarget(gram_matrix(tf.constant(features)), None, tf.constant(1.0))
    mask = tf.constant(within((16, 32), MARGIN)[np.newaxis, :, :, np.newaxis])
    (found,) = inside({"layer": (target,)}, mask, {"layer": (12, 20)})["layer"]
    np.testing.assert_array_equal(found.mask[0, :, :, 0], within((8, 16), MARGIN // 2))
    masked = gram_matrix(tf.constant(features), found.mask)
    alone = gram_matrix(tf.constant(features[:, 2:-2, 2:-2]))
    np.testing.assert_allclose(masked, alone, rtol=1e-5)
    assert found.statistics is target.statistics


def test_what_is_shown_has_no_margin_and_the_state_has(stylize, content, style):
    shapes = []

    def look(event):
        if isinstance(event, Preview):
            shapes.append(event.image.shape)
        if isinstance(event, Iteration):
            assert (event.height, event.width) == event.image.shape[:2]
            height, width = event.state().image.shape[:2]
            assert (height, width) == (event.height + 2 * MARGIN, event.width + 2 * MARGIN)
            shapes.append(event.image.shape)

    layers = {"style_layers": "block1_conv1", "content_layers": "block2_conv1"}
    config = settings(pyramid="20:2", num_iterations=2, **layers)
    result = stylize(content, style, config, callbacks=[look])
    assert shapes == [(24, 40, 3), (12, 20, 3), (12, 20, 3), (24, 40, 3), (24, 40, 3)]
    assert result.image.shape == (24, 40, 3)


def test_the_loss_is_that_of_the_result_alone(stylize, content, style, tiny_features):
    config = settings()
    result = stylize(content, style, config)
    without = nst_tf.Stylizer(config.replace(margin=0), network=tiny_features)
    found = without.losses(quantize(result.image), content, style)
    assert result.losses.total == pytest.approx(found.total, rel=1e-6)


def test_outside_of_all_masks_the_content_stays(stylize, content, style):
    mask = np.zeros(SHAPE)
    mask[6:18, :20] = 1  # it touches a border
    result = stylize(content, style, settings(), content_masks=mask)
    outside = mask == 0
    np.testing.assert_array_equal(result.image[outside], content.astype(np.float32)[outside])
    assert np.abs(result.image - content)[~outside].max() > 1


def builder(content, tiny_features, normalize_gradients=False, **inputs):
    loss = LossSettings(normalize_gradients=normalize_gradients)
    networks = Networks(NetworkSettings(), spec_of(loss), network=tiny_features)
    given = Inputs(content, content, (content,), (), None, **inputs)
    return LevelBuilder(
        given, loss, InitialSettings(init="content"), networks, StyleCache(), "float32",
        Tiling(0, 0), None,
    )  # fmt: skip


def test_an_enlarged_image_is_not_moved_by_the_margin(random, tiny_features):
    content = random.uniform(0, 255, (25, 41, 3)).astype(np.float32)
    coarse, fine = (Level(shape, (shape,), 1, MARGIN) for shape in ((12, 20), (25, 41)))
    image = random.uniform(0, 255, (*coarse.canvas, 3)).astype(np.float32)
    found = builder(content, tiny_features).upsampled(image, coarse, fine)
    assert found.shape == (*fine.canvas, 3)
    inside = resize(np.ascontiguousarray(image[4:-4, 4:-4]), (25, 41))
    np.testing.assert_array_equal(found, np.pad(inside, ((4, 4), (4, 4), (0, 0)), "reflect"))


def test_the_frame_before_is_extended_with_its_trust(random, tiny_features):
    content = random.uniform(0, 255, (*SHAPE, 3)).astype(np.float32)
    before = Before(content[::-1].copy(), random.uniform(size=SHAPE).astype(np.float32), 2.0)
    level = Level(SHAPE, (SHAPE,), 1, MARGIN)
    found = builder(content, tiny_features, before=before)
    temporal = found.targets(level).temporal
    np.testing.assert_allclose(temporal.image[0], extend(before.image, MARGIN))
    np.testing.assert_allclose(temporal.trust[0, :, :, 0], extend(before.trust, MARGIN), rtol=1e-6)
    trust = extend(before.trust, MARGIN)[:, :, np.newaxis]
    mixed = (1 - trust) * extend(content, MARGIN) + trust * extend(before.image, MARGIN)
    np.testing.assert_allclose(found.initial_image(level), mixed, atol=1e-4)


def test_normalized_gradients_are_those_with_the_margin(random, tiny_features):
    """The margin takes a part of the style's gradient, and the others keep theirs there."""
    content = random.uniform(0, 255, (*SHAPE, 3)).astype(np.float32)

    def ratio(margin, normalize):
        level = Level(SHAPE, (SHAPE,), 1, margin)
        given = builder(content, tiny_features, normalize)
        return gradient_ratio(given.objective(level.canvas), given.targets(level), level.canvas)

    assert ratio(MARGIN, True) == pytest.approx(ratio(0, True), rel=1e-4)
    assert ratio(MARGIN, False) != pytest.approx(ratio(0, False), rel=0.02)


def test_a_state_of_another_margin_is_refused(stylize, content, style):
    states = []

    def keep(event):
        if isinstance(event, Iteration) and event.iteration == 2:
            states.append(event.state())

    stylize(content, style, settings(), callbacks=[keep])
    with pytest.raises(InputError, match=r"its image has shape \[32, 48\], not \[24, 40\]"):
        stylize(content, style, settings(margin=0), state=states[0])


def test_memory_and_levels_are_planned_with_the_margin():
    config = Config(image_size=512, margin=16, num_iterations=10)
    found = plan((300, 400), [(300, 400)], config)
    assert [level.margin for level in found] == [16] * len(found)
    assert found[-1].shape == (384, 512) and found[-1].canvas == (416, 544)
    larger = [Level(found[-1].canvas, found[-1].style_shapes, 10)]
    assert plan_tiling(found[-1:], config) == plan_tiling(larger, config)


def test_colors_at_the_border_are_less_strong_with_a_margin():
    """Relative to those inside, in the result and in the content: 2.4 and 1.6 when written."""
    content, style = (
        read(STYLE.with_name(f"{name}.jpg")) for name in ("astronaut", "village-street")
    )

    def excess(image):
        saturation = image.max(axis=2) - image.min(axis=2)
        border = np.ones(saturation.shape, bool)
        border[2:-2, 2:-2] = False
        inside = np.zeros(saturation.shape, bool)
        inside[12:-12, 12:-12] = True
        inside[28:-28, 28:-28] = False
        return saturation[border].mean() / saturation[inside].mean()

    config = Config(image_size=128, num_iterations=40, pyramid="none")
    with_margin, without = (
        excess(nst_tf.stylize(content, style, config.replace(margin=margin)).image)
        for margin in (8, 0)
    )
    assert with_margin < 0.85 * without


def test_the_targets_with_the_margin_are_let_go_before_the_final_loss(
    stylize, content, style, monkeypatch
):
    """Those of a large image are much memory, and those without the margin come beside them."""
    targets, alive = [], []
    make = LevelBuilder._make_targets

    def spied(self, level):
        alive.append([each() is not None for each in targets])
        found = make(self, level)
        targets.append(weakref.ref(next(iter(found.content.values()))))
        return found

    monkeypatch.setattr(LevelBuilder, "_make_targets", spied)
    events = []  # kept, as jobs keep the last one for its state
    stylize(content, style, settings(), callbacks=[events.append])
    assert alive == [[], [False]]

"""Evaluation in tiles: the value and the gradient are those of the whole image."""

import math

import numpy as np
import pytest
import tensorflow as tf

import nst_tf
from nst_tf.config import Config, LossSettings
from nst_tf.engine import tiling
from nst_tf.engine.pyramid import Level
from nst_tf.errors import InputError
from nst_tf.image.resize import resize
from nst_tf.image.tiles import assemble, split
from nst_tf.models import vgg19_features
from nst_tf.models.adain import AdaIN, moments, pooled
from nst_tf.models.segments import segments
from nst_tf.objective import tiled as tiled_objective
from nst_tf.objective.function import batch
from nst_tf.objective.graphs import Objective
from nst_tf.objective.spec import ExtraLoss, spec_of, term_weights
from nst_tf.objective.targets import (
    Fixed,
    MaskedStyle,
    Targets,
    blended_styles,
    masked_styles,
    weight_tensors,
)
from nst_tf.objective.tiled import TiledObjective, TileFunctions, check_additive

SHAPE = (70, 101)
"""Odd at every stride, and three by four tiles of 32 pixels."""


@pytest.fixture
def image(random):
    """Makes images with edges and noise, [1, H, W, 3]."""

    def make(height, width):
        blocks = random.uniform(0, 255, (height // 5 + 1, width // 5 + 1, 3))
        smooth = np.kron(blocks, np.ones((5, 5, 1)))[:height, :width]
        return batch(np.clip(smooth + random.normal(0, 5, smooth.shape), 0, 255))

    return make


@pytest.fixture
def style(image):
    """Makes style images unlike `image`'s: of near-equal statistics, the difference is rounding."""
    return lambda height, width: 0.3 * image(height, width)


def relative(found, expected):
    """Returns the largest difference relative to the largest entry."""
    found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    return np.abs(found - expected).max() / np.abs(expected).max()


def objectives(weights, tile_size=32, *, dtype="float32", encoder=None, **settings):
    """Returns the objective of whole images and that of tiles, and the settings."""
    network = {name: settings.pop(name) for name in ("padding", "pooling") if name in settings}
    loss = LossSettings(**settings)
    spec = spec_of(loss)
    model = vgg19_features([*spec.layers, *([encoder] * bool(encoder))], weights, dtype=dtype,
                           **network)  # fmt: skip
    whole = Objective(model, spec, encoder)
    return whole, TiledObjective(TileFunctions(whole), tile_size), loss


def targets_of(objective, loss, content, styles, **others):
    statistics = [objective.style_features(style).statistics for style in styles]
    shares = [1.0 / len(styles)] * len(styles)
    return Targets(
        content=objective.content_features(content) if objective.spec.content_layers else {},
        style=blended_styles(objective.spec.statistics, statistics, shares, {}),
        weights=weight_tensors(term_weights(loss)),
        **others,
    )


def check_equal(whole, tiled, x, targets, tolerance=1e-5):
    value, gradient, values = whole.value_and_gradients(x, targets)
    found, found_gradient, found_values = tiled.value_and_gradients(x, targets)
    assert float(found) == pytest.approx(float(value), rel=tolerance)
    assert relative(found_gradient, gradient) < tolerance
    assert found_values.keys() == values.keys()
    for name, term in values.items():
        assert float(found_values[name][0]) == pytest.approx(float(term[0]), rel=tolerance), name


# The tiles of a map


SHAPES = [(1, 1), (15, 40), (16, 32), (33, 100), (257, 64), (300, 1000), (1382, 2064)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", [16, 48, 72])
@pytest.mark.parametrize("halo", [4, 24, 32])
def test_every_position_belongs_to_one_tile_with_a_border(shape, size, halo):
    counts = np.zeros(shape, int)
    for own, padded in split(shape, size, 16, halo):
        own.of(counts)[...] += 1
        assert own.top % 16 == own.left % 16 == 0
        assert padded.top % 4 == padded.left % 4 == 0
        assert padded.top <= max(0, own.top - halo) and padded.left <= max(0, own.left - halo)
        assert padded.bottom >= min(shape[0], own.bottom + halo)
        assert padded.right >= min(shape[1], own.right + halo)
        at_border = own.top == 0 or own.bottom == shape[0]
        assert own.bottom - own.top < size + (halo + 16 if at_border else 1)
        assert padded.bottom - padded.top < size + 2 * halo + 16
    assert (counts == 1).all()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", [16, 48, 72])
def test_tiles_have_one_size_but_for_what_is_left_at_the_ends(shape, size):
    padded = [tile.padded for tile in split(shape, size, 16, 24)]
    heights = {each.bottom - each.top for each in padded}
    widths = {each.right - each.left for each in padded}
    for lengths in (heights, widths):
        assert len(lengths) <= 2 and max(lengths) - min(lengths) < 16


@pytest.mark.parametrize("length", range(300, 3000, 123))
def test_tiles_are_no_larger_than_their_number_takes(length):
    tiles = split((length, 64), 256, 16, 24)
    longest = max(tile.padded.bottom - tile.padded.top for tile in tiles)
    even = (length - 48) / len(tiles) + 48
    assert even <= longest < even + 32
    assert len(tiles) <= -(-length // 256)


def test_the_crop_of_a_tile_is_its_own_part():
    source = np.arange(50 * 70).reshape(50, 70)
    for tile in split(source.shape, 32, 16, 8):
        top, rows, left, columns = tile.crop()
        padded = tile.padded.of(source)
        bottom = None if rows < 0 else top + rows
        right = None if columns < 0 else left + columns
        np.testing.assert_array_equal(padded[top:bottom, left:right], tile.own.of(source))


@pytest.mark.parametrize(("up", "down"), [(1, 1), (2, 1), (1, 4)])
def test_a_function_of_tiles_gives_what_it_gives_of_the_whole(random, up, down):
    source = random.uniform(size=(64, 80, 2))

    def function(x):  # what is beyond the border counts
        x = (np.roll(x, 1, 1) + x + np.roll(x, -1, 2))[:, ::down, ::down]
        return x.repeat(up, 1).repeat(up, 2)

    tiles = split((64, 80), 32, 4, 4)
    found = assemble(function, source, tiles, up=up, down=down)
    inside = slice(8, -8)
    np.testing.assert_allclose(
        found[inside, inside], function(source[np.newaxis])[0, inside, inside]
    )


# The parts of a network


@pytest.mark.parametrize("padding", ["zero", "reflect", "replicate"])
@pytest.mark.parametrize("cuts", [("block3_pool",), ("block1_pool", "block2_pool", "block4_pool")])
def test_segments_one_after_the_other_are_the_network(tiny_weights, image, padding, cuts):
    layers = ["block1_conv1", "block3_conv2", "block4_conv2", "block5_conv1"]
    network = vgg19_features(layers, tiny_weights, padding=padding)
    x, found = image(70, 53), {}
    expected = network(x)
    parts = segments(network, cuts)
    assert len(parts) == len(cuts) + 1
    for part in parts:
        activations = part.model(x)
        found |= activations
        x = activations.get(part.output)
    for layer in layers:
        np.testing.assert_array_equal(found[layer], expected[layer])


def test_halos_are_what_the_convolutions_of_a_segment_see(tiny_weights):
    network = vgg19_features(["block1_conv1", "block5_conv1"], tiny_weights)
    # 2 + 2 * 2 + 4 * 4 pixels, rounded up to 24 for three poolings; 4 + 2 positions of 8 pixels.
    assert [(part.stride, part.halo) for part in segments(network)] == [(1, 24), (8, 6)]
    (whole,) = segments(network, ())
    assert (whole.stride, whole.halo) == (1, 80)  # 2 + 4 + 16 + 32 + 16, rounded up to 16
    shallow = vgg19_features(["block1_conv2", "block2_conv1"], tiny_weights)
    assert [(part.halo, part.output) for part in segments(shallow)] == [(4, None)]


# Value and gradient


def test_value_and_gradient_of_the_trained_network_are_those_of_the_whole_image(
    weights, image, style
):
    whole, tiled, loss = objectives(weights, padding="reflect", tv_weight=1e-2)
    targets = targets_of(whole, loss, image(*SHAPE), [style(90, 77)])
    check_equal(whole, tiled, image(*SHAPE), targets)


@pytest.mark.parametrize(
    ("padding", "pooling"),
    [
        ("reflect", "average"),
        ("zero", "max"),
        pytest.param("replicate", "max", marks=pytest.mark.slow),
    ],
)
def test_value_and_gradient_are_those_of_the_whole_image(
    tiny_weights, image, style, padding, pooling
):
    whole, tiled, loss = objectives(tiny_weights, padding=padding, pooling=pooling, tv_weight=1e-2)
    targets = targets_of(whole, loss, image(*SHAPE), [style(90, 77)])
    check_equal(whole, tiled, image(*SHAPE), targets)


@pytest.mark.parametrize(
    "settings",
    [
        {"style_loss": "moments"},
        {"style_weight": 0.0, "grain_weight": 1.0},
        {"content_weight": 0.0, "tv_weight": 1.0, "tv_exponent": 1},
        {"style_layers": ["block1_conv2", "block2_conv1"], "content_layers": ["block2_conv2"]},
        pytest.param(
            {"style_layers": ["block5_conv4"], "content_layers": ["block5_conv2"]},
            marks=pytest.mark.slow,
        ),
    ],
    ids=str,
)  # fmt: skip
def test_each_additive_term_is_that_of_the_whole_image(tiny_weights, image, style, settings):
    shape = (71, 96)
    whole, tiled, loss = objectives(tiny_weights, **settings)
    targets = targets_of(whole, loss, image(*shape), [style(60, 75), style(48, 48)])
    check_equal(whole, tiled, image(*shape), targets)


@pytest.mark.parametrize("style_loss", ["gram", pytest.param("moments", marks=pytest.mark.slow)])
def test_masks_also_where_a_tile_has_none_of_one(tiny_weights, image, style, random, style_loss):
    whole, tiled, loss = objectives(tiny_weights, style_loss=style_loss)
    content, x = image(*SHAPE), image(*SHAPE)
    mask = np.zeros((1, *SHAPE, 1), np.float32)
    mask[:, :, :50] = random.uniform(0, 1, (1, SHAPE[0], 50, 1))
    statistics = [whole.style_features(style(60, 75)).statistics for _ in range(2)]
    regions = [
        MaskedStyle(number, each, tf.constant(part), 1.0)
        for number, (each, part) in enumerate(zip(statistics, [mask, 1.0 - mask], strict=True))
    ]
    shapes = whole.layer_shapes(SHAPE)
    shapes = {layer: shapes[layer] for layer in whole.spec.statistics}
    targets = targets_of(whole, loss, content, [style(60, 75)])._replace(
        style=masked_styles(regions, shapes, {}, tf.ones_like(regions[0].mask)),
        fixed=Fixed(content, tf.constant(mask)),
    )
    check_equal(whole, tiled, x, targets)


@pytest.mark.slow
def test_only_the_luminance(tiny_weights, image, style):
    whole, tiled, loss = objectives(tiny_weights, original_colors="luminance")
    targets = targets_of(whole, loss, image(*SHAPE), [style(90, 77)])
    check_equal(whole, tiled, image(*SHAPE), targets)


def test_bfloat16_to_its_rounding(tiny_weights, image, style):
    whole, tiled, loss = objectives(tiny_weights, dtype="bfloat16")
    targets = targets_of(whole, loss, image(*SHAPE), [style(90, 77)])
    x = image(*SHAPE)
    value, gradient, _ = whole.value_and_gradients(x, targets)
    found, found_gradient, _ = tiled.value_and_gradients(x, targets)
    assert float(found) == pytest.approx(float(value), rel=1e-3)
    assert relative(found_gradient, gradient) < 0.05


@pytest.mark.slow
def test_the_size_of_the_tiles_changes_the_last_digits_only(tiny_weights, image, style):
    whole, _, loss = objectives(tiny_weights)
    targets = targets_of(whole, loss, image(*SHAPE), [style(90, 77)])
    x = image(*SHAPE)
    gradients = [
        TiledObjective(TileFunctions(whole), size).value_and_gradients(x, targets)[1]
        for size in (16, 48, 512)
    ]
    for gradient in gradients[:2]:
        assert relative(gradient, gradients[2]) < 1e-5


# Targets


@pytest.mark.parametrize("masked", [False, True])
def test_targets_are_those_of_whole_images(tiny_weights, image, random, masked):
    whole, tiled, _ = objectives(tiny_weights, encoder="block4_conv1", padding="reflect")
    content, style, pixels = image(*SHAPE), image(90, 77), image(45, 38)
    found, expected = (each.content_features(content) for each in (tiled, whole))
    assert relative(found["block4_conv2"], expected["block4_conv2"]) < 1e-5
    assert isinstance(found["block4_conv2"], np.ndarray)  # a tensor would be a copy
    mask = tf.constant(random.uniform(0, 1, (1, 90, 77, 1)), tf.float32) if masked else None
    for arguments in ((style, mask), (style, mask, pixels)):
        found, expected = (
            tf.nest.flatten(each.style_features(*arguments)) for each in (tiled, whole)
        )
        assert len(found) == len(expected) == 11
        for one, other in zip(found, expected, strict=True):
            assert relative(one, other) < 1e-5


def test_the_loss_of_an_image_as_it_is(tiny_weights, image, style):
    whole, tiled, loss = objectives(tiny_weights, tv_weight=1e-2)
    targets = targets_of(whole, loss, image(*SHAPE), [style(90, 77)])
    x = image(*SHAPE)
    found, expected = tiled.loss_terms(x, targets), whole.loss_terms(x, targets)
    assert found.keys() == expected.keys()
    for name, term in expected.items():
        assert float(found[name][0]) == pytest.approx(float(term[0]), rel=1e-5)


def test_moments_of_parts_are_those_of_the_whole(random):
    maps = random.uniform(0, 3, (1, 12, 10, 4)).astype(np.float32)
    parts = [maps[:, :5], maps[:, 5:]]
    found = pooled([moments(part) for part in parts], [50, 70])
    for one, other in zip(found, moments(maps), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)


@pytest.mark.parametrize("shape", [(64, 96), (83, 101)])
def test_the_feed_forward_image_in_tiles(image, shape):
    content, style = image(*shape).numpy()[0], image(70, 90).numpy()[0]
    network = AdaIN()
    whole = network(content, [style], strength=0.7)
    tiled = network(content, [style], strength=0.7, tile_size=lambda shape: 32)
    assert np.abs(tiled - whole).max() < 0.02  # gray levels of 255


# The choice of tiles


def level(height, width, num_iterations=10, style=(400, 500)):
    return Level((height, width), (style,), num_iterations)


@pytest.fixture
def memory(monkeypatch):
    """Sets the free memory, on a processor that needs no strips."""
    monkeypatch.setattr(tiling.system, "is_x86_without_avx512", lambda: False)
    monkeypatch.setattr(tiling.system, "memory_in_use", lambda: 0)
    return lambda free: monkeypatch.setattr(tiling.system, "available_memory", lambda: free)


def test_images_are_evaluated_at_once_where_that_fits(memory):
    memory(64e9)
    found = tiling.plan_tiling([level(1000, 1500)], Config())
    assert found.tile_size == 0
    assert found.size_for((1000, 1500)) == 0


def test_ENV_19_the_largest_tiles_that_fit_are_taken(memory):
    levels = [level(683, 1024), level(2731, 4096, 5)]
    sizes = []
    for free in (64e9, 12e9, 8e9, 6.5e9):
        memory(free)
        found = tiling.plan_tiling(levels, Config())
        sizes.append(found.tile_size)
        assert found.memory_bytes <= 0.9 * free
    assert sizes[0] == 0
    assert sizes[1:] == sorted(sizes[1:], reverse=True)
    assert sizes[1] > sizes[-1] > 0
    chosen = tiling.plan_tiling(levels, Config())
    assert chosen.size_for((2731, 4096)) == chosen.tile_size
    assert chosen.size_for((chosen.tile_size, chosen.tile_size)) == 0


def test_max_memory_and_tile_size_decide_for_themselves(memory):
    memory(64e9)
    levels = [level(2731, 4096, 5)]
    limited = tiling.plan_tiling(levels, Config(max_memory="5.5GB"))
    assert limited.tile_size > 0 and limited.memory_bytes <= 0.9 * 5.5e9
    assert tiling.plan_tiling(levels, Config(tile_size=320)).tile_size == 320


@pytest.mark.parametrize(
    "shape, style, steps, max_memory",
    [((2731, 4096), (3244, 4096), 5, "4GiB"), ((5462, 8192), (6488, 8192), 1, "8GiB")],
)
def test_large_images_with_a_style_as_large_fit(memory, shape, style, steps, max_memory):
    memory(64e9)
    config = Config(max_memory=max_memory)
    found = tiling.plan_tiling([level(*shape, steps, style=style)], config)
    assert found.memory_bytes <= config.max_memory


@pytest.mark.parametrize(
    "tile_side, releases",
    [(512, [4, 8, 10]), (1024, [*range(1, 11), 10]), (2048, [*range(1, 11), 10])],
)
def test_freed_memory_goes_back_every_few_tiles_and_at_the_end(monkeypatch, tile_side, releases):
    seen, released = [], []
    monkeypatch.setattr(
        tiled_objective.system, "release_memory", lambda: released.append(len(seen))
    )
    for result in tiled_objective._tidied(iter(range(10)), tile_side):
        seen.append(result)
    assert seen == list(range(10))
    assert released == releases


def test_fewer_steps_are_kept_where_all_do_not_fit(memory):
    memory(64e9)
    levels = [level(2731, 4096, 40)]
    found = tiling.plan_tiling(levels, Config(max_memory="5GB"))
    assert found.tile_size == min(tiling.TILE_SIZES)
    assert 5 < found.history < 20
    assert 4.3e9 < found.memory_bytes <= 4.5e9  # as many as fit


def test_what_does_not_fit_even_in_small_tiles_has_the_smallest(memory):
    memory(1.2e9)
    found = tiling.plan_tiling([level(2731, 4096)], Config())
    assert (found.tile_size, found.history) == (min(tiling.TILE_SIZES), 5)
    assert found.memory_bytes > 1.2e9


def test_coarser_levels_have_no_tiles_where_they_need_no_more_memory_than_the_last(memory):
    memory(64e9)
    shapes = [(342, 512), (683, 1024), (1366, 2048), (2731, 4096)]
    levels = [level(*shape, 5, style=shape) for shape in shapes]
    config = Config(max_memory="5GiB")
    found = tiling.plan_tiling(levels, config)
    sizes = [found.size_for(each.shape) for each in levels]
    assert sizes == [0, 0, found.tile_size, found.tile_size]
    assert found.memory_bytes == tiling.plan_tiling(levels[-1:], config).memory_bytes
    assert tiling.plan_tiling(levels[1:2], Config()).memory_bytes <= found.memory_bytes
    assert tiling.plan_tiling(levels[2:3], Config(tile_size=2048)).memory_bytes > found.memory_bytes
    shared = tiling.plan_tiling(levels, Config(cluster="tcp://host:8786", tile_size=256))
    assert shared.size_for((683, 1024)) == 256  # other machines compute them


def test_large_images_always_have_tiles_on_processors_without_avx512(memory, monkeypatch):
    memory(64e9)
    monkeypatch.setattr(tiling.system, "is_x86_without_avx512", lambda: True)
    assert tiling.plan_tiling([level(683, 1024)], Config()).tile_size == 0
    found = tiling.plan_tiling([level(2731, 4096)], Config()).tile_size
    assert 0 < found**2 < 4_000_000


# All of it


def test_a_run_in_tiles_gives_nearly_the_same_image(image):
    content, style = image(64, 90).numpy()[0], image(70, 60).numpy()[0]
    settings = {"image_size": 90, "num_iterations": 3, "pyramid": "45:3", "precision": "float32"}
    whole = nst_tf.stylize(content, style, Config(**settings))
    tiled = nst_tf.stylize(content, style, Config(tile_size=32, **settings))
    assert tiled.iterations == whole.iterations
    assert tiled.losses.total == pytest.approx(whole.losses.total, rel=1e-3)
    assert np.abs(tiled.image - whole.image).mean() < 0.1


def test_the_preview_of_a_tiled_run_is_that_of_its_largest_level_without_tiles(random):
    content = random.integers(0, 256, (64, 96, 3), np.uint8)
    style = random.integers(0, 256, (64, 64, 3), np.uint8)

    def preview(image_size, **settings):
        events = []
        config = Config(image_size=image_size, num_iterations=1, score=False, **settings)
        nst_tf.stylize(content, style, config, callbacks=[events.append])
        return events[0].image

    pyramid = {"pyramid": "64:1,80:1"}
    whole = preview(80, pyramid="none")
    tiled = preview(96, tile_size=64, **pyramid)
    assert tiled.shape == (64, 96, 3)
    np.testing.assert_allclose(tiled, resize(whole, (64, 96)), atol=0.1)
    assert np.abs(preview(96, **pyramid) - tiled).mean() > 1.0  # without tiles, it is as fine


def test_CFG_38_what_is_no_sum_over_positions_is_refused(random):
    content, style = random.uniform(0, 255, (2, 64, 80, 3))
    config = Config(image_size=80, tile_size=32, num_iterations=1, style_loss="nearest_neighbors")
    with pytest.raises(InputError, match="style_loss nearest_neighbors cannot be evaluated in til"):
        nst_tf.stylize(content, style, config)
    extra = ExtraLoss("redness", lambda x, _: tf.reduce_mean(x[..., 0], [1, 2]))
    config = Config(image_size=80, tile_size=32, num_iterations=1)
    with pytest.raises(InputError, match="extra losses cannot be evaluated in tiles: redness"):
        nst_tf.stylize(content, style, config, extra_losses=[extra])
    check_additive(spec_of(LossSettings(style_loss="moments")))


def test_another_network_is_refused(random, tiny_features):
    content, style = random.uniform(0, 255, (2, 64, 80, 3))
    config = Config(image_size=80, tile_size=32, num_iterations=1, init="content",
                    content_layers=["block2_conv1"], style_layers=["block1_conv1"])  # fmt: skip
    with pytest.raises(InputError, match="another network than VGG19 cannot be evaluated in tiles"):
        nst_tf.stylize(content, style, config, network=tiny_features)


def test_sizes_of_tiles_are_multiples_of_16():
    with pytest.raises(InputError, match="tile_size cannot be 100"):
        Config(tile_size=100)
    assert Config(max_memory="3500MB").max_memory == 3_500_000_000
    assert math.log2(Config(max_memory="4GiB").max_memory) == 32

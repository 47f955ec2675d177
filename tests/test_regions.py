"""Regions of the content with styles of their own."""

import numpy as np
import pytest
import tensorflow as tf

from nst_tf import losses, stylize
from nst_tf.config import Config, InitialSettings, LossSettings, NetworkSettings
from nst_tf.engine.inputs import Inputs
from nst_tf.engine.levels import LevelBuilder, StyleCache
from nst_tf.engine.networks import Networks
from nst_tf.engine.pyramid import Level
from nst_tf.engine.tiling import Tiling
from nst_tf.errors import InputError
from nst_tf.events import Iteration, Preview
from nst_tf.image import masks
from nst_tf.image.masks import Region
from nst_tf.image.resize import resize
from nst_tf.io.images import read
from nst_tf.objective.function import LossFunction, batch
from nst_tf.objective.spec import spec_of
from tests.command import PALACE, STYLE
from tests.numerical_gradient import gradient_error

SHAPE = (32, 48)


def halves():
    left = np.zeros(SHAPE, np.float32)
    left[:, :24] = 1
    return left, 1 - left


@pytest.fixture(scope="module")
def images():
    paths = (PALACE, STYLE, STYLE.with_name("starry-night.jpg"))
    content, one, other = (read(path) for path in paths)
    return (
        resize(content, SHAPE),
        resize(one, (48, 36)),
        resize(other, (36, 48)),
    )


def naive_gram(maps, guide):
    """Sum over positions of g^2 f f', over the sum of g^2, one position at a time."""
    total, weight = np.zeros((maps.shape[-1],) * 2), 0.0
    for y in range(maps.shape[1]):
        for x in range(maps.shape[2]):
            f, g = maps[0, y, x].astype(np.float64), float(guide[y, x])
            total += g**2 * np.outer(f, f)
            weight += g**2
    return total / weight


def test_the_guided_gram_matrix_is_that_of_the_naive_sum(random):
    maps = random.normal(size=(1, 5, 7, 4)).astype(np.float32)
    guide = random.uniform(0, 1, (5, 7)).astype(np.float32)
    found = losses.gram_matrix(tf.constant(maps), tf.constant(guide[np.newaxis, :, :, np.newaxis]))
    np.testing.assert_allclose(found[0], naive_gram(maps, guide), rtol=1e-5, atol=1e-6)


def test_a_guide_of_one_everywhere_changes_nothing(random):
    maps = tf.constant(random.normal(size=(1, 5, 7, 4)), tf.float32)
    np.testing.assert_allclose(
        losses.gram_matrix(maps, tf.ones((1, 5, 7, 1))), losses.gram_matrix(maps), rtol=1e-6
    )


def objective(network, images, regions, **settings):
    """Returns the loss of images of the content's size, with regions as they are."""
    loss = LossSettings(**settings)
    content, *styles = images
    networks = Networks(NetworkSettings(), spec_of(loss), network=network)
    inputs = Inputs(content, content, tuple(styles), tuple(regions), None)
    builder = LevelBuilder(
        inputs, loss, InitialSettings(init="content"), networks, StyleCache(), "float32",
        Tiling(0, 0), None,
    )  # fmt: skip
    level = Level(SHAPE, tuple(style.shape[:2] for style in styles), 0)
    return LossFunction(networks.objective("float32"), builder.targets(level))


def evaluated(function, image):
    """Returns the terms and the gradient at an image."""
    _, gradient = function(batch(image))
    return function.last_losses(), gradient.numpy()[0]


def test_a_full_mask_equals_no_mask(tiny_features, images, random):
    content, one, _ = images
    full = masks.build_regions([np.ones((8, 12))], [np.ones((4, 3))], [], SHAPE, [(48, 36)])
    image = random.uniform(0, 255, (*SHAPE, 3)).astype(np.float32)
    masked = evaluated(objective(tiny_features, (content, one), full), image)
    plain = evaluated(objective(tiny_features, (content, one), []), image)
    for name, value in plain[0].terms.items():
        assert masked[0].terms[name] == pytest.approx(value, rel=1e-5)
    np.testing.assert_allclose(masked[1], plain[1], atol=1e-5 * np.abs(plain[1]).max())


def test_the_loss_of_regions_is_that_of_a_naive_twin(tiny_features, images, random):
    _, *styles = images
    left, _ = halves()
    soft = np.linspace(0, 1, 48, dtype=np.float32) * np.ones(SHAPE, np.float32)
    taken = random.uniform(0.2, 1, (36, 48)).astype(np.float32)
    parts = [Region(left, 0, None, 1.0), Region(soft, 1, taken, 0.5)]
    settings = {
        "style_layers": "block1_conv1:2,block2_conv1", "content_weight": 0.0, "grain_weight": 0.0
    }  # fmt: skip
    found = objective(tiny_features, images, parts, style_weight=3.0, **settings)
    variables = random.uniform(0, 255, (*SHAPE, 3)).astype(np.float32)
    image = found.image(batch(variables))

    expected = 0.0
    for layer, factor, weight in (("block1_conv1", 1, 2.0), ("block2_conv1", 2, 1.0)):
        maps, *styled = (
            tiny_features(one[np.newaxis])[layer].numpy() for one in (image, *styles)
        )  # fmt: skip
        for part in parts:
            guide, inside = (
                None if mask is None
                else mask.reshape(mask.shape[0] // factor, factor, -1, factor).mean(axis=(1, 3))
                for mask in (part.content_mask, part.style_mask)
            )  # fmt: skip
            style = styled[part.style]
            inside = np.ones(style.shape[1:3]) if inside is None else inside
            difference = naive_gram(maps, guide) - naive_gram(style, inside)
            channels = difference.shape[0]
            loss = np.mean(difference**2) / channels**2
            expected += 3.0 * weight * part.weight * np.mean(guide**2) * loss
    assert found.losses(image).total == pytest.approx(expected, rel=1e-4)
    assert evaluated(found, variables)[0].total == pytest.approx(expected, rel=1e-4)


def test_the_gradient_of_regions_is_the_numerical_one(tiny_features, images, random):
    left, right = halves()
    parts = [Region(left, 0, None, 1.0), Region(0.5 * right, 1, None, 1.0)]
    function = objective(tiny_features, images, parts, style_weight=1e4)
    image = random.uniform(40, 215, (*SHAPE, 3)).astype(np.float32)
    gradient = evaluated(function, image)[1]
    assert gradient_error(lambda x: evaluated(function, x)[0].total, gradient, image, 0.02) < 2e-2


def test_what_no_mask_covers_has_no_gradient_of_style(tiny_features, images, random):
    content, one, _ = images
    left, _ = halves()
    function = objective(tiny_features, (content, one), [Region(left, 0, None, 1.0)],
                         content_weight=0.0, style_layers="block1_conv1")  # fmt: skip
    image = random.uniform(0, 255, (*SHAPE, 3)).astype(np.float32)
    gradient = evaluated(function, image)[1]
    assert np.abs(gradient[:, 25:]).max() == 0  # block1_conv1 sees one pixel beyond the border
    assert np.abs(gradient[:, :24]).max() > 0


def test_layers_are_given_to_styles(tiny_features, images, random):
    content, one, other = images
    image = random.uniform(0, 255, (*SHAPE, 3)).astype(np.float32)
    found = objective(tiny_features, images, [], layer_styles="block1_conv1:1,block3_conv1:2")
    terms = evaluated(found, image)[0].terms
    only_one = evaluated(objective(tiny_features, (content, one), []), image)[0].terms
    only_other = evaluated(objective(tiny_features, (content, other), []), image)[0].terms
    both = evaluated(objective(tiny_features, images, []), image)[0].terms
    assert terms["style/block1_conv1"] == pytest.approx(only_one["style/block1_conv1"], rel=1e-5)
    assert terms["style/block3_conv1"] == pytest.approx(only_other["style/block3_conv1"], rel=1e-5)
    assert terms["style/block2_conv1"] == pytest.approx(both["style/block2_conv1"], rel=1e-5)
    assert terms["style/block1_conv1"] != pytest.approx(both["style/block1_conv1"], rel=1e-3)


def test_in_regions_a_layer_acts_only_where_its_style_is(tiny_features, images, random):
    left, right = halves()
    parts = [Region(left, 0, None, 1.0), Region(right, 1, None, 1.0)]
    settings = {"content_weight": 0.0, "grain_weight": 0.0, "style_layers": "block1_conv1"}
    function = objective(tiny_features, images, parts, layer_styles="block1_conv1:2", **settings)
    image = random.uniform(0, 255, (*SHAPE, 3)).astype(np.float32)
    gradient = evaluated(function, image)[1]
    assert np.abs(gradient[:, :23]).max() == 0
    assert np.abs(gradient[:, 24:]).max() > 0


@pytest.mark.parametrize("tile_size", [0, 16])
def test_a_region_counts_in_the_layers_that_see_it(tiny_weights, random, tile_size):
    """Poolings of 47 columns drop the last ones: of 5 there, the deepest layers see nothing."""
    content, one, other = random.uniform(0, 255, (3, 40, 47, 3)).astype(np.float32)
    edge = np.zeros((40, 47), np.float32)
    edge[:, -3:] = 1
    config = Config(image_size=47, style_scale=1, num_iterations=2, pyramid="none", init="content",
                    precision="float32", tile_size=tile_size)  # fmt: skip
    # As a region of the content, and as the part of a style.
    for content_masks, style_masks in (
        ([edge, 1 - edge], ()),
        ([1 - edge, edge], [edge, 1 - edge]),
    ):
        result = stylize(content, [one, other], config, content_masks=content_masks,
                         style_masks=style_masks, weights=tiny_weights)  # fmt: skip
        assert result.failure == "" and np.isfinite(result.losses.total)
        assert np.abs(result.image - content)[:, -3:].mean() > 0.1


def test_a_region_starts_from_its_part_of_a_style(weights, random):
    content = random.uniform(0, 255, (40, 48, 3)).astype(np.float32)
    style = np.zeros((40, 48, 3), np.float32)
    style[:, :24, 0] = style[:, 24:, 2] = 200
    style += random.uniform(0, 50, style.shape).astype(np.float32)
    left = np.repeat(np.float32([1, 0]), 24)[np.newaxis] * np.ones((40, 1), np.float32)
    config = Config(image_size=48, style_scale=1, num_iterations=0, pyramid="none", score=False,
                    style_strength=1)  # fmt: skip
    image = stylize(content, style, config, content_masks=[np.ones_like(left)],
                    style_masks=[left], weights=weights).image  # fmt: skip
    red, _, blue = image.mean((0, 1))
    assert red > 4 * blue


def test_a_soft_mask_mixes_with_the_content_once_at_all_levels(tiny_weights, random):
    content, style = random.uniform(0, 255, (2, 48, 40, 3)).astype(np.float32)
    half, whole = np.full((2, 48, 40), [[[0.5]], [[1.0]]], np.float32)
    config = Config(image_size=48, style_scale=1, num_iterations=0, pyramid="24:0,32:0",
                    init="noise")  # fmt: skip
    seen = []

    def result(mask):
        return stylize(content, style, config, content_masks=[mask], weights=tiny_weights,
                       callbacks=[seen.append]).image  # fmt: skip

    np.testing.assert_allclose(result(half), (content + result(whole)) / 2, atol=1e-3)
    half_shown, whole_shown = (event.image for event in seen if isinstance(event, Preview))
    np.testing.assert_allclose(half_shown, (content + whole_shown) / 2, atol=1e-3)


def test_each_region_gets_its_style_and_the_rest_stays(weights, images):
    content, *styles = images
    left = np.zeros(SHAPE, np.float32)
    left[:, :20] = 1
    config = Config(image_size=48, style_scale=1, num_iterations=15, pyramid="none")
    seen = []
    result = stylize(content, styles[:1], config, content_masks=[left], weights=weights,
                     callbacks=[seen.append])  # fmt: skip
    shown = [event for event in seen if isinstance(event, Preview | Iteration)]
    for image in (*(event.image for event in shown), result.image):
        np.testing.assert_allclose(image[:, 20:], content[:, 20:], atol=1e-3)
        assert np.abs(image - content)[:, :20].mean() > 20
    first = next(event for event in shown if isinstance(event, Iteration)).losses
    assert result.losses.total < 0.9 * first.total


@pytest.mark.parametrize(
    ("regions", "style_masks", "blend", "styles", "text"),
    [
        (3, 0, 0, 2, "there are 3 content masks for 2 style images"),
        (2, 1, 0, 2, "there are 1 masks of styles and 2 of the content"),
        (2, 0, 3, 2, "there are 3 weights for 2 regions"),
    ],
)
def test_numbers_that_do_not_fit_are_refused(regions, style_masks, blend, styles, text):
    with pytest.raises(InputError, match=text):
        masks.build_regions(
            [np.ones((4, 6))] * regions,
            [np.ones((4, 6))] * style_masks,
            [1.0] * blend,
            SHAPE,
            [SHAPE] * styles,
        )


@pytest.mark.parametrize(
    ("mask", "text"),
    [
        (np.zeros(SHAPE), "content mask 2 is empty: less than 0.01% of it is white"),
        (np.ones((48, 32)), "has another aspect than its image: it has 32x48 pixels, the image"),
        (np.full(SHAPE, 255.0), r"is not a mask: it has shape \[32, 48\]; give \[H, W\] in \[0, 1"),
        (np.full(SHAPE, np.nan), "is not a mask"),
        (np.ones((*SHAPE, 3)), "is not a mask"),
    ],
)
def test_masks_that_cannot_be_are_refused(mask, text):
    with pytest.raises(InputError, match=text):
        masks.build_regions([np.ones(SHAPE), mask], [], [], SHAPE, [SHAPE])


def test_masks_of_another_size_are_scaled_and_keep_soft_edges():
    (part,) = masks.build_regions([np.linspace(0, 1, 12) * np.ones((8, 1))], [], [], SHAPE, [SHAPE])
    assert part.content_mask.shape == SHAPE
    assert np.ptp(part.content_mask[0]) > 0.9
    assert len(np.unique(part.content_mask[0])) > 30


def test_weights_of_regions_are_relative_to_one():
    mask = np.ones(SHAPE)
    equal = masks.build_regions([mask, mask], [], [], SHAPE, [SHAPE])
    unequal = masks.build_regions([mask, mask], [], [3.0, 1.0], SHAPE, [SHAPE])
    assert [part.weight for part in equal] == [1.0, 1.0]
    assert [part.weight for part in unequal] == [1.5, 0.5]


def test_a_mask_is_the_mean_of_the_channels():
    image = np.zeros((2, 3, 3), np.float32)
    image[0] = 255
    image[1, 0] = (255, 0, 0)
    mask, part = masks.mask_from_layers(image, None, 255, "content mask 1")
    np.testing.assert_allclose(mask, [[1, 1, 1], [1 / 3, 0, 0]], rtol=1e-6)
    assert part == "luminance of its colors"

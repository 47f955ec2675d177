"""Adaptive instance normalization: its formula, its decoder, its image."""

import gc
import weakref

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from nst_tf.models import AdaIN, adain, vgg19_features
from nst_tf.models.weights import load_adain_decoder
from tests.command import PALACE


@pytest.fixture(scope="module")
def decoder():
    return load_adain_decoder().arrays


@pytest.fixture(scope="module")
def transfer(request, decoder):
    """The trained encoder and decoder, in float32."""
    weights = request.getfixturevalue("weights")
    encoder = vgg19_features([adain.ENCODER_LAYER], weights, padding="reflect")
    return AdaIN(encoder, decoder)


def test_adain_preset():
    # By hand: content 1, 3 has mean 2 and deviation 1; style 10, 30 has mean 20 and deviation 10.
    content = tf.constant([[[[1.0], [3.0]]]])
    style = tf.constant([[[[10.0]], [[30.0]]]])
    found = adain.adain(content, adain.moments(style))
    assert found.numpy().ravel() == pytest.approx([10.0, 30.0], rel=1e-4)


def test_adain_gives_the_styles_mean_and_deviation(random):
    content = random.normal(3, 2, (2, 5, 7, 4)).astype(np.float32)
    style = random.normal(-1, 5, (2, 6, 3, 4)).astype(np.float32)
    found = adain.adain(tf.constant(content), adain.moments(tf.constant(style))).numpy()
    np.testing.assert_allclose(found.mean((1, 2)), style.mean((1, 2)), atol=1e-4)
    np.testing.assert_allclose(found.std((1, 2)), style.std((1, 2)), rtol=1e-4)


def test_adain_to_itself_changes_nothing(random):
    content = tf.constant(random.normal(3, 2, (1, 5, 7, 4)), tf.float32)
    np.testing.assert_allclose(adain.adain(content, adain.moments(content)), content, atol=1e-5)


def test_adain_to_blended_moments_is_the_blend_of_adain_to_each(random):
    content, *styles = (
        tf.constant(random.normal(mean, 2, (1, 5, 7, 4)), tf.float32) for mean in (3, -1, 6)
    )
    each = [adain.moments(style) for style in styles]
    found = adain.adain(content, adain.blend(each, [0.3, 0.7]))
    expected = 0.3 * adain.adain(content, each[0]) + 0.7 * adain.adain(content, each[1])
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_moments_of_bfloat16_are_computed_in_float32(random):
    features = tf.constant(random.normal(300, 1, (1, 40, 60, 2)), tf.bfloat16)
    exact = features.numpy().astype(np.float64)
    mean, deviation = adain.moments(features)
    np.testing.assert_allclose(mean.numpy().ravel(), exact.mean((0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(deviation.numpy().ravel(), exact.std((0, 1, 2)), rtol=1e-3)


def naive_convolution(x, kernel, bias):
    """A 3x3 cross-correlation with reflected borders, in float64, tap by tap."""
    padded = np.pad(x.astype(np.float64), ((1, 1), (1, 1), (0, 0)), mode="reflect")
    height, width, _ = x.shape
    return bias + sum(
        padded[i : i + height, j : j + width] @ kernel[i, j].astype(np.float64)
        for i in range(3)
        for j in range(3)
    )


def test_decoder_equals_its_naive_twin(decoder, random):
    maps = random.normal(0, 1, (3, 4, 512)).astype(np.float32)
    x = maps
    for number in range(1, 10):
        x = naive_convolution(x, decoder[f"conv{number}/kernel"], decoder[f"conv{number}/bias"])
        x = x if number == 9 else np.maximum(x, 0)
        if number in (1, 5, 7):
            x = x.repeat(2, axis=0).repeat(2, axis=1)
    found = adain.build_decoder(decoder, "float32")(maps[np.newaxis]).numpy()[0]
    assert found.shape == (24, 32, 3)
    np.testing.assert_allclose(found, x, atol=1e-3)


@pytest.fixture
def content(waves):
    return waves


@pytest.fixture
def style(random):
    coarse = random.uniform(0, 255, (8, 6, 3))
    return np.kron(coarse, np.ones((4, 4, 1))).astype(np.float32)


@pytest.mark.parametrize("strength", [0.1, 0.5, 1.0, 1.5])
def test_keeps_odd_sizes_and_the_pixel_range(content, style, transfer, strength):
    image = transfer(content, [style], strength=strength)
    assert image.shape == content.shape == (19, 27, 3)
    assert image.dtype == np.float32
    assert image.min() >= 0.0
    assert image.max() <= 255.0
    assert image.std() > 5.0


def test_strength_goes_from_the_content_to_the_style(style, transfer, random):
    content = np.kron(random.uniform(0, 255, (3, 4, 3)), np.ones((8, 8, 1))).astype(np.float32)
    none, half, whole = (transfer(content, [style], strength=s) for s in (0.0, 0.5, 1.0))
    np.testing.assert_array_equal(none, content)
    assert np.abs(none - half).mean() < np.abs(none - whole).mean()


def test_strengths_next_to_the_ends_give_nearly_their_images(content, style, transfer):
    """Of what the decoder loses of the content, all is added at 0, and nothing at 1."""
    own, least, most, whole = (
        transfer(content, [style], strength=strength) for strength in (0.0, 1e-5, 1 - 1e-5, 1.0)
    )
    np.testing.assert_allclose(least, own, atol=0.5)
    np.testing.assert_allclose(most, whole, atol=0.5)


def test_a_strength_above_1_goes_on_from_the_image_of_1(content, style, transfer):
    once = transfer(content, [style])
    for more in (0.5, 1.0):
        expected = transfer(np.clip(once, 0, 255), [style], strength=more)
        np.testing.assert_allclose(transfer(content, [style], strength=1 + more), expected)
        assert np.abs(expected - once).mean() > 1.0


def test_a_blend_of_one_style_is_that_style(content, style, transfer):
    alone = transfer(content, [style])
    twice = transfer(content, [style, style], (0.3, 0.7))
    np.testing.assert_allclose(twice, alone, atol=0.05)
    other = transfer(content, [style, content], (0.5, 0.5))
    assert np.abs(other - alone).mean() > 1.0


def test_colors_are_moved_to_those_of_the_mixture(style, transfer, random, monkeypatch):
    # Means are linear: 0.7 of the way from the decoder's to 0.4 style + 0.6 content.
    content = random.normal([120, 90, 150], 12, (32, 40, 3)).astype(np.float32)
    style = random.normal([150, 140, 90], 12, (24, 48, 3)).astype(np.float32)
    found = transfer(content, [style], strength=0.4)
    monkeypatch.setattr(adain, "_COLOR_CORRECTION", 0.0)
    decoded = transfer(content, [style], strength=0.4)
    wanted = 0.4 * style.mean((0, 1)) + 0.6 * content.mean((0, 1))
    expected = 0.3 * decoded.mean((0, 1)) + 0.7 * wanted
    assert np.abs(decoded.mean((0, 1)) - wanted).max() > 2.0  # there was something to move
    np.testing.assert_allclose(found.mean((0, 1)), expected, atol=0.5)


def test_colors_that_do_not_count_are_not_matched(content, style, transfer, monkeypatch):
    matched = []

    def match(image, reference):
        matched.append(reference)
        return image

    monkeypatch.setattr(adain, "match_color_moments", match)
    transfer(content, [style, content], (1.0, 0.0))
    assert len(matched) == 1 and matched[0] is style


def test_takes_the_colors_of_the_style(transfer, random):
    content = np.full((40, 56, 3), 128, np.float32) + random.normal(0, 30, (40, 56, 3))
    content = np.clip(content, 0, 255).astype(np.float32)
    red = np.clip(random.normal([200, 40, 40], 20, (48, 40, 3)), 0, 255).astype(np.float32)
    image = transfer(content, [red])
    assert image[..., 0].mean() > image[..., 2].mean() + 50


@pytest.mark.parametrize("strength", [1.0, 2.0])
def test_what_a_mask_hides_of_a_style_does_not_count(transfer, content, random, strength):
    red, blue = random.uniform(0, 60, (2, 64, 48, 3)).astype(np.float32)
    red[:, :, 0] += 190
    blue[:, :, 2] += 190
    style = np.concatenate([red, blue], axis=1)
    mask = np.repeat(np.float32([1, 0]), 48)[np.newaxis] * np.ones((64, 1), np.float32)
    found = transfer(content, [style], strength=strength, style_masks=[mask])
    of_half, of_all = (transfer(content, [each], strength=strength) for each in (red, style))
    # Not equal: activations near the edge depend on both halves.
    assert np.abs(found - of_half).mean() < 0.3 * np.abs(found - of_all).mean()


def test_features_computed_elsewhere_give_the_same_image(transfer, style, weights, decoder, waves):
    content = np.tile(waves, (2, 1, 1))[:32, :24]
    other = waves[:18]
    network = vgg19_features(["block1_conv1", "block4_conv1"], weights, padding="reflect")

    def encoded(image):
        return network(image[np.newaxis])["block4_conv1"]

    expected = transfer(content, [style, other], (0.3, 0.7), 0.8)
    # Without an encoder: one would be built, and here there are no weights for it.
    found = AdaIN(decoder=decoder)(
        content,
        [style, other],
        (0.3, 0.7),
        0.8,
        content_features=encoded(content),
        style_moments=[adain.moments(encoded(image)) for image in (style, other)],
    )
    np.testing.assert_allclose(found, expected, atol=0.05)


def test_features_of_an_odd_size_give_nearly_the_same_image(transfer, style, weights):
    # Both sides are one more than whole strides.
    content = np.asarray(Image.open(PALACE).resize((201, 137)), np.float32)
    network = vgg19_features(["block4_conv1"], weights, padding="reflect")
    features = network(content[np.newaxis])["block4_conv1"]
    assert features.shape == (1, 17, 25, 512)
    found = transfer(content, [style], content_features=features)
    expected = transfer(content, [style])
    assert found.shape == content.shape
    assert np.abs(found - expected)[:-17, :-17].mean() < 0.1 * expected.std()


def test_the_default_is_the_packaged_network(transfer, content, style):
    np.testing.assert_allclose(AdaIN()(content, [style]), transfer(content, [style]), atol=0.05)


def test_bfloat16_gives_nearly_the_image_of_float32(transfer, content, style):
    low = AdaIN(dtype="bfloat16")(content, [style])
    assert low.dtype == np.float32
    assert np.abs(low - transfer(content, [style])).mean() < 3.0


def test_images_of_all_sizes_are_made_without_retracing(transfer, style, waves, caplog):
    for width in range(16, 26):
        assert transfer(waves[:, :width], [style]).shape == (19, width, 3)
    assert not caplog.records


def test_many_networks_one_after_the_other_bring_no_warning(decoder, caplog):
    content = np.zeros((8, 8, 3), np.float32)
    for _ in range(6):
        instance = AdaIN(lambda image: {adain.ENCODER_LAYER: tf.zeros([1, 1, 1, 512])}, decoder)
        assert instance(content, [content]).shape == content.shape
    assert not caplog.records  # TensorFlow's, of functions that are traced often


def test_is_freed_with_its_last_reference(content, style, decoder):
    instance = AdaIN(decoder=decoder)
    instance(content, [style])
    reference = weakref.ref(instance)
    gc.disable()
    try:
        del instance
        assert reference() is None  # no cycle that would wait for the garbage collector
    finally:
        gc.enable()

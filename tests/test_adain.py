"""The feed-forward start: its normalisation, its network, its picture."""

import numpy as np
import pytest
import tensorflow as tf

from nst_tf.models import adain
from nst_tf.models import weights as parameters


@pytest.fixture(scope="module")
def decoder():
    return parameters.adain_decoder()


def test_adapt_preset():
    # By hand: content 1, 3 has mean 2 and deviation 1; style 10, 30 has mean 20 and deviation 10.
    content = tf.constant([[[[1.0], [3.0]]]])
    style = tf.constant([[[[10.0]], [[30.0]]]])
    assert adain.adapt(content, style).numpy().ravel() == pytest.approx([10.0, 30.0], rel=1e-4)


def test_adapt_gives_the_styles_mean_and_deviation(random):
    content = random.normal(3, 2, (1, 5, 7, 4)).astype(np.float32)
    style = random.normal(-1, 5, (1, 6, 3, 4)).astype(np.float32)
    found = adain.adapt(tf.constant(content), tf.constant(style)).numpy()
    np.testing.assert_allclose(found.mean((1, 2)), style.mean((1, 2)), atol=1e-4)
    np.testing.assert_allclose(found.std((1, 2)), style.std((1, 2)), rtol=1e-4)


def test_adapt_to_itself_changes_nothing(random):
    content = tf.constant(random.normal(3, 2, (1, 5, 7, 4)), tf.float32)
    np.testing.assert_allclose(adain.adapt(content, content), content, atol=1e-5)


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
    found = adain._build_decoder(decoder, "float32")(maps[np.newaxis]).numpy()[0]
    assert found.shape == (24, 32, 3)
    np.testing.assert_allclose(found, x, atol=1e-3)


def paint(content, styles, weights, decoder, shares=(1.0,), strength=1.0):
    return adain.Painter(weights, decoder, "float32").paint(content, styles, shares, strength)


@pytest.fixture
def content(waves):
    return waves


@pytest.fixture
def style(random):
    coarse = random.uniform(0, 255, (8, 6, 3))
    return np.kron(coarse, np.ones((4, 4, 1))).astype(np.float32)


def test_keeps_odd_sizes_and_the_pixel_range(content, style, weights, decoder):
    painted = paint(content, [style], weights, decoder)
    assert painted.shape == content.shape == (19, 27, 3)
    assert painted.dtype == np.float32
    assert painted.min() >= 0.0
    assert painted.max() <= 255.0
    assert painted.std() > 5.0


def test_strength_goes_from_the_content_to_the_style(style, weights, decoder, random):
    content = np.kron(random.uniform(0, 255, (3, 4, 3)), np.ones((8, 8, 1))).astype(np.float32)
    none, half, whole = (
        paint(content, [style], weights, decoder, strength=s) for s in (0.0, 0.5, 1.0)
    )
    own = paint(content, [content], weights, decoder)
    np.testing.assert_allclose(none, own, atol=0.1)  # the content, as the decoder paints it
    assert np.abs(none - half).mean() < np.abs(none - whole).mean()


def test_a_blend_of_one_style_is_that_style(content, style, weights, decoder):
    alone = paint(content, [style], weights, decoder)
    twice = paint(content, [style, style], weights, decoder, shares=(0.3, 0.7))
    np.testing.assert_allclose(twice, alone, atol=0.05)
    other = paint(content, [style, content], weights, decoder, shares=(0.5, 0.5))
    assert np.abs(other - alone).mean() > 1.0


def test_colours_are_moved_to_those_of_the_mixture(style, weights, decoder, random, monkeypatch):
    # Means are linear: 0.7 of the way from the decoder's to 0.4 style + 0.6 content.
    content = random.normal([120, 90, 150], 12, (32, 40, 3)).astype(np.float32)
    style = random.normal([150, 140, 90], 12, (24, 48, 3)).astype(np.float32)
    found = paint(content, [style], weights, decoder, strength=0.4)
    monkeypatch.setattr(adain, "_RECOLOURED", 0.0)
    decoded = paint(content, [style], weights, decoder, strength=0.4)
    wanted = 0.4 * style.mean((0, 1)) + 0.6 * content.mean((0, 1))
    expected = 0.3 * decoded.mean((0, 1)) + 0.7 * wanted
    assert np.abs(decoded.mean((0, 1)) - wanted).max() > 2.0  # there was something to move
    np.testing.assert_allclose(found.mean((0, 1)), expected, atol=0.5)


def test_takes_the_colours_of_the_style(weights, decoder, random):
    content = np.full((40, 56, 3), 128, np.float32) + random.normal(0, 30, (40, 56, 3))
    content = np.clip(content, 0, 255).astype(np.float32)
    red = np.clip(random.normal([200, 40, 40], 20, (48, 40, 3)), 0, 255).astype(np.float32)
    painted = paint(content, [red], weights, decoder)
    assert painted[..., 0].mean() > painted[..., 2].mean() + 50

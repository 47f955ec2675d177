"""Color control: other libraries' formulas, naive twins, invariances, plain images."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.linalg import sqrtm
from skimage.color import rgb2ycbcr, rgb2yiq, yiq2rgb

from nst_tf.image import color

MODES = ["none", "luminance", "histogram", "match"]
CHANGING = MODES[1:]


@pytest.fixture
def content(random):
    """Correlated channels, far enough from black and white for nothing to be clipped: [30, 40]."""
    mixing = [[20, 0, 0], [12, 9, 0], [5, 6, 11]]
    image = [120, 110, 140] + random.uniform(-1, 1, (30, 40, 3)) @ np.transpose(mixing)
    return image.astype(np.float32)


@pytest.fixture
def style(random):
    """Another palette, of another size: [25, 35]."""
    mixing = [[50, 0, 0], [-20, 30, 0], [10, -15, 25]]
    image = [150, 90, 70] + random.uniform(-1, 1, (25, 35, 3)) @ np.transpose(mixing)
    return image.astype(np.float32)


def one_color(*rgb):
    return np.full((8, 9, 3), rgb, np.float32)


def grays(random, height=20, width=15):
    return np.repeat(random.uniform(0, 255, (height, width, 1)), 3, axis=2).astype(np.float32)


def is_gray(image, atol=0.0):
    return np.ptp(image, axis=2).max() <= atol


def luma(image):
    """The luminance in float64, [H, W], as scikit-image defines it."""
    return rgb2yiq(image.astype(np.float64))[:, :, 0]


def moments(image):
    pixels = image.reshape(-1, image.shape[-1]).astype(np.float64)
    return pixels.mean(axis=0), np.cov(pixels, rowvar=False, bias=True)


def prepared_style(mode, content, style):
    return color.prepare(mode, content, [style])[1][0]


# All modes


def test_none_leaves_every_array_as_it_is(content, style):
    found, (same,) = color.prepare("none", content, [style])
    assert found is content and same is style


@pytest.mark.parametrize("mode", ["histogram", "match"])
def test_color_transfer_to_the_styles_leaves_the_content_as_it_is(mode, content, style):
    assert color.prepare(mode, content, [style])[0] is content


@pytest.mark.parametrize("mode", CHANGING)
def test_every_style_is_prepared_by_itself_and_no_input_is_changed(mode, content, style, random):
    other = grays(random)
    before = [array.copy() for array in (content, style, other)]
    _, found = color.prepare(mode, content, [style, other])
    for image, original in zip(found, (style, other), strict=True):
        np.testing.assert_array_equal(image, prepared_style(mode, content, original))
        assert image.shape == original.shape
        assert image.dtype == np.float32
    for array, copy in zip((content, style, other), before, strict=True):
        np.testing.assert_array_equal(array, copy)


@pytest.mark.parametrize("mode", CHANGING)
def test_gray_images_stay_gray(mode, random):
    content, style = grays(random), grays(random, 11, 12)
    found, (prepared,) = color.prepare(mode, content, [style])
    assert is_gray(found)
    assert is_gray(prepared, atol=1e-3)


def test_a_gray_image_stays_gray_with_the_chroma_of_a_gray_content(random):
    assert is_gray(color.restore_chroma(grays(random), grays(random)), atol=1e-3)


@pytest.mark.parametrize("mode", ["luminance", "match"])
def test_a_gray_content_makes_the_style_gray(mode, random, style):
    assert not is_gray(style, atol=30)
    assert is_gray(prepared_style(mode, grays(random), style), atol=1e-3)


IMAGES = {
    "black": one_color(0, 0, 0),
    "white": one_color(255, 255, 255),
    "one color": one_color(255, 100.3, 0),
    "a pixel": np.array([[[10, 200, 30]]], np.float32),
    "two colors": np.tile(np.float32([[[255, 0, 0], [0, 0, 255]]]), (6, 5, 1)),
    "ramp": np.repeat(np.linspace(0, 255, 60, dtype=np.float32).reshape(6, 10, 1), 3, axis=2),
}


@pytest.mark.parametrize("mode", CHANGING)
@pytest.mark.parametrize("first", IMAGES)
@pytest.mark.parametrize("second", IMAGES)
def test_no_image_is_too_plain(mode, first, second):
    content, style = IMAGES[first], IMAGES[second]
    found, (prepared,) = color.prepare(mode, content, [style])
    stylized = np.full_like(content, 77.7)
    for image in (found, prepared, color.restore_chroma(stylized, content)):
        assert np.isfinite(image).all()
        assert image.min() >= 0
        assert image.max() <= 255


any_image = arrays(
    np.float32,
    st.tuples(*[st.integers(1, 5)] * 2, st.just(3)),
    elements=st.floats(0, 255, width=32),
)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(CHANGING), any_image, any_image, st.integers(0, 2**32 - 1))
def test_any_images_give_images(mode, content, style, seed):
    found, (prepared,) = color.prepare(mode, content, [style])
    stylized = np.random.default_rng(seed).uniform(0, 255, content.shape).astype(np.float32)
    restored = color.restore_chroma(color.to_luminance(stylized), content)
    for image, shape in ((found, content), (prepared, style), (restored, content)):
        assert image.shape == shape.shape
        assert image.dtype == np.float32
        assert np.isfinite(image).all() and image.min() >= 0 and image.max() <= 255


# luminance


def test_luminance_preset():
    # By hand: 0.299 * 100, 0.587 * 100, 0.114 * 100, and their sum.
    image = np.array([[[100, 0, 0], [0, 100, 0], [0, 0, 100], [100, 100, 100]]], np.float32)
    found = color.to_luminance(image)
    np.testing.assert_allclose(found[0, :, 0], [29.9, 58.7, 11.4, 100], rtol=1e-6)
    assert is_gray(found)


def test_luminance_is_that_of_scikit_image(style):
    np.testing.assert_allclose(color.to_luminance(style)[:, :, 1], luma(style), rtol=1e-6)


def test_luminance_of_the_content_is_what_is_worked_with(content, style):
    np.testing.assert_array_equal(
        color.prepare("luminance", content, [style])[0], color.to_luminance(content)
    )


def test_luminance_of_a_style_is_matched_by_the_equation_of_the_paper(content, style):
    Y_c, Y_s = luma(content), luma(style)
    expected = Y_c.std() / Y_s.std() * (Y_s - Y_s.mean()) + Y_c.mean()
    found = prepared_style("luminance", content, style)
    assert is_gray(found)
    np.testing.assert_allclose(found[:, :, 0], expected, rtol=1e-5)


def test_luminance_of_a_one_color_style_becomes_the_mean_of_the_contents(content):
    found = prepared_style("luminance", content, one_color(10, 200, 30))
    np.testing.assert_allclose(found, luma(content).mean(), rtol=1e-6)


def little_changed(content, random):
    """A luminance near that of the content, so that with its chroma it stays within RGB."""
    change = random.uniform(-40, 40, content.shape[:2])
    return np.repeat((luma(content) + change)[:, :, np.newaxis], 3, axis=2).astype(np.float32)


def test_restoring_swaps_the_luminance_in_yiq(content, random):
    stylized = little_changed(content, random)
    yiq = rgb2yiq(content.astype(np.float64))
    yiq[:, :, 0] = stylized[:, :, 0]
    expected = yiq2rgb(yiq)
    assert expected.min() > 0 and expected.max() < 255
    found = color.restore_chroma(stylized, content)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_restoring_keeps_the_chroma_of_ycbcr(content, random):
    found = color.restore_chroma(little_changed(content, random), content)
    chroma = [rgb2ycbcr(image / 255.0)[:, :, 1:] for image in (found, content)]
    np.testing.assert_allclose(*chroma, atol=1e-3)


def test_restoring_the_contents_own_luminance_gives_the_content(content):
    luminance = color.to_luminance(content)
    np.testing.assert_allclose(color.restore_chroma(luminance, content), content, atol=1e-4)


def test_restoring_on_a_gray_content_gives_the_luminance(random):
    stylized = grays(random)
    found = color.restore_chroma(stylized, grays(random))
    np.testing.assert_allclose(found, stylized, atol=1e-3)


def test_a_saved_image_has_the_luminance_that_was_optimized_whatever_the_colors(random):
    content, stylized = random.uniform(0, 255, (2, 60, 60, 3)).astype(np.float32)
    unbounded = stylized + content - luma(content)[:, :, np.newaxis]
    assert np.mean((unbounded < 0) | (unbounded > 255)) > 0.1  # clipping would not do it
    optimized = color.to_luminance(stylized)
    restored = color.restore_chroma(optimized, content)
    np.testing.assert_allclose(color.to_luminance(restored), optimized, atol=1e-3)
    rounded = color.to_luminance(np.rint(restored))
    assert np.abs(rounded - optimized).max() <= 0.5 + 1e-3


def test_a_color_that_rgb_cannot_hold_is_as_pale_as_it_must_be(random):
    content, stylized = random.uniform(1, 254, (2, 50, 50, 3)).astype(np.float32)
    found = color.restore_chroma(stylized, content)
    chroma, wanted = (p - luma(p)[:, :, np.newaxis] for p in (found, content))
    share = np.sum(chroma * wanted, axis=2) / np.sum(wanted**2, axis=2)
    np.testing.assert_allclose(chroma, share[:, :, np.newaxis] * wanted, atol=1e-2)  # same hue
    assert share.min() > 0 and share.max() < 1 + 1e-3
    margin = np.minimum(found, 255 - found).min(axis=2)
    assert margin[share < 0.999].max() < 1e-3
    assert 0.05 < np.mean(share < 0.999) < 0.95


def test_restoring_takes_what_lies_outside_the_bounds_as_black_and_white(content):
    for value, bound in ((-20, 0), (300, 255)):
        found = color.restore_chroma(np.full_like(content, value), content)
        np.testing.assert_array_equal(found, bound)


# histogram


def matched_by_sorting(style, content):
    """Gives the style's k-th smallest value the content's, channel by channel, in a loop."""
    times = content[:, :, 0].size // style[:, :, 0].size
    found = np.empty_like(style)
    for c in range(3):
        values = sorted(content[:, :, c].ravel())
        for rank, index in enumerate(np.argsort(style[:, :, c].ravel())):
            found[:, :, c].flat[index] = values[times * (rank + 1) - 1]
    return found


@pytest.mark.parametrize("times", [1, 3])
def test_histogram_equals_its_naive_twin(times, random):
    style = random.permutation(12 * 10 * 3).reshape(12, 10, 3).astype(np.float32) / 2
    content = random.uniform(0, 255, (12 * times, 10, 3)).astype(np.float32)
    found = prepared_style("histogram", content, style)
    np.testing.assert_allclose(found, matched_by_sorting(style, content), atol=1e-4)


def test_histogram_of_a_style_becomes_the_contents(random):
    content, style = random.uniform(0, 255, (2, 20, 30, 3)).astype(np.float32)
    found = prepared_style("histogram", content, style)
    np.testing.assert_allclose(
        np.sort(found.reshape(-1, 3), axis=0), np.sort(content.reshape(-1, 3), axis=0), atol=1e-4
    )


def test_histogram_keeps_the_order_of_values(content, style):
    found = prepared_style("histogram", content, style)
    for c in range(3):
        in_order = found[:, :, c].ravel()[np.argsort(style[:, :, c].ravel())]
        assert (np.diff(in_order) >= 0).all()


# match


def test_match_gives_a_style_the_contents_mean_and_covariance(content, style):
    found = prepared_style("match", content, style)
    assert found.min() > 0 and found.max() < 255  # nothing was clipped
    mean, covariance = moments(found)
    wanted_mean, wanted_covariance = moments(content)
    np.testing.assert_allclose(mean, wanted_mean, rtol=1e-6)
    np.testing.assert_allclose(covariance, wanted_covariance, rtol=1e-4, atol=1e-3)


def test_match_is_the_map_of_image_analogies(content, style):
    # Its roots by Schur's method; and Cholesky's map, which has the same moments, is another.
    (m_c, C), (m_s, S) = moments(content), moments(style)
    A = sqrtm(C) @ np.linalg.inv(sqrtm(S))
    triangular = np.linalg.cholesky(C) @ np.linalg.inv(np.linalg.cholesky(S))
    found = prepared_style("match", content, style)
    np.testing.assert_allclose(found, (style - m_s) @ A.T + m_c, atol=1e-3)
    assert np.abs(found - ((style - m_s) @ triangular.T + m_c)).max() > 1


def test_match_does_not_depend_on_the_order_of_channels(content, style):
    found = prepared_style("match", content[:, :, [2, 0, 1]], style[:, :, [2, 0, 1]])
    expected = prepared_style("match", content, style)[:, :, [2, 0, 1]]
    np.testing.assert_allclose(found, expected, atol=1e-3)


@pytest.mark.parametrize("mode", ["histogram", "match"])
def test_a_style_that_is_the_content_is_unchanged(mode, content, waves):
    for image in (content, waves):
        np.testing.assert_allclose(prepared_style(mode, image, image), image, atol=1e-3)


def test_match_of_a_one_color_style_is_the_contents_mean(content):
    found = prepared_style("match", content, one_color(10, 200, 30))
    np.testing.assert_allclose(found, np.broadcast_to(moments(content)[0], found.shape), rtol=1e-6)


def test_match_of_a_gray_style_has_the_contents_mean(content, random):
    mean, _ = moments(prepared_style("match", content, grays(random)))
    np.testing.assert_allclose(mean, moments(content)[0], rtol=1e-4)


def test_match_does_not_make_colors_of_what_is_less_than_rounding(content, random):
    noise = random.normal(0, 1e-3, (20, 30, 3))
    found = prepared_style("match", content, (128 + noise).astype(np.float32))
    assert found.std(axis=(0, 1)).max() < 0.01 * content.std(axis=(0, 1)).max()

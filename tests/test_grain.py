"""The grain loss: against a naive twin, numerical gradients, invariances, and what it is for."""

import numpy as np
import pytest
import tensorflow as tf

from nst_tf.errors import InputError
from nst_tf.losses import grain_loss, jet_statistics, jets
from nst_tf.losses.grain import _positive_part
from tests.numerical_gradient import gradient_error

NAMES = ("moments", "magnitudes")


@pytest.fixture
def images(random):
    """Two noisy images of one odd size and a smooth one."""
    noisy = random.uniform(0, 255, (2, 9, 13, 3))
    y, x = np.meshgrid(np.arange(9), np.arange(13), indexing="ij")
    smooth = np.stack([100 + 3.0 * x, 120 + 2.0 * y, 90 + x + y], axis=-1)
    return np.concatenate([noisy, smooth[np.newaxis]])


def naive_differences(image):
    """The 15 differences of [H, W, 3] in float64, with the border repeated: [H, W, 15]."""
    r, g, b = np.moveaxis(np.pad(image, ((1, 1), (1, 1), (0, 0)), mode="edge"), -1, 0)
    luminance = 0.299 * r + 0.587 * g + 0.114 * b
    channels = [luminance, 4 * 0.564334 * (b - luminance), 4 * 0.713267 * (r - luminance)]
    found = []
    for c in channels:
        middle, left, right = c[1:-1, 1:-1], c[1:-1, :-2], c[1:-1, 2:]
        up, down = c[:-2, 1:-1], c[2:, 1:-1]
        corners = c[:-2, :-2] + c[:-2, 2:] + c[2:, :-2] + c[2:, 2:]
        found += [right - middle, down - middle, (left + right) / 2 - middle]
        found += [(up + down) / 2 - middle]
        found += [corners / 4 - (left + right + up + down) / 2 + middle]
    return np.stack(found, axis=-1)


def naive_half(image):
    padded = np.pad(image, ((1, 1), (1, 1), (0, 0)), mode="edge")
    rows = padded[:-2] + 2 * padded[1:-1] + padded[2:]
    both = rows[:, :-2] + 2 * rows[:, 1:-1] + rows[:, 2:]
    return both[::2, ::2] / 16


def naive_statistics(image, mask=None):
    mask = np.ones((*image.shape[:2], 1)) if mask is None else mask
    found = []
    for _ in range(2):
        d = naive_differences(image)
        weight = mask**2 / np.sum(mask**2)
        moments = np.einsum("hwi,hwj->ij", weight * d, d)
        magnitudes = np.sum(weight * (np.sqrt(d**2 + 0.25) - 0.5), axis=(0, 1))
        found.append((moments, magnitudes))
        image, mask = naive_half(image), naive_half(mask)
    return found


def grain_statistics(image, mask=None):
    """The statistics at both sizes."""
    found = jets(image)
    masks = [None, None]
    if mask is not None:
        masks = [mask, np.stack([naive_half(each) for each in mask])]
    return [jet_statistics(*each) for each in zip(found, masks, strict=True)]


def distance(statistics, target):
    """The loss at both sizes."""
    return tf.add_n([grain_loss(*each) for each in zip(statistics, target, strict=True)])


def loss(image, target):
    return distance(grain_statistics(image), grain_statistics(target))


@pytest.mark.parametrize("masked", [False, True])
def test_statistics_equal_their_naive_twin(images, random, masked):
    mask = random.uniform(0, 1, (1, 9, 13, 1)) if masked else None
    scales = grain_statistics(images, mask)
    assert len(scales) == 2
    for number, image in enumerate(images):
        expected = naive_statistics(image, None if mask is None else mask[0])
        for scale, twin in zip(scales, expected, strict=True):
            for name, value in zip(NAMES, twin, strict=True):
                found = getattr(scale, name).numpy()[number]
                np.testing.assert_allclose(found, value, atol=1e-5 * np.abs(value).max())


def test_the_loss_is_the_distance_to_the_nearest_matrix_that_the_target_exceeds(images):
    # Any matrix that A exceeds is A minus a positive one: none is nearer than the loss says.
    (M, _), _ = naive_statistics(images[0])
    (A, _), _ = naive_statistics(0.5 * images[1] + 0.5 * images[2])
    values, vectors = np.linalg.eigh(M - A)
    nearest = A + (vectors * np.minimum(values, 0)) @ vectors.T
    assert np.linalg.eigvalsh(A - nearest).min() > -1e-6 * np.abs(values).max()
    found = float(_positive_part(tf.constant(M - A)[np.newaxis])[0])
    assert found == pytest.approx(np.sum((M - nearest) ** 2), rel=1e-9)


def test_is_0_for_the_style_itself_and_for_what_has_less(images):
    noisy = images[:1]
    assert loss(noisy, noisy).numpy() == pytest.approx([0.0], abs=1e-12)
    softer = 128 + 0.9 * (noisy - 128)
    assert loss(softer, noisy).numpy() == pytest.approx([0.0], abs=1e-12)
    assert loss(noisy, softer).numpy()[0] > 1e-3


def test_noise_in_one_direction_or_color_alone_is_seen(images, random):
    base = images[2:]
    textured = base + random.normal(0, 8, (1, 9, 13, 1))  # the same in all channels: luminance
    across = base + random.normal(0, 8, (1, 1, 13, 1))
    chroma = textured + random.normal(0, 3, (1, 9, 13, 1)) * [1.0, -0.509, 0.0]
    assert loss(textured, textured).numpy()[0] < 1e-9
    assert loss(chroma, textured).numpy()[0] > 1e-3
    assert loss(across, base + random.normal(0, 8, (1, 9, 1, 1))).numpy()[0] > 0.1


def test_magnitudes_tell_few_sharp_lines_from_noise_of_the_same_energy(random):
    lines = np.full((1, 40, 60, 3), 120.0)
    lines[:, :, ::20] = 220.0
    noise = random.normal(0, 1, (1, 40, 60, 1)) * np.ones(3)

    def across(image):
        moments, magnitudes = grain_statistics(image)[0]
        return float(moments[0, 0, 0]), float(magnitudes[0, 0])

    noise *= np.sqrt(across(lines)[0] / across(noise)[0])
    assert across(noise)[0] == pytest.approx(across(lines)[0])
    assert across(noise)[1] > 2 * across(lines)[1]


def test_half_size_sees_the_lattice_of_four_pixels_and_not_that_of_two():
    y, x = np.meshgrid(np.arange(32), np.arange(48), indexing="ij")

    def half(period):
        wave = np.sin(2 * np.pi * x / period + 0.4) * np.sin(2 * np.pi * y / period + 0.4)
        image = np.repeat(120 + 20 * wave[np.newaxis, ..., np.newaxis], 3, axis=-1)
        return grain_statistics(image)[1].moments.numpy()[0, 4, 4]  # twice across and down

    assert half(4) > 4.0
    assert half(2) < 0.1


def test_statistics_are_means_over_positions(images):
    # With a constant border, a mask of one part and of the other give the whole.
    mask = np.zeros((1, 9, 13, 1))
    mask[:, :, :5] = 1.0
    whole = grain_statistics(images)[0]
    parts = [grain_statistics(images, part)[0] for part in (mask, 1.0 - mask)]
    for name in NAMES:
        blended = (5 * getattr(parts[0], name) + 8 * getattr(parts[1], name)) / 13
        np.testing.assert_allclose(blended, getattr(whole, name), rtol=1e-9, atol=1e-9)


def test_gradient_equals_the_numerical_one(images):
    x = tf.constant(images[:1])
    target = grain_statistics(0.6 * images[2:] + 0.4 * images[1:2])
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = tf.reduce_sum(distance(grain_statistics(x), target))
    assert float(value) > 0.1
    gradient = tape.gradient(value, x).numpy()

    def function(image):
        return tf.reduce_sum(distance(grain_statistics(image), target))

    assert gradient_error(function, gradient, images[:1], step=1e-4) < 1e-5


def test_the_gradient_is_finite_for_gray_and_for_flat_images(images):
    gray = np.repeat(images[:1, :, :, :1], 3, axis=-1).astype(np.float32)
    flat = np.full((1, 9, 13, 3), 77, np.float32)
    for image in (gray, flat):
        for style in (gray, flat):
            x = tf.constant(image)
            with tf.GradientTape() as tape:
                tape.watch(x)
                value = loss(x, style)
            gradient = tape.gradient(value, x)
            assert np.isfinite(value.numpy()).all()
            assert gradient is None or np.isfinite(gradient.numpy()).all()


def test_what_is_not_finite_is_not_hidden(images):
    broken = images[:1].copy()
    broken[0, 3, 4, 1] = np.inf
    assert not np.isfinite(loss(broken, images[1:2]).numpy()).any()


def test_images_of_any_size_have_grain():
    for shape in ((1, 1), (1, 5), (4, 1), (2, 3)):
        image = np.arange(np.prod(shape) * 3, dtype=np.float32).reshape(1, *shape, 3)
        for scale in grain_statistics(image):
            assert np.isfinite(scale.moments.numpy()).all()
            assert np.isfinite(scale.magnitudes.numpy()).all()


def test_others_are_refused(images):
    with pytest.raises(InputError, match=r"image has a wrong shape: it is \(1, 4, 4, 1\)"):
        grain_statistics(np.zeros((1, 4, 4, 1), np.float32))
    with pytest.raises(InputError, match="grain and target cannot be compared"):
        loss(images, images.astype(np.float32))

"""The formulas: preset values, naive float64 twins, numerical gradients, invariances."""

import numpy as np
import pytest
import tensorflow as tf

from nst_tf import losses
from tests.numerical_gradient import gradient_error


def gram_by_loops(F):
    """Equation 3 of Gatys et al. (2016), one entry at a time in float64, over H W."""
    _, height, width, channels = F.shape
    F = F.astype(np.float64)
    G = np.zeros((channels, channels))
    for i in range(channels):
        for j in range(channels):
            for y in range(height):
                for x in range(width):
                    G[i, j] += F[0, y, x, i] * F[0, y, x, j]
    return G / (height * width)


def test_content_loss_preset():
    # By hand: differences 1, 2, 3, 0, 0, 0 give (1 + 4 + 9) / 6.
    F = np.array([[[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]]], np.float32)
    P = np.array([[[[0.0, 0.0], [0.0, 4.0], [5.0, 6.0]]]], np.float32)
    assert losses.content_loss(F, P).numpy() == pytest.approx(14 / 6, rel=1e-6)


def test_content_loss_is_a_mean_so_that_its_weight_does_not_depend_on_size(random):
    F, P = random.normal(size=(2, 1, 3, 5, 4)).astype(np.float32)
    tiled = [np.tile(x, (1, 2, 3, 1)) for x in (F, P)]
    assert losses.content_loss(*tiled).numpy() == pytest.approx(
        losses.content_loss(F, P).numpy(), rel=1e-6
    )


def test_gram_matrix_preset():
    # By hand: positions (1, 2) and (3, 4); F^T F = [[10, 14], [14, 20]]; over 2 positions.
    F = np.array([[[[1.0, 2.0], [3.0, 4.0]]]], np.float32)
    np.testing.assert_allclose(losses.gram_matrix(F), [[5.0, 7.0], [7.0, 10.0]], rtol=1e-6)


def test_gram_matrix_equals_its_naive_twin(random):
    F = random.normal(size=(1, 5, 7, 4)).astype(np.float32)
    np.testing.assert_allclose(losses.gram_matrix(F), gram_by_loops(F), rtol=1e-5, atol=1e-6)


def test_gram_matrix_forgets_where_things_are(random):
    F = random.normal(size=(1, 4, 6, 3)).astype(np.float32)
    shuffled = random.permutation(F.reshape(24, 3)).reshape(1, 3, 8, 3)
    np.testing.assert_allclose(
        losses.gram_matrix(F), losses.gram_matrix(shuffled), rtol=1e-5, atol=1e-6
    )


def test_gram_matrix_is_float32_whatever_the_activations_are(random):
    F = tf.constant(random.normal(300, 1, size=(1, 40, 60, 2)), tf.bfloat16)
    G = losses.gram_matrix(F)
    assert G.dtype == tf.float32
    np.testing.assert_allclose(G, gram_by_loops(F.numpy().astype(np.float32)), rtol=1e-5)


def test_style_loss_preset():
    # By hand: one entry of four differs by 4: 16 / 4 entries / 2^2 channels.
    G = np.array([[5.0, 7.0], [7.0, 10.0]], np.float32)
    A = np.array([[5.0, 7.0], [7.0, 6.0]], np.float32)
    assert losses.style_loss(G, A).numpy() == pytest.approx(1.0, rel=1e-6)


def test_style_loss_is_equation_4_of_the_paper_times_4_over_n_squared(random):
    F, S = random.normal(size=(2, 1, 5, 6, 4)).astype(np.float32)
    N, M = 4, 30
    unnormalised = [M * gram_by_loops(x) for x in (F, S)]
    equation_4 = np.sum((unnormalised[0] - unnormalised[1]) ** 2) / (4 * N**2 * M**2)
    found = losses.style_loss(losses.gram_matrix(F), losses.gram_matrix(S)).numpy()
    assert found == pytest.approx(4 / N**2 * equation_4, rel=1e-4)


def test_total_variation_loss_preset_on_a_ramp():
    # By hand: slopes of 3 across and 2 down in every channel give 9 + 4, at any size.
    for height, width in ((2, 5), (7, 3)):
        y, x = np.mgrid[:height, :width]
        ramp = np.repeat((3.0 * x + 2.0 * y)[None, :, :, None], 3, axis=3).astype(np.float32)
        assert losses.total_variation_loss(tf.constant(ramp)).numpy() == pytest.approx(13.0)


def test_total_variation_loss_with_exponent_1_preset_on_a_ramp():
    y, x = np.mgrid[:5, :4]
    ramp = np.repeat((3.0 * x - 2.0 * y)[None, :, :, None], 3, axis=3).astype(np.float32)
    assert losses.total_variation_loss(tf.constant(ramp), 1).numpy() == pytest.approx(5.0)


@pytest.mark.parametrize("exponent", [1, 2])
def test_total_variation_loss_equals_its_naive_twin(random, exponent):
    picture = random.uniform(0, 255, (1, 4, 6, 3)).astype(np.float32)
    across = [
        abs(float(picture[0, y, x + 1, c]) - float(picture[0, y, x, c])) ** exponent
        for y in range(4)
        for x in range(5)
        for c in range(3)
    ]
    down = [
        abs(float(picture[0, y + 1, x, c]) - float(picture[0, y, x, c])) ** exponent
        for y in range(3)
        for x in range(6)
        for c in range(3)
    ]
    expected = np.mean(across) + np.mean(down)
    found = losses.total_variation_loss(picture, exponent).numpy()
    assert found == pytest.approx(expected, rel=1e-5)


def _content(x):
    return losses.content_loss(x, tf.ones_like(x))


def _style(x):
    return losses.style_loss(losses.gram_matrix(x), tf.eye(3))


FORMULAS = [_content, _style, losses.total_variation_loss]


@pytest.mark.parametrize("formula", FORMULAS)
@pytest.mark.parametrize("sign", [1, -1])
def test_gradients_are_the_numerical_ones_and_a_flipped_sign_is_noticed(formula, sign, random):
    x = random.normal(0.5, 1, (1, 5, 7, 3)).astype(np.float32)
    with tf.GradientTape() as tape:
        variable = tf.constant(x)
        tape.watch(variable)
        loss = formula(variable)
    gradient = sign * tape.gradient(loss, variable)
    error = gradient_error(formula, gradient, x, step=0.01)
    assert (error < 2e-3) == (sign == 1), error


def test_the_gradient_with_exponent_1_counts_how_many_neighbours_are_lower_and_higher(random):
    x = random.permutation(5 * 4 * 3).reshape(1, 5, 4, 3).astype(np.float32)  # no two are equal
    with tf.GradientTape() as tape:
        variable = tf.constant(x)
        tape.watch(variable)
        loss = losses.total_variation_loss(variable, 1)
    expected = np.zeros_like(x)
    for axis in (1, 2):
        signs = np.sign(np.diff(x, axis=axis))
        below = [(0, 0)] * 4
        above = [(0, 0)] * 4
        below[axis], above[axis] = (1, 0), (0, 1)
        expected += (np.pad(signs, below) - np.pad(signs, above)) / signs.size
    np.testing.assert_allclose(tape.gradient(loss, variable), expected, atol=1e-6)

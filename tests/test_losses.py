"""The formulas: preset values, naive float64 twins, numerical gradients, invariances, refusals."""

import numpy as np
import pytest
import tensorflow as tf

from nst_tf import losses
from nst_tf.errors import InputError
from tests.numerical_gradient import gradient_error


def gram_by_loops(F):
    """Equation 3 of Gatys et al. (2016), one entry at a time in float64, over H W."""
    batch, height, width, channels = F.shape
    F = F.astype(np.float64)
    G = np.zeros((batch, channels, channels))
    for b, y, x in np.ndindex(batch, height, width):
        for i in range(channels):
            for j in range(channels):
                G[b, i, j] += F[b, y, x, i] * F[b, y, x, j]
    return G / (height * width)


def test_content_loss_preset():
    # By hand: differences 1, 2, 3, 0, 0, 0 give (1 + 4 + 9) / 6.
    F = np.array([[[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]]], np.float32)
    P = np.array([[[[0.0, 0.0], [0.0, 4.0], [5.0, 6.0]]]], np.float32)
    assert losses.content_loss(F, P).numpy() == pytest.approx([14 / 6], rel=1e-6)


def test_content_loss_is_a_mean_so_that_its_weight_does_not_depend_on_size(random):
    F, P = random.normal(size=(2, 1, 3, 5, 4)).astype(np.float32)
    tiled = [np.tile(x, (1, 2, 3, 1)) for x in (F, P)]
    assert losses.content_loss(*tiled).numpy() == pytest.approx(
        losses.content_loss(F, P).numpy(), rel=1e-6
    )


def test_gram_matrix_preset():
    # By hand: positions (1, 2) and (3, 4); F^T F = [[10, 14], [14, 20]]; over 2 positions.
    F = np.array([[[[1.0, 2.0], [3.0, 4.0]]]], np.float32)
    np.testing.assert_allclose(losses.gram_matrix(F), [[[5.0, 7.0], [7.0, 10.0]]], rtol=1e-6)


def test_gram_matrix_equals_its_naive_twin(random):
    F = random.normal(size=(2, 5, 7, 4)).astype(np.float32)
    np.testing.assert_allclose(losses.gram_matrix(F), gram_by_loops(F), rtol=1e-5, atol=1e-6)


def test_gram_matrix_forgets_where_things_are(random):
    F = random.normal(size=(1, 4, 6, 3)).astype(np.float32)
    shuffled = random.permutation(F.reshape(24, 3)).reshape(1, 3, 8, 3)
    np.testing.assert_allclose(
        losses.gram_matrix(F), losses.gram_matrix(shuffled), rtol=1e-5, atol=1e-6
    )


def masked_gram_by_loops(F, T):
    """Equation 6 of Gatys et al. (2017), in float64, over the sum of squares of the mask."""
    F, T = F.astype(np.float64), T.astype(np.float64)
    return np.stack(
        [
            sum(T[b, y, x, 0] ** 2 * np.outer(F[b, y, x], F[b, y, x]) for y, x in np.ndindex(4, 5))
            / np.sum(T[b] ** 2)
            for b in range(len(F))
        ]
    )


def test_gram_matrix_with_a_mask_equals_its_naive_twin(random):
    F = random.normal(size=(2, 4, 5, 3)).astype(np.float32)
    T = random.uniform(size=(2, 4, 5, 1)).astype(np.float32)
    np.testing.assert_allclose(losses.gram_matrix(F, T), masked_gram_by_loops(F, T), rtol=1e-5)
    shared = np.broadcast_to(T[:1], T.shape)
    np.testing.assert_allclose(
        losses.gram_matrix(F, T[:1]), masked_gram_by_loops(F, shared), rtol=1e-5
    )


def test_gram_matrix_with_a_mask_of_ones_is_that_without(random):
    F = random.normal(size=(2, 4, 5, 3)).astype(np.float32)
    masked = losses.gram_matrix(F, np.ones((1, 4, 5, 1), np.float32))
    np.testing.assert_allclose(masked, losses.gram_matrix(F), rtol=1e-6)


@pytest.mark.parametrize("dtype", [tf.bfloat16, tf.float16])
def test_gram_matrix_of_short_floats_is_computed_in_float32(random, dtype):
    F = tf.constant(random.normal(300, 1, size=(1, 40, 60, 2)), dtype)
    G = losses.gram_matrix(F)
    assert G.dtype == tf.float32
    np.testing.assert_allclose(G, gram_by_loops(F.numpy().astype(np.float32)), rtol=1e-5)


def test_gram_loss_preset():
    # By hand: one entry of four differs by 4: 16 / 4 entries / 2^2 channels.
    G = np.array([[[5.0, 7.0], [7.0, 10.0]]], np.float32)
    A = np.array([[[5.0, 7.0], [7.0, 6.0]]], np.float32)
    assert losses.gram_loss(G, A).numpy() == pytest.approx([1.0], rel=1e-6)


def test_gram_loss_is_equation_4_of_the_paper_times_4_over_n_squared(random):
    F, S = random.normal(size=(2, 1, 5, 6, 4)).astype(np.float32)
    N, M = 4, 30
    unnormalised = [M * gram_by_loops(x) for x in (F, S)]
    equation_4 = np.sum((unnormalised[0] - unnormalised[1]) ** 2) / (4 * N**2 * M**2)
    found = losses.gram_loss(losses.gram_matrix(F), losses.gram_matrix(S)).numpy()
    assert found == pytest.approx([4 / N**2 * equation_4], rel=1e-4)


def test_total_variation_loss_preset_on_a_ramp():
    # By hand: slopes of 3 across and 2 down in every channel give 9 + 4, at any size.
    for height, width in ((2, 5), (7, 3)):
        y, x = np.mgrid[:height, :width]
        ramp = np.repeat((3.0 * x + 2.0 * y)[None, :, :, None], 3, axis=3).astype(np.float32)
        assert losses.total_variation_loss(tf.constant(ramp)).numpy() == pytest.approx([13.0])


def test_total_variation_loss_with_exponent_1_preset_on_a_ramp():
    y, x = np.mgrid[:5, :4]
    ramp = np.repeat((3.0 * x - 2.0 * y)[None, :, :, None], 3, axis=3).astype(np.float32)
    assert losses.total_variation_loss(tf.constant(ramp), 1).numpy() == pytest.approx([5.0])


@pytest.mark.parametrize("exponent", [1, 2])
def test_total_variation_loss_equals_its_naive_twin(random, exponent):
    image = random.uniform(0, 255, (2, 4, 6, 3)).astype(np.float32)
    expected = []
    for x in image.astype(np.float64):
        horizontal = [
            abs(x[i, j + 1, c] - x[i, j, c]) ** exponent for i, j, c in np.ndindex(4, 5, 3)
        ]
        vertical = [abs(x[i + 1, j, c] - x[i, j, c]) ** exponent for i, j, c in np.ndindex(3, 6, 3)]
        expected.append(np.mean(horizontal) + np.mean(vertical))
    found = losses.total_variation_loss(image, exponent).numpy()
    assert found == pytest.approx(expected, rel=1e-5)


def _content(x):
    return losses.content_loss(x, tf.ones_like(x))


def _style(x):
    return losses.gram_loss(losses.gram_matrix(x), tf.eye(3, batch_shape=[1], dtype=x.dtype))


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
    error = gradient_error(lambda x: formula(tf.constant(x))[0], gradient, x, step=0.01)
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


@pytest.mark.parametrize("formula", FORMULAS)
def test_float64_stays_float64_and_is_computed_in_it(formula, random):
    x = random.normal(0.5, 1, (2, 5, 7, 3))
    found = formula(tf.constant(x))
    assert found.dtype == tf.float64
    with tf.GradientTape() as tape:
        variable = tf.Variable(x[:1])
        loss = formula(variable)
    error = gradient_error(
        lambda x: formula(tf.constant(x))[0], tape.gradient(loss, variable), x[:1], step=1e-4
    )
    assert error < 1e-7  # float32 would leave 1e-3


@pytest.mark.parametrize("formula", FORMULAS)
def test_each_image_of_a_batch_has_the_loss_it_has_alone(formula, random):
    x = tf.constant(random.normal(0.5, 1, (3, 5, 7, 3)), tf.float32)
    batch = formula(x).numpy()
    alone = [formula(x[i : i + 1]).numpy()[0] for i in range(3)]
    assert batch.shape == (3,)
    np.testing.assert_allclose(batch, alone, rtol=1e-6)
    assert len(set(alone)) == 3


@pytest.mark.parametrize("formula", FORMULAS)
def test_one_graph_serves_all_sizes(formula, random):
    specification = tf.TensorSpec([None, None, None, 3], tf.float32)
    traced = tf.function(formula, autograph=False).get_concrete_function(specification)
    for shape in ((1, 5, 7, 3), (2, 4, 3, 3)):
        x = tf.constant(random.normal(0.5, 1, shape), tf.float32)
        np.testing.assert_allclose(traced(x), formula(x), rtol=1e-6)


def test_one_target_serves_a_batch(random):
    F = random.normal(size=(3, 4, 5, 2)).astype(np.float32)
    target = F[1:2]
    for loss in (
        losses.content_loss,
        lambda a, b: losses.gram_loss(*map(losses.gram_matrix, (a, b))),
    ):
        found = loss(F, target).numpy()
        assert found[1] == pytest.approx(0, abs=1e-12)
        assert (found[[0, 2]] > 0.01).all()


def test_gram_is_a_style_loss_of_the_table(random):
    gram = losses.STYLE_LOSSES["gram"]
    assert gram is losses.GRAM
    assert gram.additive
    F = tf.constant(random.normal(size=(2, 4, 5, 3)), tf.float32)
    statistics = gram.statistics(F, None)
    np.testing.assert_array_equal(statistics, losses.gram_matrix(F))
    np.testing.assert_array_equal(
        gram.distance(statistics, statistics[:1]), losses.gram_loss(statistics, statistics[:1])
    )
    # Additive: that of both halves, which are equally large, is the mean of theirs.
    halves = [gram.statistics(part, None) for part in tf.split(F, 2, axis=1)]
    np.testing.assert_allclose(tf.add_n(halves) / 2, statistics, rtol=1e-5)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: losses.gram_matrix(np.zeros((4, 5, 3), np.float32)),
         "features has a wrong shape: it is (4, 5, 3), expected is (any, any, any, any); "),
        (lambda: losses.gram_matrix(np.zeros((1, 4, 5, 3), np.uint8)),
         "features has a wrong type: it is uint8, allowed are float32, float64, bfloat16 and "
         "float16; cast it to float32"),
        (lambda: losses.gram_matrix(np.zeros((1, 4, 5, 3)), np.zeros((1, 4, 6, 1))),
         "mask has a wrong shape: it is (1, 4, 6, 1), expected is (any, 4, 5, 1); "),
        (lambda: losses.content_loss(np.zeros((1, 4, 5, 3)), np.zeros((1, 4, 6, 3))),
         "features and target cannot be compared: they are float64 (1, 4, 5, 3) and "
         "float64 (1, 4, 6, 3); "),
        (lambda: losses.content_loss(np.zeros((1, 4, 5, 3)), np.zeros((1, 4, 5, 3), np.float32)),
         "they are float64 (1, 4, 5, 3) and float32 (1, 4, 5, 3); give both in one type"),
        (lambda: losses.content_loss(np.zeros((2, 4, 5, 3)), np.zeros((3, 4, 5, 3))),
         "they are float64 (2, 4, 5, 3) and float64 (3, 4, 5, 3)"),
        (lambda: losses.gram_loss(np.zeros((3, 3)), np.zeros((3, 3))),
         "gram has a wrong shape: it is (3, 3), expected is (any, any, any); "),
        (lambda: losses.total_variation_loss(np.zeros((1, 1, 5, 3))),
         "image has a wrong shape: it is (1, 1, 5, 3); give sides of at least 2"),
        (lambda: losses.total_variation_loss(np.zeros((1, 4, 5, 3)), 3),
         "exponent has a wrong value: it is 3; use 1 or 2"),
    ],
)  # fmt: skip
def test_wrong_arguments_are_refused_in_one_line(call, text):
    with pytest.raises(InputError) as caught:
        call()
    assert text in str(caught.value)
    assert isinstance(caught.value, ValueError)

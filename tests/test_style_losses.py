"""Style losses by name: naive float64 twins, numerical gradients, masks, invariances, refusals."""

import numpy as np
import pytest
import scipy.linalg
import tensorflow as tf

from nst_tf import losses
from nst_tf.errors import InputError
from nst_tf.losses import nearest, sliced
from tests.numerical_gradient import gradient_error


def weighted(F, mask):
    """Positions [M, C] in float64 with weights [M] that sum to 1: the squares of the mask."""
    T = np.ones(F.shape[:2]) if mask is None else mask[..., 0].astype(np.float64)
    return F.reshape(-1, F.shape[-1]).astype(np.float64), T.ravel() ** 2 / np.sum(T**2)


def moments_twin(F, S, F_mask=None, S_mask=None):
    """The formula as it is written, with matrix square roots of scipy."""
    (x, v), (y, w) = weighted(F, F_mask), weighted(S, S_mask)
    C = x.shape[1]
    ridge = 1e-3 * np.mean(w @ y**2) * np.eye(C)
    covariances = [
        sum(a * np.outer(row - a_mean, row - a_mean) for row, a in zip(z, weights, strict=True))
        + ridge
        for z, weights, a_mean in ((x, v, v @ x), (y, w, w @ y))
    ]
    root = scipy.linalg.sqrtm(covariances[1]).real
    cross = scipy.linalg.sqrtm(root @ covariances[0] @ root).real
    distance = np.sum((v @ x - w @ y) ** 2) + np.trace(sum(covariances) - 2 * cross)
    return 2.5 * distance / C**3


def quantile_means(values, weights):
    """Means of a weighted quantile function over 256 intervals, by sorting and integrating."""
    order = np.argsort(values)
    masses = np.concatenate([[0], np.cumsum(weights[order])])
    integral = np.concatenate([[0], np.cumsum((weights * values)[order])])
    return np.diff(np.interp(np.linspace(0, 1, 257), masses, integral)) * 256


def sliced_wasserstein_twin(F, S, F_mask=None, S_mask=None):
    """Equal ranks compared in each direction."""
    (x, v), (y, w) = weighted(F, F_mask), weighted(S, S_mask)
    directions = sliced._directions(x.shape[1])
    differences = [quantile_means(x @ d, v) - quantile_means(y @ d, w) for d in directions]
    return 3.9 * np.mean(np.square(differences)) / len(directions) ** 2


def nearest_neighbors_twin(F, S, F_mask=None, S_mask=None):
    """Every position compared with every other."""
    (x, v), (y, w) = weighted(F, F_mask), weighted(S, S_mask)
    center = w @ y
    total = 0
    for row, weight in zip(x - center, v, strict=True):
        cosines = [
            row @ other / np.linalg.norm(row) / np.linalg.norm(other)
            for other in (y - center)[w > 0]
        ]
        total += weight * (1 - max(cosines))
    return 11 * total / x.shape[1] ** 2


TWINS = {
    "moments": moments_twin,
    "sliced_wasserstein": sliced_wasserstein_twin,
    "nearest_neighbors": nearest_neighbors_twin,
}
# Values of a distribution in 1024 bins, of which the twin knows nothing.
ERRORS = {"moments": 1e-4, "sliced_wasserstein": 2e-3, "nearest_neighbors": 1e-5}

by_name = pytest.mark.parametrize("name", TWINS)


def distance(name, F, S, F_mask=None, S_mask=None):
    loss = losses.STYLE_LOSSES[name]
    statistics = [
        loss.statistics(tf.convert_to_tensor(x), mask) for x, mask in ((F, F_mask), (S, S_mask))
    ]
    return loss.distance(*statistics)


@pytest.fixture
def images(random):
    """Activations of two images of different sizes, as after a ReLU."""
    mixing = random.normal(size=(2, 6, 6))
    return [
        np.maximum(random.normal(shift, 1, size=shape) @ mix, 0).astype(np.float32)
        for shift, shape, mix in zip((0.2, 0.5), ((1, 5, 7, 6), (1, 8, 6, 6)), mixing, strict=True)
    ]


def gradient_of(name, F, S, F_mask=None):
    with tf.GradientTape() as tape:
        variable = tf.constant(F)
        tape.watch(variable)
        loss = distance(name, variable, S, F_mask)
    return tape.gradient(loss, variable)


def test_the_table_has_these_losses_by_name():
    assert list(losses.STYLE_LOSSES) == ["gram", *TWINS]
    assert all(loss.name == name for name, loss in losses.STYLE_LOSSES.items())
    assert [loss.additive for loss in losses.STYLE_LOSSES.values()] == [True, True, False, False]


@by_name
def test_the_loss_equals_its_naive_twin(name, images):
    F, S = images
    found = distance(name, F, S).numpy()
    assert found == pytest.approx([TWINS[name](F[0], S[0])], rel=ERRORS[name])


@by_name
def test_the_loss_with_masks_equals_its_naive_twin(name, images, random):
    F, S = images
    masks = [random.uniform(size=(*x.shape[:3], 1)).astype(np.float32) for x in (F, S)]
    for mask in masks:
        mask[:, 2:4] = 0
    expected = TWINS[name](F[0], S[0], *(mask[0] for mask in masks))
    assert distance(name, F, S, *masks).numpy() == pytest.approx([expected], rel=ERRORS[name])
    assert expected != pytest.approx(TWINS[name](F[0], S[0]), rel=0.05)


@by_name
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("masked", [False, True])
def test_the_gradient_is_the_numerical_one(name, sign, masked, images, random):
    F, S = (x.astype(np.float64) for x in images)
    F += random.normal(0, 0.1, F.shape)  # no two values are equal
    mask = random.uniform(0.1, 1, (1, 5, 7, 1)) if masked else None
    gradient = sign * gradient_of(name, F, S, mask)

    def error(step):
        return gradient_error(
            lambda x: distance(name, x.astype(np.float64), S, mask)[0], gradient, F, step
        )

    assert (error(1e-6) < 1e-6) == (sign == 1), error(1e-6)
    # Across changes of order, of nearest neighbors, and of bins.
    assert (error(1e-2) < 3e-2) == (sign == 1), error(1e-2)


@by_name
def test_equal_statistics_have_no_distance(name, images):
    for x in images:
        scale = float(distance(name, x, x[:, ::-1] + x)[0])
        assert distance(name, x, x).numpy() == pytest.approx([0], abs=1e-6 * scale)
    assert distance(name, *images).numpy()[0] > 1e-4


@by_name
def test_the_order_of_positions_does_not_matter(name, images, random):
    F, S = images
    shuffled = random.permutation(F.reshape(35, 6)).reshape(1, 7, 5, 6)
    assert distance(name, shuffled, S).numpy() == pytest.approx(
        distance(name, F, S).numpy(), rel=1e-5
    )


@by_name
def test_the_size_does_not_matter(name, images):
    F, S = images
    tiled = np.tile(F, (1, 2, 3, 1)), np.tile(S, (1, 3, 1, 1))
    assert distance(name, *tiled).numpy() == pytest.approx(distance(name, F, S).numpy(), rel=1e-5)


@by_name
def test_a_mask_of_ones_is_none(name, images):
    F, S = images
    ones = [np.ones((*x.shape[:3], 1), np.float32) for x in images]
    assert distance(name, F, S, *ones).numpy() == pytest.approx(
        distance(name, F, S).numpy(), rel=1e-5
    )


@by_name
def test_a_mask_that_shows_a_part_is_that_part(name, images):
    F, S = images
    masks = [np.zeros((*x.shape[:3], 1), np.float32) for x in images]
    for mask in masks:
        mask[:, 1:4, :5] = 1
    found = distance(name, F, S, *masks).numpy()
    assert found == pytest.approx(distance(name, F[:, 1:4, :5], S[:, 1:4, :5]).numpy(), rel=1e-5)
    hidden = np.where(masks[1] > 0, S, 100 * S[:, ::-1]).astype(np.float32)
    assert distance(name, F, hidden, *masks).numpy() == pytest.approx(found, rel=1e-5)
    gradient = gradient_of(name, F, S, masks[0]).numpy()
    assert (gradient[masks[0][..., 0] == 0] == 0).all()


@by_name
def test_each_image_of_a_batch_has_the_loss_it_has_alone(name, random):
    F, S = random.normal(0.5, 1, (2, 3, 5, 7, 4)).astype(np.float32)
    for target in (S, S[1:2]):
        together = distance(name, F, target).numpy()
        alone = [distance(name, F[i : i + 1], target[i % len(target)][None]) for i in range(3)]
        assert together == pytest.approx(np.concatenate(alone), rel=1e-5)
        assert len(set(together)) == 3
    masks = random.uniform(size=(3, 5, 7, 1)).astype(np.float32)
    together = distance(name, F, S[:1], masks).numpy()
    alone = [distance(name, F[i : i + 1], S[:1], masks[i : i + 1]) for i in range(3)]
    assert together == pytest.approx(np.concatenate(alone), rel=1e-5)
    shared = distance(name, F, S[:1], masks[:1]).numpy()
    assert shared[0] == pytest.approx(together[0], rel=1e-5)
    assert shared[1:] != pytest.approx(together[1:], rel=1e-3)


@by_name
def test_one_graph_serves_all_sizes(name, random):
    loss = losses.STYLE_LOSSES[name]
    target = loss.statistics(tf.constant(random.normal(size=(1, 4, 6, 3)), tf.float32), None)

    @tf.function(
        input_signature=[tf.TensorSpec([None, None, None, 3], tf.float32)], autograph=False
    )
    def traced(features):
        with tf.GradientTape() as tape:
            tape.watch(features)
            value = loss.distance(loss.statistics(features, None), target)
        return value, tape.gradient(value, features)

    for shape in ((1, 5, 7, 3), (2, 4, 3, 3)):
        x = tf.constant(random.normal(0.5, 1, shape), tf.float32)
        value, gradient = traced(x)
        with tf.GradientTape() as tape:
            tape.watch(x)
            expected = loss.distance(loss.statistics(x, None), target)
        np.testing.assert_allclose(value, expected, rtol=1e-5)
        np.testing.assert_allclose(gradient, tape.gradient(expected, x), rtol=1e-3, atol=1e-7)


@by_name
@pytest.mark.parametrize("dtype", ["float64", "bfloat16", "float16"])
def test_float64_is_kept_and_short_floats_become_float32(name, dtype, images):
    F, S = (tf.cast(x, dtype) for x in images)
    found = distance(name, F, S)
    assert found.dtype == (tf.float64 if dtype == "float64" else tf.float32)
    expected = TWINS[name](*(tf.cast(x, tf.float64).numpy()[0] for x in (F, S)))
    assert found.numpy() == pytest.approx([expected], rel=ERRORS[name])


def test_moments_of_a_whole_are_the_mean_of_those_of_its_parts(random):
    F = tf.constant(random.normal(size=(2, 4, 6, 3)), tf.float32)
    left, right = (losses.raw_moments(part) for part in tf.split(F, [2, 4], axis=2))
    for whole, a, b in zip(losses.raw_moments(F), left, right, strict=True):
        np.testing.assert_allclose(whole, a / 3 + 2 * b / 3, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("shapes", [((1, 2, 6), (1, 3, 5)), ((5, 7, 9), (1, 3, 5))])
def test_moments_of_fewer_positions_than_channels(shapes, random):
    """12 and 15 positions of 256 channels, in float32; also each image of a batch."""
    F, S = (
        np.maximum(random.normal(size=(shape[0], shape[1], shape[2], 256)), 0).astype(np.float32)
        for shape in shapes
    )
    found = distance("moments", F, S).numpy()
    assert found == pytest.approx([moments_twin(x, S[0]) for x in F], rel=1e-4)
    gradient = gradient_of("moments", F, S)
    step = gradient * (0.01 / tf.norm(gradient))
    fall = distance("moments", F - step, S) - found
    assert tf.reduce_sum(fall).numpy() == pytest.approx(
        -float(tf.reduce_sum(gradient * step)), rel=0.1
    )


def test_moments_of_a_style_of_one_color(images):
    F = images[0]
    flat = np.full((1, 300, 200, 6), 0.7, np.float32)
    assert distance("moments", flat, flat).numpy() == pytest.approx([0], abs=1e-6)
    for pair in ((F, flat), (flat, F)):
        expected = moments_twin(*(each[0, :5] for each in pair))
        assert distance("moments", *pair).numpy() == pytest.approx([expected], rel=1e-3)
        assert np.isfinite(gradient_of("moments", *pair)).all()
    # The distance to a single point is the mean squared distance to it.
    expected = 2.5 * np.mean(np.sum(np.square(F), axis=-1)) / 6**3
    assert distance("moments", F, 0 * flat).numpy() == pytest.approx([expected], rel=1e-5)
    gradient = gradient_of("moments", F, 0 * flat)
    np.testing.assert_allclose(gradient, 2.5 * 2 * F / 35 / 6**3, rtol=1e-4, atol=1e-7)


def test_a_target_whose_rounding_exceeds_the_ridge_has_a_factor():
    S = tf.constant([[[2.0, 2.0], [2.0, 1.9]]], tf.float64)  # one eigenvalue is -0.05
    L = losses.wasserstein._factor(S, tf.constant([0.01], tf.float64)).numpy()[0]
    values, vectors = np.linalg.eigh(S[0])
    assert values[0] < 0
    np.testing.assert_allclose(L @ L.T, vectors * np.maximum(values, 0.01) @ vectors.T, rtol=1e-12)


@pytest.mark.parametrize(("channels", "count"), [(3, 16), (16, 16), (20, 32), (64, 64)])
def test_directions_are_unit_vectors_and_orthogonal_as_far_as_possible(channels, count):
    directions = sliced._directions(channels)
    assert directions.shape == (count, channels)
    np.testing.assert_allclose(np.linalg.norm(directions, axis=1), 1)
    first = directions[:channels]
    np.testing.assert_allclose(first @ first.T, np.eye(len(first)), atol=1e-12)


def test_quantiles_of_many_values_are_those_of_sorting(random):
    """3024 positions in 1024 bins, many of them equal."""
    F = np.maximum(random.normal(size=(1, 54, 56, 5)), 0).astype(np.float32)
    found = losses.sliced_quantiles(F).numpy()[0]
    rows, weights = weighted(F[0], None)
    for direction, quantiles in zip(sliced._directions(5), found, strict=True):
        values = rows @ direction
        exact = quantile_means(values, weights)
        assert np.abs(quantiles - exact).max() < np.ptp(values) / 1024
        assert (np.diff(quantiles) > -1e-6).all()


def test_all_positions_are_taken_up_to_the_maximum(random, monkeypatch):
    F = random.normal(size=(1, 5, 7, 3)).astype(np.float32)
    features, weights = losses.sampled_positions(F)
    np.testing.assert_array_equal(features, F.reshape(1, 1, 35, 3))
    np.testing.assert_allclose(weights, np.full((1, 1, 35, 1), 1 / 35), rtol=1e-6)
    monkeypatch.setattr(nearest, "_POSITIONS", 7)
    mask = random.uniform(size=(1, 5, 7, 1)).astype(np.float32)
    features, weights = losses.sampled_positions(F, mask)
    rows = [int(np.argmax((F.reshape(35, 3) == row).all(1))) for row in features.numpy()[0, 0]]
    assert [row // 5 for row in rows] == list(range(7))  # one of each seventh
    assert len({row % 5 for row in rows}) > 2  # no period
    squares = mask.reshape(-1)[rows] ** 2
    np.testing.assert_allclose(weights[0, 0, :, 0], squares / squares.sum(), rtol=1e-5)


def test_the_search_goes_over_all_chunks(images, monkeypatch):
    expected = distance("nearest_neighbors", *images).numpy()
    monkeypatch.setattr(nearest, "_CHUNK", 8)  # 35 positions in five chunks
    np.testing.assert_allclose(distance("nearest_neighbors", *images), expected, rtol=1e-6)


def test_candidates_are_spread_over_what_the_mask_shows(random, monkeypatch):
    monkeypatch.setattr(nearest, "_CANDIDATES", 5)
    S = random.normal(size=(1, 6, 8, 3)).astype(np.float32)
    mask = np.zeros((1, 6, 8, 1), np.float32)
    mask[:, ::2, 3:] = 0.5  # 15 positions
    shown = S[mask[..., 0] > 0]
    found = nearest._candidates(*losses.sampled_positions(S, mask)).numpy()[0, 0]
    rows = [int(np.argmax((shown == row).all(1))) for row in found]
    assert all((shown[row] == each).all() for row, each in zip(rows, found, strict=True))
    assert [row // 3 for row in rows] == list(range(5))


UNEQUAL = [np.ones((1, 4, 5, channels), np.float32) for channels in (3, 4)]

STATISTICS = {
    "moments": losses.raw_moments,
    "sliced_wasserstein": losses.sliced_quantiles,
    "nearest_neighbors": losses.sampled_positions,
}


@by_name
def test_wrong_activations_and_masks_are_refused_in_one_line(name):
    statistics = STATISTICS[name]
    for arguments, text in (
        ((np.zeros((4, 5, 3), np.float32),), "features has a wrong shape: it is (4, 5, 3)"),
        ((np.zeros((1, 4, 5, 3), np.uint8),), "features has a wrong type: it is uint8"),
        ((np.zeros((1, 4, 5, 3)), np.zeros((1, 4, 6, 1))), "mask has a wrong shape: it is (1, 4"),
    ):
        with pytest.raises(InputError, match=r"^[^\n]*$") as caught:
            statistics(*arguments)
        assert text in str(caught.value)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: losses.gaussian_wasserstein_loss(*map(losses.raw_moments, UNEQUAL)),
         "the means of moments and target cannot be compared: they are float32 (1, 3) and float32 "
         "(1, 4); "),
        (lambda: losses.gaussian_wasserstein_loss(*[(np.zeros((1, 2)),) * 2] * 2),
         "the second moment of moments has a wrong shape: it is (1, 2), expected is (any, any, "),
        (lambda: losses.sliced_wasserstein_loss(np.zeros((1, 16, 9)), np.zeros((1, 32, 9))),
         "quantiles and target cannot be compared: they are float64 (1, 16, 9) and float64 "),
        (lambda: losses.sliced_wasserstein_loss(np.zeros((16, 9)), np.zeros((16, 9))),
         "quantiles has a wrong shape: it is (16, 9), expected is (any, any, any)"),
        (lambda: losses.nearest_neighbor_loss(*map(losses.sampled_positions, UNEQUAL)),
         "positions and target cannot be compared: they are float32 (1, 1, 1, 3) and float32 "),
        (lambda: losses.nearest_neighbor_loss(*[(np.zeros((1, 9, 3)),) * 2] * 2),
         "the activations of positions has a wrong shape: it is (1, 9, 3), expected is (any, 1, "),
    ],
)  # fmt: skip
def test_statistics_that_do_not_fit_are_refused_in_one_line(call, text):
    with pytest.raises(InputError, match=r"^[^\n]*$") as caught:
        call()
    assert text in str(caught.value)

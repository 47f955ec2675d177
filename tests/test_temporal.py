"""The temporal loss: its value and gradient, alone, in the objective, in tiles and in a call."""

import numpy as np
import pytest
import tensorflow as tf

import nst_tf
from nst_tf.engine.inputs import Before
from nst_tf.errors import InputError
from nst_tf.losses import STYLE_LOSSES, temporal_loss
from nst_tf.models import vgg19_features
from nst_tf.objective.function import LossFunction, batch
from nst_tf.objective.graphs import Objective
from nst_tf.objective.spec import ObjectiveSpec, spec_of
from nst_tf.objective.targets import Targets, Temporal, blended_styles, weight_tensors
from nst_tf.objective.tiled import TiledObjective, TileFunctions
from tests.numerical_gradient import gradient_error

SHAPE = (24, 36)


@pytest.fixture
def arrays(random):
    """An image, what it should equal, and the trust in each pixel."""
    image, expected = random.uniform(0, 255, (2, *SHAPE, 3)).astype(np.float32)
    return image, expected, (random.random(SHAPE) < 0.7).astype(np.float32)


def naive(image, expected, trust):
    total = 0.0
    height, width, channels = image.shape
    for y in range(height):
        for x in range(width):
            for channel in range(channels):
                difference = float(image[y, x, channel]) - float(expected[y, x, channel])
                total += float(trust[y, x]) * difference**2
    return total / (height * width * channels)


def test_the_loss_is_that_of_a_naive_twin(arrays):
    image, expected, trust = arrays
    found = temporal_loss(image[None], expected[None], trust[None, :, :, None])
    assert found.shape == (1,)
    assert float(found[0]) == pytest.approx(naive(*arrays), rel=1e-5)


def test_a_value_by_hand():
    """A difference of 3 in one of two pixels that counts half: 0.5 * 9 / 2."""
    image, expected = np.zeros((1, 1, 2, 1)), np.array([[[[3.0], [4.0]]]])
    trust = np.array([[[[0.5], [0.0]]]])
    assert float(temporal_loss(image, expected, trust)[0]) == 2.25


def test_pixels_without_trust_have_no_gradient(arrays):
    image, expected, trust = arrays
    x = tf.constant(image[None])
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = temporal_loss(x, expected[None], trust[None, :, :, None])
    gradient = tape.gradient(value, x).numpy()[0]
    assert not gradient[trust == 0].any() and gradient[trust == 1].any()
    np.testing.assert_allclose(
        gradient, 2 * trust[:, :, None] * (image - expected) / image.size, rtol=1e-4, atol=1e-6
    )


def test_arguments_that_do_not_fit_are_refused(arrays):
    image, expected, trust = (each[None] for each in arrays)
    with pytest.raises(InputError, match="image and trust do not fit together"):
        temporal_loss(image, expected, trust[:, :-1, :, None])
    with pytest.raises(InputError, match="trust has a wrong shape"):
        temporal_loss(image, expected, trust)
    with pytest.raises(InputError, match="image and expected cannot be compared"):
        temporal_loss(image, expected[:, 1:], trust[..., None])


# In the objective

SPEC = ObjectiveSpec(("block2_conv1",), ("block1_conv1",), STYLE_LOSSES["gram"])


def targets(objective, random, temporal, weight=0.1):
    content = batch(random.uniform(0, 255, (*SHAPE, 3)).astype(np.float32))
    style = batch(random.uniform(0, 255, (20, 30, 3)).astype(np.float32))
    statistics = objective.style_features(style).statistics
    names = {"content/block2_conv1": 1.0, "style/block1_conv1": 10.0, "temporal": weight}
    return Targets(
        objective.content_features(content),
        blended_styles(SPEC.statistics, [statistics], [1.0], {}),
        weight_tensors(names),
        temporal=temporal,
    )


def tensors(expected, trust):
    return Temporal(batch(expected), tf.constant(trust[None, :, :, None]))


def test_the_term_is_weighted_and_adds_to_value_and_gradient(tiny_features, arrays, random):
    image, expected, trust = arrays
    objective = Objective(tiny_features, SPEC)
    with_term = targets(objective, random, tensors(expected, trust))
    without = with_term._replace(temporal=None)
    x = batch(image)
    total, gradient, terms = objective.value_and_gradients(x, with_term)
    bare, bare_gradient, bare_terms = objective.value_and_gradients(x, without)
    assert set(terms) - set(bare_terms) == {"temporal"}
    assert float(terms["temporal"][0]) == pytest.approx(0.1 * naive(*arrays), rel=1e-5)
    assert float(total - bare) == pytest.approx(0.1 * naive(*arrays), rel=1e-4)
    added = 0.1 * 2 * trust[:, :, None] * (image - expected) / image.size
    np.testing.assert_allclose(
        (gradient - bare_gradient).numpy()[0], added, atol=1e-3 * np.abs(added).max()
    )
    function = LossFunction(objective, with_term)
    assert function.losses(image).temporal == pytest.approx(0.1 * naive(*arrays), rel=1e-5)


@pytest.mark.parametrize("sign", [1, -1])
def test_the_gradient_is_the_numerical_one_and_a_flipped_sign_is_noticed(
    tiny_features, arrays, random, sign
):
    image, expected, trust = arrays
    objective = Objective(tiny_features, SPEC)
    # So much weight that the term is most of the loss.
    given = targets(objective, random, tensors(expected, trust), weight=100.0)

    def value(x):
        return float(objective.value_and_gradients(batch(x), given)[0])

    gradient = objective.value_and_gradients(batch(image), given)[1].numpy()[0]
    error = gradient_error(value, sign * gradient, image, step=0.05)
    assert (error < 1e-2) == (sign == 1), error


def test_weight_and_data_change_without_another_graph(tiny_features, arrays, random):
    image, expected, trust = arrays
    objective = Objective(tiny_features, SPEC)
    values = []
    for weight, shift in ((0.1, 0.0), (0.2, 0.0), (0.2, 1.0)):
        temporal = tensors(expected + shift, trust)
        given = targets(objective, np.random.default_rng(1), temporal, weight)
        _, _, terms = objective.value_and_gradients(batch(image), given)
        values.append(float(terms["temporal"][0]))
    traced = [name for name in objective._graphs._traced if name.startswith("value_and_grad")]
    assert len(traced) == 1
    assert values[1] == pytest.approx(2 * values[0], rel=1e-6) and values[2] != values[1]


def test_tiles_give_the_value_and_the_gradient_of_the_whole_image(tiny_weights, random):
    shape = (48, 80)
    network = vgg19_features(spec_of(nst_tf.Config().loss).layers, tiny_weights)
    objective = Objective(network, spec_of(nst_tf.Config().loss))
    tiled = TiledObjective(TileFunctions(objective), 32)
    image, expected, content, style = random.uniform(0, 255, (4, *shape, 3)).astype(np.float32)
    temporal = tensors(expected, (random.random(shape) < 0.5).astype(np.float32))
    config = nst_tf.Config(image_size=80, init="content")
    function = nst_tf.Stylizer(config, weights=tiny_weights).loss_function(content, style)
    given = function._targets._replace(
        temporal=temporal,
        weights={**function._targets.weights, "temporal": tf.constant(0.3, tf.float64)},
    )
    total, gradient, terms = objective.value_and_gradients(batch(image), given)
    in_tiles, gradient_in_tiles, terms_in_tiles = tiled.value_and_gradients(batch(image), given)
    assert float(in_tiles) == pytest.approx(float(total), rel=1e-5)
    assert float(terms_in_tiles["temporal"][0]) == pytest.approx(
        float(terms["temporal"][0]), rel=1e-6
    )
    scale = float(np.abs(gradient).max())
    np.testing.assert_allclose(gradient_in_tiles, gradient, atol=1e-4 * scale)
    assert set(tiled.loss_terms(batch(image), given)) == set(terms)


# In a style transfer


def test_a_frame_starts_from_the_one_before_where_it_is_known(tiny_weights, random):
    content, style, expected = random.uniform(0, 255, (3, 32, 48, 3)).astype(np.float32)
    trust = np.zeros((32, 48), np.float32)
    trust[:, 10:30] = 1
    config = nst_tf.Config(image_size=48, num_iterations=0, init="content", pyramid="none")
    found = nst_tf.Stylizer(config, weights=tiny_weights)(
        content, style, before=Before(expected, trust, 1.0)
    )
    np.testing.assert_allclose(found.image[:, 10:30], expected[:, 10:30], atol=1e-3)
    np.testing.assert_allclose(found.image[:, 30:], content[:, 30:], atol=1e-3)


@pytest.mark.slow
def test_a_large_weight_holds_known_pixels_and_no_others(tiny_weights, random):
    content, style, expected = random.uniform(0, 255, (3, 32, 48, 3)).astype(np.float32)
    trust = np.zeros((32, 48), np.float32)
    trust[:, 10:30] = 1
    config = nst_tf.Config(image_size=48, num_iterations=30, init="noise", pyramid="none")
    stylizer = nst_tf.Stylizer(config, weights=tiny_weights)
    held, free = (
        stylizer(content, style, before=Before(expected, trust, weight)) for weight in (1e4, 0.0)
    )
    change = [np.abs(each.image - expected)[:, 10:30].mean() for each in (held, free)]
    assert change[0] < 0.2 * change[1]
    assert np.abs(held.image - expected)[:, 34:].mean() > 20


def test_with_the_colors_of_the_content_it_is_the_luminance_that_is_held(tiny_weights, random):
    content, style, expected = random.uniform(0, 255, (3, 32, 48, 3)).astype(np.float32)
    config = nst_tf.Config(
        image_size=48, num_iterations=0, init="noise", original_colors="luminance", pyramid="none"
    )
    found = nst_tf.Stylizer(config, weights=tiny_weights)(
        content, style, before=Before(expected, np.ones((32, 48), np.float32), 1.0)
    )
    assert found.losses.temporal < 1.0

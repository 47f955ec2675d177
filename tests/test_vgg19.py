"""The network: the activations of the trained VGG19 against those of other programs."""

import numpy as np
import pytest
import tensorflow as tf

from nst_tf.models import vgg19
from nst_tf.models.layers import LAYERS

# Height, width, channels, mean and maximum of each activation for the picture `waves`, at the odd
# size 19x27, as PyTorch 2.13 computes them in float64 from the same weights.
ACTIVATIONS = {
    "block1_conv1": (19, 27, 64, 2.7481835, 30.557923),
    "block1_conv2": (19, 27, 64, 2.8694737, 37.346214),
    "block2_conv1": (9, 13, 128, 2.5627292, 34.037806),
    "block2_conv2": (9, 13, 128, 3.5317226, 82.778428),
    "block3_conv1": (4, 6, 256, 3.6248713, 49.380022),
    "block3_conv2": (4, 6, 256, 3.4520529, 48.371132),
    "block3_conv3": (4, 6, 256, 3.5458647, 18.820233),
    "block3_conv4": (4, 6, 256, 3.4736609, 30.655075),
    "block4_conv1": (2, 3, 512, 3.1113858, 39.271272),
    "block4_conv2": (2, 3, 512, 2.8529491, 65.165256),
    "block4_conv3": (2, 3, 512, 4.0600256, 53.109288),
    "block4_conv4": (2, 3, 512, 5.2910376, 455.97227),
    "block5_conv1": (1, 1, 512, 5.6302291, 71.651291),
    "block5_conv2": (1, 1, 512, 5.9730514, 54.502358),
    "block5_conv3": (1, 1, 512, 5.4079141, 74.731862),
    "block5_conv4": (1, 1, 512, 2.3012931, 55.864937),
}


@pytest.fixture(scope="module")
def full(request):
    weights = request.getfixturevalue("weights")
    return vgg19.build(LAYERS, "max", weights)


@pytest.mark.parametrize("layer", LAYERS)
def test_activations_of_every_layer_at_an_odd_size(full, waves, layer):
    activation = full(waves[np.newaxis])[layer].numpy()
    height, width, channels, mean, largest = ACTIVATIONS[layer]
    assert activation.shape == (1, height, width, channels)
    assert activation.mean() == pytest.approx(mean, rel=1e-4)
    assert activation.max() == pytest.approx(largest, rel=1e-4)


def naive_convolution(x, kernel, bias):
    """ReLU of a 3x3 cross-correlation with zeros around, in float64, tap by tap."""
    padded = np.pad(x.astype(np.float64), ((1, 1), (1, 1), (0, 0)))
    height, width, _ = x.shape
    taps = sum(
        padded[i : i + height, j : j + width] @ kernel[i, j].astype(np.float64)
        for i in range(3)
        for j in range(3)
    )
    return np.maximum(taps + bias, 0.0)


@pytest.mark.parametrize(("pooling", "reduce"), [("max", np.max), ("average", np.mean)])
def test_equals_its_naive_twin_with_either_pooling(weights, waves, pooling, reduce):
    x = waves[..., ::-1] - np.array([103.939, 116.779, 123.68])  # BGR less ImageNet's mean
    for layer in ("block1_conv1", "block1_conv2"):
        x = naive_convolution(x, weights[f"{layer}/kernel"], weights[f"{layer}/bias"])
    halved = reduce(x[:18, :26].reshape(9, 2, 13, 2, 64), axis=(1, 3))
    expected = naive_convolution(
        halved, weights["block2_conv1/kernel"], weights["block2_conv1/bias"]
    )
    network = vgg19.build(["block2_conv1"], pooling, weights)
    found = network(waves[np.newaxis])["block2_conv1"].numpy()[0]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(("padding", "mode"), [("reflect", "reflect"), ("replicate", "edge")])
def test_padding_at_the_borders_equals_its_naive_twin(weights, waves, padding, mode):
    x = waves[..., ::-1] - np.array([103.939, 116.779, 123.68])
    for layer in ("block1_conv1", "block1_conv2"):
        padded = np.pad(x, ((1, 1), (1, 1), (0, 0)), mode=mode)
        kernel, bias = weights[f"{layer}/kernel"], weights[f"{layer}/bias"]
        x = naive_convolution(padded, kernel, bias)[1:-1, 1:-1]
    network = vgg19.build(["block1_conv2"], "max", weights, padding=padding)
    found = network(waves[np.newaxis])["block1_conv2"].numpy()[0]
    np.testing.assert_allclose(found, x, rtol=1e-4, atol=1e-3)


def test_a_side_of_one_pixel_is_repeated_where_it_cannot_be_mirrored(weights, waves):
    line = waves[np.newaxis, :1]
    found = [
        vgg19.build(["block1_conv2"], "max", weights, padding=padding)(line)["block1_conv2"]
        for padding in ("reflect", "replicate")
    ]
    np.testing.assert_array_equal(*found)


def test_bfloat16_activations_are_those_of_float32_to_its_precision(full, weights, waves):
    layers = ["block1_conv1", "block3_conv1", "block5_conv1"]
    low = vgg19.build(layers, "max", weights, precision="bfloat16")(waves[np.newaxis])
    assert low["block1_conv1"].dtype == tf.float32  # pixels need more than eight bits
    assert low["block5_conv1"].dtype == tf.bfloat16
    high = full(waves[np.newaxis])
    for layer in layers:
        exact = high[layer].numpy()
        error = np.abs(tf.cast(low[layer], tf.float32).numpy() - exact).mean()
        assert error < 0.02 * exact.mean()


def test_is_cut_at_the_deepest_layer_asked_for(weights):
    network = vgg19.build(["block3_conv1", "block1_conv2"], "max", weights)
    convolutions = [layer.name for layer in network.layers if layer.weights]
    assert convolutions == list(LAYERS)[:5]
    assert set(network.output) == {"block3_conv1", "block1_conv2"}


def test_is_frozen_and_touches_no_global_state(weights):
    before = tf.random.get_global_generator().state.numpy()
    network = vgg19.build(["block1_conv1"], "max", weights)
    assert network.trainable_weights == []
    np.testing.assert_array_equal(tf.random.get_global_generator().state.numpy(), before)


def test_run_once_gives_what_the_network_gives_and_warns_of_nothing(weights, waves, caplog):
    network = vgg19.build(["block1_conv2", "block3_conv1"], "max", weights)
    for width in range(20, 27):  # TensorFlow warns of the fifth trace of a function
        picture = tf.constant(waves[np.newaxis, :, :width])
        found, expected = vgg19.run_once(network, picture), network(picture)
        assert found.keys() == expected.keys()
        for layer, maps in expected.items():
            np.testing.assert_allclose(found[layer], maps, rtol=1e-4, atol=1e-3)
    assert not caplog.records

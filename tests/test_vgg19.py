"""The network: the activations of the trained VGG19 against those of other programs."""

import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from nst_tf.errors import InputError, MachineError
from nst_tf.models import check_backend, layer_features, vgg19_features
from nst_tf.models.layers import LAYERS, check_layers, suggest_layer
from nst_tf.models.vgg19 import Padding2D

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
    return vgg19_features(LAYERS, weights)


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
    network = vgg19_features(["block2_conv1"], weights, pooling=pooling)
    found = network(waves[np.newaxis])["block2_conv1"].numpy()[0]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(("padding", "mode"), [("reflect", "reflect"), ("replicate", "edge")])
def test_padding_at_the_borders_equals_its_naive_twin(weights, waves, padding, mode):
    x = waves[..., ::-1] - np.array([103.939, 116.779, 123.68])
    for layer in ("block1_conv1", "block1_conv2"):
        padded = np.pad(x, ((1, 1), (1, 1), (0, 0)), mode=mode)
        kernel, bias = weights[f"{layer}/kernel"], weights[f"{layer}/bias"]
        x = naive_convolution(padded, kernel, bias)[1:-1, 1:-1]
    network = vgg19_features(["block1_conv2"], weights, padding=padding)
    found = network(waves[np.newaxis])["block1_conv2"].numpy()[0]
    np.testing.assert_allclose(found, x, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("padding", ["reflect", "replicate"])
def test_a_side_of_one_pixel_is_repeated_where_it_cannot_be_mirrored(weights, waves, padding):
    network = vgg19_features(["block1_conv2"], weights, padding=padding)
    row, column = waves[np.newaxis, :1], waves[np.newaxis, :, :1]
    for single, repeated in (
        (row, np.tile(row, (1, 4, 1, 1))),
        (column, np.tile(column, (1, 1, 4, 1))),
    ):
        expected = network(repeated)["block1_conv2"][:, : single.shape[1], : single.shape[2]]
        np.testing.assert_allclose(network(single)["block1_conv2"], expected, rtol=1e-4, atol=1e-4)


def test_bfloat16_activations_are_those_of_float32_to_its_precision(full, weights, waves):
    layers = ["block1_conv1", "block3_conv1", "block5_conv1"]
    low = vgg19_features(layers, weights, dtype="bfloat16")(waves[np.newaxis])
    assert low["block1_conv1"].dtype == tf.float32  # pixels need more than eight bits
    assert low["block5_conv1"].dtype == tf.bfloat16
    high = full(waves[np.newaxis])
    for layer in layers:
        exact = high[layer].numpy()
        error = np.abs(tf.cast(low[layer], tf.float32).numpy() - exact).mean()
        assert error < 0.02 * exact.mean()


def test_is_cut_at_the_deepest_layer_asked_for(weights):
    network = vgg19_features(["block3_conv1", "block1_conv2"], weights)
    convolutions = [layer.name for layer in network.layers if layer.weights]
    assert convolutions == list(LAYERS)[:5]
    assert list(network.output) == ["block1_conv2", "block3_conv1"]


def test_is_frozen_and_touches_no_global_state(weights):
    before = tf.random.get_global_generator().state.numpy()
    network = vgg19_features(["block1_conv1"], weights)
    assert network.trainable_weights == []
    np.testing.assert_array_equal(tf.random.get_global_generator().state.numpy(), before)


def copy_of_keras_vgg19(weights):
    model = keras.applications.VGG19(
        include_top=False, weights=None, input_shape=(None, None, 3), pooling=None
    )
    for layer in model.layers:
        if layer.weights:
            layer.set_weights([weights[f"{layer.name}/{part}"] for part in ("kernel", "bias")])
    return model


def test_is_the_vgg19_of_keras_applications(weights, waves):
    reference = copy_of_keras_vgg19(weights)
    network = vgg19_features(LAYERS, weights)
    expected = [layer for layer in reference.layers[1:] if layer.name != "block5_pool"]
    found = [layer for layer in network.layers if layer.name.startswith("block")]
    assert [layer.name for layer in found] == [layer.name for layer in expected]
    for ours, theirs in zip(found, expected, strict=True):
        assert type(ours) is type(theirs)
        ours, theirs = ours.get_config(), theirs.get_config()
        del ours["trainable"], theirs["trainable"]
        assert ours == theirs
    images = np.stack([waves, waves[::-1]])
    inputs = keras.applications.vgg19.preprocess_input(images.copy())
    outputs = {name: reference.get_layer(name).output for name in LAYERS}
    activations = keras.Model(reference.input, outputs)(inputs)
    for layer, maps in network(images).items():
        np.testing.assert_allclose(maps, activations[layer], rtol=1e-5, atol=1e-4)


def test_each_image_of_a_batch_has_the_activations_it_has_alone(tiny_weights, random):
    network = vgg19_features(["block4_conv2"], tiny_weights, padding="reflect")
    images = random.uniform(0, 255, (3, 33, 21, 3)).astype(np.float32)
    batch = network(images)["block4_conv2"]
    for number in range(3):
        alone = network(images[number : number + 1])["block4_conv2"]
        np.testing.assert_allclose(batch[number : number + 1], alone, rtol=1e-4, atol=1e-5)


COPIES = {
    "clone": lambda model, path: keras.models.clone_model(model),
    "config": lambda model, path: keras.Model.from_config(model.get_config()),
    "file": lambda model, path: (model.save(path), keras.models.load_model(path))[1],
}


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # in Keras' save
@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("padding", ["zero", "reflect", "replicate"])
def test_can_be_cloned_configured_and_saved(tiny_weights, waves, tmp_path, padding, dtype, how):
    layers = ["block1_conv1", "block3_conv2"]
    network = vgg19_features(layers, tiny_weights, padding=padding, dtype=dtype)
    copy = COPIES[how](network, tmp_path / "vgg19.keras")
    if how != "file":  # as with every Keras model, these have new random weights
        assert tf.math.reduce_std(copy.weights[0]) > 0
        for variable, value in zip(copy.weights, network.weights, strict=True):
            variable.assign(value)
    assert copy.trainable_weights == []
    expected, found = network(waves[np.newaxis]), copy(waves[np.newaxis])
    assert list(found) == layers
    for layer in layers:
        assert found[layer].dtype == expected[layer].dtype
        np.testing.assert_array_equal(
            tf.cast(found[layer], tf.float32), tf.cast(expected[layer], tf.float32)
        )


def test_is_part_of_another_functional_model(tiny_weights, waves):
    network = vgg19_features(["block2_conv1"], tiny_weights, padding="reflect")
    image = keras.Input((None, None, 3))
    mean = keras.layers.GlobalAveragePooling2D()(network(image)["block2_conv1"])
    found = keras.Model(image, mean)(waves[np.newaxis])
    expected = network(waves[np.newaxis])["block2_conv1"].numpy().mean((1, 2))
    np.testing.assert_allclose(found, expected, rtol=1e-4)


@pytest.mark.parametrize("padding", ["reflect", "replicate"])
@pytest.mark.parametrize("shape", [(2, 5, 7, 3), (1, 1, 6, 2), (1, 6, 1, 2), (2, 1, 1, 3)])
def test_padding_of_unknown_and_known_sizes_equals_numpys(random, padding, shape):
    features = random.normal(size=shape).astype(np.float32)
    mode = {"reflect": "reflect", "replicate": "edge"}[padding]
    expected = np.pad(features, [(0, 0), (1, 1), (1, 1), (0, 0)], mode=mode)
    upstream = random.normal(size=expected.shape).astype(np.float32)
    layer = Padding2D(padding)

    def padded(features):
        with tf.GradientTape() as tape:
            tape.watch(features)
            result = layer(features)
        return result, tape.gradient(result, features, upstream)

    gradients = []
    for sizes in (shape, [None, None, None, shape[-1]], [shape[0], shape[1], None, shape[-1]]):
        traced = tf.function(padded, autograph=False).get_concrete_function(
            tf.TensorSpec(sizes, tf.float32)
        )
        result, gradient = traced(tf.constant(features))
        np.testing.assert_array_equal(result, expected)
        assert traced.structured_outputs[0].shape[-1] == shape[-1]
        gradients.append(gradient)
    for gradient in gradients:
        # The padding is linear: its gradient is its transpose.
        np.testing.assert_allclose(
            np.vdot(gradient, features), np.vdot(upstream, expected), rtol=1e-4, atol=1e-4
        )
        np.testing.assert_array_equal(gradient, gradients[0])


@pytest.mark.parametrize("padding", ["zero", "reflect", "replicate"])
def test_one_graph_serves_all_sizes(tiny_weights, waves, padding, caplog):
    network = vgg19_features(["block2_conv1"], tiny_weights, padding=padding)
    traced = tf.function(network, autograph=False, input_signature=[
        tf.TensorSpec([None, None, None, 3], tf.float32)
    ])  # fmt: skip
    for shape in ((19, 27), (19, 2), (2, 19), (8, 24), (9, 24), (10, 24)):
        image = waves[np.newaxis, : shape[0], : shape[1]]
        np.testing.assert_allclose(
            traced(image)["block2_conv1"], network(image)["block2_conv1"], rtol=1e-4, atol=1e-4
        )
    assert traced.experimental_get_tracing_count() == 1
    assert not caplog.records


def test_shapes_are_known_without_computing(tiny_weights):
    network = vgg19_features(["block1_conv1", "block3_conv1"], tiny_weights, padding="reflect")
    shapes = network.compute_output_shape((1, 19, 27, 3))
    assert shapes == {"block1_conv1": (1, 19, 27, 4), "block3_conv1": (1, 4, 6, 4)}


def test_the_packaged_weights_are_the_default_and_a_file_is_read(weights, waves, tmp_path):
    np.savez(tmp_path / "w.npz", **weights)
    expected = vgg19_features(["block1_conv1"], weights)(waves[np.newaxis])["block1_conv1"]
    for given in ((), ("normalised",), (tmp_path / "w.npz",), (str(tmp_path / "w.npz"),)):
        found = vgg19_features(["block1_conv1"], *given)(waves[np.newaxis])["block1_conv1"]
        np.testing.assert_array_equal(found, expected)
    with pytest.raises(InputError, match="its SHA-256 is"):
        vgg19_features(["block1_conv1"], tmp_path / "w.npz", weights_sha256="0" * 64)


def test_layers_are_given_in_the_order_of_the_network_each_once():
    assert check_layers(["block3_conv1", "block1_conv2", "block3_conv1"]) == [
        "block1_conv2", "block3_conv1"
    ]  # fmt: skip
    assert check_layers("block4_conv2") == ["block4_conv2"]


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("relu4_2", "block4_conv2"),
        ("conv4_2", "block4_conv2"),
        ("block4_conv_2", "block4_conv2"),
        ("block6_conv1", "block5_conv1"),
    ],
)
def test_unknown_layers_are_refused_with_the_nearest(tiny_weights, name, nearest):
    assert suggest_layer(name).startswith(f"did you mean {nearest!r}? known are block1_conv1, ")
    with pytest.raises(InputError) as caught:
        vgg19_features(["block1_conv1", name], tiny_weights)
    assert f"unknown layer {name!r}; did you mean {nearest!r}? known are " in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"layers": []}, "cannot select layers: no layer is given; known are block1_conv1, "),
        ({"layers": ["zzz"]}, "unknown layer 'zzz'; known are block1_conv1, "),
        ({"padding": "same"}, "padding has a wrong value: it is 'same'; use zero or reflect or "),
        ({"pooling": "avg"}, "pooling has a wrong value: it is 'avg'; use max or average"),
        ({"dtype": "float16"}, "dtype has a wrong value: it is 'float16'; use float32 or bfloat16"),
    ],
)
def test_wrong_options_are_refused_in_one_line(tiny_weights, arguments, text):
    with pytest.raises(InputError) as caught:
        vgg19_features(**{"layers": ["block1_conv1"], "weights": tiny_weights, **arguments})
    assert text in str(caught.value)


def test_arrays_that_are_missing_or_do_not_fit_are_refused(tiny_weights):
    missing = {name: array for name, array in tiny_weights.items() if "block2_conv1" not in name}
    vgg19_features(["block1_conv2"], missing)  # it is not needed there
    with pytest.raises(InputError, match="there is no array 'block2_conv1/kernel' in the mapping"):
        vgg19_features(["block2_conv1"], missing)
    turned = {**tiny_weights, "block1_conv1/kernel": np.zeros((4, 3, 3, 3), np.float32)}
    with pytest.raises(InputError, match=r"has a kernel \(4, 3, 3, 3\) and a bias \(4,\)"):
        vgg19_features(["block1_conv1"], turned)


# Other networks


def test_layer_features_of_keras_vgg16_with_its_preprocessing(waves):
    image = keras.Input((None, None, 3))
    preprocess = keras.applications.vgg16.preprocess_input
    model = keras.applications.VGG16(
        include_top=False, weights=None, input_tensor=preprocess(image)
    )
    features = layer_features(model, ["block3_conv3", "block1_conv2"])
    found = features(waves[np.newaxis])
    assert [(name, maps.shape) for name, maps in found.items()] == [
        ("block1_conv2", (1, 19, 27, 64)),
        ("block3_conv3", (1, 4, 6, 256)),
    ]
    first = model.get_layer("block1_conv1")
    assert features.get_layer("block1_conv1") is first  # weights are shared
    second = model.get_layer("block1_conv2")
    expected = second(first(preprocess(waves[np.newaxis].copy())))
    np.testing.assert_allclose(found["block1_conv2"], expected, rtol=1e-4, atol=1e-4)


def test_layer_features_refuse_a_layer_that_the_model_does_not_have():
    model = keras.applications.VGG16(include_top=False, weights=None, input_shape=(None, None, 3))
    with pytest.raises(InputError) as caught:
        layer_features(model, ["relu3_4"])
    assert "unknown layer 'relu3_4'; did you mean 'block3_conv3'?" in str(caught.value)


def test_layer_features_of_a_network_of_features(tiny_features, waves):
    features = layer_features(tiny_features, ["block2_conv1"])
    expected = tiny_features(waves[np.newaxis])["block2_conv1"]
    np.testing.assert_array_equal(features(waves[np.newaxis])["block2_conv1"], expected)


# Keras' settings


def run_python(code, **environment):
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **environment}
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_settings_in_keras_json_change_nothing(tmp_path, waves, weights):
    settings = {"image_data_format": "channels_first", "floatx": "float16", "backend": "tensorflow"}
    (tmp_path / "keras.json").write_text(json.dumps(settings))
    np.save(tmp_path / "image.npy", waves[np.newaxis])
    code = f"""
import keras, numpy as np
from nst_tf.models import AdaIN, vgg19_features
assert keras.config.floatx() == "float16"
assert keras.config.image_data_format() == "channels_first"
keras.config.set_dtype_policy("mixed_bfloat16")
image = np.load({str(tmp_path / "image.npy")!r})
network = vgg19_features(["block1_conv1", "block2_conv1"], padding="reflect")
found = network(image)
np.savez({str(tmp_path / "found.npz")!r}, adain=AdaIN()(image[0], [image[0]]), **found)
"""
    done = run_python(code, KERAS_HOME=str(tmp_path))
    assert done.returncode == 0, done.stderr
    found = np.load(tmp_path / "found.npz")
    expected = vgg19_features(["block1_conv1", "block2_conv1"], weights, padding="reflect")
    for layer, maps in expected(waves[np.newaxis]).items():
        assert found[layer].dtype == np.float32
        np.testing.assert_allclose(found[layer], maps, rtol=1e-5, atol=1e-4)
    assert found["adain"].shape == waves.shape
    assert found["adain"].dtype == np.float32


BACKEND = "cannot use Keras: Keras computes with 'jax', and nst_tf needs its TensorFlow backend; "


@pytest.mark.parametrize("where", ["environment", "file"])
def test_another_backend_is_refused_in_one_line_before_keras_is_imported(tmp_path, where):
    (tmp_path / "keras.json").write_text(json.dumps({"backend": "jax"} if where == "file" else {}))
    code = (
        "import sys, nst_tf.models\ntry:\n    nst_tf.models.vgg19_features\n"
        "except nst_tf.MachineError as error:\n    print(error, 'keras' in sys.modules)"
    )
    backend = "jax" if where == "environment" else ""
    done = run_python(code, KERAS_HOME=str(tmp_path), KERAS_BACKEND=backend)
    remedy = "set KERAS_BACKEND=tensorflow before Keras is imported"
    assert done.stdout == f"{BACKEND}{remedy} False\n", done.stderr


def test_another_backend_of_an_imported_keras_is_refused(monkeypatch, tiny_weights):
    check_backend()
    monkeypatch.setattr(keras.config, "backend", lambda: "jax")
    for call in (
        check_backend,
        lambda: vgg19_features(["block1_conv1"], tiny_weights),
        lambda: layer_features(keras.Sequential(), ["a"]),
    ):
        with pytest.raises(MachineError, match=BACKEND):
            call()


def test_importing_the_package_of_models_does_not_import_tensorflow():
    code = (
        "import sys, nst_tf.models, nst_tf.models.layers, nst_tf.models.weights\n"
        "assert {'AdaIN', 'layer_features', 'vgg19_features'} <= set(dir(nst_tf.models))\n"
        "sys.exit(bool({'tensorflow', 'keras'} & {*sys.modules}))"
    )
    assert run_python(code).returncode == 0

"""VGG19 and other Keras models as maps from images to the activations of named layers."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from nst_tf.errors import InputError, did_you_mean
from nst_tf.models.backend import check_backend
from nst_tf.models.layers import LAYERS, check_layers
from nst_tf.models.weights import load_vgg19

Arrays = Mapping[str, npt.NDArray[Any]]

_POOLINGS = {"max": keras.layers.MaxPooling2D, "average": keras.layers.AveragePooling2D}
_PADDINGS = ("zero", "reflect", "replicate")
_DTYPES = ("float32", "bfloat16")
_BORDER = np.array([[0, 0], [1, 1], [1, 1], [0, 0]], np.int32)


@keras.saving.register_keras_serializable(package="nst_tf")
class Padding2D(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
    """Extends activations by one position on each side.

    Args:
        padding: "reflect", without repeating the border, or "replicate", which repeats it. A side
            of length 1, which has nothing to reflect, is repeated with both.
        **settings: As for any Keras layer.
    """

    def __init__(self, padding: str, **settings: Any) -> None:
        super().__init__(**settings)
        _check_choice("padding", padding, _PADDINGS[1:])
        self.padding = padding

    def call(self, features: tf.Tensor) -> tf.Tensor:
        """Pads [B, H, W, C] to [B, H + 2, W + 2, C]."""
        height, width = features.shape[1:3]
        if self.padding == "replicate" or height == width == 1:
            return tf.pad(features, _BORDER, "SYMMETRIC")
        if (height or 0) > 1 and (width or 0) > 1:
            return tf.pad(features, _BORDER, "REFLECT")
        # Both operations return their input where they have nothing to add.
        single = _BORDER * tf.cast(tf.equal(tf.shape(features)[:, tf.newaxis], 1), tf.int32)
        padded = tf.pad(tf.pad(features, single, "SYMMETRIC"), _BORDER - single, "REFLECT")
        padded.set_shape(self.compute_output_shape(features.shape))
        return padded

    def compute_output_shape(self, input_shape: Iterable[int | None]) -> tuple[int | None, ...]:
        """Returns [B, H + 2, W + 2, C]; sizes that are not known stay None."""
        batch, height, width, channels = input_shape
        return batch, height and height + 2, width and width + 2, channels

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that make this layer."""
        return {**super().get_config(), "padding": self.padding}


def vgg19_features(
    layers: Iterable[str],
    weights: str | Path | Arrays = "normalised",
    *,
    padding: str = "zero",
    pooling: str = "max",
    dtype: str = "float32",
    weights_sha256: str | None = None,
    convolutions: type[keras.layers.Conv2D] = keras.layers.Conv2D,
) -> keras.Model:
    """Builds VGG19 up to the deepest of the given layers, with its preprocessing, not trainable.

    K. Simonyan and A. Zisserman, "Very Deep Convolutional Networks for Large-Scale Image
    Recognition" (ICLR 2015), configuration E. The layers have the names and the settings of
    `keras.applications.VGG19`. The model can be cloned and saved.

    Args:
        layers: Names of convolutions, such as "block4_conv2"; their activations after ReLU.
        weights: "normalised", rescaled such that each channel has a mean activation of 1 (L. A.
            Gatys et al., CVPR 2016, section 2); "imagenet", which Keras downloads; a file (.npz,
            .safetensors, .h5); or arrays: "LAYER/kernel" [3, 3, in, out] and "LAYER/bias" [out] for
            each convolution needed, of any numbers of channels.
        padding: What is beyond the border: "zero" as in training, "reflect" or "replicate".
        pooling: "max" as in training, or "average" (Gatys et al., section 2).
        dtype: "float32", or "bfloat16" for weights and activations of all convolutions but the
            first: images need more than its 8 bits.
        weights_sha256: The SHA-256 of a file, in hexadecimal; required for HDF5.
        convolutions: The class of the convolutions.

    Returns:
        A model from RGB images in [0, 255], float32 [B, H, W, 3], to a dictionary from layer name
        to activations, [B, h, w, C], in the order of the network.

    Raises:
        InputError: A layer, an option or a file of weights is not valid.
        MachineError: The download failed, or Keras has another backend.
    """
    check_backend()
    names = check_layers(layers)
    _check_choice("padding", padding, _PADDINGS)
    _check_choice("pooling", pooling, _POOLINGS)
    _check_choice("dtype", dtype, _DTYPES)
    if not isinstance(weights, Mapping):
        weights = load_vgg19(weights, weights_sha256).arrays

    image = keras.Input((None, None, 3), dtype="float32", name="image")
    x = keras.applications.vgg19.preprocess_input(image, data_format="channels_last")
    outputs: dict[str, keras.KerasTensor] = {}
    block = "block1"
    for name in LAYERS:
        if not name.startswith(block):
            x = _POOLINGS[pooling](
                2, data_format="channels_last", dtype=dtype, name=f"{block}_pool"
            )(x)
            block = name.partition("_")[0]
        x = convolution(
            x,
            _array(weights, f"{name}/kernel"),
            _array(weights, f"{name}/bias"),
            padding=padding,
            activation="relu",
            dtype="float32" if name == "block1_conv1" else dtype,
            name=name,
            kind=convolutions,
        )
        if name in names:
            outputs[name] = x
        if len(outputs) == len(names):
            break
    model = keras.Model(image, outputs, name="vgg19")
    model.trainable = False
    return model


def layer_features(model: keras.Model, layers: Iterable[str]) -> keras.Model:
    """Makes a model of the outputs of named layers of another model, whose weights it shares.

    Preprocessing has to be part of the model::

        image = keras.Input((None, None, 3))
        vgg16 = keras.applications.VGG16(
            include_top=False, input_tensor=keras.applications.vgg16.preprocess_input(image)
        )
        features = layer_features(vgg16, ["block1_conv1", "block4_conv2"])

    Args:
        model: A functional or sequential Keras model with one input, [B, H, W, 3].
        layers: Names of its layers.

    Returns:
        A model with the same input, to a dictionary from layer name to the layer's output, in the
        order of the model.

    Raises:
        InputError: The model has no such layer.
        MachineError: Keras has another backend.
    """
    check_backend()
    known = {layer.name: layer for layer in model.layers}
    outputs = {name: known[name].output for name in check_layers(layers, known)}
    (image,) = model.inputs
    return keras.Model(image, outputs, name=f"{model.name}_features")


def convolution(
    x: keras.KerasTensor,
    kernel: npt.NDArray[Any],
    bias: npt.NDArray[Any],
    *,
    padding: str,
    activation: str | None,
    dtype: str,
    name: str,
    kind: type[keras.layers.Conv2D] = keras.layers.Conv2D,
) -> keras.KerasTensor:
    """Applies a trained 3 x 3 convolution, as a Keras layer that is made for it.

    Args:
        x: [B, H, W, in].
        kernel: [3, 3, in, out].
        bias: [out].
        padding: "zero", "reflect" or "replicate".
        activation: A name that Keras knows, or None.
        dtype: Of weights and activations.
        name: The name of the layer.
        kind: Its class.

    Returns:
        [B, H, W, out].

    Raises:
        InputError: The arrays have other shapes.
    """
    if kernel.shape != (3, 3, x.shape[-1], *bias.shape):
        raise InputError(
            "cannot use the weights",
            f"{name!r} has a kernel {kernel.shape} and a bias {bias.shape}, "
            f"expected are (3, 3, {x.shape[-1]}, N) and (N,)",
            "give arrays that fit one another",
        )
    if padding != "zero":
        x = Padding2D(padding, dtype=dtype, name=f"{name}_padding")(x)
    layer = kind(
        bias.size,
        3,
        padding="same" if padding == "zero" else "valid",
        data_format="channels_last",
        activation=activation,
        dtype=dtype,
        name=name,
    )
    # Random values, only to be replaced, would take longer than everything else.
    initializers = layer.kernel_initializer, layer.bias_initializer
    layer.kernel_initializer = lambda shape, dtype: tf.cast(kernel, dtype)
    layer.bias_initializer = lambda shape, dtype: tf.cast(bias, dtype)
    layer.build(x.shape)
    layer.kernel_initializer, layer.bias_initializer = initializers
    return layer(x)


def _array(weights: Arrays, name: str) -> npt.NDArray[Any]:
    if name not in weights:
        raise InputError(
            "cannot use the weights",
            f"there is no array {name!r} in the mapping",
            did_you_mean(name, weights),
        )
    return np.asarray(weights[name])


def _check_choice(name: str, value: object, allowed: Iterable[str]) -> None:
    if value not in (allowed := list(allowed)):
        raise InputError(
            f"{name} has a wrong value", f"it is {value!r}", f"use {' or '.join(allowed)}"
        )

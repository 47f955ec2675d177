"""Keras' VGG19 as a map from a picture to the named activations of its convolutions."""

from collections.abc import Callable, Collection, Mapping
from functools import cache
from typing import Any, ClassVar

import keras
import numpy as np
import tensorflow as tf

_POOLING = {"max": keras.layers.MaxPooling2D, "average": keras.layers.AveragePooling2D}


class Padding2D(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
    """Continues maps by one pixel on each side.

    Args:
        padding: "reflect", mirrored at the outermost pixel, or "replicate", which repeats it. Along
            a side of one pixel, which has nothing to be mirrored, both repeat it.
        dtype: As of any layer.
    """

    # A mirror beyond the outermost pixel shows, for one pixel, that pixel again.
    _MODES: ClassVar = {"reflect": "reflect", "replicate": "symmetric"}

    def __init__(self, padding: str, dtype: str) -> None:
        super().__init__(dtype=dtype)
        self._mode = self._MODES[padding]

    def call(self, maps: keras.KerasTensor) -> keras.KerasTensor:
        """Pads [1, H, W, N] to [1, H + 2, W + 2, N]."""
        mode = "symmetric" if 1 in maps.shape[1:3] else self._mode
        return keras.ops.pad(maps, [[0, 0], [1, 1], [1, 1], [0, 0]], mode=mode)


def build(
    layers: Collection[str],
    pooling: str,
    parameters: Mapping[str, np.ndarray],
    *,
    precision: str = "float32",
    padding: str = "zero",
) -> keras.Model:
    """Builds VGG19 up to the deepest layer asked for, frozen, with its preprocessing inside.

    K. Simonyan and A. Zisserman, "Very Deep Convolutional Networks for Large-Scale Image
    Recognition" (ICLR 2015), configuration E.

    Args:
        layers: Keras names of convolutions, such as "block4_conv2"; the activation after ReLU.
        pooling: "max" as trained, or "average" as Gatys et al. (2016, section 2) suggest.
        parameters: "LAYER/kernel" [3, 3, in, out] and "LAYER/bias" [out] for each convolution.
        precision: "float32", or "bfloat16" for all but the first convolution: pixels need more than
            its eight bits, or a line search sees no small step.
        padding: What convolutions see beyond the border, "zero" as trained, "reflect" or
            "replicate"; see `Padding2D`.

    Returns:
        A model from RGB pictures in [0, 255], [1, H, W, 3], to a dictionary from layer name to
        activations, [1, h, w, N], in the precision asked for.
    """
    picture = keras.Input((None, None, 3))
    x = keras.applications.vgg19.preprocess_input(picture)
    outputs: dict[str, keras.KerasTensor] = {}
    for template in _architecture():
        settings = template.get_config()
        settings["dtype"] = "float32" if template.name == "block1_conv1" else precision
        if not template.weights:
            x = _POOLING[pooling].from_config(settings)(x)
            continue
        if padding != "zero":
            x = Padding2D(padding, x.dtype)(x)
            settings["padding"] = "valid"
        settings["kernel_initializer"] = "zeros"  # random values would only cost time
        layer = keras.layers.Conv2D.from_config(settings)
        x = layer(x)
        layer.set_weights([parameters[f"{layer.name}/{part}"] for part in ("kernel", "bias")])
        if layer.name in layers:
            outputs[layer.name] = x
        if len(outputs) == len(set(layers)):
            break
    model = keras.Model(picture, outputs, name="vgg19")
    model.trainable = False
    return model


def run_once(function: Callable[[tf.Tensor], Any], given: tf.Tensor) -> Any:
    """Calls a network, or what contains one, as a graph that is made for this call.

    A graph lets go of maps that are needed no more. Called eagerly, a Keras model holds those of
    all its layers: at 1024 pixels half a gigabyte more.

    Args:
        function: Of a tensor.
        given: Its argument.

    Returns:
        What the function returns.
    """
    # A concrete function: TensorFlow warns of other functions that are traced often.
    specification = tf.TensorSpec(given.shape, given.dtype)
    return tf.function(function, autograph=False).get_concrete_function(specification)(given)


@cache
def _architecture() -> list[keras.layers.Layer]:
    """Returns Keras' own layers after the input, untrained, as templates."""
    untrained = keras.applications.VGG19(
        include_top=False, weights=None, input_shape=(None, None, 3)
    )
    return list(untrained.layers[1:])

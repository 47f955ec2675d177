"""Keras' VGG19 as a map from a picture to the named activations of its convolutions."""

from collections.abc import Collection, Mapping

import keras
import numpy as np

_POOLING = {"max": keras.layers.MaxPooling2D, "average": keras.layers.AveragePooling2D}


def build(
    layers: Collection[str], pooling: str, parameters: Mapping[str, np.ndarray]
) -> keras.Model:
    """Builds VGG19 up to the deepest layer asked for, frozen, with its preprocessing inside.

    K. Simonyan and A. Zisserman, "Very Deep Convolutional Networks for Large-Scale Image
    Recognition" (ICLR 2015), configuration E.

    Args:
        layers: Keras names of convolutions, such as "block4_conv2"; the activation after ReLU.
        pooling: "max" as trained, or "average" as Gatys et al. (2016, section 2) suggest.
        parameters: "LAYER/kernel" [3, 3, in, out] and "LAYER/bias" [out] for each convolution.

    Returns:
        A model from RGB pictures in [0, 255], [1, H, W, 3], to a dictionary from layer name to
        activations, [1, h, w, N].
    """
    architecture = keras.applications.VGG19(
        include_top=False, weights=None, input_shape=(None, None, 3)
    )
    picture = keras.Input((None, None, 3))
    x = keras.applications.vgg19.preprocess_input(picture)
    outputs: dict[str, keras.KerasTensor] = {}
    for template in architecture.layers[1:]:
        kind = _POOLING[pooling] if "pool" in template.name else type(template)
        layer = kind.from_config(template.get_config())
        x = layer(x)
        if layer.weights:
            layer.set_weights([parameters[f"{layer.name}/{part}"] for part in ("kernel", "bias")])
        if layer.name in layers:
            outputs[layer.name] = x
        if len(outputs) == len(set(layers)):
            break
    model = keras.Model(picture, outputs, name="vgg19")
    model.trainable = False
    return model

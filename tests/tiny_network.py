"""Small networks with random weights, for tests whose mathematics needs any network."""

import keras
import numpy as np

from nst_tf.models.layers import LAYERS

CHANNELS = {
    "block1_conv1": 4,
    "block2_conv1": 5,
    "block3_conv1": 6,
    "block4_conv1": 7,
    "block4_conv2": 7,
    "block5_conv1": 8,
}
"""The layers of `tiny_features` that have names of VGG19's, and their numbers of channels."""


def tiny_features(dtype="float32", seed=1):
    """Builds a network of six convolutions with max pooling between blocks.

    Activations are positive in about half of the places, with a mean near 1 for any image.

    Returns:
        A Keras model from RGB images in [0, 255], [B, H, W, 3], to a dictionary from layer name to
        activations, [B, h, w, C]. Not trainable.
    """
    random = np.random.default_rng(seed)
    image = keras.Input((None, None, 3), dtype=dtype, name="image")
    settings = {"data_format": "channels_last", "dtype": dtype}
    x = keras.layers.Rescaling(1 / 64, offset=-2, name="scale", dtype=dtype)(image)
    outputs = {}
    for number, (name, channels) in enumerate(CHANNELS.items()):
        if number and name.endswith("conv1"):
            x = keras.layers.MaxPooling2D(2, name=f"{name[:6]}_input", **settings)(x)
        layer = keras.layers.Conv2D(
            channels, 3, padding="same", activation="relu", name=name, **settings
        )
        inputs = x.shape[-1]
        x = outputs[name] = layer(x)
        kernel = random.normal(0, (2 / (9 * inputs)) ** 0.5, (3, 3, inputs, channels))
        layer.set_weights([kernel, random.uniform(0, 0.5, channels)])
    model = keras.Model(image, outputs, name="tiny")
    model.trainable = False
    return model


def tiny_weights(channels=4, seed=1):
    """Makes weights for all convolutions of VGG19 with few channels, as `vgg19_features` takes.

    Returns:
        "LAYER/kernel" [3, 3, in, channels] and "LAYER/bias" [channels], float32, by name.
    """
    random = np.random.default_rng(seed)
    weights = {}
    inputs, variance = 3, 2 / (9 * 64**2)  # pixels vary by about 64, activations by about 1
    for layer in LAYERS:
        weights[f"{layer}/kernel"] = random.normal(
            0, (variance / inputs) ** 0.5, (3, 3, inputs, channels)
        ).astype(np.float32)
        weights[f"{layer}/bias"] = random.uniform(0, 0.5, channels).astype(np.float32)
        inputs, variance = channels, 2 / 9
    return weights

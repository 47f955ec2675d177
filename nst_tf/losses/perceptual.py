"""Content and style loss for training a feed-forward network in Keras."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import keras
import tensorflow as tf

from nst_tf.errors import InputError
from nst_tf.losses.arguments import as_floating
from nst_tf.losses.content import content_loss
from nst_tf.losses.style import GRAM, StyleLoss
from nst_tf.losses.total_variation import total_variation_loss

Layers = Mapping[str, float] | Iterable[str]
"""Layer names to weights, or names alone, which have a weight of 1."""


@keras.saving.register_keras_serializable(package="nst_tf")
class PerceptualLoss(keras.losses.Loss):  # type: ignore[misc]  # Keras has no types
    """Weighted content, style and total variation losses of generated images.

    For `keras.Model.compile(loss=...)` of a network that renders its input in one fixed style, with
    the content images as targets: J. Johnson, A. Alahi and L. Fei-Fei, "Perceptual Losses for
    Real-Time Style Transfer and Super-Resolution" (ECCV 2016), section 3.3.

    Args:
        network: From images [B, H, W, 3], RGB in [0, 255], to a dictionary from layer name to
            activations [B, h, w, C], such as `nst_tf.models.vgg19_features` builds. It is not
            trained.
        content_layers: Layers of the content loss, with or without weights.
        style_layers: Layers of the style loss, with or without weights.
        style_image: RGB in [0, 255], [h, w, 3].
        content_weight: Weight of the content loss.
        style_weight: Weight of the style loss.
        tv_weight: Weight of the total variation loss.
        style_loss: The kind of style loss.
        reduction: How the losses of a batch become one, as of any `keras.losses.Loss`.
        name: The name of the loss.

    Raises:
        InputError: The style image is no such image, or the network has no such layer.
    """

    def __init__(
        self,
        network: Callable[[tf.Tensor], Mapping[str, tf.Tensor]],
        content_layers: Layers,
        style_layers: Layers,
        style_image: tf.Tensor,
        *,
        content_weight: float = 1.0,
        style_weight: float = 1e5,
        tv_weight: float = 0.0,
        style_loss: StyleLoss = GRAM,
        reduction: str = "sum_over_batch_size",
        name: str = "perceptual_loss",
    ) -> None:
        super().__init__(name=name, reduction=reduction, dtype="float32")
        self._network = network
        self._content_layers = _with_weights(content_layers)
        self._style_layers = _with_weights(style_layers)
        self._content_weight = content_weight
        self._style_weight = style_weight
        self._tv_weight = tv_weight
        self._style_loss = style_loss
        image = as_floating(style_image, "the style image", [None, None, 3])
        features = network(tf.cast(image, tf.float32)[tf.newaxis])
        for layer in self._content_layers | self._style_layers:
            if layer not in features:
                raise InputError(
                    "the network has another output",
                    f"there is no layer {layer!r} in it",
                    f"known are {', '.join(features)}",
                )
        self._targets = {
            layer: style_loss.statistics(features[layer], None) for layer in self._style_layers
        }

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        """Computes the loss of each image.

        Args:
            y_true: The content images, RGB in [0, 255], [B, H, W, 3].
            y_pred: The generated images, the same.

        Returns:
            The losses, [B].
        """
        features = self._network(y_pred)
        content = self._network(y_true)
        terms = [
            self._content_weight
            * weight
            * content_loss(features[layer], tf.stop_gradient(content[layer]))
            for layer, weight in self._content_layers.items()
        ]
        for layer, weight in self._style_layers.items():
            statistics = self._style_loss.statistics(features[layer], None)
            distance = self._style_loss.distance(statistics, self._targets[layer])
            terms.append(self._style_weight * weight * distance)
        if self._tv_weight:
            terms.append(self._tv_weight * total_variation_loss(y_pred))
        return tf.add_n(terms)

    def get_config(self) -> dict[str, Any]:
        """Returns the settings without the network and the style, which are no configuration.

        A model that was compiled with this loss can be saved; load it with `compile=False`.
        """
        return {
            **super().get_config(),
            "content_layers": self._content_layers,
            "style_layers": self._style_layers,
            "content_weight": self._content_weight,
            "style_weight": self._style_weight,
            "tv_weight": self._tv_weight,
            "style_loss": self._style_loss.name,
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "PerceptualLoss":
        """Refuses, since the network and the style image are not in the configuration.

        Raises:
            InputError: Always.
        """
        raise InputError(
            "cannot make a PerceptualLoss from its configuration",
            "it holds neither the network nor the style image",
            "load the model with compile=False, then compile it with a new loss",
        )


def _with_weights(layers: Layers) -> dict[str, float]:
    return dict(layers) if isinstance(layers, Mapping) else dict.fromkeys(layers, 1.0)

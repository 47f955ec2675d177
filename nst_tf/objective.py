"""What is minimised: the weighted losses of a picture against bound targets, and their gradient."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from nst_tf import losses
from nst_tf.config import Config

Network = Callable[[tf.Tensor], Mapping[str, tf.Tensor]]


@dataclass(frozen=True)
class Losses:
    """The weighted terms of a picture's loss, by name.

    Attributes:
        terms: From "content/LAYER", "style/LAYER" and "tv" to the weighted value of the term.
    """

    terms: Mapping[str, float]

    @property
    def total(self) -> float:
        """The sum of all terms, which the optimiser minimises."""
        return sum(self.terms.values())

    @property
    def content(self) -> float:
        """The weighted content loss, over all its layers."""
        return self._sum("content")

    @property
    def style(self) -> float:
        """The weighted style loss, over all its layers."""
        return self._sum("style")

    @property
    def tv(self) -> float:
        """The weighted total variation loss."""
        return self._sum("tv")

    def _sum(self, kind: str) -> float:
        return sum(value for name, value in self.terms.items() if name.split("/")[0] == kind)


class Objective:
    """The loss of Gatys et al. (2016), equation 7, with total variation, at one picture size.

    Targets are computed once, when the objective is made.

    Args:
        network: From pictures [1, H, W, 3], RGB in [0, 255], to activations by layer name.
        content: The content picture, [H, W, 3], RGB in [0, 255], at the size of the result.
        styles: The style pictures, each [h, w, 3], of any size.
        config: Layers and weights.
    """

    def __init__(
        self, network: Network, content: np.ndarray, styles: Sequence[np.ndarray], config: Config
    ) -> None:
        activations = network(_batch(content))
        self._content_weights, self._style_weights = _layer_weights(config)
        self._content = {
            layer: tf.cast(activations[layer], tf.float32) for layer in self._content_weights
        }
        self._style = _blended_gram_matrices(
            network, styles, config.style_blend_weights, list(self._style_weights)
        )
        self._tv_weight = config.tv_weight
        self._network = network
        self._evaluate = tf.function(
            self._losses_and_gradient,
            input_signature=[tf.TensorSpec((1, *content.shape), tf.float32)],
        )

    def value_and_grad(self, picture: np.ndarray) -> tuple[Losses, np.ndarray]:
        """Evaluates the loss and its gradient.

        Args:
            picture: RGB in [0, 255], float32, [H, W, 3], at the size of the content picture.

        Returns:
            The weighted loss terms, and the gradient of their sum, float32, [H, W, 3].
        """
        terms, gradient = self._evaluate(_batch(picture))
        values = {name: float(value) for name, value in terms.items()}
        return Losses(values), gradient.numpy()[0]

    def losses(self, picture: np.ndarray) -> Losses:
        """Evaluates the loss alone, which takes a third of the time.

        Args:
            picture: As for `value_and_grad`.

        Returns:
            The weighted loss terms.
        """
        terms = self._terms(_batch(picture))
        return Losses({name: float(value) for name, value in terms.items()})

    def _losses_and_gradient(self, picture: tf.Tensor) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(picture)
            terms = self._terms(picture)
            total = tf.add_n(list(terms.values()))
        return terms, tape.gradient(total, picture)

    def _terms(self, picture: tf.Tensor) -> dict[str, tf.Tensor]:
        """Weighted scalars in float64: their sum adds no rounding to what a line search sees."""
        activations = self._network(picture)
        terms = {}
        for layer, weight in self._content_weights.items():
            loss = losses.content_loss(activations[layer], self._content[layer])
            terms[f"content/{layer}"] = weight * tf.cast(loss, tf.float64)
        for layer, weight in self._style_weights.items():
            loss = losses.style_loss(losses.gram_matrix(activations[layer]), self._style[layer])
            terms[f"style/{layer}"] = weight * tf.cast(loss, tf.float64)
        if self._tv_weight:
            loss = losses.total_variation_loss(picture)
            terms["tv"] = self._tv_weight * tf.cast(loss, tf.float64)
        return terms


def layers_of(config: Config) -> set[str]:
    """Returns the Keras names of the convolutions that the objective looks at."""
    content, style = _layer_weights(config)
    return content.keys() | style.keys()


def blend_shares(blend_weights: Sequence[float], styles: int) -> list[float]:
    """Returns the share of each style: the weights over their sum, or equal parts without any."""
    weights = list(blend_weights) or [1.0] * styles
    return [weight / sum(weights) for weight in weights]


def _layer_weights(config: Config) -> tuple[dict[str, float], dict[str, float]]:
    """Returns the weights of the content and of the style layers, without those that are 0."""

    def weighted(weight: float, layers: Mapping[str, float]) -> dict[str, float]:
        return {layer: weight * share for layer, share in layers.items() if weight * share}

    return (
        weighted(config.content_weight, config.content_layers),
        weighted(config.style_weight, config.style_layers),
    )


def _blended_gram_matrices(
    network: Network,
    styles: Sequence[np.ndarray],
    blend_weights: Sequence[float],
    layers: Sequence[str],
) -> dict[str, tf.Tensor]:
    """Mixes the styles' Gram matrices, layer by layer, with weights that sum to 1."""
    blend: dict[str, tf.Tensor] = {}
    for style, share in zip(styles, blend_shares(blend_weights, len(styles)), strict=True):
        activations = network(_batch(style))
        for layer in layers:
            target = share * losses.gram_matrix(activations[layer])
            blend[layer] = blend[layer] + target if layer in blend else target
    return blend


def _batch(picture: np.ndarray) -> tf.Tensor:
    return tf.convert_to_tensor(picture[np.newaxis], tf.float32)

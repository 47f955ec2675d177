"""What is minimised: the weighted losses of a picture against bound targets, and their gradient."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from nst_tf import losses
from nst_tf.config.schema import Config
from nst_tf.image.masks import Region
from nst_tf.models import vgg19

_GRADIENTS_ON_NOISE = {"content": 1.0, "style": 3.2e-4, "tv": 650.0}
"""The length of each term's gradient on noise by unit of its weight, over that of the content.

Measured at 512 px on `images/summer-palace.jpg` with `images/starry-night.jpg`; three other pairs
and sizes from 128 px on gave 0.6e-4 to 3.3e-4 for the style, 510 to 690 for the total variation.
"""

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


class Target(NamedTuple):
    """A Gram matrix that a layer shall have.

    Attributes:
        gram: [N, N].
        guide: Where, [1, h, w, 1], or None for everywhere.
        share: How much of the layer's weight.
    """

    gram: tf.Tensor
    guide: tf.Tensor | None
    share: float


class Objective:
    """The loss of Gatys et al. (2016), equation 7, with total variation, at one picture size.

    Targets are computed once, when the objective is made.

    Args:
        network: From pictures [1, H, W, 3], RGB in [0, 255], to activations by layer name.
        content: The content picture, [H, W, 3], RGB in [0, 255], at the size of the result.
        styles: The style pictures, each [h, w, 3], of any size.
        config: Layers and weights.
        regions: Where which style goes; without any, all styles blended go everywhere.
    """

    def __init__(
        self,
        network: Network,
        content: np.ndarray,
        styles: Sequence[np.ndarray],
        config: Config,
        regions: Sequence[Region] = (),
    ) -> None:
        activations = vgg19.run_once(network, _batch(content))
        self._content_weights, self._style_weights = _layer_weights(config)
        self._content = {
            layer: tf.cast(activations[layer], tf.float32) for layer in self._content_weights
        }
        self._style = _targets(network, activations, styles, config, regions, self._style_weights)
        self._weights = {
            "content": config.content_weight,
            "style": config.style_weight,
            "tv": config.tv_weight,
        }
        self._tv_exponent = config.tv_exponent
        self._network = network
        self._scales = dict.fromkeys(_GRADIENTS_ON_NOISE, 1.0)
        if config.normalize_gradients:
            self._scales = self._measured_scales(content.shape)
        self._evaluate = tf.function(
            self._losses_and_gradient,
            input_signature=[tf.TensorSpec((1, *content.shape), tf.float32)],
            autograph=False,  # its Python is plain; converting it would write a temporary file
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
        terms = vgg19.run_once(self._terms, _batch(picture))
        return Losses({name: float(value) for name, value in terms.items()})

    def _measured_scales(self, shape: tuple[int, ...]) -> dict[str, float]:
        """Measures each term's gradient once, and scales it to what it usually is.

        It is measured on noise, where every term has one, whatever the run begins with. A scale
        takes it to the size that it has beside the content's with the layers, the network and the
        weights of the default: there it is near 1, and elsewhere a weight has the same effect.
        """
        noise = np.random.default_rng(0).normal(127.5, 32.0, shape)
        picture = _batch(np.clip(noise, 0.0, 255.0).astype(np.float32))
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(picture)
            terms = self._terms(picture)
            sums = {}
            for kind in _GRADIENTS_ON_NOISE:
                found = [value for name, value in terms.items() if name.split("/")[0] == kind]
                sums[kind] = tf.add_n(found) if found else None
        sizes = {
            kind: float(tf.norm(tape.gradient(value, picture))) if value is not None else 0.0
            for kind, value in sums.items()
        }
        effects = {kind: sizes[kind] / (self._weights[kind] or 1.0) for kind in sizes}
        return {
            kind: _GRADIENTS_ON_NOISE[kind] * effects["content"] / effects[kind]
            if effects[kind] and effects["content"]
            else 1.0
            for kind in effects
        }

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
        for layer, targets in self._style.items():
            parts = [
                target.share
                * losses.style_loss(
                    losses.gram_matrix(activations[layer], target.guide), target.gram
                )
                for target in targets
            ]
            weight = self._style_weights[layer] * self._scales["style"]
            terms[f"style/{layer}"] = weight * tf.cast(tf.add_n(parts), tf.float64)
        if self._weights["tv"]:
            loss = losses.total_variation_loss(picture, self._tv_exponent)
            terms["tv"] = self._weights["tv"] * self._scales["tv"] * tf.cast(loss, tf.float64)
        return terms


def layers_of(config: Config) -> set[str]:
    """Returns the Keras names of the convolutions that the objective looks at, or of the first."""
    content, style = _layer_weights(config)
    return content.keys() | style.keys() or {"block1_conv1"}  # a network has some output


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


def _targets(
    network: Network,
    content: Mapping[str, tf.Tensor],
    styles: Sequence[np.ndarray],
    config: Config,
    regions: Sequence[Region],
    layers: Iterable[str],
) -> dict[str, list[Target]]:
    """Computes what each layer's Gram matrices shall be; a layer that no style is for has none."""
    activations = [vgg19.run_once(network, _batch(style)) for style in styles]
    targets: dict[str, list[Target]] = {}
    for layer in layers:
        chosen = config.layer_styles.get(layer)
        maps = [found[layer] for found in activations]
        if regions:
            found = _regional(content[layer], maps, regions, chosen)
        else:
            found = [_blended(maps, config.style_blend_weights, chosen)]
        if found:
            targets[layer] = found
    return targets


def _blended(
    maps: Sequence[tf.Tensor], blend_weights: Sequence[float], chosen: int | None
) -> Target:
    """Mixes the styles' Gram matrices with weights that sum to 1, or takes that of one style."""
    if chosen is not None:
        return Target(losses.gram_matrix(maps[chosen - 1]), None, 1.0)
    shares = blend_shares(blend_weights, len(maps))
    grams = [share * losses.gram_matrix(found) for found, share in zip(maps, shares, strict=True)]
    return Target(tf.add_n(grams), None, 1.0)


def _regional(
    content: tf.Tensor, maps: Sequence[tf.Tensor], regions: Sequence[Region], chosen: int | None
) -> list[Target]:
    """Gives each region the Gram matrix of its style.

    A region's share is its area: then a pixel feels the same pull in a small one as in a large one,
    and as much as without regions.
    """
    targets = []
    for region in regions:
        if chosen not in (None, region.style + 1):
            continue
        guide = _guide(region.content_mask, content)
        inside = None
        if region.style_mask is not None:
            inside = _guide(region.style_mask, maps[region.style])
        gram = losses.gram_matrix(maps[region.style], inside)
        area = float(tf.reduce_mean(tf.square(guide)))
        targets.append(Target(gram, guide, region.weight * area))
    return targets


def _guide(mask: np.ndarray, maps: tf.Tensor) -> tf.Tensor:
    """Brings a mask to the size of a layer's maps, as the network's poolings do it: by halving.

    Args:
        mask: [H, W] in [0, 1], of the size of the picture.
        maps: The activations, [1, h, w, N].

    Returns:
        [1, h, w, 1].
    """
    guide = _batch(mask[:, :, np.newaxis])
    while guide.shape[1] > maps.shape[1]:
        guide = tf.nn.avg_pool2d(guide, 2, 2, "VALID")
    return guide


def _batch(picture: np.ndarray) -> tf.Tensor:
    return tf.convert_to_tensor(picture[np.newaxis], tf.float32)

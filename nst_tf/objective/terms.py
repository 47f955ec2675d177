"""The loss of Gatys et al. (2016), equation 7, as a pure function of tensors."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import tensorflow as tf

from nst_tf.losses import content_loss, jets, temporal_loss, total_variation_loss
from nst_tf.objective.spec import JETS, ObjectiveSpec
from nst_tf.objective.targets import Fixed, Statistics, Targets

Network = Callable[[tf.Tensor], Mapping[str, tf.Tensor]]
"""From images [B, H, W, 3], RGB in [0, 255], to activations [B, h, w, N] by layer name."""


class Measures(NamedTuple):
    """What the terms follow from, but for those of the user's own: means over positions.

    Attributes:
        content: The content loss of each layer, without weight, [B].
        style: The statistics of each layer, one for each of its targets.
        tv: The total variation, without weight, [B]; None where it has none.
    """

    content: Mapping[str, tf.Tensor]
    style: Mapping[str, tuple[Statistics, ...]]
    tv: tf.Tensor | None = None


def activations_of(image: tf.Tensor, spec: ObjectiveSpec, network: Network) -> dict[str, tf.Tensor]:
    """Computes all that the terms are made of.

    Args:
        image: RGB in [0, 255], [B, H, W, 3].
        spec: Which terms there are.
        network: Gives the activations of at least `spec.layers`.

    Returns:
        The activations by layer, [B, h, w, N], and the jets of the image where it has a grain loss.
    """
    activations = dict(network(image)) if spec.layers else {}
    return activations | (dict(zip(JETS, jets(image), strict=True)) if spec.grain else {})


def measure(
    activations: Mapping[str, tf.Tensor],
    content: Mapping[str, tf.Tensor],
    masks: Mapping[str, Sequence[tf.Tensor | None]],
    spec: ObjectiveSpec,
) -> Measures:
    """Compares with the content, and computes statistics for each mask.

    Args:
        activations: Those of `activations_of`, of any part of an image.
        content: What those of content layers are to be.
        masks: By layer, of each target of the layer, [1, h, w, 1], or None for everywhere.
        spec: Which terms there are.
    """
    losses = spec.statistics
    return Measures(
        {layer: content_loss(activations[layer], maps) for layer, maps in content.items()},
        {
            layer: tuple(losses[layer].statistics(activations[layer], mask) for mask in of_layer)
            for layer, of_layer in masks.items()
        },
    )


def compare(measures: Measures, targets: Targets, spec: ObjectiveSpec) -> dict[str, tf.Tensor]:
    """Makes weighted terms of what was measured of a whole image.

    Args:
        measures: What was measured.
        targets: What it is compared with.
        spec: Which terms there are.

    Returns:
        The weighted terms of each image by name, [B] in float64.
    """
    losses = spec.statistics
    values = {f"content/{layer}": value for layer, value in measures.content.items()}
    for layer, of_layer in targets.style.items():
        name = "grain" if layer in JETS else f"style/{layer}"
        distances = [
            target.share * losses[layer].distance(statistics, target.statistics)
            for statistics, target in zip(measures.style[layer], of_layer, strict=True)
        ]
        values[name] = tf.add_n([values[name], *distances] if name in values else distances)
    if measures.tv is not None:
        values["tv"] = measures.tv
    return _weighted(values, targets)


def loss_terms(
    image: tf.Tensor, targets: Targets, spec: ObjectiveSpec, network: Network
) -> dict[str, tf.Tensor]:
    """Evaluates the weighted terms of the loss.

    Args:
        image: RGB in [0, 255], [B, H, W, 3].
        targets: What it is compared with.
        spec: Which terms there are.
        network: Gives the activations of at least `spec.layers`.

    Returns:
        The weighted terms of each image by name, [B] in float64: their sum adds no rounding to what
        a line search compares.
    """
    activations = activations_of(image, spec, network)
    masks = {layer: [each.mask for each in found] for layer, found in targets.style.items()}
    content = {layer: targets.content[layer] for layer in spec.content_layers}
    measures = measure(activations, content, masks, spec)
    if spec.tv_exponent:
        measures = measures._replace(tv=total_variation_loss(image, spec.tv_exponent))
    extra = {
        term.name: tf.broadcast_to(term.function(image, activations), tf.shape(image)[:1])
        for term in spec.extra
    }
    return {
        **compare(measures, targets, spec),
        **_weighted(extra, targets),
        **temporal_terms(image, targets),
    }


def temporal_terms(image: tf.Tensor, targets: Targets) -> dict[str, tf.Tensor]:
    """Compares an image with what the one before leads to.

    Args:
        image: RGB in [0, 255], [B, H, W, 3].
        targets: What it is compared with.

    Returns:
        The weighted term "temporal", [B] in float64; nothing where there is no image before.
    """
    if targets.temporal is None:
        return {}
    loss = temporal_loss(image, targets.temporal.image, targets.temporal.trust)
    return _weighted({"temporal": loss}, targets)


def _weighted(values: Mapping[str, tf.Tensor], targets: Targets) -> dict[str, tf.Tensor]:
    return {
        name: targets.weights[name] * tf.cast(value, tf.float64) for name, value in values.items()
    }


def constrain(variables: tf.Tensor, fixed: Fixed | None, luminance_only: bool) -> tf.Tensor:
    """Maps the optimizer's variables to the image they stand for.

    The map is part of the graph, so that the gradient with respect to the variables follows by the
    chain rule.

    Args:
        variables: [B, H, W, 3].
        fixed: What is kept of the content image.
        luminance_only: Whether the image is gray. The network does not treat the three channels
            alike: without this map, an optimizer would change colors of what is to be a luminance.

    Returns:
        The image, [B, H, W, 3].
    """
    image = variables
    if luminance_only:
        image = tf.tile(tf.reduce_mean(image, axis=-1, keepdims=True), [1, 1, 1, 3])
    if fixed is not None:
        image = fixed.content + fixed.coverage * (image - fixed.content)
    return image


def value_and_gradients(
    variables: tf.Tensor, targets: Targets, spec: ObjectiveSpec, network: Network
) -> tuple[tf.Tensor, tf.Tensor, dict[str, tf.Tensor]]:
    """Evaluates the loss and its gradient with respect to the optimizer's variables.

    Args:
        variables: [B, H, W, 3]; see `constrain`.
        targets: What the image is compared with.
        spec: Which terms there are.
        network: Gives the activations.

    Returns:
        The sum of all terms of all images, a scalar in float64; its gradient, [B, H, W, 3]; and the
        terms by name, [B] in float64.
    """
    with tf.GradientTape() as tape:
        tape.watch(variables)
        image = constrain(variables, targets.fixed, spec.luminance_only)
        terms = loss_terms(image, targets, spec, network)
        total = tf.add_n([tf.reduce_sum(value) for value in terms.values()])
    return total, tape.gradient(total, variables), terms

"""The loss of Gatys et al. (2016), equation 7, as a pure function of tensors."""

from collections.abc import Callable, Mapping

import tensorflow as tf

from nst_tf.losses import content_loss, total_variation_loss
from nst_tf.objective.spec import PIXELS, ObjectiveSpec
from nst_tf.objective.targets import Fixed, Targets

Network = Callable[[tf.Tensor], Mapping[str, tf.Tensor]]
"""From images [B, H, W, 3], RGB in [0, 255], to activations [B, h, w, N] by layer name."""


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
    activations = network(image) if spec.layers else {}
    values = {
        f"content/{layer}": content_loss(activations[layer], targets.content[layer])
        for layer in spec.content_layers
    }
    losses = spec.statistics
    for layer, of_layer in targets.style.items():
        features = image if layer == PIXELS else activations[layer]
        name = "grain" if layer == PIXELS else f"style/{layer}"
        values[name] = tf.add_n(
            [
                target.share
                * losses[layer].distance(
                    losses[layer].statistics(features, target.mask), target.statistics
                )
                for target in of_layer
            ]
        )
    if spec.tv_exponent:
        values["tv"] = total_variation_loss(image, spec.tv_exponent)
    for term in spec.extra:
        values[term.name] = tf.broadcast_to(term.function(image, activations), tf.shape(image)[:1])
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

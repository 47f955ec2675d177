"""Activations as the positions of a distribution, each with its weight."""

import tensorflow as tf

from nst_tf.losses.arguments import as_floating


def weighted_positions(
    features: tf.Tensor, mask: tf.Tensor | None
) -> tuple[tf.Tensor, tf.Tensor | None]:
    """Arranges activations as a list of positions.

    A position counts with the square of its mask, as in the guided Gram matrix of L. A. Gatys et
    al., "Controlling Perceptual Factors in Neural Style Transfer" (CVPR 2017), equation 6.

    Args:
        features: Activations, [B, H, W, C].
        mask: [B, H, W, 1] or [1, H, W, 1], at least 0 and not 0 everywhere; None for all ones.

    Returns:
        The activations, [B, H W, C], at least float32; and the weight of each position, [B, H W] or
        [1, H W], with a sum of 1, or None where all are equal.

    Raises:
        InputError: Types or static shapes do not fit.
    """
    F = as_floating(features, "features", [None] * 4)
    shape = tf.shape(F)
    positions = tf.reshape(F, [shape[0], shape[1] * shape[2], F.shape[-1]])
    if mask is None:
        return positions, None
    T = tf.cast(as_floating(mask, "mask", [None, *F.shape[1:3], 1]), F.dtype)
    squares = tf.square(tf.reshape(T, [tf.shape(T)[0], shape[1] * shape[2]]))
    return positions, squares / tf.reduce_sum(squares, axis=1, keepdims=True)

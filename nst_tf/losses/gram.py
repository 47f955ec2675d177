"""Gram matrices of activations, and the style loss of two of them.

L. A. Gatys, A. S. Ecker and M. Bethge, "Image Style Transfer Using Convolutional Neural Networks"
(CVPR 2016).
"""

import tensorflow as tf

from nst_tf.losses.arguments import as_floating, check_equal


def gram_matrix(features: tf.Tensor, mask: tf.Tensor | None = None) -> tf.Tensor:
    """Gram matrix of the channels over all positions (equation 3, divided by their number).

    With a mask T, it is the guided Gram matrix of L. A. Gatys et al., "Controlling Perceptual
    Factors in Neural Style Transfer" (CVPR 2017), equation 6: the activations F are multiplied by
    the mask at each position, and the sum of squares of the mask takes the place of the number of
    positions.

    Args:
        features: Activations, [B, H, W, C].
        mask: The weight of each position, [B, H, W, 1] or [1, H, W, 1], at least 0 and not 0
            everywhere.

    Returns:
        F^T F / (H W), or (T F)^T (T F) / sum(T^2): symmetric, [B, C, C], in the type of the
        activations, at least float32.

    Raises:
        InputError: Types or static shapes do not fit.
    """
    F = as_floating(features, "features", [None] * 4)
    shape = tf.shape(F)
    positions = shape[1] * shape[2]
    weight = tf.cast(positions, F.dtype)
    if mask is not None:
        T = tf.cast(as_floating(mask, "mask", [None, *F.shape[1:3], 1]), F.dtype)
        F = F * T
        weight = tf.reduce_sum(tf.square(T), axis=[1, 2, 3])[:, tf.newaxis, tf.newaxis]
    F = tf.reshape(F, [shape[0], positions, F.shape[-1]])
    return tf.matmul(F, F, transpose_a=True) / weight


def gram_loss(gram: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
    """Mean squared difference of Gram matrices, divided by C^2 (equation 4).

    Equation 4 divides the squared difference of unnormalized Gram matrices by 4 C^2 M^2. With the
    matrices already divided by the number of positions M, and a mean over the C^2 entries in place
    of the sum, this is the weighting 1/C^2 per layer of the authors' published code. It does not
    depend on the size of the image.

    Args:
        gram: Gram matrices of the generated images, [B, C, C].
        target: Gram matrices of the styles, [B, C, C] or [1, C, C].

    Returns:
        The loss of each image, [B], in the type of the arguments.

    Raises:
        InputError: Types or static shapes do not fit.
    """
    G = as_floating(gram, "gram", [None] * 3)
    A = as_floating(target, "target", [None] * 3)
    check_equal(G, A, "gram and target")
    channels = tf.cast(tf.shape(G)[-1], G.dtype)
    return tf.reduce_mean(tf.math.squared_difference(G, A), axis=[1, 2]) / tf.square(channels)

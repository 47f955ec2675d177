"""The loss terms of style transfer as pure functions of activations and pixels.

F and P are activations of one layer as the network gives them, [1, H, W, N]; G and A are Gram
matrices, [N, N]. F may be bfloat16; everything else is float32. The numbers of equations are those
of Gatys, Ecker and Bethge, "Image Style Transfer Using Convolutional Neural Networks" (CVPR 2016).
"""

import tensorflow as tf


def content_loss(F: tf.Tensor, P: tf.Tensor) -> tf.Tensor:
    """Mean squared difference of two activations (equation 1, as a mean instead of half a sum).

    The mean makes the weight of the term independent of the picture's size.

    Args:
        F: Activations of the generated picture, [1, H, W, N].
        P: Activations of the content picture, [1, H, W, N].

    Returns:
        A scalar.
    """
    return tf.reduce_mean(tf.math.squared_difference(tf.cast(F, tf.float32), P))


def gram_matrix(F: tf.Tensor, guide: tf.Tensor | None = None) -> tf.Tensor:
    """Gram matrix of the channels over all positions (equation 3, divided by their number).

    With a guide T, it is the guided Gram matrix of L. A. Gatys et al., "Controlling Perceptual
    Factors in Neural Style Transfer" (CVPR 2017), equation 6: F is multiplied by the guide at each
    position, and the sum of squares of the guide takes the place of the number of positions.

    Args:
        F: Activations, [1, H, W, N].
        guide: How much each position counts, [1, H, W, 1], at least 0 and not all 0.

    Returns:
        F^T F / (H W), or (T F)^T (T F) / sum(T^2); symmetric, [N, N].
    """
    F = tf.cast(F, tf.float32)
    if guide is not None:
        F = F * guide
    shape = tf.shape(F)
    positions = tf.cast(shape[1] * shape[2], tf.float32)
    F = tf.reshape(F, [shape[1] * shape[2], F.shape[-1]])
    weight = positions if guide is None else tf.reduce_sum(tf.square(guide))
    return tf.matmul(F, F, transpose_a=True) / weight


def style_loss(G: tf.Tensor, A: tf.Tensor) -> tf.Tensor:
    """Mean squared difference of two Gram matrices over N^2 (equation 4).

    Equation 4 divides the squared difference of unnormalised Gram matrices by 4 N^2 M^2. With the
    matrices already divided by the number of positions M, and a mean over the N^2 entries in place
    of the sum, this is the weighting 1/N^2 per layer of the authors' published code. It does not
    depend on the picture's size.

    Args:
        G: Gram matrix of the generated picture, [N, N].
        A: Gram matrix of the style, [N, N].

    Returns:
        A scalar.
    """
    channels = tf.cast(tf.shape(G)[-1], tf.float32)
    return tf.reduce_mean(tf.math.squared_difference(G, A)) / tf.square(channels)


def total_variation_loss(picture: tf.Tensor, exponent: int = 2) -> tf.Tensor:
    """Mean of a power of the differences of neighbouring pixels, across plus down.

    With exponent 2, the squared total variation of Mahendran and Vedaldi, "Understanding Deep Image
    Representations by Inverting Them" (CVPR 2015), section 3, which blurs edges and all; with 1,
    the anisotropic total variation of Rudin, Osher and Fatemi, "Nonlinear Total Variation Based
    Noise Removal Algorithms" (Physica D 60, 1992), which leaves edges and flattens what is between.
    A mean, so that its weight does not depend on the picture's size.

    Args:
        picture: RGB, [1, H, W, 3], with H and W at least 2.
        exponent: 1 or 2.

    Returns:
        A scalar in levels of [0, 255], or squared levels.
    """
    power = {1: tf.abs, 2: tf.square}[exponent]
    across = picture[:, :, 1:] - picture[:, :, :-1]
    down = picture[:, 1:] - picture[:, :-1]
    return tf.reduce_mean(power(across)) + tf.reduce_mean(power(down))

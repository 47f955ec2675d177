"""Content loss.

L. A. Gatys, A. S. Ecker and M. Bethge, "Image Style Transfer Using Convolutional Neural Networks"
(CVPR 2016).
"""

import tensorflow as tf

from nst_tf.losses.arguments import as_floating, check_equal


def content_loss(features: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
    """Mean squared difference of activations (equation 1, as a mean instead of half a sum).

    The mean makes the weight of the term independent of the size of the image.

    Args:
        features: Activations of the generated images, [B, H, W, C].
        target: Activations of the content images, [B, H, W, C] or [1, H, W, C].

    Returns:
        The loss of each image, [B], in the type of the arguments, at least float32.

    Raises:
        InputError: Types or static shapes do not fit.
    """
    F = as_floating(features, "features", [None] * 4)
    P = as_floating(target, "target", [None] * 4)
    check_equal(F, P, "features and target")
    return tf.reduce_mean(tf.math.squared_difference(F, P), axis=[1, 2, 3])

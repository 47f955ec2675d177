"""Temporal loss: how far an image is from what it should equal, pixel by pixel."""

import tensorflow as tf

from nst_tf.errors import InputError
from nst_tf.losses.arguments import as_floating, check_equal


def temporal_loss(image: tf.Tensor, expected: tf.Tensor, trust: tf.Tensor) -> tf.Tensor:
    """Mean over all pixels and channels of trust * (image - expected)^2.

    The short-term temporal consistency loss of M. Ruder, A. Dosovitskiy and T. Brox, "Artistic
    Style Transfer for Videos" (GCPR 2016), section 4.2. Pixels without trust count in the mean, so
    that a frame with few trusted pixels has a small loss.

    Args:
        image: [B, H, W, C].
        expected: What it is compared with, of the same shape or a batch of one.
        trust: The weight of each pixel, [B, H, W, 1] in [0, 1], or a batch of one.

    Returns:
        The loss of each image, [B], in squared units of the pixels.

    Raises:
        InputError: A type or a static shape is not allowed.
    """
    x = as_floating(image, "image", [None] * 4)
    w = as_floating(expected, "expected", [None] * 4)
    c = as_floating(trust, "trust", [None, None, None, 1])
    check_equal(x, w, "image and expected")
    if c.dtype != x.dtype or not c.shape[1:3].is_compatible_with(x.shape[1:3]):
        raise InputError(
            "image and trust do not fit together",
            f"they are {x.dtype.name} {x.shape} and {c.dtype.name} {c.shape}",
            "give trust in the image's type, height and width",
        )
    return tf.reduce_mean(c * tf.square(x - w), axis=[1, 2, 3])

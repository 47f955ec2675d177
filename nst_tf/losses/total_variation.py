"""Total variation of images."""

import tensorflow as tf

from nst_tf.errors import InputError
from nst_tf.losses.arguments import as_floating

POWERS = {1: tf.abs, 2: tf.square}


def total_variation_loss(image: tf.Tensor, exponent: int = 2) -> tf.Tensor:
    """Mean of a power of the differences of neighboring pixels, horizontal plus vertical.

    With exponent 2, the squared total variation of A. Mahendran and A. Vedaldi, "Understanding Deep
    Image Representations by Inverting Them" (CVPR 2015), section 3, which also blurs edges; with 1,
    the anisotropic total variation of L. Rudin, S. Osher and E. Fatemi, "Nonlinear Total Variation
    Based Noise Removal Algorithms" (Physica D 60, 1992), which keeps edges and flattens the rest.
    A mean, so that its weight does not depend on the size of the image.

    Args:
        image: [B, H, W, C], with H and W at least 2.
        exponent: 1 or 2.

    Returns:
        The loss of each image, [B], in units of the pixels to the power of `exponent`.

    Raises:
        InputError: The type, the static shape or the exponent is not allowed.
    """
    if exponent not in POWERS:
        raise InputError("exponent has a wrong value", f"it is {exponent}", "use 1 or 2")
    x = as_floating(image, "image", [None] * 4)
    if 1 in x.shape[1:3]:
        raise InputError("image has a wrong shape", f"it is {x.shape}", "give sides of at least 2")
    power = POWERS[exponent]
    horizontal = power(x[:, :, 1:] - x[:, :, :-1])
    vertical = power(x[:, 1:] - x[:, :-1])
    axes = [1, 2, 3]
    return tf.reduce_mean(horizontal, axis=axes) + tf.reduce_mean(vertical, axis=axes)

"""The grain of an image: statistics of its finest differences, in luminance and chroma.

Gram matrices of VGG19 leave the finest detail almost free: a result has pixel-sized noise, above
all in its colors, that neither image has. The statistics here see it. They are those of the local
jet, the image's derivatives at a point (J. J. Koenderink and A. J. van Doorn, "Representation of
Local Geometry in the Visual System", Biological Cybernetics 55, 1987), taken at the two finest
scales: second moments, which as in J. Portilla and E. P. Simoncelli, "A Parametric Texture Model
Based on Joint Statistics of Complex Wavelet Coefficients" (IJCV 40, 2000) are equivalent to a local
autocorrelation, and mean magnitudes, which tell a few sharp lines from noise everywhere.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from nst_tf.losses.arguments import as_floating, check_equal
from nst_tf.losses.gram import gram_matrix

_LUMINANCE_AND_CHROMA = np.array(
    [
        [0.299, 0.587, 0.114],
        [4 * -0.168736, 4 * -0.331264, 4 * 0.5],
        [4 * 0.5, 4 * -0.418688, 4 * -0.081312],
    ]
)
"""Y, 4 Cb and 4 Cr of ITU-R BT.601: in paintings, chroma varies about a quarter as finely."""

_SMOOTHING = 0.5
"""Gray levels below which a magnitude is nearly quadratic, and its gradient no longer jumps."""

_MAGNITUDES_SHARE = 10.0
"""The weight of magnitudes relative to moments, whose excess is squared once more."""


def _jet_filters() -> npt.NDArray[np.float64]:
    """Differences across, down, twice across, twice down and both, as `JET_FILTERS`."""
    none, first, second = [0.0, 1.0, 0.0], [0.0, -1.0, 1.0], [0.5, -1.0, 0.5]
    pairs = [(none, first), (first, none), (none, second), (second, none), (second, second)]
    differences = np.stack([np.outer(down, across) for down, across in pairs], axis=-1)
    filters: npt.NDArray[np.float64] = np.einsum(
        "hwd,cr->hwrcd", differences, _LUMINANCE_AND_CHROMA
    )
    return np.reshape(filters, (3, 3, 3, -1))


JET_FILTERS = _jet_filters()
"""From RGB to five differences of Y, of 4 Cb and of 4 Cr, [3, 3, 3, 15]."""

_ROUNDING = float(np.sum(JET_FILTERS**2) / 12.0)
"""The sum of the second moments that rounding to integers alone leaves in all differences."""

_BINOMIAL = np.outer([0.25, 0.5, 0.25], [0.25, 0.5, 0.25])
_HALVING = np.einsum("hw,io->hwio", _BINOMIAL, np.eye(3))
"""Smooths each channel before every second pixel is taken, [3, 3, 3, 3]."""


class Grain(NamedTuple):
    """Statistics at one size, means over positions.

    Attributes:
        moments: Second moments of the 15 differences, [B, 15, 15].
        magnitudes: Their mean magnitudes, [B, 15].
    """

    moments: tf.Tensor
    magnitudes: tf.Tensor


def jets(image: tf.Tensor) -> tuple[tf.Tensor, ...]:
    """First and second differences of neighboring pixels, with the border repeated.

    Args:
        image: RGB in [0, 255], [B, H, W, 3], of any size.

    Returns:
        The differences at each pixel, [B, H, W, 15], and those of the image at half size, rounded
        up, [B, h, w, 15], in gray levels, in the type of the image, at least float32.

    Raises:
        InputError: Types or static shapes do not fit.
    """
    x = as_floating(image, "image", [None, None, None, 3])
    halved = tf.nn.conv2d(_bordered(x), tf.constant(_HALVING, x.dtype), 2, "VALID")
    filters = tf.constant(JET_FILTERS, x.dtype)
    return tuple(tf.nn.conv2d(_bordered(each), filters, 1, "VALID") for each in (x, halved))


def jet_statistics(differences: tf.Tensor, mask: tf.Tensor | None = None) -> Grain:
    """Second moments and mean magnitudes of the differences of one size.

    Args:
        differences: One of `jets`, [B, H, W, 15].
        mask: The weight of each position, squared as in `gram_matrix`, [B, H, W, 1] or
            [1, H, W, 1].

    Returns:
        The statistics, means over positions.

    Raises:
        InputError: Types or static shapes do not fit.
    """
    d = as_floating(differences, "differences", [None, None, None, JET_FILTERS.shape[-1]])
    return Grain(gram_matrix(d, mask), _magnitudes(d, mask))


def grain_loss(grain: Grain, target: Grain) -> tf.Tensor:
    """How far the grain of an image exceeds that of a style at one size, relative to the style's.

    It is one-sided: no noise is added where a style's file has more of it than the image. For the
    second moments M and A, it is the squared distance of M from the matrices that A exceeds: with D
    = M - A, the sum of the squares of D's positive eigenvalues.

    Args:
        grain: Statistics of the generated images.
        target: Those of the styles, also of a batch of 1.

    Returns:
        The loss of each image, [B], in the type of the arguments; 0 where the grain of the style is
        not exceeded.

    Raises:
        InputError: Types or static shapes do not fit.
    """
    check_equal(grain.moments, target.moments, "grain and target")
    norm = tf.norm(target.moments, axis=[1, 2]) + _ROUNDING
    excess = tf.square(tf.nn.relu(grain.magnitudes - target.magnitudes))
    size = tf.reduce_sum(tf.square(target.magnitudes), axis=1) + _ROUNDING
    moments = _positive_part(grain.moments - target.moments) / tf.square(norm)
    return moments + _MAGNITUDES_SHARE * tf.reduce_sum(excess, axis=1) / size


def _bordered(x: tf.Tensor) -> tf.Tensor:
    """Repeats the border, for 3 x 3 filters."""
    return tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]], "SYMMETRIC")


def _magnitudes(differences: tf.Tensor, mask: tf.Tensor | None) -> tf.Tensor:
    smooth = tf.sqrt(tf.square(differences) + _SMOOTHING**2) - _SMOOTHING
    if mask is None:
        return tf.reduce_mean(smooth, axis=[1, 2])
    weight = tf.square(tf.cast(mask, smooth.dtype))
    return tf.reduce_sum(weight * smooth, axis=[1, 2]) / tf.reduce_sum(weight, axis=[1, 2])


def _positive_part(D: tf.Tensor) -> tf.Tensor:
    """The sum of squares of the positive eigenvalues of symmetric matrices, [B, N, N] to [B].

    Its gradient is twice the positive part P of D. With P held constant, 2 <P, D> - <P, P> has the
    same value and gradient, and none of the divisions by differences of eigenvalues with which
    TensorFlow differentiates them.
    """
    # What is not finite reaches the value by <P, D>; eigenvalues of it would be an exception.
    values, vectors = tf.linalg.eigh(tf.stop_gradient(tf.where(tf.math.is_finite(D), D, 0.0)))
    scaled = vectors * tf.nn.relu(values)[:, tf.newaxis, :]
    P = tf.stop_gradient(tf.matmul(scaled, vectors, transpose_b=True))
    return tf.reduce_sum(2.0 * P * D - tf.square(P), axis=[1, 2])

"""Activations compared with their nearest neighbors among those of the style.

N. Kolkin, M. Kucera, S. Paris, D. Sykora, E. Shechtman and G. Shakhnarovich, "Neural Neighbor Style
Transfer" (arXiv:2203.13215, 2022). The principle, for patches of activations, is that of C. Li and
M. Wand, "Combining Markov Random Fields and Convolutional Neural Networks for Image Synthesis"
(CVPR 2016).
"""

from typing import NamedTuple

import tensorflow as tf

from nst_tf.losses.arguments import as_floating, check_equal
from nst_tf.losses.positions import weighted_positions

_SCALE = 11.0
"""Makes the gradient as large as that of the Gram loss.

Geometric mean of three pairs of images at 256 px, from the picture that AdaIN makes, over the five
layers of the normalized VGG19.
"""

_POSITIONS = 65536
_CANDIDATES = 2048
_CHUNK = 2048
_GOLDEN_RATIO = 0.6180339887498949


class Positions(NamedTuple):
    """A sample of positions.

    Attributes:
        features: Their activations, [B, 1, n, C].
        weights: How much each counts, [B, 1, n, 1] or [1, 1, n, 1]; they sum to 1.
    """

    features: tf.Tensor
    weights: tf.Tensor


def sampled_positions(features: tf.Tensor, mask: tf.Tensor | None = None) -> Positions:
    """Takes all positions, or 65536 of them where there are more.

    The sample is one of each of 65536 runs of equal length. Which one changes from run to run by
    the golden ratio, so that the sample has no period that would be seen in an image.

    Args:
        features: Activations, [B, H, W, C].
        mask: [B, H, W, 1] or [1, H, W, 1], at least 0 and not 0 everywhere. A position counts with
            the square of its mask, as in `gram_matrix`.

    Returns:
        The positions, in the type of the activations, at least float32.

    Raises:
        InputError: Types or static shapes do not fit.
    """
    F, weights = weighted_positions(features, mask)
    total = tf.shape(F)[1]
    if weights is None:
        weights = tf.ones([1, total], F.dtype)
    rows = _spread(total, tf.minimum(total, _POSITIONS))
    F = tf.gather(F, rows, axis=1)
    weights = tf.gather(weights, rows, axis=1)
    weights /= tf.reduce_sum(weights, axis=1, keepdims=True)
    return Positions(F[:, tf.newaxis], weights[:, tf.newaxis, :, tf.newaxis])


def nearest_neighbor_loss(positions: Positions, target: Positions) -> tf.Tensor:
    """Mean cosine distance from each position to the nearest one of the style, times 11 / C^2.

    Activations are centered before, since those after a ReLU point in similar directions. The paper
    centers those of each image at their own mean; here the style's mean serves both, so that an
    image with another mean has a loss. C^2 weights layers as `gram_loss` does, and with the factor
    the gradient is about as large as there.

    The search has no gradient. Its work and memory are bounded: 2048 positions at a time are
    compared with 2048 at most of the style, which are evenly spread over those that its mask shows.

    Args:
        positions: Those of the generated images.
        target: Those of the styles, with the same batch or a batch of 1.

    Returns:
        The loss of each image, [B], in the type of the arguments.

    Raises:
        InputError: Types or static shapes do not fit.
    """
    F, weights = _checked(positions, "positions")
    S, shown = _checked(target, "target")
    check_equal(F[:, :, :1], S[:, :, :1], "positions and target")
    center = tf.reduce_sum(S * shown, axis=2, keepdims=True)
    x = tf.math.l2_normalize(F - center, axis=-1)[:, 0]
    y = tf.math.l2_normalize(_candidates(S, shown) - center, axis=-1)[:, 0]
    nearest = tf.gather(
        tf.broadcast_to(y, [tf.shape(x)[0], *tf.unstack(tf.shape(y))[1:]]),
        _nearest(tf.stop_gradient(x), y),
        batch_dims=1,
    )
    # 1 - cos, of unit vectors.
    distances = tf.reduce_sum(tf.math.squared_difference(x, nearest), axis=-1) / 2
    scale = _SCALE / tf.square(tf.cast(tf.shape(x)[-1], x.dtype))
    return scale * tf.reduce_sum(distances * weights[:, 0, :, 0], axis=1)


def _checked(positions: Positions, name: str) -> Positions:
    return Positions(
        as_floating(positions[0], f"the activations of {name}", [None, 1, None, None]),
        as_floating(positions[1], f"the weights of {name}", [None, 1, None, 1]),
    )


def _spread(total: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
    """Chooses `count` of the numbers below `total` in ascending order, one of each equal run."""
    run = tf.cast(tf.range(count), tf.float64)
    within = tf.math.floormod(run * _GOLDEN_RATIO, 1.0)
    length = tf.cast(total, tf.float64) / tf.cast(count, tf.float64)
    return tf.minimum(tf.cast((run + within) * length, tf.int32), total - 1)


def _candidates(S: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """Takes 2048 positions at most, [B, 1, n, C], of those that have a weight."""
    count = tf.minimum(tf.shape(S)[2], _CANDIDATES)
    shown = tf.cumsum(tf.cast(weights[:, 0, :, 0] > 0, tf.int32), axis=1)
    # The number of each candidate among those shown, from 1; some twice where few are shown.
    numbers = 1 + tf.map_fn(lambda all_shown: _spread(all_shown, count), shown[:, -1])
    rows = tf.searchsorted(shown, numbers)
    rows = tf.broadcast_to(rows, [tf.shape(S)[0], count])
    return tf.gather(S[:, 0], rows, batch_dims=1)[:, tf.newaxis]


def _nearest(x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """Finds the row of y, [B or 1, n, C], with the largest product for each of x: [B, m]."""
    total = tf.shape(x)[1]

    def of_chunk(start: tf.Tensor) -> tf.Tensor:
        rows = tf.minimum(start + tf.range(_CHUNK), total - 1)
        products = tf.matmul(tf.gather(x, rows, axis=1), y, transpose_b=True)
        return tf.argmax(products, axis=-1, output_type=tf.int32)

    starts = tf.range(0, total, _CHUNK)
    found = tf.map_fn(of_chunk, starts, parallel_iterations=1)
    return tf.reshape(tf.transpose(found, [1, 0, 2]), [tf.shape(x)[0], -1])[:, :total]

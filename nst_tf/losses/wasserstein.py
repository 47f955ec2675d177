"""Mean and covariance of activations, compared by the 2-Wasserstein distance of Gaussians.

The distance is derived in D. C. Dowson and B. V. Landau, "The Frechet Distance between Multivariate
Normal Distributions" (Journal of Multivariate Analysis 12, 1982), and in I. Olkin and
F. Pukelsheim, "The Distance between Two Random Vectors with Given Dispersion Matrices" (Linear
Algebra and its Applications 48, 1982).
"""

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from nst_tf.losses.arguments import as_floating, check_equal
from nst_tf.losses.gram import gram_matrix

_SCALE = 2.5
"""Makes the gradient as large as that of the Gram loss.

Geometric mean of three pairs of images at 256 px, from the picture that AdaIN makes, over the five
layers of the normalized VGG19.
"""

_RIDGE = 1e-3
"""Variance that is added to every channel, relative to the mean square of the style's activations.

It is above the rounding of moments in float32, and keeps the gradient finite where there are fewer
positions than channels.
"""

_SMALLEST = 1e-30
"""The least ridge, for styles whose activations are all zero."""


class RawMoments(NamedTuple):
    """Moments of activations about zero, which are means over positions.

    Attributes:
        mean: [B, C].
        second: The mean product of each pair of channels, [B, C, C].
    """

    mean: tf.Tensor
    second: tf.Tensor


def raw_moments(features: tf.Tensor, mask: tf.Tensor | None = None) -> RawMoments:
    """First and second moments of the channels over all positions.

    Args:
        features: Activations, [B, H, W, C].
        mask: [B, H, W, 1] or [1, H, W, 1], at least 0 and not 0 everywhere. A position counts with
            the square of its mask, as in `gram_matrix`.

    Returns:
        The moments, in the type of the activations, at least float32.

    Raises:
        InputError: Types or static shapes do not fit.
    """
    second = gram_matrix(features, mask)
    F = as_floating(features, "features", [None] * 4)
    if mask is not None:
        T = tf.square(tf.cast(mask, F.dtype))
        F = F * (T / tf.reduce_mean(T, axis=[1, 2], keepdims=True))
    # Row by row, as a float32 sum over 700,000 positions at once loses two digits.
    return RawMoments(tf.reduce_mean(tf.reduce_mean(F, axis=2), axis=1), second)


def gaussian_wasserstein_loss(moments: RawMoments, target: RawMoments) -> tf.Tensor:
    """Squared 2-Wasserstein distance of the Gaussians with these moments, times 2.5 / C^3.

    ``|m - m_t|^2 + tr(S + S_t - 2 (S_t^1/2 S S_t^1/2)^1/2)`` with means m and covariances S, to
    both of which 1e-3 of the target's mean square is added on the diagonal. It is computed in
    float64: the eigenvalues under the root span the square of the covariances' range, more than
    float32 resolves. One C makes a mean over channels, C^2 weights layers as `gram_loss` does, and
    with the factor 2.5 the gradient is about as large as there.

    Args:
        moments: Those of the generated images.
        target: Those of the styles, with the same batch or a batch of 1. No gradient is computed
            with respect to them.

    Returns:
        The loss of each image, [B], in the type of the arguments.

    Raises:
        InputError: Types or static shapes do not fit.
    """
    m, second = _checked(moments, "moments")
    m_t, second_t = map(tf.stop_gradient, _checked(target, "target"))
    check_equal(m, m_t, "the means of moments and target")
    check_equal(second, second_t, "the second moments of moments and target")
    dtype = m.dtype
    m, second, m_t, second_t = (tf.cast(x, tf.float64) for x in (m, second, m_t, second_t))
    channels = tf.cast(tf.shape(m)[-1], tf.float64)
    ridge = tf.maximum(_RIDGE * tf.linalg.trace(second_t) / channels, _SMALLEST)
    S = _covariance(m, second, ridge)
    S_t = _covariance(m_t, second_t, ridge)
    distance = (
        tf.reduce_sum(tf.math.squared_difference(m, m_t), axis=-1)
        + tf.linalg.trace(S)
        + tf.linalg.trace(S_t)
        - 2 * _trace_of_root(S, _factor(S_t, ridge), tf.square(ridge / 2))
    )
    return tf.cast(_SCALE * distance / channels**3, dtype)


def _checked(moments: RawMoments, name: str) -> RawMoments:
    return RawMoments(
        as_floating(moments[0], f"the mean of {name}", [None] * 2),
        as_floating(moments[1], f"the second moment of {name}", [None] * 3),
    )


def _covariance(mean: tf.Tensor, second: tf.Tensor, ridge: tf.Tensor) -> tf.Tensor:
    S = second - mean[:, :, tf.newaxis] * mean[:, tf.newaxis]
    return S + ridge[:, tf.newaxis, tf.newaxis] * tf.eye(tf.shape(mean)[-1], dtype=S.dtype)


def _factor(S: tf.Tensor, least: tf.Tensor) -> tf.Tensor:
    """Computes L with L L^T = S, [B, C, C], where S has no eigenvalue below `least`, [B]."""

    def of_any() -> tf.Tensor:
        values, vectors = tf.linalg.eigh(S)
        return vectors * tf.sqrt(tf.maximum(values, least[:, tf.newaxis]))[:, tf.newaxis]

    L = tf.linalg.cholesky(S)
    # Of a picture of one color S is all rounding, which can exceed the ridge.
    return tf.cond(tf.reduce_all(tf.math.is_finite(L)), lambda: L, of_any)


def _trace_of_root(S: tf.Tensor, factor: tf.Tensor, least: tf.Tensor) -> tf.Tensor:
    """tr((S_t^1/2 S S_t^1/2)^1/2) for S_t = L L^T, differentiated with respect to S.

    S_t^1/2 S S_t^1/2 and L^T S L have the same eigenvalues. The gradient is half of the linear map
    L (L^T S L)^-1/2 L^T, which transports one Gaussian to the other; unlike the gradient of an
    eigendecomposition it is finite where eigenvalues are equal.

    Args:
        S: [B, C, C].
        factor: L, [B, C, C] or [1, C, C].
        least: What no eigenvalue under the root is below but for rounding, [B] or [1].

    Returns:
        The trace, [B].
    """

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def trace(S: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
        values, vectors = tf.linalg.eigh(tf.matmul(factor, tf.matmul(S, factor), transpose_a=True))
        roots = tf.sqrt(tf.maximum(values, least[:, tf.newaxis]))

        def gradient(upstream: tf.Tensor) -> tf.Tensor:
            axes = tf.matmul(factor, vectors)
            transport = tf.matmul(axes / roots[:, tf.newaxis], axes, transpose_b=True)
            return upstream[:, tf.newaxis, tf.newaxis] / 2 * transport

        return tf.reduce_sum(roots, axis=-1), gradient

    traced: tf.Tensor = trace(S)
    return traced

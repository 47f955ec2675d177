"""Color control: color transfer between images, luminance and chroma.

L. A. Gatys, M. Bethge, A. Hertzmann and E. Shechtman, "Preserving Color in Neural Artistic Style
Transfer" (arXiv 1606.05897, 2016).
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from nst_tf.image.arrays import PIXEL_RANGE, ImageArray

Mode = Literal["none", "luminance", "histogram", "match"]

LUMINANCE_WEIGHTS = (0.299, 0.587, 0.114)
"""Weights of R, G and B in the luminance Y (ITU-R BT.601)."""

_ROUNDING_VARIANCE = 1 / 12
"""Variance of the error of rounding to integers."""


def prepare(
    mode: Mode, content: ImageArray, styles: Sequence[ImageArray]
) -> tuple[ImageArray, list[ImageArray]]:
    """Transforms the colors of the input images before the optimization.

    Args:
        mode: "none" changes nothing. "luminance" replaces all images by their luminance and gives
            that of each style the mean and standard deviation of the content's. "histogram" matches
            the histogram of each channel of each style to the content's, independently. "match"
            maps the colors of each style linearly to the mean and covariance of the content's.
        content: RGB [H, W, 3] in [0, 255].
        styles: RGB [h, w, 3] in [0, 255], each of its own size.

    Returns:
        The content and the styles in their sizes, RGB in [0, 255]; values that "luminance" or
        "match" would move outside are clipped. With "luminance" the three channels are equal.
    """
    if mode == "luminance":
        luminance = _luminance(content)
        matched = [match_color_moments(_luminance(style), luminance) for style in styles]
        return _gray(luminance), [_gray(style) for style in matched]
    if mode == "histogram":
        return content, [_match_histogram(style, content) for style in styles]
    if mode == "match":
        return content, [match_color_moments(style, content) for style in styles]
    return content, list(styles)


def to_luminance(image: ImageArray) -> ImageArray:
    """Replaces each channel by the luminance Y of YIQ.

    Args:
        image: RGB [H, W, 3] in [0, 255].

    Returns:
        [H, W, 3] in [0, 255], three equal channels.
    """
    return _gray(_luminance(image))


def restore_chroma(image: ImageArray, content: ImageArray) -> ImageArray:
    """Combines the luminance of an image with the chroma of the content.

    Where the sum lies outside [0, 255], the chroma (I and Q of YIQ) is scaled down and nothing is
    clipped, so that the luminance of `image` and the hue of `content` are kept.

    Args:
        image: RGB [H, W, 3]; values outside [0, 255] are clipped first.
        content: RGB [H, W, 3] in [0, 255].

    Returns:
        RGB [H, W, 3] in [0, 255].
    """
    luminance = _luminance(image)
    chroma = content - _luminance(content)
    size = np.abs(chroma)
    limit = np.where(chroma > 0, np.float32(PIXEL_RANGE[1]) - luminance, luminance)
    scale = np.divide(limit, size, out=np.ones_like(limit), where=size > limit)
    return _clip(luminance + scale.min(axis=2, keepdims=True) * chroma)


def match_color_moments(image: ImageArray, reference: ImageArray) -> ImageArray:
    """Maps the colors of an image linearly to the mean and covariance of a reference's.

    p -> A (p - mean of image) + mean of reference, with A = C^(1/2) S^(-1/2), where S and C are
    the covariances of the image and of the reference: the form that the paper takes from "Image
    Analogies" (Hertzmann et al. 2001). Symmetric roots, unlike Cholesky factors, do not depend on
    the order of the channels. With one channel it is the paper's matching of luminance. Where the
    image varies along an axis by less than the error of rounding, that error is its variance.

    Args:
        image: [H, W, N] in [0, 255].
        reference: [h, w, N] in [0, 255].

    Returns:
        [H, W, N], clipped to [0, 255].
    """
    mean, covariance = _moments(image)
    reference_mean, reference_covariance = _moments(reference)
    A = _root(reference_covariance) @ np.linalg.inv(_root(covariance, least=_ROUNDING_VARIANCE))
    mapped = (image - mean.astype(np.float32)) @ A.T.astype(np.float32)
    return _clip(mapped + reference_mean.astype(np.float32))


def _luminance(image: ImageArray) -> ImageArray:
    """Returns the luminance, [H, W, 1] in [0, 255]."""
    return _clip((image @ np.array(LUMINANCE_WEIGHTS, np.float32))[:, :, np.newaxis])


def _gray(channel: ImageArray) -> ImageArray:
    """Repeats one channel, [H, W, 1] to [H, W, 3]."""
    return np.repeat(channel, 3, axis=2)


def _clip(image: ImageArray) -> ImageArray:
    clipped: ImageArray = np.clip(image, *PIXEL_RANGE)
    return clipped


def _match_histogram(style: ImageArray, content: ImageArray) -> ImageArray:
    """Matches the histogram of each channel of a style to the content's."""
    from skimage.exposure import match_histograms  # slow to import, and seldom needed

    matched: ImageArray = match_histograms(style, content, channel_axis=-1)
    return matched


def _moments(image: ImageArray) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Returns the mean [N] and the covariance [N, N] of the pixels [H, W, N]."""
    mean = image.mean(axis=(0, 1), dtype=np.float64)
    deviation = image - mean.astype(np.float32)
    products = np.einsum("hwi,hwj->ij", deviation, deviation, dtype=np.float64)
    return mean, products / (image.shape[0] * image.shape[1])


def _root(covariance: npt.NDArray[np.float64], least: float = 0.0) -> npt.NDArray[np.float64]:
    """Returns the symmetric root, with all variances (eigenvalues) raised to `least`."""
    variances, axes = np.linalg.eigh(covariance)
    root: npt.NDArray[np.float64] = axes * np.sqrt(np.maximum(variances, least)) @ axes.T
    return root

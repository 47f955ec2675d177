"""The content's own colours in the result: what is done to pictures before and after stylising.

L. A. Gatys, M. Bethge, A. Hertzmann and E. Shechtman, "Preserving Color in Neural Artistic Style
Transfer" (arXiv 1606.05897, 2016).
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from nst_tf.image.arrays import ImageArray

Mode = Literal["none", "luminance", "histogram", "match"]

_LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)  # of R, G and B, ITU-R BT.601
_WHITE = 255.0

_ROUNDING = 1 / 12
"""The variance that rounding to 8 bits makes by itself."""


def prepare(
    mode: Mode, content: ImageArray, styles: Sequence[ImageArray]
) -> tuple[ImageArray, list[ImageArray]]:
    """Makes of the pictures given those that are worked with.

    Args:
        mode: "none" leaves the pictures as they are. "luminance" takes their luminance, and gives
            that of each style the mean and the deviation of the content's. "histogram" gives each
            channel of each style the histogram of the content's, and knows nothing of how channels
            go together. "match" maps the colours of each style linearly to the mean and the
            covariance of the content's.
        content: RGB [H, W, 3] in [0, 255].
        styles: The same, each of its own size.

    Returns:
        The content and the styles, each of its size before, RGB in [0, 255]; what "luminance" or
        "match" would take beyond is clipped. With "luminance", the three channels are equal.
    """
    if mode == "luminance":
        luminance = _luminance(content)
        adjusted = [matched(_luminance(style), luminance) for style in styles]
        return _grey(luminance), [_grey(style) for style in adjusted]
    if mode == "histogram":
        return content, [_with_histogram(style, content) for style in styles]
    if mode == "match":
        return content, [matched(style, content) for style in styles]
    return content, list(styles)


def reduce(mode: Mode, picture: ImageArray) -> ImageArray:
    """Reduces a picture to the part of it that is stylised, which is the part that has a loss.

    Args:
        mode: As for `prepare`.
        picture: RGB [H, W, 3] in [0, 255], such as a start, or a result that was saved.

    Returns:
        With "luminance", the luminance in three equal channels; otherwise the picture.
    """
    return _grey(_luminance(picture)) if mode == "luminance" else picture


def project(mode: Mode, gradient: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    """Projects a gradient on the pictures that are allowed.

    The network does not treat the three channels alike. Without this, an optimiser would paint in
    colours what is to be a luminance.

    Args:
        mode: As for `prepare`.
        gradient: Of the loss at a picture that `reduce` leaves as it is, [H, W, 3].

    Returns:
        With "luminance", the mean over the channels in each of them: the gradient of the loss among
        the pictures of three equal channels. Otherwise the gradient.
    """
    return _grey(gradient.mean(axis=2, keepdims=True)) if mode == "luminance" else gradient


def restore(mode: Mode, content: ImageArray, picture: ImageArray) -> ImageArray:
    """Gives a stylised picture the content's colours, where `prepare` took them away.

    The sum of luminance and chroma can lie outside what RGB can hold. Such a colour is made paler,
    not clipped: so the picture has the luminance that was optimised, and the content's hues.

    Args:
        mode: As for `prepare`.
        content: The content in its colours, RGB [H, W, 3] in [0, 255].
        picture: What came of what `prepare` made, RGB, [H, W, 3].

    Returns:
        With "luminance", the luminance of `picture` with as much of the content's chroma, I and Q
        of YIQ, as stays in [0, 255]; RGB [H, W, 3]. Otherwise `picture`.
    """
    if mode != "luminance":
        return picture
    luminance = _luminance(picture)
    chroma = content - _luminance(content)
    size = np.abs(chroma)
    room = np.where(chroma > 0, np.float32(_WHITE) - luminance, luminance)
    share = np.divide(room, size, out=np.ones_like(room), where=size > room)
    return _clipped(luminance + share.min(axis=2, keepdims=True) * chroma)


def matched(picture: ImageArray, like: ImageArray) -> ImageArray:
    """Maps a picture's pixels to the mean and the covariance of another's, over any channels.

    The paper's linear map, p -> A (p - mean of picture) + mean of the other, with the A it takes
    from "Image Analogies" (Hertzmann et al. 2001): C^(1/2) S^(-1/2), where S
    and C are the covariances of the picture and of the other. With symmetric roots, unlike
    Cholesky's triangular ones, the order of the channels does not matter. In one channel it is the
    paper's matching of luminance. Along an axis where the picture varies by less than rounding
    does, there is nothing to be spread.

    Args:
        picture: [H, W, N] in [0, 255].
        like: Whose colours it shall have, [h, w, N] in [0, 255].

    Returns:
        The picture in those colours, [H, W, N]; what would lie beyond [0, 255] is clipped.
    """
    mean, covariance = _moments(picture)
    wanted_mean, wanted_covariance = _moments(like)
    A = _root(wanted_covariance) @ np.linalg.inv(_root(covariance, least=_ROUNDING))
    moved = (picture - mean.astype(np.float32)) @ A.T.astype(np.float32)
    return _clipped(moved + wanted_mean.astype(np.float32))


def _luminance(picture: ImageArray) -> ImageArray:
    """Returns the luminance, [H, W, 1] in [0, 255]."""
    return _clipped((picture @ _LUMINANCE)[:, :, np.newaxis])


def _grey(channel: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    """Repeats one channel, [H, W, 1] to [H, W, 3]."""
    return np.repeat(channel, 3, axis=2)


def _clipped(picture: ImageArray) -> ImageArray:
    clipped: ImageArray = np.clip(picture, 0, np.float32(_WHITE))
    return clipped


def _with_histogram(style: ImageArray, content: ImageArray) -> ImageArray:
    """Gives each channel of a style the histogram of the content's."""
    from skimage.exposure import match_histograms  # slow to import, and seldom needed

    matched: ImageArray = match_histograms(style, content, channel_axis=-1)
    return matched


def _moments(
    picture: ImageArray,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Returns the mean [N] and the covariance [N, N] of pixels [H, W, N]."""
    mean = picture.mean(axis=(0, 1), dtype=np.float64)
    deviation = picture - mean.astype(np.float32)
    products = np.einsum("hwi,hwj->ij", deviation, deviation, dtype=np.float64)
    return mean, products / (picture.shape[0] * picture.shape[1])


def _root(covariance: npt.NDArray[np.float64], least: float = 0.0) -> npt.NDArray[np.float64]:
    """Returns the symmetric root, with no variance along any axis taken as less than `least`."""
    variances, axes = np.linalg.eigh(covariance)
    root: npt.NDArray[np.float64] = axes * np.sqrt(np.maximum(variances, least)) @ axes.T
    return root

"""Resampling of images, and the shapes that follow from a length in pixels."""

from collections.abc import Callable

import numpy as np
from PIL import Image as Pillow
from PIL import ImageOps

from nst_tf.image.arrays import PIXEL_RANGE, ImageArray


def resized_shape(shape: tuple[int, int], longer_side: int) -> tuple[int, int]:
    """Scales a shape, keeping its aspect to the nearest pixel.

    Args:
        shape: Height and width, each at least 1.
        longer_side: The longer side wanted, at least 1.

    Returns:
        Height and width, each at least 1, the longer one `longer_side`.
    """
    longest = max(shape)
    height, width = (max(1, (2 * side * longer_side + longest) // (2 * longest)) for side in shape)
    return height, width


def resize(picture: ImageArray, shape: tuple[int, int]) -> ImageArray:
    """Resamples with Lanczos' filter in floating point.

    Args:
        picture: RGB [H, W, 3] in [0, 255].
        shape: Height and width wanted, each at least 1.

    Returns:
        RGB [*shape, 3] in [0, 255], clipped where the filter overshoots.
    """
    size = shape[1], shape[0]
    return _per_channel(picture, lambda channel: channel.resize(size, Pillow.Resampling.LANCZOS))


def cover(picture: ImageArray, shape: tuple[int, int]) -> ImageArray:
    """Resizes to fill a shape, keeping the aspect and cutting off equally what stands out.

    Args:
        picture: RGB [H, W, 3] in [0, 255].
        shape: Height and width wanted, each at least 1.

    Returns:
        RGB [*shape, 3] in [0, 255].
    """
    size = shape[1], shape[0]
    return _per_channel(picture, lambda c: ImageOps.fit(c, size, Pillow.Resampling.LANCZOS))


def _per_channel(picture: ImageArray, change: Callable[[Pillow.Image], Pillow.Image]) -> ImageArray:
    """Applies a Pillow operation in mode "F", which resamples RGB only in 8 bits."""
    planes = np.moveaxis(picture, 2, 0).astype(np.float32)
    changed = [np.asarray(change(Pillow.fromarray(plane))) for plane in planes]
    clipped: ImageArray = np.clip(np.stack(changed, axis=-1), *PIXEL_RANGE)
    return clipped

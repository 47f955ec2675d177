"""Resampling of images, and the shape that follows from the length of the longer side."""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageOps

from nst_tf.image.arrays import PIXEL_RANGE, ImageArray


def resized_shape(shape: tuple[int, int], longer_side: int) -> tuple[int, int]:
    """Scales a shape, keeping its aspect to the nearest pixel.

    Args:
        shape: Height and width, each at least 1.
        longer_side: The longer side of the result, at least 1.

    Returns:
        Height and width, each at least 1, the longer one `longer_side`.
    """
    longest = max(shape)
    height, width = (max(1, (2 * side * longer_side + longest) // (2 * longest)) for side in shape)
    return height, width


def fitted_side(shape: tuple[int, int], rectangle: tuple[int, int]) -> int:
    """Scales a shape to the largest size that fits into a rectangle, which may be turned.

    Args:
        shape: Height and width, each at least 1.
        rectangle: Its longer and its shorter side, each at least 1.

    Returns:
        The longer side of the result, to the nearest pixel: `resized_shape` with it fits.
    """
    longest, shortest = max(shape), min(shape)
    longer, shorter = rectangle
    return min(longer, (2 * shorter * longest + shortest) // (2 * shortest))


def resize(image: ImageArray, shape: tuple[int, int]) -> ImageArray:
    """Resamples with a Lanczos filter (a = 3) in floating point.

    Args:
        image: RGB [H, W, 3] in [0, 255].
        shape: Height and width of the result, each at least 1.

    Returns:
        RGB [*shape, 3] in [0, 255], clipped where the filter overshoots; the image itself where it
        has that shape.
    """
    if image.shape[:2] == shape:
        return image
    size = shape[1], shape[0]
    return _per_channel(image, shape, lambda c: c.resize(size, Image.Resampling.LANCZOS))


def reduce(image: ImageArray, shape: tuple[int, int]) -> ImageArray:
    """Resamples an image that is larger than a shape, as `resize` does.

    Args:
        image: RGB [H, W, 3] in [0, 255].
        shape: Height and width, each at least 1.

    Returns:
        RGB [*shape, 3] in [0, 255]; the image itself where neither side is longer.
    """
    larger = image.shape[0] > shape[0] or image.shape[1] > shape[1]
    return resize(image, shape) if larger else image


def cover(image: ImageArray, shape: tuple[int, int]) -> ImageArray:
    """Scales to cover a shape, keeping the aspect, and crops the excess equally on both sides.

    Args:
        image: RGB [H, W, 3] in [0, 255].
        shape: Height and width of the result, each at least 1.

    Returns:
        RGB [*shape, 3] in [0, 255].
    """
    size = shape[1], shape[0]
    return _per_channel(image, shape, lambda c: ImageOps.fit(c, size, Image.Resampling.LANCZOS))


def _per_channel(
    image: ImageArray, shape: tuple[int, int], change: Callable[[Image.Image], Image.Image]
) -> ImageArray:
    """Applies a Pillow operation in mode "F", which resamples RGB only in 8 bits.

    Channel by channel into the result, as large images fill the memory.
    """
    result = np.empty((*shape, image.shape[2]), np.float32)
    for number in range(image.shape[2]):
        plane = np.ascontiguousarray(image[:, :, number], np.float32)
        changed = np.asarray(change(Image.fromarray(plane)))
        np.clip(changed, *PIXEL_RANGE, out=result[:, :, number])
    return result

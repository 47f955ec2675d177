"""Image arrays: their type, the range of a pixel, validation and rounding to integers."""

from typing import Any

import numpy as np
import numpy.typing as npt

from nst_tf.errors import InputError, NumericalError

ImageArray = npt.NDArray[np.float32]
"""RGB [H, W, 3] in [0, 255]."""

Pixels = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]
"""RGB [H, W, 3] in all the values of its integer type."""

PIXEL_RANGE = (0.0, 255.0)


def check_image(picture: npt.NDArray[Any], name: str) -> ImageArray:
    """Refuses what is not a picture.

    Args:
        picture: Of any type.
        name: What it is to be, for the message.

    Returns:
        RGB float32 in [0, 255], [H, W, 3].

    Raises:
        InputError: The array has another shape, or values out of range.
    """
    array = np.asarray(picture, dtype=np.float32)
    good = array.ndim == 3 and array.shape[2] == 3 and array.size > 0
    if not (good and np.isfinite(array).all() and array.min() >= 0 and array.max() <= 255):
        raise InputError(
            f"the {name} array is not a picture",
            f"it has shape {array.shape}"
            + (f" and values from {array.min():g} to {array.max():g}" if good else ""),
            "give RGB of shape [H, W, 3] with finite values in [0, 255]",
        )
    return array


def quantize(picture: npt.NDArray[np.floating], bit_depth: int = 8) -> Pixels:
    """Rounds to what a file can hold; the only place where a picture loses precision.

    Args:
        picture: Any shape; values outside [0, 255] are clipped.
        bit_depth: 8 or 16.

    Returns:
        The same shape, each value the nearest of 0 to 255 (ties to even), or with 16 bits, where
        65535 is 255, the nearest of 0 to 65535.

    Raises:
        NumericalError: Some value is NaN or infinite.
    """
    bad = picture.size - np.count_nonzero(np.isfinite(picture))
    if bad:
        raise NumericalError(
            "cannot round the picture",
            f"{bad} of its {picture.size} values are not finite",
            "lower style_weight or tv_weight, or use precision float32",
        )
    deep = bit_depth == 16
    rounded = np.rint(np.clip(picture, 0, 255) * (257 if deep else 1))
    pixels: Pixels = rounded.astype(np.uint16 if deep else np.uint8)
    return pixels


def from_integers(pixels: npt.NDArray[np.uint8] | npt.NDArray[np.uint16]) -> ImageArray:
    """Gives the values that a picture's integers stand for.

    Args:
        pixels: Any shape, of 8 or 16 bits.

    Returns:
        The same shape in [0, 255].
    """
    picture = pixels.astype(np.float32, order="C")
    if pixels.dtype == np.uint16:
        picture /= np.float32(257)
    return picture

"""Image arrays: their type and range, validation, conversion to and from integers."""

import numpy as np
import numpy.typing as npt

from nst_tf.errors import InputError, NumericalError

ImageArray = npt.NDArray[np.float32]
"""RGB [H, W, 3] in [0, 255]."""

Pixels = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]
"""RGB [H, W, 3] over the whole range of its integer type."""

PIXEL_RANGE = (0.0, 255.0)


def check_image(image: npt.ArrayLike, name: str) -> ImageArray:
    """Validates an image array.

    Args:
        image: RGB [H, W, 3] in [0, 255], of an integer or floating type.
        name: What the image is, for the message, as in "content".

    Returns:
        RGB float32 [H, W, 3] in [0, 255].

    Raises:
        InputError: The shape, the type or a value is not allowed, or a floating-point image looks
            as if its range were [0, 1]: no value is above 1, and not all are 0 or 1 (an image file
            that is almost black has these two).
    """
    array = np.asarray(image)
    expected = "give RGB of shape [H, W, 3] with finite values in [0, 255]"
    problem = f"it has shape {list(array.shape)}"
    if array.dtype.kind not in "iuf" and array.dtype.name != "bfloat16":
        raise _refusal(name, f"its type is {array.dtype}", expected)
    if array.ndim != 3 or array.shape[2] != 3 or array.size == 0:
        raise _refusal(name, problem, _remedy_for_shape(array.shape) or expected)
    is_floating = array.dtype.kind not in "iu"
    array = array.astype(np.float32, copy=False)
    low, high = float(array.min()), float(array.max())
    if not np.isfinite(array).all() or low < PIXEL_RANGE[0] or high > PIXEL_RANGE[1]:
        raise _refusal(name, f"{problem} and values from {low:g} to {high:g}", expected)
    if is_floating and high <= 1.0 and np.any(array % 1.0):
        why = f"its values, from {low:g} to {high:g}, look like the range [0, 1]"
        raise _refusal(name, why, "multiply by 255")
    return array


def _remedy_for_shape(shape: tuple[int, ...]) -> str:
    """Returns what to do about common shapes that are not [H, W, 3]; "" for others."""
    match shape:
        case (1, _, _, 3):
            return "remove the batch axis: give image[0]"
        case (_, _, _, 3):
            return "give one image of the batch, [H, W, 3]"
        case (_, _):
            return "repeat the channel: give numpy.stack([image] * 3, axis=-1)"
        case (_, _, 1):
            return "repeat the channel: give numpy.repeat(image, 3, axis=-1)"
        case (_, _, 4):
            return "remove the alpha channel: give image[:, :, :3]"
        case (3, _, _):
            return "move the channels last: give numpy.moveaxis(image, 0, -1)"
    return ""


def _refusal(name: str, why: str, remedy: str) -> InputError:
    return InputError(f"the {name} array is not an image", why, remedy)


def quantize(image: npt.NDArray[np.floating], bit_depth: int = 8) -> Pixels:
    """Rounds to integers; the only place where an image loses precision.

    Args:
        image: Any shape; values outside [0, 255] are clipped.
        bit_depth: 8 or 16.

    Returns:
        The same shape. With 8 bits, each value rounded to 0..255 (ties to even); with 16 bits,
        each value times 257, rounded to 0..65535.

    Raises:
        NumericalError: Some value is NaN or infinite.
    """
    bad = image.size - np.count_nonzero(np.isfinite(image))
    if bad:
        raise NumericalError(
            "cannot round the image",
            f"{bad} of its {image.size} values are not finite",
            "lower style_weight or tv_weight, or use precision float32",
        )
    deep = bit_depth == 16
    rounded = np.rint(np.clip(image, *PIXEL_RANGE) * (257 if deep else 1))
    pixels: Pixels = rounded.astype(np.uint16 if deep else np.uint8)
    return pixels


def from_integers(pixels: Pixels) -> ImageArray:
    """Converts the integers of an image file to [0, 255].

    Args:
        pixels: Any shape, of 8 or 16 bits.

    Returns:
        The same shape, float32 in [0, 255].
    """
    image = pixels.astype(np.float32, order="C")
    if pixels.dtype == np.uint16:
        image /= np.float32(257)
    return image

"""Image arrays: their type and range, validation, conversion to and from integers."""

import numpy as np
import numpy.typing as npt

from nst_tf.errors import InputError, NumericalError

ImageArray = npt.NDArray[np.float32]
"""RGB [H, W, 3] in [0, 255]."""

Pixels = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]
"""RGB [H, W, 3] over the whole range of its integer type."""

PIXEL_RANGE = (0.0, 255.0)

_LARGEST_OF_16_BITS = 65535.0
_PART = 2**20
"""Values that are rounded at once."""

_MOST_CHANNELS = 4
_EXPECTED = "give RGB of shape [H, W, 3] with finite values in [0, 255]"
_REMEDIES_FOR_TYPES = {
    "b": "give image * 255 where true is white",
    "O": "give image.astype('float32'), or a path or an image of Pillow",
    "c": "give its real part",
}
"""What to do about arrays of a kind of type that holds no pixels."""


def check_image(image: npt.ArrayLike, name: str) -> ImageArray:
    """Validates an image array.

    Args:
        image: RGB [H, W, 3] or gray [H, W] or [H, W, 1] in [0, 255], of an integer or floating
            type; also as a batch of one, [1, H, W, 3].
        name: What the image is, for the message, as in "content".

    Returns:
        RGB float32 [H, W, 3] in [0, 255].

    Raises:
        InputError: The shape, the type or a value is not allowed, or a floating-point image looks
            as if its range were [0, 1]: no value is above 1, and not all are 0 or 1 (an image file
            that is almost black has these two).
    """
    array = np.asarray(image)
    if array.dtype.kind not in "iuf" and array.dtype.name != "bfloat16":
        remedy = _REMEDIES_FOR_TYPES.get(array.dtype.kind, _EXPECTED)
        raise _refusal(name, f"its type is {array.dtype}", remedy)
    shape = array.shape
    problem = f"it has shape {list(shape)}"
    if array.ndim == 4 and array.shape[0] == 1:
        array = array[0]
    # What is narrower was rather meant as a row of pixels: an item of an image taken as a list.
    if array.ndim == 2 and array.shape[1] > _MOST_CHANNELS:
        array = array[:, :, np.newaxis]
    if array.ndim != 3 or array.shape[2] not in (1, 3) or array.size == 0:
        raise _refusal(name, problem, _remedy_for_shape(shape) or _EXPECTED)
    is_floating = array.dtype.kind not in "iu"
    array = array.astype(np.float32, copy=False)
    low, high = float(array.min()), float(array.max())
    if not np.isfinite(array).all() or low < PIXEL_RANGE[0] or high > PIXEL_RANGE[1]:
        remedy = _remedy_for_range(low, high, is_floating=is_floating)
        raise _refusal(name, f"{problem} and values from {low:g} to {high:g}", remedy)
    if is_floating and high <= 1.0 and np.any(array % 1.0):
        why = f"its values, from {low:g} to {high:g}, look like the range [0, 1]"
        raise _refusal(name, why, "multiply by 255")
    return array if array.shape[2] == 3 else np.repeat(array, 3, axis=2)


def _remedy_for_shape(shape: tuple[int, ...]) -> str:
    """Returns what to do about common shapes that are not [H, W, 3]; "" for others."""
    match shape:
        case (1, *rest) if len(rest) == 3 and (remedy := _remedy_for_shape(tuple(rest))):
            return f"{remedy}, where image is the first of the batch"
        case (_, _, _, 1 | 3):
            return "give one image of the batch, [H, W, 3]; several styles are a list of them"
        case (_, _, 4):
            return (
                "remove the alpha channel: give image[:, :, :3], or "
                "PIL.Image.fromarray(image) to have it applied"
            )
        case (1 | 3, _, _):
            return "move the channels last: give numpy.moveaxis(image, 0, -1)"
    return ""


def _remedy_for_range(low: float, high: float, *, is_floating: bool) -> str:
    """Returns what to do about values outside [0, 255]."""
    if is_floating and -1.0 <= low < 0.0 and high <= 1.0:
        return "give (image + 1) * 127.5 if its range is [-1, 1]"
    if not is_floating and low >= 0.0 and PIXEL_RANGE[1] < high <= _LARGEST_OF_16_BITS:
        return "give image / 257 if it has 16 bits"
    if is_floating and low >= -PIXEL_RANGE[1] and high <= 2.0 * PIXEL_RANGE[1]:
        return "give numpy.clip(image, 0, 255), after adding a mean that was subtracted"
    return _EXPECTED


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
    values = image.reshape(-1)
    # In parts, as the arrays in between would take ten times the memory of the result.
    parts = [slice(begin, begin + _PART) for begin in range(0, values.size, _PART)]
    finite = sum(np.count_nonzero(np.isfinite(values[part])) for part in parts)
    if finite < values.size:
        raise NumericalError(
            "cannot round the image",
            f"{values.size - finite} of its {values.size} values are not finite",
            "lower style_weight or tv_weight, or use precision float32",
        )
    deep = bit_depth == 16
    shape = image.shape
    pixels: Pixels = np.empty(shape, np.uint16) if deep else np.empty(shape, np.uint8)
    rounded = pixels.reshape(-1)
    for part in parts:
        rounded[part] = np.rint(np.clip(values[part], *PIXEL_RANGE) * (257 if deep else 1))
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

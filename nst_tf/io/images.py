"""Images from files, arrays, tensors and Pillow to float32 RGB, and back to files."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from nst_tf import system
from nst_tf.errors import InputError, printable
from nst_tf.image.arrays import ImageArray, check_image
from nst_tf.image.masks import Mask, mask_from_array, mask_from_layers
from nst_tf.io import decoding, files
from nst_tf.io.decoding import Color as Color
from nst_tf.io.decoding import Decoded as Decoded
from nst_tf.io.encoding import FORMATS as FORMATS
from nst_tf.io.encoding import check_output as check_output
from nst_tf.io.encoding import encode as encode
from nst_tf.io.encoding import settings_in

DEFAULT_MAX_PIXELS = 100_000_000
_MAX_BYTES = 256 * 2**20
MAX_RESULT_BYTES = 2**36
"""More than any result has."""
_IMAGE_LIKE = "give a path, an image of Pillow, or an array [H, W, 3] in [0, 255]"


def read(
    path: Path | str,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    profile: bytes | None = None,
    background: Color = decoding.WHITE,
) -> ImageArray:
    """Reads an image file; `decoding.decode_layers` says how orientation and color are treated.

    Args:
        path: A JPEG, PNG, WebP, TIFF, AVIF, BMP or GIF file.
        max_pixels: The most pixels to decode.
        profile: The RGB color profile to convert to, as from `profile_of`; None for sRGB.
        background: The color under transparency, in sRGB.

    Returns:
        RGB [H, W, 3] in [0, 255].

    Raises:
        InputError: There is no such file, or it is not an image that can be used.
    """
    return decoding.decode(_read_bytes(path), max_pixels, path, profile, background)


def read_layers(
    path: Path | str,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    profile: bytes | None = None,
    max_bytes: int = _MAX_BYTES,
) -> Decoded:
    """Reads the colors and the alpha of an image file apart.

    Args:
        path: As for `read`.
        max_pixels: As for `read`.
        profile: As for `read`.
        max_bytes: The largest file to read.

    Returns:
        Colors and alpha.

    Raises:
        InputError: There is no such file, or it is not an image that can be used.
    """
    return decoding.decode_layers(_read_bytes(path, max_bytes), max_pixels, path, profile)


def shape_of(path: Path | str, max_pixels: int = DEFAULT_MAX_PIXELS) -> tuple[int, int]:
    """Reads the size of an image file without its pixels.

    Args:
        path: As for `read`.
        max_pixels: As for `read`.

    Returns:
        Height and width of what `read` returns.

    Raises:
        InputError: There is no such file, or it is not an image.
    """
    return decoding.shape_of(_read_bytes(path), max_pixels, path)


def read_mask(
    path: Path | str, name: str, max_pixels: int = DEFAULT_MAX_PIXELS
) -> tuple[Mask, str]:
    """Reads a mask file.

    Args:
        path: As for `read`.
        name: What the mask is, for messages, as in "content mask 1".
        max_pixels: As for `read`.

    Returns:
        [H, W] in [0, 1]; and one line that says what of the file it is, and its share of the image.

    Raises:
        InputError: There is no such file, or it is not a mask.
    """
    mask, part = mask_from_layers(*read_layers(path, max_pixels), name, path)
    share = float(mask.mean())
    digits = 0 if share > 0.01 else 2
    note = f"{name} ({Path(path).name}): {part}, {share:.{digits}%} of the image"
    return mask, printable(note)


def as_image(
    value: object,
    name: str,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    background: Color | None = decoding.WHITE,
) -> ImageArray:
    """Converts anything that holds one image to an image array.

    Args:
        value: A path, a Pillow image, or a NumPy array or a tensor of any library (on the CPU), as
            `check_image` takes it.
        name: What the image is, for messages, as in "content".
        max_pixels: The most pixels of a file or of a Pillow image.
        background: The color under their transparency, in sRGB; None refuses it.

    Returns:
        RGB [H, W, 3] in [0, 255].

    Raises:
        InputError: There is no such file, or the value is not an image.
    """
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value.item()
    where: Path | str = f"the {name} image"
    if isinstance(value, str | os.PathLike):
        where = Path(os.fsdecode(value))
        decoded = read_layers(where, max_pixels)
    elif isinstance(value, Image.Image):
        decoded = _from_pillow(value, where, max_pixels)
    else:
        return check_image(as_array(value, name), name)
    if background is None:
        if decoded.alpha is not None:
            raise InputError(
                f"the transparency of the {name} cannot be kept",
                "a result in memory has none",
                "give a color as background, or use nst_tf.jobs.run, which writes it",
                where=where,
            )
        return decoded.rgb
    return decoding.composited(decoded, where, background=background)


def as_mask(value: object, name: str, max_pixels: int = DEFAULT_MAX_PIXELS) -> Mask:
    """Converts anything that holds one mask to an array.

    Args:
        value: A path, a Pillow image, or an array or a tensor [H, W] or [H, W, 1] of truth values,
            in [0, 1] or in [0, 255].
        name: What the mask is, for messages, as in "content mask 1".
        max_pixels: The most pixels of a file or of a Pillow image.

    Returns:
        [H, W] in [0, 1].

    Raises:
        InputError: There is no such file, or the value is not a mask.
    """
    if isinstance(value, str | os.PathLike):
        return read_mask(Path(os.fsdecode(value)), name, max_pixels)[0]
    if isinstance(value, Image.Image):
        return mask_from_layers(*_from_pillow(value, name, max_pixels), name)[0]
    return mask_from_array(as_array(value, name), name)


def _from_pillow(image: Image.Image, where: object, max_pixels: int) -> Decoded:
    if image.width * image.height > max_pixels:
        raise InputError(
            "cannot read the image",
            f"it has more than {max_pixels} pixels",
            "scale it down or raise max_pixels",
            where=where,
        )
    return decoding.from_pillow(image, where)


def as_array(value: object, name: str) -> npt.NDArray[Any]:
    """Converts a tensor of any library (on the CPU) or nested lists of numbers to an array.

    Args:
        value: Any.
        name: What the value is, for messages, as in "content".

    Returns:
        The array.

    Raises:
        InputError: It holds no numbers.
    """
    try:
        array = np.asarray(bytes(value) if isinstance(value, bytearray | memoryview) else value)
    except Exception as error:  # tensors of any library raise anything
        raise InputError(
            f"the {name} cannot be converted to a NumPy array",
            f"{type(value).__name__}: {str(error)[:200]}",
            _IMAGE_LIKE,
        ) from error
    if array.dtype.kind in "OSUM" and not isinstance(value, np.ndarray):
        remedy = _IMAGE_LIKE
        if isinstance(value, bytes | bytearray | memoryview):
            remedy = "give PIL.Image.open(io.BytesIO(data)) where data are those of an image file"
        elif hasattr(value, "read"):
            remedy = "give PIL.Image.open(file), or the path of the file"
        raise InputError(f"the {name} is not an image", f"it is {_described(value)}", remedy)
    return array


def _described(value: object) -> str:
    return "None" if value is None else f"of type {type(value).__name__}"


def profile_of(path: Path | str) -> bytes | None:
    """Returns the color profile of a file, in which its result can be computed and saved.

    `read(path, profile=profile_of(path))` keeps the values of the file, and
    `read(other, profile=profile_of(path))` converts another image to the same color space.

    Args:
        path: An image file.

    Returns:
        The ICC profile of the file. None, which means sRGB, where it has none, where its values
        are not RGB, or where nothing can be converted to it.

    Raises:
        InputError: There is no such file.
    """
    return decoding.rgb_profile(_read_bytes(path))


def _read_bytes(path: Path | str, max_bytes: int = _MAX_BYTES) -> bytes:
    return files.read(Path(path), "the image", max_bytes, "name a PNG, JPEG, WebP or TIFF file")


def settings_of(path: Path | str) -> str | None:
    """Returns the settings that `encode` wrote into a file.

    Args:
        path: Any file; it need not exist.

    Returns:
        The settings, or None when the file was not written by nst_tf or cannot be read.
    """
    path = Path(path)
    try:
        if not path.is_file():  # a pipe would be waited for
            return None
        with system.quiet(), path.open("rb") as file:
            return settings_in(file)
    except Exception:  # noqa: BLE001 - a parser of untrusted bytes
        return None

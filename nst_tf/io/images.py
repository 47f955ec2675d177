"""Images from files, arrays, tensors and Pillow to float32 RGB, and back to files."""

import os
from pathlib import Path

import numpy as np
from PIL import Image

from nst_tf import system
from nst_tf.errors import InputError
from nst_tf.image.arrays import ImageArray, check_image
from nst_tf.io import decoding, files
from nst_tf.io.encoding import FORMATS as FORMATS
from nst_tf.io.encoding import check_output as check_output
from nst_tf.io.encoding import encode as encode
from nst_tf.io.encoding import settings_in

DEFAULT_MAX_PIXELS = 100_000_000
_MAX_BYTES = 256 * 2**20


def read(
    path: Path | str, max_pixels: int = DEFAULT_MAX_PIXELS, profile: bytes | None = None
) -> ImageArray:
    """Reads an image file; `decoding.decode` says how orientation, color and alpha are treated.

    Args:
        path: A JPEG, PNG, WebP, TIFF, AVIF, BMP or GIF file.
        max_pixels: The most pixels to decode.
        profile: The RGB color profile to convert to, as from `profile_of`; None for sRGB.

    Returns:
        RGB [H, W, 3] in [0, 255].

    Raises:
        InputError: There is no such file, or it is not an image that can be used.
    """
    return decoding.decode(_read_bytes(path), max_pixels, path, profile)


def as_image(value: object, name: str, max_pixels: int = DEFAULT_MAX_PIXELS) -> ImageArray:
    """Converts anything that holds one image to an image array.

    Args:
        value: A path, a Pillow image, or a NumPy array or a tensor of any library (on the CPU) of
            RGB [H, W, 3] in [0, 255].
        name: What the image is, for messages, as in "content".
        max_pixels: The most pixels to decode of a file.

    Returns:
        RGB [H, W, 3] in [0, 255].

    Raises:
        InputError: There is no such file, or the value is not an image.
    """
    if isinstance(value, str | os.PathLike):
        return read(Path(value), max_pixels)
    if isinstance(value, Image.Image):
        return decoding.from_pillow(value, f"the {name} image")
    try:
        array = np.asarray(value)
    except Exception as error:  # tensors of any library raise anything
        raise InputError(
            f"the {name} cannot be converted to a NumPy array",
            f"{type(value).__name__}: {str(error)[:200]}",
            "give a path, an image of Pillow, or an array [H, W, 3]",
        ) from error
    return check_image(array, name)


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


def _read_bytes(path: Path | str) -> bytes:
    return files.read(Path(path), "the image", _MAX_BYTES, "name a PNG, JPEG, WebP or TIFF file")


def settings_of(path: Path | str) -> str | None:
    """Returns the settings that `encode` wrote into a file.

    Args:
        path: Any file; it need not exist.

    Returns:
        The settings, or None when the file was not written by nst_tf or cannot be read.
    """
    try:
        data = _read_bytes(path)
        with system.quiet():
            return settings_in(data)
    except Exception:  # noqa: BLE001 - a parser of untrusted bytes
        return None

"""Picture files to float32 RGB arrays and back: reading, resizing, the one rounding, encoding."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from nst_tf import decoding, machine, storage
from nst_tf.config import Config
from nst_tf.decoding import Picture
from nst_tf.decoding import from_integers as from_integers
from nst_tf.encoding import FORMATS as FORMATS
from nst_tf.encoding import Pixels, settings_in
from nst_tf.encoding import check_output as check_output
from nst_tf.encoding import encode as encode
from nst_tf.errors import NumericalError

DEFAULT_MAX_PIXELS: int = Config.model_fields["max_pixels"].default
_MAX_BYTES = 256 * 2**20


def read(path: Path, max_pixels: int = DEFAULT_MAX_PIXELS, profile: bytes | None = None) -> Picture:
    """Reads a picture file; see `decoding.decode` for what is done with orientation and colour.

    Args:
        path: A JPEG, PNG, WebP, TIFF, AVIF, BMP or GIF file.
        max_pixels: The most pixels to decode.
        profile: The RGB colour profile to convert to, as from `profile_of`; without one, sRGB.

    Returns:
        RGB [H, W, 3] in [0, 255].

    Raises:
        InputError: There is no such file, or it holds no picture that can be used.
    """
    return decoding.decode(_read_bytes(path), max_pixels, path, profile)


def profile_of(path: Path) -> bytes | None:
    """Finds the colour profile that a picture can be worked on and saved in.

    With `read(path, profile=profile_of(path))` its values stay as they are in the file, and with
    `read(other, profile=profile_of(path))` another picture means the same colours.

    Args:
        path: A picture file.

    Returns:
        The ICC profile in the file. None, which means sRGB, where there is none, where its values
        are not RGB, or where nothing can be converted to it.

    Raises:
        InputError: There is no such file.
    """
    return decoding.rgb_profile(_read_bytes(path))


def _read_bytes(path: Path) -> bytes:
    return storage.read(path, "the picture", _MAX_BYTES, "name a PNG, JPEG, WebP or TIFF file")


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


def resize(picture: Picture, shape: tuple[int, int]) -> Picture:
    """Resamples with Lanczos' filter in floating point.

    Args:
        picture: RGB [H, W, 3] in [0, 255].
        shape: Height and width wanted, each at least 1.

    Returns:
        RGB [*shape, 3] in [0, 255], clipped where the filter overshoots.
    """
    size = shape[1], shape[0]
    return _per_channel(picture, lambda channel: channel.resize(size, Image.Resampling.LANCZOS))


def cover(picture: Picture, shape: tuple[int, int]) -> Picture:
    """Resizes to fill a shape, keeping the aspect and cutting off equally what stands out.

    Args:
        picture: RGB [H, W, 3] in [0, 255].
        shape: Height and width wanted, each at least 1.

    Returns:
        RGB [*shape, 3] in [0, 255].
    """
    size = shape[1], shape[0]
    return _per_channel(picture, lambda c: ImageOps.fit(c, size, Image.Resampling.LANCZOS))


def _per_channel(picture: Picture, change: Callable[[Image.Image], Image.Image]) -> Picture:
    """Applies a Pillow operation in mode "F", which resamples RGB only in 8 bits."""
    planes = np.moveaxis(picture, 2, 0).astype(np.float32)
    changed = [np.asarray(change(Image.fromarray(plane))) for plane in planes]
    clipped: Picture = np.clip(np.stack(changed, axis=-1), 0, 255)
    return clipped


def quantise(picture: npt.NDArray[np.floating], bit_depth: int = 8) -> Pixels:
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


def settings_of(path: Path) -> str | None:
    """Finds the settings that `encode` put into a file.

    Args:
        path: Any file, or none.

    Returns:
        The settings, or None when this program did not write the file or it cannot be read.
    """
    try:
        data = _read_bytes(path)
        with machine.quiet():
            return settings_in(data)
    except Exception:  # noqa: BLE001 - a parser of untrusted bytes
        return None

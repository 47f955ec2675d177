"""Picture files to float32 RGB arrays and back: reading, resizing, the one rounding, encoding."""

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageOps

from nst_tf import machine, storage
from nst_tf.decoding import Picture, decode
from nst_tf.errors import InputError, NumericalError, did_you_mean

FORMATS: Mapping[str, str] = MappingProxyType(
    {
        ".png": "PNG",
        ".jpg": "JPEG",
        ".jpeg": "JPEG",
        ".webp": "WEBP",
        ".tif": "TIFF",
        ".tiff": "TIFF",
    }
)
"""The suffix of an output file to Pillow's name of the format."""

DEFAULT_MAX_PIXELS = 100_000_000
_MAX_BYTES = 256 * 2**20

_OPTIONS: Mapping[str, Mapping[str, object]] = {
    "PNG": {"compress_level": 6},
    "JPEG": {"quality": 95, "subsampling": 0},
    "WEBP": {"lossless": True},
    "TIFF": {"compression": "tiff_deflate"},
}
_LONGEST_SIDE = {"JPEG": 65_500, "WEBP": 16_383}  # libjpeg's JPEG_MAX_DIMENSION, WebP's 14 bits
_SOFTWARE = "nst_tf"


def read(path: Path, max_pixels: int = DEFAULT_MAX_PIXELS) -> Picture:
    """Reads a picture file; see `decoding.decode` for what is done with orientation and colour.

    Args:
        path: A JPEG, PNG, WebP, TIFF, BMP or GIF file.
        max_pixels: The most pixels to decode.

    Returns:
        RGB [H, W, 3] in [0, 255].

    Raises:
        InputError: There is no such file, or it holds no picture that can be used.
    """
    return decode(_read_bytes(path), max_pixels, path)


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


def to_uint8(picture: npt.NDArray[np.floating]) -> npt.NDArray[np.uint8]:
    """Rounds to what a file can hold; the only place where a picture loses precision.

    Args:
        picture: Any shape; values outside [0, 255] are clipped.

    Returns:
        The same shape, each value the nearest of 0 to 255 (ties to even).

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
    rounded: npt.NDArray[np.uint8] = np.rint(np.clip(picture, 0, 255)).astype(np.uint8)
    return rounded


def check_output(path: Path, shape: tuple[int, int] | None = None) -> None:
    """Refuses at the start what `encode` could not write at the end.

    Args:
        path: The output file; only its name is looked at.
        shape: Height and width of the picture to come, once known.

    Raises:
        InputError: The suffix is unknown, or the format cannot hold a side so long.
    """
    what = "cannot write the picture"
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        why = f"the format follows the suffix, and {path.suffix!r} is not known"
        raise InputError(what, why, did_you_mean(suffix, FORMATS), where=path)
    limit = _LONGEST_SIDE.get(FORMATS[suffix])
    if shape and limit and max(shape) > limit:
        why = f"{FORMATS[suffix]} holds at most {limit} pixels a side, not {max(shape)}"
        raise InputError(what, why, "choose .png or .tiff", where=path)


def encode(pixels: npt.NDArray[np.uint8], suffix: str, settings: str) -> bytes:
    """Encodes a picture with the settings that made it.

    PNG, WebP and TIFF hold the pixels exactly; JPEG has quality 95 and full colour resolution. The
    file has no orientation and no colour profile, which means upright and sRGB. An Exif block of
    `Software` and `ImageDescription` holds the settings in all four formats.

    Args:
        pixels: RGB [H, W, 3].
        suffix: One of `FORMATS`, in any case.
        settings: ASCII of less than 60,000 characters (a JPEG's Exif ends there), such as JSON.

    Returns:
        The bytes of the file.
    """
    name = FORMATS[suffix.lower()]
    exif = Image.Exif()
    exif[ExifTags.Base.Software] = _SOFTWARE
    exif[ExifTags.Base.ImageDescription] = settings
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, name, exif=exif, **_OPTIONS[name])
    return file.getvalue()


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
            exif = Image.open(io.BytesIO(data), formats=tuple(_OPTIONS)).getexif()
    except Exception:  # noqa: BLE001 - a parser of untrusted bytes
        return None
    settings = exif.get(ExifTags.Base.ImageDescription)
    mine = exif.get(ExifTags.Base.Software) == _SOFTWARE
    return settings if mine and isinstance(settings, str) else None

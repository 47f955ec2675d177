"""Pixels of 8 or 16 bits to the bytes of a picture file, with the settings that made them."""

import io
import zlib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import imagecodecs
import numpy as np
from PIL import ExifTags, Image, PngImagePlugin, features

from nst_tf.errors import InputError, did_you_mean
from nst_tf.image.arrays import Pixels

FORMATS: Mapping[str, str] = MappingProxyType(
    {
        ".png": "PNG",
        ".jpg": "JPEG",
        ".jpeg": "JPEG",
        ".webp": "WEBP",
        ".tif": "TIFF",
        ".tiff": "TIFF",
        ".avif": "AVIF",
    }
)
"""The suffix of an output file to Pillow's name of the format."""

_DEEP = ("PNG", "TIFF")  # what holds 16 bits
# libjpeg's JPEG_MAX_DIMENSION, WebP's 14 bits, what libavif reads
_LONGEST_SIDE = {"JPEG": 65_500, "WEBP": 16_383, "AVIF": 32_768}
_SOFTWARE = "nst_tf"
_PNG_HEADER = 8 + 12 + 13  # the signature, and the chunk IHDR with its 13 bytes


def check_output(path: Path, shape: tuple[int, int] | None = None, bit_depth: int = 8) -> None:
    """Refuses at the start what `encode` could not write at the end.

    Args:
        path: The output file; only its name is looked at.
        shape: Height and width of the picture to come, once known.
        bit_depth: 8 or 16 bits a channel.

    Raises:
        InputError: The suffix is unknown, or the format cannot hold a side so long or values so
            deep, or this installation cannot write it.
    """
    what = "cannot write the picture"
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        why = f"the format follows the suffix, and {path.suffix!r} is not known"
        raise InputError(what, why, did_you_mean(suffix, FORMATS), where=path)
    name = FORMATS[suffix]
    if name == "AVIF" and not features.check("avif"):
        why = "Pillow was installed here without AVIF"
        raise InputError(what, why, "choose .png, .webp or .jpg", where=path)
    if bit_depth == 16 and name not in _DEEP:
        why = f"bit_depth is 16, and {name} is written with 8 bits"
        raise InputError(what, why, "choose .png or .tiff, or bit_depth 8", where=path)
    limit = _LONGEST_SIDE.get(name)
    if shape and limit and max(shape) > limit:
        why = f"{name} holds at most {limit} pixels a side, not {max(shape)}"
        raise InputError(what, why, "choose .png or .tiff", where=path)


def encode(
    pixels: Pixels, suffix: str, settings: str, *, quality: int = 0, profile: bytes | None = None
) -> bytes:
    """Encodes a picture with the settings that made it.

    PNG and TIFF hold the pixels exactly. The others lose what `quality` says, but never any
    resolution of colour in JPEG and AVIF. The file has no orientation, which means upright.
    `Software` and `ImageDescription`, as tags of a TIFF and otherwise in an Exif block, hold the
    settings.

    Args:
        pixels: RGB [H, W, 3]; of 16 bits for PNG and TIFF only.
        suffix: One of `FORMATS`, in any case.
        settings: ASCII of less than 60,000 characters (a JPEG's Exif ends there), such as JSON.
        quality: 1 to 100 for JPEG, WebP and AVIF, or 0 for 95, and WebP without loss; WebP has
            no loss at 100 either. PNG and TIFF ignore it.
        profile: The ICC profile of the pixels; without one they are sRGB, and the file says
            nothing of it.

    Returns:
        The bytes of the file.
    """
    name = FORMATS[suffix.lower()]
    exif = Image.Exif()
    exif[ExifTags.Base.Software] = _SOFTWARE
    exif[ExifTags.Base.ImageDescription] = settings
    if pixels.dtype == np.uint16:  # which Pillow does not write in colour
        if name == "TIFF":
            return _deep_tiff(pixels, settings, profile)
        return _deep_png(pixels, exif, profile)
    file = io.BytesIO()
    options = _options(name, quality)
    Image.fromarray(pixels).save(file, name, exif=exif, icc_profile=profile, **options)
    return file.getvalue()


def _options(name: str, quality: int) -> dict[str, object]:
    """Returns what Pillow is told of a format."""
    match name:
        case "PNG":
            return {"compress_level": 6}
        case "TIFF":
            return {"compression": "tiff_deflate"}
        case "WEBP":
            return {"lossless": True} if quality in (0, 100) else {"quality": quality}
        case _:
            return {"quality": quality or 95, "subsampling": "4:4:4"}


def _deep_png(pixels: Pixels, exif: Image.Exif, profile: bytes | None) -> bytes:
    """Adds what libpng's wrapper does not write: the chunks iCCP and eXIf, after the header."""
    data = bytes(imagecodecs.png_encode(np.ascontiguousarray(pixels), level=6))
    file = io.BytesIO()
    file.write(data[:_PNG_HEADER])
    if profile:
        PngImagePlugin.putchunk(file, b"iCCP", b"ICC Profile\0\0", zlib.compress(profile))
    PngImagePlugin.putchunk(file, b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0"))
    file.write(data[_PNG_HEADER:])
    return file.getvalue()


def _deep_tiff(pixels: Pixels, settings: str, profile: bytes | None) -> bytes:
    return bytes(
        imagecodecs.tiff_encode(
            pixels,
            photometric=imagecodecs.TIFF.PHOTOMETRIC.RGB,
            compression=imagecodecs.TIFF.COMPRESSION.ADOBE_DEFLATE,
            predictor=True,
            iccprofile=profile,
            description=settings,
            software=_SOFTWARE,
        )
    )


def settings_in(data: bytes) -> str | None:
    """Finds the settings that `encode` put into a file.

    Args:
        data: The bytes of the file.

    Returns:
        The settings, or None when this program did not write it.

    Raises:
        Exception: Of any kind, when it is no picture or damaged.
    """
    exif = Image.open(io.BytesIO(data), formats=tuple(FORMATS.values())).getexif()
    settings = exif.get(ExifTags.Base.ImageDescription)
    mine = exif.get(ExifTags.Base.Software) == _SOFTWARE
    return settings if mine and isinstance(settings, str) else None

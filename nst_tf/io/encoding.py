"""Encoding of 8- and 16-bit pixels to image files, with the settings of the run."""

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

_DEEP = ("PNG", "TIFF")  # formats of 16 bits
# libjpeg's JPEG_MAX_DIMENSION, WebP's 14 bits, what libavif reads
_LONGEST_SIDE = {"JPEG": 65_500, "WEBP": 16_383, "AVIF": 32_768}
_SOFTWARE = "nst_tf"
_PNG_HEADER = 8 + 12 + 13  # the signature, and the chunk IHDR with its 13 bytes


def check_output(path: Path, shape: tuple[int, int] | None = None, bit_depth: int = 8) -> None:
    """Checks before the work that `encode` can write the result.

    Args:
        path: The output file; only its name is looked at.
        shape: Height and width of the image, once known.
        bit_depth: 8 or 16 bits per channel.

    Raises:
        InputError: The suffix is unknown, the side is too long or the bit depth too high for the
            format, or this installation cannot write it.
    """
    what = "cannot write the image"
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
    """Encodes an image with the settings that made it.

    PNG and TIFF are lossless. The others lose precision by `quality`, but JPEG and AVIF keep the
    full resolution of color (4:4:4). The file has no orientation tag. The settings are written to
    the tags `Software` and `ImageDescription`, of the TIFF or of an Exif block.

    Args:
        pixels: RGB [H, W, 3]; uint16 for PNG and TIFF only.
        suffix: One of `FORMATS`, in any case.
        settings: ASCII of less than 60,000 characters (a JPEG's Exif ends there), such as JSON.
        quality: 1 to 100 for JPEG, WebP and AVIF; 0 for 95, or lossless WebP. WebP is lossless at
            100 too. PNG and TIFF ignore it.
        profile: The ICC profile of the pixels, which is embedded; None for sRGB, without a profile.

    Returns:
        The bytes of the file.
    """
    name = FORMATS[suffix.lower()]
    exif = Image.Exif()
    exif[ExifTags.Base.Software] = _SOFTWARE
    exif[ExifTags.Base.ImageDescription] = settings
    if pixels.dtype == np.uint16:  # which Pillow does not write in color
        if name == "TIFF":
            return _deep_tiff(pixels, settings, profile)
        return _deep_png(pixels, exif, profile)
    file = io.BytesIO()
    options = _options(name, quality)
    Image.fromarray(pixels).save(file, name, exif=exif, icc_profile=profile, **options)
    return file.getvalue()


def _options(name: str, quality: int) -> dict[str, object]:
    """Returns Pillow's options for a format."""
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
    """Returns the settings that `encode` wrote into a file.

    Args:
        data: The bytes of the file.

    Returns:
        The settings, or None when the file was not written by nst_tf.

    Raises:
        Exception: Of any kind, when the data is not an image or is damaged.
    """
    exif = Image.open(io.BytesIO(data), formats=tuple(FORMATS.values())).getexif()
    settings = exif.get(ExifTags.Base.ImageDescription)
    written_here = exif.get(ExifTags.Base.Software) == _SOFTWARE
    return settings if written_here and isinstance(settings, str) else None

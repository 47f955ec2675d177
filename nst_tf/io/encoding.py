"""Encoding of 8- and 16-bit pixels to image files, with the settings of the run."""

import io
import math
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO

import imagecodecs
import numpy as np
from PIL import ExifTags, Image, features

from nst_tf.errors import InputError, did_you_mean
from nst_tf.image.arrays import Pixels
from nst_tf.io import png, tiff
from nst_tf.io.decoding import DECODERS, open_image, pillow_pixels

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

_INSTEAD = {
    ".jfif": ".jpg",
    ".jpe": ".jpg",
    ".gif": ".png",
    ".bmp": ".png",
    ".ppm": ".png",
    ".tga": ".png",
    ".psd": ".tiff",
    ".exr": ".tiff",
    ".heic": ".avif",
    ".heif": ".avif",
    ".jxl": ".webp",
    ".jp2": ".webp",
}
"""Suffixes of formats that are not written, and the nearest one that is."""

_DEEP = ("PNG", "TIFF")  # formats of 16 bits
# libjpeg's JPEG_MAX_DIMENSION, WebP's 14 bits, what libavif reads
_LONGEST_SIDE = {"JPEG": 65_500, "WEBP": 16_383, "AVIF": 32_768}
_MOST_AVIF_PIXELS = 2**28  # libavif's AVIF_DEFAULT_IMAGE_SIZE_LIMIT, above which none is read
_SOFTWARE = "nst_tf"
_KEYWORD = "nst_tf"
"""Of the text of a PNG that holds the settings."""

_ASCII = b"ASCII\0\0\0"
"""The character code at the start of Exif's UserComment."""

_INCH = 2  # of Exif's ResolutionUnit
_METER = 1  # of a PNG's pHYs
_METERS_PER_INCH = 0.0254

_PNG_HEADER = 8 + 12 + 13  # the signature, and the chunk IHDR with its 13 bytes


def check_output(
    path: Path,
    shape: tuple[int, int] | None = None,
    bit_depth: int = 8,
    *,
    has_alpha: bool = False,
) -> None:
    """Checks before the work that `encode` can write the result.

    Args:
        path: The output file; only its name is looked at.
        shape: Height and width of the image, once known.
        bit_depth: 8 or 16 bits per channel.
        has_alpha: Whether the image is transparent.

    Raises:
        InputError: The suffix is unknown, the image is too large or the bit depth too high for the
            format, it holds no transparency, or this installation cannot write it.
    """
    what = "cannot write the image"
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        raise InputError(what, *_unknown_suffix(path, suffix), where=path)
    name = FORMATS[suffix]
    if name == "AVIF" and not features.check("avif"):
        why = "Pillow was installed here without AVIF"
        raise InputError(what, why, "choose .png, .webp or .jpg", where=path)
    if bit_depth == 16 and name not in _DEEP:
        why = f"bit_depth is 16, and {name} is written with 8 bits"
        raise InputError(what, why, "choose .png or .tiff, or bit_depth 8", where=path)
    if has_alpha and name == "JPEG":
        why = "background is keep, and JPEG holds no transparency"
        remedy = "choose .png, .webp, .avif or .tiff, or another background, as white"
        raise InputError(what, why, remedy, where=path)
    if shape and (why := _too_large(name, shape)):
        others = [
            suffix
            for suffix, other in {".png": "PNG", ".tiff": "TIFF", ".jpg": "JPEG"}.items()
            if not _too_large(other, shape) and not (has_alpha and other == "JPEG")
        ]
        remedy = f"choose {', '.join(others[:-1])} or {others[-1]}, or a smaller size"
        raise InputError(what, why, remedy, where=path)


def _too_large(name: str, shape: tuple[int, int]) -> str:
    """Returns why a format does not hold an image of a shape, or ""."""
    longest = _LONGEST_SIDE.get(name)
    most = {"AVIF": _MOST_AVIF_PIXELS, "WEBP": pillow_pixels()}.get(name)
    if longest and max(shape) > longest:
        return f"{name} holds at most {longest} pixels a side, not {max(shape)}"
    if most and math.prod(shape) > most:
        return f"{name} is read with at most {most} pixels, not {math.prod(shape)}"
    return ""


def _unknown_suffix(path: Path, suffix: str) -> tuple[str, str]:
    """Returns what is wrong with a name whose suffix is no format's, and a name to use instead."""
    if path.is_dir():
        return "it is a folder", f"name a file in it, as in {path.name}/out.png"
    if suffix in ("", "."):
        why = "the format follows the suffix, and the name has none"
        return why, f"add one, as in {path.name.rstrip('.')}.png"
    why = f"the format follows the suffix, and {path.suffix!r} is not one that is written"
    if suffix in _INSTEAD:
        return why, f"choose {path.stem}{_INSTEAD[suffix]}"
    return why, did_you_mean(suffix, FORMATS)


def encode(
    pixels: Pixels,
    suffix: str,
    settings: str,
    *,
    quality: int = 0,
    profile: bytes | None = None,
    dpi: int = 0,
) -> bytes:
    """Encodes an image with the settings that made it.

    PNG and TIFF are lossless. The others lose precision by `quality`, but JPEG and AVIF keep the
    full resolution of color (4:4:4). The file has no orientation tag. `Software` names nst_tf. The
    settings are in a text of a PNG, and in Exif's `UserComment` of other formats: not where
    programs look for a caption.

    Args:
        pixels: RGB [H, W, 3], or RGBA [H, W, 4] where the format is not JPEG; uint16 for PNG and
            TIFF only.
        suffix: One of `FORMATS`, in any case.
        settings: ASCII, such as JSON, for a JPEG of at most 65,000 characters (its Exif ends at
            64 KB); "" for neither settings nor `Software`.
        quality: 1 to 100 for JPEG, WebP and AVIF; 0 for 95, or lossless WebP. WebP is lossless at
            100 too. PNG and TIFF ignore it.
        profile: The ICC profile of the pixels, which is embedded; None for sRGB, without a profile.
        dpi: The pixels per inch of a print, at most 65535, in the place that the format has for
            it: pHYs of a PNG, tags of a TIFF, JFIF and Exif of a JPEG, and Exif elsewhere; 0 for
            none.

    Returns:
        The bytes of the file.
    """
    name = FORMATS[suffix.lower()]
    if name == "PNG":
        return _png(pixels, settings, profile, dpi)
    if name == "TIFF":
        return _tiff(pixels, settings, profile, dpi)
    exif = Image.Exif()
    if settings:
        exif[ExifTags.Base.Software] = _SOFTWARE
        comment = _ASCII + settings.encode("ascii")
        exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment] = comment
    options = _options(name, quality)
    if dpi:
        exif[ExifTags.Base.XResolution] = exif[ExifTags.Base.YResolution] = float(dpi)
        exif[ExifTags.Base.ResolutionUnit] = _INCH
        options["dpi"] = (dpi, dpi)  # of JFIF; WebP and AVIF have no such place
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, name, exif=exif, icc_profile=profile, **options)
    return file.getvalue()


def is_lossless(suffix: str, quality: int = 0) -> bool:
    """Returns whether `encode` keeps the pixels of an image.

    Args:
        suffix: As for `encode`.
        quality: As for `encode`.
    """
    name = FORMATS[suffix.lower()]
    return name in ("PNG", "TIFF") or (name == "WEBP" and quality in (0, 100))


def _options(name: str, quality: int) -> dict[str, object]:
    """Returns Pillow's options for a format."""
    if name == "WEBP":  # exact: also the colors under alpha
        how = {"lossless": True} if is_lossless(".webp", quality) else {"quality": quality}
        return {"exact": True, **how}
    return {"quality": quality or 95, "subsampling": "4:4:4"}


def _png(pixels: Pixels, settings: str, profile: bytes | None, dpi: int) -> bytes:
    """Puts profile and texts after the header, where any reader finds them before the pixels."""
    data = (
        memoryview(  # written from the array itself, where Pillow makes a copy of 4 bytes a pixel
            imagecodecs.png_encode(
                np.ascontiguousarray(pixels), level=6, strategy=imagecodecs.PNG.STRATEGY.FILTERED
            )
        )
    )
    chunks = []
    if profile:
        chunks.append(png.encode_chunk(b"iCCP", b"ICC Profile\0\0" + zlib.compress(profile)))
    if dpi:
        density = round(dpi / _METERS_PER_INCH)
        chunks.append(png.encode_chunk(b"pHYs", struct.pack(">IIB", density, density, _METER)))
    if settings:
        for keyword, text in (("Software", _SOFTWARE), (_KEYWORD, settings)):
            chunks.append(png.encode_chunk(b"tEXt", f"{keyword}\0{text}".encode("ascii")))
    return b"".join([data[:_PNG_HEADER], *chunks, data[_PNG_HEADER:]])


def _tiff(pixels: Pixels, settings: str, profile: bytes | None, dpi: int) -> bytes:
    tags: dict[int, bytes] = {}
    exif: dict[int, bytes] = {}
    if profile:
        tags[ExifTags.Base.InterColorProfile] = profile
    if settings:
        tags[ExifTags.Base.Software] = _SOFTWARE.encode("ascii") + b"\0"
        exif[ExifTags.Base.UserComment] = _ASCII + settings.encode("ascii")
    return tiff.encode(pixels, tags, exif, dpi)


def settings_in(file: BinaryIO) -> str | None:
    """Returns the settings that `encode` wrote into a file.

    Args:
        file: The file, open for reading.

    Returns:
        The settings, or None where there are none, or another program wrote the file.

    Raises:
        Exception: Of any kind, when the data is not an image or is damaged.
    """
    image = open_image(file, [name for name in DECODERS if name in FORMATS.values()])
    if image.info.get("Software") == _SOFTWARE:  # a text of a PNG
        settings = image.info.get(_KEYWORD)
        return settings if isinstance(settings, str) else None
    exif = image.getexif()
    if exif.get(ExifTags.Base.Software) != _SOFTWARE:
        return None
    comment = exif.get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.UserComment)
    if isinstance(comment, bytes) and comment.startswith(_ASCII):
        return comment.removeprefix(_ASCII).decode("ascii")
    settings = exif.get(ExifTags.Base.ImageDescription)  # as version 0.1 did it
    return settings if isinstance(settings, str) else None

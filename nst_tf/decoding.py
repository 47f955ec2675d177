"""The bytes of a picture file to float32 RGB: limits, orientation, depth, colour and alpha."""

import io
import logging
import re

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageCms, ImageOps, UnidentifiedImageError

from nst_tf import machine
from nst_tf.errors import InputError, printable

logger = logging.getLogger("nst_tf")

Picture = npt.NDArray[np.float32]
"""RGB [H, W, 3] in [0, 255]."""

# Above this, Pillow itself refuses to open a picture (a decompression bomb).
MAX_PIXELS = 2 * (Image.MAX_IMAGE_PIXELS or 89_478_485)

# Other decoders stay out: nobody needs them here, and each is a way in for a hostile file.
# Pillow opens a phone's MPO through JPEG.
_DECODERS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF")
_SIGNATURES = {
    "JPEG": rb"\xff\xd8\xff",
    "PNG": rb"\x89PNG",
    "WEBP": rb"RIFF....WEBP",
    "TIFF": rb"II[*+]\0|MM\0[*+]",
    "BMP": rb"BM",
    "GIF": rb"GIF8[79]a",
    "AVIF": rb"....ftypavi[fs]",
    "HEIC": rb"....ftyp(hei|hev|mif1|msf1)",
    "PSD": rb"8BPS",
    "EPS": rb"%!PS|\xc5\xd0\xd3\xc6",
    "PDF": rb"%PDF",
    "SVG": rb"(\xef\xbb\xbf)?\s*(<[?!].*)?<svg",
    "PNM": rb"P[1-7]\s",
    "JPEG 2000": rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51",
    "JPEG XL": rb"\0\0\0\x0cJXL |\xff\x0a",
}
_DAMAGED = "the file is cut short or damaged"
_SAVE_AGAIN = "get it again, or open it elsewhere and save it as PNG"


def decode(data: bytes, max_pixels: int, where: object = "") -> Picture:
    """Decodes a JPEG, PNG, WebP, TIFF, BMP or GIF; the content decides, not a name.

    The picture is turned upright as its EXIF says, converted to sRGB by its colour profile and
    put on white where it is transparent. Grey of 16 bits keeps its precision, colour of 16 bits is
    read as 8. Of several frames or pages the first is taken. What was lost is logged as a warning.

    Args:
        data: The bytes of the file.
        max_pixels: The most pixels to decode, checked against the header before decoding;
            anything above `MAX_PIXELS` counts as that.
        where: The file's name for messages.

    Returns:
        RGB [H, W, 3] in [0, 255].

    Raises:
        InputError: It is no picture, a format or depth that is not supported, damaged or too large.
    """
    limit = min(max_pixels, MAX_PIXELS)
    too_large = _refusal(
        f"it has more than {limit} pixels",
        f"scale it down or raise max_pixels ({MAX_PIXELS} at most)",
        where,
    )
    notes: list[str] = []
    try:
        with machine.quiet():
            image = Image.open(io.BytesIO(data), formats=_DECODERS)
            if image.width * image.height > limit:
                raise too_large
            if image.mode in ("I", "F"):
                kind = (
                    "32-bit or signed integers" if image.mode == "I" else "floating-point numbers"
                )
                raise _refusal(f"its pixels are {kind}", "convert to 8- or 16-bit unsigned", where)
            picture = _to_rgb(image, notes)
    except InputError:
        raise
    except UnidentifiedImageError as error:
        raise _refusal(*_name_the_unknown(data[:1024]), where) from error
    except Image.DecompressionBombError as error:
        raise too_large from error
    except Exception as error:  # damaged files make decoders raise anything
        reason = f"{_DAMAGED} ({str(error)[:80] or type(error).__name__})"
        raise _refusal(reason, _SAVE_AGAIN, where) from error
    for note in notes:
        logger.warning("%s: %s", printable(str(where)), note)
    return picture


def _to_rgb(image: Image.Image, notes: list[str]) -> Picture:
    """Decodes an opened picture; `notes` gains what the user should know."""
    deep = any(";16" in str(tile) for tile in getattr(image, "tile", ()))
    if deep and not image.mode.startswith("I;16"):
        logger.debug("16 bits per channel are read as 8")
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":  # a phone's JPEG with a preview or a depth map
        notes.append(f"animated, using the first of {frames} frames")
    image.load()
    profile = image.info.get("icc_profile")
    _turn_upright(image, notes)
    if image.mode.startswith("I;16"):
        return _grey16_to_rgb(image, profile, notes)
    alpha: npt.NDArray[np.float32] | None = None
    grey = image.mode in ("1", "L", "LA", "La")
    if image.has_transparency_data:
        image = image.convert("LA") if image.mode == "La" else image
        image = image.convert("RGBA")
        alpha = np.asarray(image.getchannel("A"), np.float32) / np.float32(255)
    if image.mode not in ("CMYK", "LAB"):
        image = image.convert("L" if grey else "RGB")
    return _on_white(np.asarray(_to_srgb(image, profile, notes), np.float32), alpha, notes)


def _turn_upright(image: Image.Image, notes: list[str]) -> None:
    """Turns the picture in place as its EXIF orientation says."""
    try:
        ImageOps.exif_transpose(image, in_place=True)
    except Exception:  # noqa: BLE001 - a parser of untrusted bytes; the pixels are still good
        notes.append("EXIF is damaged, the picture may not be upright")


def _grey16_to_rgb(image: Image.Image, profile: bytes | None, notes: list[str]) -> Picture:
    """Scales 16-bit grey as it is; Pillow's own conversion clips it to white."""
    values = np.asarray(image)
    transparent = image.info.get("transparency")
    alpha = None if transparent is None else (values != transparent).astype(np.float32)
    tags = getattr(image, "tag_v2", {})
    white = 4095 if tags.get(ExifTags.Base.BitsPerSample) == (12,) else 65535
    if tags.get(ExifTags.Base.PhotometricInterpretation) == 0:  # white is zero; Pillow leaves it so
        values = white - values
    ramp = Image.fromarray(np.arange(256, dtype=np.uint8)[np.newaxis])
    curve = np.asarray(_to_srgb(ramp, profile, notes))[0, :, 0]
    grey = np.interp(values / (white / 255), np.arange(256), curve)
    rgb = np.repeat(grey[:, :, np.newaxis].astype(np.float32), 3, axis=2)
    return _on_white(rgb, alpha, notes)


def _to_srgb(image: Image.Image, profile: bytes | None, notes: list[str]) -> Image.Image:
    """Converts L, RGB, CMYK or LAB to RGB by the file's colour profile."""
    if not profile:
        if image.mode == "CMYK":
            notes.append("CMYK without a colour profile, colours are approximate")
        return image.convert("RGB")
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if image.mode == "L" and source.profile.xcolor_space == "RGB ":
            image = image.convert("RGB")
        target = ImageCms.createProfile("sRGB")
        return ImageCms.buildTransform(source, target, image.mode, "RGB").apply(image)
    except (ImageCms.PyCMSError, OSError):
        notes.append("the colour profile is damaged or does not fit, colours taken as sRGB")
        return image.convert("RGB")


def _on_white(rgb: Picture, alpha: npt.NDArray[np.float32] | None, notes: list[str]) -> Picture:
    """Lays RGB [H, W, 3] over white where alpha [H, W] in [0, 1] is below 1."""
    if alpha is None or alpha.min() == 1:
        return rgb
    notes.append("transparent, put on white")
    return np.float32(255) - (np.float32(255) - rgb) * alpha[:, :, np.newaxis]


def _name_the_unknown(head: bytes) -> tuple[str, str]:
    """Says why and what to do when no decoder takes a file that begins with `head`."""
    for name, pattern in _SIGNATURES.items():
        if re.match(pattern, head, re.DOTALL):
            if name in _DECODERS:
                return _DAMAGED, _SAVE_AGAIN
            return f"format {name} is not supported", "convert to PNG or JPEG"
    start = head.split(maxsplit=1)[0][:16] if head.strip() else head[:16]
    return f"not a picture (starts with {start.decode('latin-1')!r})", "name a PNG or JPEG"


def _refusal(why: str, remedy: str, where: object) -> InputError:
    return InputError("cannot read the picture", why, remedy, where=where)

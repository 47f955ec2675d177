"""Decoding of image files to float32 RGB: limits, orientation, bit depth, color and alpha."""

import importlib
import importlib.util
import io
import logging
import re
import warnings
from collections.abc import Mapping
from typing import Any, BinaryIO, NamedTuple

import imagecodecs
import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageCms, ImageOps, UnidentifiedImageError, features
from PIL.ImageFile import ImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile

from nst_tf import system
from nst_tf.errors import InputError, MachineError, NstError, warn
from nst_tf.image.arrays import ImageArray, from_integers
from nst_tf.io import jpeg, png, tiff
from nst_tf.io.color_spaces import cicp_of, told_profile

logger = logging.getLogger("nst_tf")

Alpha = npt.NDArray[np.float32]
"""Opacity, [H, W] in [0, 1]."""

Color = tuple[int, int, int]
"""RGB, each 0 to 255."""

WHITE: Color = (255, 255, 255)
_COLOR_NAMES: Mapping[Color, str] = {WHITE: "white", (0, 0, 0): "black"}

_Deep = npt.NDArray[np.uint16]

MAX_PIXELS = 32768**2
"""The most pixels that are decoded, whatever `max_pixels` is."""

_UNASKED_PIXELS = 2**27
"""The most pixels that are decoded where only their container or the profile is of interest."""

# Other decoders are excluded, since each is attack surface. Pillow opens a phone's MPO as JPEG.
DECODERS = ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF"]
"""Pillow's names of the formats that are read."""
if features.check("avif"):  # which Pillow can be built without
    DECODERS.append("AVIF")
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
BYTES_PER_PIXEL = 32
"""At the peak of decoding RGB of 8 bits: Pillow's pixels, a copy, and floating-point numbers."""

_SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
_RGB_SPACE = b"RGB "  # the data colour space of an ICC profile, ICC.1:2022, 7.2.6
_LARGEST_PROFILE = 2**20  # the most that Pillow reads from a PNG
_DEEP_PNG = {"RGB;16B": 3, "RGBA;16B": 4, "LA;16B": 2}  # Pillow's name to the number of channels
_DAMAGED = "the file is cut short or damaged"
_BAD_EXIF = "EXIF is damaged, the image may not be upright"
_SAVE_AGAIN = "get it again, or open it elsewhere and save it as PNG"


class Decoded(NamedTuple):
    """The pixels of a file.

    Attributes:
        rgb: [H, W, 3] in [0, 255]; where alpha is not 1, the color of what covers the pixel.
        alpha: [H, W] in [0, 1]; None where all is opaque.
        white: The integer of the file that is 255 in `rgb`.
    """

    rgb: ImageArray
    alpha: Alpha | None
    white: int


def decode(
    data: bytes,
    max_pixels: int,
    where: object = "",
    profile: bytes | None = None,
    background: Color = WHITE,
) -> ImageArray:
    """Decodes as `decode_layers`, and composites transparency over a color, with a warning.

    Args:
        data: The bytes of the file.
        max_pixels: The most pixels to decode.
        where: The file's name for messages.
        profile: The RGB color profile to convert to, as from `rgb_profile`; None for sRGB.
        background: The color under transparency, in sRGB.

    Returns:
        RGB [H, W, 3] in [0, 255].

    Raises:
        InputError: The data is not an image that can be used.
        MachineError: There is not enough memory.
    """
    decoded = decode_layers(data, max_pixels, where, profile)
    return composited(decoded, where, profile, background)


def decode_layers(
    data: bytes, max_pixels: int, where: object = "", profile: bytes | None = None
) -> Decoded:
    """Decodes JPEG, PNG, WebP, TIFF, AVIF, BMP, GIF or, with `pillow-heif`, HEIC, by content.

    The EXIF orientation is applied, and the colors are converted from the color space that the
    file tells (sRGB where it tells none). PNG and TIFF of 16 bits keep their precision, except
    CMYK, which is read as 8. The first of several frames or pages that is no thumbnail is used.
    Damage that costs no pixels is passed over. What is lost is logged as a warning.

    Args:
        data: The bytes of the file.
        max_pixels: The most pixels to decode, checked against the header before decoding;
            anything above `MAX_PIXELS` counts as that.
        where: The file's name for messages.
        profile: The RGB color profile to convert to, as from `rgb_profile`; None for sRGB.

    Returns:
        Colors and alpha.

    Raises:
        InputError: The data is not an image, is damaged or too large, or its format or bit depth
            is not supported.
        MachineError: There is not enough memory.
    """
    limit = min(max_pixels, MAX_PIXELS)
    too_large = _refusal(
        f"it has more than {limit} pixels",
        f"scale it down or raise max_pixels ({MAX_PIXELS} at most)",
        where,
    )
    notes: list[str] = []
    try:
        with system.quiet():
            data, image = _open(data, limit, notes)
            if image.width * image.height > limit:
                raise too_large
            _check_mode(image, where)
            _check_memory(image, where)
            decoded = _decoded(data, image, profile, notes)
    except NstError:
        raise
    except UnidentifiedImageError as error:
        raise _refusal(*_name_the_unknown(data[:1024]), where) from error
    except Image.DecompressionBombError as error:
        reason = f"Pillow reads at most {pillow_pixels()} pixels in files of this kind"
        raise _refusal(reason, "scale it down, or save it as PNG", where) from error
    except Exception as error:  # damaged files make decoders raise anything
        _raise_lack_of_memory(error, where)
        reason = f"{_DAMAGED} ({str(error)[:80] or type(error).__name__})"
        raise _refusal(reason, _SAVE_AGAIN, where) from error
    for note in notes:
        warn(f"{where}: {note}")
    return decoded


def shape_of(data: bytes, max_pixels: int, where: object = "") -> tuple[int, int]:
    """Reads the size of an image from its header, as it is after `decode`.

    Args:
        data: As for `decode`.
        max_pixels: As for `decode`.
        where: As for `decode`.

    Returns:
        Height and width.

    Raises:
        InputError: The data is not an image.
    """
    try:
        with system.quiet():
            _, image = _open(data, min(max_pixels, MAX_PIXELS), [])
            turned = image.format != "HEIF" and _orientation(image, []) >= 5
    except Exception as error:  # decoders of untrusted bytes raise anything
        why, remedy = _name_the_unknown(data[:512])
        raise _refusal(why, remedy, where) from error
    return (image.width, image.height) if turned else (image.height, image.width)


def from_pillow(image: Image.Image, where: object = "") -> Decoded:
    """Converts a Pillow image to what `decode_layers` gives for a file, with 8 bits for colors.

    Args:
        image: An image of any mode but "I" and "F". It is not changed.
        where: The image's name for messages.

    Returns:
        Colors in sRGB, and alpha.

    Raises:
        InputError: The mode is not supported, or the file it is loaded from is damaged.
    """
    _check_mode(image, where)
    notes: list[str] = []
    try:
        image.load()
        decoded = _loaded(image, getattr(image, "tag_v2", {}), None, notes, in_place=False)
    except Exception as error:  # damaged files make decoders raise anything
        _raise_lack_of_memory(error, where)
        raise _refusal(f"{_DAMAGED} ({str(error)[:80]})", _SAVE_AGAIN, where) from error
    for note in notes:
        warn(f"{where}: {note}")
    return decoded


def composited(
    decoded: Decoded, where: object = "", profile: bytes | None = None, background: Color = WHITE
) -> ImageArray:
    """Composites transparency over a color, with a warning.

    Args:
        decoded: Colors and alpha.
        where: The image's name for messages.
        profile: The RGB color profile of the colors; None for sRGB.
        background: The color, in sRGB.

    Returns:
        RGB [H, W, 3] in [0, 255].
    """
    if decoded.alpha is None:
        return decoded.rgb
    name = _COLOR_NAMES.get(background, "#{:02x}{:02x}{:02x}".format(*background))
    warn(f"{where}: transparent, put on {name}")
    color = np.array(background, np.float32)
    if profile and background not in _COLOR_NAMES:
        color = _transform(color.reshape(1, 1, 3), _SRGB, profile)[0, 0]
    result: ImageArray = color - (color - decoded.rgb) * decoded.alpha[:, :, np.newaxis]
    return result


def _check_mode(image: Image.Image, where: object) -> None:
    kinds = {"I": "32-bit or signed integers", "F": "floating-point numbers"}
    if image.mode in kinds:
        why = f"its pixels are {kinds[image.mode]}"
        raise _refusal(why, "convert to 8- or 16-bit unsigned", where)


def _check_memory(image: ImageFile, where: object) -> None:
    """Refuses an image whose decoding would not fit into memory, where it might end the process."""
    needed = BYTES_PER_PIXEL * image.width * image.height
    if needed > (available := system.available_memory()):
        size = f"{image.width}x{image.height} pixels take {needed / 1e9:.1f} GB"
        raise _memory_error(f"{size}, {available / 1e9:.1f} GB are available", where)


def _raise_lack_of_memory(error: Exception, where: object) -> None:
    """Tells a decoder's lack of memory from damage to the file."""
    if isinstance(error, MemoryError) or re.search("out of memory|allocate", str(error), re.I):
        raise _memory_error(str(error)[:80] or "there is none left", where) from error


def _memory_error(why: str, where: object) -> MachineError:
    what, remedy = "the memory does not suffice to read the image", "scale it down, or free memory"
    return MachineError(what, why, remedy, where=where)


def rgb_profile(data: bytes) -> bytes | None:
    """Returns the color profile of an RGB image.

    Args:
        data: The bytes of the file, of any kind.

    Returns:
        The ICC profile, to which other images can be converted; None where there is none.
    """
    try:
        with system.quiet():
            _, image = _open(data, _UNASKED_PIXELS, [])
            profile = told_profile(image, [])
            if not isinstance(profile, bytes) or len(profile) > _LARGEST_PROFILE:
                return None
            if image.mode in ("CMYK", "LAB") or _space(profile) != _RGB_SPACE:
                return None
            _transform(np.zeros((1, 1, 3), np.float32), _SRGB, profile)
            return profile
    except Exception:  # noqa: BLE001 - a parser of untrusted bytes
        return None


def _open(data: bytes, max_pixels: int, notes: list[str]) -> tuple[bytes, ImageFile]:
    """Reads the header of the image to use.

    Args:
        data: The bytes of the file.
        max_pixels: The most pixels to decode.
        notes: What was left out of the file is appended.

    Returns:
        The bytes for decoders, and the opened image.

    Raises:
        OSError: The tags of a TIFF are cut off, as its profile may be among them.
    """
    info: Mapping[str, object] = {}
    pages = 1
    if data.startswith(png.SIGNATURE):
        data, info, damage = png.mend(data, max_pixels)
        notes += ["; ".join(damage)] if damage else []
    elif data.startswith(tiff.SIGNATURES):
        data, number, pages = tiff.first_image(data)
        if number != 1:
            page = f"page {number}" if number else "the image that it stands for"
            notes.append(f"its first page is a thumbnail, using {page}")
    with warnings.catch_warnings(record=True) as complaints:
        warnings.simplefilter("always")
        image = open_image(io.BytesIO(data), _decoders(data))
    cut_off = any(re.search("Truncated|Expecting to", str(told.message)) for told in complaints)
    if cut_off and image.format == "TIFF":
        raise OSError("its tags are incomplete")
    image.info.update(info)
    if image.format in ("AVIF", "HEIF") and "icc_profile" not in image.info:
        image.info.update(cicp_of(data))
    if image.format not in ("MPO", "TIFF", "HEIF"):  # several of which may be previews
        pages = getattr(image, "n_frames", 1)
    if pages > 1:
        notes.append(f"animated, using the first of {pages} frames")
    return data, image


def pillow_pixels() -> int:
    """Returns the most pixels that Pillow decodes in WebP, and in TIFF that is not RGB."""
    limit = Image.MAX_IMAGE_PIXELS
    return MAX_PIXELS if limit is None else 2 * limit


def open_image(file: BinaryIO, formats: list[str]) -> ImageFile:
    """Opens an image also above Pillow's own limit, in whose place is `max_pixels`.

    WebP and some kinds of TIFF are opened or decoded up to `pillow_pixels` only.

    Args:
        file: The file, open for reading.
        formats: Pillow's names of the formats to try.

    Returns:
        The image, of which the header was read.

    Raises:
        Exception: Of any kind, when the file is none of these or is damaged.
    """
    try:
        return Image.open(file, formats=formats)
    except Image.DecompressionBombError:
        file.seek(0)
        start = file.read(64)
        file.seek(0)
        for name in formats:
            make, accepts = Image.OPEN[name]
            if accepts is not None and accepts(start) is True:
                return make(file, "")
        raise


def _decoders(data: bytes) -> list[str]:
    """Returns the formats to try: HEIF only for such a file, where its decoder is installed."""
    if not re.match(_SIGNATURES["HEIC"], data, re.DOTALL) or not _reads_heic():
        return DECODERS
    importlib.import_module("pillow_heif").register_heif_opener()
    return [*DECODERS, "HEIF"]


def _reads_heic() -> bool:
    return importlib.util.find_spec("pillow_heif") is not None


def _decoded(data: bytes, image: ImageFile, target: bytes | None, notes: list[str]) -> Decoded:
    """Decodes an opened image; appends to `notes` what the user should know."""
    shape = _deep_shape(image)
    if shape:
        return _deep(_deep_samples(data, image, shape), image, target, notes)
    if any("CMYK;16" in str(tile) for tile in image.tile):
        logger.debug("16 bits per channel are read as 8")
    if image.format in ("JPEG", "MPO") and not jpeg.has_end(data):  # Pillow takes any bytes then
        whole = jpeg.with_end(data)
        if whole is None:
            raise OSError("pixels are missing at its end")
        notes.append(png.END_IS_MISSING)
        image = Image.open(io.BytesIO(whole), formats=["JPEG"])
    image.load()
    notes += _notes_on_end(data, image)
    return _loaded(image, getattr(image, "tag_v2", {}), target, notes, in_place=True)


def _notes_on_end(data: bytes, image: ImageFile) -> list[str]:
    """Tells of other bytes than zeros after the end of an image; `png.mend` does so for PNG."""
    stripped = data.rstrip(b"\0")
    match image.format:
        case "JPEG" if jpeg.has_end(data) and not stripped.endswith(jpeg.END):
            return [png.TRAILER]
        case "GIF" if not stripped.endswith(b";"):
            return [png.TRAILER if b"\0;" in data else png.END_IS_MISSING]
        case "WEBP" if data[8 + int.from_bytes(data[4:8], "little") :].strip(b"\0"):
            return [png.TRAILER]
    return []


def _loaded(
    image: Image.Image,
    tags: Mapping[int, Any],
    target: bytes | None,
    notes: list[str],
    *,
    in_place: bool,
) -> Decoded:
    """Converts a loaded image; `in_place` saves a copy of it."""
    profile = told_profile(image, notes)
    try:
        if in_place:
            ImageOps.exif_transpose(image, in_place=True)
        else:
            image = ImageOps.exif_transpose(image)
    except Exception:  # noqa: BLE001 - a parser of untrusted bytes; the pixels are still good
        notes.append(_BAD_EXIF)
    if image.mode.startswith("I;16"):
        return _gray16(image, tags, profile, target, notes)
    return _shallow(image, profile, target, notes)


def _shallow(
    image: Image.Image, profile: bytes | None, target: bytes | None, notes: list[str]
) -> Decoded:
    """Converts an image that Pillow holds in 8 bits."""
    alpha: Alpha | None = None
    gray = image.mode in ("1", "L", "LA", "La")
    if image.has_transparency_data:
        image = image.convert("LA") if image.mode == "La" else image
        image = image.convert("RGBA")
        alpha = np.asarray(image.getchannel("A"), np.float32) / np.float32(255)
    if image.mode not in ("CMYK", "LAB"):
        image = image.convert("L" if gray else "RGB")
    elif image.mode == "CMYK" and not profile:
        notes.append("CMYK without a color profile, colors are approximate")
    return Decoded(_converted(image, profile, target, notes), _meant(alpha, notes), 255)


def _gray16(
    image: Image.Image,
    tags: Mapping[int, Any],
    profile: bytes | None,
    target: bytes | None,
    notes: list[str],
) -> Decoded:
    """Scales 16-bit gray to [0, 255]; Pillow's own conversion clips it to white."""
    values = np.asarray(image)
    transparent = image.info.get("transparency")
    alpha = None if transparent is None else (values != transparent).astype(np.float32)
    white = 4095 if tags.get(ExifTags.Base.BitsPerSample) == (12,) else 65535
    if tags.get(ExifTags.Base.PhotometricInterpretation) == 0:  # white is zero; Pillow leaves it so
        values = white - values
    gray = (values / (white / 255)).astype(np.float32)[:, :, np.newaxis]
    return Decoded(_converted(gray, profile, target, notes), _meant(alpha, notes), white)


def _deep_shape(image: ImageFile) -> tuple[int, ...] | None:
    """Returns the stored shape of what Pillow does not decode; None for others.

    These are color of 16 bits, which it reads as 8, and RGB in a TIFF of more pixels than it reads.
    """
    if isinstance(image, PngImageFile):
        channels = _DEEP_PNG.get(str(image.tile[0].args))
        transparent = "transparency" in image.info  # which libpng turns into a channel
        return (image.height, image.width, channels + transparent) if channels else None
    if not isinstance(image, TiffImageFile):
        return None
    tags = image.tag_v2
    rgb = tags.get(ExifTags.Base.PhotometricInterpretation) == 2
    depths = set(tags.get(ExifTags.Base.BitsPerSample, ()))
    is_large = image.width * image.height > pillow_pixels()
    if not rgb or depths not in ([{8}, {16}] if is_large else [{16}]):
        return None
    # A tile is decoded whole, however small the image.
    tile = tags.get(ExifTags.Base.TileWidth, 1) * tags.get(ExifTags.Base.TileLength, 1)
    if tile > _UNASKED_PIXELS:
        raise ValueError("its tiles are far larger than the image")
    channels = tags[ExifTags.Base.SamplesPerPixel]
    # As stored: Pillow's own width and height are those of the upright image.
    shape = tags[ExifTags.Base.ImageLength], tags[ExifTags.Base.ImageWidth]
    return (channels, *shape) if _is_planar(image) else (*shape, channels)


def _deep_samples(data: bytes, image: ImageFile, shape: tuple[int, ...]) -> _Deep:
    """Decodes [H, W, channels]; data that differs from the `shape` in the header is refused."""
    if not isinstance(image, TiffImageFile):
        out = np.empty(shape, np.uint16)
        imagecodecs.png_decode(data, out=out)
        return out
    is_deep = image.tag_v2[ExifTags.Base.BitsPerSample][0] == 16
    out = np.empty(shape, np.uint16 if is_deep else np.uint8)
    imagecodecs.tiff_decode(data, out=out)
    return np.moveaxis(out, 0, 2) if _is_planar(image) else out


def _is_planar(image: TiffImageFile) -> bool:
    return bool(image.tag_v2.get(ExifTags.Base.PlanarConfiguration) == 2)


def _deep(samples: _Deep, image: ImageFile, target: bytes | None, notes: list[str]) -> Decoded:
    """Converts color that Pillow did not decode as Pillow converts that of 8 bits."""
    stored = from_integers(_oriented(samples, _orientation(image, notes)))
    alpha: Alpha | None = None
    colors = np.ascontiguousarray(stored[:, :, : 1 if stored.shape[2] == 2 else 3])
    if image.has_transparency_data:
        alpha = _meant(stored[:, :, -1] / np.float32(255), notes)
        premultiplied = getattr(image, "tag_v2", {}).get(ExifTags.Base.ExtraSamples) == (1,)
        if alpha is not None and premultiplied:
            opaque = np.maximum(alpha, np.float32(1 / 65535))[:, :, np.newaxis]
            colors = np.minimum(colors / opaque, np.float32(255))
    profile = told_profile(image, notes)
    return Decoded(_converted(colors, profile, target, notes), alpha, np.iinfo(samples.dtype).max)


def _orientation(image: ImageFile, notes: list[str]) -> int:
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # noqa: BLE001 - a parser of untrusted bytes; the pixels are still good
        notes.append(_BAD_EXIF)
        return 1


def _oriented(samples: _Deep, orientation: int) -> _Deep:
    """Applies an EXIF orientation to [H, W, channels] (Exif 2.32, 4.6.4 A)."""
    if orientation in (5, 6, 7, 8):
        samples = samples.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        samples = samples[:, ::-1]
    if orientation in (3, 4, 7, 8):
        samples = samples[::-1]
    return samples


def _converted(
    pixels: Image.Image | ImageArray, profile: bytes | None, target: bytes | None, notes: list[str]
) -> ImageArray:
    """Converts colors from the file's profile to another.

    Args:
        pixels: An image in L, RGB, CMYK or LAB, or gray or RGB [H, W, 1 or 3] in [0, 255].
        profile: The ICC profile of the file, if any.
        target: The ICC profile of the result; None for sRGB.
        notes: What the user should know is appended.

    Returns:
        RGB [H, W, 3] in [0, 255].
    """
    if profile and profile != target:
        try:
            return _transform(pixels, profile, target or _SRGB)
        except (ImageCms.PyCMSError, imagecodecs.CmsError, OSError, ValueError):
            notes.append("the color profile is damaged or does not fit, colors taken as sRGB")
    rgb = _as_rgb(pixels)
    return rgb if target in (None, profile) else _transform(rgb, _SRGB, target)


def _as_rgb(pixels: Image.Image | ImageArray) -> ImageArray:
    if isinstance(pixels, Image.Image):
        return np.asarray(pixels.convert("RGB"), np.float32)
    return np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels


def _transform(pixels: Image.Image | ImageArray, source: bytes, target: bytes) -> ImageArray:
    """Converts from one profile to another; arrays in floating point, without rounding.

    LittleCMS is fast with 8 bits and inaccurate with 16, where it interpolates in a grid.
    """
    if isinstance(pixels, Image.Image):
        if pixels.mode == "L" and _space(source) == _RGB_SPACE:
            pixels = pixels.convert("RGB")
        from_, to = (ImageCms.ImageCmsProfile(io.BytesIO(each)) for each in (source, target))
        transform = ImageCms.buildTransform(from_, to, pixels.mode, "RGB")
        return np.asarray(transform.apply(pixels), np.float32)
    if _space(source) == _RGB_SPACE:
        pixels = _as_rgb(pixels)
    colors = imagecodecs.cms_transform(
        np.ascontiguousarray(pixels / np.float32(255)),
        source,
        target,
        colorspace="gray" if pixels.shape[2] == 1 else "rgb",
        outcolorspace="rgb",
    )
    if not np.isfinite(colors).all():
        raise ValueError("the profile leads to values that are not finite")
    scaled: ImageArray = np.clip(colors * np.float32(255), 0, 255)
    return scaled.reshape(*pixels.shape[:2], 3)


def _space(profile: bytes) -> bytes:
    return profile[16:20]


def _meant(alpha: Alpha | None, notes: list[str]) -> Alpha | None:
    """Returns alpha that hides something, but not everything: some writers leave it at 0."""
    if alpha is None or alpha.min() == 1:
        return None
    if alpha.max() == 0:
        notes.append("its alpha is 0 everywhere, taken as opaque")
        return None
    return alpha


def _name_the_unknown(head: bytes) -> tuple[str, str]:
    """Returns why and what to do when no decoder accepts a file that begins with `head`."""
    for name, pattern in _SIGNATURES.items():
        if re.match(pattern, head, re.DOTALL):
            if name == "TIFF":
                return f"{_DAMAGED}, or its pixels are of a kind that is not supported", _SAVE_AGAIN
            if name in DECODERS or (name == "HEIC" and _reads_heic()):
                return _DAMAGED, _SAVE_AGAIN
            if name == "HEIC":
                why = "format HEIC needs the package pillow-heif, which is not installed"
                return why, "install it (pip install pillow-heif), or convert to PNG or JPEG"
            return f"format {name} is not supported", "convert to PNG or JPEG"
    start = head.split(maxsplit=1)[0][:16] if head.strip() else head[:16]
    return f"not an image (starts with {start.decode('latin-1')!r})", "name a PNG or JPEG"


def _refusal(why: str, remedy: str, where: object) -> InputError:
    return InputError("cannot read the image", why, remedy, where=where)

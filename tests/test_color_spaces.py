"""Color spaces that are told outside ICC profiles: Exif, chunks of PNG, boxes of AVIF.

Expected values are computed in float64 by the standards, without the package's profiles.
"""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from nst_tf.io import decoding
from nst_tf.io.color_spaces import cicp_of
from tests.test_depth import png16
from tests.test_images import (
    HEIGHT,
    LIMIT,
    WIDTH,
    chunk,
    cmyk_profile,
    decode,
    display_p3,
    from_linear,
    p3_to_srgb,
    saved,
)

D65 = (0.3127, 0.3290)
SRGB_XY = (*D65, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
ADOBE_XY = (*D65, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06)
P3_XY = (*D65, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06)
BT2020_XY = (*D65, 0.708, 0.292, 0.17, 0.797, 0.131, 0.046)


@pytest.fixture
def colors() -> np.ndarray:
    """Smooth colors within the gamut of sRGB as seen from wider ones."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return np.stack([90 + y * 3, 100 + x * 2, 170 - y - x], axis=-1).astype(np.uint8)


def to_xyz(xy: tuple[float, ...]) -> np.ndarray:
    points = np.array([(x / y, 1, (1 - x - y) / y) for x, y in zip(xy[::2], xy[1::2], strict=True)])
    white, primaries = points[0], points[1:].T
    return primaries * np.linalg.solve(primaries, white)


def to_srgb(rgb: np.ndarray, xy: tuple[float, ...], curve) -> np.ndarray:
    """The conversion between spaces of the same white."""
    linear = curve(rgb.astype(np.float64) / 255)
    return from_linear(np.clip(linear @ (np.linalg.inv(to_xyz(SRGB_XY)) @ to_xyz(xy)).T, 0, 1))


def srgb_curve(v: np.ndarray) -> np.ndarray:
    return np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4)


def bt709_curve(v: np.ndarray) -> np.ndarray:
    return np.where(v < 0.081, v / 4.5, ((v + 0.099) / 1.099) ** (1 / 0.45))


def power(exponent: float):
    return lambda v: v**exponent


def exif_of(color_space: int | None, index: str | None = None) -> Image.Exif:
    exif = Image.Exif()
    exif[0x010F] = "a camera"  # Pillow writes no Exif without such a tag
    sub = exif.get_ifd(0x8769)
    if color_space is not None:
        sub[0xA001] = color_space
    if index is not None:
        sub[0xA005] = {1: index}
    return exif


def with_chunks(data: bytes, *stored: bytes) -> bytes:
    return data[:33] + b"".join(stored) + data[33:]


def gama(exponent: float) -> bytes:
    return chunk(b"gAMA", struct.pack(">I", round(100_000 / exponent)))


def chrm(xy: tuple[float, ...]) -> bytes:
    return chunk(b"cHRM", struct.pack(">8I", *(round(v * 100_000) for v in xy)))


def cicp(primaries: int, transfer: int, matrix: int = 0, full: int = 1) -> bytes:
    return chunk(b"cICP", bytes([primaries, transfer, matrix, full]))


P3_ICCP = chunk(b"iCCP", b"x\0\0" + zlib.compress(display_p3()))
SRGB_CHUNK = chunk(b"sRGB", b"\0")


# Exif


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("told", [(65535, "R03"), (2, None), (None, "R03"), (2, "R98")])
def test_IMG_54_adobe_rgb_of_cameras_is_converted(colors, format_, told, caplog):
    options = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}}
    data = saved(Image.fromarray(colors), format_, exif=exif_of(*told), **options.get(format_, {}))
    expected = to_srgb(colors, ADOBE_XY, power(563 / 256))
    assert np.abs(expected - colors).max() > 15  # or the test says nothing
    difference = np.abs(decode(data) - expected)  # dark colors of a JPEG are off by more
    assert difference.mean() < 1 if format_ == "JPEG" else difference.max() <= 1.2
    assert caplog.messages == []


def test_IMG_54_a_known_color_of_adobe_rgb():
    image = Image.new("RGB", (WIDTH, HEIGHT), (100, 150, 80))
    data = saved(image, "PNG", exif=exif_of(65535, "R03"))
    assert np.abs(decode(data) - [66, 151, 74]).max() <= 1


@pytest.mark.parametrize("told", [(1, None), (1, "R98"), (None, "R98"), (None, None)])
def test_IMG_54_srgb_told_by_exif_changes_nothing(colors, told, caplog):
    assert np.array_equal(
        decode(saved(Image.fromarray(colors), "PNG", exif=exif_of(*told))), colors
    )
    assert caplog.messages == []


def test_IMG_54_a_space_that_is_not_told_is_said(colors, caplog):
    data = saved(Image.fromarray(colors), "PNG", exif=exif_of(65535))
    assert np.array_equal(decode(data), colors)
    text = "image.png: its color space is not sRGB and has no profile, colors taken as sRGB"
    assert caplog.messages == [text]


def test_IMG_54_primaries_in_tags_are_used(colors, caplog):
    """As TIFF has them, and Exif of cameras."""
    exif = Image.Exif()
    exif[0x013E], exif[0x013F] = P3_XY[:2], P3_XY[2:]
    expected = to_srgb(colors, P3_XY, power(563 / 256))
    for format_ in ("TIFF", "PNG"):
        array = decode(saved(Image.fromarray(colors), format_, exif=exif))
        assert np.abs(array - expected).max() <= 1.2
    exif[0x013F] = SRGB_XY[2:]
    assert np.array_equal(decode(saved(Image.fromarray(colors), "TIFF", exif=exif)), colors)
    assert caplog.messages == []
    exif[0x013F] = (0.3, 0.4)
    assert np.array_equal(decode(saved(Image.fromarray(colors), "PNG", exif=exif)), colors)
    assert caplog.messages == ["image.png: its color space makes no sense, colors taken as sRGB"]


def test_IMG_54_a_profile_counts_more_than_exif(colors, caplog):
    exif = exif_of(65535, "R03")
    data = saved(Image.fromarray(colors), "PNG", exif=exif, icc_profile=display_p3())
    assert np.abs(decode(data) - p3_to_srgb(colors)).max() <= 2
    assert caplog.messages == []


def test_IMG_54_an_orientation_is_applied_as_well(colors):
    exif = exif_of(65535, "R03")
    exif[0x0112] = 3
    data = saved(Image.fromarray(np.ascontiguousarray(colors[::-1, ::-1])), "PNG", exif=exif)
    assert np.abs(decode(data) - to_srgb(colors, ADOBE_XY, power(563 / 256))).max() <= 1.2


def test_IMG_54_adobe_rgb_holds_for_gray_but_not_for_cmyk(colors):
    gray = np.ascontiguousarray(colors[..., 0])
    data = saved(Image.fromarray(gray), "PNG", exif=exif_of(65535, "R03"))
    expected = from_linear((gray / 255.0) ** (563 / 256))[..., np.newaxis]
    assert np.abs(decode(data) - expected).max() <= 1.2
    image = Image.new("CMYK", (WIDTH, HEIGHT), (255, 0, 0, 0))
    plain = saved(image, "TIFF", icc_profile=cmyk_profile(50))
    told = saved(image, "TIFF", icc_profile=cmyk_profile(50), exif=exif_of(65535, "R03"))
    assert np.array_equal(decode(told), decode(plain))


# Chunks of PNG


@pytest.mark.parametrize(
    ("stored", "xy", "curve"),
    [
        (cicp(12, 13), P3_XY, srgb_curve),
        (cicp(9, 14), BT2020_XY, bt709_curve),
        (cicp(9, 15), BT2020_XY, bt709_curve),
        (cicp(9, 1), BT2020_XY, bt709_curve),
        (cicp(9, 13), BT2020_XY, srgb_curve),
        (cicp(1, 8), SRGB_XY, power(1.0)),
        (cicp(1, 4), SRGB_XY, power(2.2)),
        (gama(1.0), SRGB_XY, power(1.0)),
        (gama(1.8), SRGB_XY, power(1.8)),
        (chrm(P3_XY), P3_XY, srgb_curve),
        (gama(563 / 256) + chrm(ADOBE_XY), ADOBE_XY, power(563 / 256)),
    ],
    ids=range(11),
)
@pytest.mark.parametrize("depth", [8, 16])
def test_IMG_55_what_chunks_tell_of_color_is_used(colors, stored, xy, curve, depth, caplog):
    if depth == 8:
        data = saved(Image.fromarray(colors), "PNG")
    else:
        data = png16(colors.astype(np.uint16) * 257)
    expected = to_srgb(colors, xy, curve)
    assert np.abs(expected - colors).max() > 1.4  # or the test says nothing
    assert np.abs(decode(with_chunks(data, stored)) - expected).max() <= (
        1.6 if depth == 8 else 0.1
    )
    assert caplog.messages == []


@pytest.mark.parametrize(
    "stored",
    [
        SRGB_CHUNK,
        cicp(1, 13),
        cicp(1, 1),
        gama(2.2),
        gama(2.2) + chrm(SRGB_XY),
        SRGB_CHUNK + gama(1.0),
        cicp(1, 13) + P3_ICCP,
        cicp(2, 2),
    ],
    ids=range(8),
)
def test_IMG_55_srgb_told_by_chunks_changes_nothing(colors, stored, caplog):
    data = with_chunks(saved(Image.fromarray(colors), "PNG"), stored)
    assert np.array_equal(decode(data), colors)
    assert caplog.messages == []


def test_IMG_55_the_order_is_cicp_iccp_srgb_gama_exif(colors):
    linear = to_srgb(colors, SRGB_XY, power(1.0))
    data = saved(Image.fromarray(colors), "PNG", exif=exif_of(65535, "R03"))
    assert np.abs(decode(with_chunks(data, gama(1.0))) - linear).max() <= 1.6
    assert np.array_equal(decode(with_chunks(data, gama(1.0), SRGB_CHUNK)), colors)
    every = with_chunks(data, gama(1.0), SRGB_CHUNK, P3_ICCP)
    assert np.abs(decode(every) - p3_to_srgb(colors)).max() <= 2
    first = with_chunks(data, gama(1.0), SRGB_CHUNK, P3_ICCP, cicp(1, 8))
    assert np.abs(decode(first) - linear).max() <= 1.6


@pytest.mark.parametrize(("transfer", "name"), [(16, "PQ"), (18, "HLG")])
def test_IMG_55_hdr_is_said(colors, transfer, name, caplog):
    data = with_chunks(saved(Image.fromarray(colors), "PNG"), cicp(9, transfer))
    assert np.array_equal(decode(data), colors)
    assert len(caplog.messages) == 1
    assert f"its brightness is HDR ({name}), which is not converted" in caplog.messages[0]


@pytest.mark.parametrize(
    ("stored", "words"),
    [
        (cicp(77, 13), "its color space is not known (cICP 77, 13, 0, 1)"),
        (cicp(1, 13, matrix=5), "its color space is not known (cICP 1, 13, 5, 1)"),
        (cicp(1, 13, full=0), "its color space is not known"),
        (gama(40.0), "its color space makes no sense, colors taken as sRGB"),
        (chunk(b"gAMA", bytes(4)), "its color space makes no sense"),
        (chrm((*D65, *[0.3, 0.3] * 3)), "its color space makes no sense"),
        (chrm((0.0,) * 8), "its color space makes no sense"),
        (chunk(b"cHRM", b"\xff" * 32), "its color space makes no sense"),
    ],
    ids=range(8),
)
def test_IMG_55_chunks_that_make_no_sense_are_passed_over(colors, stored, words, caplog):
    data = with_chunks(saved(Image.fromarray(colors), "PNG"), stored)
    assert np.array_equal(decode(data), colors)
    assert len(caplog.messages) == 1 and words in caplog.messages[0]


def test_IMG_55_alpha_and_palettes_are_converted_alike(colors):
    expected = to_srgb(colors, P3_XY, srgb_curve)
    rgba = Image.fromarray(np.dstack([colors, np.full((HEIGHT, WIDTH), 128, np.uint8)]))
    array = decode(with_chunks(saved(rgba, "PNG"), cicp(12, 13)))
    share = 128 / 255
    assert np.abs(array - (expected * share + 255 * (1 - share))).max() <= 1.6
    palette = Image.fromarray(colors).quantize(200)
    plain = np.asarray(palette.convert("RGB"))
    array = decode(with_chunks(saved(palette, "PNG"), cicp(12, 13)))
    assert np.abs(array - to_srgb(plain, P3_XY, srgb_curve)).max() <= 1.6


# AVIF


def test_IMG_55_the_primaries_of_an_avif_are_used(colors, caplog):
    options = {"quality": 100, "subsampling": "4:4:4"}
    data = bytearray(saved(Image.fromarray(colors), "AVIF", **options))
    at = data.index(b"colrnclx") + 8
    assert np.abs(decode(bytes(data)) - colors).max() <= 3
    data[at : at + 4] = struct.pack(">HH", 12, 13)
    assert cicp_of(bytes(data)) == {"cicp": bytes([12, 13, 0, 1])}
    assert np.abs(decode(bytes(data)) - to_srgb(colors, P3_XY, srgb_curve)).max() <= 5
    assert caplog.messages == []


def test_IMG_26_the_profile_of_an_avif_counts_more_than_its_numbers(colors):
    options = {"quality": 100, "subsampling": "4:4:4", "icc_profile": display_p3()}
    data = saved(Image.fromarray(colors), "AVIF", **options)
    assert np.abs(decode(data) - p3_to_srgb(colors)).max() <= 5


# Keeping the color space


@pytest.mark.parametrize(
    ("stored", "exif"), [(cicp(12, 13), None), (b"", (65535, "R03")), (gama(1.8), None)]
)
def test_IMG_54_55_the_told_space_can_be_kept(colors, stored, exif):
    options = {"exif": exif_of(*exif)} if exif else {}
    data = with_chunks(saved(Image.fromarray(colors), "PNG", **options), stored)
    profile = decoding.rgb_profile(data)
    assert profile is not None and profile == decoding.rgb_profile(data)
    assert np.array_equal(decoding.decode(data, LIMIT, profile=profile), colors)
    kept = saved(Image.fromarray(colors), "PNG", icc_profile=profile)
    assert np.abs(decode(kept) - decode(data)).max() <= 0.01


def test_IMG_54_55_told_srgb_is_kept_as_no_profile(colors):
    data = saved(Image.fromarray(colors), "PNG", exif=exif_of(1))
    assert decoding.rgb_profile(data) is None
    assert decoding.rgb_profile(with_chunks(data, SRGB_CHUNK)) is None


def test_IMG_54_55_a_made_profile_is_one_that_other_programs_read(colors):
    data = with_chunks(saved(Image.fromarray(colors), "PNG"), cicp(9, 14))
    profile = decoding.rgb_profile(data)
    assert profile is not None
    assert len(profile) == int.from_bytes(profile[:4]) and len(profile) % 4 == 0
    opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    assert ImageCms.getProfileDescription(opened).strip() == "RGB of the image file"

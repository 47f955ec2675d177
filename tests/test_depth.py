"""Depth, format, quality and color profile: exact values through readers that are not ours.

PNG is written and read here by its specification (W3C, 2nd edition), TIFF by tifffile.
"""

import io
import logging
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms, features

from nst_tf.image.arrays import from_integers, quantize
from nst_tf.io import decoding, images
from nst_tf.io.files import atomic_write
from tests.test_images import (
    HEIGHT,
    LAB,
    LIMIT,
    SETTINGS,
    SRGB,
    STORED,
    WIDTH,
    chunk,
    cmyk_profile,
    decode,
    display_p3,
    icc,
    over_white,
    p3_to_srgb,
    png,
    refusal,
    saved,
    with_orientation,
)

P3 = display_p3()
DEEP = [".png", ".tif"]
LOSSY = [".jpg", ".webp", ".avif"]
ADAM7 = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2)]
ADAM7 += [(1, 0, 2, 1)]


@pytest.fixture
def deep(random) -> np.ndarray:
    """Noise in all 16 bits, so that no byte can be lost unseen."""
    return random.integers(0, 2**16, (HEIGHT, WIDTH, 3), np.uint16)


@pytest.fixture
def ramps() -> np.ndarray:
    """Smooth colors well within the gamut of sRGB, each neighbour another value."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return np.stack([y * 400, x * 350, y * 300 + x * 90], axis=-1).astype(np.uint16) + 26_000


def values(pixels: np.ndarray) -> np.ndarray:
    """What 16-bit integers stand for: 65535 / 257 = 255."""
    return pixels.astype(np.float32) / np.float32(257)


def predicted(a: int, b: int, c: int, filter_: int) -> int:
    """The prediction from left, above and above left (PNG, 9.2 and 9.4)."""
    p = a + b - c
    near = sorted((abs(p - value), order, value) for order, value in enumerate((a, b, c)))
    return (0, a, b, (a + b) // 2, near[0][2])[filter_]


def unfiltered(rows: list[tuple[int, bytes]], step: int) -> np.ndarray:
    """Undoes the filters of a PNG byte by byte."""
    above = bytes(len(rows[0][1]))
    found = []
    for filter_, row in rows:
        line = bytearray(row)
        for at in range(len(line)):
            a, c = (line[at - step], above[at - step]) if at >= step else (0, 0)
            line[at] = (line[at] + predicted(a, above[at], c, filter_)) % 256
        found.append(bytes(line))
        above = line
    return np.frombuffer(b"".join(found), ">u2")


def filtered(pixels: np.ndarray) -> bytes:
    """The rows of a PNG of 16 bits, with all five filters in turn."""
    rows = pixels.astype(">u2").reshape(len(pixels), -1).view(np.uint8).astype(int)
    step, above, found = 2 * pixels.shape[2], np.zeros(rows.shape[1], int), b""
    for number, row in enumerate(rows):
        line = bytearray([number % 5])
        for at, value in enumerate(row):
            a, c = (row[at - step], above[at - step]) if at >= step else (0, 0)
            line.append((value - predicted(a, above[at], c, number % 5)) % 256)
        above, found = row, found + bytes(line)
    return found


def chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    """The chunks of a PNG, whose checksums must be right."""
    at, found = 8, []
    while at < len(data):
        (length,) = struct.unpack_from(">I", data, at)
        name, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        assert data[at : at + 12 + length] == chunk(name, body)
        found.append((name, body))
        at += 12 + length
    return found


def naive_png(data: bytes) -> np.ndarray:
    """Reads an RGB PNG of 16 bits."""
    parts = chunks(data)
    header = struct.unpack(">IIBBBBB", parts[0][1])
    assert header[2:] == (16, 2, 0, 0, 0)
    rows = zlib.decompress(b"".join(body for name, body in parts if name == b"IDAT"))
    length = 1 + 6 * header[0]
    lines = [rows[at : at + length] for at in range(0, len(rows), length)]
    return unfiltered([(line[0], line[1:]) for line in lines], 6).reshape(header[1], header[0], 3)


def png16(pixels: np.ndarray, *extra: bytes) -> bytes:
    """A PNG of 16 bits with all filters, and `extra` chunks after the header."""
    color = {1: 0, 2: 4, 3: 2, 4: 6}[pixels.shape[2]]
    data = png(pixels.shape[1], pixels.shape[0], 16, color, filtered(pixels))
    return data[:33] + b"".join(extra) + data[33:]


def tiff16(pixels: np.ndarray, **options) -> bytes:
    file = io.BytesIO()
    options = {"photometric": "rgb", "metadata": None, **options}
    tifffile.imwrite(file, pixels, **options)
    return file.getvalue()


WRITERS = {
    "PNG": png16,
    "TIFF": tiff16,
    "planar TIFF": lambda p: tiff16(np.moveaxis(p, 2, 0), planarconfig="separate"),
}


# Reading 16 bits


@pytest.mark.parametrize("writer", WRITERS.values(), ids=WRITERS)
def test_every_value_of_16_bits_is_kept(writer):
    every = np.arange(2**16, dtype=np.uint16).reshape(128, 512, 1) + np.uint16([0, 1, 2])
    array = decode(writer(every[:40] if writer is png16 else every))  # byte by byte is slow
    assert np.array_equal(array, values(every[: len(array)]))
    assert np.array_equal(quantize(array, 16), every[: len(array)])


def test_an_interlaced_png_of_16_bits(deep):
    rows = b"".join(
        filtered(np.ascontiguousarray(deep[y::down, x::right])) for y, x, down, right in ADAM7
    )
    data = bytearray(png(WIDTH, HEIGHT, 16, 2, rows))
    data[28] = 1
    data[16 - 4 : 33] = chunk(b"IHDR", bytes(data[16:29]))[4:]
    assert np.array_equal(decode(bytes(data)), values(deep))


LAYOUTS = {
    "big-endian": {"byteorder": ">"},
    "strips": {"rowsperstrip": 5},
    "tiles": {"tile": (16, 32)},
    "BigTIFF": {"bigtiff": True},
    "LZW": {"compression": "lzw", "predictor": True},
    "deflate": {"compression": "zlib", "predictor": True},
    "deflate, big-endian, tiles": {"compression": "zlib", "tile": (16, 16), "byteorder": ">"},
    "packbits": {"compression": "packbits"},
}


@pytest.mark.parametrize("planes", ["contig", "separate"])
@pytest.mark.parametrize("options", LAYOUTS.values(), ids=LAYOUTS)
def test_tiffs_of_16_bits_in_any_layout(deep, options, planes):
    pixels = deep if planes == "contig" else np.moveaxis(deep, 2, 0)
    data = tiff16(pixels, planarconfig=planes, **options)
    assert np.array_equal(decode(data), values(deep))


@pytest.mark.parametrize("shape", [(1, 37), (23, 1), (1, 1), (3, 3)])
@pytest.mark.parametrize("writer", WRITERS.values(), ids=WRITERS)
def test_small_images_of_16_bits(deep, writer, shape):
    pixels = np.ascontiguousarray(deep[: shape[0], : shape[1]])
    assert np.array_equal(decode(writer(pixels)), values(pixels))


def test_only_the_first_page_is_read(deep, caplog):
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        writer.write(deep, photometric="rgb")
        writer.write(deep[:5, :4], photometric="rgb")
    assert np.array_equal(decode(file.getvalue()), values(deep))
    assert caplog.messages == ["image.png: animated, using the first of 2 frames"]


def test_what_a_png_says_of_its_making_changes_no_value(deep):
    assert np.array_equal(decode(png16(deep, chunk(b"sBIT", b"\x0c" * 3))), values(deep))


def turned(deep: np.ndarray, orientation: int) -> np.ndarray:
    return np.ascontiguousarray(STORED[orientation](deep))


def exif_chunk(orientation: int) -> bytes:
    return chunk(b"eXIf", with_orientation(orientation).tobytes()[6:])


@pytest.mark.parametrize("orientation", STORED)
def test_IMG_20_all_orientations_of_16_bits_give_the_same_image(deep, orientation):
    stored = turned(deep, orientation)
    tag = [(274, "H", 1, orientation, True)]
    late = png16(stored)
    for data in (
        png16(stored, exif_chunk(orientation)),
        late[:-12] + exif_chunk(orientation) + late[-12:],
        tiff16(stored, extratags=tag),
        tiff16(np.moveaxis(stored, 2, 0), planarconfig="separate", extratags=tag),
    ):
        array = decode(data)
        assert np.array_equal(array, values(deep))
        assert array.flags.c_contiguous and array.flags.writeable


def test_IMG_21_damaged_exif_of_16_bits_counts_as_upright(deep, caplog):
    data = png16(deep, chunk(b"eXIf", b"II*\0\x08\0\0\0\xff\xff\x12\x01"))
    assert np.array_equal(decode(data), values(deep))
    assert len(caplog.messages) <= 1


# Alpha of 16 bits


def alpha16() -> np.ndarray:
    steps = np.arange(HEIGHT * WIDTH) * 65535 // (HEIGHT * WIDTH - 1)
    return steps.astype(np.uint16).reshape(HEIGHT, WIDTH)


@pytest.mark.parametrize("write", [png16, lambda p: tiff16(p, extrasamples=["unassalpha"])])
def test_IMG_22_alpha_of_16_bits_is_composited_over_white(deep, write, caplog):
    array = decode(write(np.dstack([deep, alpha16()])))
    assert np.abs(array - over_white(deep / 257, alpha16() / 257)).max() < 1e-3
    assert caplog.messages == ["image.png: transparent, put on white"]


def test_IMG_22_an_opaque_alpha_of_16_bits_changes_nothing_and_says_nothing(deep, caplog):
    opaque = np.full((HEIGHT, WIDTH), 65535, np.uint16)
    assert np.array_equal(decode(png16(np.dstack([deep, opaque]))), values(deep))
    assert caplog.messages == []


def test_IMG_23_gray_with_alpha_of_16_bits(deep):
    gray = deep[..., :1]
    array = decode(png16(np.dstack([gray, alpha16()])))
    expected = over_white(np.repeat(gray / 257, 3, axis=2), alpha16() / 257)
    assert np.abs(array - expected).max() < 1e-3


def test_IMG_23_premultiplied_alpha_of_16_bits(deep):
    """What is stored over white is 255 (1 - alpha) more, whatever it was divided by."""
    alpha = alpha16()
    stored = (deep * (alpha[..., np.newaxis] / 65535)).astype(np.uint16)
    array = decode(tiff16(np.dstack([stored, alpha]), extrasamples=["assocalpha"]))
    expected = stored / 257 + (255 - alpha / 257)[..., np.newaxis]
    assert np.abs(array - expected).max() < 1e-3


def test_a_fourth_channel_that_is_no_alpha_is_left_out(deep, caplog):
    data = tiff16(np.dstack([deep, alpha16()]), extrasamples=["unspecified"])
    assert np.array_equal(decode(data), values(deep))
    assert caplog.messages == []


def test_IMG_19_one_transparent_color_of_16_bits(deep):
    """Only the very color, not all that share its high bytes."""
    deep[3, 5], deep[3, 6] = (1000, 2000, 3000), (1000, 2000, 3001)
    array = decode(png16(deep, chunk(b"tRNS", struct.pack(">HHH", 1000, 2000, 3000))))
    expected = values(deep)
    expected[3, 5] = 255
    assert np.abs(array - expected).max() < 1e-4


# Color of 16 bits


@pytest.mark.parametrize("format_", ["PNG", "TIFF"])
def test_IMG_26_display_p3_of_16_bits_is_converted_finely(ramps, format_, caplog):
    if format_ == "PNG":
        data = png16(ramps, chunk(b"iCCP", b"x\0\0" + zlib.compress(P3)))
    else:
        data = tiff16(ramps, iccprofile=P3)
    array, expected = decode(data), p3_to_srgb(ramps / 257)
    assert expected.min() > 1 and expected.max() < 254 and np.abs(expected - ramps / 257).max() > 5
    # The formula's matrices have five digits, which is 0.03; 8 bits are off by up to 0.5.
    assert np.abs(array - expected).max() < 0.03
    assert caplog.messages == []


def test_IMG_26_neighbouring_values_of_16_bits_stay_apart():
    gray = np.repeat(np.arange(20_000, 20_500, dtype=np.uint16).reshape(1, -1, 1), 3, axis=2)
    array = decode(tiff16(gray + np.uint16([0, 300, 900]), iccprofile=P3))
    assert (np.diff(array, axis=1) > 0.5 / 257).all()


def test_IMG_26_out_of_gamut_colors_are_clipped(deep):
    array = decode(tiff16(deep, iccprofile=P3))
    assert np.abs(array - p3_to_srgb(deep / 257)).max() < 0.6


def test_IMG_26_srgb_of_16_bits_stays_what_it_is(deep):
    assert np.array_equal(quantize(decode(tiff16(deep, iccprofile=SRGB)), 16), deep)


def gray_profile() -> bytes:
    """Gray of gamma 1, by XYZ."""
    curve = b"curv" + bytes(4) + struct.pack(">I", 0)
    white = b"XYZ " + bytes(4) + struct.pack(">iii", 63190, 65536, 54061)
    profile = bytearray(icc(b"GRAY", b"mntr", {b"kTRC": curve, b"wtpt": white}))
    profile[20:24] = b"XYZ "
    return bytes(profile)


@pytest.mark.parametrize("channels", [1, 2])
def test_IMG_28_gray_of_16_bits_is_converted_finely(channels):
    """IEC 61966-2-1 of linear light."""
    light = (np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH, 1) * 70 + 2000).astype(np.uint16)
    pixels = np.dstack([light, np.full_like(light, 65535)][:channels])
    array = decode(png16(pixels, chunk(b"iCCP", b"x\0\0" + zlib.compress(gray_profile()))))
    expected = 255 * (1.055 * (light / 65535) ** (1 / 2.4) - 0.055)
    assert np.abs(array - expected).max() < 0.02


@pytest.mark.parametrize(
    "profile",
    [b"garbage" * 30, P3[:200], cmyk_profile(50), gray_profile()],
    ids=["garbage", "cut", "CMYK", "gray"],
)
def test_IMG_27_a_corrupt_or_wrong_profile_of_16_bits_is_passed_over(deep, profile, caplog):
    assert np.array_equal(decode(tiff16(deep, iccprofile=profile)), values(deep))
    text = "image.png: the color profile is damaged or does not fit, colors taken as sRGB"
    assert caplog.messages == [text]


def test_IMG_27_damage_anywhere_in_a_profile_never_crashes(deep, random):
    at = (whole := tiff16(deep, iccprofile=P3)).index(P3)
    for _ in range(200):
        data = bytearray(whole)
        data[at + random.integers(0, len(P3))] = random.integers(0, 256)
        decode(bytes(data))


def test_IMG_29_cmyk_of_16_bits_is_read_as_8(caplog):
    caplog.set_level(logging.DEBUG, "nst_tf")
    ink = np.zeros((HEIGHT, WIDTH, 4), np.uint16)
    ink[:9, :, 0] = 65535
    array = decode(tiff16(ink, photometric="separated"))
    assert np.abs(array[:9] - [0, 255, 255]).max() <= 3 and array[9:].min() == 255
    assert caplog.messages == [
        "16 bits per channel are read as 8",
        "image.png: CMYK without a color profile, colors are approximate",
    ]


# Refusals


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.int16, np.uint32])
def test_IMG_30_31_other_color_of_16_or_32_bits_is_refused(dtype):
    data = tiff16(np.ones((HEIGHT, WIDTH, 3), dtype))
    refusal(
        lambda: decode(data), "its pixels are of a kind that is not supported", "save it as PNG"
    )


@pytest.mark.parametrize("size", [(13_000, 13_000), (14_000, 14_000), (2**31 - 1, 1)])
def test_IMG_10_11_12_a_bomb_of_16_bits_is_refused_by_its_header(size):
    data = png(*size, 16, 2, bytes(1000))
    words = "it has more than 100000000 pixels; scale it down or raise max_pixels"
    refusal(lambda: decode(data), words)


def patched(data: bytes, tag: int, value: int) -> bytes:
    """A TIFF with another value of a number."""
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        at, size = file.pages[0].tags[tag].valueoffset, file.pages[0].tags[tag].dtype
    return (
        data[:at] + value.to_bytes(2 if size == 3 else 4, "little") + data[at + (2, 4)[size > 3] :]
    )


def test_IMG_10_12_a_tiff_of_16_bits_is_refused_by_its_header(deep):
    data = patched(patched(tiff16(deep), 256, 65_000), 257, 65_000)
    refusal(lambda: decode(data), "it has more than 100000000 pixels")


def test_IMG_12_a_tile_far_larger_than_its_image_is_refused_before_decoding(deep):
    data = patched(patched(tiff16(deep, tile=(64, 64)), 322, 65_520), 323, 65_520)
    refusal(lambda: decode(data), "damaged (its tiles are far larger than the image)")


def test_IMG_12_a_second_header_cannot_ask_for_more_than_the_first(deep):
    data = png16(deep)
    large = chunk(b"IHDR", struct.pack(">IIBBBBB", 30_000, 30_000, 16, 2, 0, 0, 0))
    refusal(lambda: decode(data[:8] + large + data[8:]), "damaged")


@pytest.mark.parametrize("compression", ["raw", "tiff_deflate"])
def test_IMG_07_a_tiff_cut_off_within_its_color_profile_is_refused(random, compression):
    noise = Image.fromarray(random.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8))
    for data in (
        saved(noise, "TIFF", compression=compression, icc_profile=P3),
        images.encode(np.asarray(noise).astype(np.uint16), ".tif", "{}", profile=P3),
    ):
        for percent in range(50, 100):
            refusal(lambda: decode(data[: len(data) * percent // 100]), "cut short")  # noqa: B023


# Rounding


def test_RUN_36_rounding_to_16_bits_clips_and_goes_to_the_nearest():
    given_ = [-1e9, -0.001, 0, 0.4 / 257, 0.6 / 257, 1, 127.5, 254.999, 255, 255.1, 1e30]
    expected = [0, 0, 0, 0, 1, 257, 32768, 65535, 65535, 65535, 65535]
    result = quantize(np.array(given_, np.float64), 16)
    assert result.dtype == np.uint16
    assert result.tolist() == expected


@pytest.mark.parametrize(("depth", "dtype"), [(8, np.uint8), (16, np.uint16)])
def test_integers_that_become_numbers_round_to_themselves(depth, dtype):
    every = np.arange(2**depth).astype(dtype)
    found = from_integers(every)
    assert found.dtype == np.float32 and found[0] == 0 and found[-1] == 255
    assert np.array_equal(quantize(found, depth), every)


@given(st.floats(0, 255, width=32))
def test_rounding_is_off_by_half_a_step_at_most(value):
    for depth, step in ((8, 1), (16, 1 / 257)):
        found = from_integers(quantize(np.float32([value]), depth))
        assert abs(float(found[0]) - value) <= step / 2 + 2e-5


# Writing 16 bits


def test_a_png_of_16_bits_holds_every_bit(deep, tmp_path):
    data = images.encode(deep, ".png", SETTINGS)
    assert np.array_equal(naive_png(data), deep)
    assert [name for name, _ in chunks(data)][:3] == [b"IHDR", b"tEXt", b"tEXt"]
    with Image.open(io.BytesIO(data)) as image:
        assert np.array_equal(np.asarray(image), deep >> 8)  # Pillow reads the high bytes


def test_a_tiff_of_16_bits_holds_every_bit(deep):
    data = images.encode(deep, ".tiff", SETTINGS)
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = file.pages[0]
        assert np.array_equal(page.asarray(), deep)
        assert page.tags["ExifTag"].value["UserComment"] == SETTINGS and page.software == "nst_tf"
        assert page.photometric.name == "RGB" and page.compression.name == "ADOBE_DEFLATE"
    with Image.open(io.BytesIO(data)) as image:
        assert np.array_equal(np.asarray(image), deep >> 8)


@pytest.mark.parametrize("suffix", DEEP)
def test_RUN_37_16_bits_are_read_back_and_so_are_the_settings(tmp_path, deep, suffix):
    path = tmp_path / f"out{suffix}"
    atomic_write(path, images.encode(deep, suffix.upper(), SETTINGS))
    assert np.array_equal(images.read(path), from_integers(deep))
    assert images.settings_of(path) == SETTINGS


@pytest.mark.parametrize("suffix", DEEP)
def test_any_view_of_16_bits_is_written_and_always_to_the_same_bytes(deep, suffix):
    view = deep[::-1, ::2]
    data = images.encode(view, suffix, SETTINGS)
    assert np.array_equal(quantize(decode(data), 16), view)
    assert images.encode(view.copy(), suffix, SETTINGS) == data


@pytest.mark.parametrize("suffix", DEEP)
def test_smooth_16_bits_are_compressed(ramps, suffix):
    assert len(images.encode(ramps, suffix, "{}")) < ramps.nbytes / 2


@pytest.mark.parametrize("suffix", DEEP)
def test_long_settings_fit(tmp_path, deep, suffix):
    atomic_write(tmp_path / "a", images.encode(deep, suffix, "x" * 59_000))
    assert images.settings_of(tmp_path / "a") == "x" * 59_000


@pytest.mark.parametrize("name", ["a.jpg", "a.JPEG", "a.webp", "a.avif"])
def test_16_bits_are_refused_where_the_format_has_8(name):
    images.check_output(Path(name), (HEIGHT, WIDTH), 8)
    format_ = images.FORMATS[Path(name).suffix.lower()]
    refusal(
        lambda: images.check_output(Path(name), None, 16),
        f"cannot write the image ({name}): bit_depth is 16, and {format_} is written with 8 bits;"
        " choose .png or .tiff, or bit_depth 8",
    )


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.TIFF"])
def test_16_bits_are_taken_where_the_format_has_them(name):
    images.check_output(Path(name), (HEIGHT, WIDTH), 16)


# AVIF


def test_RUN_05_avif_is_refused_by_name_where_pillow_is_built_without_it(monkeypatch):
    images.check_output(Path("a.avif"))
    check = features.check
    monkeypatch.setattr(features, "check", lambda name: name != "avif" and check(name))
    text = "Pillow was installed here without AVIF; choose .png"
    refusal(lambda: images.check_output(Path("a.avif")), text)


def test_RUN_05_the_longest_side_of_an_avif_is_what_can_be_read_again():
    for shape, fits in (((1, 32_768), True), ((32_769, 1), False)):
        data = images.encode(np.zeros((*shape, 3), np.uint8), ".avif", "{}")
        if fits:
            images.check_output(Path("a.avif"), shape)
            assert decode(data).shape == (*shape, 3)
        else:
            words = "AVIF holds at most 32768 pixels a side, not 32769"
            refusal(lambda: images.check_output(Path("a.avif"), shape), words)  # noqa: B023
            refusal(lambda: decode(data))  # noqa: B023


def test_IMG_22_alpha_of_an_avif_is_composited_over_white():
    rgba = np.full((HEIGHT, WIDTH, 4), (200, 100, 0, 128), np.uint8)
    array = decode(saved(Image.fromarray(rgba), "AVIF", quality=100, subsampling="4:4:4"))
    assert np.abs(array - over_white(np.array([200, 100, 0]), np.array(128))).max() < 3


def test_IMG_26_the_profile_of_an_avif_is_heeded(ramps):
    pixels = (ramps >> 8).astype(np.uint8)
    options = {"quality": 100, "subsampling": "4:4:4", "icc_profile": P3}
    array = decode(saved(Image.fromarray(pixels), "AVIF", **options))
    assert np.abs(array - p3_to_srgb(pixels)).max() < 5 < np.abs(p3_to_srgb(pixels) - pixels).max()


@pytest.mark.parametrize(
    ("side", "words"), [(13_000, "more than 100000000 pixels"), (2**31, "damaged")]
)
def test_IMG_10_an_avif_bomb_is_refused_by_its_header(side, words):
    data = saved(Image.new("RGB", (WIDTH, HEIGHT)), "AVIF")
    header = b"ispe" + bytes(4)
    data = data.replace(
        header + struct.pack(">II", WIDTH, HEIGHT), header + struct.pack(">II", side, side)
    )
    refusal(lambda: decode(data), words)


def test_IMG_17_the_first_frame_of_an_animated_avif_is_used(caplog):
    frames = [Image.new("RGB", (WIDTH, HEIGHT), color) for color in ("red", "lime")]
    array = decode(saved(frames[0], "AVIF", save_all=True, append_images=frames[1:]))
    assert np.abs(array - [255, 0, 0]).max() < 5
    assert caplog.messages == ["image.png: animated, using the first of 2 frames"]


# Quality


@pytest.mark.parametrize(("suffix", "same"), [(".jpg", 95), (".avif", 95), (".webp", 100)])
def test_no_quality_means_the_best_that_is_usual(random, suffix, same):
    noise = random.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    assert images.encode(noise, suffix, "{}") == images.encode(noise, suffix, "{}", quality=same)


def test_webp_has_no_loss_at_100_and_some_below(random):
    noise = random.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    assert np.array_equal(decode(images.encode(noise, ".webp", "{}", quality=100)), noise)
    assert not np.array_equal(decode(images.encode(noise, ".webp", "{}", quality=99)), noise)


@pytest.mark.parametrize("suffix", LOSSY)
def test_more_quality_is_nearer_and_larger(random, suffix):
    y, x = np.mgrid[:120, :170]
    smooth = np.stack([y * 2, x * 1.4, 255 - y - x * 0.7], axis=-1)
    array = quantize(smooth + random.normal(0, 12, smooth.shape))
    files = [images.encode(array, suffix, "{}", quality=quality) for quality in (1, 40, 90)]
    sizes = [len(file) for file in files]
    errors = [np.abs(decode(file) - array).mean() for file in files]
    assert sizes == sorted(set(sizes)) and errors == sorted(set(errors), reverse=True)


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("suffix", DEEP)
def test_png_and_tiff_ignore_quality(deep, suffix, depth):
    pixels = deep if depth == 16 else (deep >> 8).astype(np.uint8)
    assert images.encode(pixels, suffix, "{}", quality=1) == images.encode(pixels, suffix, "{}")


@pytest.mark.parametrize("quality", [0, 30])
@pytest.mark.parametrize("suffix", [".jpg", ".avif"])
def test_color_keeps_its_resolution(suffix, quality):
    """Columns of red and green of one pixel each, which 4:2:0 mixes to one color."""
    stripes = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    stripes[:, ::2, 0], stripes[:, 1::2, 1] = 200, 102  # of the same luma
    array = decode(images.encode(stripes, suffix, "{}", quality=quality))
    assert np.abs(array - stripes).mean() < 25  # 4:2:0 gives 60 and more


# Color profiles


def lut_profile() -> bytes:
    """RGB that can be read but not written: it has no table back."""
    line = bytes(range(256))
    corners = b"".join(bytes([255 * i // 7, 128, 128]) for i in range(8))
    identity = struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 65536)
    lut = b"mft1" + bytes(4) + bytes([3, 3, 2, 0]) + identity + line * 3 + corners + line * 3
    white = b"XYZ " + bytes(4) + struct.pack(">iii", 63190, 65536, 54061)
    return icc(b"RGB ", b"scnr", {b"A2B0": lut, b"wtpt": white})


EVERY = [(suffix, 8) for suffix in images.FORMATS] + [(suffix, 16) for suffix in DEEP]


@pytest.mark.parametrize(("suffix", "depth"), EVERY)
def test_a_profile_is_embedded_and_found_again(tmp_path, deep, suffix, depth):
    pixels = deep if depth == 16 else (deep >> 8).astype(np.uint8)
    path = tmp_path / f"a{suffix}"
    atomic_write(path, images.encode(pixels, suffix, SETTINGS, profile=P3))
    with Image.open(path) as image:
        assert image.info["icc_profile"] == P3
    assert images.profile_of(path) == P3
    assert images.settings_of(path) == SETTINGS
    if images.FORMATS[suffix] not in ("JPEG", "AVIF"):
        kept = images.read(path, profile=P3)
        assert np.array_equal(kept, from_integers(pixels))


@pytest.mark.parametrize(("suffix", "depth"), EVERY)
def test_without_a_profile_none_is_embedded(tmp_path, deep, suffix, depth):
    pixels = deep if depth == 16 else (deep >> 8).astype(np.uint8)
    (tmp_path / "a").write_bytes(images.encode(pixels, suffix, SETTINGS))
    with Image.open(tmp_path / "a") as image:
        assert "icc_profile" not in image.info
    assert images.profile_of(tmp_path / "a") is None


def test_an_image_without_a_profile_is_converted_from_srgb(ramps):
    """There and back is the same image; white and black stay where they are."""
    for data, tolerance in (
        (tiff16(ramps), 0.03),
        (saved(Image.fromarray((ramps >> 8).astype(np.uint8)), "PNG"), 2),
    ):
        plain = decode(data)
        wide = decoding.decode(data, LIMIT, profile=P3)
        assert np.abs(wide - plain).max() > 5
        assert np.abs(p3_to_srgb(wide.astype(np.float64)) - plain).max() < tolerance
    ends = np.array([[[0] * 3, [65535] * 3, [30_000] * 3]], np.uint16)
    found = decoding.decode(tiff16(ends), LIMIT, profile=P3)
    assert np.abs(found - values(ends)).max() < 0.02


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("source", [SRGB, P3], ids=["sRGB", "P3"])
def test_an_image_is_converted_from_its_profile_to_another(ramps, depth, source):
    """Through the wide profile or at once, the colors in sRGB are the same."""
    other = display_p3()[:100] + b"\1" + display_p3()[101:]  # the same space, another file
    pixels = ramps if depth == 16 else (ramps >> 8).astype(np.uint8)
    data = images.encode(pixels, ".tif", "{}", profile=source)
    wide = decoding.decode(data, LIMIT, profile=other)
    assert np.abs(p3_to_srgb(wide.astype(np.float64)) - decode(data)).max() < (2, 0.03)[depth > 8]


@pytest.mark.parametrize("format_", ["PNG", "TIFF", "BMP"])
def test_gray_is_gray_in_any_profile(format_):
    gray = Image.fromarray(np.arange(HEIGHT * WIDTH, dtype=np.uint16).reshape(HEIGHT, WIDTH) % 251)
    array = decoding.decode(saved(gray.convert("L"), format_), LIMIT, profile=P3)
    assert np.ptp(array, axis=2).max() <= 1
    assert np.abs(array[..., 0] - np.asarray(gray)).max() <= 1


def test_cmyk_is_converted_whatever_is_kept(caplog):
    image = Image.new("CMYK", (WIDTH, HEIGHT), (255, 0, 0, 0))
    data = saved(image, "TIFF", icc_profile=cmyk_profile(50))
    assert decoding.rgb_profile(data) is None
    for profile in (None, P3):
        assert np.abs(decoding.decode(data, LIMIT, profile=profile) - 119).max() <= 3
    assert caplog.messages == []


def test_only_an_rgb_profile_that_can_be_written_is_kept(tmp_path):
    rgb = Image.new("RGB", (WIDTH, HEIGHT), (9, 99, 199))
    gray, lab = Image.new("L", (WIDTH, HEIGHT), 9), Image.new("LAB", (WIDTH, HEIGHT))
    kept = {"rgb": (rgb, P3), "gray in RGB": (gray, P3), "sRGB": (rgb, SRGB)}
    not_kept = {
        "no profile": (rgb, None),
        "gray": (gray, gray_profile()),
        "LAB": (lab, LAB),
        "RGB pixels called CMYK": (rgb, cmyk_profile(50)),
        "garbage": (rgb, b"garbage" * 30),
        "cut": (rgb, P3[:200]),
        "one way": (rgb, lut_profile()),
        "too long": (rgb, P3 + bytes(2**20)),
    }
    for name, (image, profile) in (kept | not_kept).items():
        (tmp_path / "a").write_bytes(saved(image, "TIFF", icc_profile=profile))
        assert images.profile_of(tmp_path / "a") == (profile if name in kept else None), name
    for name, data in {"text": b"hello", "bomb": png(14_000, 14_000, 16, 2, b"")}.items():
        (tmp_path / "a").write_bytes(data)
        assert images.profile_of(tmp_path / "a") is None, name
    refusal(lambda: images.profile_of(tmp_path / "missing.png"), "no such file")


def test_the_one_way_profile_can_be_read():
    """Or the test above would pass by an invalid profile."""
    profile = ImageCms.ImageCmsProfile(io.BytesIO(lut_profile()))
    assert profile.profile.xcolor_space == "RGB "
    data = saved(Image.new("RGB", (WIDTH, HEIGHT), (9, 99, 199)), "TIFF", icc_profile=lut_profile())
    assert not np.array_equal(decode(data)[0, 0], [9, 99, 199])


def test_the_largest_profile_that_is_kept_is_read_back_from_a_png(tmp_path, deep):
    profile = P3.ljust(2**20, b"\0")
    for pixels in (deep, (deep >> 8).astype(np.uint8)):
        (tmp_path / "a.png").write_bytes(images.encode(pixels, ".png", "{}", profile=profile))
        assert images.profile_of(tmp_path / "a.png") == profile


@pytest.mark.parametrize("profile", [None, P3], ids=["srgb", "keep"])
@pytest.mark.parametrize(("suffix", "depth"), EVERY)
def test_reading_and_writing_do_not_warn(tmp_path, deep, suffix, depth, profile, capfd, caplog):
    pixels = deep if depth == 16 else (deep >> 8).astype(np.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (tmp_path / "a").write_bytes(images.encode(pixels, suffix, SETTINGS, profile=profile))
        images.read(tmp_path / "a", profile=profile)
        images.settings_of(tmp_path / "a")
    assert capfd.readouterr() == ("", "") and caplog.messages == []

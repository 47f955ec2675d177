"""Image files that other programs read: damage that costs no pixels, thumbnails, odd ends."""

import io
import struct
import time
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image

from nst_tf.errors import InputError
from nst_tf.io import decoding, jpeg, png, tiff
from tests.test_depth import png16, values
from tests.test_images import (
    HEIGHT,
    LIMIT,
    SRGB,
    WIDTH,
    chunk,
    decode,
    display_p3,
    p3_to_srgb,
    refusal,
    saved,
)


@pytest.fixture
def rgb() -> np.ndarray:
    """A smooth image with no symmetry."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return np.stack([y * 10, x * 6, 255 - 4 * y - 3 * x], axis=-1).clip(0, 255).astype(np.uint8)


@pytest.fixture
def scene(random) -> Image.Image:
    """Noise of many blocks, so that every bit of a JPEG counts."""
    return Image.fromarray(random.integers(0, 256, (83, 131, 3), np.uint8))


JPEGS = {
    "baseline": {},
    "progressive": {"progressive": True},
    "optimized": {"optimize": True},
    "4:4:4": {"subsampling": 0},
    "best": {"quality": 100, "subsampling": 0, "progressive": True},
    "restarts": {"restart_marker_blocks": 3},
    "progressive restarts": {"progressive": True, "restart_marker_rows": 1},
    "gray": {},
    "CMYK": {},
}


def jpeg_of(scene: Image.Image, kind: str) -> bytes:
    mode = {"gray": "L", "CMYK": "CMYK"}.get(kind, "RGB")
    return saved(scene.convert(mode), "JPEG", **{"quality": 85, **JPEGS[kind]})


def outcome(data: bytes) -> np.ndarray | str:
    try:
        return decode(data)
    except InputError as error:
        return str(error)


# JPEG


@pytest.mark.parametrize("kind", JPEGS)
@pytest.mark.parametrize(
    "tail", [b"", b"\xff", b"\0" * 700, b"\xff" * 9, b" a text\r\n" * 50], ids=range(5)
)
def test_IMG_47_a_jpeg_without_its_end_is_read(scene, kind, tail, caplog):
    data = jpeg_of(scene, kind)
    expected = decode(data)
    caplog.clear()
    assert data.endswith(b"\xff\xd9")
    assert np.array_equal(decode(data[:-2] + tail), expected)
    told = [message for message in caplog.messages if "CMYK" not in message]
    assert told == ["image.png: its end is missing, but no pixels are"]


@pytest.mark.parametrize("kind", JPEGS)
@pytest.mark.parametrize("share", [0.0, 0.5], ids=["flat", "half flat"])
def test_IMG_47_a_flat_jpeg_without_its_end_is_read(scene, kind, share):
    pixels = np.asarray(scene).copy()
    pixels[int(share * len(pixels)) :] = (200, 120, 40)
    data = jpeg_of(Image.fromarray(pixels), kind)
    expected = decode(data)
    assert np.array_equal(decode(data[:-2]), expected)
    for missing in range(3, 60, 2):  # what is read is what was there
        found = outcome(data[:-missing])
        assert isinstance(found, str) or np.array_equal(found, expected), missing
    for percent in range(5, 100, 5):
        found = outcome(data[: len(data) * percent // 100])
        assert isinstance(found, str) or np.array_equal(found, expected), percent


@pytest.mark.parametrize("kind", JPEGS)
def test_IMG_07_47_a_jpeg_that_lost_pixels_is_refused_at_any_length(scene, kind):
    data = jpeg_of(scene, kind)
    lengths = {len(data) * percent // 100 for percent in range(1, 100)}
    lengths |= {*range(len(data) - 400, len(data) - 40, 9), *range(len(data) - 40, len(data) - 3)}
    for length in sorted(lengths):
        text = outcome(data[:length])
        if not isinstance(text, str):  # the last byte may be of padding alone
            assert length >= len(data) - 4 and np.array_equal(text, decode(data)), length
        else:
            assert "the file is cut short or damaged" in text, length


@pytest.mark.parametrize("kind", ["baseline", "progressive", "restarts"])
@pytest.mark.parametrize("tail", [b"\0" * 5000, b" " * 5000, b"text " * 900], ids=["0", " ", "t"])
def test_IMG_47_other_bytes_in_the_place_of_pixels_are_no_pixels(scene, kind, tail):
    """As after a download into a file that has its full size from the start."""
    data = jpeg_of(scene, kind)
    for percent in (30, 60, 90, 97):
        text = outcome(data[: len(data) * percent // 100] + tail)
        assert isinstance(text, str) and "cut short or damaged" in text, percent


def test_IMG_47_a_progressive_jpeg_without_its_last_scans_is_refused(scene):
    data = jpeg_of(scene, "progressive")
    scans = [at for at in range(len(data)) if data.startswith(b"\xff\xda", at)]
    tables = [data.rindex(b"\xff\xc4", 0, at) for at in scans[1:]]
    assert len(tables) > 5
    for end in tables:
        assert jpeg.with_end(data[:end]) is None
        assert isinstance(outcome(data[:end]), str), end


def test_IMG_47_another_image_in_place_of_the_end_is_left_out(scene, caplog):
    data = jpeg_of(scene, "baseline")
    expected = decode(data)
    assert np.array_equal(decode(data[:-2] + data), expected)
    assert caplog.messages == ["image.png: its end is missing, but no pixels are"]


def test_IMG_51_bytes_between_the_segments_of_a_jpeg_are_passed_over(scene, caplog):
    data = jpeg_of(scene, "progressive")
    at = data.index(b"\xff\xdb")
    odd = data[:at] + bytes(7) + b"\xff\xff\xff" + data[at:]
    assert np.array_equal(decode(odd), decode(data))
    assert caplog.messages == []
    assert np.array_equal(decode(odd[:-2]), decode(data))


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "GIF", "WEBP"])
@pytest.mark.parametrize("tail", [b"trailer", b"\0\0\1" * 900, b"PK\3\4" + bytes(99)])
def test_IMG_51_what_follows_the_end_is_left_out(rgb, format_, tail, caplog):
    data = saved(Image.fromarray(rgb), format_)
    expected = decode(data)
    assert np.array_equal(decode(data + bytes(64)), expected)  # padding is nothing
    assert caplog.messages == []
    assert np.array_equal(decode(data + tail), expected)
    assert caplog.messages == ["image.png: what follows its end was left out"]


@pytest.mark.parametrize("format_", ["GIF", "WEBP"])
def test_IMG_08_47_the_end_of_other_formats_is_missed_or_its_pixels_are(rgb, format_, caplog):
    data = saved(Image.fromarray(rgb), format_)
    for missing in range(1, 40):
        caplog.clear()
        found = outcome(data[:-missing])
        if isinstance(found, str):
            assert "cut short or damaged" in found
        else:
            assert np.array_equal(found, decode(data)), missing
            assert caplog.messages == ["image.png: its end is missing, but no pixels are"]


# PNG


ANCILLARY = {
    "tEXt": b"Title\0name",
    "zTXt": b"Title\0\0" + zlib.compress(b"name"),
    "iTXt": b"XML:com.adobe.xmp\0\0\0\0\0<x/>",
    "iCCP": b"x\0\0" + zlib.compress(SRGB),
    "eXIf": b"II*\0\x08\0\0\0\0\0\0\0\0\0",
    "tIME": bytes(7),
    "pHYs": bytes(9),
    "gAMA": struct.pack(">I", 100_000),
    "sRGB": b"\0",
    "vpAg": b"anything",
}


def with_chunk(data: bytes, stored: bytes) -> bytes:
    return data[:33] + stored + data[33:]


@pytest.mark.parametrize("name", ANCILLARY)
@pytest.mark.parametrize("depth", [8, 16])
def test_IMG_48_a_chunk_with_a_wrong_checksum_is_left_out(rgb, name, depth, caplog):
    deep = rgb.astype(np.uint16) * 257 + 3
    data = saved(Image.fromarray(rgb), "PNG") if depth == 8 else png16(deep)
    expected = rgb if depth == 8 else values(deep)
    stored = chunk(name.encode(), ANCILLARY[name])
    bad = stored[:-1] + bytes([stored[-1] ^ 1])
    assert np.array_equal(decode(with_chunk(data, bad)), expected)
    assert caplog.messages == [f"image.png: damaged in {name}, which was left out"]
    caplog.clear()
    tail = data[:-12] + bad + data[-12:]  # behind the pixels
    assert np.array_equal(decode(tail), expected)
    assert len(caplog.messages) == 1


def test_IMG_48_several_damaged_chunks_are_told_in_one_line(rgb, caplog):
    data = saved(Image.fromarray(rgb), "PNG")
    for name in ("tEXt", "tIME", "tEXt"):
        data = with_chunk(data, chunk(name.encode(), b"1234567")[:-4] + b"none")
    assert np.array_equal(decode(data), rgb)
    assert caplog.messages == ["image.png: damaged in tEXt, tIME, which was left out"]


@pytest.mark.parametrize("name", ["gAMA", "cHRM", "sRGB", "cICP"])
def test_IMG_48_a_chunk_of_a_wrong_length_is_left_out(rgb, name, caplog):
    data = with_chunk(saved(Image.fromarray(rgb), "PNG"), chunk(name.encode(), b"12"))
    assert np.array_equal(decode(data), rgb)
    assert caplog.messages == [f"image.png: damaged in {name}, which was left out"]


def test_IMG_48_an_animation_with_a_damaged_frame_is_a_still(rgb, caplog):
    frames = [Image.fromarray(np.roll(rgb, n, 0)) for n in range(3)]
    data = saved(frames[0], "PNG", save_all=True, append_images=frames[1:])
    at = data.rindex(b"fcTL")
    data = data[: at + 5] + b"\x77" + data[at + 6 :]
    assert np.array_equal(decode(data), rgb)
    assert caplog.messages == ["image.png: damaged in fcTL, which was left out"]


def test_IMG_48_a_damaged_header_or_palette_stays_refused(rgb):
    data = bytearray(saved(Image.fromarray(rgb).convert("P"), "PNG"))
    for at in (data.index(b"IHDR") + 18, data.index(b"PLTE") + 9):
        bad = data.copy()
        bad[at] ^= 255
        refusal(lambda: decode(bytes(bad)), "cut short or damaged")  # noqa: B023


LONG = b"<x>" + b" " * 1_800_000 + b"</x>"


@pytest.mark.parametrize(
    "stored",
    [
        chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(LONG)),
        chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + LONG),
        chunk(b"zTXt", b"Comment\0\0" + zlib.compress(LONG)),
        chunk(b"tEXt", b"Comment\0" + LONG),
        chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(80 * 2**20))),
    ],
    ids=["iTXt", "plain iTXt", "zTXt", "tEXt", "80 MB"],
)
def test_IMG_49_very_long_text_is_left_out(rgb, stored, caplog):
    data = saved(Image.fromarray(rgb), "PNG")
    assert np.array_equal(decode(with_chunk(data, stored)), rgb)
    assert caplog.messages == ["image.png: text of more than 1 MB was left out"]


def test_IMG_49_short_text_is_nothing_to_tell(rgb, caplog):
    stored = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(2**20)))
    assert np.array_equal(decode(with_chunk(saved(Image.fromarray(rgb), "PNG"), stored)), rgb)
    assert caplog.messages == []


def test_IMG_49_a_profile_of_over_1_mb_is_used(rgb, random):
    profile = display_p3() + random.bytes(1_500_000)
    profile = struct.pack(">I", len(profile)) + profile[4:]
    stored = chunk(b"iCCP", b"x\0\0" + zlib.compress(profile))
    array = decode(with_chunk(saved(Image.fromarray(rgb), "PNG"), stored))
    assert np.abs(array - p3_to_srgb(rgb)).max() <= 2


@pytest.mark.parametrize("missing", range(1, 13))
@pytest.mark.parametrize("kind", ["8", "16", "palette", "interlaced"])
def test_IMG_08_47_a_png_without_its_end_is_read(rgb, kind, missing, caplog):
    data = png_of(rgb, kind)
    expected = decode(data)
    assert np.array_equal(decode(data[:-missing]), expected)
    assert caplog.messages == ["image.png: its end is missing, but no pixels are"]


def png_of(rgb: np.ndarray, kind: str) -> bytes:
    if kind == "16":
        return png16(rgb.astype(np.uint16) * 257)
    if kind == "interlaced":
        return interlaced(rgb)
    return saved(Image.fromarray(rgb).convert("P" if kind == "palette" else "RGB"), "PNG")


def interlaced(rgb: np.ndarray) -> bytes:
    rows = b""
    for x, y, dx, dy in png._PASSES:
        for row in rgb[y::dy, x::dx]:
            rows += b"\0" + row.tobytes() if row.size else b""
    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, 8, 2, 0, 0, 1)
    data = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + data


@pytest.mark.parametrize("kind", ["8", "16", "palette", "interlaced"])
def test_IMG_47_a_png_that_ends_within_its_checksums_is_read_and_no_sooner(rgb, kind, caplog):
    data = png_of(rgb, kind)
    expected = decode(data)
    for missing in (*range(12, 40), *range(40, len(data) - 60, 37)):
        found = outcome(data[:-missing])
        if missing <= 12 + 4 + 4:  # IEND, the checksum of IDAT, and that of zlib
            assert np.array_equal(found, expected), missing
        elif isinstance(found, str):
            assert "cut short or damaged" in found, missing
        else:  # zlib may end in bits of no pixel
            assert missing <= 12 + 4 + 6 and np.array_equal(found, expected), missing


def test_IMG_47_a_png_cut_within_text_behind_its_pixels_is_read(rgb, caplog):
    data = saved(Image.fromarray(rgb), "PNG")[:-12]
    assert np.array_equal(decode(data + chunk(b"tEXt", b"a\0bcd")[:-6]), rgb)
    assert len(caplog.messages) == 1


def test_IMG_12_47_pixels_that_end_too_soon_are_not_inflated_above_the_limit(rgb, monkeypatch):
    data = saved(Image.fromarray(rgb), "PNG")[:-14]
    monkeypatch.setattr(png, "_inflated", lambda *_: pytest.fail("it was inflated"))
    refusal(lambda: decoding.decode(data, 100, "x"), "more than 100 pixels")


# TIFF


MASK = struct.pack("<HHII", 254, 4, 1, 4)
"""The tag of a mask, in place of that of one page of several, as tifffile writes masks of bits."""


def tiff_pages(*pages: tuple[np.ndarray, int], **options) -> bytes:
    file = io.BytesIO()
    with tifffile.TiffWriter(file, **options) as writer:
        for pixels, kind in pages:
            writer.write(pixels, photometric="rgb", subfiletype=kind, metadata=None,
                         compression="zlib")  # fmt: skip
    return file.getvalue().replace(struct.pack("<HHII", 254, 4, 1, 2), MASK)


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("options", [{}, {"byteorder": ">"}, {"bigtiff": True}], ids=str)
def test_IMG_50_a_thumbnail_before_the_image_is_passed_over(rgb, depth, options, caplog):
    image = rgb if depth == 8 else rgb.astype(np.uint16) * 257 + 9
    small = np.ascontiguousarray(image[::4, ::4])
    data = tiff_pages((small, 1), (image, 0), **options)
    assert np.array_equal(decode(data), rgb if depth == 8 else values(image))
    assert caplog.messages == ["image.png: its first page is a thumbnail, using page 2"]


def test_IMG_50_thumbnails_and_masks_are_no_pages(rgb, caplog):
    small = np.ascontiguousarray(rgb[::4, ::4])
    mask = np.full((HEIGHT, WIDTH, 3), 255, np.uint8)
    assert np.array_equal(decode(tiff_pages((rgb, 0), (small, 1), (mask, 2))), rgb)
    assert caplog.messages == []
    assert np.array_equal(decode(tiff_pages((mask, 2), (small, 1), (rgb, 0), (small, 0))), rgb)
    assert caplog.messages == [
        "image.png: its first page is a thumbnail, using page 3",
        "image.png: animated, using the first of 2 frames",
    ]


def test_IMG_50_a_page_that_is_called_a_thumbnail_and_is_alone_is_the_image(rgb, caplog):
    assert np.array_equal(decode(tiff_pages((rgb, 1))), rgb)
    assert caplog.messages == []


def test_IMG_50_an_image_below_its_thumbnail_is_found(rgb, caplog):
    """SubIFDs, as in files of cameras."""
    file = io.BytesIO()
    small = np.ascontiguousarray(rgb[::4, ::4])
    with tifffile.TiffWriter(file) as writer:
        options = {"photometric": "rgb", "metadata": None}
        writer.write(small, subfiletype=1, subifds=1, **options)
        writer.write(rgb, subfiletype=0, **options)
    assert np.array_equal(decode(file.getvalue()), rgb)
    assert len(caplog.messages) == 1


def test_IMG_50_the_old_tag_tells_a_thumbnail_too(rgb):
    data = bytearray(tiff_pages((np.ascontiguousarray(rgb[::4, ::4]), 1), (rgb, 0)))
    at = data.index(struct.pack("<HHII", 254, 4, 1, 1))
    data[at : at + 12] = struct.pack("<HHII", 255, 3, 1, 2)
    assert np.array_equal(decode(bytes(data)), rgb)


def test_IMG_12_50_very_many_chunks_or_tags_cost_no_time(rgb):
    data = saved(Image.fromarray(rgb), "PNG")
    many = data[:33] + chunk(b"vpAg", b"") * 2_000_000 + data[33:]
    began = time.monotonic()
    png.mend(many, LIMIT)
    bad = bytearray(tiff_pages((rgb, 1), bigtiff=True))
    (first,) = struct.unpack_from("<Q", bad, 8)
    struct.pack_into("<Q", bad, first, 2**62)
    tiff.first_image(bytes(bad) + bytes(10**7))
    assert time.monotonic() - began < 5


def test_IMG_50_a_chain_of_pages_without_an_end_is_no_trap(rgb):
    data = bytearray(tiff_pages((np.ascontiguousarray(rgb[::4, ::4]), 1)))
    (first,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, first)
    struct.pack_into("<I", data, first + 2 + 12 * count, first)
    assert decode(bytes(data)).shape == (-(-HEIGHT // 4), -(-WIDTH // 4), 3)


def test_IMG_10_50_the_limit_is_that_of_the_page_in_use(rgb):
    data = tiff_pages((np.ascontiguousarray(rgb[::4, ::4]), 1), (rgb, 0))
    refusal(lambda: decoding.decode(data, 500), "more than 500 pixels")
    assert decoding.decode(data, LIMIT).shape == rgb.shape

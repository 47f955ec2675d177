"""Images in and out: every row of what can be wrong with an image file, and the arrays between.

Images are made here, 23 rows by 37 columns unless a row needs otherwise.
"""

import errno
import hashlib
import io
import json
import logging
import os
import socket
import stat
import struct
import subprocess
import sys
import textwrap
import time
import tracemalloc
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms

from nst_tf.errors import InputError, NumericalError
from nst_tf.image.arrays import check_image, quantize
from nst_tf.image.resize import cover, resize, resized_shape
from nst_tf.io import decoding, images
from nst_tf.io.files import atomic_write

HEIGHT, WIDTH = 23, 37
LIMIT = images.DEFAULT_MAX_PIXELS
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
LAB = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()


@pytest.fixture
def rgb() -> np.ndarray:
    """A smooth image with no symmetry, so that JPEG keeps it and a turned one differs."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return np.stack([y * 10, x * 6, 255 - 4 * y - 3 * x], axis=-1).clip(0, 255).astype(np.uint8)


def saved(image: Image.Image, format_: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, format_, **options)
    return file.getvalue()


def decode(data: bytes) -> np.ndarray:
    array = decoding.decode(data, LIMIT, "image.png")
    assert array.dtype == np.float32
    assert array.ndim == 3 and array.shape[2] == 3
    assert np.isfinite(array).all() and array.min() >= 0 and array.max() <= 255
    return array


def refusal(call, *words: str, kind: type[Exception] = InputError) -> str:
    """The text of the refusal, which must be one line of printable ASCII with all the words."""
    with pytest.raises(kind) as caught:
        call()
    text = str(caught.value)
    assert all(" " <= c <= "~" for c in text), text
    for word in words:
        assert word in text
    return text


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(width: int, height: int, depth: int, color: int, rows: bytes) -> bytes:
    """A PNG by hand, for what Pillow does not write. `rows` include the filter bytes."""
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    start, data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header), zlib.compress(rows)
    return start + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def tiff(photometric: int, bits: list[int], data: bytes, *extra: tuple[int, int]) -> bytes:
    """An uncompressed little-endian TIFF of 23x37 by hand, for what Pillow does not write."""
    tags = [(256, WIDTH), (257, HEIGHT), (259, 1), (262, photometric), (277, len(bits))]
    tags += [(278, HEIGHT), (279, len(data)), *extra]
    end = 8 + len(data)
    entries = {tag: struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags}
    entries[273] = struct.pack("<HHII", 273, 4, 1, 8)
    packed = struct.pack(f"<{len(bits)}H", *bits)
    place = packed.ljust(4, b"\0") if len(packed) <= 4 else None
    after = end + 2 + 12 * (len(entries) + 1) + 4
    entries[258] = struct.pack("<HHI", 258, 3, len(bits)) + (place or struct.pack("<I", after))
    table = b"".join(entries[tag] for tag in sorted(entries))
    directory = struct.pack("<H", len(entries)) + table + struct.pack("<I", 0)
    return b"II*\0" + struct.pack("<I", end) + data + directory + (b"" if place else packed)


# Files that are not there, or not images


def test_IMG_01_missing_file_is_refused(tmp_path):
    refusal(lambda: images.read(tmp_path / "no.png", LIMIT), "no such file", "no.png")


def test_IMG_02_directory_is_refused(tmp_path):
    refusal(lambda: images.read(tmp_path, LIMIT), "is a directory")


@pytest.mark.skipif(os.getuid() != 0, reason="IMG-03: only root can become another user")
def test_IMG_03_unreadable_file_is_refused_as_another_user(tmp_path):
    path = tmp_path / "secret.png"
    path.write_bytes(b"x")
    path.chmod(0)
    for folder in (tmp_path, *tmp_path.parents[:3]):
        folder.chmod(folder.stat().st_mode | stat.S_IXOTH | stat.S_IROTH)
    script = """
        import os, sys, pathlib
        from nst_tf import errors
        from nst_tf.io import images               # while we may still read the package
        os.setgroups([]); os.setgid(65534); os.setuid(65534)
        path = pathlib.Path(sys.argv[1])
        path.stat()                                     # it is the file that is closed, not the way
        try:
            images.read(path, 1000)
        except errors.InputError as error:
            print(error)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(path)],
        cwd=Path(images.__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "no permission to read it" in done.stdout
    assert done.stdout.count("\n") == 1


@pytest.mark.skipif(os.getuid() == 0, reason="IMG-03: void as root, see the test as another user")
def test_IMG_03_unreadable_file_is_refused(tmp_path):
    path = tmp_path / "secret.png"
    path.write_bytes(b"x")
    path.chmod(0)
    refusal(lambda: images.read(path, LIMIT), "no permission to read it")


def test_IMG_04_empty_file_is_refused(tmp_path):
    (tmp_path / "a.png").touch()
    refusal(lambda: images.read(tmp_path / "a.png", LIMIT), "the file is empty")


@pytest.mark.parametrize(
    ("data", "start"),
    [
        (b"<!DOCTYPE html>\n<html>404</html>", "<!DOCTYPE"),
        (b"  \n404: Not found", "404:"),
        (b"\x00\x01\x02\x03" * 20, "\\x00\\x01"),
        (b"   ", "   "),
    ],
)
def test_IMG_05_a_failed_download_is_not_an_image(data, start):
    refusal(lambda: decode(data), f"not an image (starts with '{start}")


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "AVIF"])
def test_IMG_06_content_decides_not_the_name(tmp_path, rgb, format_):
    path = tmp_path / "image.txt"
    path.write_bytes(saved(Image.fromarray(rgb), format_))
    tolerance = {"JPEG": 12, "WEBP": 30, "GIF": 60, "AVIF": 12}.get(format_, 0)
    assert np.abs(images.read(path, LIMIT) - rgb).max() <= tolerance


@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("SVG", b'<?xml version="1.0"?>\n<!-- a drawing -->\n<svg xmlns="x"/>'),
        ("SVG", b"<svg width='3'/>"),
        ("PSD", b"8BPS\0\1\0\0"),
        ("EPS", b"%!PS-Adobe-3.0 EPSF-3.0"),
        ("PDF", b"%PDF-1.7"),
        ("PNM", b"P6\n3 3\n255\n"),
        ("JPEG 2000", b"\0\0\0\x0cjP  \r\n\x87\n"),
        ("JPEG XL", b"\xff\x0a\x11\x22"),
    ],
)
def test_IMG_35_other_formats_are_named_and_refused(name, head):
    data = head + bytes(200)
    refusal(lambda: decode(data), f"format {name} is not supported; convert to PNG or JPEG")


@pytest.mark.parametrize(
    ("format_", "words"),
    [
        ("EPS", "format EPS is not supported"),
        ("PPM", "format PNM is not supported"),
        ("JPEG2000", "format JPEG 2000 is not supported"),
        ("TGA", "not an image"),
        ("ICO", "not an image"),
        ("SGI", "not an image"),
    ],
)
def test_IMG_35_decoders_nobody_needs_stay_out_even_for_good_files(rgb, format_, words):
    data = saved(Image.fromarray(rgb), format_)
    with Image.open(io.BytesIO(data)) as image:
        assert image.format == format_  # Pillow itself would take it
    refusal(lambda: decode(data), words)


def test_IMG_35_avif_is_refused_by_name_where_pillow_is_built_without_it(rgb, monkeypatch):
    data = saved(Image.fromarray(rgb), "AVIF")
    assert decode(data).shape == rgb.shape
    monkeypatch.setattr(decoding, "DECODERS", decoding.DECODERS[:-1])
    refusal(lambda: decode(data), "format AVIF is not supported; convert to PNG or JPEG")


def test_IMG_39_nul_in_the_name_is_refused():
    refusal(lambda: images.read(Path("a\0b.png"), LIMIT), "no file can have this name", "a\\x00b")


def test_IMG_40_fifo_is_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    began = time.monotonic()
    refusal(lambda: images.read(tmp_path / "pipe.png", LIMIT), "not a regular file")
    assert time.monotonic() - began < 1


def test_IMG_40_socket_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a socket's name has at most 107 bytes
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("s.png")
        refusal(lambda: images.read(Path("s.png"), LIMIT), "not a regular file")


@pytest.mark.parametrize("path", ["/dev/zero", "/dev/null"])
def test_IMG_40_device_is_refused(path):
    refusal(lambda: images.read(Path(path), LIMIT), "not a regular file", path)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc here")
def test_IMG_40_proc_file_is_refused():
    refusal(lambda: images.read(Path("/proc/self/status"), LIMIT), "the file is empty")


def test_IMG_41_links_that_loop_or_dangle_are_refused(tmp_path):
    loop, dangling = tmp_path / "loop.png", tmp_path / "dangling.png"
    loop.symlink_to(loop)
    dangling.symlink_to(tmp_path / "nothing.png")
    refusal(lambda: images.read(loop, LIMIT), "symbolic links form a loop")
    refusal(lambda: images.read(dangling, LIMIT), "no such file")


def test_IMG_41_a_good_link_is_followed(tmp_path, rgb):
    (tmp_path / "real").write_bytes(saved(Image.fromarray(rgb), "PNG"))
    (tmp_path / "link.png").symlink_to("real")
    assert np.array_equal(images.read(tmp_path / "link.png", LIMIT), rgb)


def test_IMG_42_the_file_may_vanish_once_read(tmp_path, rgb):
    path = tmp_path / "a.tif"
    path.write_bytes(saved(Image.fromarray(rgb), "TIFF"))
    array = images.read(path, LIMIT)
    path.write_bytes(bytes(9000))
    path.unlink()
    assert np.array_equal(array, rgb)
    array += 0  # ours to write to, no view of the file


def test_IMG_46_a_file_too_big_is_refused_unread(tmp_path):
    path = tmp_path / "big.png"
    with path.open("wb") as file:
        file.truncate(2**28 + 1)  # sparse
    refusal(lambda: images.read(path, LIMIT), "268435457 bytes", "268435456 are allowed")


NAMES = [
    "with space.png",
    "Zoë 画像 🎨.png",
    "-dash.png",
    "quo'te\".png",
    "new\nline.png",
    "n" * 251 + ".png",
]


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_IMG_37_any_name_works_and_is_escaped_in_messages(tmp_path, monkeypatch, rgb, name):
    monkeypatch.chdir(tmp_path)
    path = Path(name)
    path.write_bytes(saved(Image.fromarray(rgb), "PNG"))
    assert np.array_equal(images.read(path, LIMIT), rgb)
    path.write_bytes(b"<html>")
    refusal(lambda: images.read(path, LIMIT), "not an image")


def test_IMG_37_a_name_too_long_is_refused(tmp_path):
    words = os.strerror(errno.ENAMETOOLONG)
    refusal(lambda: images.read(tmp_path / ("n" * 256), LIMIT), words)


def test_IMG_38_a_name_that_is_not_utf8_works(tmp_path, rgb, caplog):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png"))
    rgba = np.dstack([rgb, np.full((HEIGHT, WIDTH), 128, np.uint8)])
    path.write_bytes(saved(Image.fromarray(rgba), "PNG"))
    assert images.read(path, LIMIT).shape == (HEIGHT, WIDTH, 3)
    assert "caf\\udce9.png: transparent" in caplog.text
    path.write_bytes(b"<html>")
    refusal(lambda: images.read(path, LIMIT), "caf\\udce9.png")


# Damage and bombs


def bomb(width: int, height: int) -> bytes:
    """A PNG whose header promises much more than its data."""
    return png(width, height, 8, 2, bytes(1000))


BOMBS = [(13000, 13000), (14000, 14000), (2**31 - 1, 1), (10_001, 10_000)]


@pytest.mark.parametrize("size", BOMBS[:1] + BOMBS[3:])
def test_IMG_10_a_bomb_is_refused_by_its_header(size):
    refusal(lambda: decode(bomb(*size)), "it has more than 100000000 pixels", "max_pixels")


@pytest.mark.parametrize("size", BOMBS[1:3])
def test_IMG_11_a_bomb_that_pillow_refuses_has_the_same_text(size):
    ours = refusal(lambda: decode(bomb(*BOMBS[0])))
    assert refusal(lambda: decode(bomb(*size))) == ours


@pytest.mark.parametrize("format_", ["PNG", "JPEG", "TIFF", "AVIF", "GIF", "BMP"])
def test_IMG_11_pillows_limit_does_not_count_where_ours_is_higher(rgb, monkeypatch, format_):
    data = saved(Image.fromarray(rgb), format_)
    before = decode(data)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", HEIGHT * WIDTH // 2 - 1)
    with pytest.raises(Image.DecompressionBombError):
        Image.open(io.BytesIO(data))
    assert np.array_equal(decode(data), before)
    limit = HEIGHT * WIDTH - 1
    refusal(lambda: decoding.decode(data, limit), f"it has more than {limit} pixels")


@pytest.mark.parametrize(("format_", "mode"), [("WEBP", "RGB"), ("TIFF", "L"), ("TIFF", "CMYK")])
def test_IMG_11_kinds_that_pillow_limits_itself_are_refused(rgb, monkeypatch, format_, mode):
    data = saved(Image.fromarray(rgb).convert(mode), format_)
    assert decode(data).shape == rgb.shape
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", HEIGHT * WIDTH // 2 - 1)
    words = (
        "Pillow reads at most 848 pixels in files of this kind; scale it down, or save it as PNG"
    )
    refusal(lambda: decode(data), words)


def test_IMG_11_more_pixels_than_max_pixels_may_be_are_refused_by_the_header():
    call = lambda: decoding.decode(bomb(33_000, 33_000), 10**12)  # noqa: E731
    refusal(call, "more than 1073741824 pixels", "(1073741824 at most)")


def test_IMG_10_between_pillows_warning_and_our_limit_an_image_is_decoded(
    rgb, monkeypatch, recwarn
):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", HEIGHT * WIDTH - 1)
    data = saved(Image.fromarray(rgb), "PNG")
    assert np.array_equal(decode(data), rgb)
    assert not recwarn.list
    with pytest.warns(Image.DecompressionBombWarning):
        Image.open(io.BytesIO(data))


def test_IMG_10_the_limit_itself_is_allowed(rgb):
    data = saved(Image.fromarray(rgb), "PNG")
    assert decoding.decode(data, HEIGHT * WIDTH).shape == (HEIGHT, WIDTH, 3)
    refusal(lambda: decoding.decode(data, HEIGHT * WIDTH - 1), "more than 850 pixels")


def test_IMG_12_a_small_file_that_needs_much_memory_is_refused_before_decoding():
    data = png(14_000, 12_000, 8, 2, zlib.compress(bytes(1000)))
    began = time.monotonic()
    refusal(lambda: decode(data), "more than 100000000 pixels")
    assert time.monotonic() - began < 1


def test_IMG_13_scans_of_a_progressive_jpeg_cost_nothing_when_its_size_is_refused(random):
    noise = Image.fromarray(random.integers(0, 256, (300, 300, 3), np.uint8))
    data = bytearray(saved(noise, "JPEG", progressive=True, quality=95))
    frame = data.index(b"\xff\xc2")  # the header of a progressive frame: height and width follow
    data[frame + 5 : frame + 9] = (60_000).to_bytes(2, "big") * 2
    scan = data.index(b"\xff\xda")
    data[-2:-2] = data[scan:-2] * 20  # twenty times as many scans
    began = time.monotonic()
    refusal(lambda: decode(bytes(data)), "more than 100000000 pixels")
    assert time.monotonic() - began < 1


@pytest.mark.parametrize("size", [(0, 10), (10, 0)])
def test_IMG_14_no_width_or_height_is_refused(size):
    refusal(lambda: decode(png(*size, 8, 2, b"")), "damaged")


# Frames and orientation


@pytest.mark.parametrize("format_", ["GIF", "WEBP", "PNG"])
def test_IMG_17_the_first_frame_of_an_animation_is_used(rgb, format_, caplog):
    frames = [Image.new("RGB", (WIDTH, HEIGHT), color) for color in ("red", "lime", "blue")]
    options = {"lossless": True} if format_ == "WEBP" else {}
    data = saved(frames[0], format_, save_all=True, append_images=frames[1:], **options)
    assert np.array_equal(decode(data), np.broadcast_to([255, 0, 0], (HEIGHT, WIDTH, 3)))
    assert caplog.messages == ["image.png: animated, using the first of 3 frames"]


@pytest.mark.parametrize("compression", ["raw", "tiff_deflate"])
def test_IMG_18_the_first_page_of_a_tiff_is_used(rgb, compression, caplog):
    first = Image.fromarray(rgb)
    other = Image.new("RGB", (5, 60))
    data = saved(first, "TIFF", save_all=True, append_images=[other], compression=compression)
    assert np.array_equal(decode(data), rgb)
    assert caplog.messages == ["image.png: animated, using the first of 2 frames"]


def test_IMG_34_a_phones_mpo_is_a_jpeg(rgb, caplog):
    data = saved(
        Image.fromarray(rgb), "MPO", save_all=True, append_images=[Image.new("RGB", (8, 9))]
    )
    with Image.open(io.BytesIO(data)) as image:
        assert image.format == "MPO"
    assert np.abs(decode(data) - rgb).max() <= 12
    assert caplog.messages == []


# What each orientation does to an upright image so that turning it back gives the image.
STORED = {
    1: lambda p: p,
    2: lambda p: p[:, ::-1],
    3: lambda p: p[::-1, ::-1],
    4: lambda p: p[::-1],
    5: lambda p: p.transpose(1, 0, 2),
    6: lambda p: np.rot90(p, 1),
    7: lambda p: p[::-1, ::-1].transpose(1, 0, 2),
    8: lambda p: np.rot90(p, -1),
}


def with_orientation(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


@pytest.mark.parametrize("format_", ["PNG", "WEBP", "TIFF", "JPEG", "AVIF"])
@pytest.mark.parametrize("orientation", STORED)
def test_IMG_20_all_orientations_give_the_same_image(rgb, orientation, format_):
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](rgb)))
    options = {"WEBP": {"lossless": True}, "JPEG": {"quality": 100, "subsampling": 0}}
    options["AVIF"] = {"quality": 100, "subsampling": "4:4:4"}
    exif = with_orientation(orientation)
    array = decode(saved(stored, format_, exif=exif, **options.get(format_, {})))
    assert array.shape == (HEIGHT, WIDTH, 3)
    assert np.abs(array - rgb).max() <= (3 if format_ in ("JPEG", "AVIF") else 0)


@pytest.mark.parametrize("suffix", images.FORMATS)
def test_IMG_20_output_has_no_orientation(rgb, suffix):
    with Image.open(io.BytesIO(images.encode(rgb, suffix, "{}"))) as image:
        assert 0x0112 not in image.getexif()


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_IMG_21_an_unknown_orientation_counts_as_upright(rgb, orientation, caplog):
    data = saved(Image.fromarray(rgb), "PNG", exif=with_orientation(orientation))
    assert np.array_equal(decode(data), rgb)
    assert len(caplog.messages) <= 1


@pytest.mark.parametrize(
    "exif",
    [
        b"Exif\0\0garbage",
        b"Exif\0\0II*\0\xff\xff\xff\xff",
        b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12\x01",
        b"Exif\0\0II*\0\x08\0\0\0\1\0\x12\1\2\0\xff\xff\xff\x7f\0\0\0\0\0\0\0\0",  # ASCII of 2 GB
        b"Exif\0\0II*\0\x08\0\0\0\1\0\x69\x87\4\0\1\0\0\0\x08\0\0\0\x08\0\0\0",  # IFD in itself
        b"MM",
        b"",
    ],
    ids=range(7),
)
@pytest.mark.parametrize("format_", ["PNG", "JPEG", "WEBP"])
def test_IMG_21_corrupt_exif_counts_as_upright(rgb, exif, format_, caplog, recwarn):
    options = {"lossless": True} if format_ == "WEBP" else {}
    array = decode(saved(Image.fromarray(rgb), format_, exif=exif, **options))
    assert np.abs(array - rgb).max() <= (12 if format_ == "JPEG" else 0)
    assert len(caplog.messages) <= 1
    assert not recwarn.list


def test_IMG_21_exif_that_cannot_be_written_back_still_turns(rgb, monkeypatch, caplog):
    def broken(*_):
        raise struct.error("bad tag")

    data = saved(Image.fromarray(rgb[::-1, ::-1]), "PNG", exif=with_orientation(3))
    monkeypatch.setattr(Image.Exif, "tobytes", broken)
    assert np.array_equal(decode(data), rgb)
    assert caplog.messages == ["image.png: EXIF is damaged, the image may not be upright"]


# Alpha, palettes, gray


def over_white(rgb: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    share = alpha[..., np.newaxis].astype(np.float64) / 255
    return rgb * share + 255 * (1 - share)


def test_IMG_22_hidden_colors_stay_hidden(caplog):
    image = Image.new("RGBA", (WIDTH, HEIGHT), (255, 0, 0, 0))
    image.putpixel((0, 0), (255, 255, 255, 255))
    assert np.array_equal(decode(saved(image, "PNG")), np.full((HEIGHT, WIDTH, 3), 255))
    assert caplog.messages == ["image.png: transparent, put on white"]


@pytest.mark.parametrize("format_", ["PNG", "WEBP", "TIFF"])
def test_IMG_22_alpha_is_composited_over_white(rgb, format_, caplog):
    alpha = (np.arange(HEIGHT * WIDTH) % 256).astype(np.uint8).reshape(HEIGHT, WIDTH)
    image = Image.fromarray(np.dstack([rgb, alpha]))
    options = {"lossless": True, "exact": True} if format_ == "WEBP" else {}
    array = decode(saved(image, format_, **options))
    assert np.allclose(array, over_white(rgb, alpha), atol=1e-3)
    assert caplog.messages == ["image.png: transparent, put on white"]


def test_IMG_22_an_opaque_alpha_changes_nothing_and_says_nothing(rgb, caplog):
    image = Image.fromarray(np.dstack([rgb, np.full((HEIGHT, WIDTH), 255, np.uint8)]))
    assert np.array_equal(decode(saved(image, "PNG")), rgb)
    assert caplog.messages == []


@pytest.mark.parametrize("format_", ["PNG", "TIFF"])
def test_IMG_23_gray_with_alpha(rgb, format_):
    gray, alpha = rgb[..., 0], rgb[..., 1]
    image = Image.merge("LA", [Image.fromarray(gray), Image.fromarray(alpha)])
    expected = over_white(np.stack([gray] * 3, -1), alpha)
    assert np.allclose(decode(saved(image, format_)), expected, atol=1e-3)


def test_IMG_23_palette_with_alpha(rgb):
    image = Image.fromarray(np.dstack([rgb, rgb[..., 1]])).convert("PA")
    expected = over_white(np.asarray(image.convert("RGB")), rgb[..., 1])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.allclose(decode(saved(image, "TIFF")), expected, atol=1e-3)


@pytest.mark.parametrize("channels", [1, 3], ids=["La", "RGBa"])
def test_IMG_23_premultiplied_alpha(rgb, channels):
    """Associated alpha (ExtraSamples 1): what is stored is color times alpha."""
    alpha = rgb[..., 1] // 2 + 100
    stored = (rgb[..., :channels] * (alpha[..., np.newaxis] / 255)).round().astype(np.uint8)
    bits = [8] * (channels + 1)
    photometric = 1 if channels == 1 else 2
    data = tiff(photometric, bits, np.dstack([stored, alpha]).tobytes(), (338, 1))
    with Image.open(io.BytesIO(data)) as image:
        assert image.mode == ("La" if channels == 1 else "RGBA")
    expected = over_white(np.broadcast_to(rgb[..., :channels], rgb.shape), alpha)
    assert np.abs(decode(data) - expected).max() < 2


def test_IMG_19_palette_with_transparency_bytes(caplog, recwarn):
    image = Image.new("P", (WIDTH, HEIGHT), 1)
    image.putpalette([10, 20, 30, 200, 100, 0, 5, 5, 5])
    image.paste(2, (0, 0, WIDTH, 4))
    array = decode(saved(image, "PNG", transparency=b"\xff\x80\x00"))
    assert np.array_equal(array[:4], np.full((4, WIDTH, 3), 255))
    expected = over_white(np.array([200, 100, 0]), np.array(128))
    assert np.allclose(array[4:], expected, atol=1e-3)
    assert caplog.messages == ["image.png: transparent, put on white"]
    assert not recwarn.list


def test_IMG_19_one_transparent_palette_index_or_color(rgb):
    image = Image.new("P", (WIDTH, HEIGHT), 1)
    image.putpalette([10, 20, 30, 200, 100, 0])
    image.putpixel((0, 0), 0)
    assert decode(saved(image, "GIF", transparency=1))[1:].min() == 255
    single = Image.new("RGB", (WIDTH, HEIGHT), (1, 2, 3))
    single.putpixel((0, 0), (3, 2, 1))
    assert decode(saved(single, "PNG", transparency=(1, 2, 3)))[1:].min() == 255
    assert decode(saved(single, "PNG", transparency=(1, 2, 4))).max() == 3
    gray = Image.new("L", (WIDTH, HEIGHT), 7)
    gray.putpixel((0, 0), 8)
    assert decode(saved(gray, "PNG", transparency=7))[1:].min() == 255


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "TIFF", "BMP", "GIF"])
def test_IMG_24_gray_becomes_rgb(rgb, format_):
    array = decode(saved(Image.fromarray(rgb[..., 0]), format_))
    tolerance = 4 if format_ == "JPEG" else 0
    assert np.abs(array - rgb[..., :1]).max() <= tolerance
    assert np.array_equal(array[..., 0], array[..., 2])


@pytest.mark.parametrize("format_", ["PNG", "TIFF", "BMP", "GIF"])
def test_IMG_24_bilevel_becomes_black_and_white(rgb, format_):
    bits = rgb[..., 0] > 100
    array = decode(saved(Image.fromarray(bits), format_))
    assert np.array_equal(array, np.repeat(bits[..., np.newaxis] * 255, 3, axis=2))


# Color spaces and profiles


def icc(space: bytes, class_: bytes, tags: dict[bytes, bytes]) -> bytes:
    """An ICC v2 profile (ICC.1:2001-04, 6.1 to 6.4)."""
    at = 128 + 4 + 12 * len(tags)
    table, body = b"", b""
    for name, tag in tags.items():
        tag += bytes(-len(tag) % 4)
        table += name + struct.pack(">II", at + len(body), len(tag))
        body += tag
    header = struct.pack(">I4sI4s4s4s", at + len(body), b"test", 0x02400000, class_, space, b"Lab ")
    header = header.ljust(36, b"\0") + b"acsp"
    white = struct.pack(">iii", 63190, 65536, 54061)  # D50 in s15Fixed16
    header = header.ljust(68, b"\0") + white
    return header.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body


def cmyk_profile(ink: int) -> bytes:
    """A printer whose paper is white, black black, and any other corner of lightness `ink`."""
    line = bytes(range(256))
    lightness = [255] + [ink * 255 // 100] * 15
    lightness[1::2] = [0] * 8  # black is the channel that varies fastest
    corners = [(value, 128, 128) for value in lightness]
    identity = struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 65536)
    table = b"".join(bytes(corner) for corner in corners)
    lut = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + identity + line * 4 + table + line * 3
    white = b"XYZ " + bytes(4) + struct.pack(">iii", 63190, 65536, 54061)
    text = b"text" + bytes(4) + b"none\0"
    name = b"desc" + bytes(4) + struct.pack(">I", 5) + b"test\0" + bytes(78)
    tags = {b"A2B0": lut, b"A2B1": lut, b"wtpt": white, b"cprt": text, b"desc": name}
    return icc(b"CMYK", b"prtr", tags)


@pytest.mark.parametrize("format_", ["JPEG", "TIFF"])
def test_IMG_25_cmyk_with_a_profile_is_converted_by_it(format_, caplog):
    """L* 50 is sRGB 119 (CIE 1976 and IEC 61966-2-1), where the plain conversion says cyan."""
    image = Image.new("CMYK", (WIDTH, HEIGHT), (0, 0, 0, 0))
    image.paste((255, 0, 0, 0), (0, 0, 16, 16))
    array = decode(saved(image, format_, icc_profile=cmyk_profile(50)))
    assert np.abs(array[:8, :8] - 119).max() <= 3
    assert array[:, 25:].min() >= 252
    assert caplog.messages == []


@pytest.mark.parametrize("format_", ["JPEG", "TIFF"])
def test_IMG_25_cmyk_without_a_profile_is_converted_plainly(format_, caplog):
    """Adobe stores CMYK JPEGs inverted; paper must still be white and ink colored."""
    image = Image.new("CMYK", (WIDTH, HEIGHT), (0, 0, 0, 0))
    image.paste((255, 0, 0, 0), (0, 0, 16, 16))
    array = decode(saved(image, format_))
    assert np.abs(array[:8, :8] - [0, 255, 255]).max() <= 3
    assert array[:, 25:].min() >= 252
    assert caplog.messages == ["image.png: CMYK without a color profile, colors are approximate"]


# Colorants adapted to D50: sRGB's as in its ICC profile, Display P3's as in Apple's.
SRGB_TO_XYZ = [[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.7141]]
P3_TO_XYZ = [[0.51512, 0.29198, 0.1571], [0.2412, 0.69225, 0.06657], [-0.00105, 0.04189, 0.78407]]


def display_p3() -> bytes:
    """LittleCMS's sRGB profile with the colorants of Display P3, whose curve is the same."""
    profile = bytearray(SRGB)
    (count,) = struct.unpack_from(">I", profile, 128)
    for entry in range(count):
        name, at, _ = struct.unpack_from(">4sII", profile, 132 + 12 * entry)
        if name in (b"rXYZ", b"gXYZ", b"bXYZ"):
            column = [row[b"rgb".index(name[:1])] for row in P3_TO_XYZ]
            struct.pack_into(">iii", profile, at + 8, *(round(v * 65536) for v in column))
    return bytes(profile)


def p3_to_srgb(rgb: np.ndarray) -> np.ndarray:
    """The conversion in float64 by IEC 61966-2-1 and the matrices above."""
    v = rgb / 255
    linear = np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4)
    linear = np.clip(linear @ (np.linalg.inv(SRGB_TO_XYZ) @ P3_TO_XYZ).T, 0, 1)
    return from_linear(linear)


def from_linear(v: np.ndarray) -> np.ndarray:
    return 255 * np.where(v <= 0.0031308, v * 12.92, 1.055 * v ** (1 / 2.4) - 0.055)


@pytest.mark.parametrize("format_", ["PNG", "WEBP", "TIFF"])
def test_IMG_26_display_p3_is_converted_to_srgb(rgb, format_, caplog):
    options = {"lossless": True} if format_ == "WEBP" else {}
    data = saved(Image.fromarray(rgb), format_, icc_profile=display_p3(), **options)
    array, expected = decode(data), p3_to_srgb(rgb)
    assert np.abs(expected - rgb).max() > 20  # or the test says nothing
    assert np.abs(array - expected).max() <= 2
    assert caplog.messages == []


def test_IMG_26_the_profile_holds_for_the_colors_under_alpha(rgb):
    alpha = rgb[..., 1] // 2 + 100
    image = Image.fromarray(np.dstack([rgb, alpha]))
    array = decode(saved(image, "PNG", icc_profile=display_p3()))
    assert np.abs(array - over_white(p3_to_srgb(rgb), alpha)).max() <= 2


def test_IMG_26_srgb_stays_what_it_is(rgb):
    array = decode(saved(Image.fromarray(rgb), "PNG", icc_profile=SRGB))
    assert np.abs(array - rgb).max() <= 1


def test_IMG_26_gray_with_an_rgb_profile_is_converted(rgb, caplog):
    array = decode(saved(Image.fromarray(rgb[..., 0]), "PNG", icc_profile=SRGB))
    assert np.abs(array - rgb[..., :1]).max() <= 1
    assert caplog.messages == []


@pytest.mark.parametrize("suffix", images.FORMATS)
def test_IMG_26_output_is_untagged_srgb(rgb, suffix):
    with Image.open(io.BytesIO(images.encode(rgb, suffix, "{}"))) as image:
        assert "icc_profile" not in image.info


@pytest.mark.parametrize(
    "profile", [b"garbage", SRGB[:200], cmyk_profile(50)], ids=["garbage", "cut", "wrong space"]
)
def test_IMG_27_a_corrupt_or_wrong_profile_is_passed_over(rgb, profile, caplog):
    array = decode(saved(Image.fromarray(rgb), "PNG", icc_profile=profile))
    assert np.array_equal(array, rgb)
    text = "image.png: the color profile is damaged or does not fit, colors taken as sRGB"
    assert caplog.messages == [text]


@pytest.mark.parametrize("options", [{}, {"icc_profile": LAB}], ids=["bare", "profile"])
def test_IMG_33_lab_is_converted(options, caplog):
    """L* 50 is sRGB 119; L* 50, a* 30 by CIE 15:2004, 8.2.1.1, over D50."""
    image = Image.new("LAB", (WIDTH, HEIGHT), (128, 128, 128))
    image.paste((128, 158, 128), (0, 0, WIDTH, 5))
    array = decode(saved(image, "TIFF", **options))
    assert caplog.messages == []
    assert np.abs(array[5:] - 119).max() <= 2
    fy = (128 / 2.55 + 16) / 116
    xyz = np.array([0.9642, 1, 0.8249]) * np.array([fy + 30 / 500, fy, fy]) ** 3
    assert np.abs(array[:5] - from_linear(np.linalg.inv(SRGB_TO_XYZ) @ xyz)).max() <= 2


@pytest.mark.parametrize("compression", ["raw", "jpeg"])
def test_IMG_33_ycbcr_is_converted(rgb, compression):
    image = Image.fromarray(rgb).convert("YCbCr")
    array = decode(saved(image, "TIFF", compression=compression))
    assert np.abs(array - rgb).max() <= (25 if compression == "jpeg" else 3)


# Depth


def ramp16() -> np.ndarray:
    steps = np.arange(HEIGHT * WIDTH) * 65535 // (HEIGHT * WIDTH - 1)
    return steps.astype(np.uint16).reshape(HEIGHT, WIDTH)


@pytest.mark.parametrize("format_", ["PNG", "TIFF"])
def test_IMG_28_gray_of_16_bits_keeps_range_and_precision(format_):
    array = decode(saved(Image.fromarray(ramp16()), format_))
    assert array[0, 0, 0] == 0 and array[-1, -1, 2] == 255
    assert np.allclose(array, ramp16()[..., np.newaxis] / 257.0, atol=1e-4)


@pytest.mark.parametrize("mode", ["I;16", "I;16B"])
def test_IMG_28_both_byte_orders(mode):
    order = "<u2" if mode == "I;16" else ">u2"
    image = Image.frombytes(mode, (WIDTH, HEIGHT), ramp16().astype(order).tobytes())
    array = decode(saved(image, "TIFF"))
    assert np.allclose(array[..., 1], ramp16() / 257.0, atol=1e-4)


def test_IMG_28_white_may_be_zero():
    data = tiff(0, [16], (65535 - ramp16()).tobytes())
    assert np.allclose(decode(data)[..., 0], ramp16() / 257.0, atol=1e-4)


def test_IMG_28_gray_of_12_bits_has_the_full_range():
    values = np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) * 4095 // (HEIGHT * WIDTH - 1)
    rows = b""
    for row in values:  # each row is padded to whole bytes
        bits = "".join(f"{value:012b}" for value in row)
        rows += int(bits.ljust(-(-len(bits) // 8) * 8, "0"), 2).to_bytes(-(-len(bits) // 8))
    array = decode(tiff(1, [12], rows))
    assert np.allclose(array[..., 0], values * (255 / 4095), atol=1e-3)


def test_IMG_28_orientation_and_transparency_hold_for_16_bits():
    image = Image.fromarray(np.ascontiguousarray(np.rot90(ramp16())))
    last = int(ramp16()[3, 5])
    array = decode(saved(image, "PNG", exif=with_orientation(6), transparency=last))
    expected = ramp16() / 257.0
    expected[3, 5] = 255
    assert np.allclose(array[..., 0], expected, atol=1e-4)


def test_IMG_28_a_profile_holds_for_16_bits():
    """A gray of gamma 1 whose middle is sRGB 188 (IEC 61966-2-1)."""
    curve = b"curv" + bytes(4) + struct.pack(">I", 0)
    white = b"XYZ " + bytes(4) + struct.pack(">iii", 63190, 65536, 54061)
    profile = bytearray(icc(b"GRAY", b"mntr", {b"kTRC": curve, b"wtpt": white}))
    profile[20:24] = b"XYZ "
    image = Image.fromarray(np.full((HEIGHT, WIDTH), 32768, np.uint16))
    assert np.abs(decode(saved(image, "PNG", icc_profile=bytes(profile))) - 188).max() <= 1.5


def test_IMG_29_rgb_of_16_bits_keeps_its_precision(rgb, caplog):
    deep = rgb.astype(np.uint16) * 257 + 100
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in deep)
    array = decode(png(WIDTH, HEIGHT, 16, 2, rows))
    assert np.array_equal(array, deep.astype(np.float32) / np.float32(257))
    assert caplog.messages == []


def test_IMG_30_integers_of_32_bits_are_refused():
    data = saved(Image.fromarray(np.full((HEIGHT, WIDTH), 70000, np.int32)), "TIFF")
    refusal(lambda: decode(data), "integer", "convert to 8- or 16-bit")


@pytest.mark.parametrize("value", [0.5, 300.0])
def test_IMG_31_floating_point_is_refused(value):
    data = saved(Image.fromarray(np.full((HEIGHT, WIDTH), value, np.float32)), "TIFF")
    refusal(lambda: decode(data), "floating-point", "convert to 8- or 16-bit")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_IMG_32_floating_point_that_is_not_finite_is_refused(value):
    data = saved(Image.fromarray(np.full((HEIGHT, WIDTH), value, np.float32)), "TIFF")
    refusal(lambda: decode(data), "floating-point")


# Quiet


def odd_tiff(rgb: np.ndarray) -> bytes:
    """A deflate TIFF with a broken stream, of which libtiff complains on descriptor 2."""
    data = bytearray(saved(Image.fromarray(rgb), "TIFF", compression="tiff_deflate"))
    with Image.open(io.BytesIO(data)) as image:
        at = image.tag_v2[273][0]
    data[at : at + 8] = b"\xff" * 8
    return bytes(data)


def test_IMG_36_libtiff_is_kept_off_the_terminal(rgb, capfd):
    data = odd_tiff(rgb)
    with pytest.raises(OSError), Image.open(io.BytesIO(data)) as image:
        image.load()
    assert capfd.readouterr().err  # without us it does print
    refusal(lambda: decode(data), "the file is cut short or damaged")
    os.write(2, b"back")
    assert capfd.readouterr().err == "back"


def test_IMG_36_warnings_of_ours_reach_the_terminal(capfd, rgb):
    handler = logging.StreamHandler(open(2, "w", closefd=False))  # noqa: SIM115
    logging.getLogger("nst_tf").addHandler(handler)
    try:
        decode(saved(Image.new("RGBA", (WIDTH, HEIGHT), (0, 0, 0, 9)), "PNG"))
    finally:
        logging.getLogger("nst_tf").removeHandler(handler)
    assert capfd.readouterr().err == "image.png: transparent, put on white\n"


def test_IMG_36_reading_works_with_descriptor_2_closed(tmp_path, rgb):
    (tmp_path / "a.tif").write_bytes(saved(Image.fromarray(rgb), "TIFF"))
    script = (
        "import os, sys; from pathlib import Path; from nst_tf.io import images; os.close(2);"
        "print(images.read(Path(sys.argv[1]), 1000).shape)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "a.tif")],
        cwd=Path(images.__file__).parents[2],
        stdout=subprocess.PIPE,
        timeout=60,
        check=True,
    )
    assert done.stdout == b"(23, 37, 3)\n"


def test_reading_leaves_pillow_and_warnings_as_they_were(rgb):
    before = Image.MAX_IMAGE_PIXELS, warnings.filters[:], os.fstat(2).st_ino
    decode(saved(Image.fromarray(rgb), "TIFF"))
    refusal(lambda: decode(bomb(14_000, 14_000)))
    assert (Image.MAX_IMAGE_PIXELS, warnings.filters, os.fstat(2).st_ino) == before


# Arrays, tensors and images of Pillow


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int64, np.float16, np.float64])
def test_an_array_of_any_number_type_is_accepted(rgb, dtype):
    array = check_image(rgb.astype(dtype), "content")
    assert array.dtype == np.float32
    assert np.array_equal(array, rgb)


def test_float32_is_not_copied(rgb):
    array = rgb.astype(np.float32)
    assert check_image(array, "content") is array


@pytest.mark.parametrize(
    ("array", "text"),
    [
        (np.full((4, 5, 3), 0.5), "its values, from 0.5 to 0.5, look like the range [0, 1]; "
         "multiply by 255"),
        (np.linspace(0, 1, 60).reshape(4, 5, 3), "from 0 to 1, look like the range [0, 1]"),
        (np.ones((2, 4, 5, 3)), "give one image of the batch"),
        (np.ones((4, 5, 4)), "remove the alpha channel: give image[:, :, :3]"),
        (np.ones((3, 4, 5)), "move the channels last: give numpy.moveaxis(image, 0, -1)"),
        (np.ones((4, 5, 2)), "give RGB of shape [H, W, 3] with finite values in [0, 255]"),
        (np.ones((0, 5, 3)), "it has shape [0, 5, 3]; give RGB"),
        (np.ones((4, 5, 3), bool), "its type is bool; give image * 255"),
        (np.ones((4, 5, 3), complex), "its type is complex128"),
        (np.full((4, 5, 3), "a"), "its type is <U1"),
        (np.full((4, 5, 3), 256), "values from 256 to 256; give image / 257"),
        (np.full((4, 5, 3), -1), "values from -1 to -1"),
        (np.full((4, 5, 3), np.nan), "values from nan to nan"),
        (np.full((4, 5, 3), np.inf), "values from inf to inf"),
    ],
)  # fmt: skip
def test_an_array_that_is_not_an_image_is_refused_with_the_remedy(array, text):
    refusal(lambda: check_image(array, "style"), "the style array is not an image: ", text)


def test_the_remedies_for_shapes_give_images(rgb):
    alpha = np.dstack([rgb, rgb[..., 0]])
    for array in (rgb[np.newaxis, ..., :3][0], alpha[:, :, :3], np.moveaxis(
        np.moveaxis(rgb, -1, 0), 0, -1),
    ):  # fmt: skip
        assert check_image(array, "content").shape == rgb.shape


@pytest.mark.parametrize("values", [[0.0], [1.0], [0.0, 1.0], [0.0, 0.5, 2.0]])
def test_IMG_44_a_black_or_almost_black_image_is_legal(values):
    """All that a file of 8 bits can hold: whole numbers, also with none above 1."""
    array = np.resize(np.float32(values), (4, 5, 3))
    assert np.array_equal(check_image(array, "content"), array)


def test_a_tensor_of_any_library_is_an_image(rgb):
    class Tensor:
        def __array__(self, dtype=None, copy=None):
            return rgb.astype(dtype or rgb.dtype)

    assert np.array_equal(images.as_image(Tensor(), "content"), rgb)
    assert np.array_equal(images.as_image(rgb.tolist(), "content"), rgb)


def test_a_tensor_of_tensorflow_is_an_image_also_in_bfloat16(rgb):
    tf = pytest.importorskip("tensorflow")
    for dtype in (tf.uint8, tf.float32, tf.float64):
        assert np.array_equal(images.as_image(tf.cast(rgb, dtype), "content"), rgb)
    rounded = images.as_image(tf.cast(rgb, tf.bfloat16), "content")
    assert rounded.dtype == np.float32
    assert np.abs(rounded - rgb).max() <= 0.5
    half = tf.fill((4, 5, 3), tf.cast(0.5, tf.bfloat16))
    refusal(lambda: images.as_image(half, "style"), "look like the range [0, 1]")


@pytest.mark.parametrize("value", [None, 3, object(), [[1], [1, 2]], b"bytes"])
def test_what_holds_no_image_is_refused(value):
    refusal(lambda: images.as_image(value, "content"), "content")


def test_a_tensor_that_cannot_be_converted_is_refused_with_its_reason():
    class OnGraphicsCard:
        def __array__(self, dtype=None, copy=None):
            raise TypeError("can't convert cuda:0 device type tensor to numpy")

    refusal(
        lambda: images.as_image(OnGraphicsCard(), "style"),
        "the style cannot be converted to a NumPy array: OnGraphicsCard: can't convert cuda:0",
    )


@pytest.mark.parametrize("kind", [Path, str])
def test_a_path_is_an_image(tmp_path, rgb, kind):
    path = tmp_path / "a.png"
    path.write_bytes(saved(Image.fromarray(rgb), "PNG"))
    assert np.array_equal(images.as_image(kind(path), "content"), rgb)
    assert np.array_equal(images.read(kind(path)), rgb)
    assert images.profile_of(kind(path)) is None and images.settings_of(kind(path)) is None
    refusal(lambda: images.as_image(kind(path), "content", 100), "more than 100 pixels")
    refusal(lambda: images.as_image(kind(tmp_path / "no.png"), "content"), "no such file")


def pillow_images(rgb: np.ndarray) -> dict[str, bytes]:
    image, turned = Image.fromarray(rgb), Image.fromarray(np.ascontiguousarray(np.rot90(rgb)))
    gray = np.arange(HEIGHT * WIDTH, dtype=np.uint16).reshape(HEIGHT, WIDTH) * 70
    alpha = np.dstack([rgb, rgb[..., 1]])
    return {
        "RGB": saved(image, "PNG"),
        "L": saved(image.convert("L"), "PNG"),
        "1": saved(image.convert("1"), "PNG"),
        "P": saved(image.convert("P"), "GIF"),
        "CMYK": saved(image.convert("CMYK"), "JPEG"),
        "RGBA": saved(Image.fromarray(alpha), "PNG"),
        "LA": saved(image.convert("LA"), "PNG"),
        "palette with transparency": saved(image.convert("P"), "PNG", transparency=b"\x80\x00"),
        "16 bits": saved(Image.fromarray(gray), "PNG"),
        "16 bits, white is zero": tiff(0, [16], gray.tobytes()),
        "JPEG, turned": saved(turned, "JPEG", exif=with_orientation(6)),
        "TIFF, turned": saved(turned, "TIFF", exif=with_orientation(6)),
        "profile": saved(image, "PNG", icc_profile=display_p3()),
    }


@pytest.mark.parametrize("kind", pillow_images(np.zeros((HEIGHT, WIDTH, 3), np.uint8)))
def test_an_image_of_pillow_is_converted_as_its_file(rgb, kind, caplog):
    data = pillow_images(rgb)[kind]
    expected = decode(data)
    messages = [message.removeprefix("image.png: ") for message in caplog.messages]
    caplog.clear()
    with Image.open(io.BytesIO(data)) as image:
        array = images.as_image(image, "content")
        assert np.array_equal(array, expected)
        assert caplog.messages == [f"the content image: {message}" for message in messages]
        assert np.array_equal(images.as_image(image, "content"), expected)  # it was not changed


def test_images_of_pillow_that_cannot_be_converted_are_refused(rgb):
    floats = Image.fromarray(np.zeros((HEIGHT, WIDTH), np.float32))
    refusal(lambda: images.as_image(floats, "style"), "floating-point", "the style image")
    data = saved(Image.fromarray(rgb), "BMP")
    with Image.open(io.BytesIO(data[: len(data) // 2])) as cut:
        refusal(lambda: images.as_image(cut, "style"), "the file is cut short or damaged")


# Resizing and rounding


@given(
    st.tuples(st.integers(1, 5000), st.integers(1, 5000)),
    st.integers(1, 5000),
)
def test_IMG_16_a_scaled_shape_keeps_the_aspect_to_a_pixel(shape, longer_side):
    height, width = resized_shape(shape, longer_side)
    scale = longer_side / max(shape)
    assert max(height, width) == longer_side
    assert min(height, width) >= 1
    assert abs(height - shape[0] * scale) < 1 and abs(width - shape[1] * scale) < 1


@pytest.mark.parametrize(
    ("shape", "longer_side", "expected"),
    [
        ((20, 40_000), 512, (1, 512)),  # 0.256 rounds to nothing
        ((4000, 16), 512, (512, 2)),
        ((683, 1024), 512, (342, 512)),  # 341.5
        ((37, 23), 37, (37, 23)),
        ((3, 7), 14, (6, 14)),
    ],
)
def test_IMG_16_scaled_shapes(shape, longer_side, expected):
    assert resized_shape(shape, longer_side) == expected


def test_resize_to_the_same_shape_changes_nothing(rgb):
    array = rgb + np.float32(0.25)
    result = resize(array.clip(0, 255), rgb.shape[:2])
    assert np.array_equal(result, array.clip(0, 255))


def lanczos(signal: np.ndarray, size: int) -> np.ndarray:
    """Resamples the first axis by the definition, in float64, with Lanczos' kernel of a = 3."""
    scale = len(signal) / size
    width = max(scale, 1.0)
    centre = (np.arange(size) + 0.5) * scale
    t = (np.arange(len(signal)) + 0.5 - centre[:, np.newaxis]) / width
    weights = np.where(np.abs(t) < 3, np.sinc(t) * np.sinc(t / 3), 0)
    return np.tensordot(weights / weights.sum(1, keepdims=True), signal, axes=1)


@pytest.mark.parametrize("shape", [(46, 74), (11, 18), (30, 10), (1, 1)])
def test_resize_is_lanczos_in_floating_point(shape):
    array = np.random.default_rng(3).uniform(0, 255, (HEIGHT, WIDTH, 3)).astype(np.float32)
    expected = lanczos(array.astype(np.float64), shape[0])
    expected = lanczos(expected.swapaxes(0, 1), shape[1]).swapaxes(0, 1).clip(0, 255)
    result = resize(array, shape)
    assert result.dtype == np.float32 and result.shape == (*shape, 3)
    assert np.abs(result - expected).max() < 1e-2  # 8-bit resampling would be off by up to 0.5


def test_resize_clips_the_overshoot_at_an_edge():
    array = np.zeros((HEIGHT, WIDTH, 3), np.float32)
    array[:, 18:] = 255
    result = resize(array, (46, 74))
    assert result.min() == 0 and result.max() == 255


def test_cover_keeps_the_aspect_and_the_centre():
    y, x = np.mgrid[:40, :120].astype(np.float32)
    array = np.stack([y * 6, x * 2, x * 0], axis=-1)
    result = cover(array, (20, 30))  # scaled by a half, then 15 columns off each side
    assert result.shape == (20, 30, 3) and result.dtype == np.float32
    rows, columns = (np.arange(20) + 0.5) * 2 - 0.5, (np.arange(30) + 15 + 0.5) * 2 - 0.5
    assert np.abs(result[3:-3, 5, 0] - rows[3:-3] * 6).max() < 0.5
    assert np.abs(result[7, 3:-3, 1] - columns[3:-3] * 2).max() < 0.5


def test_RUN_36_rounding_clips_and_goes_to_the_nearest():
    values = [-1e9, -3.0, -0.4, 0.49, 0.51, 1.5, 2.5, 254.4, 254.6, 255.4, 300.0, 1e30]
    expected = [0, 0, 0, 0, 1, 2, 2, 254, 255, 255, 255, 255]
    result = quantize(np.array(values, np.float32).reshape(2, 2, 3))
    assert result.dtype == np.uint8
    assert result.ravel().tolist() == expected


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_RUN_36_a_value_that_is_not_finite_is_refused(value, depth):
    array = np.zeros((HEIGHT, WIDTH, 3), np.float32)
    array[3, 4, 1] = value
    text = "1 of its 2553 values are not finite"
    refusal(lambda: quantize(array, depth), text, kind=NumericalError)


# Output


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("a.pgn", "did you mean '.png'?"),
        ("a.jepg", "did you mean '.jp"),
        ("a", "the name has none; add one, as in a.png"),
        ("a.gif", "'.gif' is not one that is written; choose a.png"),
        ("a.png.txt", "known are .png, .jpg, .jpeg, .webp, .tif, .tiff, .avif"),
    ],
)
def test_RUN_05_an_unknown_suffix_is_refused(name, words):
    refusal(lambda: images.check_output(Path(name), None), "cannot write the image", words)


@pytest.mark.parametrize(
    "name", ["a.png", "b.JPG", "c.jpeg", "d.WebP", "e.tif", "f.TIFF", "g.avif"]
)
def test_RUN_05_known_suffixes_pass_in_any_case(name, rgb):
    images.check_output(Path(name), (HEIGHT, WIDTH))
    assert images.encode(rgb, Path(name).suffix, "{}")


@pytest.mark.parametrize(("suffix", "limit"), [(".jpg", 65_500), (".webp", 16_383)])
def test_RUN_05_the_limits_are_those_of_the_encoder(suffix, limit, capfd):
    for shape in [(1, limit), (limit, 1)]:
        images.check_output(Path("a" + suffix), shape)
        assert images.encode(np.zeros((*shape, 3), np.uint8), suffix, "{}")
    for shape in [(1, limit + 1), (limit + 1, 1)]:
        words = f"holds at most {limit} pixels a side, not {limit + 1}"
        refusal(lambda: images.check_output(Path("a" + suffix), shape), words)  # noqa: B023
        with pytest.raises((OSError, ValueError)):
            images.encode(np.zeros((*shape, 3), np.uint8), suffix, "{}")
    images.check_output(Path("a.png"), (1, limit + 1))
    images.check_output(Path("a.tiff"), (1, limit + 1))


SETTINGS = json.dumps({"content_image": "Zoë \n.png", "style_weight": 1e5, "list": [1, None]})


@pytest.mark.parametrize("suffix", images.FORMATS)
def test_RUN_37_what_was_written_is_read_back(tmp_path, suffix):
    noise = np.random.default_rng(5).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    path = tmp_path / ("out" + suffix)
    atomic_write(path, images.encode(noise, suffix, SETTINGS))
    array = images.read(path, LIMIT)
    if images.FORMATS[suffix] in ("JPEG", "AVIF"):
        assert array.shape == noise.shape
        assert np.abs(array - noise).mean() < 4  # quality 90 gives 6.5, 4:2:0 gives 45
    else:
        assert np.array_equal(array, noise)
    assert images.settings_of(path) == SETTINGS


def test_the_same_image_gives_the_same_bytes(rgb):
    for suffix in images.FORMATS:
        digests = {hashlib.sha256(images.encode(rgb, suffix, SETTINGS)).digest() for _ in "ab"}
        assert len(digests) == 1


def test_settings_are_none_where_we_wrote_nothing(tmp_path, rgb, recwarn):
    other = Image.Exif()
    other[0x0131], other[0x010E] = "GIMP", SETTINGS
    files = {
        "plain.png": saved(Image.fromarray(rgb), "PNG"),
        "other.jpg": saved(Image.fromarray(rgb), "JPEG", exif=other),
        "bad.png": b"\x89PNG\r\n\x1a\n" + bytes(50),
        "text.png": b"hello",
        "empty.png": b"",
        "cut.tif": images.encode(rgb, ".tif", SETTINGS)[:-9],
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
        assert images.settings_of(tmp_path / name) is None, name
    assert images.settings_of(tmp_path / "missing.png") is None
    assert images.settings_of(tmp_path) is None
    assert images.settings_of(Path("\0")) is None
    assert not recwarn.list


@pytest.mark.parametrize(
    "change",
    [quantize, lambda image: resize(image, (900, 1200)), lambda image: cover(image, (900, 1200))],
    ids=["quantize", "resize", "cover"],
)
def test_a_large_image_is_rounded_and_resized_in_parts(change):
    image = np.full((900, 1200, 3), 100.25, np.float32)
    plane = image.nbytes // 3
    tracemalloc.start()
    try:
        result = change(image)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak - result.nbytes < 4.5 * plane

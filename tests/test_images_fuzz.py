"""Damaged and hostile bytes: a refusal or an image, never anything else."""

import functools
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from nst_tf.errors import InputError
from nst_tf.io.decoding import decode
from nst_tf.io.encoding import encode

FORMATS = ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "AVIF", "deep PNG", "deep TIFF"]
SIGNATURES = [b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n", b"RIFF\x40\0\0\0WEBPVP8L", b"II*\0"]
SIGNATURES += [
    b"MM\0*",
    b"\0\0\0\x20ftypavif",
    b"BM",
    b"GIF89a",
    b"\0\0\0\x18ftypheic",
    b"<svg",
    b"%PDF",
]
LIMIT = 1_000_000
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@functools.cache
def file_of(format_: str) -> bytes:
    random = np.random.default_rng(7)
    if format_.startswith("deep"):
        noise = random.integers(0, 2**16, (23, 37, 3), np.uint16)
        return encode(noise, f".{format_[5:].lower()}", "{}", profile=SRGB)
    noise = random.integers(0, 256, (23, 37, 3), np.uint8)
    file = io.BytesIO()
    options = {"WEBP": {"lossless": True}, "TIFF": {"compression": "tiff_deflate"}}
    options["AVIF"] = {"quality": 100}
    Image.fromarray(noise).save(file, format_, **options.get(format_, {}))
    return file.getvalue()


def outcome(data: bytes) -> np.ndarray | str:
    """The image, or the text of the refusal; anything else that is raised fails the test."""
    try:
        array = decode(data, LIMIT, "fuzz")
    except InputError as error:
        text = str(error)
        assert all(" " <= c <= "~" for c in text), text
        return text
    assert array.dtype == np.float32 and array.shape[2] == 3
    assert np.isfinite(array).all() and array.min() >= 0 and array.max() <= 255
    return array


@pytest.mark.parametrize("format_", FORMATS)
def test_IMG_07_truncated_image_is_refused(format_):
    whole = file_of(format_)
    assert len(whole) > 1200  # so that one percent holds the signature
    for percent in range(1, 100):
        text = outcome(whole[: len(whole) * percent // 100])
        assert isinstance(text, str), percent
        assert "the file is cut short or damaged" in text, (percent, text)


@pytest.mark.parametrize("missing", range(1, 6))
@pytest.mark.parametrize("format_", FORMATS)
def test_IMG_08_without_its_last_bytes_an_image_is_whole_or_refused(format_, missing):
    """A PNG ends in 12 bytes that hold no pixels; there, and only there, acceptance is promised."""
    found = outcome(file_of(format_)[:-missing])
    if isinstance(found, str):
        assert "PNG" not in format_
        assert "cut short" in found
    else:
        assert np.array_equal(found, decode(file_of(format_), LIMIT))


@pytest.mark.parametrize("format_", FORMATS)
def test_IMG_09_bit_flips_never_crash(format_):
    random = np.random.default_rng(11)
    decoded = 0
    for _ in range(300):
        data = bytearray(file_of(format_))
        for at in random.integers(0, 8 * len(data), random.integers(1, 9)):
            data[at // 8] ^= 1 << (at % 8)
        decoded += not isinstance(outcome(bytes(data)), str)
    assert decoded < 300  # some flips must have been noticed, or none were made


@pytest.mark.parametrize("format_", FORMATS)
def test_IMG_09_damage_in_the_header_never_crashes(format_):
    random = np.random.default_rng(13)
    for _ in range(150):
        data = bytearray(file_of(format_))
        for at in random.integers(0, 120, 3):
            data[at] = random.integers(0, 256)
        outcome(bytes(data))


@given(st.binary(max_size=300))
@settings(deadline=None)
def test_IMG_09_any_bytes_never_crash(data):
    outcome(data)


@given(st.sampled_from(SIGNATURES), st.binary(max_size=300))
@settings(deadline=None)
def test_IMG_09_any_bytes_after_a_signature_never_crash(signature, data):
    outcome(signature + data)

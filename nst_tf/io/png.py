"""PNG files as chunks: damage that costs no pixels is left out, what tells color is read."""

import itertools
import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

SIGNATURE = b"\x89PNG\r\n\x1a\n"
END_IS_MISSING = "its end is missing, but no pixels are"
TRAILER = "what follows its end was left out"

_LARGEST_TEXT = 2**20
"""Above this, Pillow refuses the text or the profile of a PNG, and with it the image."""

_LARGEST_PROFILE = 2**24
_MOST_CHUNKS = 200_000
"""Of less than 2 KB each in the largest files; more are hostile."""

_ANIMATION = (b"acTL", b"fcTL", b"fdAT")
_FOR_DECODERS = (b"tRNS", b"eXIf", *_ANIMATION)
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""By the color type of the header."""

_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2),
           (0, 1, 1, 2))  # fmt: skip
"""The first column and row of each pass of an interlaced image, and the steps (8.1)."""


class Mended(NamedTuple):
    """A file without what decoders would stumble over.

    Attributes:
        data: The bytes for decoders.
        info: What the file tells of its colors, as Pillow would put it into `Image.info`; "cicp"
            holds the bytes of that chunk.
        notes: What was left out, where it matters.
    """

    data: bytes
    info: dict[str, object]
    notes: list[str]


class _Chunk(NamedTuple):
    """A chunk as it is stored.

    Attributes:
        name: Four letters.
        body: Its data, as far as they are there.
        stored: All its bytes, with length, name and checksum.
        is_whole: Whether none of them are missing.
        end: Where the next one begins.
    """

    name: bytes
    body: memoryview
    stored: memoryview
    is_whole: bool
    end: int

    @property
    def is_ancillary(self) -> bool:
        """Whether decoders may pass over it (5.4)."""
        return bool(self.name[0] & 0x20)

    @property
    def is_sound(self) -> bool:
        """Whether its checksum is right."""
        checksum = zlib.crc32(self.body, zlib.crc32(self.name))
        return self.is_whole and self.stored[-4:] == struct.pack(">I", checksum)


def encode_chunk(name: bytes, body: bytes) -> bytes:
    """Encodes a chunk.

    Args:
        name: Four letters.
        body: Its data.

    Returns:
        Length, name, data and checksum.
    """
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def mend(data: bytes, max_pixels: int) -> Mended:
    """Leaves out what is damaged or too large for decoders, and holds no pixels.

    Args:
        data: A PNG, perhaps damaged (the sections cited are those of PNG, 3rd edition).
        max_pixels: Pixels that end too soon are not inflated where there are more than these.

    Returns:
        The chunks that pixels depend on. Missing pixels are left for decoders to refuse.
    """
    mended = Mended(data, {}, [])
    chunks = list(itertools.islice(_chunks(data), _MOST_CHUNKS))
    if not chunks or chunks[0].name != b"IHDR" or len(chunks) == _MOST_CHUNKS:
        return mended
    kept: list[_Chunk] = []
    damaged: list[bytes] = []
    for each in chunks:
        if not each.is_ancillary:
            kept.append(each)
        elif not each.is_sound or not _read_ancillary(each, mended):
            damaged.append(each.name)
        elif each.name in _FOR_DECODERS:
            kept.append(each)
    if damaged:
        names = ", ".join(sorted({name.decode("ascii") for name in damaged}))
        mended.notes.append(f"damaged in {names}, which was left out")
    if set(damaged) & set(_ANIMATION):  # a sequence with a gap
        kept = [each for each in kept if each.name not in _ANIMATION]
    last = kept[-1]
    if last.name != b"IEND" or not last.is_whole:
        mended.notes.append(END_IS_MISSING)
    elif data[last.end :].strip(b"\0"):
        mended.notes.append(TRAILER)
    elif kept == chunks:
        return mended
    return mended._replace(data=SIGNATURE + b"".join(_with_end(kept, max_pixels)))


def _chunks(data: bytes) -> Iterator[_Chunk]:
    """Yields the chunks up to IEND, to the end of the data, or to what is no chunk."""
    view, at = memoryview(data), len(SIGNATURE)
    while at + 8 <= len(data):
        length, name = struct.unpack_from(">I4s", data, at)
        if not name.isalpha():
            return
        end = at + 12 + length
        yield _Chunk(name, view[at + 8 : end - 4], view[at:end], end <= len(data), end)
        if name == b"IEND":
            return
        at = end


def _with_end(kept: Sequence[_Chunk], max_pixels: int) -> list[bytes]:
    """Returns the stored bytes of chunks, with an end where no pixels are missing before it."""
    *others, last = kept
    if last.name == b"IEND":
        kept = others
    elif not last.is_whole:
        pixels = _pixels(kept, max_pixels)
        if pixels is None:
            return [bytes(each.stored) for each in kept]
        others = [each for each in kept if each.name != b"IDAT"]
        return [*(bytes(each.stored) for each in others), pixels, encode_chunk(b"IEND", b"")]
    return [*(bytes(each.stored) for each in kept), encode_chunk(b"IEND", b"")]


def _pixels(chunks: Sequence[_Chunk], max_pixels: int) -> bytes | None:
    """Compresses pixels anew whose data end too soon; None where some are missing."""
    header = chunks[0]
    if not header.is_sound or len(header.body) != 13:
        return None
    width, height, depth, color, _, _, interlaced = struct.unpack(">IIBBBBB", header.body)
    if not 0 < width * height <= max_pixels or color not in _CHANNELS:
        return None
    bits = depth * _CHANNELS[color]
    passes = _PASSES if interlaced else ((0, 0, 1, 1),)
    sides = [(len(range(x, width, dx)), len(range(y, height, dy))) for x, y, dx, dy in passes]
    size = sum(rows * (1 + (columns * bits + 7) // 8) for columns, rows in sides if columns)
    stored = b"".join(each.body for each in chunks if each.name == b"IDAT")
    pixels = _inflated(stored, size)
    return encode_chunk(b"IDAT", zlib.compress(pixels, 1)) if len(pixels) == size else None


def _read_ancillary(chunk: _Chunk, mended: Mended) -> bool:
    """Reads what a chunk tells of color; returns whether it can be understood."""
    name, body, info = chunk.name, bytes(chunk.body), mended.info
    try:
        match name:
            case b"tEXt" | b"zTXt" | b"iTXt":
                if _text_size(name, body) > _LARGEST_TEXT:
                    mended.notes.append("text of more than 1 MB was left out")
            case b"iCCP":
                profile = _inflated(body.partition(b"\0")[2][1:], _LARGEST_PROFILE)
                info["icc_profile"] = profile
                return bool(profile)
            case b"cICP":
                info["cicp"] = bytes(struct.unpack("4B", body))
            case b"sRGB":
                (info["srgb"],) = struct.unpack("B", body)
            case b"gAMA":
                info["gamma"] = struct.unpack(">I", body)[0] / 1e5
            case b"cHRM":
                info["chromaticity"] = tuple(each / 1e5 for each in struct.unpack(">8I", body))
    except struct.error:
        return False
    return True


def _text_size(name: bytes, body: bytes) -> int:
    """Returns the size of a text, or any number above the largest."""
    text = body.partition(b"\0")[2]
    if name == b"zTXt":
        text = _inflated(text[1:], _LARGEST_TEXT + 1)
    elif name == b"iTXt" and text[:1] == b"\1":
        text = _inflated(text[2:].partition(b"\0")[2].partition(b"\0")[2], _LARGEST_TEXT + 1)
    return len(text)


def _inflated(compressed: bytes, size: int) -> bytes:
    """Inflates at most `size` bytes; what follows damage is missing."""
    inflate = zlib.decompressobj()
    try:
        return inflate.decompress(compressed, size)
    except zlib.error:
        return b""

"""TIFF files as directories: the first page that is no thumbnail; encoding, also as BigTIFF."""

import itertools
import math
import struct
import zlib
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from nst_tf.image.arrays import Pixels

SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

# Tags (TIFF 6.0, and its supplements of 1995 and 2002)
_NEW_SUBFILE_TYPE, _SUBFILE_TYPE, _SUB_DIRECTORIES = 254, 255, 330
_REDUCED_OR_MASK = 1 | 4
_REDUCED = 2  # of _SUBFILE_TYPE
_FORMATS = {3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
"""By field type: SHORT, LONG, IFD, LONG8 and IFD8."""

_MOST_DIRECTORIES = 1000
_MOST_TAGS = 4096
"""In a directory; more are hostile."""

_STRIP_BYTES = 2**18
_SHORT, _LONG, _ASCII, _UNDEFINED, _RATIONAL, _LONG8 = 3, 4, 2, 7, 5, 16
_WRITTEN = {_SHORT: "H", _LONG: "I", _RATIONAL: "II", _LONG8: "Q"}
_INCH = 2  # of ResolutionUnit

LARGEST_CLASSIC = 2**32 - 1
"""Bytes of a TIFF whose offsets have 32 bits; a larger one is a BigTIFF, whose have 64."""


class Page(NamedTuple):
    """The page of a TIFF to decode.

    Attributes:
        data: The file with that page as its first.
        number: Its number among all pages, from 1; 0 for one that lies below another page.
        num_pages: Pages that are neither thumbnails nor masks.
    """

    data: bytes
    number: int
    num_pages: int


class _Directory(NamedTuple):
    """A directory of tags, which describes a page.

    Attributes:
        at: Where it lies in the file.
        is_whole_image: Whether it is neither a thumbnail nor a mask of another page.
        below: Where directories below it lie.
        next: Where the next one lies; 0 for none.
    """

    at: int
    is_whole_image: bool
    below: tuple[int, ...]
    next: int


class _Layout(NamedTuple):
    """Formats of `struct` of the numbers of a TIFF: of classic ones, or of BigTIFF."""

    order: str
    offset: str
    size: str
    entry: str
    header: int

    @classmethod
    def of(cls, data: bytes) -> "_Layout":
        """Returns the layout that the signature tells."""
        order = "<" if data.startswith(b"II") else ">"
        return cls.make(order, is_big=b"+" in data[:4])

    @classmethod
    def make(cls, order: str, *, is_big: bool) -> "_Layout":
        """Returns the layout of classic files or of BigTIFF, in an order of bytes."""
        if is_big:
            return cls(order, f"{order}Q", f"{order}Q", f"{order}HHQ8s", 8)
        return cls(order, f"{order}I", f"{order}H", f"{order}HHI4s", 4)


def first_image(data: bytes) -> Page:
    """Finds the first page that is no thumbnail: NewSubfileType tells.

    Args:
        data: A TIFF or BigTIFF.

    Returns:
        That page; the first one where all are thumbnails, or where the directories are damaged.
    """
    layout = _Layout.of(data)
    try:
        (start,) = struct.unpack_from(layout.offset, data, layout.header)
        pages = list(itertools.islice(_chain(data, start, layout), _MOST_DIRECTORIES))
        images = [page for page in pages if page.is_whole_image]
        below = [at for page in pages for at in page.below][:_MOST_DIRECTORIES]
        chosen = images or [
            page for at in below if (page := _directory(data, at, layout)).is_whole_image
        ]
    except (struct.error, OverflowError):
        return Page(data, 1, 1)
    if not chosen or chosen[0] == pages[0]:
        return Page(data, 1, max(1, len(images)))
    moved = bytearray(data)
    struct.pack_into(layout.offset, moved, layout.header, chosen[0].at)
    number = pages.index(chosen[0]) + 1 if images else 0
    return Page(bytes(moved), number, len(chosen))


def _chain(data: bytes, at: int, layout: _Layout) -> Iterator[_Directory]:
    """Yields the directories of all pages."""
    seen = set()
    while at and at not in seen:
        seen.add(at)
        directory = _directory(data, at, layout)
        yield directory
        at = directory.next


def _directory(data: bytes, at: int, layout: _Layout) -> _Directory:
    (count,) = struct.unpack_from(layout.size, data, at)
    if count > _MOST_TAGS:
        raise struct.error("too many tags")
    first, size = at + struct.calcsize(layout.size), struct.calcsize(layout.entry)
    (following,) = struct.unpack_from(layout.offset, data, first + count * size)
    found: dict[int, tuple[int, ...]] = {}
    for number in range(count):
        tag, type_, length, value = struct.unpack_from(layout.entry, data, first + number * size)
        if tag not in (_NEW_SUBFILE_TYPE, _SUBFILE_TYPE, _SUB_DIRECTORIES):
            continue
        if type_ not in _FORMATS or not 0 < length <= _MOST_DIRECTORIES:
            continue
        values = f"{layout.order}{length}{_FORMATS[type_]}"
        if struct.calcsize(values) <= len(value):
            found[tag] = struct.unpack_from(values, value)
        else:
            (place,) = struct.unpack(layout.offset, value)
            found[tag] = struct.unpack_from(values, data, place)
    reduced = found.get(_NEW_SUBFILE_TYPE, (0,))[0] & _REDUCED_OR_MASK
    reduced = reduced or found.get(_SUBFILE_TYPE, (0,))[0] == _REDUCED
    return _Directory(at, not reduced, found.get(_SUB_DIRECTORIES, ()), following)


def encode(
    pixels: Pixels, texts: Mapping[int, bytes], exif: Mapping[int, bytes], dpi: int = 0
) -> bytes:
    """Encodes an image in one page, compressed by deflate with horizontal differences.

    A file above `LARGEST_CLASSIC` is a BigTIFF. The same pixels give the same bytes, which
    libtiff's encoder does not promise: it leaves the padding of its arrays as it was in memory.

    Args:
        pixels: RGB or RGBA [H, W, 3 or 4] of 8 or 16 bits; alpha is not premultiplied.
        texts: Values of other tags; those of text end in NUL.
        exif: Values of tags of an Exif directory; none for no such directory.
        dpi: The pixels per inch of a print; 0 for none.

    Returns:
        The bytes of the file.
    """
    height, width, channels = pixels.shape
    strips = _strips(pixels)
    values = sum(map(len, [*strips, *texts.values(), *exif.values()]))
    layout = _Layout.make("<", is_big=values + 16 * len(strips) + 4096 > LARGEST_CLASSIC)
    is_big = layout.header == 8
    parts = [b"II+\0\x08\0\0\0" if is_big else b"II*\0", bytes(struct.calcsize(layout.offset))]
    end = sum(map(len, parts))
    offsets = []
    for strip in strips:
        offsets.append(end)
        parts += [strip, bytes(len(strip) % 2)]
        end += len(strip) + len(strip) % 2
    offset = _LONG8 if is_big else _LONG
    tags: dict[int, tuple[int, list[int] | bytes]] = {
        256: (_LONG, [width]),
        257: (_LONG, [height]),
        258: (_SHORT, [8 * pixels.itemsize] * channels),
        259: (_SHORT, [8]),  # deflate
        262: (_SHORT, [2]),  # RGB
        273: (offset, offsets),
        277: (_SHORT, [channels]),
        278: (_LONG, [_rows_per_strip(pixels)]),
        279: (_LONG, [len(strip) for strip in strips]),
        284: (_SHORT, [1]),  # samples side by side
        317: (_SHORT, [2]),  # horizontal differences
        **{tag: (_ASCII if tag < 32768 else _UNDEFINED, text) for tag, text in texts.items()},
    }
    if channels == 4:
        tags[338] = (_SHORT, [2])  # alpha that is not premultiplied
    if dpi:
        tags |= {282: (_RATIONAL, [dpi, 1]), 283: (_RATIONAL, [dpi, 1]), 296: (_SHORT, [_INCH])}
    if exif:
        tags[34665] = (offset, [end])
        parts.append(
            _encode({tag: (_UNDEFINED, value) for tag, value in exif.items()}, end, layout)
        )
        end += len(parts[-1])
    parts[1] = struct.pack(layout.offset, end)
    parts.append(_encode(tags, end, layout))
    return b"".join(parts)


def _rows_per_strip(pixels: Pixels) -> int:
    return max(1, _STRIP_BYTES // math.prod(pixels.shape[1:]) // pixels.itemsize)


def _strips(pixels: Pixels) -> list[bytes]:
    """Compresses groups of rows."""
    strips, rows = [], _rows_per_strip(pixels)
    for top in range(0, len(pixels), rows):
        part = pixels[top : top + rows]
        differences = np.diff(part, axis=1, prepend=part.dtype.type(0))  # modulo 2^8 or 2^16
        differences = differences.astype(part.dtype.newbyteorder("<"))
        strips.append(zlib.compress(differences.tobytes(), 6))
    return strips


def _encode(tags: Mapping[int, tuple[int, list[int] | bytes]], at: int, layout: _Layout) -> bytes:
    """Encodes a directory, and behind it the values that are longer than an offset.

    Args:
        tags: Type and value of each tag.
        at: Where the directory will lie in the file.
        layout: Of the file.
    """
    room = struct.calcsize(layout.offset)
    values_at = at + struct.calcsize(layout.size) + struct.calcsize(layout.entry) * len(tags) + room
    values = b""
    entries = struct.pack(layout.size, len(tags))
    for tag, (type_, value) in sorted(tags.items()):
        if isinstance(value, bytes):
            stored, count = value, len(value)
        else:
            count = len(value) // len(_WRITTEN[type_])
            stored = struct.pack(f"<{_WRITTEN[type_] * count}", *value)
        place = stored
        if len(stored) > room:
            place = struct.pack(layout.offset, values_at + len(values))
            values += stored + bytes(len(stored) % 2)
        entries += struct.pack(layout.entry, tag, type_, count, place)  # which pads it with zeros
    return entries + struct.pack(layout.offset, 0) + values

"""JPEG files as segments (ITU-T T.81): whether all pixels are there where the end is not."""

import itertools
import math
import random
import re
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import imagecodecs
import numpy as np
import numpy.typing as npt

END = b"\xff\xd9"
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # tables and an extension are no frames
_PROGRESSIVE = {0xC2, 0xC6, 0xCA, 0xCE}
_SCAN, _RESTART_INTERVAL = 0xDA, 0xDD
_OTHERS = {0xC4, 0xCC, *range(0xDB, 0xFF)}
_AFTER_SCAN = re.compile(rb"\xff+[^\x00\xd0-\xd7\xff]")  # neither stuffing nor a restart
_RESTART = re.compile(rb"\xff[\xd0-\xd7]")

_NUM_COEFFICIENTS = 64
_BLOCK = 8
_PADDING_BYTES = 256
_NUM_RANDOM = 4
_TEXT = bytes([*range(0x20, 0x7F), *b"\t\n\r"])
_TEXT_BYTES_OF_DATA = 4
"""At the end of compressed data, so many bytes may look like text."""

_MOST_FILL_BYTES = 64
"""Of value 255, which may precede any marker (B.1.1.2)."""

_MOST_LEFT_OVER = 2
"""Bytes that may be left over behind complete data."""


@dataclass(frozen=True)
class _Frame:
    """The header of an image: its size, and the sampling factors of its components by number."""

    height: int
    width: int
    factors: dict[int, tuple[int, int]]
    is_progressive: bool

    @classmethod
    def of(cls, body: bytes, marker: int) -> "_Frame":
        """Reads a header."""
        height, width, count = struct.unpack_from(">HHB", body, 1)
        parts = [body[at : at + 3] for at in range(6, 6 + 3 * count, 3)]
        factors = {part[0]: (part[1] & 15, part[1] >> 4) for part in parts}
        return cls(height, width, factors, marker in _PROGRESSIVE)

    def num_units(self, components: Sequence[int]) -> int:
        """Returns the number of units that a scan of components is coded in (A.2)."""
        most = [max(factors) for factors in zip(*self.factors.values(), strict=True)]
        size = (self.height, self.width)
        if len(components) > 1:
            return math.prod(
                math.ceil(side / (_BLOCK * factor)) for side, factor in zip(size, most, strict=True)
            )
        own = self.factors[components[0]]
        return math.prod(
            math.ceil(math.ceil(side * factor / high) / _BLOCK)
            for side, factor, high in zip(size, own, most, strict=True)
        )


@dataclass(frozen=True)
class _Scan:
    """A scan of compressed data.

    Attributes:
        components: The components in it.
        first: Its first coefficient, from 0.
        last: Its last coefficient.
        is_exact: Whether it holds the last bit of them.
        interval: Units between restarts; 0 for no restarts.
        start: Where its data begin.
        end: Where they end.
    """

    components: Sequence[int]
    first: int
    last: int
    is_exact: bool
    interval: int
    start: int
    end: int


def has_end(data: bytes) -> bool:
    """Whether the last scan of a JPEG is followed by the end marker.

    Args:
        data: A JPEG; where its segments cannot be read, the decoder is left to judge.
    """
    try:
        _, scans = _structure(data)
    except Exception:  # noqa: BLE001 - a parser of untrusted bytes
        return True
    if not scans:
        return True
    end = scans[-1].end
    return data[end : end + _MOST_FILL_BYTES].lstrip(b"\xff").startswith(END[1:])


def with_end(data: bytes) -> bytes | None:
    """Puts the missing end marker behind the data of a JPEG that has all its pixels.

    Decoders fill missing data with zeros and call it a warning, which none of those in use passes
    on. So the data are decoded with several paddings behind them: pixels that are there depend on
    none of them.

    Args:
        data: A JPEG without an end marker.

    Returns:
        The JPEG up to the end of its last scan, and the marker; None where pixels are missing, or
        may be, as other bytes are in their place.
    """
    try:
        frame, scans = _structure(data)
        if not scans or not _covers_everything(frame, scans):
            return None
        for end in _ends(data, scans[-1]):
            if _is_whole(data, frame, scans[-1], end) and _is_exact(data, frame, scans[-1], end):
                return data[:end] + END
    except Exception:  # noqa: BLE001 - a parser of untrusted bytes
        return None
    return None


def _structure(data: bytes) -> tuple[_Frame, list[_Scan]]:
    """Reads the segments up to the end of the last scan, or to what belongs to no such image."""
    frame: _Frame | None = None
    scans: list[_Scan] = []
    interval, at = 0, 2
    while 0 <= (at := data.find(b"\xff", at)) <= len(data) - 4:  # other bytes are passed over
        marker = data[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
            continue
        if marker not in _OTHERS and marker not in _FRAMES and marker != _SCAN:
            break
        body = data[at + 4 : at + 2 + int.from_bytes(data[at + 2 : at + 4])]
        at += 4 + len(body)
        if marker in _FRAMES:
            if frame:  # of another image
                break
            frame = _Frame.of(body, marker)
        elif marker == _RESTART_INTERVAL:
            interval = int.from_bytes(body[:2])
        elif marker == _SCAN:
            first, last, bits = body[-3:]
            found = _AFTER_SCAN.search(data, at)
            end = found.start() if found else len(data)
            scans.append(_Scan(body[1:-3:2], first, last, bits & 15 == 0, interval, at, end))
            at = end
    if frame is None:
        raise ValueError("there is no frame")
    return frame, scans


def _covers_everything(frame: _Frame, scans: Sequence[_Scan]) -> bool:
    """Whether the scans hold all bits of all coefficients of all components."""
    covered: set[tuple[int, int]] = set()
    for scan in scans:
        coefficients = range(_NUM_COEFFICIENTS)
        if frame.is_progressive:
            coefficients = range(scan.first, scan.last + 1) if scan.is_exact else range(0)
        covered.update(itertools.product(scan.components, coefficients))
    return len(covered) == len(frame.factors) * _NUM_COEFFICIENTS


def _ends(data: bytes, scan: _Scan) -> list[int]:
    """Returns where the data of a scan may end, if zeros, fill bytes or text follow them."""
    stored = data[scan.start : scan.end]
    zeros, fill, text = (stored.rstrip(tail) for tail in (b"\0", b"\xff", _TEXT))
    lengths = [len(zeros) + zeros.endswith(b"\xff"), len(fill)]  # a byte of 255 is stuffed by a 0
    lengths += range(len(text), min(len(text) + _TEXT_BYTES_OF_DATA, len(stored)) + 1)
    return [scan.start + length for length in sorted(set(lengths))]


def _is_exact(data: bytes, frame: _Frame, scan: _Scan, end: int) -> bool:
    """Whether no other bytes are decoded in the place of missing pixels, of which some are left.

    Where the scan changes nothing, as may be in an image of one color, none can be missing.
    """
    sooner = max(end - _MOST_LEFT_OVER - 1, scan.start)
    return not _is_whole(data, frame, scan, sooner) or _is_whole(data, frame, scan, scan.start)


def _is_whole(data: bytes, frame: _Frame, scan: _Scan, end: int) -> bool:
    """Whether all pixels are there in the data up to an end within the last scan."""
    if scan.interval:  # decoders pass over an interval that is missing with its marker
        expected = math.ceil(frame.num_units(scan.components) / scan.interval) - 1
        if len(_RESTART.findall(data, scan.start, end)) != expected:
            return False
    return _has_all_pixels(data[:end])


def _has_all_pixels(data: bytes) -> bool:
    """Whether the same pixels are decoded, whatever follows the data."""
    data = data.rstrip(b"\xff")  # which would be a marker with what follows
    paddings = [bytes(_PADDING_BYTES), b"\xff\0" * (_PADDING_BYTES // 2)]
    for seed in range(_NUM_RANDOM):
        padding = random.Random(seed).randbytes(_PADDING_BYTES)
        paddings.append(padding.replace(b"\xff", b"\x7f"))  # without markers
    decoded: Iterator[npt.NDArray[np.uint8]] = (
        imagecodecs.jpeg8_decode(data + padding + END) for padding in paddings
    )
    first = next(decoded)
    return all(np.array_equal(first, other) for other in decoded)

"""Color spaces that image files name or describe outside an ICC profile, as ICC profiles.

ITU-T H.273 numbers primaries and transfer functions, PNG (3rd edition, 11.3.2) and AVIF use its
numbers; Exif 2.32 and DCF 2.0 name sRGB and Adobe RGB. Profiles are made by ICC.1:2022.
"""

import re
import struct
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image

_Primaries = tuple[float, ...]
"""x and y of white, red, green and blue (CIE 1931), in the order of PNG's cHRM."""

_D65 = (0.3127, 0.3290)
_SRGB_PRIMARIES = (*_D65, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
_ADOBE_RGB_PRIMARIES = (*_D65, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06)
_PRIMARIES: Mapping[int, _Primaries] = {
    1: _SRGB_PRIMARIES,
    2: _SRGB_PRIMARIES,  # unspecified
    4: (0.310, 0.316, 0.67, 0.33, 0.21, 0.71, 0.14, 0.08),
    5: (*_D65, 0.64, 0.33, 0.29, 0.60, 0.15, 0.06),
    6: (*_D65, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070),
    7: (*_D65, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070),
    9: (*_D65, 0.708, 0.292, 0.170, 0.797, 0.131, 0.046),  # BT.2020
    11: (0.314, 0.351, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
    12: (*_D65, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),  # Display P3
}


class _Curve(NamedTuple):
    """A transfer function to linear light: (a v + b)^g from d on, c v below."""

    g: float
    a: float = 1.0
    b: float = 0.0
    c: float = 0.0
    d: float = 0.0


_SRGB_CURVE = _Curve(2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
_BT709_CURVE = _Curve(1 / 0.45, 1 / 1.099, 0.099 / 1.099, 1 / 4.5, 0.081)
_ADOBE_RGB_CURVE = _Curve(563 / 256)
_CURVES: Mapping[int, _Curve] = {
    1: _BT709_CURVE,
    2: _SRGB_CURVE,  # unspecified
    4: _Curve(2.2),
    5: _Curve(2.8),
    6: _BT709_CURVE,
    8: _Curve(1.0),
    13: _SRGB_CURVE,
    14: _BT709_CURVE,
    15: _BT709_CURVE,
}
_HDR = {16: "PQ", 18: "HLG"}

_BRADFORD = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)
_D50 = np.array([0.9642, 1.0, 0.8249])
_GAMMAS = (0.2, 5.0)
_TOLERANCE = 0.005
"""How far chromaticities and relative gammas may be from those of sRGB and still mean it."""


def cicp_of(data: bytes) -> dict[str, object]:
    """Reads the box of an AVIF or HEIC that tells its color space by the numbers of H.273.

    Args:
        data: The bytes of the file.

    Returns:
        "cicp": primaries, transfer function, matrix and range, as in the chunk cICP of a PNG;
        empty where there is no such box.
    """
    found = re.search(rb"colrnclx\0(.)\0(.)", data[: 2**16], re.DOTALL)
    # Decoders undo the matrix and the range.
    return {"cicp": bytes([*found[1], *found[2], 0, 1])} if found else {}


def told_profile(image: Image.Image, notes: list[str]) -> bytes | None:
    """Returns the profile of an image's colors, by what it tells in this order.

    "cicp", "icc_profile", "srgb", "gamma" and "chromaticity" of its `info`; Exif.

    Args:
        image: An opened image; the colors of CMYK and LAB are told by an ICC profile alone.
        notes: What cannot be used is appended.

    Returns:
        An ICC profile; None for sRGB.
    """
    info: Mapping[Any, Any] = image.info
    embedded = info.get("icc_profile")
    if image.mode in ("CMYK", "LAB"):
        return embedded
    try:
        if "cicp" in info and (space := _space_of_cicp(info["cicp"], notes)):
            return _profile(*space)
        if embedded:
            return bytes(embedded)
        if "srgb" in info:
            return None
        if "gamma" in info or "chromaticity" in info:
            return _profile(*_space_of_gamma(info))
        space = _space_of_exif(image, notes)
        return _profile(*space) if space else None
    except (ArithmeticError, TypeError, ValueError, struct.error, np.linalg.LinAlgError):
        notes.append("its color space makes no sense, colors taken as sRGB")
        return None


_Space = tuple[_Primaries, _Curve]


def _space_of_cicp(cicp: bytes, notes: list[str]) -> _Space | None:
    primaries, transfer, matrix, full_range = cicp
    if transfer in _HDR:
        notes.append(f"its brightness is HDR ({_HDR[transfer]}), which is not converted; "
                     "save it as SDR for true colors")  # fmt: skip
        return None
    if primaries not in _PRIMARIES or transfer not in _CURVES or matrix or full_range != 1:
        notes.append(f"its color space is not known (cICP {', '.join(map(str, cicp))})")
        return None
    if primaries in (1, 2) and _CURVES[transfer] is _BT709_CURVE:
        transfer = 13  # as all viewers show it
    return _PRIMARIES[primaries], _CURVES[transfer]


def _space_of_gamma(info: Mapping[Any, Any]) -> _Space:
    primaries = info.get("chromaticity", _SRGB_PRIMARIES)
    if "gamma" not in info:
        return primaries, _SRGB_CURVE
    gamma = 1 / info["gamma"]
    if abs(gamma / 2.2 - 1) < _TOLERANCE and _is_near(primaries, _SRGB_PRIMARIES):
        return primaries, _SRGB_CURVE  # what writers mean that tell sRGB by these (11.3.2.5)
    return primaries, _Curve(gamma)


def _space_of_exif(image: Image.Image, notes: list[str]) -> _Space | None:
    try:
        exif = image.getexif()
        told = exif.get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.ColorSpace)
        index = exif.get_ifd(ExifTags.IFD.Interop).get(1)
    except Exception:  # noqa: BLE001 - a parser of untrusted bytes
        return None
    if isinstance(index, bytes):
        index = index.decode("latin-1")
    if told == 2 or (told != 1 and str(index).rstrip("\0") == "R03"):
        return _ADOBE_RGB_PRIMARIES, _ADOBE_RGB_CURVE
    if told != 1 and (primaries := exif.get(ExifTags.Base.PrimaryChromaticities)):
        white = exif.get(ExifTags.Base.WhitePoint, _D65)
        return tuple(float(number) for number in (*white, *primaries)), _ADOBE_RGB_CURVE
    if told == 65535:
        notes.append("its color space is not sRGB and has no profile, colors taken as sRGB")
    return None


def _is_near(one: _Primaries, other: _Primaries) -> bool:
    return bool(np.allclose(one, other, rtol=0, atol=_TOLERANCE))


def _profile(primaries: _Primaries, curve: _Curve) -> bytes | None:
    """Makes a profile of RGB; None for sRGB.

    Raises:
        ValueError: The primaries are no triangle, or the exponent is out of the usual range.
    """
    if curve in (_SRGB_CURVE, _ADOBE_RGB_CURVE) and _is_near(primaries, _SRGB_PRIMARIES):
        return None
    if not _GAMMAS[0] <= curve.g <= _GAMMAS[1]:
        raise ValueError("an exponent that nobody uses")
    xy = np.array(primaries, np.float64).reshape(4, 2)
    if (
        not np.isfinite(xy).all()
        or xy[:, 1].min() <= 0
        or xy.sum(axis=1).max() > 1.0001
        or xy.min() < 0
    ):
        raise ValueError("chromaticities that nothing has")
    white, *colors = np.column_stack([xy, 1 - xy.sum(axis=1)]) / xy[:, 1:]
    columns = np.array(colors).T
    columns = columns * np.linalg.solve(columns, white)
    scale = (_BRADFORD @ _D50) / (_BRADFORD @ white)
    adaptation = np.linalg.inv(_BRADFORD) @ (scale[:, np.newaxis] * _BRADFORD)
    tags = {b"desc": _text("RGB of the image file"), b"cprt": _text("none")}
    tags |= {b"wtpt": _numbers(b"XYZ ", _D50), b"chad": _numbers(b"sf32", adaptation.ravel())}
    for name, column in zip(b"rgb", (adaptation @ columns).T, strict=True):
        tags[bytes([name]) + b"XYZ"] = _numbers(b"XYZ ", column)
        tags[bytes([name]) + b"TRC"] = _numbers(b"para\0\0\0\0\0\3", np.array(curve), pad=2)
    return _assembled(tags)


def _text(text: str) -> bytes:
    encoded = text.encode("utf-16-be")
    head = struct.pack(">4s4xII2s2sII", b"mluc", 1, 12, b"en", b"US", len(encoded), 28)
    return head + encoded


def _numbers(head: bytes, values: npt.NDArray[np.float64], pad: int = 4) -> bytes:
    """Encodes numbers of s15Fixed16 after the type of a tag."""
    return head + bytes(pad) + struct.pack(f">{len(values)}i", *np.rint(values * 65536).astype(int))


def _assembled(tags: Mapping[bytes, bytes]) -> bytes:
    """Encodes an ICC profile of a display, whose connection space is XYZ."""
    table, body, start = b"", b"", 128 + 4 + 12 * len(tags)
    for name, tag in tags.items():
        table += struct.pack(">4sII", name, start + len(body), len(tag))
        body += tag + bytes(-len(tag) % 4)
    header = struct.pack(
        ">I4xI4s4s4s6H4s28x3i48x",
        start + len(body), 0x04300000, b"mntr", b"RGB ", b"XYZ ", 2026, 1, 1, 0, 0, 0, b"acsp",
        *np.rint(_D50 * 65536).astype(int),
    )  # fmt: skip
    return header + struct.pack(">I", len(tags)) + table + body

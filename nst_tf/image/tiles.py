"""Tiles of a map, with the border that computing their part of it takes."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt


class Box(NamedTuple):
    """A rectangle of positions, without its last row and column.

    Attributes:
        top: Its first row.
        bottom: The row after its last.
        left: Its first column.
        right: The column after its last.
    """

    top: int
    bottom: int
    left: int
    right: int

    def of(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Returns the part of an array, [H, W, ...], that the box shows, without a copy."""
        return array[self.top : self.bottom, self.left : self.right]

    def scaled(self, stride: int, shape: tuple[int, int]) -> "Box":
        """Returns the box on a map of fewer positions.

        Args:
            stride: Positions per position of that map; a multiple of it is where the box begins,
                and where it ends, if that is not the end of the map.
            shape: Height and width of that map.
        """
        top, bottom, left, right = (-(-side // stride) for side in self)
        return Box(top, min(bottom, shape[0]), left, min(right, shape[1]))

    @property
    def positions(self) -> int:
        """Their number."""
        return (self.bottom - self.top) * (self.right - self.left)


class Tile(NamedTuple):
    """A part of a map, and what computing it takes.

    Attributes:
        own: The part: every position belongs to one tile.
        padded: The part with its border, which ends where the map does.
    """

    own: Box
    padded: Box

    def crop(self) -> tuple[int, int, int, int]:
        """Returns where `own` is in `padded`: first row, rows, first column, columns.

        A number of -1 stands for all to the end of the map.
        """
        own, padded = self.own, self.padded
        rows = -1 if own.bottom == padded.bottom else own.bottom - own.top
        columns = -1 if own.right == padded.right else own.right - own.left
        return own.top - padded.top, rows, own.left - padded.left, columns


def split(shape: tuple[int, int], size: int, unit: int, halo: int) -> list[Tile]:
    """Splits a map into tiles that are equally large with their borders.

    So the memory of one serves the next, where other sizes would leave holes in it. What is left
    of a side, less than a unit, makes the tiles of the last row and column larger.

    Args:
        shape: Height and width of the map.
        size: The longest side of a tile inside the map, at least `unit`; those at its ends have a
            border on one side only, and are longer.
        unit: All tiles begin at multiples of it.
        halo: Width of the border, a multiple of the strides that are computed with.

    Returns:
        The tiles, row by row.
    """
    rows, columns = (_intervals(side, size, unit, halo) for side in shape)
    return [
        Tile(Box(top, bottom, left, right), Box(*row, *column))
        for (top, bottom), row in rows
        for (left, right), column in columns
    ]


def assemble(
    function: Callable[[npt.NDArray[Any]], Any],
    source: npt.NDArray[Any],
    tiles: Sequence[Tile],
    *,
    up: int = 1,
    down: int = 1,
) -> npt.NDArray[Any]:
    """Applies a function to the tiles of a map, and puts the results together.

    Args:
        function: From a tile with its border, [1, h, w, C], to [1, up h // down, up w // down, N],
            of which only what belongs to the border depends on what is beyond it.
        source: The map, [H, W, C].
        tiles: Its tiles, at multiples of `down`.
        up: Rows and columns of the result,
        down: for so many of the map.

    Returns:
        [up H // down, up W // down, N].
    """
    shape = up * source.shape[0] // down, up * source.shape[1] // down
    result: npt.NDArray[Any] = np.empty(0)
    for tile in tiles:
        found = np.asarray(function(tile.padded.of(source)[np.newaxis]))[0]
        if not result.size:
            result = np.empty((*shape, found.shape[-1]), found.dtype)
        own, top, left = (
            Box(*(up * side // down for side in tile.own)),
            up * (tile.own.top - tile.padded.top) // down,
            up * (tile.own.left - tile.padded.left) // down,
        )
        part = own.of(result)
        part[...] = found[top : top + part.shape[0], left : left + part.shape[1]]
    return result


def _intervals(
    length: int, size: int, unit: int, halo: int
) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Splits a side as evenly as as few intervals allow; returns each with its border."""
    sizes = range(unit, max(unit, size - size % unit) + 1, unit)
    fewest = len(_split_side(length, sizes[-1], unit, halo))
    return next(
        found for inner in sizes if len(found := _split_side(length, inner, unit, halo)) == fewest
    )


def _split_side(
    length: int, inner: int, unit: int, halo: int
) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Splits a side into intervals of `inner` positions between their borders."""
    padded = inner + 2 * halo
    found, begin, start = [], 0, 0
    while start + padded + unit <= length:
        end = (start + padded - halo) // unit * unit
        found.append(((begin, end), (start, start + padded)))
        begin, start = end, end - halo
    last = max(0, length - padded) // unit * unit
    return [*found, ((begin, length), (min(start, last), length))]

"""Tiles of a map, with the border that computing their part of it takes."""

import itertools
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
    """Splits a map into tiles of nearly equal size.

    Args:
        shape: Height and width of the map.
        size: The longest side of a tile, at least `unit`; the last row and column of tiles take
            what is left, less than a unit, too.
        unit: All tiles begin at multiples of it.
        halo: Width of the border, a multiple of the strides that are computed with.

    Returns:
        The tiles, row by row.
    """
    rows, columns = (_cuts(side, size, unit) for side in shape)
    tiles = []
    for top, bottom in rows:
        for left, right in columns:
            padded = Box(
                max(top - halo, 0),
                min(bottom + halo, shape[0]),
                max(left - halo, 0),
                min(right + halo, shape[1]),
            )
            tiles.append(Tile(Box(top, bottom, left, right), padded))
    return tiles


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


def _cuts(length: int, size: int, unit: int) -> list[tuple[int, int]]:
    units = max(1, length // unit)
    parts = -(-units // max(1, size // unit))
    cuts = [part * units // parts * unit for part in range(parts)] + [length]
    return list(itertools.pairwise(cuts))

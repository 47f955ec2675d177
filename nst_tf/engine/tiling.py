"""Which images are evaluated in tiles, and of what size, so that a run fits into memory.

The constants are fits to the peak memory of runs at 512, 1024 and 2048 px at once, and of runs in
tiles at up to 4096 px, of which TensorFlow, its libraries and the allocator are a part.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from nst_tf import system
from nst_tf.config import Config
from nst_tf.engine.pyramid import Level
from nst_tf.errors import InputError

BASE_BYTES = 1.2e9
"""Python, TensorFlow, the network and what oneDNN keeps."""


class _Whole(NamedTuple):
    """Memory of an image that is evaluated at once.

    float32 and bfloat16 take nearly the same: the loss of the result is computed in float32.

    Attributes:
        per_pixel: Bytes per pixel of a small image.
        large: Bytes of a large one, whose tensors go back to the system when they are freed,
        large_per_pixel: and bytes per pixel beside them.
    """

    per_pixel: float
    large: float
    large_per_pixel: float

    def bytes_of(self, pixels: int) -> float:
        small = self.per_pixel * pixels
        if system.is_x86_without_avx512():  # oneDNN's convolutions take more there
            return small
        return min(small, self.large + self.large_per_pixel * pixels)


_WHOLE = _Whole(3300.0, 1.0e9, 1000.0)
_WHOLE_STYLE = _Whole(900.0, 0.35e9, 300.0)
"""Of the image, and of a style image whose statistics are computed."""

_TILE_BYTES = 6000.0
_TILED_BYTES = 130.0
_TARGET_BYTES = 60.0
_TILED_STYLE_BYTES = 60.0
"""Bytes per pixel of a tile with its border; of an image that is evaluated in tiles; of the same
while the style's statistics are computed; and of a style image in tiles. Beside the optimizer's
arrays, an image has 12 for its pixels and 12 for the gradient, and 32 for each of the content
activations, the map between the segments and the gradient by it."""

_BORDER = 48
"""Pixels by which a tile is longer with its border."""

_PASSES = 1.5
"""Passes of the network for an evaluation in tiles, whose forward pass is computed twice, relative
to one at once."""

_PAIR_BYTES = {"float32": 24.0, "bfloat16": 12.0}
_HISTORY = 20
_SHORT_HISTORY = 5
_OTHER_OPTIMIZER_BYTES = {"lbfgs": 20.0, "l-bfgs-b": 1500.0, "adam": 100.0, "bfgs": 0.0}
"""Bytes per pixel of a step and a change of the gradient that "lbfgs" keeps, how many of them it
keeps at most, and how many at least where memory is short; and bytes of other arrays. Checkpoints
are written from where the arrays are."""

_LARGE = 2_000_000
"""Pixels from which steps are kept in bfloat16: they are most of the memory beside the tiles."""

_LARGEST_STRIPS = 4_000_000
"""Pixels up to which `nst_tf.models.strips` serves the processors that need it."""

_MARGIN = 0.1
"""The share of the memory that is left over, as the estimate is that exact."""

TILED_STYLE_LOSSES = ("gram", "moments")
"""Those that are sums over positions."""

TILE_SIZES = (2048, 1536, 1024, 768, 512, 384, 256)
"""Sizes that are chosen from. Their borders cost 5, 6, 10, 13, 20, 27 and 41 % more pixels."""


class Tiling(NamedTuple):
    """Which images are evaluated in tiles.

    Attributes:
        tile_size: The longest side of a tile in pixels without its border; 0 where there are none.
        memory_bytes: The peak memory that a run is expected to take.
        history: Steps that "lbfgs" keeps at most.
        whole_pixels: Pixels of the largest image that is evaluated at once though it is larger
            than a tile: at a coarser level, where this takes no more memory than the last one.
    """

    tile_size: int
    memory_bytes: int
    history: int = _HISTORY
    whole_pixels: int = 0

    def size_for(self, shape: tuple[int, int]) -> int:
        """Returns the size of the tiles of an image, or 0 where it is evaluated at once.

        Args:
            shape: Its height and width.
        """
        return self.tile_size if math.prod(shape) > self._untiled else 0

    @property
    def _untiled(self) -> int:
        return max(self.tile_size**2, self.whole_pixels)

    def is_used(self, levels: Sequence[Level]) -> bool:
        """Returns whether any image or style of a plan is evaluated in tiles.

        Args:
            levels: The plan.
        """
        return any(map(self.size_for, _shapes(levels)))

    def work(self, shape: tuple[int, int]) -> float:
        """Returns the work of an evaluation, in pixels that are evaluated at once.

        Args:
            shape: Height and width of the image.
        """
        return (_PASSES if self.size_for(shape) else 1.0) * self.padded_pixels(shape)

    def padded_pixels(self, shape: tuple[int, int]) -> float:
        """Returns the pixels of an image, or those of its tiles with their borders.

        Args:
            shape: Height and width of the image.
        """
        border = 1.0 + _BORDER / self.tile_size if self.size_for(shape) else 1.0
        return border**2 * math.prod(shape)


def plan_tiling(levels: Sequence[Level], config: Config) -> Tiling:
    """Chooses the largest tiles with which a run fits into memory, or none.

    Where not even the smallest leave room for the steps that "lbfgs" keeps, it keeps fewer.

    Args:
        levels: The plan.
        config: `tile_size`, `max_memory` and the optimizer.

    Returns:
        The choice; the smallest tiles and the fewest steps where none fit.

    Raises:
        InputError: There have to be tiles, and the style loss is no sum over positions.
    """
    found = _plan_tiling(levels, config)
    if found.is_used(levels) and config.style_loss not in TILED_STYLE_LOSSES:
        raise InputError(
            "the image is too large to be evaluated at once",
            f"style_loss {config.style_loss} cannot be evaluated in tiles: it is no sum over "
            "positions",
            f"use style_loss {' or '.join(TILED_STYLE_LOSSES)}, a smaller image_size, or more "
            "memory",
        )
    return found


def _plan_tiling(levels: Sequence[Level], config: Config) -> Tiling:
    sizes = [config.tile_size] if config.tile_size else _sizes(levels)
    budget = (1.0 - _MARGIN) * (config.max_memory or _available())
    fewer = range(_HISTORY - 1, _SHORT_HISTORY - 1, -1)
    choices = [(size, _HISTORY) for size in sizes] + [(sizes[-1], rows) for rows in fewer]
    for choice in choices:
        found = _tiling(levels, config, *choice)
        if found.memory_bytes <= budget:
            break
    return found


def _sizes(levels: Sequence[Level]) -> list[int]:
    """Lists the sizes of tiles to choose from, the largest first, or 0 for none before them."""
    most = _most_at_once()
    sizes = [size for size in TILE_SIZES if size**2 <= most]
    if max(map(math.prod, _shapes(levels))) <= most:
        sizes.insert(0, 0)
    return sizes


def _most_at_once() -> float:
    """Returns the pixels of the largest image that this processor evaluates without tiles."""
    return _LARGEST_STRIPS if system.is_x86_without_avx512() else math.inf


def _available() -> int:
    """Returns the bytes that this process may take, with those that it has."""
    free = min(system.available_memory(), system.address_space_left())
    return free + system.memory_in_use()


def history_dtype(shape: tuple[int, int]) -> str:
    """Returns the type in which "lbfgs" keeps its steps for images of a shape.

    Args:
        shape: Height and width.
    """
    return "float32" if math.prod(shape) < _LARGE else "bfloat16"


def _shapes(levels: Sequence[Level]) -> list[tuple[int, int]]:
    return [shape for level in levels for shape in (level.canvas, *level.style_shapes)]


def _tiling(levels: Sequence[Level], config: Config, tile_size: int, history: int) -> Tiling:
    def needed(tiling: Tiling) -> float:
        return BASE_BYTES + max(_level_bytes(level, config, tiling) for level in levels)

    def with_whole(pixels: int) -> Tiling:
        return Tiling(tile_size, 0, history, pixels)

    tiling = with_whole(0)
    memory = needed(tiling)
    if tile_size and not (config.workers or config.cluster):
        coarser = {math.prod(shape) for shape in _shapes(levels[:-1])}
        fitting = [
            pixels
            for pixels in coarser
            if pixels < math.prod(levels[-1].canvas)
            and pixels <= _most_at_once()
            and needed(with_whole(pixels)) <= memory
        ]
        tiling = with_whole(max(fitting, default=0))
    return tiling._replace(memory_bytes=round(memory))


def _level_bytes(level: Level, config: Config, tiling: Tiling) -> float:
    """Adds up the image, the largest style and the optimizer's arrays."""
    arrays = _OTHER_OPTIMIZER_BYTES[config.optimizer]
    if config.optimizer == "lbfgs":
        pair = _PAIR_BYTES[history_dtype(level.canvas)]
        # The last step is not followed by an evaluation.
        arrays += pair * min(max(0, level.num_iterations - 1), tiling.history)
    processes = max(1, config.workers)
    style_shape = max(level.style_shapes, key=math.prod)
    pixels = math.prod(level.canvas)
    image = _image_bytes(level.canvas, tiling, _WHOLE, _TILED_BYTES, processes)
    style = _image_bytes(style_shape, tiling, _WHOLE_STYLE, _TILED_STYLE_BYTES, processes)
    optimized = image + arrays * pixels
    if tiling.size_for(style_shape):  # its maps are let go before the optimizer has its arrays
        needed = max(optimized, _TARGET_BYTES * pixels + style)
    else:
        needed = optimized + style
    return needed + BASE_BYTES * config.workers


def _image_bytes(
    shape: tuple[int, int], tiling: Tiling, whole: _Whole, tiled: float, processes: int
) -> float:
    pixels, tile_size = math.prod(shape), tiling.size_for(shape)
    if not tile_size:
        return whole.bytes_of(pixels)
    return tiled * pixels + processes * _TILE_BYTES * (tile_size + _BORDER) ** 2

"""Plans the levels, from coarse to fine, at which an image is optimized."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from nst_tf import system
from nst_tf.config import Config
from nst_tf.config.fields import coarse_levels
from nst_tf.errors import InputError, MachineError
from nst_tf.image.resize import resized_shape

Shape = tuple[int, int]

_COARSEST = 140
"""Geometric mean of the sides in pixels below which little is left of an image's content: a level
of 128x128 paints over the eyes of a portrait, and one of 128x40 the houses of a panorama, and they
do not come back. In one of 256x79 they stay."""

_REFERENCE_SIZE = 512
"""Longer side in pixels of a level that gets `num_iterations`."""

_FEWEST = 5
"""Iterations that the last level gets at least, if so many are asked for."""


@dataclass(frozen=True)
class Level:
    """One size of the image, with the sizes of the styles that belong to it.

    Attributes:
        shape: Height and width of the image, in pixels.
        style_shapes: Height and width of each style image.
        num_iterations: Iterations of the optimizer at this size.
        margin: Pixels beyond each border that are optimized with the image.
    """

    shape: Shape
    style_shapes: tuple[Shape, ...]
    num_iterations: int
    margin: int = 0

    @property
    def canvas(self) -> Shape:
        """Height and width of what is optimized: the image with its margin."""
        height, width = self.shape
        return height + 2 * self.margin, width + 2 * self.margin

    @property
    def without_margin(self) -> "Level":
        """The level of the image alone."""
        return replace(self, margin=0)


class SideLimit(NamedTuple):
    """The shortest side that an image may have.

    Attributes:
        reason: What needs it, as in "block5_conv1".
        pixels: The length.
    """

    reason: str
    pixels: int


def plan(
    content_shape: Shape,
    style_shapes: Sequence[Shape],
    config: Config,
    network_limit: SideLimit | None = None,
) -> tuple[Level, ...]:
    """Plans the sizes of the result and of the styles, level by level.

    Every image keeps its own aspect. The longer side of the last level is `image_size`, that of
    the content image, or the longest one that fits into `print_size`. That of each style is
    `style_scale` times as long, at every level: a style's strokes keep their size relative to the
    image.

    Args:
        content_shape: Height and width of the content image as it was read.
        style_shapes: The same of each style image.
        config: Sizes, iterations, layers, the initial image and the optimizer.
        network_limit: The shortest side that the network can process; by default that of VGG19.

    Returns:
        The levels, the last at full size.

    Raises:
        InputError: An image would be too small for the deepest layer, or larger than `max_pixels`,
            or a level of `pyramid` is not smaller than `image_size`.
        MachineError: The optimizer would need more memory than there is.
    """
    limit = max(network_limit or _vgg19_limit(config), _initial_limit(config), key=_pixels)

    def level(size: int, num_iterations: int) -> Level:
        return _level(content_shape, style_shapes, size, config, num_iterations)

    def check(found: Level, it_has: str) -> None:
        _check_sizes(found, limit, config, it_has)

    # Enlarging does not help an image that is too small.
    check(Level(content_shape, tuple(style_shapes), 0), "it has")
    side = config.longer_side(content_shape)
    last = full_size(content_shape, style_shapes, config)
    check(last, "at this size it has")
    if config.optimizer == "bfgs":
        _check_memory_of_bfgs(3 * last.shape[0] * last.shape[1])
    if config.pyramid == "none":
        return (last,)
    if config.pyramid == "auto":
        coarse = [level(*found) for found in _automatic(config, last.shape)]
        coarse = [found for found in coarse if _shortest_side(found) >= limit.pixels]
        return (*coarse, _refining(last)) if coarse else (last,)
    written = coarse_levels(config.pyramid)
    if written[-1][0] >= side:
        raise InputError(
            "pyramid does not fit image_size",
            f"its level of {written[-1][0]} pixels is not smaller than {side}",
            "name smaller levels; the last one, image_size, is always added",
        )
    levels = [level(*found) for found in written]
    for found in levels:
        check(found, "at this size it has")
    return (*levels, _refining(last))


def full_size(content_shape: Shape, style_shapes: Sequence[Shape], config: Config) -> Level:
    """Returns the last level of a plan without checking it; no level needs larger images.

    Args:
        content_shape: Height and width of the content image as it was read.
        style_shapes: The same of each style image.
        config: Sizes and iterations.
    """
    side = config.longer_side(content_shape)
    return _level(content_shape, style_shapes, side, config, config.num_iterations)


def _level(
    content_shape: Shape,
    style_shapes: Sequence[Shape],
    size: int,
    config: Config,
    num_iterations: int,
) -> Level:
    side = max(1, round(size * config.style_scale))
    styles = tuple(resized_shape(style, side) for style in style_shapes)
    return Level(resized_shape(content_shape, size), styles, num_iterations, config.margin)


def _automatic(config: Config, shape: Shape) -> list[tuple[int, int]]:
    """Halves the size and doubles the iterations: each level takes half the time of the next.

    The large shapes of a style come from the coarse levels, which cost little. How many iterations
    a level gets depends on its own size only, so that low-resolution previews predict the
    full-resolution result. An initial image that is given, or the content, would lose its fine
    detail on coarse levels, and has none.

    Returns:
        Longer side and iterations of each coarse level.
    """
    levels: list[tuple[int, int]] = []
    if config.init not in ("adain", "noise") or not config.num_iterations:
        return levels
    side = max(shape)
    size = side // 2
    while size * math.sqrt(min(shape) / side) >= _COARSEST:
        levels.insert(0, (size, _coarse_iterations(size, config.num_iterations)))
        size //= 2
    return levels


def _refining(last: Level) -> Level:
    """Gives a large last level as few iterations as a coarse one of its size has.

    What the level before it has found needs only strokes that are finer by half.
    """
    fewer = max(_FEWEST, _coarse_iterations(max(last.shape), last.num_iterations))
    return replace(last, num_iterations=min(last.num_iterations, fewer))


def _coarse_iterations(size: int, num_iterations: int) -> int:
    return max(1, round(num_iterations * _REFERENCE_SIZE / size))


def with_coarse_iterations(levels: Sequence[Level], num_iterations: int) -> tuple[Level, ...]:
    """Returns automatic levels with the coarse ones as another number of iterations has them.

    Args:
        levels: The plan of `pyramid: auto`.
        num_iterations: The iterations at full size from which those of coarse levels follow.

    Returns:
        The levels; the last one is unchanged.
    """
    *coarse, last = levels
    counted = [
        replace(level, num_iterations=_coarse_iterations(max(level.shape), num_iterations))
        for level in coarse
    ]
    return (*counted, last)


def as_setting(levels: Sequence[Level]) -> str:
    """Returns the setting `pyramid` that plans the same levels, as in "128:80,256:40"."""
    coarse = [f"{max(level.shape)}:{level.num_iterations}" for level in levels[:-1]]
    return ",".join(coarse) or "none"


def automatic_basis(size: int, num_iterations: int) -> int:
    """Returns the iterations at full size from which those of an automatic level follow.

    Args:
        size: The longer side of the coarsest level, in pixels.
        num_iterations: Its iterations.
    """
    return round(num_iterations * size / _REFERENCE_SIZE)


def _shortest_side(level: Level) -> int:
    return min(min(shape) for shape in (level.shape, *level.style_shapes))


def _check_sizes(level: Level, limit: SideLimit, config: Config, it_has: str) -> None:
    """Refuses images that the network would reduce to nothing, or that are too large."""
    styles = [f"style image {number}" for number in range(1, len(level.style_shapes) + 1)]
    shapes = (level.shape, *level.style_shapes)
    for name, (height, width) in zip(["the content image", *styles], shapes, strict=True):
        if min(height, width) < limit.pixels:
            raise InputError(
                f"{name} is too small",
                f"{it_has} {width}x{height} pixels, and {limit.reason} needs a shorter "
                f"side of at least {limit.pixels}",
                "use a larger image or --image_size, or crop it to a less extreme shape",
            )
        if height * width > config.max_pixels:
            size = "dpi" if config.print_size else "image_size"
            raise InputError(
                f"{name} would be too large",
                f"{width}x{height} pixels are more than max_pixels, {config.max_pixels}",
                f"lower --{size} or --style_scale, or raise --max_pixels",
            )


def _pixels(limit: SideLimit) -> int:
    return limit.pixels


def _vgg19_limit(config: Config) -> SideLimit:
    deepest = max([*config.content_layers, *config.style_layers], default="block1_conv1")
    return SideLimit(deepest, _stride(deepest))


def _initial_limit(config: Config) -> SideLimit:
    """Reflection in the AdaIN decoder needs two positions of its encoder's layer."""
    return SideLimit("init adain", 2 * _stride("block4_conv1") if config.init == "adain" else 1)


def _stride(layer: str) -> int:
    """Returns the pixels per position of a layer of VGG19: a pooling stands between blocks."""
    stride: int = 2 ** (int(layer.removeprefix("block")[0]) - 1)
    return stride


def _check_memory_of_bfgs(variables: int) -> None:
    """Refuses an image whose full inverse Hessian would not fit."""
    needed = 6 * 8 * variables**2  # six matrices of float64 at the peak of scipy's update
    available = system.available_memory()
    if needed > available:
        raise MachineError(
            "optimizer bfgs does not fit",
            f"{variables} variables need {needed / 1e9:.1f} GB for their full inverse Hessian, "
            f"{available / 1e9:.1f} GB are available",
            "use --optimizer=lbfgs, or a smaller --image_size",
        )

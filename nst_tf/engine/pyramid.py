"""Plans the levels, coarse to fine, at which a picture is worked on."""

from collections.abc import Sequence
from dataclasses import dataclass

from nst_tf import system
from nst_tf.config.fields import coarse_levels
from nst_tf.config.schema import Config
from nst_tf.errors import InputError, MachineError
from nst_tf.image.resize import resized_shape

Shape = tuple[int, int]

_COARSEST = 100
"""Longer side in pixels below which little is left of a picture's composition."""

_AS_THE_LAST = 512
"""The size in pixels at which a coarse level gets as many iterations as the last level."""


@dataclass(frozen=True)
class Level:
    """One size of the picture, with the sizes of the styles that belong to it.

    Attributes:
        shape: Height and width of the picture, in pixels.
        style_shapes: Height and width of each style picture.
        num_iterations: Steps of the optimiser at this size.
    """

    shape: Shape
    style_shapes: tuple[Shape, ...]
    num_iterations: int


def plan(content_shape: Shape, style_shapes: Sequence[Shape], config: Config) -> tuple[Level, ...]:
    """Plans the sizes of the result and of the styles, level by level.

    Every picture keeps its own aspect. The longer side of the last level is `image_size`, that of
    each style `style_scale` times as long, at every level: a style's strokes keep their size
    relative to the picture.

    Args:
        content_shape: Height and width of the content picture as it was read.
        style_shapes: The same for each style picture.
        config: `image_size`, `style_scale`, `pyramid`, `num_iterations` and the layers.

    Returns:
        The levels, the last at full size.

    Raises:
        InputError: A picture would be too small for the deepest layer, or larger than `max_pixels`,
            or a level of `pyramid` is not smaller than `image_size`.
        MachineError: The optimiser would need more memory than there is.
    """

    def level(size: int, num_iterations: int) -> Level:
        shape = resized_shape(content_shape, size)
        side = max(1, round(size * config.style_scale))
        styles = tuple(resized_shape(style, side) for style in style_shapes)
        return Level(shape, styles, num_iterations)

    # Enlarging does not make a picture of what is too small to be one.
    _check_sizes(Level(content_shape, tuple(style_shapes), 0), config, "it has")
    last = level(config.image_size, config.num_iterations)
    _check_sizes(last, config, "at this size it has")
    if config.optimizer == "bfgs":
        _check_memory_of_bfgs(3 * last.shape[0] * last.shape[1])
    if config.pyramid == "none":
        return (last,)
    if config.pyramid == "auto":
        coarse = [level(*found) for found in _automatic(config)]
        smallest = _smallest_side(config)[1]
        return (*(found for found in coarse if _shortest_side(found) >= smallest), last)
    written = coarse_levels(config.pyramid)
    if written[-1][0] >= config.image_size:
        raise InputError(
            "pyramid does not fit image_size",
            f"its level of {written[-1][0]} pixels is not smaller than {config.image_size}",
            "name smaller levels; the last one, image_size, is always added",
        )
    levels = [level(*found) for found in written]
    for found in levels:
        _check_sizes(found, config, "at this size it has")
    return (*levels, last)


def _automatic(config: Config) -> list[tuple[int, int]]:
    """Halves the size and doubles the iterations: each level takes half the time of the next.

    The large shapes of a style come from the coarse levels, which cost next to nothing. How many
    iterations a level gets depends on its own size only, so that a small result goes the same way
    as a large one and foretells it. A start that is a picture, the content's or a file's, would
    lose its fine detail on coarse levels, and has none.
    """
    levels: list[tuple[int, int]] = []
    if config.init not in ("adain", "noise") or not config.num_iterations:
        return levels
    size = config.image_size // 2
    while size >= _COARSEST:
        iterations = max(1, round(config.num_iterations * _AS_THE_LAST / size))
        levels.insert(0, (size, iterations))
        size //= 2
    return levels


def _shortest_side(level: Level) -> int:
    return min(min(shape) for shape in (level.shape, *level.style_shapes))


def _check_sizes(level: Level, config: Config, it_has: str) -> None:
    """Refuses pictures that the network would reduce to nothing, or that are too large."""
    needing, smallest = _smallest_side(config)
    styles = [f"style picture {number}" for number in range(1, len(level.style_shapes) + 1)]
    shapes = (level.shape, *level.style_shapes)
    for name, (height, width) in zip(["the content picture", *styles], shapes, strict=True):
        if min(height, width) < smallest:
            raise InputError(
                f"{name} is too small",
                f"{it_has} {width}x{height} pixels, and {needing} needs a shorter "
                f"side of at least {smallest}",
                "use a larger picture or --image_size, or crop it to a less extreme shape",
            )
        if height * width > config.max_pixels:
            raise InputError(
                f"{name} would be too large",
                f"{width}x{height} pixels are more than max_pixels, {config.max_pixels}",
                "lower --image_size or --style_scale, or raise --max_pixels",
            )


def _smallest_side(config: Config) -> tuple[str, int]:
    """Returns what needs the largest maps, and the side in pixels that leaves it enough."""
    deepest = max([*config.content_layers, *config.style_layers])
    poolings = int(deepest.removeprefix("block")[0]) - 1
    needs = {deepest: 2**poolings}
    if config.init == "adain":
        needs["init adain"] = 16
    return max(needs.items(), key=lambda need: need[1])


def _check_memory_of_bfgs(variables: int) -> None:
    """Refuses a picture whose full inverse Hessian would not fit."""
    needed = 6 * 8 * variables**2  # six matrices of float64 at the peak of scipy's update
    available = system.available_memory()
    if needed > available:
        raise MachineError(
            "optimizer bfgs does not fit",
            f"{variables} variables need {needed / 1e9:.1f} GB for their full inverse Hessian, "
            f"{available / 1e9:.1f} GB are available",
            "use --optimizer=lbfgs, or a smaller --image_size",
        )

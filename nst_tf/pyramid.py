"""Plans the sizes at which a picture is worked on."""

from collections.abc import Sequence
from dataclasses import dataclass

from nst_tf import images
from nst_tf.config import Config
from nst_tf.errors import InputError

Shape = tuple[int, int]


@dataclass(frozen=True)
class Level:
    """One size of the picture, with the sizes of the styles that belong to it.

    Attributes:
        shape: Height and width of the picture, in pixels.
        style_shapes: Height and width of each style picture.
    """

    shape: Shape
    style_shapes: tuple[Shape, ...]


def plan(content_shape: Shape, style_shapes: Sequence[Shape], config: Config) -> Level:
    """Plans the size of the result and of the styles.

    Every picture keeps its own aspect. The longer side of the result is `image_size`, that of each
    style `image_size * style_scale`, so that a style's strokes have the same size relative to the
    picture at every `image_size`.

    Args:
        content_shape: Height and width of the content picture as it was read.
        style_shapes: The same for each style picture.
        config: `image_size`, `style_scale` and the layers.

    Returns:
        The sizes.

    Raises:
        InputError: A picture would be too small for the deepest layer, or larger than `max_pixels`.
    """
    shape = images.resized_shape(content_shape, config.image_size)
    style_side = max(1, round(config.image_size * config.style_scale))
    level = Level(shape, tuple(images.resized_shape(style, style_side) for style in style_shapes))
    deepest, smallest = _smallest_side(config)
    names = [
        "the content picture",
        *(f"style picture {i}" for i in range(1, len(style_shapes) + 1)),
    ]
    for name, (height, width) in zip(names, (level.shape, *level.style_shapes), strict=True):
        if min(height, width) < smallest:
            raise InputError(
                f"{name} is too small",
                f"at this image_size it has {width}x{height} pixels, and {deepest} needs a shorter "
                f"side of at least {smallest}",
                "raise --image_size, or crop the picture to a less extreme shape",
            )
        if height * width > config.max_pixels:
            raise InputError(
                f"{name} would be too large",
                f"{width}x{height} pixels are more than max_pixels, {config.max_pixels}",
                "lower --image_size or --style_scale, or raise --max_pixels",
            )
    return level


def _smallest_side(config: Config) -> tuple[str, int]:
    """Returns the deepest layer in use and the side that is left one pixel by its poolings."""
    deepest = max([*config.content_layers, *config.style_layers])
    block = int(deepest.removeprefix("block")[0])
    return deepest, 2 ** (block - 1)

"""The arrays of one style transfer, validated, in the colors that are optimized."""

import itertools
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from nst_tf.config import Config
from nst_tf.config.fields import KEEP
from nst_tf.config.schema import check_layer_styles
from nst_tf.engine.pyramid import Level, Shape
from nst_tf.errors import InputError
from nst_tf.image import color, masks
from nst_tf.image.arrays import ImageArray
from nst_tf.image.masks import Region
from nst_tf.image.resize import reduce
from nst_tf.io.images import as_image, as_mask

ImageLike = Any
"""An array or tensor [H, W, 3] in [0, 255], a PIL image, or the path of an image file."""

MaskLike = Any
"""An array or tensor [h, w] of truth values, in [0, 1] or in [0, 255], white inside; a PIL image,
or the path of an image file.
"""

_MOST = 64
"""Styles or masks that the settings allow, too."""


@dataclass(frozen=True)
class Before:
    """What the frame before in a video leads to.

    Attributes:
        image: The frame that follows from it, RGB float32 [H, W, 3] in [0, 255], of the result's
            size.
        trust: How much of each pixel is known, float32 [H, W] in [0, 1].
        weight: The weight of the temporal loss.
    """

    image: ImageArray
    trust: npt.NDArray[np.float32]
    weight: float


@dataclass(frozen=True)
class Inputs:
    """What a style transfer works on, at the sizes given.

    Attributes:
        content: What is stylized: with `original_colors: luminance`, the luminance.
        content_colors: The content image in its own colors.
        styles: The style images, in the colors that `original_colors` gives them.
        regions: Where which style applies; empty where all apply everywhere.
        initial: The image to start from in place of the one that `init` names, or None.
        before: What the frame before leads to, or None where there is none.
    """

    content: ImageArray
    content_colors: ImageArray
    styles: tuple[ImageArray, ...]
    regions: tuple[Region, ...]
    initial: ImageArray | None
    before: Before | None = None

    @property
    def shapes(self) -> tuple[tuple[int, int], list[tuple[int, int]]]:
        """Height and width of the content image and of the style images."""
        return _shape(self.content), [_shape(style) for style in self.styles]


def prepare(
    content: ImageLike,
    style: ImageLike | Iterable[ImageLike],
    config: Config,
    full_size: Callable[[Shape, Sequence[Shape]], Level],
    *,
    content_masks: MaskLike | Iterable[MaskLike] = (),
    style_masks: MaskLike | Iterable[MaskLike] = (),
    initial: ImageLike | None = None,
) -> Inputs:
    """Validates arrays and prepares their colors.

    Args:
        content: The content image.
        style: A style image, or a list, a tuple or an iterator of them.
        config: What files and Pillow images may be, the blend weights and the color mode.
        full_size: Plans the largest size in use from the shapes of content and styles, to which
            larger images are reduced.
        content_masks: For each region where it is.
        style_masks: For each region what it takes of its style.
        initial: The image to start from.

    Returns:
        The inputs.

    Raises:
        InputError: An image or mask is not one, or the numbers do not fit together.
    """
    most, color_behind = config.max_pixels, config.background_color
    image = as_image(content, "content", most, None if config.background == KEEP else color_behind)
    styles = [
        as_image(each, name, most, color_behind) for name, each in _several(style, "style").items()
    ]
    start = None if initial is None else as_image(initial, "initial", most, color_behind)
    largest = full_size(_shape(image), [_shape(each) for each in styles])
    image = reduce(image, largest.shape)
    styles = list(map(reduce, styles, largest.style_shapes))
    start = None if start is None else reduce(start, largest.shape)
    shapes = [_shape(each) for each in styles]
    of_content, of_styles = (
        [as_mask(each, name, most) for name, each in _several(given, kind).items()]
        for given, kind in ((content_masks, "content mask"), (style_masks, "style mask"))
    )
    regions = masks.build_regions(
        of_content, of_styles, config.style_blend_weights, image.shape[:2], shapes
    )
    if not regions:
        _check_blend(config.style_blend_weights, len(styles))
    check_layer_styles(config.layer_styles, len(styles))
    reduced, adjusted = color.prepare(config.original_colors, image, styles)
    return Inputs(
        content=reduced,
        content_colors=image,
        styles=tuple(adjusted),
        regions=tuple(regions),
        initial=start,
    )


def _shape(image: ImageArray) -> Shape:
    return image.shape[0], image.shape[1]


def _several(given: Any, kind: str) -> dict[str, Any]:
    """Tells one image from several.

    Args:
        given: One image or mask, several of them, or None.
        kind: What they are, for messages, as in "style" or "content mask".

    Returns:
        Each by its name for messages.

    Raises:
        InputError: They have no order, or are too many.
    """
    is_mask = kind.endswith("mask")
    if given is None and is_mask:
        return {}
    if isinstance(given, Mapping | AbstractSet):
        raise InputError(
            f"the {kind} is not an image",
            f"it is of type {type(given).__name__}",
            "give one image, or a list of several",
        )
    if _is_one(given, is_mask=is_mask):
        return {kind: given}
    items = list(itertools.islice(given, _MOST + 1))
    if len(items) > _MOST:
        raise InputError(
            f"the {kind} is a list that is too long",
            f"it has more than {_MOST} items, of which each is taken as one image",
            "give fewer, or one image as an array",
        )
    if len(items) == 1:
        return {kind: items[0]}
    return {f"{kind} {number}": item for number, item in enumerate(items, 1)}


def _is_one(given: Any, *, is_mask: bool) -> bool:
    """Whether a value is one image: also where it is a nested list of numbers."""
    if isinstance(given, str | bytes | bytearray | os.PathLike | Image.Image):
        return True
    if isinstance(given, list | tuple):
        if not given or not all(isinstance(item, list | tuple | int | float) for item in given):
            return False
        try:
            shape = np.shape(given)
        except ValueError:  # of several sizes
            return False
        return len(shape) < 4 and _is_shape_of_one(shape, is_mask=is_mask)
    if not hasattr(given, "__array__"):
        return not isinstance(given, Iterable)
    shape = tuple(getattr(given, "shape", ()))
    if len(shape) == 1 and getattr(getattr(given, "dtype", None), "kind", "") in ("O", "U"):
        return False  # an array of paths or of images
    return _is_shape_of_one(shape, is_mask=is_mask)


def _is_shape_of_one(shape: tuple[int, ...], *, is_mask: bool) -> bool:
    """Whether an array is one image, and not a stack of masks."""
    return not is_mask or len(shape) < 3 or (len(shape) == 3 and shape[-1] in (1, 3, 4))


def _check_blend(blend_weights: Sequence[float], styles: int) -> None:
    """Refuses a number of styles that does not fit their weights, or none."""
    weights = len(blend_weights)
    if styles and weights in (0, styles):
        return
    raise InputError(
        "the styles do not fit together" if styles else "there is no style image",
        f"style_blend_weights has {weights} weights for {styles} style image(s)",
        "give at least one style, and a weight for each or none at all",
    )

"""The arrays of one style transfer, validated, in the colors that are optimized."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nst_tf.config import LossSettings
from nst_tf.errors import InputError
from nst_tf.image import color, masks
from nst_tf.image.arrays import ImageArray
from nst_tf.image.masks import Region
from nst_tf.io.images import as_image

ImageLike = Any
"""An array or tensor [H, W, 3] in [0, 255], a PIL image, or the path of an image file."""


@dataclass(frozen=True)
class Inputs:
    """What a style transfer works on, at the sizes given.

    Attributes:
        content: What is stylized: with `original_colors: luminance`, the luminance.
        content_colors: The content image in its own colors.
        styles: The style images, in the colors that `original_colors` gives them.
        regions: Where which style applies; empty where all apply everywhere.
        initial: The image to start from in place of the one that `init` names, or None.
    """

    content: ImageArray
    content_colors: ImageArray
    styles: tuple[ImageArray, ...]
    regions: tuple[Region, ...]
    initial: ImageArray | None

    @property
    def shapes(self) -> tuple[tuple[int, int], list[tuple[int, int]]]:
        """Height and width of the content image and of the style images."""
        height, width = self.content.shape[:2]
        return (height, width), [(style.shape[0], style.shape[1]) for style in self.styles]


def prepare(
    content: ImageLike,
    style: ImageLike | Sequence[ImageLike],
    settings: LossSettings,
    *,
    content_masks: Sequence[Any] = (),
    style_masks: Sequence[Any] = (),
    initial: ImageLike | None = None,
) -> Inputs:
    """Validates arrays and prepares their colors.

    Args:
        content: The content image.
        style: A style image, or a list or tuple of them.
        settings: The blend weights and the color mode.
        content_masks: For each region where it is, [h, w] in [0, 1].
        style_masks: For each region what it takes of its style, [h, w] in [0, 1].
        initial: The image to start from.

    Returns:
        The inputs.

    Raises:
        InputError: An image or mask is not one, or the numbers do not fit together.
    """
    image = as_image(content, "content")
    given = style if isinstance(style, list | tuple) else [style]
    styles = [as_image(each, "style") for each in given]
    shapes = [(each.shape[0], each.shape[1]) for each in styles]
    regions = masks.build_regions(
        content_masks, style_masks, settings.style_blend_weights, image.shape[:2], shapes
    )
    if not regions:
        _check_blend(settings.style_blend_weights, len(styles))
    reduced, adjusted = color.prepare(settings.original_colors, image, styles)
    return Inputs(
        content=reduced,
        content_colors=image,
        styles=tuple(adjusted),
        regions=tuple(regions),
        initial=None if initial is None else as_image(initial, "initial"),
    )


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

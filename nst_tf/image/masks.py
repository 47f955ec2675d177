"""Regions of a picture and the style that belongs to each.

L. A. Gatys, A. S. Ecker, M. Bethge, A. Hertzmann and E. Shechtman, "Controlling Perceptual Factors
in Neural Style Transfer" (CVPR 2017), section 4.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from nst_tf.errors import InputError
from nst_tf.image.resize import resize

Mask = npt.NDArray[np.float32]
"""How much each pixel belongs to a region, [H, W] in [0, 1]."""

_EMPTY = 1e-4
"""The share of a picture below which a region holds nothing to take or to paint."""

_SAME_ASPECT = 0.02


class Region(NamedTuple):
    """A part of the content and what it gets.

    Attributes:
        content_mask: Where it is, of the size of the content.
        style: The index of its style picture, from 0.
        style_mask: What it takes of that picture, of its size, or None for all.
        weight: How much its style counts; 1 is as much as without regions.
    """

    content_mask: Mask
    style: int
    style_mask: Mask | None
    weight: float


def mask_of(picture: npt.NDArray[np.float32]) -> Mask:
    """Takes a picture for a mask: black is outside, white inside, grey a soft edge.

    Args:
        picture: RGB in [0, 255], [H, W, 3].

    Returns:
        [H, W] in [0, 1].
    """
    mask: Mask = picture.mean(axis=2) / np.float32(255.0)
    return mask


def combine(
    content_masks: Sequence[npt.NDArray[Any]],
    style_masks: Sequence[npt.NDArray[Any]],
    blend_weights: Sequence[float],
    content_shape: tuple[int, int],
    style_shapes: Sequence[tuple[int, int]],
) -> list[Region]:
    """Makes regions of masks, at the sizes of the pictures they belong to.

    Args:
        content_masks: For each region where it is, [h, w] in [0, 1], in any size of the content's
            aspect.
        style_masks: For each region what it takes of its style; or none at all.
        blend_weights: How much each region's style counts, or none for equal parts.
        content_shape: Height and width of the content picture.
        style_shapes: The same of the style pictures: one for each region, or one for all.

    Returns:
        The regions; none without masks.

    Raises:
        InputError: The numbers do not fit together, or a mask is empty or of another aspect.
    """
    count = len(content_masks)
    if count and len(style_shapes) not in (1, count):
        raise InputError(
            "the masks do not fit the styles",
            f"there are {count} content masks for {len(style_shapes)} style pictures",
            "give every region its style picture, or all of them the same one",
        )
    if style_masks and len(style_masks) != count:
        raise InputError(
            "the masks do not fit together",
            f"there are {len(style_masks)} masks of styles and {count} of the content",
            "give every region one of each, or no style masks at all",
        )
    if count and blend_weights and len(blend_weights) != count:
        raise InputError(
            "style_blend_weights do not fit the regions",
            f"there are {len(blend_weights)} weights for {count} regions",
            "give every region its weight, or none at all",
        )
    weights = list(blend_weights) or [1.0] * count
    regions = []
    for number, mask in enumerate(content_masks):
        style = number if len(style_shapes) > 1 else 0
        taken = style_masks[number] if style_masks else None
        regions.append(
            Region(
                _fitted(mask, content_shape, f"content mask {number + 1}"),
                style,
                None
                if taken is None
                else _fitted(taken, style_shapes[style], f"style mask {number + 1}"),
                weights[number] * count / sum(weights),
            )
        )
    return regions


def resized(
    regions: Sequence[Region],
    content_shape: tuple[int, int],
    style_shapes: Sequence[tuple[int, int]],
) -> list[Region]:
    """Brings regions to other sizes of their pictures.

    Args:
        regions: Any.
        content_shape: Height and width of the content picture.
        style_shapes: The same of the style pictures.

    Returns:
        The same regions at these sizes.
    """
    return [
        region._replace(
            content_mask=_scaled(region.content_mask, content_shape),
            style_mask=None
            if region.style_mask is None
            else _scaled(region.style_mask, style_shapes[region.style]),
        )
        for region in regions
    ]


def _fitted(mask: npt.NDArray[Any], shape: tuple[int, int], name: str) -> Mask:
    array = np.asarray(mask, np.float32)
    good = array.ndim == 2 and array.size > 0
    if not (good and np.isfinite(array).all() and array.min() >= 0 and array.max() <= 1):
        raise InputError(
            f"{name} is not a mask", f"it has shape {array.shape}", "give [H, W] in [0, 1]"
        )
    aspect, wanted = array.shape[1] / array.shape[0], shape[1] / shape[0]
    # A mask that was scaled by itself may be off by a rounded pixel.
    tolerance = _SAME_ASPECT + 1.0 / min(array.shape)
    if abs(aspect / wanted - 1.0) > tolerance:
        raise InputError(
            f"{name} has another shape than its picture",
            f"it has {array.shape[1]}x{array.shape[0]} pixels, the picture {shape[1]}x{shape[0]}",
            "draw it on the picture; its size may differ, its aspect may not",
        )
    if float(array.mean()) < _EMPTY:
        raise InputError(
            f"{name} is empty",
            f"less than {_EMPTY:.2%} of it is white",
            "paint the region white, or leave the mask out",
        )
    return _scaled(array, shape)


def _scaled(mask: Mask, shape: tuple[int, int]) -> Mask:
    """Resamples a mask as pictures are."""
    grey = np.repeat(255.0 * mask[:, :, np.newaxis], 3, axis=2).astype(np.float32)
    scaled: Mask = resize(grey, shape)[:, :, 0] / np.float32(255.0)
    return scaled

"""Guidance masks: regions of the content, each with a style of its own.

L. A. Gatys, A. S. Ecker, M. Bethge, A. Hertzmann and E. Shechtman, "Controlling Perceptual Factors
in Neural Style Transfer" (CVPR 2017), section 4.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from nst_tf.errors import InputError
from nst_tf.image.arrays import PIXEL_RANGE, ImageArray
from nst_tf.image.resize import resize

Mask = npt.NDArray[np.float32]
"""Membership of each pixel in a region, [H, W] in [0, 1]."""

_SMALLEST_AREA = 1e-4
"""Share of the image below which a region counts as empty."""

_ASPECT_TOLERANCE = 0.02


class Region(NamedTuple):
    """A region of the content and its style.

    Attributes:
        content_mask: The region in the content, [H, W] in [0, 1], of the content's size.
        style: Index of its style image, from 0.
        style_mask: The part of the style image that is used, [h, w] in [0, 1], of that image's
            size; None for all of it.
        weight: Relative weight of its style loss; the mean over all regions is 1.
    """

    content_mask: Mask
    style: int
    style_mask: Mask | None
    weight: float


def mask_from_image(image: ImageArray) -> Mask:
    """Converts an image to a mask: black is outside, white inside, gray a soft edge.

    Args:
        image: RGB [H, W, 3] in [0, 255].

    Returns:
        [H, W] in [0, 1].
    """
    mask: Mask = image.mean(axis=2) / np.float32(PIXEL_RANGE[1])
    return mask


def build_regions(
    content_masks: Sequence[npt.ArrayLike],
    style_masks: Sequence[npt.ArrayLike],
    blend_weights: Sequence[float],
    content_shape: tuple[int, int],
    style_shapes: Sequence[tuple[int, int]],
) -> list[Region]:
    """Validates masks and resizes them to the images that they belong to.

    Args:
        content_masks: One for each region, [h, w] in [0, 1], of the content's aspect.
        style_masks: One for each region, [h, w] in [0, 1], of its style's aspect; or none.
        blend_weights: Relative weight of each region, or none for equal weights.
        content_shape: Height and width of the content image.
        style_shapes: Height and width of each style image: one for each region, or one for all.

    Returns:
        The regions; none without masks.

    Raises:
        InputError: The numbers of masks, styles and weights differ, or a mask is empty or of
            another aspect.
    """
    count = len(content_masks)
    if count and len(style_shapes) not in (1, count):
        raise InputError(
            "the masks do not fit the styles",
            f"there are {count} content masks for {len(style_shapes)} style images",
            "give every region its style image, or all of them the same one",
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
        content_mask = _fitted(mask, content_shape, f"content mask {number + 1}")
        style_mask = None
        if style_masks:
            name = f"style mask {number + 1}"
            style_mask = _fitted(style_masks[number], style_shapes[style], name)
        weight = weights[number] * count / sum(weights)
        regions.append(Region(content_mask, style, style_mask, weight))
    return regions


def resize_regions(
    regions: Sequence[Region],
    content_shape: tuple[int, int],
    style_shapes: Sequence[tuple[int, int]],
) -> list[Region]:
    """Resizes the masks of regions.

    Args:
        regions: As from `build_regions`.
        content_shape: Height and width of the content image.
        style_shapes: Height and width of each style image.

    Returns:
        The same regions with masks of these sizes.
    """
    return [
        region._replace(
            content_mask=_resized(region.content_mask, content_shape),
            style_mask=None
            if region.style_mask is None
            else _resized(region.style_mask, style_shapes[region.style]),
        )
        for region in regions
    ]


def _fitted(mask: npt.ArrayLike, shape: tuple[int, int], name: str) -> Mask:
    """Validates a mask and resizes it to its image."""
    array = np.asarray(mask, np.float32)
    good = array.ndim == 2 and array.size > 0
    if not (good and np.isfinite(array).all() and array.min() >= 0 and array.max() <= 1):
        raise InputError(
            f"{name} is not a mask", f"it has shape {list(array.shape)}", "give [H, W] in [0, 1]"
        )
    aspect, image_aspect = array.shape[1] / array.shape[0], shape[1] / shape[0]
    # A mask that was scaled by itself may be off by a rounded pixel.
    tolerance = _ASPECT_TOLERANCE + 1.0 / min(array.shape)
    if abs(aspect / image_aspect - 1.0) > tolerance:
        raise InputError(
            f"{name} has another aspect than its image",
            f"it has {array.shape[1]}x{array.shape[0]} pixels, the image {shape[1]}x{shape[0]}",
            "draw it on the image; its size may differ, its aspect may not",
        )
    if float(array.mean()) < _SMALLEST_AREA:
        raise InputError(
            f"{name} is empty",
            f"less than {_SMALLEST_AREA:.2%} of it is white",
            "paint the region white, or leave the mask out",
        )
    return _resized(array, shape)


def _resized(mask: Mask, shape: tuple[int, int]) -> Mask:
    """Resamples a mask as images are resampled."""
    gray = np.repeat(PIXEL_RANGE[1] * mask[:, :, np.newaxis], 3, axis=2).astype(np.float32)
    resized: Mask = resize(gray, shape)[:, :, 0] / np.float32(PIXEL_RANGE[1])
    return resized

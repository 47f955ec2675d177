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
from nst_tf.image.resize import resize, resized_shape

Mask = npt.NDArray[np.float32]
"""Membership of each pixel in a region, [H, W] in [0, 1]."""

_SMALLEST_AREA = 1e-4
"""Share of the image below which a region counts as empty."""

_ASPECT_TOLERANCE = 0.02

_LEAST_CONTRAST = 0.1
"""The least difference between the largest and the smallest alpha that makes it the mask, where
the luminance varies, too."""

_LEAST_COLOR = 32.0
"""The least difference between the channels of a pixel, in [0, 255], that makes it colored."""

_LEAST_WHITE = 128.0
"""The least that the largest value of a mask in [0, 255] may be; labels of regions are smaller."""


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


def mask_from_layers(
    rgb: ImageArray, alpha: Mask | None, white: int, name: str, where: object = ""
) -> tuple[Mask, str]:
    """Finds the mask in an image: in its alpha where that varies, otherwise in its luminance.

    Black or transparent is outside, white or opaque inside, and what lies between a soft edge.

    Args:
        rgb: [H, W, 3] in [0, 255].
        alpha: [H, W] in [0, 1], or None.
        white: The integer of the file that is 255 in `rgb`, for messages.
        name: What the mask is, for messages, as in "content mask 1".
        where: The file.

    Returns:
        [H, W] in [0, 1]; and "alpha", "luminance" or "luminance of its colors".

    Raises:
        InputError: Nothing in it comes near to white.
    """
    mask: Mask = rgb.mean(axis=2) / np.float32(PIXEL_RANGE[1])
    part = "luminance"
    if alpha is not None and np.ptp(alpha) > (_LEAST_CONTRAST if np.ptp(mask) > 0 else 0):
        mask, part = alpha, "alpha"
    is_colored = part == "luminance" and bool(np.ptp(rgb, axis=2).max() > _LEAST_COLOR)
    low, high = float(mask.min()), float(mask.max())
    if high < _LEAST_WHITE / PIXEL_RANGE[1]:
        whose = "alpha values" if part == "alpha" else "values"
        raise InputError(
            f"{name} is nowhere white",
            f"its {whose} lie between {low * white:.4g} and {high * white:.4g}"
            f"{', as the mean of red, green and blue' if is_colored else ''}; white is {white}",
            "paint the region white and the rest black"
            if is_colored or high == 0.0
            else f"multiply its values by {1.0 / high:.4g}",
            where=where,
        )
    return mask, f"{part} of its colors" if is_colored else part


def mask_from_array(array: npt.NDArray[np.generic], name: str) -> Mask:
    """Converts an array to a mask: 0 is outside, the largest value of its range inside.

    Args:
        array: [H, W] of truth values, in [0, 1] or in [0, 255], also with a channel, or three equal
            ones, and as a batch of one.
        name: What the mask is, for messages, as in "content mask 1".

    Returns:
        [H, W] in [0, 1].

    Raises:
        InputError: The array has another shape, or its values are not a mask's.
    """
    what, remedy = f"{name} is not a mask", "give [H, W] in [0, 1]"
    why = f"it has shape {list(array.shape)}"
    if array.dtype.kind not in "biuf" and array.dtype.name != "bfloat16":
        raise InputError(what, f"its type is {array.dtype}", remedy)
    if array.ndim == 4 and array.shape[0] == 1:
        array = array[0]
    if array.ndim == 3 and array.shape[2] in (1, 3) and (array == array[:, :, :1]).all():
        array = array[:, :, 0]
    if array.ndim != 2 or array.size == 0:
        raise InputError(what, why, remedy)
    mask = array.astype(np.float32)
    low, high = float(mask.min()), float(mask.max())
    if low >= 0.0 and high <= 1.0:
        return mask
    if low >= 0.0 and _LEAST_WHITE <= high <= PIXEL_RANGE[1]:
        return mask / np.float32(PIXEL_RANGE[1])
    raise InputError(
        what, f"its values, from {low:g} to {high:g}, are neither in [0, 1] nor in [0, 255]", remedy
    )


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
            content_mask=resize_mask(region.content_mask, content_shape),
            style_mask=None
            if region.style_mask is None
            else resize_mask(region.style_mask, style_shapes[region.style]),
        )
        for region in regions
    ]


def reduce_mask(mask: Mask, longer_side: int) -> Mask:
    """Resamples a mask that is larger than needed, keeping its aspect.

    Args:
        mask: [H, W] in [0, 1].
        longer_side: The longest side that is needed, in pixels.

    Returns:
        [h, w] in [0, 1]; the mask itself where it is not larger.
    """
    height, width = mask.shape
    if max(height, width) <= longer_side:
        return mask
    return resize_mask(mask, resized_shape((height, width), longer_side))


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
    return resize_mask(array, shape)


def resize_mask(mask: Mask, shape: tuple[int, int]) -> Mask:
    """Resamples a mask as images are resampled.

    Args:
        mask: [H, W] in [0, 1].
        shape: Height and width of the result.

    Returns:
        [*shape] in [0, 1].
    """
    gray = np.float32(PIXEL_RANGE[1]) * mask[:, :, np.newaxis]
    resized: Mask = resize(gray, shape)[:, :, 0] / np.float32(PIXEL_RANGE[1])
    return resized

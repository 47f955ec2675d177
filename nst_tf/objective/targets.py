"""What an image is compared with: tensors that the objective takes as arguments."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy.typing as npt
import tensorflow as tf

from nst_tf.losses import StyleLoss

Statistics = Any
"""The statistics of a style loss at one layer: a nested structure of tensors."""


class StyleTarget(NamedTuple):
    """Statistics that a layer is to have.

    Attributes:
        statistics: As the style loss computes them.
        mask: Where, [1, h, w, 1] at the size of the layer's activations, or None for everywhere.
        share: The part of the layer's weight, a scalar.
    """

    statistics: Statistics
    mask: tf.Tensor | None
    share: tf.Tensor


class Fixed(NamedTuple):
    """The part of the image that masks keep from being optimized.

    Attributes:
        content: The content image, [1, H, W, 3].
        coverage: How much of each pixel is optimized, [1, H, W, 1] in [0, 1].
    """

    content: tf.Tensor
    coverage: tf.Tensor


class Temporal(NamedTuple):
    """The image that the one before in a sequence leads to, with the weight of each pixel.

    Attributes:
        image: What the image is to equal, [1, H, W, 3].
        trust: How much of each pixel is known, [1, H, W, 1] in [0, 1].
    """

    image: tf.Tensor
    trust: tf.Tensor


class Targets(NamedTuple):
    """All that the objective compares an image with.

    Attributes:
        content: The content image's activations by layer, [B, h, w, N] float32; arrays where the
            objective has tiles.
        style: The style targets by layer; those of one layer add up.
        weights: The weight of each term by its name, scalars in float64.
        fixed: What is kept of the content image, or None where all is optimized.
        temporal: What the image before leads to, or None where there is none.
    """

    content: Mapping[str, tf.Tensor | npt.NDArray[Any]]
    style: Mapping[str, tuple[StyleTarget, ...]]
    weights: Mapping[str, tf.Tensor]
    fixed: Fixed | None = None
    temporal: Temporal | None = None


class MaskedStyle(NamedTuple):
    """A region of the content image and the style statistics that belong to it.

    Attributes:
        style: The number of the style image, from 0.
        statistics: By layer, of the part of the style image that its mask shows; without layers at
            whose size that part vanishes.
        mask: The region, [1, H, W, 1] in [0, 1] at the size of the image.
        weight: How much the style counts; 1 as much as without regions.
    """

    style: int
    statistics: Mapping[str, Statistics]
    mask: tf.Tensor
    weight: float


def blended_styles(
    losses: Mapping[str, StyleLoss],
    statistics: Sequence[Mapping[str, Statistics]],
    shares: Sequence[float],
    layer_styles: Mapping[str, int],
) -> dict[str, tuple[StyleTarget, ...]]:
    """Blends several styles, all of them everywhere.

    Statistics that are sums over positions are averaged; other statistics become one target each.

    Args:
        losses: The style loss of each layer.
        statistics: Of each style image, by layer.
        shares: How much of each; they sum to 1.
        layer_styles: The number, from 1, of the only style of a layer.

    Returns:
        The style targets by layer.
    """
    targets: dict[str, tuple[StyleTarget, ...]] = {}
    for layer in statistics[0]:
        if layer in layer_styles:
            targets[layer] = (_target(statistics[layer_styles[layer] - 1][layer]),)
            continue
        of_layer = [each[layer] for each in statistics]
        if losses[layer].additive:
            blended = tf.nest.map_structure(
                lambda *parts: tf.add_n([s * p for s, p in zip(shares, parts, strict=True)]),
                *of_layer,
            )
            targets[layer] = (_target(blended),)
        else:
            targets[layer] = tuple(
                _target(each, share=share)
                for each, share in zip(of_layer, shares, strict=True)
                if share
            )
    return targets


def inside(
    targets: Mapping[str, tuple[StyleTarget, ...]],
    mask: tf.Tensor,
    layer_shapes: Mapping[str, tuple[int, int]],
) -> dict[str, tuple[StyleTarget, ...]]:
    """Lets targets that are for everywhere hold where a mask shows only.

    Args:
        targets: By layer.
        mask: [1, H, W, 1] in [0, 1] at the size of the image.
        layer_shapes: Height and width of the activations by layer.

    Returns:
        The same targets with the mask at the sizes of their layers; layers of one size share it.
    """
    masks = {shape: downsampled(mask, shape) for shape in {layer_shapes[name] for name in targets}}
    return {
        layer: tuple(target._replace(mask=masks[layer_shapes[layer]]) for target in of_layer)
        for layer, of_layer in targets.items()
    }


def masked_styles(
    regions: Sequence[MaskedStyle],
    layer_shapes: Mapping[str, tuple[int, int]],
    layer_styles: Mapping[str, int],
    whole: tf.Tensor,
) -> dict[str, tuple[StyleTarget, ...]]:
    """Gives each region the statistics of its style.

    A region's share is its part of the whole's area: then a pixel contributes as much in a small
    region as in a large one, and as much as without regions. Poolings drop the last rows and
    columns of odd sizes: a region that lies in them has no part in the layers that do not see it.

    Args:
        regions: In any order.
        layer_shapes: Height and width of the activations by layer, for the content image.
        layer_styles: The number, from 1, of the only style of a layer.
        whole: The mask of all that may be in a region, as theirs.

    Returns:
        The style targets by layer; a layer that no region's style is for has none.
    """
    targets: dict[str, tuple[StyleTarget, ...]] = {}
    for layer, shape in layer_shapes.items():
        chosen = layer_styles.get(layer)
        of_layer = []
        area_of_whole = mask_area(downsampled(whole, shape))
        for region in regions:
            if chosen not in (None, region.style + 1) or layer not in region.statistics:
                continue
            mask = downsampled(region.mask, shape)
            if area := mask_area(mask):
                share = tf.constant(region.weight * area / area_of_whole, tf.float32)
                of_layer.append(StyleTarget(region.statistics[layer], mask, share))
        if of_layer:
            targets[layer] = tuple(of_layer)
    return targets


def downsampled(mask: tf.Tensor, shape: Any) -> tf.Tensor:
    """Brings a mask to the size of a layer's activations by halving, as pooling does.

    Args:
        mask: [1, H, W, 1] in [0, 1].
        shape: Height and width of the activations, as numbers or as a tensor [2].

    Returns:
        [1, h, w, 1] in [0, 1].
    """

    def larger(mask: tf.Tensor) -> tf.Tensor:
        return tf.reduce_all(tf.shape(mask)[1:3] >= 2 * tf.convert_to_tensor(shape))

    def halved(mask: tf.Tensor) -> tuple[tf.Tensor]:
        return (tf.nn.avg_pool2d(mask, 2, 2, "VALID"),)

    invariant = tf.TensorShape([1, None, None, 1])
    (mask,) = tf.while_loop(larger, halved, (mask,), shape_invariants=(invariant,))
    # The same size already but for networks that do not halve by poolings.
    return tf.image.resize(mask, shape)


def mask_area(mask: tf.Tensor) -> float:
    """Returns the area that a mask counts for: the mean of its squares.

    Args:
        mask: [1, h, w, 1] in [0, 1].
    """
    return float(tf.reduce_mean(tf.square(mask)))


def weight_tensors(weights: Mapping[str, float]) -> dict[str, tf.Tensor]:
    """Makes scalars in float64 of the weights of terms."""
    return {name: tf.constant(weight, tf.float64) for name, weight in weights.items()}


def _target(statistics: Statistics, share: float = 1.0) -> StyleTarget:
    return StyleTarget(statistics, None, tf.constant(share, tf.float32))

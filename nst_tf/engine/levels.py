"""What the optimizer needs at each level: targets, the initial image, and changes of size."""

import hashlib
import math
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

from nst_tf.config import InitialSettings, LossSettings
from nst_tf.engine.cluster import Cluster
from nst_tf.engine.inputs import Before, Inputs
from nst_tf.engine.networks import Networks
from nst_tf.engine.pyramid import Level
from nst_tf.engine.tiling import Tiling
from nst_tf.image import color
from nst_tf.image.arrays import PIXEL_RANGE, ImageArray
from nst_tf.image.margin import crop, extend, within
from nst_tf.image.masks import Mask, Region, resize_mask, resize_regions
from nst_tf.image.resize import cover, resize
from nst_tf.objective import targets as target_functions
from nst_tf.objective.function import batch
from nst_tf.objective.graphs import Objective, StyleFeatures
from nst_tf.objective.spec import ExtraLoss, term_weights
from nst_tf.objective.targets import Fixed, MaskedStyle, Targets, Temporal
from nst_tf.objective.terms import constrain
from nst_tf.objective.tiled import TiledObjective

_MOST_STYLE_BYTES = 256 * 2**20
"""Of a `StyleCache`. Gram matrices of a style image at one size take 1.4 MB, positions 160 MB."""

_GRADIENTS_ON_NOISE = {"content": 1.0, "style": 3.2e-4, "tv": 650.0}
"""The length of each term's gradient on noise per unit of its weight, relative to the content's.

Measured at 512 px on `images/summer-palace.jpg` with `images/starry-night.jpg`; three other pairs
and sizes from 128 px on gave 0.6e-4 to 3.3e-4 for the style, 510 to 690 for the total variation.
"""


class StyleCache:
    """Keeps the statistics of style images, which do not depend on the content image.

    Several stylizers use it, which may run in several threads.
    """

    def __init__(self) -> None:
        self._features: OrderedDict[tuple[object, ...], StyleFeatures] = OrderedDict()
        self._lock = threading.Lock()

    def features(
        self,
        objective: Objective | TiledObjective,
        style: ImageArray,
        shape: tuple[int, int],
        mask: Mask | None,
    ) -> StyleFeatures:
        """Computes the statistics of a style image, or finds them.

        The grain of an image that is enlarged is that of its own pixels: enlarging has blurred it,
        and would blur the strokes of a result that is as fine as the enlarged image only.

        Args:
            objective: One of the `Stylizer` that the cache belongs to, in float32.
            style: At the size given by the user, RGB [H, W, 3] in [0, 255].
            shape: Height and width at which it is looked at.
            mask: What of it counts, [*shape], or None for all.

        Returns:
            Its statistics, and the moments for AdaIN where the network is its encoder.
        """
        key = (_digest(style), shape, objective.tile_size, None if mask is None else _digest(mask))
        with self._lock:
            if key not in self._features:
                layer_mask = None if mask is None else _as_tensor(mask)
                is_enlarged = math.prod(shape) > math.prod(style.shape[:2])
                self._features[key] = objective.style_features(
                    batch(resize(style, shape)), layer_mask, batch(style) if is_enlarged else None
                )
            self._features.move_to_end(key)
            while self._bytes() > _MOST_STYLE_BYTES and len(self._features) > 1:
                self._features.popitem(last=False)
            return self._features[key]

    def _bytes(self) -> int:
        tensors = tf.nest.flatten(list(self._features.values()))
        return sum(
            tensor.dtype.size * math.prod(tensor.shape) for tensor in tensors if tensor is not None
        )


class LevelBuilder:
    """Prepares the levels of one style transfer.

    Args:
        inputs: The images and regions, at the sizes given.
        loss: Layers, weights and the color mode.
        initial: What the optimization starts from.
        networks: What is computed with.
        styles: Statistics of style images computed so far.
        precision: What AdaIN images are computed in.
        tiling: Which images are evaluated in tiles.
        cluster: What computes the tiles; None for this process.
        extra: Loss terms of the user's own.

    Attributes:
        tiling: Which images are evaluated in tiles.
    """

    def __init__(
        self,
        inputs: Inputs,
        loss: LossSettings,
        initial: InitialSettings,
        networks: Networks,
        styles: StyleCache,
        precision: str,
        tiling: Tiling,
        cluster: Cluster | None,
        extra: tuple[ExtraLoss, ...] = (),
    ) -> None:
        self._inputs = inputs
        self._loss = loss
        self._initial = initial
        self._networks = networks
        self._styles = styles
        self._precision = precision
        self.tiling = tiling
        self._cluster = cluster
        self._tiled: dict[str, TiledObjective] = {}
        self._extra = extra
        self._initial_images: dict[Level, ImageArray] = {}
        self._targets: tuple[Level, Targets] | None = None  # of the last level asked for only

    def objective(
        self, shape: tuple[int, int], precision: str = "float32"
    ) -> Objective | TiledObjective:
        """Returns the objective for images of a shape, in tiles where they are large."""
        if not self.tiling.size_for(shape):
            return self._networks.objective(precision)
        if precision not in self._tiled:
            run = None
            if self._cluster is not None:
                run = self._cluster.runner(self._networks.recipe(precision))
            self._tiled[precision] = TiledObjective(
                self._networks.tile_functions(precision), self.tiling.tile_size, run
            )
        return self._tiled[precision]

    def targets(self, level: Level) -> Targets:
        """Computes what an image of the level's size is compared with, in float32."""
        if self._targets is None or self._targets[0] != level:
            self._targets = None  # lets go of those of the level before
            self._targets = level, self._make_targets(level)
        return self._targets[1]

    def _make_targets(self, level: Level) -> Targets:
        objective = self.objective(level.canvas)
        content = batch(self._content(level))
        targets = Targets(
            content=objective.content_features(content) if objective.spec.content_layers else {},
            style=self._style_targets(level) if objective.spec.statistics else {},
            weights=self._weights(),
            fixed=self._fixed(content, level),
            temporal=self._temporal(level),
        )
        if self._loss.normalize_gradients:
            targets = self._normalized(targets, level)
        return targets

    def initial_image(self, level: Level) -> ImageArray:
        """Makes the image that a level starts from where no coarser one was optimized.

        Returns:
            RGB float32 [*level.canvas, 3] in [0, 255]; with `original_colors: luminance`, gray.
        """
        if level not in self._initial_images:
            image = self._make_initial_image(level)
            self._initial_images[level] = self.in_optimized_colors(image)
        return self._initial_images[level]

    def take_initial_image(self, level: Level) -> ImageArray:
        """Returns `initial_image` for the last time: a large one is much memory."""
        image = self.initial_image(level)
        del self._initial_images[level]
        return image

    def upsampled(self, image: ImageArray, coarse: Level, level: Level) -> ImageArray:
        """Enlarges the image of a level to the size of the next.

        An enlarged image has no detail finer than the pixels of the level before. Where the
        optimization starts from AdaIN, the AdaIN image's detail that the level before cannot
        represent is added.

        Args:
            image: That of the coarse level, RGB [*coarse.canvas, 3] in [0, 255].
            coarse: Its level.
            level: The next.

        Returns:
            RGB [*level.canvas, 3] in [0, 255].
        """
        enlarged = resize(crop(image, coarse.margin), level.shape)
        has_detail = self._initial.init == "adain" and self._inputs.initial is None
        if has_detail and coarse.shape != level.shape:
            detailed = crop(self.take_initial_image(level), level.margin)
            enlarged = enlarged + detailed - resize(resize(detailed, coarse.shape), level.shape)
            np.clip(enlarged, *PIXEL_RANGE, out=enlarged)
        self._initial_images.pop(level, None)  # that of a preview
        return extend(enlarged, level.margin)

    def preview(self, levels: Sequence[Level]) -> ImageArray:
        """Returns the initial image as it is shown, in the size of the result.

        Where that size needs tiles, it is that of the largest level without them, enlarged: one of
        full size takes minutes.

        Args:
            levels: The plan, from coarse to fine.
        """
        whole = [level for level in levels if not self.tiling.size_for(level.canvas)]
        shown, last = (whole or levels[:1])[-1], levels[-1].without_margin
        image = resize(crop(self.initial_image(shown), shown.margin), last.shape)
        if self._inputs.regions:
            fixed = self._fixed(batch(self._content(last)), last)
            image = constrain(batch(image), fixed, luminance_only=False).numpy()[0]
        return self.in_color(image)

    def in_color(self, image: ImageArray) -> ImageArray:
        """Gives an optimized image the colors in which it is shown and saved."""
        if self._loss.original_colors != "luminance":
            return image
        return color.restore_chroma(image, resize(self._inputs.content_colors, image.shape[:2]))

    def in_optimized_colors(self, image: ImageArray) -> ImageArray:
        """Reduces an image to the colors that are optimized, and that have a loss."""
        return color.to_luminance(image) if self._loss.original_colors == "luminance" else image

    def _on_canvas(self, image: ImageArray, level: Level) -> ImageArray:
        return extend(resize(image, level.shape), level.margin)

    def _content(self, level: Level) -> ImageArray:
        return self._on_canvas(self._inputs.content, level)

    def _trust(self, before: Before, level: Level) -> Mask:
        return extend(resize_mask(before.trust, level.shape), level.margin)

    def _regions(self, level: Level) -> list[Region]:
        """Resizes the regions, and extends where they are to the level's canvas."""
        regions = resize_regions(self._inputs.regions, level.shape, level.style_shapes)
        return [
            region._replace(content_mask=extend(region.content_mask, level.margin))
            for region in regions
        ]

    def _style_targets(
        self, level: Level
    ) -> Mapping[str, tuple[target_functions.StyleTarget, ...]]:
        objective = self.objective(level.canvas)
        of_layers = objective.layer_shapes(level.canvas)
        shapes = {layer: of_layers[layer] for layer in objective.spec.statistics}
        regions = self._regions(level)
        if regions:
            return self._styles_of_regions(level, regions, shapes)
        features = self._all_style_features(level)
        targets = target_functions.blended_styles(
            objective.spec.statistics,
            [each.statistics for each in features],
            blend_shares(self._loss.style_blend_weights, len(features)),
            self._loss.layer_styles,
        )
        if not level.margin:
            return targets  # a mask would be memory for nothing
        return target_functions.inside(targets, _inside(level), shapes)

    def _styles_of_regions(
        self, level: Level, regions: Sequence[Region], shapes: Mapping[str, tuple[int, int]]
    ) -> Mapping[str, tuple[target_functions.StyleTarget, ...]]:
        inside = _inside(level)
        masked = [
            MaskedStyle(
                region.style,
                self._region_statistics(level, region),
                inside * _as_tensor(region.content_mask),
                region.weight,
            )
            for region in regions
        ]
        return target_functions.masked_styles(masked, shapes, self._loss.layer_styles, inside)

    def _all_style_features(self, level: Level) -> list[StyleFeatures]:
        return [
            self._style_features(level, number, None) for number in range(len(self._inputs.styles))
        ]

    def _region_statistics(
        self, level: Level, region: Region
    ) -> Mapping[str, target_functions.Statistics]:
        """Computes those of a region's style, without layers at which its part of it vanishes."""
        found = self._style_features(level, region.style, region.style_mask).statistics
        if region.style_mask is None:
            return found
        shape = level.style_shapes[region.style]
        shapes = self.objective(shape).layer_shapes(shape)
        mask = _as_tensor(region.style_mask)
        return {
            layer: statistics
            for layer, statistics in found.items()
            if target_functions.mask_area(target_functions.downsampled(mask, shapes[layer]))
        }

    def _style_features(self, level: Level, number: int, mask: Mask | None) -> StyleFeatures:
        style, shape = self._inputs.styles[number], level.style_shapes[number]
        return self._styles.features(self.objective(shape), style, shape, mask)

    def _fixed(self, content: tf.Tensor, level: Level) -> Fixed | None:
        """Keeps the content image where no region is."""
        regions = self._regions(level)
        if not regions:
            return None
        masks = [region.content_mask for region in regions]
        coverage = np.minimum(np.sum(masks, axis=0, dtype=np.float32), np.float32(1.0))
        return Fixed(content, _as_tensor(coverage))

    def _normalized(self, targets: Targets, level: Level) -> Targets:
        """Scales the terms so that their gradients on noise have the usual ratios.

        It is measured on noise, where every term has a gradient whatever the initial image is. With
        the default layers, network and weights the scales are near 1, and elsewhere a weight has
        the same effect.
        """
        noise = batch(_noise(level.canvas, seed=0))
        lengths = {}
        for kind in _GRADIENTS_ON_NOISE:
            of_kind = {
                name: weight if name.split("/")[0] == kind else tf.zeros_like(weight)
                for name, weight in targets.weights.items()
            }
            _, gradient, _ = self.objective(level.canvas).value_and_gradients(
                noise, targets._replace(weights=of_kind)
            )
            lengths[kind] = float(tf.norm(gradient))
        by_weight = {
            "content": self._loss.content_weight,
            "style": self._loss.style_weight,
            "tv": self._loss.tv_weight,
        }
        effects = {kind: lengths[kind] / (by_weight[kind] or 1.0) for kind in lengths}
        # How much larger each is than usual; the first that is there keeps its weight.
        excess = {
            kind: effect / _GRADIENTS_ON_NOISE[kind] for kind, effect in effects.items() if effect
        }
        scales = {kind: next(iter(excess.values())) / each for kind, each in excess.items()}
        return targets._replace(weights=self._weights(scales))

    def _weights(self, scales: Mapping[str, float] | None = None) -> dict[str, tf.Tensor]:
        weights = term_weights(self._loss, self._extra, scales)
        if self._inputs.before is not None:
            weights["temporal"] = self._inputs.before.weight
        return target_functions.weight_tensors(weights)

    def _temporal(self, level: Level) -> Temporal | None:
        before = self._inputs.before
        if before is None:
            return None
        image = self._on_canvas(self.in_optimized_colors(before.image), level)
        trust = self._trust(before, level)
        return Temporal(batch(image), _as_tensor(trust))

    def _make_initial_image(self, level: Level) -> ImageArray:
        before = self._inputs.before
        own = self._own_initial_image(level)
        if before is None:
            return own
        # Where the frame before leads nowhere, this one has only its own.
        trust = self._trust(before, level)[:, :, np.newaxis]
        image: ImageArray = own + trust * (self._on_canvas(before.image, level) - own)
        return image

    def _own_initial_image(self, level: Level) -> ImageArray:
        if self._inputs.initial is not None:
            return self._on_canvas(self._inputs.initial, level)
        if not self._inputs.regions:
            return self._initial_of_styles(level, range(len(self._inputs.styles)))
        # Each region has its own; what no region covers is the content.
        content = self._content(level)
        regions = self._regions(level)
        total = sum(region.content_mask for region in regions)
        image = content.copy()
        for region in regions:
            own = self._initial_of_styles(level, [region.style], region.style_mask)
            # Where a soft edge is mixed with the content is the objective's part.
            share = region.content_mask / np.maximum(total, np.finfo(np.float32).tiny)
            image += share[:, :, np.newaxis] * (own - content)
        return np.clip(image, *PIXEL_RANGE)

    def _initial_of_styles(
        self, level: Level, numbers: Sequence[int], mask: Mask | None = None
    ) -> ImageArray:
        """Starts from some styles, or from what a mask shows of one."""
        content = self._content(level)
        if self._initial.init == "noise":
            return _noise(level.canvas, self._initial.seed)
        if self._initial.init == "style":
            first = numbers[0]
            style = resize(self._inputs.styles[first], level.style_shapes[first])
            return extend(cover(style, level.shape), level.margin)
        if self._initial.init == "adain":
            return self._adain(content, level, numbers, mask)
        return content

    def _adain(
        self, content: ImageArray, level: Level, numbers: Sequence[int], mask: Mask | None
    ) -> ImageArray:
        features = [self._style_features(level, n, None) for n in numbers] if mask is None else []
        known = [each.moments for each in features if each.moments is not None]
        blend_weights = self._loss.style_blend_weights if len(numbers) > 1 else ()
        return self._networks.adain(self._precision)(
            content,
            [resize(self._inputs.styles[number], level.style_shapes[number]) for number in numbers],
            blend_shares(blend_weights, len(numbers)),
            self._initial.style_strength,
            style_moments=known or None,
            style_masks=[mask] * len(numbers),
            tile_size=self.tiling.size_for,
        )


def blend_shares(blend_weights: Sequence[float], styles: int) -> list[float]:
    """Returns the share of each style: the weights over their sum, or equal parts without any."""
    weights = list(blend_weights) or [1.0] * styles
    return [weight / sum(weights) for weight in weights]


def _inside(level: Level) -> tf.Tensor:
    return _as_tensor(within(level.shape, level.margin))


def _as_tensor(mask: Mask) -> tf.Tensor:
    return tf.constant(mask[np.newaxis, :, :, np.newaxis])


def _noise(shape: tuple[int, int], seed: int) -> ImageArray:
    """Returns Gaussian noise around middle gray, [*shape, 3] in [0, 255]."""
    noise = np.random.default_rng(seed).normal(127.5, 32.0, (*shape, 3))
    return np.clip(noise, *PIXEL_RANGE).astype(np.float32)


def _digest(array: np.ndarray) -> bytes:
    digest = hashlib.sha256(repr(array.shape).encode())
    digest.update(np.ascontiguousarray(array).data)
    return digest.digest()

"""The objective of an image that is too large to be evaluated at once, tile by tile.

All terms follow from sums over positions (`nst_tf.objective.terms.Measures`). A first pass over the
tiles adds them up; the derivative of the loss by the sums is that of the whole image, and a second
pass takes it back to the pixels of each tile. Between the segments of the network, the map that one
gives to the next is stored for the whole image, and so is the gradient with respect to it. Value
and gradient are those of the whole image, but for the order in which numbers are added.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from nst_tf import system
from nst_tf.errors import InputError
from nst_tf.image.tiles import Tile, split
from nst_tf.losses import jets
from nst_tf.losses.total_variation import POWERS
from nst_tf.models.adain import Moments, moments, pooled
from nst_tf.models.segments import Segment, segments
from nst_tf.objective import terms
from nst_tf.objective.graphs import Graphs, Objective, StyleFeatures
from nst_tf.objective.spec import JETS, ObjectiveSpec
from nst_tf.objective.targets import StyleTarget, Targets, Temporal, downsampled
from nst_tf.objective.terms import Measures

Array = npt.NDArray[Any]

UNIT = 16
"""Pixels. Tiles begin at multiples of it: the deepest layers have one position for so many."""

_JET_STRIDES = dict(zip(JETS, (1, 2), strict=True))
_PIXELS_HALO = 4
"""Pixels around a tile that its jets of half size depend on."""

_RELEASE_PIXELS = 2**20
"""Pixels of tiles after which freed memory goes back to the system: some seconds of computation.

Tiles at borders have shapes of their own, so that it cannot all be used again.
"""

_DEEP_TILES = 2
"""How much longer the sides of tiles are, in pixels, in segments after the first.

There, a pixel takes a seventh of the memory.
"""


class Part(NamedTuple):
    """What is measured of a tile.

    Attributes:
        crop: `Tile.crop` in the input of the segment, int32 [4].
        content: By layer, what the activations are to be, [1, h, w, N].
        masks: By layer, the mask of each target, [1, h, w, 1] or None.
        content_shares: By layer, the share that the tile has in the positions of the image.
        style_shares: The same for each target, where a position counts with its mask squared.
        pairs: One over the number of neighbors in the image, across and down, [2]; None without a
            total variation.
    """

    crop: Any
    content: Mapping[str, Any]
    masks: Mapping[str, tuple[Any, ...]]
    content_shares: Mapping[str, Any]
    style_shares: Mapping[str, tuple[Any, ...]]
    pairs: Any


class Task(NamedTuple):
    """A call of a method of `TileFunctions`: plain data, which pickles.

    Attributes:
        method: Its name.
        segment: The number of the segment.
        tile: The number of the tile in it.
        is_last: Whether no other segment is needed.
        x: The padded tile of the segment's input, [1, h, w, C].
        part: What is measured of it.
        others: Further arguments.
    """

    method: str
    segment: int
    tile: int
    is_last: bool
    x: Any
    part: Part | None
    others: tuple[Any, ...] = ()


Runner = Callable[[Iterable[Task]], Iterator[Any]]
"""Runs tasks, which do not depend on each other, and returns their results in order."""


class TileFunctions:
    """What is computed of single tiles.

    Args:
        objective: The objective of whole images.

    Attributes:
        objective: The same.
        segments: The parts of its network.
    """

    def __init__(self, objective: Objective) -> None:
        self.objective = objective
        self.segments = segments(objective.network)
        self._spec = objective.spec
        self._encoder_layer = objective.encoder_layer
        self._graphs = Graphs()

    def __call__(self, task: Task) -> Any:
        """Runs a task.

        Returns:
            What the method returns, as arrays.
        """
        segment = self.segments[task.segment]
        function = partial(getattr(self, task.method), segment, task.is_last)
        found = self._graphs.run(
            f"{task.method} {task.segment} {task.is_last}",
            function,
            task.x,
            task.part,
            *task.others,
        )
        return tf.nest.map_structure(_array, found)

    def forward(
        self, segment: Segment, is_last: bool, x: tf.Tensor, part: Part
    ) -> tuple[tuple[Measures, Moments | None], tf.Tensor | None]:
        """Computes what a tile adds to the measures.

        Returns:
            It, with the tile's moments at the encoder's layer; and the tile's part of the map for
            the next segment.
        """
        activations = self._activations(segment, x, part)
        encoded = activations.get(self._encoder_layer or "")
        found = self._measures(segment, activations, x, part)
        output = None if is_last else activations[segment.output or ""]
        return (found, None if encoded is None else moments(encoded)), output

    def features(
        self, segment: Segment, is_last: bool, x: tf.Tensor, part: Part
    ) -> tuple[dict[str, tf.Tensor], tf.Tensor | None]:
        """Computes a tile's part of the activations of content layers.

        Returns:
            They, in float32; and the tile's part of the map for the next segment.
        """
        activations = self._activations(segment, x, part)
        found = {
            layer: tf.cast(activations[layer], tf.float32)
            for layer in self._spec.content_layers
            if layer in activations
        }
        return found, None if is_last else activations[segment.output or ""]

    def backward(
        self,
        segment: Segment,
        is_last: bool,
        x: tf.Tensor,
        part: Part,
        slopes: Measures,
        upstream: tf.Tensor | None,
    ) -> tf.Tensor:
        """Computes what a tile adds to the gradient with respect to the segment's input.

        Args:
            segment: The segment.
            is_last: Whether there is no upstream gradient.
            x: The padded tile of its input.
            part: As for `forward`.
            slopes: The derivative of the loss by the measures of the image.
            upstream: The gradient with respect to the tile's part of the map for the next segment.

        Returns:
            A gradient of the shape of x, in float32.
        """
        with tf.GradientTape() as tape:
            tape.watch(x)
            activations = self._activations(segment, x, part)
            measures = self._measures(segment, activations, x, part)
            products = [
                tf.reduce_sum(slope * measure)
                for slope, measure in zip(
                    tf.nest.flatten(slopes), tf.nest.flatten(measures), strict=True
                )
                if measure is not None
            ]
            if not is_last:
                output = tf.cast(activations[segment.output or ""], tf.float32)
                products.append(tf.reduce_sum(upstream * output))
            total = tf.add_n(products)
        return tf.cast(tape.gradient(total, x), tf.float32)

    def _activations(self, segment: Segment, x: tf.Tensor, part: Part) -> dict[str, tf.Tensor]:
        """Computes the activations of a tile without its border."""
        found = dict(segment.model(x))
        strides = dict(segment.strides)
        if segment.stride == 1 and self._spec.grain:
            found |= dict(zip(JETS, jets(x), strict=True))
            strides |= _JET_STRIDES
        return {layer: _cropped(found[layer], part.crop, strides[layer]) for layer in found}

    def _measures(
        self, segment: Segment, activations: Mapping[str, tf.Tensor], x: tf.Tensor, part: Part
    ) -> Measures:
        found = terms.measure(activations, part.content, part.masks, self._spec)
        content = {
            layer: part.content_shares[layer] * value for layer, value in found.content.items()
        }
        style = {
            layer: tuple(
                tf.nest.map_structure(partial(tf.multiply, share), statistics)
                for statistics, share in zip(of_layer, part.style_shares[layer], strict=True)
            )
            for layer, of_layer in found.style.items()
        }
        variation = None
        if segment.stride == 1 and part.pairs is not None:
            variation = _variation(x, part, self._spec.tv_exponent)
        return Measures(content, style, variation)


class TiledObjective:
    """The objective in tiles, with the methods of `Objective` and their results.

    Args:
        functions: What is computed of each tile.
        tile_size: The longest side of a tile in pixels, at least 16, without its border.
        run: Runs tasks elsewhere; by default the functions do, one after the other.

    Raises:
        InputError: A term is not a sum over positions.
    """

    def __init__(self, functions: TileFunctions, tile_size: int, run: Runner | None = None) -> None:
        objective = functions.objective
        check_additive(objective.spec)
        self.spec = objective.spec
        self.encoder_layer = objective.encoder_layer
        self.network = objective.network
        self._objective = objective
        self.tile_size = tile_size
        self._segments = functions.segments
        self._run = run or partial(map, functions)
        self._graphs = Graphs()
        self._last: tuple[Targets, list[list[tuple[Tile, Part]]]] | None = None

    def value_and_gradients(
        self, variables: tf.Tensor, targets: Targets
    ) -> tuple[tf.Tensor, tf.Tensor, dict[str, tf.Tensor]]:
        """Evaluates `nst_tf.objective.terms.value_and_gradients` for a batch of one."""
        with tf.GradientTape() as tape:
            tape.watch(variables)
            image = terms.constrain(variables, targets.fixed, self.spec.luminance_only)
        plan = self._plan_of(image.shape[1:3], targets)
        maps, measures = self._forward(np.asarray(image)[0], plan)
        total, slopes, values = self._graphs.run(
            "slopes", partial(_slopes, spec=self.spec), measures, _compared(targets)
        )
        # As arrays: tensors would configure TensorFlow in the process that reads them.
        slopes = tf.nest.map_structure(_array, slopes)
        gradient = tf.constant(self._backward(maps, plan, slopes)[np.newaxis])
        if targets.temporal is not None:  # of pixels only, which needs no tiles
            added, own_gradient, own_values = self._graphs.run(
                "temporal", _temporal, image, targets.temporal, targets.weights
            )
            total, gradient, values = total + added, gradient + own_gradient, values | own_values
        if image is not variables:
            gradient = tape.gradient(image, variables, output_gradients=gradient)
        return total, gradient, values

    def loss_terms(self, image: tf.Tensor, targets: Targets) -> dict[str, tf.Tensor]:
        """Evaluates `nst_tf.objective.terms.loss_terms` for a batch of one."""
        plan = self._plan_of(image.shape[1:3], targets)
        _, measures = self._forward(np.asarray(image)[0], plan)
        values: dict[str, tf.Tensor] = self._graphs.run(
            "compare", partial(terms.compare, spec=self.spec), measures, _compared(targets)
        )
        return values | terms.temporal_terms(image, targets)

    def content_features(self, image: tf.Tensor) -> dict[str, Array]:
        """Computes `Objective.content_features` for a batch of one.

        They are arrays, as a tensor would be a copy, and tiles are cut out of arrays.
        """
        shapes = self.layer_shapes(image.shape[1:3])
        found = {
            layer: np.empty((*shapes[layer], self.network.output[layer].shape[-1]), np.float32)
            for layer in self.spec.content_layers
        }
        plan = self._plan(image.shape[1:3], {}, {}, also=tuple(found))
        for number, tile, features in self._results("features", [np.asarray(image)[0]], plan):
            for layer, activations in features.items():
                stride = self._segments[number].strides[layer]
                tile.own.scaled(stride, shapes[layer]).of(found[layer])[...] = activations[0]
        return {layer: maps[np.newaxis] for layer, maps in found.items()}

    def style_features(
        self, image: tf.Tensor, mask: tf.Tensor | None = None, pixels: tf.Tensor | None = None
    ) -> StyleFeatures:
        """Computes `Objective.style_features`."""
        jets_of = image if pixels is None else pixels
        layers = [layer for layer in self.spec.statistics if layer not in JETS]
        statistics, encoded = self._style(image, mask, layers, encode=True)
        if self.spec.grain:
            statistics |= self._style(jets_of, mask, JETS, encode=False)[0]
        return StyleFeatures(statistics, encoded)

    def layer_shapes(self, shape: tuple[int, int]) -> dict[str, tuple[int, int]]:
        """Returns `Objective.layer_shapes`."""
        return self._objective.layer_shapes(shape)

    def _tile_side(self, number: int) -> int:
        """Returns the longest side of a segment's tiles, in pixels of the image."""
        return self.tile_size * (_DEEP_TILES if number else 1)

    def _style(
        self, image: tf.Tensor, mask: tf.Tensor | None, layers: Sequence[str], *, encode: bool
    ) -> tuple[dict[str, Any], Moments | None]:
        """Computes statistics of layers, and the moments of the encoder's layer."""
        shapes = self.layer_shapes(image.shape[1:3])
        masks = {
            layer: (None if mask is None else downsampled(mask, shapes[layer]),) for layer in layers
        }
        also = [self.encoder_layer] if encode and self.encoder_layer else []
        plan = self._plan(image.shape[1:3], {}, masks, also)
        encoded: list[tuple[Moments, int]] = []
        _, measures = self._forward(np.asarray(image)[0], plan, encoded)
        statistics = {layer: found for layer, (found,) in measures.style.items()}
        return (
            tf.nest.map_structure(tf.constant, statistics),
            pooled(*zip(*encoded, strict=True)) if also else None,
        )

    def _forward(
        self,
        image: Array,
        plan: Sequence[Sequence[tuple[Tile, Part]]],
        encoded: list[tuple[Moments, int]] | None = None,
    ) -> tuple[list[Array], Measures]:
        """Measures an image.

        Args:
            image: [H, W, 3].
            plan: The tiles of each segment.
            encoded: Takes the moments of each tile and its number of pixels.

        Returns:
            The inputs of the segments; and the measures.
        """
        maps = [image]
        found: dict[int, Any] = {}
        for number, tile, (measures, moments_) in self._results("forward", maps, plan):
            found[number] = _sum(found[number], measures) if number in found else measures
            if encoded is not None and moments_ is not None:
                encoded.append((moments_, tile.own.positions))
        content = {layer: value for each in found.values() for layer, value in each.content.items()}
        style = {layer: value for each in found.values() for layer, value in each.style.items()}
        return maps, Measures(content, style, found[0].tv)

    def _results(
        self, method: str, maps: list[Array], plan: Sequence[Sequence[tuple[Tile, Part]]]
    ) -> Iterator[tuple[int, Tile, Any]]:
        """Runs a method on all tiles, and adds to the maps those between the segments.

        Yields:
            The number of the segment, the tile, and what the method returned for it.
        """
        for number, tiles in enumerate(plan):
            source, is_last = maps[-1], number + 1 == len(plan)
            tasks = (
                Task(method, number, index, is_last, tile.padded.of(source)[np.newaxis], part)
                for index, (tile, part) in enumerate(tiles)
            )
            output: Array | None = None
            results = _tidied(self._run(tasks), self._tile_side(number))
            for (tile, _), (found, given) in zip(tiles, results, strict=True):
                if given is not None:
                    stride = self._segments[number].output_stride
                    shape = source.shape[0] // stride, source.shape[1] // stride
                    if output is None:
                        output = np.empty((*shape, given.shape[-1]), given.dtype)
                    tile.own.scaled(stride, shape).of(output)[...] = given[0]
                yield number, tile, found
            if output is not None:
                maps.append(output)

    def _backward(
        self, maps: list[Array], plan: Sequence[Sequence[tuple[Tile, Part]]], slopes: Measures
    ) -> Array:
        """Computes the gradient with respect to the image, [H, W, 3]; uses the maps up."""
        upstream: Array | None = None
        for number in reversed(range(len(plan))):
            source = maps.pop()
            tasks = (
                self._backward_task(number, index, *each, source, slopes, upstream)
                for index, each in enumerate(plan[number])
            )
            gradient = np.zeros(source.shape, np.float32)
            results = _tidied(self._run(tasks), self._tile_side(number))
            for (tile, _), found in zip(plan[number], results, strict=True):
                tile.padded.of(gradient)[...] += found[0]
            upstream = gradient
        return gradient

    def _backward_task(
        self,
        number: int,
        index: int,
        tile: Tile,
        part: Part,
        source: Array,
        slopes: Measures,
        upstream: Array | None,
    ) -> Task:
        own = None
        if upstream is not None:
            stride = self._segments[number].output_stride
            own = tile.own.scaled(stride, upstream.shape[:2]).of(upstream)[np.newaxis]
        of_part = Measures(
            {layer: slopes.content[layer] for layer in part.content},
            {layer: slopes.style[layer] for layer in part.masks},
            slopes.tv if number == 0 else None,
        )
        x = tile.padded.of(source)[np.newaxis]
        return Task("backward", number, index, upstream is None, x, part, (of_part, own))

    def _plan_of(self, shape: tuple[int, int], targets: Targets) -> list[list[tuple[Tile, Part]]]:
        """Plans the tiles for targets, which are the same in all evaluations of a level."""
        if self._last is None or self._last[0] is not targets:
            masks = {
                layer: tuple(target.mask for target in of_layer)
                for layer, of_layer in targets.style.items()
            }
            content = {layer: targets.content[layer] for layer in self.spec.content_layers}
            self._last = targets, self._plan(shape, content, masks)
        return self._last[1]

    def _plan(
        self,
        shape: tuple[int, int],
        content: Mapping[str, Any],
        masks: Mapping[str, tuple[Any, ...]],
        also: Sequence[str] = (),
    ) -> list[list[tuple[Tile, Part]]]:
        """Plans the tiles of each segment that is needed, and what is measured of them.

        Args:
            shape: Height and width of the image.
            content: What activations are compared with, by layer.
            masks: The masks of the targets, by layer with statistics.
            also: Layers that are needed beside those.
        """
        shapes = self.layer_shapes(shape)
        height, width = shape
        pairs = None
        if self.spec.tv_exponent:
            pairs = np.array(
                [1.0 / (height * (width - 1)), 1.0 / ((height - 1) * width)], np.float32
            )
        content = {layer: np.asarray(maps)[0] for layer, maps in content.items()}
        weighed = {id(mask): _weighed(mask) for found in masks.values() for mask in found}
        of_layers = {layer: [weighed[id(mask)] for mask in found] for layer, found in masks.items()}
        needed = {*content, *of_layers, *also}
        deepest = max(
            [0, *(n for n, each in enumerate(self._segments) if needed & set(each.strides))]
        )
        plan = []
        for number, segment in enumerate(self._segments[: deepest + 1]):
            strides = segment.strides | (_JET_STRIDES if number == 0 else {})
            tiles = split(
                (height // segment.stride, width // segment.stride),
                self._tile_side(number) // segment.stride,
                UNIT // segment.stride,
                max(segment.halo, _PIXELS_HALO if number == 0 else 0),
            )
            plan.append(
                [(tile, _part(tile, strides, shapes, content, of_layers, pairs)) for tile in tiles]
            )
        return plan


def check_additive(spec: ObjectiveSpec) -> None:
    """Refuses an objective that cannot be evaluated in tiles.

    Args:
        spec: Its terms.

    Raises:
        InputError: A term is not a sum over positions.
    """
    if not spec.style_loss.additive:
        raise InputError(
            "the image is too large to be evaluated at once",
            f"style_loss {spec.style_loss.name} cannot be evaluated in tiles",
            "use one that is a sum over positions, a smaller image_size, or more memory",
        )
    if spec.extra:
        names = ", ".join(term.name for term in spec.extra)
        raise InputError(
            "the image is too large to be evaluated at once",
            f"extra losses cannot be evaluated in tiles: {names}",
            "leave them out, or use a smaller image_size or more memory",
        )


class _Weighed(NamedTuple):
    """A mask, [h, w, 1], and the sum of its squares."""

    mask: Array
    weight: float


def _weighed(mask: Any) -> _Weighed | None:
    if mask is None:
        return None
    array = np.asarray(mask)[0]
    return _Weighed(array, _weight(array))


def _weight(mask: Array) -> float:
    return float(np.einsum("hwc,hwc->", mask, mask, dtype=float))


def _part(
    tile: Tile,
    strides: Mapping[str, int],
    shapes: Mapping[str, tuple[int, int]],
    content: Mapping[str, Array],
    masks: Mapping[str, Sequence[_Weighed | None]],
    pairs: Array | None,
) -> Part:
    """Cuts out what belongs to a tile, of the layers that have strides."""

    def share(layer: str) -> np.float32:
        own = tile.own.scaled(strides[layer], shapes[layer])
        return np.float32(own.positions / math.prod(shapes[layer]))

    def masked(layer: str, whole: _Weighed | None) -> tuple[Array | None, np.float32]:
        if whole is None:
            return None, share(layer)
        own = tile.own.scaled(strides[layer], shapes[layer]).of(whole.mask)
        own_weight = _weight(own)
        # Without any weight statistics would be 0 / 0, also where none of the mask is left.
        share_of_own = np.float32(own_weight / whole.weight if whole.weight else 0.0)
        return (own if own_weight else np.ones_like(own))[np.newaxis], share_of_own

    content = {layer: maps for layer, maps in content.items() if layer in strides}
    of_layers = {
        layer: [masked(layer, mask) for mask in found]
        for layer, found in masks.items()
        if layer in strides
    }
    return Part(
        np.array(tile.crop(), np.int32),
        {
            layer: tile.own.scaled(strides[layer], shapes[layer]).of(maps)[np.newaxis]
            for layer, maps in content.items()
        },
        {layer: tuple(mask for mask, _ in found) for layer, found in of_layers.items()},
        {layer: share(layer) for layer in content},
        {layer: tuple(weight for _, weight in found) for layer, found in of_layers.items()},
        pairs,
    )


def _tidied(results: Iterator[Any], tile_side: int) -> Iterator[Any]:
    """Passes results of tiles on, and returns freed memory to the system meanwhile and at the end.

    Args:
        results: A result for each tile.
        tile_side: The length of the tiles in pixels.
    """
    tiles = max(1, _RELEASE_PIXELS // tile_side**2)
    for number, result in enumerate(results, 1):
        yield result
        if number % tiles == 0:
            system.release_memory()
    system.release_memory()


def _slopes(
    measures: Measures, targets: Targets, spec: ObjectiveSpec
) -> tuple[tf.Tensor, Measures, dict[str, tf.Tensor]]:
    """Computes the loss, its derivative by the measures, and its terms."""
    leaves = [leaf for leaf in tf.nest.flatten(measures) if leaf is not None]
    with tf.GradientTape() as tape:
        tape.watch(leaves)
        values = terms.compare(measures, targets, spec)
        total = tf.add_n([tf.reduce_sum(value) for value in values.values()])
    found = iter(tape.gradient(total, leaves, unconnected_gradients="zero"))
    slopes = tf.nest.map_structure(lambda leaf: None if leaf is None else next(found), measures)
    return total, slopes, values


def _temporal(
    image: tf.Tensor, temporal: Temporal, weights: Mapping[str, tf.Tensor]
) -> tuple[tf.Tensor, tf.Tensor, dict[str, tf.Tensor]]:
    """Computes the temporal term, its gradient by the image, and the term by its name."""
    with tf.GradientTape() as tape:
        tape.watch(image)
        values = terms.temporal_terms(image, Targets({}, {}, weights, temporal=temporal))
        total = tf.add_n([tf.reduce_sum(value) for value in values.values()])
    return total, tape.gradient(total, image), values


def _compared(targets: Targets) -> Targets:
    """Leaves out what is compared tile by tile."""
    style = {
        layer: tuple(StyleTarget(each.statistics, None, each.share) for each in of_layer)
        for layer, of_layer in targets.style.items()
    }
    return Targets({}, style, targets.weights)


def _cropped(activations: tf.Tensor, crop: tf.Tensor, stride: int) -> tf.Tensor:
    """Cuts the border off; a size of -1, to the end, stays -1."""
    top, rows, left, columns = tf.unstack(crop // stride)
    cropped = tf.slice(activations, [0, top, left, 0], [-1, rows, columns, -1])
    cropped.set_shape([None, None, None, activations.shape[-1]])
    return cropped


def _variation(x: tf.Tensor, part: Part, exponent: int) -> tf.Tensor:
    """Computes what the pairs of a tile's pixels with the next ones add to the total variation."""
    top, rows, left, columns = tf.unstack(part.crop)

    def following(size: tf.Tensor) -> tf.Tensor:
        return tf.where(size < 0, -1, size + 1)

    across = tf.slice(x, [0, top, left, 0], [-1, rows, following(columns), -1])
    down = tf.slice(x, [0, top, left, 0], [-1, following(rows), columns, -1])
    power = POWERS[exponent]
    axes = [1, 2, 3]
    horizontal = tf.reduce_sum(power(across[:, :, 1:] - across[:, :, :-1]), axis=axes)
    vertical = tf.reduce_sum(power(down[:, 1:] - down[:, :-1]), axis=axes)
    return (part.pairs[0] * horizontal + part.pairs[1] * vertical) / x.shape[-1]


def _sum(measures: Measures, others: Measures) -> Measures:
    total: Measures = tf.nest.map_structure(
        lambda a, b: None if a is None else a + b, measures, others
    )
    return total


def _array(leaf: tf.Tensor | None) -> Array | None:
    return None if leaf is None else leaf.numpy()

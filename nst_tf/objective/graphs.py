"""The objective as TensorFlow graphs, each traced once for images of all sizes."""

import functools
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import keras
import tensorflow as tf

from nst_tf.losses import jets
from nst_tf.models.adain import Moments, moments
from nst_tf.objective import terms
from nst_tf.objective.spec import JETS, ObjectiveSpec
from nst_tf.objective.targets import Statistics, Targets, downsampled

T = TypeVar("T")

_PROBE = 256
"""Side in pixels of the image that the strides of layers are measured with."""


class StyleFeatures(NamedTuple):
    """What a style image is reduced to.

    Attributes:
        statistics: Those of the style loss by layer.
        moments: Mean and standard deviation of the encoder layer's channels, or None without one.
    """

    statistics: Mapping[str, Statistics]
    moments: Moments | None


class Graphs:
    """Functions of nested structures of tensors as graphs, traced when they are first called."""

    def __init__(self) -> None:
        self._traced: dict[str, Callable[..., Any]] = {}
        self._tracing = threading.Lock()

    def run(self, name: str, function: Callable[..., T], *arguments: Any) -> T:
        """Calls a function as a graph, traced once for each structure of its arguments.

        Args:
            name: Of the function: one that was traced under it is not looked at again.
            function: Of nested structures of tensors, made of TensorFlow operations.
            *arguments: Tensors or arrays, of any height and width; what is None stays None.

        Returns:
            What the function returns.
        """
        arguments = tf.nest.map_structure(_tensor, arguments)
        leaves = tf.nest.flatten(arguments)
        tensors = [leaf for leaf in leaves if leaf is not None]
        key = f"{name} {tf.nest.map_structure(_specification, arguments)}"
        with self._tracing:
            if key not in self._traced:
                self._traced[key] = _traced(function, arguments, tensors)
        result: T = self._traced[key](*tensors)
        return result


class Objective:
    """Computes targets, losses and gradients with one network.

    Args:
        network: From images [B, H, W, 3], RGB in [0, 255], to activations by layer name, of at
            least `spec.layers` and `encoder_layer`.
        spec: Which terms there are.
        encoder_layer: The layer whose moments of style images AdaIN is to be given.
    """

    tile_size = 0  # images are evaluated at once; see `nst_tf.objective.tiled`

    def __init__(
        self, network: keras.Model, spec: ObjectiveSpec, encoder_layer: str | None = None
    ) -> None:
        self.spec = spec
        self.encoder_layer = encoder_layer
        self.network = network
        self._graphs = Graphs()

    def value_and_gradients(
        self, variables: tf.Tensor, targets: Targets
    ) -> tuple[tf.Tensor, tf.Tensor, dict[str, tf.Tensor]]:
        """Evaluates `nst_tf.objective.terms.value_and_gradients`."""
        function = functools.partial(
            terms.value_and_gradients, spec=self.spec, network=self.network
        )
        return self._graphs.run("value_and_gradients", function, variables, targets)

    def loss_terms(self, image: tf.Tensor, targets: Targets) -> dict[str, tf.Tensor]:
        """Evaluates `nst_tf.objective.terms.loss_terms`: a third of the work of the gradient."""
        function = functools.partial(terms.loss_terms, spec=self.spec, network=self.network)
        return self._graphs.run("loss_terms", function, image, targets)

    def content_features(self, image: tf.Tensor) -> dict[str, tf.Tensor]:
        """Computes the activations that the image is to keep.

        Args:
            image: RGB in [0, 255], [1, H, W, 3].

        Returns:
            Those of the content layers, [1, h, w, N] float32.
        """
        function = functools.partial(_activations, self.network, self.spec.content_layers)
        return self._graphs.run("content_features", function, image)

    def style_features(
        self, image: tf.Tensor, mask: tf.Tensor | None = None, pixels: tf.Tensor | None = None
    ) -> StyleFeatures:
        """Computes the statistics that the image is to have.

        Args:
            image: A style image, RGB in [0, 255], [1, H, W, 3].
            mask: What of it counts in the style loss, [1, H, W, 1] in [0, 1]; None for all.
            pixels: The style image in the size at which the statistics of its pixels are taken,
                [1, h, w, 3], at most H x W; the image itself when left out.

        Returns:
            Those of the layers with a style loss, and the moments of the encoder layer.
        """
        function = functools.partial(_style, self.network, self.spec, self.encoder_layer)
        return self._graphs.run("style_features", function, image, mask, pixels)

    def layer_shapes(self, shape: tuple[int, int]) -> dict[str, tuple[int, int]]:
        """Returns height and width of all activations, and of the jets, for those of an image."""
        height, width = shape
        found = self.network.compute_output_shape((1, height, width, 3))
        shapes = {layer: tuple(found[layer][1:3]) for layer in found}
        return shapes | dict(zip(JETS, [shape, (-(-height // 2), -(-width // 2))], strict=True))

    def strides(self) -> dict[str, int]:
        """Returns the pixels per position of the layers' activations."""
        found = self.network.compute_output_shape((1, _PROBE, _PROBE, 3))
        return {layer: -(-_PROBE // found[layer][1]) for layer in self.spec.layers}


def _traced(
    function: Callable[..., Any], arguments: tuple[Any, ...], tensors: list[tf.Tensor]
) -> Callable[..., Any]:
    """Traces a function of nested structures, whose entries that are None stay None."""
    template = tf.nest.map_structure(lambda leaf: leaf is not None, arguments)

    def of_tensors(*tensors: tf.Tensor) -> Any:
        given = iter(tensors)
        return function(
            *tf.nest.map_structure(lambda present: next(given) if present else None, template)
        )

    # A concrete function: TensorFlow warns of other functions that are traced often. Without
    # AutoGraph, which would write a temporary file: the Python in it is plain.
    traced: Callable[..., Any] = tf.function(of_tensors, autograph=False).get_concrete_function(
        *map(_specification, tensors)
    )
    return traced


def _tensor(leaf: Any) -> tf.Tensor | None:
    return None if leaf is None else tf.convert_to_tensor(leaf)


def _specification(tensor: tf.Tensor | None) -> tf.TensorSpec | None:
    """Leaves height and width open, so that one graph serves all sizes."""
    if tensor is None:
        return None
    shape = tensor.shape
    if shape.rank == 4:
        shape = [shape[0], None, None, shape[3]]
    return tf.TensorSpec(shape, tensor.dtype)


def _activations(
    network: keras.Model, layers: Sequence[str], image: tf.Tensor
) -> dict[str, tf.Tensor]:
    activations = network(image)
    return {layer: tf.cast(activations[layer], tf.float32) for layer in layers}


def _style(
    network: keras.Model,
    spec: ObjectiveSpec,
    encoder_layer: str | None,
    image: tf.Tensor,
    mask: tf.Tensor | None,
    pixels: tf.Tensor | None,
) -> StyleFeatures:
    activations = dict(network(image))
    if spec.grain:
        of_pixels = jets(image if pixels is None else pixels)
        activations |= dict(zip(JETS, of_pixels, strict=True))
    statistics = {}
    for layer, loss in spec.statistics.items():
        features = activations[layer]
        layer_mask = None if mask is None else downsampled(mask, tf.shape(features)[1:3])
        statistics[layer] = loss.statistics(features, layer_mask)
    encoded = None if encoder_layer is None else moments(activations[encoder_layer])
    return StyleFeatures(statistics, encoded)

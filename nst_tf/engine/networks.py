"""The networks of a configuration with their graphs, shared by all that use equal ones."""

import threading
import weakref
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

import keras

from nst_tf.config import NetworkSettings
from nst_tf.engine.cluster_worker import Recipe, package_versions
from nst_tf.engine.pyramid import SideLimit
from nst_tf.errors import InputError
from nst_tf.models import layer_features, vgg19_features
from nst_tf.models.adain import ENCODER_LAYER, AdaIN
from nst_tf.models.weights import PACKAGED_SHA256, Parameters, load_vgg19
from nst_tf.objective.graphs import Objective
from nst_tf.objective.spec import ObjectiveSpec
from nst_tf.objective.tiled import TileFunctions

T = TypeVar("T")


class Networks:
    """Builds what a `Stylizer` computes with, when it is first needed.

    Args:
        settings: Weights, padding and pooling of VGG19.
        spec: The terms of the objective.
        weights: Parameters of VGG19; by default those that `settings` name.
        network: A Keras model with named layers in place of VGG19; it computes in its own types.
        adain: Whether AdaIN images will be made.
        convolutions: The class of the convolutions of VGG19 and of AdaIN.
    """

    def __init__(
        self,
        settings: NetworkSettings,
        spec: ObjectiveSpec,
        *,
        weights: Parameters | None = None,
        network: keras.Model | None = None,
        adain: bool = False,
        convolutions: type[keras.layers.Conv2D] = keras.layers.Conv2D,
    ) -> None:
        self._settings = settings
        self._spec = spec
        self._network = network
        self._convolutions = convolutions
        self._weights = weights  # None for those of the package, read when they are needed
        self._encodes = False
        known: Hashable
        if network is None:
            by_name = settings.weights == "normalised" and not settings.weights_sha256
            if weights is None and not by_name:
                weights = load_vgg19(settings.weights, settings.weights_sha256)
            known = weights.sha256 if weights else PACKAGED_SHA256
            self._encodes = adain and (known, settings.padding, settings.pooling) == _ENCODER
        else:
            known = weakref.ref(network)  # equal to others as long as the model lives
        # Arrays that were handed over have no name by which equal ones could be found.
        self._name = (
            (known, settings.padding, settings.pooling, convolutions, spec) if known else None
        )
        self._in_use: dict[str, Any] = {}

    def objective(self, precision: str) -> Objective:
        """Returns the objective with a network of "float32" or "bfloat16"."""
        if self._network is not None:
            return self._get("objective", self._of_given_network)
        return self._get(f"objective {precision}", lambda: self._of_vgg19(precision))

    def precision(self, chosen: str) -> str:
        """Returns what is computed in: "float32" or "bfloat16", as chosen for VGG19.

        Args:
            chosen: That of VGG19. Another network has the type of its activations.
        """
        if self._network is None:
            return chosen
        types = {output.dtype for output in self.objective("float32").network.outputs}
        return "bfloat16" if "bfloat16" in types else "float32"

    def adain(self, precision: str) -> AdaIN:
        """Returns the feed-forward network, computing in "float32" or "bfloat16"."""
        if self._encodes:
            network = self.objective(precision).network
            return self._get(
                f"AdaIN {precision}", lambda: AdaIN(network, **self._of_adain(precision))
            )
        return self._get(f"AdaIN alone {precision}", lambda: AdaIN(**self._of_adain(precision)))

    def tile_functions(self, precision: str) -> TileFunctions:
        """Returns what computes the tiles of large images, in "float32" or "bfloat16".

        Raises:
            InputError: The network is no VGG19.
        """
        if self._network is not None:
            raise InputError(
                "the image is too large to be evaluated at once",
                "another network than VGG19 cannot be evaluated in tiles",
                "use a smaller image_size, or more memory",
            )
        objective = self.objective(precision)
        return self._get(f"tiles {precision}", lambda: TileFunctions(objective))

    def recipe(self, precision: str) -> Recipe:
        """Returns what other processes build the same tile functions from."""
        return Recipe(
            self._settings,
            self._spec,
            self._weights,
            self._encodes,
            precision,
            package_versions(),
        )

    def _of_adain(self, precision: str) -> dict[str, Any]:
        return {"dtype": precision, "convolutions": self._convolutions}

    def side_limit(self) -> SideLimit | None:
        """Returns the shortest side that a network other than VGG19 can process."""
        if self._network is None or not self._spec.layers:
            return None
        strides = self.objective("float32").strides()
        deepest = max(strides, key=lambda layer: strides[layer])
        return SideLimit(deepest, strides[deepest])

    def _of_vgg19(self, precision: str) -> Objective:
        settings = self._settings
        weights = self._weights or load_vgg19("normalised")
        network = vgg19_features(
            dict.fromkeys([*self._spec.layers, ENCODER_LAYER]),
            weights.arrays,
            padding=settings.padding,
            pooling=settings.pooling,
            dtype=precision,
            convolutions=self._convolutions,
        )
        return Objective(network, self._spec, ENCODER_LAYER if self._encodes else None)

    def _of_given_network(self) -> Objective:
        layers = self._spec.layers
        network = layer_features(self._network, layers) if layers else self._network
        return Objective(network, self._spec)

    def shared(self, part: str, build: Callable[[], T]) -> T:
        """Finds what all objects of equal weights, settings and terms share, or builds it.

        Args:
            part: Its name.
            build: Builds it, where there is none yet.
        """
        return self._get(part, build)

    def _get(self, part: str, build: Callable[[], T]) -> T:
        """Finds what is in use anywhere, or builds it, and keeps it as long as this object lives.

        What was used last of VGG19 is kept beyond that, for calls of `nst_tf.stylize` one after the
        other. Otherwise each would build and trace its own beside what is left of the one before:
        Keras models contain reference cycles, and stay in memory until these are collected.
        """
        with _lock:
            if part not in self._in_use:
                self._in_use[part] = build() if self._name is None else self._shared(part, build)
            found: T = self._in_use[part]
        return found

    def _shared(self, part: str, build: Callable[[], T]) -> T:
        key = (part, self._encodes, self._name)
        found: T | None = _in_use_anywhere.get(key)
        if found is None:
            found = _in_use_anywhere[key] = build()
        if self._network is None:
            _keep(key, found)
        return found


_ENCODER = (PACKAGED_SHA256, "reflect", "max")
"""Weights, padding and pooling of the encoder that the AdaIN decoder was trained with."""


def _keep(key: tuple[Hashable, ...], value: object) -> None:
    """Keeps what was used last, and drops what belongs to other networks."""
    for other in [other for other in _used_last if other[1:] != key[1:]]:
        del _used_last[other]
    _used_last[key] = value


_used_last: dict[tuple[Hashable, ...], Any] = {}
_in_use_anywhere: weakref.WeakValueDictionary[Hashable, Any] = weakref.WeakValueDictionary()
_lock = threading.RLock()

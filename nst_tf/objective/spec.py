"""What the objective consists of: hashable, so that one graph serves each specification."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nst_tf.config import LossSettings
from nst_tf.errors import InputError
from nst_tf.losses import GRAIN, STYLE_LOSSES, StyleLoss

_TERMS = ("content", "style", "grain", "tv", "temporal")
"""What the names of the terms of settings begin with."""

JETS = ("jets", "jets of half size")
"""Names, among those of layers, of the differences of pixels whose statistics are the grain."""


@dataclass(frozen=True)
class ExtraLoss:
    """A loss term of the user's own.

    Attributes:
        name: Its name among the terms.
        function: From the image, [B, H, W, 3] RGB in [0, 255], and the activations by layer name,
            [B, h, w, N], to the loss, [B] or a scalar; made of TensorFlow operations.
        weight: What its value is multiplied by.
        layers: Layers whose activations it needs, beside those of the other terms.
    """

    name: str
    function: Callable[[Any, Mapping[str, Any]], Any]
    weight: float = 1.0
    layers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", tuple(self.layers))  # hashable, from a list, too


@dataclass(frozen=True)
class ObjectiveSpec:
    """The structure of an objective. Its weights are in `Targets`, and change without retracing.

    Attributes:
        content_layers: Layers with a content loss.
        style_layers: Layers with a style loss.
        style_loss: The kind of style loss.
        grain: Whether the grain of the pixels has a loss.
        tv_exponent: The exponent of the total variation loss; 0 where there is none.
        luminance_only: Whether only the luminance of the image is optimized.
        extra: Terms of the user's own.
    """

    content_layers: tuple[str, ...]
    style_layers: tuple[str, ...]
    style_loss: StyleLoss
    grain: bool = False
    tv_exponent: int = 0
    luminance_only: bool = False
    extra: tuple[ExtraLoss, ...] = ()

    @property
    def layers(self) -> tuple[str, ...]:
        """All layers whose activations are needed, each once."""
        names = [*self.content_layers, *self.style_layers]
        names += [layer for term in self.extra for layer in term.layers]
        return tuple(dict.fromkeys(names))

    @property
    def statistics(self) -> dict[str, StyleLoss]:
        """The style loss of each layer that has one, and of the jets."""
        losses = dict.fromkeys(self.style_layers, self.style_loss)
        return losses | dict.fromkeys(JETS if self.grain else (), GRAIN)


def spec_of(settings: LossSettings, extra: tuple[ExtraLoss, ...] = ()) -> ObjectiveSpec:
    """Leaves out what has no weight.

    Args:
        settings: Layers and weights.
        extra: Terms of the user's own.

    Returns:
        The structure of the objective.

    Raises:
        InputError: Two terms would have the same name.
    """
    _check_names([term.name for term in extra])
    return ObjectiveSpec(
        content_layers=tuple(layer_weights(settings.content_weight, settings.content_layers)),
        style_layers=tuple(layer_weights(settings.style_weight, settings.style_layers)),
        style_loss=STYLE_LOSSES[settings.style_loss],
        grain=bool(settings.grain_weight),
        tv_exponent=settings.tv_exponent if settings.tv_weight else 0,
        luminance_only=settings.original_colors == "luminance",
        extra=tuple(term for term in extra if term.weight),
    )


def term_weights(
    settings: LossSettings,
    extra: tuple[ExtraLoss, ...] = (),
    scales: Mapping[str, float] | None = None,
) -> dict[str, float]:
    """Returns the weight of each term of `spec_of(settings, extra)` by the term's name.

    Args:
        settings: Layers and weights.
        extra: Terms of the user's own.
        scales: Factors for the kinds "content", "style" and "tv"; 1 where left out.

    Returns:
        From "content/LAYER", "style/LAYER", "grain", "tv" and the names of extra terms to weights.
    """
    kinds = {
        "content": layer_weights(settings.content_weight, settings.content_layers),
        "style": layer_weights(settings.style_weight, settings.style_layers),
    }
    scales = scales or {}
    weights = {
        f"{kind}/{layer}": weight * scales.get(kind, 1.0)
        for kind, layers in kinds.items()
        for layer, weight in layers.items()
    }
    if settings.grain_weight:
        weights["grain"] = settings.grain_weight
    if settings.tv_weight:
        weights["tv"] = settings.tv_weight * scales.get("tv", 1.0)
    return weights | {term.name: term.weight for term in extra if term.weight}


def _check_names(names: Sequence[str]) -> None:
    for number, name in enumerate(names):
        if name in names[:number] or name.partition("/")[0] in _TERMS:
            raise InputError(
                f"an extra loss cannot have the name {name!r}",
                "another term has it",
                f"names must differ from each other and from {', '.join(_TERMS)}",
            )


def layer_weights(weight: float, layers: Mapping[str, float]) -> dict[str, float]:
    """Returns the product of a term's weight with those of its layers, without zeros."""
    return {layer: weight * share for layer, share in layers.items() if weight * share}

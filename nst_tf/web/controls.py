"""The settings that the page offers, described for it by their schema and validated by it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args, get_origin

from nst_tf.config import Config
from nst_tf.config.fields import coarse_levels, default_of
from nst_tf.errors import InputError, did_you_mean

_MAIN = ("preset", "strength", "image_size", "original_colors")
_MORE = (
    "num_iterations",
    "style_weight",
    "content_weight",
    "style_scale",
    "style_loss",
    "style_blend_weights",
    "style_strength",
    "grain_weight",
    "tv_weight",
    "init",
    "seed",
    "pyramid",
    "optimizer",
    "pooling",
    "padding",
)

_RANGES: Mapping[str, tuple[float, float]] = {
    "image_size": (64, 2048),
    "num_iterations": (0, 1000),
    "style_scale": (0.05, 4),
}
"""What the page allows where that is less than the command does."""

_KEYWORDS: Mapping[str, tuple[str, ...]] = {"init": ("adain", "content", "noise", "style")}
"""The values of settings that could name a file, which the page never does."""

_SHORT = 200
"""The longest text of a setting."""


class Control(NamedTuple):
    """A setting as the page offers it.

    Attributes:
        name: That of the setting.
        kind: How its values are given.
        default: Where no value is given.
        description: What it is.
        choices: The values of a choice.
        low: The smallest value of a number, or None.
        high: The largest value of a number, or None.
        is_main: Whether it is seen at once.
    """

    name: str
    kind: Literal["choice", "whole", "number", "text"]
    default: object
    description: str
    choices: tuple[str, ...]
    low: float | None
    high: float | None
    is_main: bool


def describe() -> list[Control]:
    """Returns the settings that the page offers, in its order."""
    return [_describe(name) for name in (*_MAIN, *_MORE)]


def _describe(name: str) -> Control:
    field = Config.model_fields[name]
    choices = _KEYWORDS.get(name, _literals(field.annotation))
    kind: Literal["choice", "whole", "number", "text"] = "text"
    if choices:
        kind = "choice"
    elif name in _RANGES or field.annotation in (int, float):
        kind = "whole" if field.annotation is not float else "number"
    limits = {
        bound: getattr(rule, bound)
        for rule in field.metadata
        for bound in ("ge", "le")
        if hasattr(rule, bound)
    }
    low, high = _RANGES.get(name, (limits.get("ge"), limits.get("le")))
    default = default_of(field)
    return Control(
        name,
        kind,
        default if isinstance(default, str | int | float) else "",
        field.description or "",
        choices if kind == "choice" else (),
        low,
        high,
        name in _MAIN,
    )


def _literals(annotation: object) -> tuple[str, ...]:
    return get_args(annotation) if get_origin(annotation) is Literal else ()


def check(settings: object) -> dict[str, Any]:
    """Checks the names and the ranges of settings that came from the page.

    Args:
        settings: Anything that JSON holds.

    Returns:
        The settings, which `configure` validates further.

    Raises:
        InputError: A setting is not among those that the page offers, or is beyond its range.
    """
    if not isinstance(settings, dict):
        raise InputError("the settings cannot be read", "they are no object", "reload the page")
    allowed = (*_MAIN, *_MORE)
    for name, value in settings.items():
        if name not in allowed:
            raise InputError(
                f"the page has no setting {name!r:.60}",
                "it offers a part of those of the command",
                did_you_mean(str(name), allowed),
            )
        if not isinstance(value, str | int | float):
            raise InputError(
                f"{name} cannot be read", "it is no text and no number", "reload the page"
            )
        if isinstance(value, str) and len(value) > _SHORT:
            raise InputError(
                f"{name} is too long", f"it has {len(value)} characters", f"write at most {_SHORT}"
            )
        if name in _KEYWORDS and value not in _KEYWORDS[name]:
            raise InputError(
                f"{name} cannot be {value!r:.60}",
                "the page takes keywords and no files",
                did_you_mean(str(value), _KEYWORDS[name]),
            )
    return settings


def configure(settings: Mapping[str, Any], **paths: Path | list[Path]) -> Config:
    """Validates the settings of a picture, as the command does, and with the limits of the page.

    Args:
        settings: Values by name.
        **paths: Those of the input and output files.

    Returns:
        All settings.

    Raises:
        InputError: A value is refused.
    """
    config = Config.from_mapping({**settings, **paths})
    for name in _RANGES:
        _check_range(name, getattr(config, name))
    if config.pyramid not in ("none", "auto"):
        for size, iterations in coarse_levels(config.pyramid):
            _check_range("image_size", size, "pyramid", "a size in it")
            _check_range("num_iterations", iterations, "pyramid", "its number of iterations")
    return config


def _check_range(ranged: str, value: object, name: str = "", what: str = "it") -> None:
    low, high = _RANGES[ranged]
    if not isinstance(value, int | float) or not low <= value <= high:
        raise InputError(
            f"{name or ranged} cannot be {value!r}",
            f"here, {what} is from {low:g} to {high:g}",
            "choose one of these, or use the command line",
        )

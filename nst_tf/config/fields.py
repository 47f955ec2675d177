"""The kinds of value that a setting can have: numbers, weights, files, layers."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, NamedTuple

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, ValidationInfo

from nst_tf.config.yaml import scalar
from nst_tf.errors import did_you_mean
from nst_tf.models.layers import LAYERS


class Source(NamedTuple):
    """Where a value was given.

    Attributes:
        place: For the message that refuses it: a file and line, or a flag.
        folder: What its relative paths are relative to.
    """

    place: str
    folder: Path = Path()


def _number(value: object) -> object:
    if isinstance(value, str) and re.fullmatch(r"[-+]?[0-9][0-9_]{0,60}", value):
        digits = value.replace("_", "").lstrip("+")
        raise ValueError(f"numbers are plain decimal digits, unquoted: write {int(digits)}")
    return value


def _whole(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else _number(value)


def _weight(value: float) -> float:
    if value != 0 and not 1e-12 <= value <= 1e12:
        raise ValueError("a weight is 0 or from 1e-12 to 1e12")
    return value


def _list(value: object) -> object:
    """Takes one value for a list of one, as in `style_image: a.jpg`."""
    if isinstance(value, list):
        return tuple(value)
    return (value,) if isinstance(value, str | Path | int | float) else value


def _numbers(value: object) -> object:
    """Takes the flag's `0.3,0.7` for a list."""
    if isinstance(value, str):
        value = [scalar(part.strip()) for part in value.split(",") if value.strip()]
    return _list(value)


def as_path(value: object, info: ValidationInfo) -> Path:
    """Makes a path absolute, starting from the folder of whoever gave it."""
    if not isinstance(value, str | Path):
        raise ValueError("a path is text, in quotes where it looks like a number")
    if not str(value) or "\0" in str(value):
        raise ValueError("a path is not empty and holds no NUL")
    source = (info.context or {}).get(info.field_name)
    try:
        return ((source.folder if source else Path()) / value).absolute()
    except OSError as error:
        raise ValueError("the current folder, which it is relative to, is gone") from error


def _layers(value: object) -> object:
    """Reads `a,b:0.5`, a list of such, or a mapping, into a mapping in the network's order."""
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",") if value.strip()]
    if isinstance(value, list | tuple):
        pairs = [_layer(item) for item in value]
        value = dict(pairs)
        if len(value) < len(pairs):
            raise ValueError("a layer is named twice")
    if not isinstance(value, Mapping):
        return value
    for name in value:
        if name not in LAYERS:
            raise ValueError(_unknown_layer(str(name)))
    return {name: value[name] for name in LAYERS if name in value}


def _layer(item: object) -> tuple[str, object]:
    if not isinstance(item, str):
        raise ValueError("a list holds layer names; for weights write a mapping of name: weight")
    name, colon, weight = item.partition(":")
    return name.strip(), scalar(weight.strip()) if colon else 1.0


def _layer_styles(value: object) -> object:
    """Reads `block1_conv1:2`, a list of such, or a mapping of layers to numbers of styles."""
    pairs = [part.strip() for part in value.split(",")] if isinstance(value, str) else value
    if isinstance(pairs, list) and not all(":" in str(pair) for pair in pairs if pair):
        raise ValueError("every layer needs the number of its style, as in block1_conv1:2")
    return _layers(value)


def _unknown_layer(name: str) -> str:
    """Suggests block4_conv2 for the papers' relu4_2 and Caffe's conv4_2."""
    keras = re.sub(r"^(?:relu|conv)([1-5])_([1-4])$", r"block\1_conv\2", name)
    near = did_you_mean(keras, LAYERS)
    names = "" if near.startswith("known are") else f" known are {', '.join(LAYERS)}"
    return f"unknown layer {shown(name)}; {near}{names}"


def coarse_levels(text: str) -> tuple[tuple[int, int], ...]:
    """Reads the levels of a pyramid that come before the last.

    Args:
        text: As in "128:80,256:40", sizes in pixels with their iterations, growing.

    Returns:
        Pairs of a size, the longer side in pixels, and the number of iterations there.

    Raises:
        ValueError: It is not that.
    """
    if not re.fullmatch(r"\s*\d{1,5}:\d{1,6}\s*(,\s*\d{1,5}:\d{1,6}\s*)*", text):
        raise ValueError("it is none, auto, or SIZE:ITERATIONS with commas, as in 128:80,256:40")
    pairs = [part.split(":") for part in text.split(",")]
    levels = tuple((int(size), int(iterations)) for size, iterations in pairs)
    sizes = [size for size, _ in levels]
    if sizes != sorted(set(sizes)) or sizes[0] == 0:
        raise ValueError("sizes grow from level to level")
    return levels


def _pyramid(text: str) -> str:
    if text not in ("none", "auto"):
        coarse_levels(text)
    return text


Whole = Annotated[int, BeforeValidator(_whole)]
StyleNumber = Annotated[Whole, Field(ge=1, le=64)]
Number = Annotated[float, Field(allow_inf_nan=False), BeforeValidator(_number)]
Weight = Annotated[Number, AfterValidator(_weight)]
File = Annotated[Path, BeforeValidator(as_path)]
Files = Annotated[tuple[File, ...], Field(max_length=64), BeforeValidator(_list)]
Weights = Annotated[tuple[Weight, ...], BeforeValidator(_numbers)]
Layers = Annotated[dict[str, Weight], BeforeValidator(_layers)]
LayerStyles = Annotated[dict[str, StyleNumber], BeforeValidator(_layer_styles)]
Pyramid = Annotated[str, AfterValidator(_pyramid)]
Sha256 = Annotated[str, StringConstraints(to_lower=True, pattern=r"^[0-9a-fA-F]{64}\z")]


def shown(value: object) -> str:
    """Writes any value in at most 60 characters."""
    try:
        text = repr(value)
    except ValueError:  # an integer of more digits than Python prints
        text = f"this {type(value).__name__}"
    return text if len(text) <= 60 else f"{text[:57]}..."

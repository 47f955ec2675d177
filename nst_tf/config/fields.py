"""Types of settings: numbers, weights, files, layers, and what is recorded of each setting."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, Generic, Literal, NamedTuple, TypeVar

import numpy as np
from PIL import ImageColor
from pydantic import (
    AfterValidator,
    BeforeValidator,
    ByteSize,
    Field,
    PlainSerializer,
    StringConstraints,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)
from pydantic.fields import FieldInfo

from nst_tf.config.yaml import scalar
from nst_tf.errors import did_you_mean
from nst_tf.models.layers import LAYERS, keras_name, suggest_layer
from nst_tf.system import expand_home

Value_co = TypeVar("Value_co", covariant=True)


class Source(NamedTuple):
    """The origin of a value.

    Attributes:
        place: The file and line, or the flag, for messages.
        folder: The folder to which relative paths refer.
        expands_home: Whether `~` in a path is the home folder, as in a shell.
    """

    place: str
    folder: Path = Path()
    expands_home: bool = False


@dataclass(frozen=True)
class Metadata:
    """Properties of a setting beside its type, default and description.

    Attributes:
        affects_result: Whether its value affects the pixels of the result. False for settings
            that name input files, since the content of those files counts in their place.
        repeatable: Whether its flag may be given several times.
    """

    affects_result: bool = True
    repeatable: bool = False


def setting(
    default: object,
    description: str,
    *,
    affects_result: bool = True,
    repeatable: bool = False,
    **constraints: Any,
) -> Any:
    """Declares a field of a section.

    Args:
        default: The default, in any form that the field accepts, or a function that returns it
            from the values of the settings before, by name.
        description: What it is, as a noun phrase, for `--help`, docstrings and messages.
        affects_result: See `Metadata`.
        repeatable: See `Metadata`.
        **constraints: Constraints of `pydantic.Field`, as in `ge=0`.

    Returns:
        The field, typed Any so that type checkers take the type from the annotation.
    """
    metadata = asdict(Metadata(affects_result, repeatable))
    given: Any = {"default_factory" if callable(default) else "default": default}
    return Field(**given, description=description, json_schema_extra=metadata, **constraints)


def default_of(field: FieldInfo) -> object:
    """Returns the default of a setting where no other setting is given."""
    return field.get_default(call_default_factory=True, validated_data={})


class FrozenDict(Mapping[str, Value_co]):
    """A hashable mapping that cannot be changed, and equals a dict of the same items.

    Args:
        items: The items, whose order is kept.
    """

    __slots__ = ("_items",)

    def __init__(self, items: Mapping[str, Value_co]) -> None:
        self._items = dict(items)

    def __getitem__(self, key: str) -> Value_co:
        return self._items[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __hash__(self) -> int:
        return hash(frozenset(self._items.items()))

    def __repr__(self) -> str:
        return repr(self._items)


def plain(value: object) -> object:
    """Converts scalars and arrays of NumPy and of libraries of tensors to values of Python.

    Args:
        value: Any.

    Returns:
        Numbers, truth values, text and lists in their place; any other value as it is.
    """
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(plain, value)) if type(value) in (list, tuple) else value
    if hasattr(value, "__array__"):
        try:
            return np.asarray(value).tolist()
        except Exception:  # noqa: BLE001 - tensors of any library raise anything
            return value
    return value


def synonyms(**meanings: str) -> BeforeValidator:
    """Returns a validator that understands the words that other programs have for a keyword.

    Args:
        **meanings: The keyword by the other word.
    """
    return BeforeValidator(
        lambda value: meanings.get(value, value) if isinstance(value, str) else value
    )


def _number(value: object) -> object:
    if isinstance(value, str) and re.fullmatch(r"[-+]?[0-9][0-9_]{0,60}", value):
        digits = value.replace("_", "").lstrip("+")
        raise ValueError(f"numbers are plain decimal digits, unquoted: write {int(digits)}")
    return value


def _whole(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else _number(value)


LEAST_WEIGHT = 1e-12
"""The smallest weight of a term of the loss beside 0."""


def _weight(value: float) -> float:
    if value != 0 and not LEAST_WEIGHT <= value <= 1e12:
        raise ValueError("a weight is 0 or from 1e-12 to 1e12")
    return value


def _is_list(value: object) -> bool:
    """Whether a value has items in an order: a sequence or an iterator, as of `Path.glob`."""
    return isinstance(value, Sequence | Iterator) and not isinstance(value, str | bytes | bytearray)


def _tuple(value: object) -> object:
    """Converts a list to a tuple, and a single value, as in `style_image: a.jpg`, to one of it."""
    if _is_list(value):
        return tuple(value)  # type: ignore[arg-type]  # it has items
    return (value,) if isinstance(value, str | os.PathLike | int | float) else value


def _numbers(value: object) -> object:
    """Reads text such as `0.3,0.7` as a list."""
    if isinstance(value, str):
        value = [scalar(part.strip()) for part in value.split(",") if value.strip()]
    return _tuple(value)


def as_path(value: object, info: ValidationInfo) -> Path:
    """Makes a path absolute.

    Args:
        value: Text or a path, relative to the folder of its `Source`, or to the current folder.
        info: Its context maps names of settings to their `Source`.

    Returns:
        The absolute path; `$HOME` and wildcards are taken literally, and so is `~`, unless its
        `Source` expands it.

    Raises:
        ValueError: It is neither, is empty or contains NUL, or the current folder was removed.
    """
    if not isinstance(value, str | os.PathLike) or not isinstance(os.fspath(value), str):
        raise ValueError("a path is text, in quotes where it looks like a number")
    path = os.fspath(value)
    if not path or "\0" in path:
        raise ValueError("a path is not empty and holds no NUL")
    source = (info.context or {}).get(info.field_name) or Source("")
    if source.expands_home:
        path = expand_home(path)
    try:
        return (source.folder / path).absolute()
    except OSError as error:
        raise ValueError("the current folder, which it is relative to, is gone") from error


def keyword_or_file(*keywords: str) -> BeforeValidator:
    """Returns a validator of a setting that is one of some keywords, or the path of a file.

    Args:
        *keywords: The keywords.

    Returns:
        A validator that keeps a keyword and makes any other text or path absolute, as text.
    """

    def validate(value: object, info: ValidationInfo) -> str:
        is_keyword = isinstance(value, str) and value in keywords
        return str(value) if is_keyword else str(as_path(value, info))

    return BeforeValidator(validate)


def _layers(value: object) -> object:
    """Reads `a,b:0.5`, a list of such, or a mapping, into a dict in the network's order."""
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",") if value.strip()]
    if _is_list(value):
        pairs = [_layer(item) for item in value]  # type: ignore[attr-defined]  # a sequence
        value = dict(pairs)
        if len(value) < len(pairs):
            raise ValueError("a layer is named twice")
    if not isinstance(value, Mapping):
        return value
    layers = {keras_name(str(name)): weight for name, weight in value.items()}
    if len(layers) < len(value):
        raise ValueError("a layer is named twice")
    for name in layers:
        if name not in LAYERS:
            raise ValueError(f"unknown layer {shown(name)}; {suggest_layer(name)}")
    return {name: layers[name] for name in LAYERS if name in layers}


def _layer(item: object) -> tuple[str, object]:
    if not isinstance(item, str):
        raise ValueError("a list holds layer names; for weights write a mapping of name: weight")
    name, colon, weight = item.partition(":")
    return name.strip(), scalar(weight.strip()) if colon else 1.0


def _layer_styles(value: object) -> object:
    """Reads `block1_conv1:2`, a list of such, or a mapping of layers to numbers of styles."""
    pairs = [part.strip() for part in value.split(",")] if isinstance(value, str) else value
    if isinstance(pairs, list | tuple) and not all(":" in str(pair) for pair in pairs if pair):
        raise ValueError("every layer needs the number of its style, as in block1_conv1:2")
    return _layers(value)


def coarse_levels(text: str) -> tuple[tuple[int, int], ...]:
    """Reads the levels of a pyramid that come before the last.

    Args:
        text: As in "128:80,256:40": sizes in pixels with their iterations, in growing order.

    Returns:
        Pairs of a size, the longer side in pixels, and the number of iterations at it.

    Raises:
        ValueError: The text has another form, or the sizes do not grow.
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


def _background(value: object) -> object:
    """Reads a color by name, as `#rrggbb` or as three numbers, into a keyword or `#rrggbb`."""
    if value == KEEP:
        return value
    if isinstance(value, str) and re.fullmatch(r"\d+(\s*,\s*\d+){2}", value):
        value = [int(part) for part in value.split(",")]
    if isinstance(value, Sequence) and not isinstance(value, str):
        color = tuple(value)
    elif isinstance(value, str):
        color = ImageColor.getrgb(f"#{value}" if re.fullmatch("[0-9a-fA-F]{6}", value) else value)
    else:
        return value
    levels = range(256)
    if len(color) != 3 or not all(type(part) is int and part in levels for part in color):
        raise ValueError("a color has three whole numbers from 0 to 255")
    written = "#{:02x}{:02x}{:02x}".format(*color)
    return {"#ffffff": "white", "#000000": "black"}.get(written, written)


KEEP: Literal["keep"] = "keep"
"""The value of `background` that keeps the transparency of the content image."""


def _size(value: object, handler: ValidatorFunctionWrapHandler) -> int | str:
    if isinstance(value, str) and value in (CONTENT_SIZE, PRINT_SIZE):
        return value
    size: int = handler(value)
    if not 1 <= size <= LARGEST_SIZE:
        raise ValueError(f"it should be from 1 to {LARGEST_SIZE}")
    return size


CONTENT_SIZE: Literal["content"] = "content"
"""The value of `image_size` that means the content image's own size."""

PRINT_SIZE: Literal["print"] = "print"
"""The value of `image_size` that means the size that follows from `print_size`."""

LARGEST_SIZE = 32768
"""The longest side of a result, in pixels."""

UNITS_PER_INCH: Mapping[str, float] = MappingProxyType({"cm": 2.54, "mm": 25.4, "in": 1.0})
"""The units of a print's size."""

_LENGTH = r"(\d{1,6}(?:\.\d{1,6})?|\.\d{1,6})"


class PrintLength(NamedTuple):
    """The sides of the rectangle that a print fits into, in either orientation.

    Attributes:
        longer: The longer side.
        shorter: The other one; as long where only one length is given.
        unit: One of `UNITS_PER_INCH`.
    """

    longer: float
    shorter: float
    unit: str


def print_length(text: str) -> PrintLength:
    """Reads the size of a print.

    Args:
        text: As in "42x29.7cm", or "42cm" for the longer side alone.

    Returns:
        The sides.

    Raises:
        ValueError: The text has another form, or the unit is unknown.
    """
    found = re.fullmatch(rf"\s*{_LENGTH}(?:\s*[xX]\s*{_LENGTH})?\s*([^\W\d]*)\s*", text)
    if not found:
        raise ValueError("it is one length or two, and a unit, as in 42x29.7cm or 42cm")
    one, other, unit = float(found[1]), float(found[2] or found[1]), found[3].lower()
    if not unit:
        raise ValueError(f"it has no unit; write {text.strip()}cm, or mm, or in for inches")
    if unit not in UNITS_PER_INCH:
        raise ValueError(f"the unit {unit} is unknown; {did_you_mean(unit, UNITS_PER_INCH)}")
    if not one or not other:
        raise ValueError("a length is more than 0")
    return PrintLength(max(one, other), min(one, other), unit)


TIMELAPSE_SUFFIXES = (".webp", ".gif", ".mp4")
"""The formats of a time-lapse."""


def _timelapse(path: Path) -> Path:
    suffix = path.suffix.lower()
    if suffix not in TIMELAPSE_SUFFIXES:
        hint = did_you_mean(suffix, TIMELAPSE_SUFFIXES)
        raise ValueError(f"it ends in {suffix or 'no suffix'}; {hint}")
    return path


def _print_size(value: object) -> str:
    """Reads the size of a print, and writes it in one form."""
    if not isinstance(value, str):
        raise ValueError("it is text with a unit, as in 42x29.7cm or 42cm")
    longer, shorter, unit = print_length(value)
    sides = [longer] if longer == shorter else [longer, shorter]
    return "x".join(f"{side:.12g}" for side in sides) + unit


Whole = Annotated[int, BeforeValidator(_whole)]
Number = Annotated[float, Field(allow_inf_nan=False), BeforeValidator(_number)]
Weight = Annotated[Number, AfterValidator(_weight)]
Pyramid = Annotated[str, AfterValidator(_pyramid)]
PrintSize = Annotated[str, BeforeValidator(_print_size)]
Sha256 = Annotated[str, StringConstraints(to_lower=True, pattern=r"^[0-9a-fA-F]{64}\z")]

# A field of these types accepts more types than it stores. Type checkers take the parameter of a
# constructor from `__set__` of a descriptor, and an attribute from its `__get__`.
if TYPE_CHECKING:
    _Stored_co = TypeVar("_Stored_co", covariant=True)
    _Accepted_contra = TypeVar("_Accepted_contra", contravariant=True)

    class _Converted(Generic[_Stored_co, _Accepted_contra]):
        def __get__(self, instance: object, owner: type) -> _Stored_co: ...
        def __set__(self, instance: object, value: _Accepted_contra) -> None: ...

    Background = _Converted[str, str | Sequence[int]]
    Bytes = _Converted[int, int | str]
    ImageSize = int | Literal["content", "print"]
    File = _Converted[Path, str | Path]
    OptionalFile = _Converted[Path | None, str | Path | None]
    TimelapseFile = _Converted[Path | None, str | Path | None]
    Files = _Converted[tuple[Path, ...], str | Path | Sequence[str | Path]]
    KeywordOrFile = _Converted[str, str | Path]
    Weights = _Converted[tuple[float, ...], str | float | Sequence[float]]
    Layers = _Converted[FrozenDict[float], str | Sequence[str] | Mapping[str, float]]
    LayerStyles = _Converted[FrozenDict[int], str | Sequence[str] | Mapping[str, int]]
else:
    _Frozen = (AfterValidator(FrozenDict), PlainSerializer(dict))
    _StyleNumber = Annotated[Whole, Field(ge=1, le=64)]

    Background = Annotated[str, BeforeValidator(_background)]
    Bytes = Annotated[ByteSize, AfterValidator(int)]
    ImageSize = Annotated[Whole, WrapValidator(_size), PlainSerializer(lambda size: size)]
    File = Annotated[Path, BeforeValidator(as_path)]
    OptionalFile = File | None
    TimelapseFile = Annotated[File, AfterValidator(_timelapse)] | None
    Files = Annotated[tuple[File, ...], Field(max_length=64), BeforeValidator(_tuple)]
    KeywordOrFile = str
    Weights = Annotated[tuple[Weight, ...], BeforeValidator(_numbers)]
    Layers = Annotated[dict[str, Weight], BeforeValidator(_layers), *_Frozen]
    LayerStyles = Annotated[dict[str, _StyleNumber], BeforeValidator(_layer_styles), *_Frozen]


def shown(value: object) -> str:
    """Writes any value in at most 60 characters."""
    try:
        text = repr(value)
    except ValueError:  # an integer of more digits than Python prints
        text = f"this {type(value).__name__}"
    return text if len(text) <= 60 else f"{text[:57]}..."

"""The flags of a batch: several images and sweeps."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from nst_tf.batch.plan import Picture, combinations, expand, is_folder, is_pattern, pictures
from nst_tf.config import Config
from nst_tf.config.yaml import scalar
from nst_tf.errors import InputError, did_you_mean
from nst_tf.io import images
from nst_tf.system import expand_home

BATCH_FLAGS = {
    "output_dir": "the folder of the results, which are named CONTENT_STYLE",
    "output_format": "the format of the results: png, jpg, webp, tiff or avif",
    "sweep": "NAME=VALUE,VALUE: an image of each value of a setting; repeated, of each combination",
    "contact_sheet": "the image file that shows all results of a sweep, sweep.png when left out",
    "cell_size": "the width in pixels at which it shows each of them, 256 when left out",
}
"""Flags that make a batch of a command, in the order of the help, with their descriptions."""

_MAKE_NO_BATCH = ("contact_sheet", "cell_size")
_CELL_SIZE = 256


@dataclass(frozen=True)
class Asked:
    """What the words of a command ask for.

    Attributes:
        contents: The content images; none where a file of settings gives it.
        styles: The style images that make images of their own; none where they blend.
        each: Whether each style makes images of its own.
        flags: The values of `BATCH_FLAGS` that are given.
        settings: The names of the settings that are given as flags.
    """

    contents: Sequence[Path]
    styles: Sequence[Path]
    each: bool
    flags: Mapping[str, Any]
    settings: Collection[str]


class BatchCommand(NamedTuple):
    """A batch that a command asks for.

    Attributes:
        pictures: The images to make.
        workers: The number of processes; 0 for this one.
        cluster: The address of a dask scheduler, or "".
        contact_sheet: The file of the contact sheet; None where nothing is swept.
        cell_size: The width in pixels of each image on it.
    """

    pictures: list[Picture]
    workers: int = 0
    cluster: str = ""
    contact_sheet: Path | None = None
    cell_size: int = _CELL_SIZE


def take_files(given: dict[str, Any], flags: Mapping[str, Any], *, each: bool) -> Asked | None:
    """Finds the files that the words of a command name, and whether they make a batch.

    Args:
        given: The settings that flags give; what belongs to a batch is taken out, and patterns and
            folders of style images are replaced by their files.
        flags: The values of `BATCH_FLAGS` that are given.
        each: Whether each style makes images of its own.

    Returns:
        What makes the batch; None where one image is made.

    Raises:
        InputError: A folder or a pattern has no images, or a flag does not go with the others.
    """
    content_words = list(dict.fromkeys(map(expand_home, given.pop("content_image", []))))
    if len(content_words) > 1:  # "" is what a comma at the end leaves
        content_words = [word for word in content_words if word]
    is_batch = (
        each
        or any(name not in _MAKE_NO_BATCH for name in flags)
        or len(content_words) > 1
        or any(map(_stands_for_several, content_words))
    )
    output_dir = Path(expand_home(flags["output_dir"])) if "output_dir" in flags else Path()
    if "style_image" in given:
        words = [expand_home(word) for word in given["style_image"]]
        if any(map(_stands_for_several, words)):
            given["style_image"] = expand(words, "style_image", output_dir)
    if not is_batch:
        if content_words:
            given["content_image"] = content_words[0]
        for name in flags:
            remedy = "add --sweep NAME=VALUE,VALUE, or leave it out"
            raise InputError(f"--{name} has no use here", "it belongs to a sweep", remedy)
        return None
    if "output_image" in given:
        raise InputError(
            "--output_image names one image",
            "several are made, which are named CONTENT_STYLE",
            "give --output_dir=FOLDER and, for another format than PNG, --output_format",
        )
    contents = expand(content_words, "content_image", output_dir)
    styles: list[Path] = []
    if each and "style_image" in given:
        styles = [Path(expand_home(str(style))).absolute() for style in given.pop("style_image")]
    return Asked(contents, styles, each, flags, tuple(given))


def _stands_for_several(word: str) -> bool:
    return is_folder(word) or is_pattern(word)


def plan_batch(config: Config, asked: Asked) -> BatchCommand:
    """Plans the batch that a command asks for.

    Args:
        config: The settings of all images.
        asked: The files and the flags.

    Returns:
        The images to make, and how.

    Raises:
        InputError: A flag or a setting is wrong, an image is missing, or two results would have
            the same name.
    """
    flags = asked.flags
    output_dir, suffix = config.output_image.parent, config.output_image.suffix
    if "output_dir" in flags:
        output_dir = Path(expand_home(flags["output_dir"])).absolute()
    if "output_format" in flags:
        suffix = _suffix(flags["output_format"])
    images.check_output(Path(f"x{suffix}"), bit_depth=config.bit_depth)
    variants = combinations(_swept(flags.get("sweep", ())))
    planned = pictures(
        config.replace(workers=0, cluster=""),
        asked.contents,
        asked.styles,
        each=asked.each,
        variants=variants if "sweep" in flags else (),
        given=asked.settings,
        output_dir=output_dir,
        suffix=suffix,
    )
    sheet = output_dir / expand_home(flags.get("contact_sheet", "sweep.png"))
    if "contact_sheet" in flags:
        sheet = Path(expand_home(flags["contact_sheet"])).absolute()
    return BatchCommand(
        planned,
        workers=config.workers,
        cluster=config.cluster,
        contact_sheet=sheet if "sweep" in flags else None,
        cell_size=_whole_number("cell_size", flags.get("cell_size", _CELL_SIZE)),
    )


def _suffix(name: str) -> str:
    suffix = f".{name.lower().lstrip('.')}"
    if suffix not in images.FORMATS:
        hint = did_you_mean(suffix[1:], [known[1:] for known in images.FORMATS])
        raise InputError("--output_format is no format", f"it is {name!r}", hint)
    return suffix


def _swept(texts: Sequence[str]) -> dict[str, Mapping[str, object]]:
    """Reads NAME=VALUE,VALUE; with semicolons where values have commas themselves."""
    settings: dict[str, Mapping[str, object]] = {}
    for text in texts:
        name, equals, values = text.partition("=")
        name = name.strip().lstrip("-").replace("-", "_")
        if not equals:
            remedy = "write --sweep NAME=VALUE,VALUE, as in style_weight=1e4,1e5"
            raise InputError("cannot read --sweep", f"{text!r} has no values", remedy)
        if name in settings:
            raise InputError(
                f"cannot sweep {name}", "it is given twice", f"write {name}=VALUE,VALUE once"
            )
        parts = [part.strip() for part in values.split(";" if ";" in values else ",")]
        settings[name] = {part: _value(name, part) for part in parts if part}
    return settings


def _value(name: str, text: str) -> object:
    """Converts the text of a number or a truth value; the schema reads all other text."""
    field = Config.model_fields.get(name)
    return scalar(text) if field and field.annotation in (int, float, bool) else text


def _whole_number(name: str, text: object) -> int:
    value = scalar(str(text))
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise InputError(
            f"--{name} is no number", f"it is {text!r}", f"write a whole number, as in --{name}=2"
        )
    return value

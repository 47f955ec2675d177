"""Plans a batch: which images are made, with which settings, and under which names."""

import glob
import itertools
import os
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nst_tf.config import Config
from nst_tf.config.schema import brought_by, joint_name, name_part, require_files
from nst_tf.errors import InputError, did_you_mean
from nst_tf.io import images
from nst_tf.jobs.output import run_folder

_READ = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".tif", ".tiff", ".avif", ".bmp", ".gif",
    ".heic", ".heif",
)  # fmt: skip
"""Suffixes of the image files in a folder. A file that is named is read whatever its suffix is."""

_OF_PICTURES = {
    "content_image": "give several files to --content_image: each makes an image of its own",
    "style_image": "give several files to --style_image, with --each",
    "output_image": "images are named after their settings, in output_dir",
}
"""Settings that differ from image to image anyway, and what takes the place of sweeping them."""


@dataclass(frozen=True)
class Variant:
    """Settings in which images differ.

    Attributes:
        label: What they are, as a contact sheet says it.
        settings: Values by the name of their setting.
        columns: The same as text, by the name of a column in a table.
    """

    label: str
    settings: Mapping[str, object]
    columns: Mapping[str, str]


@dataclass(frozen=True)
class Picture:
    """One image of a batch.

    Attributes:
        config: All its settings.
        name: The name of its file, without suffix.
        pair: The part of the name that tells the content and the styles.
        variant: The settings in which it differs from others of the same content and styles.
    """

    config: Config
    name: str
    pair: str
    variant: Variant = field(default_factory=lambda: Variant("", {}, {}))


def expand(words: Iterable[str | Path], what: str, output_dir: Path | None = None) -> list[Path]:
    """Finds the files that words name: files, folders and patterns with `*`, `?`, `[` or `**`.

    Of a folder, all image files in it count, but not those in folders in it; of a pattern, the
    image files and folders that it matches. A file that exists is taken as itself.

    Args:
        words: Paths and patterns.
        what: What the files are, for messages, as in "content_image".
        output_dir: The folder of the results: those of earlier runs do not count as found.

    Returns:
        The files, in the order of the words and by name within each, none twice. A word that is
        neither a folder nor a pattern is among them, whether there is such a file or not.

    Raises:
        InputError: There is no image in a folder, or none that a pattern matches.
    """
    found: dict[Path, None] = {}
    for word in words:
        path = Path(word)
        if is_folder(word):
            matches = _images_in(path, output_dir)
            why = "there is no image file in the folder"
        elif is_pattern(word):
            names = [Path(name) for name in _glob(str(word))]
            matches = [match for name in names for match in _matches(name, output_dir)]
            why = "no image file matches the pattern"
        else:
            matches, why = [path], ""
        if not matches:
            kinds = ", ".join(suffix[1:] for suffix in _READ)
            raise InputError(
                f"{what} names no image", why, f"name files that end in {kinds}", where=word
            )
        found |= dict.fromkeys(Path(os.path.abspath(match)) for match in matches)  # noqa: PTH100 - removes ".."
    return list(found)


def is_folder(word: str | Path) -> bool:
    """Whether a word names a folder that exists; "" names none."""
    return word != "" and os.path.isdir(word)  # noqa: PTH112 - Path raises for long names


def is_pattern(word: str | Path) -> bool:
    """Whether a word is a pattern of names, and not the name of a file that exists."""
    return glob.has_magic(str(word)) and not os.path.lexists(word)


def _glob(pattern: str) -> list[str]:
    return sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207 - without hidden files


def _matches(path: Path, output_dir: Path | None) -> list[Path]:
    return _images_in(path, output_dir) if is_folder(path) else _found([path], output_dir)


def _images_in(folder: Path, output_dir: Path | None) -> list[Path]:
    names = sorted(folder.iterdir())
    return _found([name for name in names if not name.name.startswith(".")], output_dir)


def _found(paths: Iterable[Path], output_dir: Path | None) -> list[Path]:
    return [
        path
        for path in paths
        if path.suffix.lower() in _READ and path.is_file() and not _is_result(path, output_dir)
    ]


def _is_result(path: Path, output_dir: Path | None) -> bool:
    """Whether a file is a result of a run into the same folder."""
    if output_dir is None or path.parent.resolve() != output_dir.resolve():
        return False
    return run_folder(path).is_dir() or images.settings_of(path) is not None


def combinations(
    settings: Mapping[str, Sequence[object] | Mapping[str, object]],
) -> list[Variant]:
    """Combines all values of several settings.

    Args:
        settings: By the name of a setting its values, in a list or by the text that stands for
            each on a contact sheet and in names of files.

    Returns:
        All combinations; the values of the last setting vary fastest.

    Raises:
        InputError: A setting is unknown, has no values or one twice, or differs between images
            anyway.
    """
    for name in settings:
        if name not in Config.model_fields:
            hint = did_you_mean(name, Config.model_fields)
            raise InputError(f"cannot sweep {name!r}", "no setting has this name", hint)
        if name in _OF_PICTURES:
            raise InputError(
                f"cannot sweep {name}", "it differs between images anyway", _OF_PICTURES[name]
            )
    written = [_by_text(name, values).items() for name, values in settings.items()]
    variants = []
    for values in itertools.product(*written):
        columns = {name: text for name, (text, _) in zip(settings, values, strict=True)}
        label = ", ".join(f"{name} {text}" for name, text in columns.items())
        own = {name: value for name, (_, value) in zip(settings, values, strict=True)}
        variants.append(Variant(label, own, columns))
    return variants


def _by_text(name: str, values: Sequence[object] | Mapping[str, object]) -> Mapping[str, object]:
    by_text = values if isinstance(values, Mapping) else {str(value): value for value in values}
    if not by_text or len(by_text) < len(values):
        why = "one of its values is given twice" if by_text else "there are no values"
        raise InputError(f"cannot sweep {name}", why, f"give it several, as in {name}=A,B")
    return by_text


def pictures(
    config: Config,
    contents: Sequence[str | Path] = (),
    styles: Sequence[str | Path] = (),
    *,
    each: bool = False,
    variants: Sequence[Variant] = (),
    given: Collection[str] = (),
    output_dir: str | Path = ".",
    suffix: str = ".png",
) -> list[Picture]:
    """Plans the images of a batch: one for each content, of all styles or each, of each variant.

    They are named CONTENT_STYLE, after the stems of their files; where two stems are equal, after
    more of their paths.

    Args:
        config: The settings of all.
        contents: The content images; by default that of `config`.
        styles: The style images; by default those of `config`.
        each: Whether each style makes images of its own; otherwise all blend in each image.
        variants: The settings in which images differ.
        given: The names of settings of `config` that take precedence over what a preset or a
            strength of a variant brings.
        output_dir: The folder of the results.
        suffix: That of the results, which decides their format.

    Returns:
        What is to be made, with the variants of the same content and style side by side.

    Raises:
        InputError: An image is missing, a setting is refused, or two results would have the same
            name.
    """
    own_content = [config.content_image] if config.content_image else []
    content_files = [Path(content) for content in contents or own_content]
    style_files = [Path(style) for style in styles or config.style_image]
    if not content_files or not style_files:
        first = content_files[0] if content_files else None
        require_files(config.replace(content_image=first, style_image=style_files))
    if config.timelapse is not None:
        raise InputError(
            "timelapse names one file",
            "several images are made",
            "leave it out, or make the images one by one",
            where=config.timelapse,
        )
    groups = [[style] for style in style_files] if each else [style_files]
    content_names, style_names = unique_names(content_files), unique_names(style_files)
    parts = _name_parts(variants)
    planned = []
    for content, group in itertools.product(content_files, groups):
        pair = joint_name(content_names[content], [style_names[style] for style in group])
        for variant, part in zip(variants or [Variant("", {}, {})], parts or [""], strict=True):
            name = f"{pair}_{part}" if part else pair
            brought = brought_by(variant.settings)
            own = {
                "content_image": content,
                "style_image": group,
                **{setting: getattr(config, setting) for setting in given if setting in brought},
                **variant.settings,
                "output_image": Path(output_dir) / f"{name}{suffix}",
            }
            planned.append(Picture(config.replace(**own), name, pair, variant))
    _check_names(planned)
    return planned


def unique_names(paths: Iterable[Path]) -> dict[Path, str]:
    """Names files by their stems, and by more of their paths where these are equal.

    Args:
        paths: The files.

    Returns:
        A name for each, as it may be part of another file's name; names that differ in case only
        count as equal.
    """
    candidates = {path: _candidates(path) for path in paths}
    names = {path: options.pop(0) for path, options in candidates.items()}
    while True:
        counts = Counter(name.casefold() for name in names.values())
        unclear = [path for path, name in names.items() if counts[name.casefold()] > 1]
        if not any(candidates[path] for path in unclear):
            return names
        for path in unclear:
            if candidates[path]:
                names[path] = candidates[path].pop(0)


def _candidates(path: Path) -> list[str]:
    """Returns names for a file: its stem, with the folder, with the suffix, with all folders."""
    whole = f"{path.stem}-{path.suffix.lstrip('.')}"
    folders = [name_part(part, "") for part in path.parts[:-1]]
    names = [
        path.stem,
        "_".join([*folders[-1:], path.stem]),
        *("_".join([*folders[len(folders) - count :], whole]) for count in range(len(folders) + 1)),
    ]
    return [name_part(name, "image") for name in names]


def _name_parts(variants: Sequence[Variant]) -> list[str]:
    """Returns how variants are named in the names of files."""
    parts = []
    for variant in variants:
        texts = [f"{name}-{text}" for name, text in variant.columns.items()]
        part = name_part("_".join(texts).replace(" ", "_"), "variant")
        parts.append(re.sub("_+", "_", part))
    if len({part.casefold() for part in parts}) == len(parts):
        return parts
    digits = len(str(len(parts)))  # cut to the same beginning: numbers tell them apart
    return [f"{number:0{digits}d}_{part}" for number, part in enumerate(parts, start=1)]


def _check_names(planned: Sequence[Picture]) -> None:
    """Refuses images that would be saved under the same name, also where case does not count."""
    by_name: dict[str, Picture] = {}
    for picture in planned:
        other = by_name.setdefault(picture.name.casefold(), picture)
        if other is not picture:
            files = [each.config.content_image for each in (other, picture)]
            raise InputError(
                "two images would have the same name",
                f"those of {files[0]} and {files[1]}",
                "rename one of their files, or give them in two batches",
                where=picture.config.output_image,
            )

"""The output file of a job: its name and run folder, what is there already, encoding, reading."""

import errno
import hashlib
import json
import math
import os
import shutil
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import nst_tf
from nst_tf.config import Config
from nst_tf.config.files import portable, recall_config, settings_affecting_result
from nst_tf.config.yaml import read_mapping
from nst_tf.errors import InputError, MachineError, warn
from nst_tf.image.arrays import PIXEL_RANGE, ImageArray, Pixels, quantize
from nst_tf.image.masks import Mask
from nst_tf.io import images
from nst_tf.jobs.provenance import Facts, differences, input_files
from nst_tf.jobs.record import read_record

_MAX_NAME = 255
"""Bytes of a file name on the file systems in use."""

_MAX_SETTINGS = {"JPEG": 60_000}
_MAX_SETTINGS_ELSEWHERE = 900_000
"""Characters of settings: a JPEG's Exif ends at 64 KB, and of a PNG's text Pillow reads 1 MB."""

_LISTS_OF_FILES = ("style_image", "content_masks", "style_masks")
_ANOTHER = "choose another --output_image"
_LOSSY = ("JPEG", "AVIF")


def run_folder(path: Path) -> Path:
    """Returns the folder beside an image for its record: the file's name with ".run" at the end.

    Args:
        path: The image file.
    """
    name = path.name
    if len(os.fsencode(name)) + 4 > _MAX_NAME:
        digest = hashlib.sha256(os.fsencode(name)).hexdigest()[:8]
        name = f"{_cut(name, _MAX_NAME - 13)}-{digest}"
    return path.with_name(f"{name}.run")


def numbered(path: Path, number: int) -> Path:
    """Returns the name of an image with a number, as in "x-2.png"; the name itself for number 1."""
    if number == 1:
        return path
    end = f"-{number}{path.suffix}"
    return path.with_name(_cut(path.stem, _MAX_NAME - len(os.fsencode(end))) + end)


def _cut(text: str, size: int) -> str:
    while len(os.fsencode(text)) > size:
        text = text[:-1]
    return text


def record_folder(path: Path) -> Path:
    """Returns the folder with the record of an image: its run folder, or one of an older version.

    Version 0.1 left out the suffix, so that `z.run` may be of `z.png` or of another image.

    Args:
        path: The image file.
    """
    folder, old = run_folder(path), path.with_suffix(".run")
    is_new = not any(folder.glob("[!.]*"))  # or locked, and nothing more yet
    if is_new and old.is_dir():
        try:
            values, _ = read_mapping(old / "config.yaml")
            if Path(str(values.get("output_image"))).name == path.name:
                return old
        except InputError:  # it has none, or one of another program
            pass
    return folder


@dataclass(frozen=True)
class Occupant:
    """What there is under the name of an output.

    Attributes:
        path: The image file.
        folder: The folder with its record and its checkpoints.
        record: The content of `run.json`, if it is of this image; or of one that is gone.
        exists: Whether there is a file.
        is_own: Whether nst_tf wrote it.
        is_finished: Whether it is finished, or may be, as nothing is known of it.
        settings: The settings stored in the image, or None.
    """

    path: Path
    folder: Path
    record: Mapping[str, Any]
    exists: bool
    is_own: bool
    is_finished: bool
    settings: str | None

    @property
    def is_protected(self) -> bool:
        """Whether only a finished image may take its place, and only where that is asked for."""
        return self.exists and (self.is_finished or not self.is_own)

    @property
    def fingerprint(self) -> Facts | None:
        """What the image depends on; None where that is not known."""
        # Records before version 0.2 say "identity".
        facts: Facts | None = self.record.get("fingerprint", self.record.get("identity"))
        return facts

    def is_of(self, config: Config, fingerprint: Facts) -> bool:
        """Whether the image is that of a job.

        Args:
            config: The settings of the job.
            fingerprint: What its result depends on.
        """
        if self.fingerprint is not None:
            return not differences(self.fingerprint, fingerprint)
        return self.settings is not None and self._has_settings(self.settings, config)

    def _has_settings(self, settings: str, config: Config) -> bool:
        """Whether an image without a record has the settings of a job, and no newer input files."""
        try:
            made = recall_config(settings, self.path)
        except InputError:
            return False
        files = input_files(config)
        if settings_affecting_result(made) != settings_affecting_result(config):
            return False
        if [*map(os.path.realpath, input_files(made))] != [*map(os.path.realpath, files)]:
            return False
        made_at = self.path.stat().st_mtime
        return all(file.exists() and file.stat().st_mtime <= made_at for file in files)


def inspect(path: Path) -> Occupant:
    """Looks at what there is under the name of an output.

    Args:
        path: The image file; it need not exist.

    Returns:
        What there is.
    """
    folder = record_folder(path)
    record = read_record(folder)
    if not os.path.lexists(path):
        return Occupant(path, folder, record, False, False, False, None)
    settings = images.settings_of(path)
    digest = record.get("output_sha256")  # which records before version 0.2 do not have
    if digest is not None and digest != _digest(path):  # it is another image
        return Occupant(path, folder, {}, True, settings is not None, True, None)
    is_own = digest is not None or settings is not None
    is_finished = bool(record.get("finished", True))
    return Occupant(path, folder, record, True, is_own, is_finished, settings)


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


def check_output(config: Config, overwrite: bool) -> None:
    """Refuses an output file that cannot be written, or that would replace somebody's file.

    Args:
        config: The output and the inputs.
        overwrite: Whether a file may be replaced that nst_tf did not write.

    Raises:
        InputError: The format is unknown, or the output is one of the inputs.
        MachineError: The name is taken or too long, or the folder cannot be written.
    """
    path = config.output_image
    images.check_output(path, bit_depth=config.bit_depth)
    if why := _obstacle(path):
        raise MachineError("cannot write the image", why, _ANOTHER, where=path)
    check_folder(path.parent, _ANOTHER)
    for file in input_files(config):
        if file.exists() and path.exists() and file.samefile(path):
            raise InputError(
                "the output would replace an input", f"both are {file}", _ANOTHER, where=path
            )
    occupant = inspect(path)
    if occupant.exists and not occupant.is_own and not overwrite:
        raise MachineError(
            "the output exists",
            "nst_tf did not write that file",
            f"{_ANOTHER}, or replace it with --overwrite",
            where=path,
        )


def _obstacle(path: Path) -> str:
    """Returns why no file can be written under a name, or ""."""
    if any(len(os.fsencode(part)) > _MAX_NAME for part in path.parts):
        return f"a name in it has more than {_MAX_NAME} bytes"
    try:
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode):
            mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return "it is a link to a file that does not exist" if path.is_symlink() else ""
    except OSError as error:
        loop = error.errno == errno.ELOOP
        return "its symbolic links form a loop" if loop else error.strerror or str(error)
    if stat.S_ISDIR(mode):
        return "it is a folder"
    return "" if stat.S_ISREG(mode) else "it is not a regular file"


def check_folder(folder: Path, remedy: str) -> None:
    """Refuses a folder that cannot be written; where it does not exist, the nearest above it.

    Args:
        folder: The folder of an output.
        remedy: What to do about it.

    Raises:
        MachineError: It is no folder, or there is no permission.
    """
    found = _nearest(folder)
    if not found.is_dir():
        broken = found.is_symlink() and not found.exists()
        why = "it is a link that leads nowhere" if broken else "it is a file"
    elif not os.access(found, os.W_OK | os.X_OK):
        why = "there is no permission to write there, or the disk is read-only"
    else:
        return
    raise MachineError("cannot write to the folder", why, remedy, where=found)


def _nearest(folder: Path) -> Path:
    return next(found for found in (folder, *folder.parents) if os.path.lexists(found))


def check_space(config: Config, shape: tuple[int, int]) -> None:
    """Refuses an image that would not fit on the disk.

    Args:
        config: The output file, its bits and its quality.
        shape: Height and width of the image.

    Raises:
        MachineError: There is less space than the image may take.
    """
    path = config.output_image
    needed = 3 * math.prod(shape) * config.bit_depth // 8
    if images.FORMATS[path.suffix.lower()] in _LOSSY or 0 < config.quality < 100:
        needed //= 2
    try:
        free = shutil.disk_usage(_nearest(path.parent)).free
    except OSError:  # the file system does not tell
        return
    if needed > free:
        raise MachineError(
            "the disk is full",
            f"the result takes up to {needed / 1e6:.1f} MB, and {free / 1e6:.1f} MB are free",
            f"free some space or {_ANOTHER}",
            where=path.parent,
        )


def check_settings(config: Config) -> None:
    """Warns where the settings do not fit into the metadata of the output file."""
    if config.metadata == "none":
        return
    text = _settings(config, config.output_image.suffix)
    if not text:
        return
    kept = json.loads(text)
    left_out = [name for name, value in portable(config).items() if value and name not in kept]
    if left_out:
        names = ", ".join(left_out) if len(kept) > 1 else "all of them"
        warn(
            f"the settings are too long for the metadata of {config.output_image.name}: {names} "
            "are left out there; config.yaml in the run folder has them"
        )


def _settings(config: Config, suffix: str) -> str:
    """Writes the settings as JSON; without lists of files, or without any, where it gets long."""
    if config.metadata == "none":
        return ""
    limit = _MAX_SETTINGS.get(images.FORMATS[suffix.lower()], _MAX_SETTINGS_ELSEWHERE)
    version = {"nst_tf": nst_tf.__version__}
    values = portable(config)
    without_lists = {name: values[name] for name in values if name not in _LISTS_OF_FILES}
    texts = (json.dumps({**version, **kept}) for kept in (values, without_lists, {}))
    return next(text for text in texts if len(text) <= limit)


def encode(
    pixels: Pixels,
    suffix: str,
    config: Config,
    profile: bytes | None,
    quality: int = 0,
    alpha: Mask | None = None,
) -> bytes:
    """Encodes an image with the settings that made it.

    Args:
        pixels: RGB [H, W, 3].
        suffix: Of the file, which decides the format.
        config: All settings.
        profile: The ICC profile of the pixels; None for sRGB.
        quality: Of lossy formats.
        alpha: The opacity of the pixels, [H, W] in [0, 1]; None where all is opaque.

    Returns:
        The bytes of the file.
    """
    settings = _settings(config, suffix)
    if alpha is not None:
        opacity = quantize(alpha * PIXEL_RANGE[1], 8 * pixels.itemsize)
        pixels = np.concatenate([pixels, opacity[:, :, np.newaxis]], axis=2)
    return images.encode(
        pixels, suffix, settings, quality=quality, profile=profile, dpi=config.print_dpi
    )


def read_back(
    path: Path, shape: tuple[int, ...], config: Config, profile: bytes | None
) -> ImageArray:
    """Reads the image that was saved.

    Args:
        path: The file.
        shape: Of the pixels that were saved.
        config: `max_pixels`.
        profile: The ICC profile of the pixels.

    Returns:
        RGB float32 [H, W, 3] in [0, 255].

    Raises:
        MachineError: It cannot be read.
    """
    what, remedy = "the result cannot be read back", "check the disk and run again"
    try:
        largest = images.MAX_RESULT_BYTES
        image = images.read_layers(path, config.max_pixels, profile, largest).rgb
    except InputError as error:
        raise MachineError(what, str(error), remedy, where=path) from error
    if image.shape != shape:
        raise MachineError(what, f"it has shape {image.shape}, not {shape}", remedy, where=path)
    return image

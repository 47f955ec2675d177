"""Saves the image of a job, and reads it back from the file."""

import json
from pathlib import Path

import nst_tf
from nst_tf.config import Config
from nst_tf.config.files import portable
from nst_tf.errors import InputError, MachineError
from nst_tf.image.arrays import ImageArray, Pixels
from nst_tf.io import files, images


def encode(
    pixels: Pixels, suffix: str, config: Config, profile: bytes | None, quality: int = 0
) -> bytes:
    """Encodes an image with the settings that made it.

    Args:
        pixels: RGB [H, W, 3].
        suffix: Of the file, which decides the format.
        config: All settings.
        profile: The ICC profile of the pixels; None for sRGB.
        quality: Of lossy formats.

    Returns:
        The bytes of the file.
    """
    settings = json.dumps({"nst_tf": nst_tf.__version__, **portable(config)})
    return images.encode(pixels, suffix, settings, quality=quality, profile=profile)


def save(path: Path, data: bytes, *, replace: bool) -> Path:
    """Writes the image file, beside another file that has meanwhile taken its name.

    Args:
        path: The name asked for.
        data: The bytes of the file.
        replace: Whether a file of that name may be replaced.

    Returns:
        The file written: `path`, or with "-1", "-2" ... before the suffix.

    Raises:
        MachineError: It cannot be written.
    """
    free, number = path, 0
    while True:
        try:
            files.atomic_write(free, data, replace=replace)
        except FileExistsError:
            number += 1
            free = path.with_stem(f"{path.stem}-{number}")
        else:
            return free


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
        image = images.read(path, config.max_pixels, profile)
    except InputError as error:
        raise MachineError(what, str(error), remedy, where=path) from error
    if image.shape != shape:
        raise MachineError(what, f"it has shape {image.shape}, not {shape}", remedy, where=path)
    return image

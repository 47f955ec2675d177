"""Reads and checks the input files of a job, before TensorFlow is imported."""

import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nst_tf.config import Config
from nst_tf.config.fields import KEEP, UNITS_PER_INCH, print_length
from nst_tf.config.schema import require_files
from nst_tf.engine import pyramid
from nst_tf.errors import InputError
from nst_tf.image import masks
from nst_tf.image.arrays import PIXEL_RANGE, ImageArray
from nst_tf.image.masks import Mask
from nst_tf.image.resize import reduce
from nst_tf.io import images
from nst_tf.models import weights

_DECIMALS = {"cm": 1, "mm": 0, "in": 2}
"""In which the size of a print is told."""


@dataclass(frozen=True)
class Inputs:
    """Decoded and checked input files, reduced to the largest size that any level needs.

    Attributes:
        content: RGB float32 [H, W, 3] in [0, 255].
        styles: The same, each of its own size.
        content_masks: [h, w] in [0, 1], one for each region.
        style_masks: The same.
        initial: The image that `init` names, or None.
        profile: The ICC profile of the pixels of all images; None for sRGB.
        levels: The sizes of the optimization, from coarse to fine.
        alpha: The opacity of the result, [H, W] in [0, 1] of its size; None where all is opaque.
        notes: The size of the print, and what was taken as the region of each mask, one line each.
        largest_pixels: The number of pixels of the largest file.
    """

    content: ImageArray
    styles: list[ImageArray]
    content_masks: list[Mask]
    style_masks: list[Mask]
    initial: ImageArray | None
    profile: bytes | None
    levels: tuple[pyramid.Level, ...]
    alpha: Mask | None = None
    notes: tuple[str, ...] = ()
    largest_pixels: int = 0

    @property
    def num_iterations(self) -> int:
        """Iterations over all levels."""
        return sum(level.num_iterations for level in self.levels)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the result."""
        return self.levels[-1].shape

    def by_name(self) -> dict[str, ImageArray | Mask | None]:
        """Returns all images by the name of the setting that gives them."""
        named: dict[str, ImageArray | Mask | None] = {"content_image": self.content}
        for name, group in (
            ("style_image", self.styles),
            ("content_masks", self.content_masks),
            ("style_masks", self.style_masks),
        ):
            named |= {f"{name} {number}": image for number, image in enumerate(group, 1)}
        if self.alpha is not None:
            named["the alpha of content_image"] = self.alpha
        return {**named, "the start": self.initial}


def read_inputs(config: Config) -> Inputs:
    """Reads all input images, and checks whatever can be wrong with them.

    Args:
        config: All settings.

    Returns:
        The images and the plan of levels.

    Raises:
        InputError: A file, a mask or a size is wrong.
        MachineError: The optimizer would need more memory than there is.
    """
    require_files(config)
    _check_presence(config)
    profile = None
    if config.color_profile == "keep" and config.content_image is not None:
        profile = images.profile_of(config.content_image)

    alpha: Mask | None = None
    notes: list[str] = []
    pixels: list[int] = []

    def read(path: Path) -> ImageArray:
        image = images.read(path, config.max_pixels, profile, config.background_color)
        pixels.append(image.shape[0] * image.shape[1])
        return image

    def read_content(path: Path) -> ImageArray:
        nonlocal alpha
        if config.background != KEEP:
            return read(path)
        colors, alpha, _ = images.read_layers(path, config.max_pixels, profile)
        pixels.append(colors.shape[0] * colors.shape[1])
        if alpha is None:
            return colors
        # Colors that nobody sees may be anything; those of soft edges are what the edges show.
        return np.where(alpha[:, :, np.newaxis] > 0, colors, np.float32(PIXEL_RANGE[1]))

    def read_mask(path: Path, name: str) -> Mask:
        mask, note = images.read_mask(path, name, config.max_pixels)
        notes.append(note)
        pixels.append(mask.size)
        return mask

    paths = [path for path in (config.content_image, *config.style_image) if path is not None]
    readers = [read_content, *[read] * len(config.style_image)]
    (content, *styles), levels = _read_reduced(paths, readers, config)
    last = levels[-1]
    longest = max(max(shape) for shape in (last.shape, *last.style_shapes))
    content_masks, style_masks = (
        [
            masks.reduce_mask(read_mask(path, f"{kind} mask {number}"), longest)
            for number, path in enumerate(files, 1)
        ]
        for kind, files in (("content", config.content_masks), ("style", config.style_masks))
    )
    initial = None
    if config.init_file is not None:
        initial = reduce(read(config.init_file), last.shape)
    shapes = [style.shape[:2] for style in styles]
    masks.build_regions(
        content_masks, style_masks, config.style_blend_weights, content.shape[:2], shapes
    )
    if config.print_dpi:
        notes.insert(0, _print_note(config, last.shape))
    images.check_output(
        config.output_image, last.shape, config.bit_depth, has_alpha=alpha is not None
    )
    return Inputs(
        content,
        styles,
        content_masks,
        style_masks,
        initial,
        profile,
        levels,
        None if alpha is None else masks.resize_mask(alpha, last.shape),
        tuple(notes),
        max(pixels),
    )


def _print_note(config: Config, shape: tuple[int, int]) -> str:
    """Describes the print in the unit that was given."""
    unit = print_length(config.print_size).unit if config.print_size else "cm"
    height, width = (
        f"{round(side * UNITS_PER_INCH[unit] / config.print_dpi, _DECIMALS[unit]):g}"
        for side in shape
    )
    note = f"{shape[1]}x{shape[0]} pixels, {width}x{height} {unit} at {config.print_dpi} dpi"
    return note if config.dpi else f"{note}, the default"


def _check_presence(config: Config) -> None:
    """Names the flags of all inputs that are not there, as those of an image that was moved."""
    named = {
        "content_image": (config.content_image,),
        "style_image": config.style_image,
        "content_masks": config.content_masks,
        "style_masks": config.style_masks,
        "init": (config.init_file,),
    }
    missing = {
        name: [path for path in paths if path and not os.path.lexists(path)]
        for name, paths in named.items()
    }
    flags = " ".join(f"--{name}=FILE" for name, paths in missing.items() if paths)
    if flags:
        first = next(path for paths in missing.values() for path in paths)
        remedy = f"say where it is now with {flags}"
        raise InputError("cannot read the image", "no such file", remedy, where=first)


def _read_reduced(
    paths: Sequence[Path], readers: Sequence[Callable[[Path], ImageArray]], config: Config
) -> tuple[list[ImageArray], tuple[pyramid.Level, ...]]:
    """Reads the content and the style images one by one, reduced to the largest size in use.

    Args:
        paths: The content image and the style images.
        readers: Reads each of them.
        config: The sizes.

    Returns:
        The images, and the plan for them.
    """
    given: list[pyramid.Shape] = []
    reduced: list[ImageArray] = []
    for path, read in zip(paths, readers, strict=True):
        image = read(path)
        given.append((image.shape[0], image.shape[1]))
        full = pyramid.full_size(given[0], given[1:], config)
        reduced.append(reduce(image, (full.shape, *full.style_shapes)[-1]))
        del image  # before the next one is read
    pyramid.plan(given[0], given[1:], config)  # refuses images that are too small as they are given
    shapes = [(image.shape[0], image.shape[1]) for image in reduced]
    return reduced, pyramid.plan(shapes[0], shapes[1:], config)


def load_weights(
    config: Config, executor: Executor | None
) -> tuple[str, Future[weights.Parameters] | None]:
    """Starts to read the network's weights.

    The weights of the package take a quarter of a second, in which TensorFlow can be imported.
    Where that was done by an earlier job, its networks may be there, too, and nothing is read. A
    file that the user gives is read and checked before this function returns.

    Args:
        config: `weights` and `weights_sha256`.
        executor: Reads the weights of the package; None where nothing is to be computed, for
            which nothing is downloaded.

    Returns:
        The SHA-256 of the file, "" where it is not here yet; and the weights, None where they are
        left to what needs them.

    Raises:
        InputError: The file cannot be used.
        MachineError: The download failed.
    """
    if config.weights == "normalised":
        if executor is None or ("keras" in sys.modules and not config.weights_sha256):
            return weights.PACKAGED_SHA256, None
        return weights.PACKAGED_SHA256, executor.submit(weights.load_vgg19, config.weights)
    if config.weights == "imagenet" and executor is None:
        return "", None
    future: Future[weights.Parameters] = Future()
    future.set_result(weights.load_vgg19(config.weights, config.weights_sha256))
    return future.result().sha256, future

"""Reads and checks the input files of a job, before TensorFlow is imported."""

from concurrent.futures import Executor, Future
from dataclasses import dataclass
from pathlib import Path

from nst_tf.config import Config
from nst_tf.config.schema import require_files
from nst_tf.engine import pyramid
from nst_tf.errors import InputError, MachineError
from nst_tf.image import masks
from nst_tf.image.arrays import ImageArray
from nst_tf.image.masks import Mask
from nst_tf.io import images
from nst_tf.models import weights


@dataclass(frozen=True)
class Inputs:
    """Decoded and checked input files.

    Attributes:
        content: RGB float32 [H, W, 3] in [0, 255].
        styles: The same, each of its own size.
        content_masks: [h, w] in [0, 1], one for each region.
        style_masks: The same.
        initial: The image that `init` names, or None.
        profile: The ICC profile of the pixels of all images; None for sRGB.
        levels: The sizes of the optimization, from coarse to fine.
    """

    content: ImageArray
    styles: list[ImageArray]
    content_masks: list[Mask]
    style_masks: list[Mask]
    initial: ImageArray | None
    profile: bytes | None
    levels: tuple[pyramid.Level, ...]

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
    profile = None
    if config.color_profile == "keep" and config.content_image is not None:
        profile = images.profile_of(config.content_image)

    def read(path: Path) -> ImageArray:
        return images.read(path, config.max_pixels, profile)

    def read_mask(path: Path) -> Mask:
        return masks.mask_from_image(images.read(path, config.max_pixels))

    content, *styles = map(read, filter(None, (config.content_image, *config.style_image)))
    content_masks = [read_mask(path) for path in config.content_masks]
    style_masks = [read_mask(path) for path in config.style_masks]
    initial = None if config.init_file is None else read(config.init_file)
    shapes = [style.shape[:2] for style in styles]
    levels = pyramid.plan(content.shape[:2], shapes, config)
    masks.build_regions(
        content_masks, style_masks, config.style_blend_weights, content.shape[:2], shapes
    )
    images.check_output(config.output_image, levels[-1].shape, config.bit_depth)
    return Inputs(content, styles, content_masks, style_masks, initial, profile, levels)


def load_weights(config: Config, executor: Executor) -> tuple[str, Future[weights.Parameters]]:
    """Starts to read the network's weights.

    The weights of the package take a quarter of a second, in which TensorFlow can be imported. A
    file that the user gives is read and checked before this function returns.

    Args:
        config: `weights` and `weights_sha256`.
        executor: Reads the weights of the package.

    Returns:
        The SHA-256 of the file, and the weights.

    Raises:
        InputError: The file cannot be used.
        MachineError: The download failed.
    """
    future = executor.submit(weights.load_vgg19, config.weights, config.weights_sha256)
    if config.weights == "normalised":
        return weights.PACKAGED_SHA256, future
    return future.result().sha256, future


def check_output(config: Config, overwrite: bool) -> None:
    """Refuses an output file that cannot be written, or that would replace somebody's file.

    Args:
        config: The output and the inputs.
        overwrite: Whether a file may be replaced that nst_tf did not write.

    Raises:
        InputError: The format is unknown, or the output is one of the inputs.
        MachineError: The file exists and may not be replaced.
    """
    output = config.output_image
    images.check_output(output, bit_depth=config.bit_depth)
    for path in (config.content_image, *config.style_image, config.init_file):
        if path is not None and path.exists() and output.exists() and path.samefile(output):
            raise InputError(
                "the output would replace an input",
                f"both are {path}",
                "choose another --output_image",
                where=output,
            )
    if output.exists() and not overwrite and images.settings_of(output) is None:
        raise MachineError(
            "the output exists",
            "nst_tf did not write that file",
            "choose another --output_image, or replace it with --overwrite",
            where=output,
        )

"""Plans a job without running it: everything that it would be refused for is checked."""

import math
from dataclasses import dataclass

from nst_tf import system
from nst_tf.config import Config
from nst_tf.config.schema import require_files
from nst_tf.engine import pyramid
from nst_tf.events import Planned, PlannedLevel
from nst_tf.io import images
from nst_tf.jobs import tensorboard, timelapse
from nst_tf.jobs.estimate import ResourceEstimate, check_memory, estimate
from nst_tf.jobs.inputs import read_inputs
from nst_tf.jobs.output import check_output, check_space


@dataclass(frozen=True)
class Outline:
    """What a job will take, as far as the headers of its images tell.

    Attributes:
        shape: Height and width of the result.
        work: Iterations times pixels, over all levels.
        expected: Memory and time.
    """

    shape: tuple[int, int]
    work: float
    expected: ResourceEstimate


def outline(config: Config) -> Outline:
    """Plans a job from the headers of its images, in a few milliseconds.

    Args:
        config: All settings, with content and style images.

    Returns:
        What the job will take.

    Raises:
        InputError: An image is not there or is none, or a size is wrong.
    """
    require_files(config)
    paths = [path for path in (config.content_image, *config.style_image) if path is not None]
    shapes = [images.shape_of(path, config.max_pixels) for path in paths]
    levels = pyramid.plan(shapes[0], shapes[1:], config)
    return Outline(
        levels[-1].shape,
        sum(level.num_iterations * math.prod(level.shape) for level in levels),
        estimate(levels, config, max(math.prod(shape) for shape in shapes)),
    )


def plan(config: Config, *, overwrite: bool = False, reusable: int = 0) -> Planned:
    """Plans a job; TensorFlow is imported only where there may be a GPU.

    Args:
        config: All settings, with content and style images.
        overwrite: As for `nst_tf.jobs.run`.
        reusable: Bytes of memory that other processes hold now and give back before the job.

    Returns:
        The sizes and iterations, and the memory and time that they are expected to take.

    Raises:
        InputError: An image or a size is wrong.
        MachineError: The output cannot be written, or memory does not suffice.
    """
    check_output(config, overwrite)
    timelapse.check(config)
    tensorboard.check(config)
    inputs = read_inputs(config)
    check_space(config, inputs.shape)
    expected = estimate(inputs.levels, config, inputs.largest_pixels)
    check_memory(expected, max(inputs.shape), config, reusable)
    return Planned(
        tuple(PlannedLevel(*level.shape, level.num_iterations) for level in inputs.levels),
        system.precision(config.precision, deterministic=config.deterministic),
        "CPU" if expected.seconds is not None else "GPU",
        *expected,
        notes=inputs.notes,
    )

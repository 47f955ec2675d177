"""Plans a job without running it: everything that it would be refused for is checked."""

import math
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from typing import NamedTuple

from nst_tf import system
from nst_tf.config import Config
from nst_tf.config.schema import require_files
from nst_tf.engine import pyramid
from nst_tf.events import Planned, PlannedLevel
from nst_tf.io import images
from nst_tf.jobs import tensorboard, timelapse
from nst_tf.jobs.estimate import ResourceEstimate, check_memory, estimate
from nst_tf.jobs.inputs import Inputs, load_weights, read_inputs
from nst_tf.jobs.output import check_output, check_settings, check_space
from nst_tf.models.backend import check_backend
from nst_tf.models.weights import Parameters


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


class Checked(NamedTuple):
    """A job that is not refused.

    Attributes:
        inputs: The input images and the levels.
        expected: What it will take.
        sha256: The SHA-256 of the network's weights.
        weights: As from `load_weights`.
    """

    inputs: Inputs
    expected: ResourceEstimate
    sha256: str
    weights: Future[Parameters] | None


def check(
    config: Config, executor: Executor | None, *, overwrite: bool, reusable: int = 0
) -> Checked:
    """Checks everything that a job is refused for, the quick things first.

    Args:
        config: All settings, with content and style images.
        executor: As for `load_weights`.
        overwrite: As for `nst_tf.jobs.run`.
        reusable: As for `check_memory`.

    Returns:
        What was read for it.

    Raises:
        InputError: An image, a size or the weights are wrong.
        MachineError: The output cannot be written, a package is missing, or memory does not
            suffice.
    """
    check_output(config, overwrite)
    timelapse.check(config)
    tensorboard.check(config)
    system.check_versions()
    check_backend()
    inputs = read_inputs(config)
    check_space(config, inputs.shape)
    expected = estimate(inputs.levels, config)
    check_memory(expected, max(inputs.shape), config, reusable)
    sha256, weights = load_weights(config, executor)
    check_settings(config)
    return Checked(inputs, expected, sha256, weights)


def plan(config: Config, *, overwrite: bool = False, reusable: int = 0) -> Planned:
    """Plans a job; TensorFlow is imported only where there may be a GPU.

    Args:
        config: All settings, with content and style images.
        overwrite: As for `nst_tf.jobs.run`.
        reusable: Bytes of memory that other processes hold now and give back before the job.

    Returns:
        The sizes and iterations, and the memory and time that they are expected to take.

    Raises:
        InputError: An image, a size or the weights are wrong.
        MachineError: The output cannot be written, a package is missing, or memory does not
            suffice.
    """
    inputs = check(config, None, overwrite=overwrite, reusable=reusable).inputs
    expected = estimate(inputs.levels, config, inputs.largest_pixels)
    return Planned(
        tuple(PlannedLevel(*level.shape, level.num_iterations) for level in inputs.levels),
        system.precision(config.precision, deterministic=config.deterministic),
        "CPU" if expected.seconds is not None else "GPU",
        *expected,
        notes=inputs.notes,
    )

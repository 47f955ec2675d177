"""Estimates the peak memory and the time of a job on a processor, before it begins.

The constants are fits to the peak memory in `run.json` of runs at 256, 512 and 1024 px, in both
precisions and with a style of twice the size, and to the seconds of evaluations, on two cores.
"""

import functools
import math
import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from nst_tf import system
from nst_tf.config import Config
from nst_tf.engine.pyramid import Level
from nst_tf.engine.tiling import BASE_BYTES, Tiling, plan_tiling
from nst_tf.errors import MachineError
from nst_tf.io.decoding import BYTES_PER_PIXEL

_DECODING_BASE_BYTES = 0.15e9
"""Without TensorFlow, which is imported when all files are read."""

_FLOP_PER_PIXEL = 1.445e6
"""Multiplications and additions of one evaluation of loss and gradient, up to block5_conv1."""

_STATISTICS = 0.5
_FEED_FORWARD = 0.35
"""What is computed beside evaluations, relative to one of as many pixels: a pass of the network
without its derivative, and one of the encoder or the decoder of the feed-forward network."""

_SPEED = {"float32": 0.95, "bfloat16": 1.5}
_SPEED_WITHOUT_AVX512 = 0.6
"""Speed of an evaluation, relative to that of a float32 matrix product; and on x86 processors
without AVX-512, for which oneDNN has other convolutions."""

START_SECONDS = 8.0
"""What the start of TensorFlow and of the network takes of a job in a new process."""

_MATRIX_SIZE = 1024


class ResourceEstimate(NamedTuple):
    """What a job will take.

    Attributes:
        memory_bytes: Peak memory, within 15 %.
        seconds: Time, or None with a GPU, whose speed is not known.
        seconds_per_evaluation: The same of one evaluation at full size.
        tile_size: The side in pixels of the tiles of large images, without border; 0 without tiles.
    """

    memory_bytes: int
    seconds: float | None
    seconds_per_evaluation: float | None
    tile_size: int = 0


def estimate(levels: Sequence[Level], config: Config, largest_pixels: int = 0) -> ResourceEstimate:
    """Estimates what a job will take; times a matrix product, in some hundredths of a second.

    Args:
        levels: The plan.
        config: The precision and the optimizer.
        largest_pixels: The number of pixels of the largest file, whose decoding may be the peak.

    Returns:
        The estimate.
    """
    decoding = _DECODING_BASE_BYTES + BYTES_PER_PIXEL * largest_pixels
    tiling = plan_tiling(levels, config)
    tile_size = tiling.tile_size if tiling.is_used(levels) else 0
    memory = round(max(tiling.memory_bytes, decoding))
    if _has_gpu(config):
        return ResourceEstimate(memory, None, None, tile_size)
    precision = system.precision(config.precision, deterministic=config.deterministic)
    speed = _SPEED_WITHOUT_AVX512 if system.is_x86_without_avx512() else _SPEED[precision]
    per_pixel = _FLOP_PER_PIXEL / (speed * _flop_per_second())
    evaluating = sum((level.num_iterations + 1) * tiling.work(level.canvas) for level in levels)
    beside = sum(_work_beside_evaluations(level, config, tiling) for level in levels)
    score = _work_of_score(levels[-1], tiling) if config.score else 0.0
    seconds = START_SECONDS + (evaluating + beside + score) * per_pixel
    evaluation = tiling.work(levels[-1].canvas) * per_pixel
    return ResourceEstimate(memory, seconds, evaluation, tile_size)


def check_memory(
    estimate: ResourceEstimate, longer_side: int, config: Config, reusable: int = 0
) -> None:
    """Refuses a job that would not fit into memory.

    Args:
        estimate: Of the job.
        longer_side: That of the result, in pixels.
        config: `max_memory`, and whether `print_size` decides the size.
        reusable: Bytes that this process holds from an earlier job, which this one uses again.

    Raises:
        MachineError: It needs more memory than is available, or than `max_memory`; names the size
            that would fit.
    """
    memory, space = system.available_memory(), system.address_space_left()
    available = max(0, min(memory, space)) + reusable
    needed = estimate.memory_bytes
    limited = 0 < config.max_memory < min(available, needed)
    if limited:
        available = config.max_memory
    if estimate.seconds is None or needed <= available:
        return
    share = (available - BASE_BYTES) / (needed - BASE_BYTES)
    scale = math.sqrt(share) if share > 0 else 0.0
    smaller = f"--image_size={int(longer_side * scale)}"
    if config.print_size:
        smaller = f"--dpi={int(config.print_dpi * scale)}"
    where, remedy = "", "free some memory"
    if limited:
        where, remedy = " by max_memory", f"raise it to {needed / 1e6:.0f}MB"
    elif space < memory:
        where = " in the address space, beside TensorFlow's libraries"
        remedy = "raise its limit (ulimit -v)"
    raise MachineError(
        "the memory does not suffice",
        f"a run at this size needs about {needed / 1e9:.1f} GB, "
        f"{available / 1e9:.1f} GB are available{where}",
        f"try {smaller}" if longer_side * scale >= 64 else remedy,
    )


def _work_beside_evaluations(level: Level, config: Config, tiling: Tiling) -> float:
    """Returns the work for the targets and the initial image, in pixels that are evaluated."""
    image = tiling.padded_pixels(level.canvas)
    styles = sum(map(tiling.padded_pixels, level.style_shapes))
    work = _STATISTICS * (image + styles)
    if config.init == "adain":
        # A strength below 1 is decoded a second time, with the content's own moments.
        passes = 3 if 0.0 < config.style_strength < 1.0 else 2
        work += _FEED_FORWARD * (passes * image + styles)
    return work


def _work_of_score(level: Level, tiling: Tiling) -> float:
    """Returns the work for the final loss, and for the content's activations without the margin."""
    passes = 2 if level.margin else 1
    return passes * _STATISTICS * tiling.padded_pixels(level.shape)


def _has_gpu(config: Config) -> bool:
    """Asks TensorFlow for a GPU, where there may be one for its slow import to find."""
    if not system.may_have_gpu():
        return False
    system.prepare_environment(config.deterministic)
    import tensorflow as tf

    return bool(tf.config.list_physical_devices("GPU"))


@functools.cache
def _flop_per_second() -> float:
    """Times a matrix product, which is most of what a network computes; once in a process."""
    matrix = np.ones((_MATRIX_SIZE, _MATRIX_SIZE), np.float32)
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        matrix @ matrix
        seconds.append(time.perf_counter() - began)
    return 2.0 * _MATRIX_SIZE**3 / min(seconds)

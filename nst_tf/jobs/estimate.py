"""What a run will take on a processor, told before it begins: memory and time.

The constants are fits to the peak memory in `run.json` of runs at 256, 512 and 1024 px, in both
precisions and with a style of twice the size, and to the seconds of evaluations, on two cores.
"""

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from nst_tf import system
from nst_tf.config.schema import Config
from nst_tf.engine.pyramid import Level
from nst_tf.errors import MachineError

_BASE_BYTES = 1.05e9
_BYTES_PER_PIXEL = 1700.0
_STYLE_BYTES_PER_PIXEL = 900.0
"""float32 and bfloat16 take nearly the same: the result's loss is computed in float32."""

_OPTIMIZER_BYTES_PER_PIXEL = {"lbfgs": 500.0, "l-bfgs-b": 1500.0, "adam": 100.0, "bfgs": 0.0}
"""Checkpoints take no more than that: they are written from where the arrays are."""

_FLOP_PER_PIXEL = 1.445e6
"""Multiplications and additions of one evaluation of loss and gradient, up to block5_conv1."""

_SPEED = {"float32": 0.95, "bfloat16": 1.6}
"""How fast an evaluation computes, in units of the speed of a float32 matrix product."""

_START_SECONDS = 8.0
_MATRIX = 1024


class Needs(NamedTuple):
    """What a run will take.

    Attributes:
        bytes: Peak memory.
        seconds: Time, or None where a graphics card will decide it.
        seconds_per_evaluation: The same at full size; a signal is heeded after each.
    """

    bytes: int
    seconds: float | None
    seconds_per_evaluation: float | None


def needs(levels: Sequence[Level], config: Config) -> Needs:
    """Estimates what a run will take.

    Args:
        levels: Its plan.
        config: The precision, the optimiser.

    Returns:
        The estimate; the memory is rather too high than too low.
    """
    precision = system.precision(config.precision, deterministic=config.deterministic)
    size = round(_memory(levels[-1], config))
    if _has_graphics_card():
        return Needs(size, None, None)
    per_pixel = _FLOP_PER_PIXEL / (_SPEED[precision] * _flop_per_second())
    work = sum(level.num_iterations * math.prod(level.shape) for level in levels)
    return Needs(size, _START_SECONDS + work * per_pixel, math.prod(levels[-1].shape) * per_pixel)


def check_memory(needs: Needs, levels: Sequence[Level], config: Config) -> None:
    """Refuses a run that would not fit, before it begins.

    Args:
        needs: What it will take.
        levels: Its plan.
        config: The precision and the size.

    Raises:
        MachineError: It needs more memory than there is; names the size that would fit.
    """
    available = system.available_memory()
    if _has_graphics_card() or needs.bytes <= available:
        return
    share = (available - _BASE_BYTES) / (needs.bytes - _BASE_BYTES)
    fits = int(config.image_size * math.sqrt(share)) if share > 0 else 0
    raise MachineError(
        "the memory does not suffice",
        f"a run at this size needs about {needs.bytes / 1e9:.1f} GB, "
        f"{available / 1e9:.1f} GB are available",
        f"try --image_size={fits}" if fits >= 64 else "free some memory",
    )


def describe(needs: Needs) -> str:
    """Says what a run will take.

    Args:
        needs: The estimate.

    Returns:
        Part of a line.
    """
    text = f"about {needs.bytes / 1e9:.1f} GB of memory"
    if needs.seconds is None or needs.seconds_per_evaluation is None:
        return text
    text += f" and {_duration(needs.seconds)}"
    if needs.seconds_per_evaluation > 10:
        text += f"; stopping takes up to {_duration(needs.seconds_per_evaluation)}"
    return text


def _memory(level: Level, config: Config) -> float:
    """Sums up the network's maps for the picture and the largest style, and the optimiser's own."""
    own = _OPTIMIZER_BYTES_PER_PIXEL[config.optimizer]
    style = max(math.prod(shape) for shape in level.style_shapes)
    return (
        _BASE_BYTES
        + (_BYTES_PER_PIXEL + own) * math.prod(level.shape)
        + _STYLE_BYTES_PER_PIXEL * style
    )


def _has_graphics_card() -> bool:
    return Path("/dev/nvidia0").exists()


def _flop_per_second() -> float:
    """Times a matrix product, which is most of what a network does."""
    matrix = np.ones((_MATRIX, _MATRIX), np.float32)
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        matrix @ matrix
        seconds.append(time.perf_counter() - began)
    return 2.0 * _MATRIX**3 / min(seconds)


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 6000:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"

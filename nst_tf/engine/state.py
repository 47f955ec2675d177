"""The state of an optimization as plain data, which a checkpoint saves."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from nst_tf.image.arrays import ImageArray


@dataclass(frozen=True)
class OptimizationState:
    """All that it takes to continue an optimization.

    Attributes:
        level: The index of the level, from 0, the coarsest.
        precision: What the network computes in there.
        level_iterations: Iterations done at this level before those of `optimizer_state`.
        iterations: The same over all levels.
        evaluations: Evaluations done before those of `optimizer_state`.
        seconds: Time taken so far.
        seconds_evaluating: The part of it spent in evaluations.
        image: The current variables, float32 [H, W, 3], with the margin of the level.
        optimizer_state: The optimizer's arrays after some iterations; empty before the first.
    """

    level: int
    precision: str
    level_iterations: int
    iterations: int
    evaluations: int
    seconds: float
    seconds_evaluating: float
    image: ImageArray
    optimizer_state: dict[str, npt.NDArray[Any]]

    def without_arrays(self) -> "OptimizationState":
        """Returns it without the image, and with no more of `optimizer_state` than its count."""
        count = self.optimizer_state.get("iterations")
        counts = {} if count is None else {"iterations": np.array(count)}
        return replace(self, image=np.empty((0, 0, 3), np.float32), optimizer_state=counts)

    @property
    def done_at_level(self) -> int:
        """Iterations done at this level so far."""
        return self.level_iterations + int(self.optimizer_state.get("iterations", 0))

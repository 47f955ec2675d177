"""Plain data that a minimization reports: its steps, its result and its reason for stopping."""

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

if TYPE_CHECKING:
    import tensorflow as tf

State = dict[str, npt.NDArray[Any]]
"""Everything needed to continue a minimization, as arrays that `numpy.savez` can write."""


class StopReason(enum.StrEnum):
    """Why a minimization stopped, as a text."""

    NUM_ITERATIONS = "all iterations were done"
    CONVERGED = "converged: the loss falls by less than the tolerance in 20 iterations"
    LINE_SEARCH = "converged: no step along the gradient lowers the loss any more"
    NO_GRADIENT = "the gradient is zero"
    NOT_FINITE = "numerical failure: the loss or its gradient is not finite"
    EXPLODED = "numerical failure: the loss grew to a million times its first value"
    STOPPED = "stopped on request"

    @property
    def is_failure(self) -> bool:
        """Whether the minimization failed numerically."""
        return self in (StopReason.NOT_FINITE, StopReason.EXPLODED)


@dataclass(frozen=True)
class Step:
    """One accepted step, as passed to a callback.

    Attributes:
        iteration: Number of the step, from 1.
        evaluations: Evaluations of the function so far.
        value: The function's value at `x`.
        x: The new point, of the shape and dtype of the initial one. Tensors are immutable: it may
            be kept.
        state: Returns the state to continue from, as read-only arrays. It is the state after this
            step, or after an earlier one where the method cannot be continued in between. Valid
            until the next step is accepted.
    """

    iteration: int
    evaluations: int
    value: float
    x: "tf.Tensor"
    state: Callable[[], State]


@dataclass(frozen=True)
class Result:
    """Result of a minimization.

    Attributes:
        x: The point of the lowest value evaluated, of the shape and dtype of the initial one,
            within the bounds if there are any.
        value: The function's value at `x`; infinity if the first value was not finite.
        initial_value: The function's value at the initial point; likewise.
        iterations: Steps accepted.
        evaluations: Evaluations of the function.
        stop_reason: Why the minimization stopped.
    """

    x: "tf.Tensor"
    value: float
    initial_value: float
    iterations: int
    evaluations: int
    stop_reason: StopReason

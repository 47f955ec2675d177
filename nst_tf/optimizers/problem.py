"""What every minimiser shares: its vocabulary, and the watch kept over a function's values."""

import enum
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]
ValueAndGrad = Callable[[Array], tuple[float, Array]]
Bounds = tuple[float, float]

FIRST_MOVE = 2.0
"""How far a first step may move a variable: of two levels of 255, as pictures go."""

_STALL_STEPS = 20
_STALL_DECREASE = 1e-4


class StopReason(enum.StrEnum):
    """Why a minimisation ended, in words."""

    NUM_ITERATIONS = "all iterations were done"
    CONVERGED = "converged: the loss falls by less than 0.01 % in 20 iterations"
    LINE_SEARCH = "converged: no step along the gradient lowers the loss any more"
    NO_GRADIENT = "the gradient is zero"
    NOT_FINITE = "numerical failure: the loss or its gradient is not finite"
    STOPPED = "stopped on request"


@dataclass(frozen=True)
class Step:
    """One accepted step, as a callback sees it.

    Attributes:
        iteration: Its number, from 1.
        evaluations: How often the function has been evaluated so far.
        value: The function's value at `x`.
        x: The new point; a copy that the receiver may keep.
    """

    iteration: int
    evaluations: int
    value: float
    x: Array


Callback = Callable[[Step], bool | None]


@dataclass(frozen=True)
class Result:
    """The end of a minimisation.

    Attributes:
        x: The best point evaluated, within the bounds where there are any.
        value: The function's value there.
        iterations: Steps taken.
        evaluations: Evaluations made.
        stop_reason: Why it ended.
    """

    x: Array
    value: float
    iterations: int
    evaluations: int
    stop_reason: StopReason


class Ended(Exception):  # noqa: N818 - an end is no error
    """Leaves a library's minimiser from inside one of its calls."""

    def __init__(self, reason: StopReason) -> None:
        super().__init__(reason)
        self.reason = reason


class Watch:
    """Keeps count of evaluations and steps, refuses bad values and remembers the best point.

    A minimiser of a library has no good answer to a NaN: scipy's reports success far from the
    optimum. So no bad value ever reaches it; `evaluate` raises instead, and the best point stays.

    Args:
        value_and_grad: The function.
        start: The first point; it is evaluated at once.
        num_iterations: How many steps are allowed.
        callback: Called after each step.
    """

    def __init__(
        self, value_and_grad: ValueAndGrad, start: Array, num_iterations: int, callback: Callback
    ) -> None:
        self._value_and_grad = value_and_grad
        self._num_iterations = num_iterations
        self._callback = callback
        self._recent: deque[float] = deque(maxlen=_STALL_STEPS + 1)
        self.iterations = 0
        self.evaluations = 0
        self.best_x, self.best_value = start, np.inf
        self._last: tuple[Array, float, Array] | None = None

    def evaluate(self, x: Array) -> tuple[float, Array]:
        """Evaluates the function, or repeats its last answer where `x` has not changed.

        Args:
            x: A point, of the shape of the start.

        Returns:
            Value and gradient, both finite.

        Raises:
            Ended: The value or the gradient is not finite.
        """
        if self._last is not None and np.array_equal(x, self._last[0]):
            return self._last[1:]
        value, gradient = self._value_and_grad(x)
        self.evaluations += 1
        if not (np.isfinite(value) and np.isfinite(gradient).all()):
            raise Ended(StopReason.NOT_FINITE)
        if value < self.best_value:
            self.best_x, self.best_value = x.copy(), value
        self._last = x.copy(), value, gradient
        return value, gradient

    def step(self, x: Array) -> None:
        """Counts an accepted step and decides whether it was the last.

        Args:
            x: The point reached.

        Raises:
            Ended: All iterations are done, the loss stalls, or the callback asks for the end.
        """
        value, _ = self.evaluate(x)
        self.iterations += 1
        self._recent.append(value)
        if self._callback(Step(self.iterations, self.evaluations, value, x.copy())):
            raise Ended(StopReason.STOPPED)
        if self.iterations >= self._num_iterations:
            raise Ended(StopReason.NUM_ITERATIONS)
        if len(self._recent) > _STALL_STEPS:
            decrease = self._recent[0] - value
            if decrease < _STALL_DECREASE * abs(self._recent[0]):
                raise Ended(StopReason.CONVERGED)

    def result(self, reason: StopReason) -> Result:
        """Returns the best point with the counts so far."""
        return Result(self.best_x, self.best_value, self.iterations, self.evaluations, reason)

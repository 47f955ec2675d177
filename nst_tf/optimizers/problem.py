"""What every minimiser shares: its vocabulary, and the watch kept over a function's values."""

import enum
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]
ValueAndGrad = Callable[[Array], tuple[float, Array]]
Bounds = tuple[float, float]
State = dict[str, npt.NDArray[Any]]
"""All that a method needs to go on as if it had not been interrupted, as plain arrays."""

FIRST_MOVE = 2.0
"""How far a first step may move a variable: of two levels of 255, as pictures go."""

_MAX_RESTARTS = 3
_EXPLOSION = 1e6
_STALL_STEPS = 20
_STALL_DECREASE = 1e-4


class StopReason(enum.StrEnum):
    """Why a minimisation ended, in words."""

    NUM_ITERATIONS = "all iterations were done"
    CONVERGED = "converged: the loss falls by less than 0.01 % in 20 iterations"
    LINE_SEARCH = "converged: no step along the gradient lowers the loss any more"
    NO_GRADIENT = "the gradient is zero"
    NOT_FINITE = "numerical failure: the loss or its gradient is not finite"
    EXPLODED = "numerical failure: the loss grew to a million times its first value"
    STOPPED = "stopped on request"

    @property
    def is_failure(self) -> bool:
        """Whether the numbers gave out."""
        return self in (StopReason.NOT_FINITE, StopReason.EXPLODED)


@dataclass(frozen=True)
class Step:
    """One accepted step, as a callback sees it.

    Attributes:
        iteration: Its number, from 1.
        evaluations: How often the function has been evaluated so far.
        value: The function's value at `x`.
        x: The new point; a copy that the receiver may keep.
        state: Copies the state that a minimisation can go on from. It is that of this step, or of
            an earlier one where the method cannot be resumed in between, until the next step is
            done.
    """

    iteration: int
    evaluations: int
    value: float
    x: Array
    state: Callable[[], State]


Callback = Callable[[Step], bool | None]
Stop = Callable[[], bool]


@dataclass(frozen=True)
class Result:
    """The end of a minimisation.

    Attributes:
        x: The best point evaluated, within the bounds where there are any.
        value: The function's value there.
        first_value: The function's value at the start; the same where nothing was gained.
        iterations: Steps taken.
        evaluations: Evaluations made.
        stop_reason: Why it ended.
    """

    x: Array
    value: float
    first_value: float
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
        start: The first point.
        num_iterations: How many steps are allowed, those before a resumption included.
        callback: Called after each step.
        stop: Asked after each evaluation whether this shall be the end.
        state: What `Step.state` gave, to go on from there.
    """

    def __init__(
        self,
        value_and_grad: ValueAndGrad,
        start: Array,
        num_iterations: int,
        callback: Callback,
        stop: Stop,
        state: State | None = None,
    ) -> None:
        self._value_and_grad = value_and_grad
        self._num_iterations = num_iterations
        self._callback = callback
        self._stop = stop
        self._recent: deque[float] = deque(maxlen=_STALL_STEPS + 1)
        self._last: tuple[Array, float, Array] | None = None
        self._restored = state
        self.x, self._best_x, self._best_value = start, start, np.inf
        self._first_value = np.inf
        self._evaluations_at_step = 0
        self._method_state: Callable[[], State] = dict
        self._boundary: State | None = None
        self.iterations = 0
        self.evaluations = 0
        if state is not None:
            self.x, self._best_x = state["x"], state["best_x"]
            self._best_value = float(state["best_value"])
            self._first_value = float(state["first_value"])
            self._recent.extend(state["recent"].tolist())
            self.iterations = int(state["iterations"])
            # The last evaluation has to be made again: only its point was kept.
            self.evaluations = int(state["evaluations"]) - 1

    def evaluate(self, x: Array) -> tuple[float, Array]:
        """Evaluates the function, or repeats its last answer where `x` has not changed.

        Args:
            x: A point, of the shape of the start.

        Returns:
            Value and gradient, both finite.

        Raises:
            Ended: The value or the gradient is not finite, or the end is asked for.
        """
        if self._last is not None and np.array_equal(x, self._last[0]):
            return self._last[1:]
        value, gradient = self._value_and_grad(x)
        self.evaluations += 1
        if not (np.isfinite(value) and np.isfinite(gradient).all()):
            raise Ended(StopReason.NOT_FINITE)
        if value < self._best_value:
            self._best_x, self._best_value = x.copy(), value
        self._last = x.copy(), value, gradient
        if self._first_value == np.inf:
            self._first_value = value
        if self._stop():
            raise Ended(StopReason.STOPPED)
        return value, gradient

    def first_evaluation(self, x: Array) -> tuple[float, Array]:
        """Evaluates the point that a method begins with.

        Args:
            x: Where it begins.

        Returns:
            Value and gradient, which is not zero.

        Raises:
            Ended: No iterations are left, or the gradient is zero.
        """
        value, gradient = self.evaluate(x)
        self._evaluations_at_step = self.evaluations
        if self.iterations >= self._num_iterations:
            raise Ended(StopReason.NUM_ITERATIONS)
        if not gradient.any():
            raise Ended(StopReason.NO_GRADIENT)
        return value, gradient

    def step(self, x: Array) -> None:
        """Counts an accepted step and decides whether it was the last.

        Args:
            x: The point reached.

        Raises:
            Ended: All iterations are done, the loss stalls or explodes, or the callback asks for
                the end.
        """
        value, _ = self.evaluate(x)
        if value > _EXPLOSION * abs(self._first_value):
            raise Ended(StopReason.EXPLODED)
        self.x = x.copy()
        self.iterations += 1
        self._evaluations_at_step = self.evaluations
        self._recent.append(value)
        if self._callback(Step(self.iterations, self.evaluations, value, x.copy(), self._state)):
            raise Ended(StopReason.STOPPED)
        if self.iterations >= self._num_iterations:
            raise Ended(StopReason.NUM_ITERATIONS)
        if len(self._recent) > _STALL_STEPS:
            decrease = self._recent[0] - min(self._recent)
            if decrease < _STALL_DECREASE * abs(self._recent[0]):
                raise Ended(StopReason.CONVERGED)

    def resume(self, method_state: Callable[[], State]) -> State | None:
        """Hands a method the state to go on from, once, and learns where its own is to be had.

        Args:
            method_state: Copies the method's own arrays.

        Returns:
            What `method_state` gave before the interruption, or None for a fresh start.
        """
        self._method_state = method_state
        restored, self._restored = self._restored, None
        return restored

    def boundary(self) -> None:
        """Keeps the state of now as the one to go on from, for a method that forgets what it knows.

        A method of a library has a memory that cannot be saved. Where every run empties it after
        the same steps, one that is resumed there goes the same way.
        """
        self._boundary = None
        self._boundary = self._state()

    def minimize(self, descend: Callable[[Array], StopReason]) -> Result:
        """Runs a method to its end, and again from the best point where it broke down.

        Args:
            descend: Runs the method from a point with an empty memory; calls `evaluate` and `step`,
                and returns a reason or lets `Ended` pass.

        Returns:
            The best point, after three restarts at most.
        """
        x = self.x
        for _ in range(1 + _MAX_RESTARTS):
            before = self.iterations
            try:
                reason = descend(x)
            except Ended as ended:
                reason = ended.reason
            broke_down = reason.is_failure or reason is StopReason.LINE_SEARCH
            if not broke_down or self.iterations == before:
                break
            x = self.x = self._best_x
        return Result(
            self._best_x,
            self._best_value,
            self._first_value,
            self.iterations,
            self.evaluations,
            reason,
        )

    def _state(self) -> State:
        if self._boundary is not None:
            return self._boundary
        return {
            "x": self.x,
            "best_x": self._best_x,
            "best_value": np.array(self._best_value),
            "first_value": np.array(self._first_value),
            "recent": np.array(self._recent),
            "iterations": np.array(self.iterations),
            "evaluations": np.array(self._evaluations_at_step),
            **self._method_state(),
        }

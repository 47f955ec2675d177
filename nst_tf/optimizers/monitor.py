"""Evaluates a function for every method: counts, checks, best point, restarts, stopping tests."""

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from nst_tf.errors import InputError
from nst_tf.optimizers.problem import Problem
from nst_tf.optimizers.result import Result, State, Step, StopReason

_MAX_RESTARTS = 3
_EXPLOSION = 1e6
_STALL_STEPS = 20


class StopOptimization(Exception):  # noqa: N818 - as `StopIteration`
    """Leaves a method, also one of another library from inside its calls.

    Args:
        reason: Why the minimization stops.
    """

    def __init__(self, reason: StopReason) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, eq=False)
class Evaluation:
    """One evaluation of the function.

    Attributes:
        x: The point.
        value: The function's value, finite.
        gradient: Its gradient, finite, of the shape and dtype of `x`.
        has_gradient: Whether the gradient is not zero.
        scalars: What `measure` returned, on the host.
    """

    x: tf.Tensor
    value: float
    gradient: tf.Tensor
    has_gradient: bool
    scalars: npt.NDArray[np.float64]


class Monitor:
    """Counts evaluations and steps, refuses values that are not finite and keeps the best point.

    A minimizer of a library has no good answer to a NaN: scipy's reports success far from the
    minimum. So no such value is passed on; `evaluate` raises instead, and the best point stays.

    Args:
        problem: What is to be minimized.

    Raises:
        InputError: The state to continue from belongs to another problem.
    """

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self._recent: deque[float] = deque(maxlen=_STALL_STEPS + 1)
        self._last: Evaluation | None = None
        self._restored = state = problem.take_state()
        self.x = self._best_x = problem.take_initial()
        self._shape, self._dtype = self.x.shape, self.x.dtype
        self._best_value = self._initial_value = math.inf
        self._evaluations_at_step = 0
        self._method_state: Callable[[], State] = dict
        self._restart_point: State | None = None
        self._restarts = self._restarted_at = 0
        self.iterations = 0
        self.evaluations = 0
        if state is not None:
            self.x, self._best_x = (self._point(state[name]) for name in ("x", "best_x"))
            self._best_value = float(state["best_value"])
            self._initial_value = float(state["initial_value"])
            self._recent.extend(state["recent"].tolist())
            self.iterations = int(state["iterations"])
            self._restarts = int(state["restarts"])
            self._restarted_at = int(state["restarted_at"])
            # The last evaluation has to be made again: only its point was kept.
            self.evaluations = int(state["evaluations"]) - 1

    def evaluate(
        self,
        x: tf.Tensor,
        measure: Callable[[tf.Tensor], Sequence[tf.Tensor]] = lambda gradient: (),
    ) -> Evaluation:
        """Evaluates the function, or repeats its last answer if `x` is the same tensor.

        Everything that the host needs is fetched from the device at once.

        Args:
            x: A point, of the shape and dtype of the initial one.
            measure: Returns scalars that depend on the gradient, to be fetched with the value.

        Returns:
            Value and gradient, both finite.

        Raises:
            StopOptimization: The value or the gradient is not finite, or `should_stop` says so.
            InputError: The function's value is no scalar, or its gradient not of the shape of `x`.
        """
        if self._last is not None and x is self._last.x:
            return self._last
        self._last = None  # lets go of a point that was not accepted
        value, gradient = self._value_and_gradients(x)
        # A sum is not finite if any of its terms is not.
        scalars = [value, tf.reduce_sum(tf.abs(gradient)), *measure(gradient)]
        fetched = tf.stack([tf.cast(scalar, tf.float64) for scalar in scalars]).numpy()
        value, gradient_sum = fetched[:2].tolist()
        self.evaluations += 1
        if not (math.isfinite(value) and math.isfinite(gradient_sum)):
            raise StopOptimization(StopReason.NOT_FINITE)
        if value < self._best_value:
            self._best_x, self._best_value = x, value
        self._last = Evaluation(x, value, gradient, gradient_sum > 0.0, fetched[2:])
        if self._initial_value == math.inf:
            self._initial_value = value
        if self._problem.should_stop is not None and self._problem.should_stop():
            raise StopOptimization(StopReason.STOPPED)
        return self._last

    def first_evaluation(self) -> Evaluation:
        """Evaluates the point from which a method starts, `x`.

        Returns:
            Value and gradient, which is not zero.

        Raises:
            StopOptimization: No iterations are left, the loss had stalled before, or the gradient
                is zero.
        """
        evaluation = self.evaluate(self.x)
        self._evaluations_at_step = self.evaluations
        self._check_end()
        if not evaluation.has_gradient:
            raise StopOptimization(StopReason.NO_GRADIENT)
        return evaluation

    def accept(self, evaluation: Evaluation) -> None:
        """Counts an accepted step and decides whether it was the last.

        Args:
            evaluation: The evaluation of the point reached.

        Raises:
            StopOptimization: All iterations are done, the loss stalls or explodes, or the callback
                says so.
        """
        x, value = evaluation.x, evaluation.value
        if value > _EXPLOSION * abs(self._initial_value):
            raise StopOptimization(StopReason.EXPLODED)
        self.x = x
        self.iterations += 1
        self._evaluations_at_step = self.evaluations
        self._recent.append(value)
        callback = self._problem.callback
        if callback is not None and callback(
            Step(self.iterations, self.evaluations, value, x, self._state)
        ):
            raise StopOptimization(StopReason.STOPPED)
        self._check_end()

    def _check_end(self) -> None:
        """Stops where all iterations are done or the loss stalls.

        Also before the first step, as a state to continue from may be the last of its run.
        """
        if self.iterations >= self._problem.max_iterations:
            raise StopOptimization(StopReason.NUM_ITERATIONS)
        if len(self._recent) > _STALL_STEPS:
            decrease = self._recent[0] - min(self._recent)
            if decrease < self._problem.tolerance * abs(self._recent[0]):
                raise StopOptimization(StopReason.CONVERGED)

    def resume(self, method_state: Callable[[], State]) -> State | None:
        """Registers the state of a method and returns the one to continue from, once.

        Args:
            method_state: Returns the method's own arrays.

        Returns:
            What `method_state` returned before the interruption, or None for a fresh start.
        """
        self._method_state = method_state
        restored, self._restored = self._restored, None
        return restored

    def save_restart_point(self) -> None:
        """Makes the state of now the one to continue from, until the next call.

        For a method of a library, whose memory cannot be saved. If every run empties it after the
        same steps, one that continues from there takes the same steps.
        """
        self._restart_point = None
        self._restart_point = self._state()

    def run(self, descend: Callable[[], StopReason]) -> Result:
        """Runs a method, and again from the best point where it broke down.

        Args:
            descend: Runs the method from `x` with an empty memory; calls `evaluate` and `accept`,
                and returns a reason or lets `StopOptimization` pass.

        Returns:
            The best point, after three restarts at most.
        """
        while True:
            try:
                reason = descend()
            except StopOptimization as stop:
                reason = stop.reason
            broke_down = reason.is_failure or reason is StopReason.LINE_SEARCH
            is_stuck = self.iterations == self._restarted_at
            if not broke_down or is_stuck or self._restarts == _MAX_RESTARTS:
                break
            self._restarts += 1
            self._restarted_at = self.iterations
            self.x = self._best_x
        return Result(
            self._best_x,
            self._best_value,
            self._initial_value,
            self.iterations,
            self.evaluations,
            reason,
        )

    def _value_and_gradients(self, x: tf.Tensor) -> tuple[Any, tf.Tensor]:
        value, gradient = self._problem.value_and_gradients(x)
        gradient = tf.cast(gradient, x.dtype)
        if gradient.shape != x.shape or len(np.shape(value)):
            raise InputError(
                "wrong value_and_gradients",
                f"for x of shape {x.shape} it returned a value of shape {np.shape(value)} and a "
                f"gradient of shape {gradient.shape}",
                "return a scalar and a gradient of the shape of x",
            )
        if not tf.is_tensor(value):
            value = tf.constant(value, tf.float64)  # and not float32, as TensorFlow takes a float
        return value, gradient

    def _state(self) -> State:
        if self._restart_point is not None:
            return self._restart_point
        return {
            "x": np.asarray(self.x),
            "best_x": np.asarray(self._best_x),
            "best_value": np.array(self._best_value),
            "initial_value": np.array(self._initial_value),
            "recent": np.array(self._recent),
            "iterations": np.array(self.iterations),
            "evaluations": np.array(self._evaluations_at_step),
            "restarts": np.array(self._restarts),
            "restarted_at": np.array(self._restarted_at),
            **self._method_state(),
        }

    def _point(self, array: npt.NDArray[Any]) -> tf.Tensor:
        if array.shape != tuple(self._shape) or array.dtype != self._dtype.as_numpy_dtype:
            raise InputError(
                "wrong state",
                f"its x is {array.dtype} of shape {array.shape}, the initial point is "
                f"{self._dtype.name} of shape {tuple(self._shape)}",
                "continue with the initial point of the interrupted minimization",
            )
        return tf.constant(array)

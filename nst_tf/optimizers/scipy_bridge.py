"""The function on flat float64 vectors, as scipy's minimizers call it."""

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from nst_tf.optimizers.monitor import Evaluation, Monitor
from nst_tf.optimizers.problem import Problem

Vector = npt.NDArray[np.float64]


class FlatFunction:
    """Value and gradient, scaled, as a function of z = x / unit.

    scipy's first trial step is the negative gradient, or has length 1. The unit and a factor of
    the value are such that both are the same, and move no variable by more than `initial_step`.

    Args:
        problem: What is to be minimized.
        monitor: Evaluates the function.
        evaluation: The evaluation of the initial point, where the gradient is not zero.

    Attributes:
        initial: The initial z, float64, of shape [n].
        bounds: Lower and upper bound of every element of z, or None.
    """

    def __init__(self, problem: Problem, monitor: Monitor, evaluation: Evaluation) -> None:
        self._monitor = monitor
        self._evaluation = evaluation
        self._low, self._high = problem.low, problem.high
        gradient = _flat(evaluation.gradient)
        length = float(np.linalg.norm(gradient))
        self._unit = unit = problem.initial_step * length / float(np.abs(gradient).max())
        self._factor = 1.0 / (unit * length)
        self.initial = self._z = _flat(evaluation.x) / unit
        bounds = [(problem.low / unit, problem.high / unit)] * self.initial.size
        self.bounds = bounds if problem.is_bounded else None

    def __call__(self, z: Vector) -> tuple[float, Vector]:
        """Returns the scaled value and gradient."""
        evaluation = self._evaluate(z)
        gradient = _flat(evaluation.gradient) * (self._factor * self._unit)
        return evaluation.value * self._factor, gradient

    def accept(self, z: Vector) -> None:
        """Counts an accepted step; see `Monitor.accept`."""
        self._monitor.accept(self._evaluate(z))

    def _evaluate(self, z: Vector) -> Evaluation:
        """Evaluates a point, or repeats the last answer: scipy gives some points twice."""
        if not np.array_equal(z, self._z):
            self._z = z.copy()  # scipy goes on changing it
            last = self._evaluation.x
            flat = np.clip(self._unit * z, self._low, self._high)
            x = flat.astype(last.dtype.as_numpy_dtype).reshape(last.shape)
            if not np.array_equal(x, last):
                self._evaluation = self._monitor.evaluate(tf.constant(x))
        return self._evaluation


def _flat(tensor: tf.Tensor) -> Vector:
    return np.asarray(tensor).ravel().astype(np.float64)

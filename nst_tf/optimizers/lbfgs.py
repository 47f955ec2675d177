"""L-BFGS in float32 on TensorFlow's device, within a box.

The direction is the two-loop recursion of J. Nocedal, "Updating Quasi-Newton Matrices with Limited
Storage" (Math. Comp. 35, 1980), computed from inner products alone as W. Chen, Z. Wang and J. Zhou
do in "Large-scale L-BFGS using MapReduce" (NIPS 2014): all pairs stand in one matrix, which is read
once for the products and once for the direction. Bounds are those of D. P. Bertsekas, "Projected
Newton Methods for Optimization Problems with Simple Constraints" (SIAM J. Control Optim. 20, 1982):
a variable that its gradient presses against a bound is held, and trial points are projected.
"""

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from nst_tf.optimizers.problem import (
    FIRST_MOVE,
    Array,
    Bounds,
    Callback,
    Result,
    State,
    StopReason,
    ValueAndGrad,
    Watch,
)

MEMORY = 20
"""Pairs of steps kept."""

_ARMIJO = 1e-4
"""Share of the predicted decrease that a step must bring (Nocedal and Wright 2006, eq. 3.4)."""

_CURVATURE = 1e-8
"""Smallest s.y / (|s| |y|) of a pair that is kept: below, float32 does not tell its sign."""

_MAX_TRIALS = 12


def minimize(
    value_and_grad: ValueAndGrad,
    start: Array,
    bounds: Bounds | None,
    num_iterations: int,
    callback: Callback,
    state: State | None = None,
) -> Result:
    """Minimises with a projected L-BFGS; see `nst_tf.optimizers.minimize`."""
    watch = Watch(value_and_grad, start, num_iterations, callback, state)
    low, high = bounds or (-np.inf, np.inf)

    def descend(x: Array) -> StopReason:
        memory = _Memory(x.size)
        memory.restore(watch.resume(memory.state))
        value, gradient = watch.first_evaluation(x)
        point, g = _flat(x), _flat(gradient)
        while True:
            free = ((point > low) | (g < 0)) & ((point < high) | (g > 0))
            steepest = tf.where(free, g, 0.0)
            direction = tf.where(free, memory.direction(steepest), 0.0)
            if _dot(direction, steepest) >= 0.0:
                if not memory.pairs:
                    return StopReason.NO_GRADIENT
                memory.clear()
                continue
            length = 1.0
            for _ in range(_MAX_TRIALS):
                trial = tf.clip_by_value(point + length * direction, low, high)
                trial_value, gradient = watch.evaluate(trial.numpy().reshape(x.shape))
                step = trial - point
                if trial_value <= value + _ARMIJO * _dot(g, step):
                    break
                length /= 2
            else:
                return StopReason.LINE_SEARCH
            trial_g = _flat(gradient)
            memory.add(step, trial_g - g)
            point, value, g = trial, trial_value, trial_g
            watch.step(point.numpy().reshape(x.shape))

    return watch.minimize(descend)


class _Memory:
    """The last pairs s, y of a step and the change of the gradient along it.

    Args:
        size: Variables.
    """

    def __init__(self, size: int) -> None:
        self._rows = tf.zeros((2 * MEMORY, size))  # s above, y below
        self._products = np.zeros((2 * MEMORY, 2 * MEMORY))
        self.pairs: list[int] = []  # their rows, the oldest first

    def restore(self, state: State | None) -> None:
        """Takes over what `state` gave, if anything."""
        if state is not None:
            self.pairs = state["pairs"].tolist()
            self._products[:] = state["products"]
            self._rows = tf.constant(state["rows"])

    def state(self) -> State:
        """Copies the memory into plain arrays."""
        return {
            "pairs": np.array(self.pairs, np.int64),
            "products": self._products.copy(),
            "rows": self._rows.numpy().copy(),
        }

    def clear(self) -> None:
        """Forgets all pairs."""
        self.pairs.clear()

    def add(self, s: tf.Tensor, y: tf.Tensor) -> None:
        """Takes a pair in place of the oldest, unless its curvature is not positive."""
        if _dot(s, y) <= _CURVATURE * (_dot(s, s) * _dot(y, y)) ** 0.5:
            return
        pair = self.pairs.pop(0) if len(self.pairs) == MEMORY else len(self.pairs)
        rows = [pair, MEMORY + pair]
        # In place: a variable would be copied whole each time it is read after such an update.
        tf.raw_ops.InplaceUpdate(x=self._rows, i=rows, v=tf.stack([s, y]))
        products = np.stack([tf.linalg.matvec(self._rows, v).numpy() for v in (s, y)], axis=1)
        self._products[:, rows] = products
        self._products[rows, :] = products.T
        self.pairs.append(pair)

    def direction(self, g: tf.Tensor) -> tf.Tensor:
        """Multiplies -g by the approximate inverse Hessian (Nocedal 1980, the two-loop recursion).

        The vector of the recursion is a sum of rows and g; only its coefficients are kept.
        """
        if not self.pairs:
            return -g * (FIRST_MOVE / (tf.reduce_max(tf.abs(g)) + 1e-30))
        with_g = tf.linalg.matvec(self._rows, g).numpy().astype(np.float64)
        products = self._products
        coefficients, of_g = np.zeros(2 * MEMORY), 1.0
        alphas: dict[int, float] = {}
        for s in reversed(self.pairs):
            y = MEMORY + s
            inner = products[s] @ coefficients + of_g * with_g[s]
            alphas[s] = inner / products[s, y]
            coefficients[y] -= alphas[s]
        newest = self.pairs[-1]
        scale = products[newest, MEMORY + newest] / products[MEMORY + newest, MEMORY + newest]
        coefficients, of_g = coefficients * scale, scale
        for s in self.pairs:
            y = MEMORY + s
            inner = products[y] @ coefficients + of_g * with_g[y]
            coefficients[s] += alphas[s] - inner / products[s, y]
        weights = tf.constant(-coefficients, tf.float32)
        return tf.linalg.matvec(self._rows, weights, transpose_a=True) - np.float32(of_g) * g


def _flat(array: npt.NDArray[np.float32]) -> tf.Tensor:
    return tf.reshape(tf.constant(array, tf.float32), [-1])


def _dot(a: tf.Tensor, b: tf.Tensor) -> float:
    return float(tf.reduce_sum(a * b))

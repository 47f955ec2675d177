"""L-BFGS in float32 on TensorFlow's device, within a box, scaled by what the gradients were like.

The direction is the two-loop recursion of J. Nocedal, "Updating Quasi-Newton Matrices with Limited
Storage" (Math. Comp. 35, 1980), computed from inner products and coefficients as W. Chen, Z. Wang
and J. Zhou do in "Large-scale L-BFGS using MapReduce" (NIPS 2014), so that each matrix of pairs is
read twice. The matrix it starts from is diagonal, as J. C. Gilbert and C. Lemarechal recommend
("Some Numerical Experiments with Variable-Storage Quasi-Newton Algorithms", Math. Programming 45,
1989): the inverse root of each variable's mean squared gradient, as in RMSprop (T. Tieleman and G.
Hinton, 2012). Bounds are those of D. P. Bertsekas, "Projected Newton Methods for Optimization
Problems with Simple Constraints" (SIAM J. Control Optim. 20, 1982): a variable that its gradient
presses against a bound is held, and trial points are projected.
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
    Stop,
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

_DECAY = 0.8
"""Of the mean squared gradients per step; with it and `_FLOOR`, 10 to 35 % fewer evaluations were
needed than with a multiple of the identity, and 0.9, 0.02 or 0.5 change little."""

_FLOOR = 0.1
"""What every mean squared gradient is raised by, as a share of their mean over all variables."""


def minimize(
    value_and_grad: ValueAndGrad,
    start: Array,
    bounds: Bounds | None,
    num_iterations: int,
    callback: Callback,
    stop: Stop,
    state: State | None = None,
) -> Result:
    """Minimises with a projected L-BFGS; see `nst_tf.optimizers.minimize`."""
    watch = Watch(value_and_grad, start, num_iterations, callback, stop, state)
    low, high = bounds or (-np.inf, np.inf)

    def descend(x: Array) -> StopReason:
        inverse = _InverseHessian(x.size)
        restored = watch.resume(inverse.state)
        value, gradient = watch.first_evaluation(x)
        point, g = _flat(x), _flat(gradient)
        if restored is not None:
            inverse.restore(restored)
        if not inverse.unit:
            inverse.observe(g)
        while True:
            free = ((point > low) | (g < 0)) & ((point < high) | (g > 0))
            steepest = tf.where(free, g, 0.0)
            direction = tf.where(free, -inverse.times(steepest), 0.0)
            if _dot(direction, steepest) >= 0.0:
                if not inverse.pairs:
                    return StopReason.NO_GRADIENT
                inverse.clear()
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
            inverse.add(step, trial_g - g)
            inverse.observe(trial_g)
            point, value, g = trial, trial_value, trial_g
            watch.step(point.numpy().reshape(x.shape))

    return watch.minimize(descend)


class _InverseHessian:
    """What is known of the curvature.

    That is the last pairs s, y of a step and the change of the gradient along it, and how large the
    gradient of each variable was.

    Args:
        size: Variables.
    """

    def __init__(self, size: int) -> None:
        self._s = tf.zeros((MEMORY, size))
        self._y = tf.zeros((MEMORY, size))
        self._products = np.zeros((MEMORY, MEMORY))  # s of the row times y of the column
        self._squares = tf.zeros(size)
        self.unit = 0.0  # of the gradient, which must not underflow when it is squared
        self.pairs: list[int] = []  # their rows, the oldest first

    def restore(self, state: State) -> None:
        """Takes over what `state` gave."""
        self.pairs = state["pairs"].tolist()
        self._products[:] = state["products"]
        for name in ("s", "y"):
            matrix, rows = getattr(self, f"_{name}"), state[name]
            if len(rows):
                tf.raw_ops.InplaceUpdate(x=matrix, i=list(range(len(rows))), v=rows)
        self._squares = tf.constant(state["squares"])
        self.unit = float(state["unit"])

    def state(self) -> State:
        """Copies all of it into plain arrays."""
        used = len(self.pairs)  # rows are filled from the first on
        # TensorFlow's copies take memory that it keeps for evaluations anyway.
        s, y = (np.asarray(tf.raw_ops.DeepCopy(x=matrix)) for matrix in (self._s, self._y))
        return {
            "pairs": np.array(self.pairs, np.int64),
            "products": self._products.copy(),
            "s": s[:used],
            "y": y[:used],
            "squares": self._squares.numpy().copy(),
            "unit": np.array(self.unit),
        }

    def clear(self) -> None:
        """Forgets all pairs."""
        self.pairs.clear()

    def observe(self, g: tf.Tensor) -> None:
        """Learns from a gradient how large each of its variables is."""
        self.unit = self.unit or 1.0 / float(tf.reduce_max(tf.abs(g)))
        squares = tf.square(self.unit * g)
        self._squares = _DECAY * self._squares + (1.0 - _DECAY) * squares

    def add(self, s: tf.Tensor, y: tf.Tensor) -> None:
        """Takes a pair in place of the oldest, unless its curvature is not positive."""
        if _dot(s, y) <= _CURVATURE * (_dot(s, s) * _dot(y, y)) ** 0.5:
            return
        pair = self.pairs.pop(0) if len(self.pairs) == MEMORY else len(self.pairs)
        # In place: a variable would be copied whole each time it is read after such an update.
        tf.raw_ops.InplaceUpdate(x=self._s, i=[pair], v=s[tf.newaxis])
        tf.raw_ops.InplaceUpdate(x=self._y, i=[pair], v=y[tf.newaxis])
        self._products[pair, :] = tf.linalg.matvec(self._y, s).numpy()
        self._products[:, pair] = tf.linalg.matvec(self._s, y).numpy()
        self.pairs.append(pair)

    def times(self, g: tf.Tensor) -> tf.Tensor:
        """Multiplies the approximate inverse Hessian by a vector: the two-loop recursion.

        The vectors of its loops are sums of pairs; only their coefficients are kept.
        """
        mean = tf.reduce_mean(self._squares)
        diagonal = tf.math.rsqrt(self._squares + _FLOOR * mean + 1e-30)
        if not self.pairs:
            scaled = diagonal * g
            return scaled * (FIRST_MOVE / (tf.reduce_max(tf.abs(scaled)) + 1e-30))
        products = self._products
        alphas, betas = np.zeros(MEMORY), np.zeros(MEMORY)
        s_g = tf.linalg.matvec(self._s, g).numpy().astype(np.float64)
        for pair in reversed(self.pairs):
            alphas[pair] = (s_g[pair] - products[pair] @ alphas) / products[pair, pair]
        y = self._y[self.pairs[-1]]
        scale = products[self.pairs[-1], self.pairs[-1]] / _dot(y, diagonal * y)
        scaled = np.float32(scale) * diagonal * (g - _sum_of_rows(self._y, alphas))
        y_scaled = tf.linalg.matvec(self._y, scaled).numpy().astype(np.float64)
        for pair in self.pairs:
            inner = y_scaled[pair] + products[:, pair] @ betas
            betas[pair] = alphas[pair] - inner / products[pair, pair]
        return scaled + _sum_of_rows(self._s, betas)


def _sum_of_rows(matrix: tf.Tensor, weights: npt.NDArray[np.float64]) -> tf.Tensor:
    return tf.linalg.matvec(matrix, tf.constant(weights, tf.float32), transpose_a=True)


def _flat(array: npt.NDArray[np.float32]) -> tf.Tensor:
    return tf.reshape(tf.constant(array, tf.float32), [-1])


def _dot(a: tf.Tensor, b: tf.Tensor) -> float:
    return float(tf.reduce_sum(a * b))

"""Projected L-BFGS with a diagonal initial Hessian of RMSprop type, on TensorFlow's device.

The direction is that of J. Nocedal, "Updating Quasi-Newton Matrices with Limited Storage" (Math.
Comp. 35, 1980), in the compact form of R. H. Byrd, J. Nocedal and R. B. Schnabel, "Representations
of Quasi-Newton Matrices and their Use in Limited Memory Methods" (Math. Programming 63, 1994),
equation 3.1. The initial matrix is diagonal, as J. C. Gilbert and C. Lemarechal recommend ("Some
Numerical Experiments with Variable-Storage Quasi-Newton Algorithms", Math. Programming 45, 1989):
the inverse root of each variable's mean squared gradient, as in RMSprop (T. Tieleman and G. Hinton,
2012). Bounds follow D. P. Bertsekas, "Projected Newton Methods for Optimization Problems with
Simple Constraints" (SIAM J. Control Optim. 20, 1982): a variable at a bound stays there while the
negative gradient points outside, and trial points are projected.
"""

from functools import partial, reduce

import numpy as np
import tensorflow as tf

from nst_tf.errors import InputError
from nst_tf.optimizers.monitor import Evaluation, Monitor
from nst_tf.optimizers.problem import Problem
from nst_tf.optimizers.result import Result, State, StopReason

_ARMIJO = 1e-4
"""Share of the predicted decrease that a step must bring (Nocedal and Wright 2006, eq. 3.4)."""

_CURVATURE = 1e-8
"""Smallest s.y / (|s| |y|) of a pair that is kept: below, float32 does not tell its sign."""

_MAX_TRIALS = 12

_DECAY = 0.8
"""Of the mean squared gradients per step; with it and `_FLOOR`, 10 to 35 % fewer evaluations were
needed than with a multiple of the identity, and 0.9, 0.02 or 0.5 change little."""

_FLOOR = 0.1
"""Added to every mean squared gradient, as a share of their mean over all variables."""

_BLOCK = 4
"""Rows by which the history grows, and that are converted at once where it has another type."""


def minimize(problem: Problem) -> Result:
    """Minimizes with a projected L-BFGS; see `nst_tf.optimizers.minimize`."""
    monitor = Monitor(problem)
    return monitor.run(partial(_descend, problem, monitor))


def _descend(problem: Problem, monitor: Monitor, x: tf.Tensor) -> StopReason:
    inverse = InverseHessian(
        x.dtype,
        rows=problem.history,  # whatever max_iterations is: a state may be continued with more
        history_dtype=problem.history_dtype,
        initial_step=problem.initial_step,
    )
    restored = monitor.resume(inverse.state)
    evaluation = monitor.first_evaluation(x)
    if restored is not None:
        inverse.restore(restored)
    if inverse.is_empty:
        inverse.update_diagonal(_flat(evaluation.gradient))
    while True:
        step, slope = _step(problem, inverse, evaluation)
        if float(slope) <= 0.0:
            if not inverse.pairs:
                return StopReason.NO_GRADIENT
            inverse.clear()
            continue
        for _ in range(_MAX_TRIALS):
            trial = _projected(problem, evaluation.x - step)
            pair = _Pair(inverse.history_dtype)
            trial_evaluation = monitor.evaluate(trial, partial(pair.measure, evaluation, trial))
            predicted, s_y, s_s, y_y = trial_evaluation.scalars.tolist()
            if trial_evaluation.value <= evaluation.value + _ARMIJO * predicted:
                break
            step *= 0.5
        else:
            return StopReason.LINE_SEARCH
        # Below that curvature, also a negative one, the pair is not kept.
        if s_y > _CURVATURE * (s_s * y_y) ** 0.5:
            inverse.add(pair.s, pair.y, s_y)
        evaluation = trial_evaluation
        inverse.update_diagonal(_flat(evaluation.gradient))
        monitor.accept(evaluation)


def _step(
    problem: Problem, inverse: "InverseHessian", evaluation: Evaluation
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the step to subtract, of the shape of x, and the negative slope along it.

    It is the product of inverse Hessian and gradient, in which the variables do not take part that
    are at a bound while the negative gradient points outside.
    """
    g = evaluation.gradient
    if problem.is_bounded:
        x = evaluation.x
        free = ((x > problem.low) | (g < 0.0)) & ((x < problem.high) | (g > 0.0))
        free = tf.cast(free, g.dtype)
        g *= free
    step = tf.reshape(inverse.matvec(_flat(g)), g.shape)
    if problem.is_bounded:
        step *= free
    return step, _dot(step, g)


def _projected(problem: Problem, x: tf.Tensor) -> tf.Tensor:
    return tf.clip_by_value(x, problem.low, problem.high) if problem.is_bounded else x


class _Pair:
    """A step s to a trial point and the change y of the gradient along it, as they are to be kept.

    Args:
        dtype: Type in which they are to be kept.
    """

    def __init__(self, dtype: tf.DType) -> None:
        self._dtype = dtype
        self.s = self.y = tf.zeros(0, dtype)

    def measure(self, start: Evaluation, x: tf.Tensor, gradient: tf.Tensor) -> list[tf.Tensor]:
        """Computes the pair.

        Args:
            start: The evaluation of the point from which the step leads.
            x: The trial point.
            gradient: The gradient there.

        Returns:
            The change of the value that the slope at the start predicts, s.y, s.s and y.y.
        """
        step = x - start.x
        predicted = _dot(start.gradient, step)
        self.s = _flat(tf.cast(step, self._dtype))
        self.y = _flat(tf.cast(gradient - start.gradient, self._dtype))
        s, y = tf.cast(self.s, x.dtype), tf.cast(self.y, x.dtype)
        return [predicted, _dot(s, y), 2.0 * tf.nn.l2_loss(s), 2.0 * tf.nn.l2_loss(y)]


class InverseHessian:
    """Approximation of the inverse Hessian.

    It is made of a diagonal matrix and of the last pairs s, y of a step and the change of the
    gradient along it, which are the rows of two matrices.

    Args:
        dtype: Type of the vectors it is multiplied by.
        rows: Pairs kept at most.
        history_dtype: Type in which the pairs are kept.
        initial_step: Largest element of the product as long as there are no pairs.
    """

    def __init__(
        self, dtype: tf.DType, *, rows: int, history_dtype: tf.DType, initial_step: float
    ) -> None:
        self.history_dtype = history_dtype
        self.is_empty = True  # whether it knows no gradient
        self.pairs: list[int] = []  # their rows in all matrices, the oldest first
        self._dtype = dtype
        self._rows = rows
        self._initial_step = initial_step
        self._s = self._y = tf.zeros((0, 0), history_dtype)  # [up to rows, n]
        self._r_inverse = tf.zeros((rows, rows), tf.float64)
        self._d = tf.zeros(rows, tf.float64)
        self._squares = tf.zeros((), dtype)
        self._gradient_scale = tf.zeros((), dtype)

    def restore(self, state: State) -> None:
        """Sets the state.

        Args:
            state: What `state` returned.

        Raises:
            InputError: The pairs were kept in another type.
        """
        s, y = (tf.constant(state[name]) for name in ("s", "y"))
        if self.history_dtype == tf.bfloat16 and s.dtype == tf.uint16:
            s, y = (tf.bitcast(rows, tf.bfloat16) for rows in (s, y))
        if s.dtype != self.history_dtype:
            raise InputError(
                "wrong state",
                f"its history is of type {s.dtype.name}, this one of {self.history_dtype.name}",
                "continue with the history_dtype of the interrupted minimization",
            )
        self._rows = len(state["d"])  # for the same steps as without an interruption
        self._d = tf.constant(state["d"])
        self._r_inverse = tf.constant(state["r_inverse"])
        self.pairs = state["pairs"].tolist()
        self._s = self._y = tf.zeros((0, s.shape[1]), self.history_dtype)
        while self._s.shape[0] < len(self.pairs):
            self._grow(s.shape[1])
        if self.pairs:
            self._write(list(range(len(s))), s, y)
        self._squares = tf.constant(state["squares"])
        self._gradient_scale = tf.constant(state["gradient_scale"])
        self.is_empty = not state["gradient_scale"]

    def state(self) -> State:
        """Returns copies of all of it as plain arrays."""
        used = len(self.pairs)  # rows are filled from the first on
        # TensorFlow's copies take memory that it keeps for evaluations anyway.
        s, y = (np.asarray(tf.raw_ops.DeepCopy(x=rows))[:used] for rows in (self._s, self._y))
        if self.history_dtype == tf.bfloat16:  # which NumPy's files do not know
            s, y = s.view(np.uint16), y.view(np.uint16)
        return {
            "pairs": np.array(self.pairs, np.int64),
            "r_inverse": np.asarray(self._r_inverse),
            "d": np.asarray(self._d),
            "s": s,
            "y": y,
            "squares": np.asarray(self._squares),
            "gradient_scale": np.asarray(self._gradient_scale),
        }

    def clear(self) -> None:
        """Removes all pairs."""
        self.pairs.clear()
        self._s = self._y = tf.zeros((0, 0), self.history_dtype)
        self._r_inverse = tf.zeros_like(self._r_inverse)
        self._d = tf.zeros_like(self._d)

    def update_diagonal(self, g: tf.Tensor) -> None:
        """Updates the running mean of the squared gradients.

        Args:
            g: The gradient, of shape [n].
        """
        if self.is_empty:
            # In this unit, squares neither underflow nor overflow.
            self._gradient_scale = 1.0 / tf.reduce_max(tf.abs(g))
        squares = tf.square((1.0 - _DECAY) ** 0.5 * self._gradient_scale * g)
        self._squares = _DECAY * self._squares + squares
        self.is_empty = False

    def add(self, s: tf.Tensor, y: tf.Tensor, s_y: float) -> None:
        """Adds a pair, in place of the oldest where there is no room.

        Args:
            s: A step, of shape [n] and type `history_dtype`.
            y: The change of the gradient along it, likewise.
            s_y: Their product, above 0.
        """
        row = self.pairs.pop(0) if len(self.pairs) == self._rows else len(self.pairs)
        if row == self._s.shape[0]:
            self._grow(s.shape[0])
        # R, and so its inverse, loses its first row and column and gets a last column.
        added = tf.one_hot(row, self._rows, dtype=tf.float64)
        kept = 1.0 - added
        r_inverse = self._r_inverse * kept * kept[:, tf.newaxis]
        column = (added - tf.linalg.matvec(r_inverse, self._products(self._s, y))) / s_y
        self._r_inverse = r_inverse + column[:, tf.newaxis] * added
        self._d = self._d * kept + s_y * added
        self._write([row], s[tf.newaxis], y[tf.newaxis])
        self.pairs.append(row)

    def matvec(self, g: tf.Tensor) -> tf.Tensor:
        """Multiplies the approximation by a vector, without a fetch from the device.

        With H0 the scaled diagonal matrix, S and Y the matrices whose columns are the pairs, the
        oldest first, R the upper triangle of S^T Y and D its diagonal, the product is
        H0 (g - Y alpha) + S gamma, where alpha = R^-1 S^T g and
        gamma = R^-T (D alpha - Y^T H0 (g - Y alpha)).

        Args:
            g: A vector of shape [n].

        Returns:
            The product, of shape [n].
        """
        mean = tf.reduce_mean(self._squares)
        diagonal = tf.math.rsqrt(self._squares + (_FLOOR * mean + 1e-30))
        if not self.pairs:
            scaled = diagonal * g
            return scaled * (self._initial_step / (tf.reduce_max(tf.abs(scaled)) + 1e-30))
        alpha = tf.linalg.matvec(self._r_inverse, self._products(self._s, g))
        y = tf.cast(self._y[self.pairs[-1]], self._dtype)
        scale = self._d[self.pairs[-1]] / tf.cast(_dot(y, diagonal * y), tf.float64)
        scaled = tf.cast(scale, self._dtype) * diagonal * (g - self._combination(self._y, alpha))
        inner = self._d * alpha - self._products(self._y, scaled)
        gamma = tf.linalg.matvec(self._r_inverse, inner, transpose_a=True)
        return scaled + self._combination(self._s, gamma)

    def _grow(self, size: int) -> None:
        """Makes room for some more pairs: a run of few iterations needs no more memory than that.

        How many depends on the pairs alone, and not on the iterations to come, so that a state
        that is continued with more of them gives the same bits.
        """
        rows = min(self._s.shape[0] + _BLOCK, self._rows)
        self._s, self._y = (
            tf.concat([matrix, tf.zeros((rows - len(matrix), size), matrix.dtype)], axis=0)
            if len(matrix)
            else tf.zeros((rows, size), matrix.dtype)  # of its own: it is updated in place
            for matrix in (self._s, self._y)
        )

    def _write(self, rows: list[int], s: tf.Tensor, y: tf.Tensor) -> None:
        # In place: a variable would be copied whole each time it is read after such an update.
        tf.raw_ops.InplaceUpdate(x=self._s, i=rows, v=s)
        tf.raw_ops.InplaceUpdate(x=self._y, i=rows, v=y)

    def _products(self, matrix: tf.Tensor, v: tf.Tensor) -> tf.Tensor:
        """Returns the products of the rows of a matrix with a vector, in float64."""
        if matrix.dtype == self._dtype:
            products = tf.linalg.matvec(matrix, v)
        else:
            v = tf.cast(v, self._dtype)
            products = tf.concat(
                [
                    tf.linalg.matvec(tf.cast(matrix[rows], self._dtype), v)
                    for rows in self._blocks()
                ],
                axis=0,
            )
        return tf.pad(tf.cast(products, tf.float64), [(0, self._rows - matrix.shape[0])])

    def _combination(self, matrix: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
        """Returns the sum of the rows of a matrix, with a weight each."""
        weights = tf.cast(weights[: matrix.shape[0]], self._dtype)
        if matrix.dtype == self._dtype:
            return tf.linalg.matvec(matrix, weights, transpose_a=True)
        return reduce(
            tf.add,
            (
                tf.linalg.matvec(
                    tf.cast(matrix[rows], self._dtype), weights[rows], transpose_a=True
                )
                for rows in self._blocks()
            ),
        )

    def _blocks(self) -> list[slice]:
        """Returns the rows that are converted at once where they are kept in another type."""
        return [slice(first, first + _BLOCK) for first in range(0, self._s.shape[0], _BLOCK)]


def _flat(tensor: tf.Tensor) -> tf.Tensor:
    return tf.reshape(tensor, [-1])


def _dot(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(a * b)

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

from collections.abc import Callable, Sequence
from functools import partial

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

_ROWS = 4
"""Rows by which a matrix of the history grows."""

_BLOCK_ELEMENTS = 1_000_000
"""Elements of large vectors that are computed with at once."""


def minimize(problem: Problem) -> Result:
    """Minimizes with a projected L-BFGS; see `nst_tf.optimizers.minimize`."""
    monitor = Monitor(problem)
    return monitor.run(partial(_descend, problem, monitor))


def _descend(problem: Problem, monitor: Monitor) -> StopReason:
    inverse = InverseHessian(
        monitor.x.dtype,
        rows=problem.history,  # whatever max_iterations is: a state may be continued with more
        history_dtype=problem.history_dtype,
        initial_step=problem.initial_step,
    )
    restored = monitor.resume(inverse.state)
    evaluation = monitor.first_evaluation()
    if restored is not None:
        inverse.restore(restored)
    del restored
    if inverse.is_empty:
        inverse.update_diagonal(_flat(evaluation.gradient))
    while True:
        step, slope = _step(problem, inverse, evaluation)
        if float(slope) <= 0.0:
            if not inverse.pairs:
                return StopReason.NO_GRADIENT
            inverse.clear()
            continue
        for halvings in range(_MAX_TRIALS):
            if halvings:  # again: kept, it would take memory while the function is evaluated
                step, _ = _step(problem, inverse, evaluation)
            moved = evaluation.x - 0.5**halvings * step
            del step
            trial = _projected(problem, moved)
            del moved
            if found := _accepted(monitor, inverse.history_dtype, evaluation, trial):
                break
        else:
            return StopReason.LINE_SEARCH
        del trial
        evaluation, pair = found
        _, s_y, s_s, y_y = evaluation.scalars.tolist()
        # Below that curvature, also a negative one, the pair is not kept.
        if s_y > _CURVATURE * (s_s * y_y) ** 0.5:
            inverse.add(pair.s, pair.y, s_y)
        inverse.update_diagonal(_flat(evaluation.gradient))
        monitor.accept(evaluation)


def _accepted(
    monitor: Monitor, history_dtype: tf.DType, start: Evaluation, trial: tf.Tensor
) -> "tuple[Evaluation, _Pair] | None":
    """Evaluates a trial point, and returns it with its pair where the function is low enough."""
    pair = _Pair(history_dtype)
    evaluation = monitor.evaluate(trial, partial(pair.measure, start, trial))
    predicted = float(evaluation.scalars[0])
    return (evaluation, pair) if evaluation.value <= start.value + _ARMIJO * predicted else None


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
        g = tf.where(free, g, tf.zeros((), g.dtype))
    step = tf.reshape(inverse.matvec(_flat(g)), g.shape)
    if problem.is_bounded:
        step = tf.where(free, step, tf.zeros((), g.dtype))
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
        del step
        self.y = _flat(tf.cast(gradient - start.gradient, self._dtype))
        s, y, dtype = self.s, self.y, x.dtype
        return [
            predicted,
            _dot(s, y, dtype=dtype),
            _dot(s, s, dtype=dtype),
            _dot(y, y, dtype=dtype),
        ]


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
        self._s, self._y = self._vectors(), self._vectors()
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
        self._rows = len(state["d"])  # for the same steps as without an interruption
        self._s, self._y = self._vectors(), self._vectors()
        self.pairs = state["pairs"].tolist()
        for row in range(len(self.pairs)):
            self._s.put(row, self._restored(state[f"s{row}"]))
            self._y.put(row, self._restored(state[f"y{row}"]))
        self._d = tf.constant(state["d"])
        self._r_inverse = tf.constant(state["r_inverse"])
        self._squares = tf.constant(state["squares"])
        self._gradient_scale = tf.constant(state["gradient_scale"])
        self.is_empty = not state["gradient_scale"]

    def state(self) -> State:
        """Returns copies of all of it as plain arrays."""
        rows = range(len(self.pairs))  # they are filled from the first on
        return {
            "pairs": np.array(self.pairs, np.int64),
            "r_inverse": np.asarray(self._r_inverse),
            "d": np.asarray(self._d),
            **{f"s{row}": self._s.array(row) for row in rows},
            **{f"y{row}": self._y.array(row) for row in rows},
            "squares": np.asarray(self._squares),
            "gradient_scale": np.asarray(self._gradient_scale),
        }

    def clear(self) -> None:
        """Removes all pairs."""
        self.pairs.clear()
        self._s, self._y = self._vectors(), self._vectors()
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
        unit = (1.0 - _DECAY) ** 0.5 * self._gradient_scale
        before = self._squares if self._squares.shape.rank else tf.zeros_like(g)
        self._squares = _blockwise(
            lambda g, squares: _DECAY * squares + tf.square(unit * g), g, before
        )
        self.is_empty = False

    def add(self, s: tf.Tensor, y: tf.Tensor, s_y: float) -> None:
        """Adds a pair, in place of the oldest where there is no room.

        Args:
            s: A step, of shape [n] and type `history_dtype`.
            y: The change of the gradient along it, likewise.
            s_y: Their product, above 0.
        """
        row = self.pairs.pop(0) if len(self.pairs) == self._rows else len(self.pairs)
        # R, and so its inverse, loses its first row and column and gets a last column.
        added = tf.one_hot(row, self._rows, dtype=tf.float64)
        kept = 1.0 - added
        r_inverse = self._r_inverse * kept * kept[:, tf.newaxis]
        column = (added - tf.linalg.matvec(r_inverse, self._products(self._s, y))) / s_y
        self._r_inverse = r_inverse + column[:, tf.newaxis] * added
        self._d = self._d * kept + s_y * added
        self._s.put(row, s)
        self._y.put(row, y)
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
        floor = _FLOOR * tf.reduce_mean(self._squares) + 1e-30

        def diagonal(squares: tf.Tensor) -> tf.Tensor:
            return tf.math.rsqrt(squares + floor)

        if not self.pairs:
            scaled = _blockwise(lambda g, squares: g * diagonal(squares), g, self._squares)
            return scaled * (self._initial_step / (tf.reduce_max(tf.abs(scaled)) + 1e-30))
        alpha = tf.linalg.matvec(self._r_inverse, self._products(self._s, g))
        y = self._y.get(self.pairs[-1])
        curvature = _blockwise_sum(
            lambda y, squares: tf.square(tf.cast(y, self._dtype)) * diagonal(squares),
            y,
            self._squares,
        )
        scale = self._d[self.pairs[-1]] / tf.cast(curvature, tf.float64)
        scale = tf.cast(scale, self._dtype)
        residual = self._y.add_combination(g, -alpha)
        scaled = _blockwise(
            lambda residual, squares: scale * diagonal(squares) * residual, residual, self._squares
        )
        del residual
        inner = self._d * alpha - self._products(self._y, scaled)
        gamma = tf.linalg.matvec(self._r_inverse, inner, transpose_a=True)
        return self._s.add_combination(scaled, gamma)

    def _vectors(self) -> "_Matrix | _Rows":
        if self.history_dtype == self._dtype:
            return _Matrix(self._dtype, self._rows)
        return _Rows(self._dtype)

    def _restored(self, array: np.ndarray) -> tf.Tensor:
        """Returns a vector of a state; uint16 is bfloat16, which NumPy's files do not know."""
        vector = tf.constant(array)
        if vector.dtype == tf.uint16:
            vector = tf.bitcast(vector, tf.bfloat16)
        if vector.dtype != self.history_dtype:
            raise InputError(
                "wrong state",
                f"its history is of type {vector.dtype.name}, this one of "
                f"{self.history_dtype.name}",
                "continue with the history_dtype of the interrupted minimization",
            )
        return vector

    def _products(self, vectors: "_Matrix | _Rows", v: tf.Tensor) -> tf.Tensor:
        """Returns the products of all rows with a vector, in float64, and zeros up to `rows`."""
        products = tf.cast(vectors.products(v), tf.float64)
        return tf.pad(products, [(0, self._rows - products.shape[0])])


class _Matrix:
    """Vectors as rows of one matrix, with which products are fastest.

    Args:
        dtype: Type of the vectors.
        limit: How many there are at most.
    """

    def __init__(self, dtype: tf.DType, limit: int) -> None:
        self._limit = limit
        self._rows = tf.zeros((0, 0), dtype)

    def put(self, row: int, v: tf.Tensor) -> None:
        """Sets a row, at most one beyond the last.

        The matrix grows by some rows, so that a run of few iterations needs no more memory.
        """
        if row == self._rows.shape[0]:
            # Of its own, as it is updated in place: a variable would be copied whole each time it
            # is read after such an update.
            more = tf.zeros((min(_ROWS, self._limit - row), v.shape[0]), v.dtype)
            self._rows = tf.concat([self._rows, more], axis=0) if row else more
        tf.raw_ops.InplaceUpdate(x=self._rows, i=[row], v=v[tf.newaxis])

    def get(self, row: int) -> tf.Tensor:
        """Returns a row."""
        return self._rows[row]

    def array(self, row: int) -> np.ndarray:
        """Returns a copy of a row."""
        # TensorFlow's copies take memory that it keeps for evaluations anyway.
        return np.asarray(tf.raw_ops.DeepCopy(x=self._rows[row]))

    def products(self, v: tf.Tensor) -> tf.Tensor:
        """Returns the products of all rows with a vector."""
        if not self._rows.shape[0]:
            return tf.zeros(0, v.dtype)
        return tf.linalg.matvec(self._rows, v)

    def add_combination(self, v: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
        """Adds the rows to a vector, with a weight each; what is beyond them has none."""
        weights = tf.cast(weights[: self._rows.shape[0]], self._rows.dtype)
        return v + tf.linalg.matvec(self._rows, weights, transpose_a=True)


class _Rows:
    """Vectors in a smaller type: one at a time is converted, and none is copied.

    Args:
        dtype: Type that they are computed with.
    """

    def __init__(self, dtype: tf.DType) -> None:
        self._dtype = dtype
        self._rows: list[tf.Tensor] = []

    def put(self, row: int, v: tf.Tensor) -> None:
        """Sets a row, at most one beyond the last."""
        self._rows[row : row + 1] = [v]

    def get(self, row: int) -> tf.Tensor:
        """Returns a row, in the smaller type."""
        return self._rows[row]

    def array(self, row: int) -> np.ndarray:
        """Returns a row, which later ones do not change; bfloat16 as uint16."""
        array = np.asarray(self._rows[row])
        return array.view(np.uint16) if self._rows[row].dtype == tf.bfloat16 else array

    def products(self, v: tf.Tensor) -> tf.Tensor:
        """Returns the products of all rows with a vector."""
        found = [_dot(row, v, dtype=self._dtype) for row in self._rows]
        return tf.stack(found) if found else tf.zeros(0, self._dtype)

    def add_combination(self, v: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
        """Adds the rows to a vector, with a weight each; what is beyond them has none."""
        weights = tf.unstack(tf.cast(weights[: len(self._rows)], self._dtype))

        def total(v: tf.Tensor, *rows: tf.Tensor) -> tf.Tensor:
            for weight, row in zip(weights, rows, strict=True):
                v += weight * tf.cast(row, self._dtype)
            return v

        return _blockwise(total, v, *self._rows)


def _flat(tensor: tf.Tensor) -> tf.Tensor:
    return tf.reshape(tensor, [-1])


def _blocks(*vectors: tf.Tensor) -> Sequence[Sequence[tf.Tensor]]:
    """Cuts vectors of one length at the same places; their parts share their memory."""
    length = vectors[0].shape[0]
    if length <= _BLOCK_ELEMENTS:
        return [vectors]
    starts = range(0, length, _BLOCK_ELEMENTS)
    return [[v[start : start + _BLOCK_ELEMENTS] for v in vectors] for start in starts]


def _blockwise(function: Callable[..., tf.Tensor], *vectors: tf.Tensor) -> tf.Tensor:
    """Computes an elementwise function of vectors, so that temporary arrays stay small."""
    found = [function(*blocks) for blocks in _blocks(*vectors)]
    return tf.concat(found, axis=0) if len(found) > 1 else found[0]


def _blockwise_sum(function: Callable[..., tf.Tensor], *vectors: tf.Tensor) -> tf.Tensor:
    """Sums an elementwise function of vectors."""
    found = [tf.reduce_sum(function(*blocks)) for blocks in _blocks(*vectors)]
    return tf.add_n(found) if len(found) > 1 else found[0]


def _dot(a: tf.Tensor, b: tf.Tensor, dtype: tf.DType | None = None) -> tf.Tensor:
    """Sums the products of two tensors' elements, in the type of the first one or in `dtype`."""
    dtype = dtype or a.dtype
    return _blockwise_sum(lambda a, b: tf.cast(a, dtype) * tf.cast(b, dtype), _flat(a), _flat(b))

"""L-BFGS-B through scipy's `fmin_l_bfgs_b`: a bridge between arrays and flat float64 vectors.

R. H. Byrd, P. Lu, J. Nocedal and C. Zhu, "A Limited Memory Algorithm for Bound Constrained
Optimization" (SIAM J. Sci. Comput. 16, 1995).
"""

import sys

import numpy as np
from scipy.optimize import fmin_l_bfgs_b
from threadpoolctl import threadpool_limits

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
"""Pairs of steps kept, as in the authors' own use of scipy for textures (Gatys et al. 2015)."""

SEGMENT = 50
"""Steps after which scipy begins anew with an empty memory, in every run alike.

scipy's memory cannot be saved. A run that goes on from such a point takes the same steps as one
that was not interrupted. What the lost memory costs is told in the README.
"""


class _SegmentEnd(Exception):  # noqa: N818 - an end is no error
    """Leaves scipy's loop at a boundary."""


def minimize(
    value_and_grad: ValueAndGrad,
    start: Array,
    bounds: Bounds | None,
    num_iterations: int,
    callback: Callback,
    stop: Stop,
    state: State | None = None,
) -> Result:
    """Minimises with scipy's L-BFGS-B; see `nst_tf.optimizers.minimize`.

    scipy's own tolerances are off, since they speak of float64 and the function is float32.
    """
    watch = Watch(value_and_grad, start, num_iterations, callback, stop, state)

    def unflatten(flat: np.ndarray) -> Array:
        """Copies scipy's vector, which it goes on changing."""
        return flat.astype(np.float32).reshape(start.shape)

    def descend(x: Array) -> StopReason:
        while True:
            gradient = watch.first_evaluation(x)[1]
            watch.boundary()
            try:
                descend_segment(x, gradient)
            except _SegmentEnd:
                x = watch.x
            else:
                return StopReason.LINE_SEARCH

    def descend_segment(x: Array, gradient: Array) -> None:
        # With bounds, the first trial is the whole gradient away: scaled, it moves few levels.
        scale = FIRST_MOVE / float(np.abs(gradient).max())

        def scaled(flat: np.ndarray) -> tuple[float, np.ndarray]:
            value, gradient = watch.evaluate(unflatten(flat))
            return value * scale, gradient.ravel().astype(np.float64) * scale

        def count(flat: np.ndarray) -> None:
            watch.step(unflatten(flat))
            if watch.iterations % SEGMENT == 0:
                raise _SegmentEnd

        fmin_l_bfgs_b(
            scaled,
            x.ravel().astype(np.float64),
            bounds=None if bounds is None else [bounds] * x.size,
            m=MEMORY,
            factr=0.0,
            pgtol=0.0,
            maxiter=sys.maxsize,
            maxfun=sys.maxsize,
            callback=count,
        )

    # Two BLAS threads make scipy's vector arithmetic three times slower than one.
    with threadpool_limits(1, user_api="blas"):
        return watch.minimize(descend)

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
    Ended,
    Result,
    StopReason,
    ValueAndGrad,
    Watch,
)

MEMORY = 20
"""Pairs of steps kept, as in the authors' own use of scipy for textures (Gatys et al. 2015)."""

_MAX_RESTARTS = 3


def minimize(
    value_and_grad: ValueAndGrad,
    start: Array,
    bounds: Bounds | None,
    num_iterations: int,
    callback: Callback,
) -> Result:
    """Minimises with scipy's L-BFGS-B; see `nst_tf.optimizers.minimize`.

    scipy's own tolerances are off, since they speak of float64 and the function is float32. After a
    value that is not finite, or a line search that failed, it starts again from the best point with
    an empty memory, three times at most.
    """
    watch = Watch(value_and_grad, start, num_iterations, callback)
    restarts = 0
    # Two BLAS threads make scipy's vector arithmetic three times slower than one.
    with threadpool_limits(1, user_api="blas"):
        while True:
            iterations_before = watch.iterations
            reason = _run(watch, start if restarts == 0 else watch.best_x, bounds, num_iterations)
            gave_up = reason is StopReason.LINE_SEARCH and watch.iterations == iterations_before
            failed = reason in (StopReason.NOT_FINITE, StopReason.LINE_SEARCH)
            if not failed or gave_up or restarts == _MAX_RESTARTS or not watch.iterations:
                return watch.result(reason)
            restarts += 1


def _run(watch: Watch, start: Array, bounds: Bounds | None, num_iterations: int) -> StopReason:
    """Runs scipy until it ends or is left by an exception."""
    try:
        _, gradient = watch.evaluate(start)
        if num_iterations == 0:
            return StopReason.NUM_ITERATIONS
        steepest = float(np.abs(gradient).max())
        if steepest == 0.0:
            return StopReason.NO_GRADIENT
        # With bounds, the first trial is the whole gradient away: scaled, it moves few levels.
        scale = FIRST_MOVE / steepest

        def scaled(flat: np.ndarray) -> tuple[float, np.ndarray]:
            value, gradient = watch.evaluate(_unflatten(flat, start))
            return value * scale, gradient.ravel().astype(np.float64) * scale

        fmin_l_bfgs_b(
            scaled,
            start.ravel().astype(np.float64),
            bounds=None if bounds is None else [bounds] * start.size,
            m=MEMORY,
            factr=0.0,
            pgtol=0.0,
            maxiter=sys.maxsize,
            maxfun=sys.maxsize,
            callback=lambda flat: watch.step(_unflatten(flat, start)),
        )
    except Ended as ended:
        return ended.reason
    return StopReason.LINE_SEARCH


def _unflatten(flat: np.ndarray, like: Array) -> Array:
    """Copies scipy's vector, which it goes on changing, into the shape of `like`."""
    return flat.astype(np.float32).reshape(like.shape)

"""BFGS with the full inverse Hessian, through scipy: for small pictures.

J. Nocedal and S. Wright, "Numerical Optimization" (2nd ed., 2006), algorithm 6.1.
"""

import sys

import numpy as np
from scipy.optimize import minimize as scipy_minimize

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


def minimize(
    value_and_grad: ValueAndGrad,
    start: Array,
    bounds: Bounds | None,
    num_iterations: int,
    callback: Callback,
    stop: Stop,
    state: State | None = None,
) -> Result:
    """Minimises with scipy's BFGS, which has no bounds; see `nst_tf.optimizers.minimize`.

    scipy 1.17 holds six matrices of n x n float64 at the peak of its update, as measured.
    """
    del bounds
    watch = Watch(value_and_grad, start, num_iterations, callback, stop, state)

    def descend(x: Array) -> StopReason:
        gradient = watch.first_evaluation(x)[1].astype(np.float64)
        # In these units the gradient has length 1, as scipy's first step then has, and such a step
        # moves few levels.
        length = float(np.linalg.norm(gradient))
        unit = FIRST_MOVE * length / float(np.abs(gradient).max())
        scale = 1.0 / (unit * length)

        def unflatten(flat: np.ndarray) -> Array:
            return (flat * unit).astype(np.float32).reshape(start.shape)

        def scaled(flat: np.ndarray) -> tuple[float, np.ndarray]:
            value, gradient = watch.evaluate(unflatten(flat))
            return value * scale, gradient.ravel().astype(np.float64) * (scale * unit)

        scipy_minimize(
            scaled,
            x.ravel().astype(np.float64) / unit,
            jac=True,
            method="BFGS",
            callback=lambda flat: watch.step(unflatten(flat)),
            options={"gtol": 0.0, "maxiter": sys.maxsize},
        )
        return StopReason.LINE_SEARCH

    return watch.minimize(descend)

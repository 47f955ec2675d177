"""BFGS with the full inverse Hessian, through scipy: for small pictures.

J. Nocedal and S. Wright, "Numerical Optimization" (2nd ed., 2006), algorithm 6.1.
"""

import sys

import numpy as np
from scipy.optimize import minimize as scipy_minimize

from nst_tf import machine
from nst_tf.errors import MachineError
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

_MATRICES = 6
"""Matrices of n x n float64 that scipy 1.17 holds at its update's peak, as measured."""


def memory_needed(variables: int) -> int:
    """Returns the bytes that BFGS needs for so many variables."""
    return _MATRICES * 8 * variables**2


def check_memory(variables: int) -> None:
    """Refuses a problem whose matrices would not fit.

    Args:
        variables: Pixels times three.

    Raises:
        MachineError: BFGS would need more memory than there is.
    """
    needed, available = memory_needed(variables), machine.available_memory()
    if needed > available:
        raise MachineError(
            "optimizer bfgs does not fit",
            f"{variables} variables need {needed / 1e9:.1f} GB for their full inverse Hessian, "
            f"{available / 1e9:.1f} GB are available",
            "use --optimizer=l-bfgs-b, or a smaller --image_size",
        )


def minimize(
    value_and_grad: ValueAndGrad,
    start: Array,
    bounds: Bounds | None,
    num_iterations: int,
    callback: Callback,
) -> Result:
    """Minimises with scipy's BFGS, which has no bounds; see `nst_tf.optimizers.minimize`."""
    del bounds
    check_memory(start.size)
    watch = Watch(value_and_grad, start, num_iterations, callback)
    return watch.result(_run(watch, start, num_iterations))


def _run(watch: Watch, start: Array, num_iterations: int) -> StopReason:
    """Runs scipy until it ends or is left by an exception."""
    try:
        _, gradient = watch.evaluate(start)
        if num_iterations == 0:
            return StopReason.NUM_ITERATIONS
        steepest = float(np.abs(gradient).max())
        if steepest == 0.0:
            return StopReason.NO_GRADIENT
        # In these units the gradient has length 1, as scipy's first step then has, and such a step
        # moves few levels.
        length = float(np.linalg.norm(gradient.astype(np.float64)))
        unit = FIRST_MOVE * length / steepest
        scale = 1.0 / (unit * length)

        def unflatten(flat: np.ndarray) -> Array:
            return (flat * unit).astype(np.float32).reshape(start.shape)

        def scaled(flat: np.ndarray) -> tuple[float, np.ndarray]:
            value, gradient = watch.evaluate(unflatten(flat))
            return value * scale, gradient.ravel().astype(np.float64) * (scale * unit)

        scipy_minimize(
            scaled,
            start.ravel().astype(np.float64) / unit,
            jac=True,
            method="BFGS",
            callback=lambda flat: watch.step(unflatten(flat)),
            options={"gtol": 0.0, "maxiter": sys.maxsize},
        )
    except Ended as ended:
        return ended.reason
    return StopReason.LINE_SEARCH

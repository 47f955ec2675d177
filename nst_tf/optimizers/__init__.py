"""Minimisers of a smooth function of many variables. They know nothing of pictures."""

from nst_tf.optimizers import bfgs, lbfgsb
from nst_tf.optimizers.problem import (
    Array,
    Bounds,
    Callback,
    Result,
    Step,
    StopReason,
    ValueAndGrad,
)

__all__ = [
    "Array",
    "Bounds",
    "Callback",
    "Result",
    "Step",
    "StopReason",
    "ValueAndGrad",
    "check_memory",
    "minimize",
]

_METHODS = {"l-bfgs-b": lbfgsb.minimize, "bfgs": bfgs.minimize}


def minimize(
    method: str,
    value_and_grad: ValueAndGrad,
    start: Array,
    *,
    bounds: Bounds | None,
    num_iterations: int,
    callback: Callback,
) -> Result:
    """Minimises a function from a start.

    Args:
        method: "l-bfgs-b" or "bfgs".
        value_and_grad: Gives the function's value and its gradient, of the shape of `start`.
        start: Where to begin, float32, of any shape.
        bounds: Lower and upper bound of every variable, or None. "bfgs" has none and ignores them.
        num_iterations: How many steps to take at most; with 0 the start is evaluated.
        callback: Called after each step; a true answer stops the minimisation.

    Returns:
        The best point that was evaluated, with the reason for stopping.

    Raises:
        MachineError: The method would need more memory than there is.
    """
    return _METHODS[method](value_and_grad, start, bounds, num_iterations, callback)


def check_memory(method: str, variables: int) -> None:
    """Refuses a problem that is too large for the method.

    Args:
        method: "l-bfgs-b" or "bfgs".
        variables: How many there are.

    Raises:
        MachineError: The method would need more memory than there is.
    """
    if method == "bfgs":
        bfgs.check_memory(variables)

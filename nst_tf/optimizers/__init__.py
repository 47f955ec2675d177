"""Minimisers of a smooth function of many variables. They know nothing of pictures."""

from nst_tf.optimizers import adam, bfgs, lbfgs, lbfgsb
from nst_tf.optimizers.problem import (
    Array,
    Bounds,
    Callback,
    Result,
    State,
    Step,
    Stop,
    StopReason,
    ValueAndGrad,
)

__all__ = [
    "Array",
    "Bounds",
    "Callback",
    "Result",
    "State",
    "Step",
    "Stop",
    "StopReason",
    "ValueAndGrad",
    "minimize",
]

_METHODS = {
    "lbfgs": lbfgs.minimize,
    "l-bfgs-b": lbfgsb.minimize,
    "bfgs": bfgs.minimize,
    "adam": adam.minimize,
}


def minimize(
    method: str,
    value_and_grad: ValueAndGrad,
    start: Array,
    *,
    bounds: Bounds | None,
    num_iterations: int,
    callback: Callback,
    stop: Stop = lambda: False,
    state: State | None = None,
) -> Result:
    """Minimises a function from a start.

    Args:
        method: "lbfgs", "l-bfgs-b", "bfgs" or "adam".
        value_and_grad: Gives the function's value and its gradient, of the shape of `start`.
        start: Where to begin, float32, of any shape.
        bounds: Lower and upper bound of every variable, or None. "bfgs" has none and ignores them.
        num_iterations: How many steps to take at most, those before a resumption included; with 0
            the start is evaluated.
        callback: Called after each step; a true answer stops the minimisation.
        stop: Asked after each evaluation; a true answer stops the minimisation at once.
        state: What `Step.state` gave after some step, to go on from there as if nothing had
            interrupted it: "lbfgs" and "adam" from that step, "l-bfgs-b" from the last multiple of
            50 steps, where it begins anew in every run. "bfgs" goes on with an empty memory.

    Returns:
        The best point that was evaluated, with the reason for stopping.
    """
    return _METHODS[method](value_and_grad, start, bounds, num_iterations, callback, stop, state)

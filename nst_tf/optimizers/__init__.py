"""Minimisers of a smooth function of many variables. They know nothing of pictures."""

import importlib

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

_FILES = {"lbfgs": "lbfgs", "l-bfgs-b": "lbfgsb", "bfgs": "bfgs", "adam": "adam"}


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
    # Only now: scipy's optimisers take a third of a second to import, and not every run needs them.
    chosen = importlib.import_module(f"nst_tf.optimizers.{_FILES[method]}")
    result: Result = chosen.minimize(
        value_and_grad, start, bounds, num_iterations, callback, stop, state
    )
    return result

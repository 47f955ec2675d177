"""Adam, projected into the box after every step, as most tools of style transfer use it.

D. P. Kingma and J. Ba, "Adam: A Method for Stochastic Optimization" (ICLR 2015), algorithm 1.
"""

import numpy as np

from nst_tf.optimizers.problem import (
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

_STEP = 10.0
"""Levels of 255 per step at first, as neural-style has it."""

_DECAYS = (0.9, 0.999)
_EPSILON = 1e-8


def minimize(
    value_and_grad: ValueAndGrad,
    start: Array,
    bounds: Bounds | None,
    num_iterations: int,
    callback: Callback,
    stop: Stop,
    state: State | None = None,
) -> Result:
    """Minimises with Adam; see `nst_tf.optimizers.minimize`."""
    watch = Watch(value_and_grad, start, num_iterations, callback, stop, state)
    low, high = bounds or (-np.inf, np.inf)

    def descend(x: Array) -> StopReason:
        _, gradient = watch.first_evaluation(x)
        first, second = np.zeros_like(x), np.zeros_like(x)
        # The gradient's unit must not matter beside epsilon.
        unit = float(1.0 / np.abs(gradient).max())
        number = 0

        def state() -> State:
            return {
                "first": first,
                "second": second,
                "unit": np.array(unit),
                "number": np.array(number),
            }

        if restored := watch.resume(state):
            first, second = restored["first"], restored["second"]
            unit, number = float(restored["unit"]), int(restored["number"])
        while True:
            g = gradient * unit
            next_first = _DECAYS[0] * first + (1 - _DECAYS[0]) * g
            next_second = _DECAYS[1] * second + (1 - _DECAYS[1]) * g**2
            mean = next_first / (1 - _DECAYS[0] ** (number + 1))
            spread = np.sqrt(next_second / (1 - _DECAYS[1] ** (number + 1)))
            x = np.clip(x - _STEP * mean / (spread + _EPSILON), low, high).astype(np.float32)
            _, gradient = watch.evaluate(x)
            # Only now, as an evaluation may be the end, and `state` is that of the last step.
            first, second, number = next_first, next_second, number + 1
            watch.step(x)

    return watch.minimize(descend)

"""Minimizers of a smooth function of many variables."""

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from nst_tf.optimizers.result import Result, State, Step, StopReason

if TYPE_CHECKING:
    import keras
    import numpy.typing as npt
    import tensorflow as tf

__all__ = ["Result", "Step", "StopReason", "minimize"]

_MODULES = {"lbfgs": "lbfgs", "l-bfgs-b": "lbfgsb", "bfgs": "bfgs"}


def minimize(
    value_and_gradients: "Callable[[tf.Tensor], tuple[Any, Any]]",
    initial: "tf.Tensor | npt.ArrayLike",
    *,
    method: "str | keras.optimizers.Optimizer" = "lbfgs",
    bounds: tuple[float, float] | None = None,
    max_iterations: int = 300,
    initial_step: float = 1.0,
    history: int = 20,
    history_dtype: str | None = None,
    tolerance: float = 1e-8,
    callback: Callable[[Step], bool | None] | None = None,
    should_stop: Callable[[], bool] | None = None,
    state: State | None = None,
) -> Result:
    """Minimizes a function of a tensor.

    Example:
        >>> def value_and_gradients(x):
        ...     return tf.reduce_sum((x - 3.0) ** 2), 2.0 * (x - 3.0)
        >>> minimize(value_and_gradients, [0.0, 0.0]).x.numpy()
        array([3., 3.], dtype=float32)

    Args:
        value_and_gradients: Returns the function's value, a scalar, and its gradient, of the shape
            of its argument, a tensor of the shape and dtype of `initial`. Both may be tensors,
            arrays or Python numbers. A value in float64 is used as such. May be a `tf.function`.
        initial: The initial point, of any shape: a tensor, an array or a nested list. float32 and
            float64 are kept, also in all computations; integers become float32, as do lists of
            Python's floats. With bounds, it is first clipped to them.
        method: One of

            - "lbfgs": projected L-BFGS on the device of the tensors. It fetches scalars only, at
              most twice per evaluation.
            - "l-bfgs-b": scipy's `fmin_l_bfgs_b`. Its memory is emptied every 50 steps.
            - "bfgs": scipy's BFGS, for few variables. Ignores `bounds`.
            - "adam": Adam on the device, with a learning rate of `initial_step`. The gradient is
              divided by the largest element of the first one.
            - A `keras.optimizers.Optimizer`, of which a copy is used; its learning rate counts and
              not `initial_step`.
        bounds: Lower and upper bound of every variable, which may be infinite, or None.
        max_iterations: Steps at most, those before an interruption included. With 0, the initial
            point is evaluated.
        initial_step: Largest change of any variable in the first trial step, in the unit of the
            variables.
        history: Pairs of steps and changes of the gradient kept at most ("lbfgs" and "l-bfgs-b");
            with a state of "lbfgs", as many as it was made with.
        history_dtype: Type in which "lbfgs" keeps these pairs, "bfloat16", "float32" or "float64";
            None for that of `initial`. bfloat16 takes half the memory of float32.
        tolerance: The minimization has converged if the value falls by less than this share of it
            in 20 iterations. With Adam and other methods whose values also rise, that may be long
            before a minimum; 0 switches it off.
        callback: Called with a `Step` after each accepted step; a true answer stops.
        should_stop: Called after each evaluation; a true answer stops at once.
        state: What `Step.state` returned, to continue as if there had been no interruption: with
            "lbfgs", "adam" and Keras optimizers from that step, with "l-bfgs-b" from the last
            multiple of 50 steps. "bfgs" continues with an empty memory.

    Returns:
        The best point evaluated, with counts and the reason for stopping. A value or gradient that
        is not finite is no exception: the method restarts from the best point, and stops if that
        does not help.

    Raises:
        InputError: An argument is wrong; a `ValueError`, too.
    """
    # Only now: TensorFlow, Keras and scipy take long to import.
    problem = importlib.import_module("nst_tf.optimizers.problem").build(
        value_and_gradients,
        initial,
        method=method,
        bounds=bounds,
        max_iterations=max_iterations,
        initial_step=initial_step,
        history=history,
        history_dtype=history_dtype,
        tolerance=tolerance,
        callback=callback,
        should_stop=should_stop,
        state=state,
    )
    del initial, state
    module = (
        _MODULES.get(method, "keras_optimizer") if isinstance(method, str) else "keras_optimizer"
    )
    result: Result = importlib.import_module(f"nst_tf.optimizers.{module}").minimize(problem)
    return result

"""The arguments of `nst_tf.optimizers.minimize`, checked and converted once for all methods."""

import math
import numbers
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from nst_tf.errors import InputError, did_you_mean
from nst_tf.optimizers.result import State, Step

_METHODS = ("lbfgs", "l-bfgs-b", "bfgs", "adam")
_HISTORY_DTYPES = ("bfloat16", "float32", "float64")


@dataclass(eq=False)
class Problem:
    """What is to be minimized, and how.

    Attributes:
        value_and_gradients: The function.
        initial: The initial point, float32 or float64, within the bounds; None once it is taken.
        method: "lbfgs", "l-bfgs-b", "bfgs", "adam" or a `keras.optimizers.Optimizer`.
        low: Lower bound of every variable; -inf without bounds.
        high: Upper bound of every variable; inf without bounds.
        max_iterations: Steps at most, at least 0.
        initial_step: Largest change of any variable in the first trial step, above 0.
        history: Pairs of steps kept at most, at least 1.
        history_dtype: Type in which the pairs are kept.
        tolerance: Relative decrease over 20 iterations below which the method has converged.
        callback: Called after each step.
        should_stop: Called after each evaluation.
        state: What `Step.state` returned, or None; None once it is taken.
    """

    value_and_gradients: Callable[[tf.Tensor], tuple[Any, Any]]
    initial: tf.Tensor | None
    method: Any
    low: float
    high: float
    max_iterations: int
    initial_step: float
    history: int
    history_dtype: tf.DType
    tolerance: float
    callback: Callable[[Step], bool | None] | None
    should_stop: Callable[[], bool] | None
    state: State | None

    @property
    def is_bounded(self) -> bool:
        """Whether there are bounds."""
        return self.low > -math.inf or self.high < math.inf

    def take_initial(self) -> tf.Tensor:
        """Returns the initial point, once: kept, a large one would take memory to the end."""
        initial, self.initial = self.initial, None
        return initial

    def take_state(self) -> State | None:
        """Returns the state, once, for the same reason."""
        state, self.state = self.state, None
        return state


def build(
    value_and_gradients: Callable[[tf.Tensor], tuple[Any, Any]],
    initial: Any,
    *,
    method: Any,
    bounds: tuple[float, float] | None,
    max_iterations: int,
    initial_step: float,
    history: int,
    history_dtype: Any,
    tolerance: float,
    callback: Callable[[Step], bool | None] | None,
    should_stop: Callable[[], bool] | None,
    state: State | None,
) -> Problem:
    """Checks the arguments of `minimize` and converts them.

    Returns:
        The problem.

    Raises:
        InputError: An argument is of the wrong type or out of its range.
    """
    _check_method(method)
    # scipy's BFGS has no bounds.
    low, high = _interval(None if method == "bfgs" else bounds)
    x = tf.clip_by_value(_point(initial), low, high)
    return Problem(
        value_and_gradients,
        x,
        method,
        low,
        high,
        _integer("max_iterations", max_iterations, 0),
        _number("initial_step", initial_step, above=True),
        _integer("history", history, 1),
        x.dtype if history_dtype is None else _history_dtype(history_dtype),
        _number("tolerance", tolerance),
        callback,
        should_stop,
        state,
    )


def _check_method(method: Any) -> None:
    if isinstance(method, str):
        if method in _METHODS:
            return
    else:
        import keras

        if isinstance(method, keras.optimizers.Optimizer):
            return
    raise InputError(
        "wrong method",
        f"received {method!r}; allowed are {', '.join(_METHODS)} and Keras optimizers",
        did_you_mean(str(method), _METHODS),
    )


def _interval(bounds: Any) -> tuple[float, float]:
    if bounds is None:
        return -math.inf, math.inf
    try:
        low, high = map(float, bounds)
    except (TypeError, ValueError):
        low = high = math.nan
    if not low < high:
        raise InputError(
            "wrong bounds",
            f"received {bounds!r}",
            "give None or a pair of numbers, the lower one first",
        )
    return low, high


def _integer(name: str, value: Any, minimum: int) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        number = minimum - 1
    if number < minimum or isinstance(value, bool):
        raise InputError(
            f"wrong {name}", f"received {value!r}", f"give an integer of at least {minimum}"
        )
    return number


def _number(name: str, value: Any, above: bool = False) -> float:
    real = isinstance(value, numbers.Real) and not isinstance(value, bool)
    number = float(value) if real else math.nan
    if not (math.isfinite(number) and (number > 0 if above else number >= 0)):
        allowed = "above 0" if above else "of at least 0"
        raise InputError(f"wrong {name}", f"received {value!r}", f"give a number {allowed}")
    return number


def _history_dtype(dtype: Any) -> tf.DType:
    try:
        name = tf.as_dtype(dtype).name
    except TypeError:
        name = str(dtype)
    if name not in _HISTORY_DTYPES:
        raise InputError(
            "wrong history_dtype",
            f"received {name!r}; allowed are None, {', '.join(_HISTORY_DTYPES)}",
            did_you_mean(name, _HISTORY_DTYPES),
        )
    return tf.as_dtype(name)


def _point(initial: Any) -> tf.Tensor:
    try:
        x = tf.convert_to_tensor(initial)
    except (TypeError, ValueError) as error:
        raise InputError(
            "wrong initial point", f"it cannot be made a tensor: {error}", "give an array of floats"
        ) from error
    if x.dtype.is_integer:
        x = tf.cast(x, tf.float32)
    if x.dtype not in (tf.float32, tf.float64):
        why, remedy = f"it is of type {x.dtype.name}", "cast it to float32 or float64"
    elif 0 in x.shape:
        why, remedy = f"it is of shape {tuple(x.shape)}", "give at least one variable"
    elif not tf.reduce_all(tf.math.is_finite(x)):
        why, remedy = "it has NaN or infinite elements", "give finite ones"
    else:
        return x
    raise InputError("wrong initial point", why, remedy)

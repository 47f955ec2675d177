"""Optimizers of Keras, Adam among them, projected into the bounds after every step.

D. P. Kingma and J. Ba, "Adam: A Method for Stochastic Optimization" (ICLR 2015).
"""

from functools import partial

import keras
import numpy as np
import tensorflow as tf

from nst_tf.optimizers.monitor import Monitor
from nst_tf.optimizers.problem import Problem
from nst_tf.optimizers.result import Result, State, StopReason

_EPSILON = 1e-8
"""Of Adam, as in the paper; the largest element of the first gradient is scaled to 1."""


def minimize(problem: Problem) -> Result:
    """Minimizes with an optimizer of Keras; see `nst_tf.optimizers.minimize`."""
    monitor = Monitor(problem)
    return monitor.run(partial(_descend, problem, monitor))


def _descend(problem: Problem, monitor: Monitor) -> StopReason:
    is_adam = problem.method == "adam"
    if is_adam:
        optimizer = keras.optimizers.Adam(problem.initial_step, epsilon=_EPSILON)
    else:  # a copy, as an optimizer serves the variable that it was built for
        optimizer = type(problem.method).from_config(problem.method.get_config())
    variable = keras.Variable(monitor.x, dtype=monitor.x.dtype.name)
    optimizer.build([variable])
    kept = _values(optimizer)
    scale = tf.ones((), monitor.x.dtype)

    def state() -> State:
        arrays = {f"optimizer_{index}": np.asarray(value) for index, value in enumerate(kept)}
        return {**arrays, "gradient_scale": np.asarray(scale)}

    restored = monitor.resume(state)
    evaluation = monitor.first_evaluation()
    if is_adam:
        scale = 1.0 / tf.reduce_max(tf.abs(evaluation.gradient))
    if restored is not None:
        scale = tf.constant(restored["gradient_scale"])
        for index, target in enumerate(optimizer.variables):
            target.assign(restored[f"optimizer_{index}"])
    del restored
    while True:
        optimizer.apply([scale * evaluation.gradient], [variable])
        variable.assign(tf.clip_by_value(variable.value, problem.low, problem.high))
        evaluation = monitor.evaluate(tf.identity(variable.value))
        # Only now, as an evaluation may be the last, and the state is that of the last step.
        kept = _values(optimizer)
        monitor.accept(evaluation)


def _values(optimizer: keras.optimizers.Optimizer) -> list[tf.Tensor]:
    """Returns the optimizer's variables as tensors, which later steps do not change."""
    return [tf.convert_to_tensor(variable.value) for variable in optimizer.variables]

"""BFGS with the full inverse Hessian, through scipy: for few variables.

J. Nocedal and S. Wright, "Numerical Optimization" (2nd ed., 2006), algorithm 6.1.
"""

import sys
from functools import partial

from scipy.optimize import minimize as scipy_minimize

from nst_tf.optimizers.monitor import Monitor
from nst_tf.optimizers.problem import Problem
from nst_tf.optimizers.result import Result, StopReason
from nst_tf.optimizers.scipy_bridge import FlatFunction


def minimize(problem: Problem) -> Result:
    """Minimizes with scipy's BFGS, which has no bounds; see `nst_tf.optimizers.minimize`.

    scipy 1.17 holds six matrices of n x n float64 at the peak of its update, as measured.
    """
    monitor = Monitor(problem)
    return monitor.run(partial(_descend, problem, monitor))


def _descend(problem: Problem, monitor: Monitor) -> StopReason:
    function = FlatFunction(problem, monitor, monitor.first_evaluation())
    # Its own tolerances are off: the monitor's count.
    scipy_minimize(
        function,
        function.initial,
        jac=True,
        method="BFGS",
        callback=function.accept,
        options={"gtol": 0.0, "maxiter": sys.maxsize},
    )
    return StopReason.LINE_SEARCH

"""L-BFGS-B through scipy's `fmin_l_bfgs_b`: a bridge between tensors and flat float64 vectors.

R. H. Byrd, P. Lu, J. Nocedal and C. Zhu, "A Limited Memory Algorithm for Bound Constrained
Optimization" (SIAM J. Sci. Comput. 16, 1995).
"""

import contextlib
import sys
from functools import partial

from scipy.optimize import fmin_l_bfgs_b
from threadpoolctl import threadpool_limits

from nst_tf.optimizers.monitor import Monitor
from nst_tf.optimizers.problem import Problem
from nst_tf.optimizers.result import Result, StopReason
from nst_tf.optimizers.scipy_bridge import FlatFunction, Vector

SEGMENT = 50
"""Steps after which scipy starts anew with an empty memory, in every run.

scipy's memory cannot be saved. A run that continues from such a point takes the same steps as one
that was not interrupted. What the lost memory costs is told in docs/speed.md.
"""


class _SegmentEnd(Exception):  # noqa: N818 - as `StopIteration`
    """Leaves scipy's loop at the end of a segment."""


def minimize(problem: Problem) -> Result:
    """Minimizes with scipy's L-BFGS-B; see `nst_tf.optimizers.minimize`."""
    monitor = Monitor(problem)
    # Two BLAS threads make scipy's vector arithmetic three times slower than one.
    with threadpool_limits(1, user_api="blas"):
        return monitor.run(partial(_descend, problem, monitor))


def _descend(problem: Problem, monitor: Monitor) -> StopReason:
    while True:
        evaluation = monitor.first_evaluation()
        monitor.save_restart_point()
        with contextlib.suppress(_SegmentEnd):
            _descend_segment(problem, monitor, FlatFunction(problem, monitor, evaluation))
            return StopReason.LINE_SEARCH


def _descend_segment(problem: Problem, monitor: Monitor, function: FlatFunction) -> None:
    def accept(z: Vector) -> None:
        function.accept(z)
        if monitor.iterations % SEGMENT == 0:
            raise _SegmentEnd

    # Its own tolerances and limits are off: the monitor's count.
    fmin_l_bfgs_b(
        function,
        function.initial,
        bounds=function.bounds,
        m=problem.history,
        factr=0.0,
        pgtol=0.0,
        maxiter=sys.maxsize,
        maxfun=sys.maxsize,
        callback=accept,
    )

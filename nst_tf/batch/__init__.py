"""Batches: many images in one call, in this process, in several, or on a cluster.

from nst_tf import batch

pictures = batch.pictures(config, ["a.jpg", "b.jpg"], ["x.jpg", "y.jpg"], each=True)
outcomes = batch.run(pictures, workers=2)
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nst_tf.batch.execute import Outcome, run
    from nst_tf.batch.plan import Picture, Variant, combinations, expand, pictures
    from nst_tf.batch.sweeps import SweepResult, sweep

_MODULES = {
    "Outcome": "execute",
    "Picture": "plan",
    "SweepResult": "sweeps",
    "Variant": "plan",
    "combinations": "plan",
    "expand": "plan",
    "pictures": "plan",
    "run": "execute",
    "sweep": "sweeps",
}

__all__ = [
    "Outcome",
    "Picture",
    "SweepResult",
    "Variant",
    "combinations",
    "expand",
    "pictures",
    "run",
    "sweep",
]


def __getattr__(name: str) -> Any:
    # A worker of a cluster imports this package and needs few of these.
    if name not in _MODULES:
        raise AttributeError(f"module 'nst_tf.batch' has no attribute {name!r}")
    return getattr(importlib.import_module(f"nst_tf.batch.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

"""Jobs: from image files to an image file, with checkpoints and a record.

    from nst_tf import jobs

    result = jobs.run(config, callbacks=[print])

`run` works in this process, `isolated` in a child process whose death is reported as an error.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nst_tf.jobs.isolation import isolated
    from nst_tf.jobs.result import JobResult
    from nst_tf.jobs.runner import run

_MODULES = {"JobResult": "result", "isolated": "isolation", "run": "runner"}

__all__ = ["JobResult", "isolated", "run"]


def __getattr__(name: str) -> Any:
    # The supervisor of the command imports this package and needs none of these.
    if name not in _MODULES:
        raise AttributeError(f"module 'nst_tf.jobs' has no attribute {name!r}")
    return getattr(importlib.import_module(f"nst_tf.jobs.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

"""Neural style transfer (Gatys et al. 2016): the content of one image in the style of another.

    import nst_tf

    result = nst_tf.stylize("content.jpg", "style.jpg", nst_tf.Config(image_size=256))

The parts are importable by themselves: `nst_tf.losses`, `nst_tf.models`, `nst_tf.optimizers`. Names
are loaded when they are first used, since importing TensorFlow takes seconds.
"""

import importlib
from typing import TYPE_CHECKING, Any

from nst_tf._version import __version__

if TYPE_CHECKING:
    from nst_tf import (
        batch,
        config,
        errors,
        events,
        jobs,
        losses,
        models,
        notebook,
        optimizers,
    )
    from nst_tf.batch import sweep
    from nst_tf.config import Config, load_config
    from nst_tf.engine.stylizer import Result, Stylizer, stylize
    from nst_tf.errors import InputError, MachineError, NstError, NumericalError
    from nst_tf.events import Losses
    from nst_tf.objective.spec import ExtraLoss

_MODULES = {
    "Config": "config",
    "ExtraLoss": "objective.spec",
    "InputError": "errors",
    "Losses": "events",
    "MachineError": "errors",
    "NstError": "errors",
    "NumericalError": "errors",
    "Result": "engine.stylizer",
    "Stylizer": "engine.stylizer",
    "load_config": "config",
    "stylize": "engine.stylizer",
    "sweep": "batch.sweeps",
}
_WITH_KERAS = ("engine", "losses", "objective")
_SUBPACKAGES = (
    "batch",
    "config",
    "errors",
    "events",
    "jobs",
    "losses",
    "models",
    "notebook",
    "optimizers",
)

__all__ = [
    "Config",
    "ExtraLoss",
    "InputError",
    "Losses",
    "MachineError",
    "NstError",
    "NumericalError",
    "Result",
    "Stylizer",
    "__version__",
    "batch",
    "config",
    "errors",
    "events",
    "jobs",
    "load_config",
    "losses",
    "models",
    "notebook",
    "optimizers",
    "stylize",
    "sweep",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES and name not in _SUBPACKAGES:
        raise AttributeError(f"module 'nst_tf' has no attribute {name!r}")
    path = _MODULES.get(name, name)
    if path.partition(".")[0] in _WITH_KERAS:
        from nst_tf.models.backend import import_keras

        import_keras()
    module = importlib.import_module(f"nst_tf.{path}")
    return getattr(module, name) if name in _MODULES else module


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

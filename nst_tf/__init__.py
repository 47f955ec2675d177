"""Neural style transfer in TensorFlow and Keras: a picture in the manner of another.

    import nst_tf

    result = nst_tf.stylize(content, style, nst_tf.Config(image_size=256))

Importing the package is quick: TensorFlow is loaded when `stylize` is first asked for.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nst_tf.config import Config, load_config
    from nst_tf.engine.stylize import Result, stylize
    from nst_tf.errors import InputError, MachineError, NstError, NumericalError

__version__ = "0.1.0"

_HOMES = {
    "Config": "config",
    "load_config": "config",
    "InputError": "errors",
    "NstError": "errors",
    "NumericalError": "errors",
    "MachineError": "errors",
    "Result": "engine.stylize",
    "stylize": "engine.stylize",
}

__all__ = [
    "Config",
    "InputError",
    "MachineError",
    "NstError",
    "NumericalError",
    "Result",
    "__version__",
    "load_config",
    "stylize",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"nst_tf.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'nst_tf' has no attribute {name!r}")

"""Networks: VGG19 as a feature extractor, the AdaIN decoder, and their trained weights.

Importing the package does not import TensorFlow; asking for one of its names does.
"""

import importlib
from typing import TYPE_CHECKING, Any

from nst_tf.models.backend import check_backend, import_keras

if TYPE_CHECKING:
    from nst_tf.models.adain import AdaIN
    from nst_tf.models.vgg19 import layer_features, vgg19_features

_MODULES = {"AdaIN": "adain", "layer_features": "vgg19", "vgg19_features": "vgg19"}

__all__ = ["AdaIN", "check_backend", "layer_features", "vgg19_features"]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        import_keras()
        return getattr(importlib.import_module(f"nst_tf.models.{_MODULES[name]}"), name)
    raise AttributeError(f"module 'nst_tf.models' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

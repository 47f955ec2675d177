"""The check that Keras computes with TensorFlow."""

import json
import os
import sys
from pathlib import Path

from nst_tf.errors import MachineError


def check_backend() -> None:
    """Refuses another Keras backend than TensorFlow.

    Call it before Keras is imported: with a backend that is not installed the import itself fails.

    Raises:
        MachineError: Keras has another backend, or would be imported with one.
    """
    if (backend := _backend()) != "tensorflow":
        raise MachineError(
            "cannot use Keras",
            f"Keras computes with {backend!r}, and nst_tf needs its TensorFlow backend",
            "set KERAS_BACKEND=tensorflow before Keras is imported",
        )


def _backend() -> str:
    """Reads the backend of the imported Keras, or else where Keras reads it, in its order."""
    if keras := sys.modules.get("keras"):
        return str(keras.config.backend())
    if backend := os.environ.get("KERAS_BACKEND"):
        return backend
    folder = os.environ.get("KERAS_HOME") or Path("~/.keras").expanduser()
    try:
        settings = json.loads(Path(folder, "keras.json").read_text(encoding="utf-8"))
        return str(settings["backend"])
    except (OSError, ValueError, TypeError, KeyError):
        return "tensorflow"  # Keras' default

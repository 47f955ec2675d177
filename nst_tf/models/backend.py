"""The import of Keras, and the check that it computes with TensorFlow."""

import contextlib
import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from nst_tf.errors import MachineError

_NO_MEMORY = re.compile(
    r"[^\n'\"]*(?:failed to map segment|cannot allocate memory)[^\n'\"]*", re.IGNORECASE
)
"""What the dynamic linker says where a library does not fit, among the lines of others."""

_process_is_ours = False


def take_process() -> None:
    """Tells that this process runs nothing but nst_tf.

    `import_keras` then imports Keras with TensorFlow, whatever KERAS_BACKEND and keras.json say.
    """
    global _process_is_ours
    _process_is_ours = True


def check_backend() -> None:
    """Refuses another Keras backend than TensorFlow.

    Call it before Keras is imported: with a backend that is not installed the import itself fails.

    Raises:
        MachineError: Keras has another backend, or would be imported with one.
    """
    if keras := sys.modules.get("keras"):
        if (backend := str(keras.config.backend())) != "tensorflow":
            raise _refusal(
                backend,
                "restart Python with KERAS_BACKEND=tensorflow, or use nst_tf.jobs.isolated or the "
                "command, which run in a process of their own",
            )
    elif not _process_is_ours and (backend := _configured_backend()) != "tensorflow":
        raise _refusal(backend, "set KERAS_BACKEND=tensorflow before Keras is imported")


def import_keras() -> None:
    """Imports Keras.

    Raises:
        MachineError: It has another backend, or its own settings keep it from being imported.
    """
    check_backend()
    if "keras" in sys.modules:
        return
    try:
        with _own_settings() if _process_is_ours else contextlib.nullcontext():
            import keras  # noqa: F401
    except Exception as error:  # Keras checks its settings while it is imported
        if lack := _NO_MEMORY.search(str(error)):
            raise MachineError(
                "cannot import TensorFlow", lack[0].strip(), "free some memory or raise its limit"
            ) from error
        if isinstance(error, ModuleNotFoundError):
            raise
        if isinstance(error, ImportError):  # a library of TensorFlow or of a package it needs
            why = (str(error).strip().splitlines() or ["no reason is given"])[-1]
            raise MachineError(
                "cannot import TensorFlow", why[:200], "install TensorFlow again"
            ) from error
        raise MachineError(
            "cannot import Keras",
            f"{type(error).__name__}: {error}",
            f"correct or delete {_settings_file()}, and unset what begins with KERAS_ in the "
            "environment",
        ) from error


@contextlib.contextmanager
def _own_settings() -> Iterator[None]:
    """Hides the user's settings of Keras, of which some keep it from being imported."""
    before = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("KERAS_")}
    # There is no keras.json in it, and none can be written there.
    own = {"KERAS_BACKEND": "tensorflow", "KERAS_HOME": os.devnull}
    os.environ.update(own)
    try:
        yield
    finally:
        for name in own:
            del os.environ[name]
        os.environ.update(before)


def _configured_backend() -> str:
    """Reads the backend where Keras reads it, in its order."""
    if backend := os.environ.get("KERAS_BACKEND"):
        return backend
    try:
        settings = json.loads(_settings_file().read_text(encoding="utf-8"))
        return str(settings["backend"])
    except (OSError, ValueError, TypeError, KeyError):
        return "tensorflow"  # Keras' default


def _settings_file() -> Path:
    try:
        folder = os.environ.get("KERAS_HOME") or Path("~/.keras").expanduser()
    except RuntimeError:  # no home folder
        folder = "/tmp/.keras"
    return Path(folder, "keras.json")


def _refusal(backend: str, remedy: str) -> MachineError:
    return MachineError(
        "cannot use Keras",
        f"Keras computes with {backend!r}, and nst_tf needs its TensorFlow backend",
        remedy,
    )

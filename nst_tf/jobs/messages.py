"""Events, errors and results of a job as JSON lines, from the worker to its parent."""

import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from nst_tf import errors
from nst_tf.errors import InputError, NstError
from nst_tf.events import (
    Checkpointed,
    Event,
    Failed,
    Iteration,
    Losses,
    Planned,
    PlannedLevel,
    Preview,
    Saved,
    Scoring,
)
from nst_tf.io import images
from nst_tf.jobs.result import JobResult

Message = Event | JobResult | str
"""What a line holds; a text is a warning."""

STOP = "stop"
"""The line by which the parent asks for the end of a job."""

_TYPES: Mapping[str, type[Any]] = {
    type_.__name__: type_
    for type_ in (Planned, Preview, Iteration, Scoring, Checkpointed, Saved, Failed, JobResult)
}


_FILES = ("path", "timelapse")
"""Fields that hold paths."""


def encode(message: Message) -> str:
    """Encodes a message; images and states are left out.

    Args:
        message: Any.

    Returns:
        One line, without its end.
    """
    if isinstance(message, str):
        return json.dumps({"type": "warning", "text": message})
    return json.dumps({"type": type(message).__name__, **_values(message)})


def decode(line: str) -> Message | None:
    """Decodes a line; the image of a `Preview` is read from its file.

    Args:
        line: What `encode` returned.

    Returns:
        The message; None for a `Preview` whose file cannot be read.
    """
    values: dict[str, Any] = json.loads(line)
    name = values.pop("type")
    if name == "warning":
        return str(values["text"])
    if values.get("losses"):
        values["losses"] = Losses(values["losses"]["terms"])
    for name_of_file in _FILES:
        if values.get(name_of_file):
            values[name_of_file] = Path(values[name_of_file])
    if name == "Planned":
        values["levels"] = tuple(PlannedLevel(*level) for level in values["levels"])
        values["notes"] = tuple(values["notes"])
    if name == "Failed":
        values["error"] = _decode_error(values["error"])
    if name == "Preview":
        return _decode_preview(values["path"])
    message: Message = _TYPES[name](**values)
    return message


def _values(message: Event | JobResult) -> dict[str, Any]:
    match message:
        case Preview():
            return {"path": message.path and str(message.path)}
        case Failed(error=error):
            names = ("what", "why", "remedy", "where", "exit_code")
            plain = {name: getattr(error, name) for name in names}
            known = next(kind for kind in type(error).__mro__ if hasattr(errors, kind.__name__))
            return {"error": {"type": known.__name__, **plain}}
    values = {field.name: getattr(message, field.name) for field in fields(message)}
    values.pop("source", None)
    if values.get("losses"):
        values["losses"] = asdict(values["losses"])
    for name_of_file in _FILES:
        if values.get(name_of_file):
            values[name_of_file] = str(values[name_of_file])
    return values


def _decode_error(values: dict[str, Any]) -> NstError:
    type_: type[NstError] = getattr(errors, values["type"])
    error = type_(values["what"], values["why"], values["remedy"], where=values["where"])
    error.exit_code = values["exit_code"]
    return error


def _decode_preview(path: Path | None) -> Preview | None:
    if path is None:
        return None
    try:
        return Preview(images.read(path, profile=images.profile_of(path)), path)
    except InputError:
        return None

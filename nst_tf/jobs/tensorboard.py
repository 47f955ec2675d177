"""The losses and images of a job for TensorBoard: event files in the run folder.

`tf.summary` needs the package tensorboard, too. Its own records are written here, since they can
say that a run continues from an earlier step, whereupon TensorBoard drops what came after that.
"""

import contextlib
import io
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from nst_tf import system
from nst_tf.config import Config
from nst_tf.engine.pyramid import Level
from nst_tf.events import Event, Iteration
from nst_tf.image.arrays import ImageArray, Pixels, quantize
from nst_tf.image.resize import resize, resized_shape
from nst_tf.io import files

FOLDER = "tensorboard"
"""The folder of the event files in the run folder."""

_NUMBER_OF_IMAGES = 10
"""Images of a run beside that of its first iteration; TensorBoard shows as many of a level."""

_LARGEST_SIDE = 512
"""Pixels of the longer side of images."""

_PREFIX = "events.out.tfevents."
_FILE_VERSION = "brain.Event:2"


def check(config: Config) -> None:
    """Refuses `tensorboard` where the package is not installed.

    Args:
        config: All settings.

    Raises:
        MachineError: It is not installed.
    """
    if config.tensorboard:
        system.optional_module("tensorboard", "tensorboard", "write for TensorBoard", FOLDER)


def remove_events(run_folder: Path) -> None:
    """Removes the event files of an earlier run.

    Args:
        run_folder: The run folder.
    """
    folder = run_folder / FOLDER
    for level in folder.glob("*"):
        _remove(level)
    with contextlib.suppress(OSError):  # there is none, or somebody keeps other files there
        folder.rmdir()


class TensorBoard:
    """Writes the loss terms of every iteration, and ten images of the run.

    Each level is a run of its own in TensorBoard, as losses of different sizes cannot be compared.
    A step is an iteration over all levels. What was written after the state that a run continues
    from is dropped.

    Args:
        folder: The run folder.
        levels: The plan of the run.
        encode: Encodes 8-bit pixels as PNG.
    """

    def __init__(
        self,
        folder: Path,
        levels: Sequence[Level],
        encode: Callable[[Pixels], bytes],
    ) -> None:
        self._folder = folder / FOLDER
        self._names = {
            level.shape: f"{number}-{level.shape[1]}x{level.shape[0]}"
            for number, level in enumerate(levels, start=1)
        }
        self._encode = encode
        self._last = 0
        self._level = ""
        self._images = -1
        self._file = self._folder

    def __call__(self, event: Event) -> None:
        """Writes an `Iteration`."""
        if not isinstance(event, Iteration):
            return
        from tensorboard.compat.proto.summary_pb2 import Summary

        level = self._names[event.height, event.width]
        if level != self._level or event.iteration <= self._last:
            self._begin(level, event.iteration)
        self._last = event.iteration
        values = [
            Summary.Value(tag=f"loss/{name}", simple_value=value)
            for name, value in {"total": event.losses.total, **event.losses.terms}.items()
        ]
        images = int(event.done * _NUMBER_OF_IMAGES + 1e-6)
        if images != self._images:
            self._images = images
            values.append(Summary.Value(tag="image", image=self._image(event.image)))
        files.append(self._file, _record(step=event.iteration, summary=Summary(value=values)))

    def _begin(self, level: str, step: int) -> None:
        """Begins a file for a level, which drops the steps of it and of all finer levels."""
        from tensorboard.compat.proto.event_pb2 import SessionLog

        names = list(self._names.values())
        for finer in names[names.index(level) + 1 :]:
            _remove(self._folder / finer)
        folder = self._folder / level
        folder.mkdir(parents=True, exist_ok=True)
        number = len(list(folder.iterdir()))  # TensorBoard reads files in the order of their names
        self._level, self._file = level, folder / f"{_PREFIX}{number:010d}"
        start = SessionLog(status=SessionLog.START)
        files.append(self._file, _record(file_version=_FILE_VERSION))
        files.append(self._file, _record(step=step, session_log=start))

    def _image(self, image: ImageArray) -> Any:
        from tensorboard.compat.proto.summary_pb2 import Summary

        height, width = resized_shape(image.shape[:2], min(_LARGEST_SIDE, max(image.shape)))
        png = self._encode(quantize(resize(image, (height, width))))
        return Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=png)


def _remove(level: Path) -> None:
    """Removes the event files of a level, and its folder if nothing else is in it."""
    for path in level.glob(f"{_PREFIX}*"):
        path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        level.rmdir()


def _record(**event: Any) -> bytes:
    """Encodes an event as TensorFlow's event files hold it: with its length and checksums."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.summary.writer.record_writer import RecordWriter

    data = io.BytesIO()
    RecordWriter(data).write(Event(wall_time=time.time(), **event).SerializeToString())
    return data.getvalue()

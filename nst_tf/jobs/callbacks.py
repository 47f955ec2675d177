"""Callbacks that write the files of a run folder: trace, images and checkpoints."""

import itertools
import math
import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Generic, TypeVar

from nst_tf.config import ReportingSettings
from nst_tf.engine.pyramid import Level
from nst_tf.errors import InputError, MachineError, warn
from nst_tf.events import Checkpointed, Event, Iteration, Preview, Scoring
from nst_tf.image.arrays import ImageArray, Pixels, quantize
from nst_tf.image.resize import resize
from nst_tf.io import files
from nst_tf.jobs import checkpoint
from nst_tf.jobs.checkpoint import Checkpoint
from nst_tf.jobs.provenance import Facts
from nst_tf.jobs.tensorboard import TensorBoard
from nst_tf.jobs.timelapse import Frames

TRACE_COLUMNS = (
    "iteration",
    "evaluations",
    "seconds",
    "width",
    "height",
    "loss",
    "content_loss",
    "style_loss",
    "grain_loss",
    "tv_loss",
)

_SAVING_SHARE = 1 / 50
"""The largest share of the time that saving checkpoints may take."""


AnyEvent = TypeVar("AnyEvent")


class CallbackList(Generic[AnyEvent]):
    """Calls several callbacks, none of which can end a job by failing.

    Args:
        callbacks: Called in this order; one that raises is reported by a warning and not called
            again.
    """

    def __init__(self, callbacks: Iterable[Callable[[AnyEvent], object]]) -> None:
        self._active = list(callbacks)

    def __call__(self, event: AnyEvent) -> bool:
        """Passes an event on.

        Args:
            event: Any.

        Returns:
            Whether any of the callbacks returned a true value, which asks for the end.
        """
        stop = False
        for callback in list(self._active):
            try:
                stop = bool(callback(event)) or stop
            except Exception as error:  # noqa: BLE001 - hours of work outweigh a report
                self._active.remove(callback)
                name = getattr(callback, "__name__", type(callback).__name__)
                warn(f"{name} failed and is left out from here on: {error}")
        return stop


class Trace:
    """Appends the losses of every iteration to a table, which grows during the run.

    Args:
        path: The CSV file.
        rows: The rows of the run that is continued, to which the file is cut back; 0 for a new run.
    """

    def __init__(self, path: Path, rows: int = 0) -> None:
        self._path = path
        self._rows = 0
        self._pending: list[str] = []
        self._failing = False
        self._cut(rows)

    def __call__(self, event: Event) -> None:
        """Appends a row for an `Iteration`."""
        if not isinstance(event, Iteration):
            return
        if event.iteration <= self._rows:  # the optimizer continues from an earlier iteration
            self._cut(event.iteration - 1)
        losses = event.losses
        values = (
            event.iteration,
            event.evaluations,
            round(event.seconds, 3),
            event.width,
            event.height,
            losses.total,
            losses.content,
            losses.style,
            losses.grain,
            losses.tv,
        )
        self._rows += 1
        self._append(",".join(map(str, values)))

    def _cut(self, rows: int) -> None:
        """Cuts the file back to its header and so many rows."""
        lines: list[bytes] = []
        if rows and self._path.exists():
            lines = self._path.read_bytes().splitlines(keepends=True)[: rows + 1]
        self._rows = max(0, len(lines) - 1)
        if self._rows < rows:
            warn(f"{self._path.name} has lost {rows - self._rows} of {rows} rows")
        try:
            files.truncate_to(self._path, sum(map(len, lines)))
        except MachineError as error:
            warn(error)
        if not lines:
            self._append(",".join(TRACE_COLUMNS))

    def _append(self, line: str) -> None:
        """Appends a line, and those that could not be appended before."""
        self._pending.append(line)
        try:
            files.append_lines(self._path, self._pending)
        except MachineError as error:
            if not self._failing:  # once is enough, until it works again
                warn(error)
            self._failing = True
        else:
            self._pending.clear()
            self._failing = False


class Snapshots:
    """Saves the initial image, and the current one every so many iterations.

    Args:
        folder: The run folder.
        every: Iterations between two snapshots; 0 for none.
        keep: The number of snapshots to keep; 0 for all.
        num_iterations: The last iteration, for names that sort.
        encode: Encodes 8-bit pixels as PNG.
        continued: Whether those of an earlier run count, which goes on.
    """

    def __init__(
        self,
        folder: Path,
        every: int,
        keep: int,
        num_iterations: int,
        encode: Callable[[Pixels], bytes],
        *,
        continued: bool = False,
    ) -> None:
        self._folder = folder
        self._every = every
        self._keep = keep
        self._kept = _snapshots(folder) if continued else {}
        self._digits = len(str(num_iterations))
        self._encode = encode

    def save_initial(self, image: ImageArray) -> Path | None:
        """Saves the initial image as "first.png".

        Args:
            image: RGB [H, W, 3] in [0, 255].

        Returns:
            The file; None where it could not be written, which is reported by a warning.
        """
        try:
            return self._save("first.png", image)
        except Exception as error:  # noqa: BLE001 - an encoder may raise anything
            warn(f"the initial image could not be saved as first.png: {error}")
            return None

    def __call__(self, event: Event) -> None:
        """Saves the image of an `Iteration` when one is due."""
        if not isinstance(event, Iteration) or not self._every or event.iteration % self._every:
            return
        later = [number for number in self._kept if number >= event.iteration]
        for number in later:  # the optimizer continues from earlier
            self._kept.pop(number).unlink(missing_ok=True)
        name = f"iteration-{event.iteration:0{self._digits}d}.png"
        self._kept[event.iteration] = self._save(name, event.image)
        while self._keep and len(self._kept) > self._keep:
            self._kept.pop(min(self._kept)).unlink(missing_ok=True)

    def _save(self, name: str, image: ImageArray) -> Path:
        path = self._folder / name
        files.atomic_write(path, self._encode(quantize(image)))
        return path


def _snapshots(folder: Path) -> dict[int, Path]:
    """Finds the snapshots in a run folder, by the number of their iteration."""
    found = {path: re.fullmatch(r"iteration-(\d+)\.png", path.name) for path in folder.iterdir()}
    return {int(match[1]): path for path, match in found.items() if match}


class Latest:
    """Keeps the current image in one file of constant size, on which a viewer can be left open.

    It is written every few seconds at most, and takes at most a fiftieth of the time: after an
    image that took long to encode, the next one waits longer.

    Args:
        path: The PNG file.
        shape: Height and width of the result, to which images of coarse levels are enlarged.
        encode: Encodes 8-bit pixels as PNG.
        every: Seconds between two images.

    Attributes:
        saved: The file, once it is written; None before.
    """

    def __init__(
        self,
        path: Path,
        shape: tuple[int, int],
        encode: Callable[[Pixels], bytes],
        every: float = 5.0,
    ) -> None:
        self.saved: Path | None = None
        self._path = path
        self._shape = shape
        self._encode = encode
        self._every = every
        self._due_at = -math.inf

    def __call__(self, event: Event) -> None:
        """Copies the file of a `Preview`, and writes the image of an `Iteration` when it is due."""
        if isinstance(event, Preview):
            self._copy(event.path)
        elif isinstance(event, Iteration) and time.monotonic() >= self._due_at:
            self.save(event.image)

    def save(self, image: ImageArray) -> None:
        """Writes an image; a failure is reported by a warning, and nothing is written any more.

        Args:
            image: RGB [h, w, 3] in [0, 255].
        """
        shown = image if image.shape[:2] == self._shape else resize(image, self._shape)
        self._write(lambda: self._encode(quantize(shown)))

    def _copy(self, path: Path | None) -> None:
        if path is None:  # it could not be written either, which was reported
            self._due_at = math.inf
        else:
            self._write(path.read_bytes)

    def _write(self, make: Callable[[], bytes]) -> None:
        if self._due_at == math.inf:
            return
        before = time.monotonic()
        try:
            files.atomic_write(self._path, make())
        except Exception as error:  # noqa: BLE001 - an encoder may raise anything
            warn(f"{self._path.name} is not kept fresh from here on: {error}")
            self._due_at = math.inf
            return
        self.saved = self._path
        after = time.monotonic()
        self._due_at = after + max(self._every, (after - before) / _SAVING_SHARE)


class Checkpoints:
    """Saves checkpoints: at most every so many seconds, when a level begins, and at the end.

    Saving takes at most a fiftieth of the time: after one that took long, the next waits longer.

    Args:
        folder: The run folder.
        every: Seconds between two checkpoints; 0 for none.
        make: Makes the checkpoint of an iteration.
        notify: Called with a `Checkpointed` after each.
        read_before: Reads the checkpoint of the run that is continued; None where there is none.

    Attributes:
        seconds: The time spent on saving.
    """

    def __init__(
        self,
        folder: Path,
        every: float,
        make: Callable[[Iteration], Checkpoint],
        notify: Callable[[Checkpointed], object] = lambda _: None,
        read_before: Callable[[], Checkpoint | None] = lambda: None,
    ) -> None:
        self.seconds = 0.0
        self._folder = folder
        self._every = every
        self._make = make
        self._notify = notify
        self._read_before = read_before
        self._saved_at = time.monotonic()
        self._interval = every
        self._failing = False
        self._shape: tuple[int, int] | None = None
        self._unsaved: Iteration | None = None
        self._saved: Path | None = None

    def __call__(self, event: Event) -> None:
        """Saves at an `Iteration` when it is time, at the first of a level, and at `Scoring`.

        Computing the loss in the end may take long, and as much memory as an iteration: what the
        optimizer keeps is let go before.
        """
        if isinstance(event, Scoring):
            self.save()
        if not isinstance(event, Iteration):
            return
        shape, self._shape = self._shape, (event.height, event.width)
        self._unsaved = event
        is_new_level = shape not in (None, self._shape)
        if is_new_level or time.monotonic() - self._saved_at >= self._interval:
            self.save()

    def save(self) -> None:
        """Saves the state after the last iteration if that is not done; warns where that fails."""
        if not self._every or self._unsaved is None:
            return
        before, iteration = time.monotonic(), self._unsaved.iteration
        try:
            path = self._write(self._make(self._unsaved))
        except MachineError as error:
            path = None
            if not self._failing:  # once is enough, until it works again
                warn(f"no checkpoint, the one before is kept: {error}")
        self._failing = path is None
        self._saved_at = time.monotonic()
        duration = self._saved_at - before
        self.seconds += duration
        self._interval = max(self._every, duration / _SAVING_SHARE)
        if path is not None:
            self._notify(Checkpointed(path, iteration, duration))

    def finish(self, *, keep: bool) -> None:
        """Removes the checkpoints of a finished run, and keeps its final state.

        Args:
            keep: Whether to keep it. A failure is reported by a warning.
        """
        last = None
        try:
            last = self._final() if keep else None
        except (InputError, MachineError) as error:
            warn(f"the final state is not kept, from which more iterations could go on: {error}")
        try:
            checkpoint.finish(self._folder, last)
        except OSError as error:
            warn(f"the checkpoints of the finished run could not be removed: {error}")

    def _final(self) -> Path | None:
        """Returns the file of the final state, which is written where that is not done."""
        if self._unsaved is not None:
            return self._write(self._make(self._unsaved))
        if self._saved is None and (before := self._read_before()) is not None:
            return self._write(before)
        return self._saved

    def _write(self, point: Checkpoint) -> Path:
        self._saved = checkpoint.save(self._folder, point)
        self._unsaved = None
        return self._saved


class RunFolderWriter:
    """Writes the trace, the images and the checkpoints of a job, and passes events on.

    Args:
        folder: The run folder.
        reporting: How often to write what.
        levels: The plan of the run.
        fingerprint: What the result depends on.
        environment: What computes it.
        encode: Encodes 8-bit pixels as PNG.
        notify: The callbacks of the job; called before anything is written, except for the path
            of a `Preview`.
        first_number: The number of the first checkpoint.
        iterations_before: The iterations of the run that is continued; None where there is none.
        read_before: Reads its checkpoint.

    Attributes:
        snapshots: The images saved.
        latest: The image on which a viewer can be left open.
        timelapse: The frames of the animation; None where none is asked for.
        checkpoints: The states saved.
    """

    def __init__(
        self,
        folder: Path,
        reporting: ReportingSettings,
        levels: Sequence[Level],
        fingerprint: Facts,
        environment: Facts,
        encode: Callable[[Pixels], bytes],
        notify: CallbackList[Event],
        *,
        first_number: int = 0,
        iterations_before: int | None = None,
        read_before: Callable[[], Checkpoint | None] = lambda: None,
    ) -> None:
        numbers = itertools.count(first_number)
        trace = Trace(folder / "trace.csv", iterations_before or 0)
        every, keep = reporting.save_iter, reporting.max_snapshots

        def make(event: Iteration) -> Checkpoint:
            return Checkpoint(
                next(numbers), fingerprint, environment, event.iteration, event.state()
            )

        num_iterations = sum(level.num_iterations for level in levels)
        self.snapshots = Snapshots(
            folder, every, keep, num_iterations, encode, continued=iterations_before is not None
        )
        self.latest = Latest(folder / "latest.png", levels[-1].shape, encode)
        self.checkpoints = Checkpoints(
            folder, reporting.checkpoint_seconds, make, notify, read_before
        )
        self.timelapse = None
        if reporting.timelapse is not None:
            self.timelapse = Frames(folder, levels, reporting.timelapse_seconds)
        board = TensorBoard(folder, levels, encode) if reporting.tensorboard else None
        self._notify = notify
        writers = (trace, self.snapshots, self.latest, self.timelapse, board, self.checkpoints)
        self._write = CallbackList[Event](writer for writer in writers if writer is not None)

    def __call__(self, event: Event) -> bool:
        """Handles an event; returns whether a callback of the job asks for the end."""
        if isinstance(event, Preview):
            event = replace(event, path=self.snapshots.save_initial(event.image))
        stop = self._notify(event)
        self._write(event)
        return stop

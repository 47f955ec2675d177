"""Everything a person sees while a run goes on: listeners to its progress."""

import contextlib
import csv
import io
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as ProgressBar

import nst_tf
from nst_tf.engine.pyramid import Level
from nst_tf.engine.stylize import Listener, Progress
from nst_tf.errors import MachineError, warn
from nst_tf.image.arrays import ImageArray, Pixels, quantize
from nst_tf.io import files
from nst_tf.jobs import checkpoint
from nst_tf.jobs.checkpoint import Checkpoint, Position

TRACE_COLUMNS = (
    "iteration",
    "evaluations",
    "seconds",
    "width",
    "height",
    "loss",
    "content_loss",
    "style_loss",
    "tv_loss",
)


def say(text: str) -> None:
    """Prints a line, where anybody is there to read it: a closed pipe ends no run."""
    with contextlib.suppress(OSError, ValueError):
        print(text, flush=True)


def attempt(action: Callable[[], None]) -> None:
    """Does something that no run may end for; warns where it fails."""
    try:
        action()
    except MachineError as error:
        warn(error)


def opening(levels: Sequence[Level], where: str, needs: str) -> str:
    """Says what a run is about to do.

    Args:
        levels: The plan, the last level at full size.
        where: The precision and the device.
        needs: What it will take.

    Returns:
        One line.
    """
    steps = [f"{level.shape[1]}x{level.shape[0]}: {level.num_iterations}" for level in levels]
    plan = f"iterations at {', '.join(steps)}"
    return f"nst_tf {nst_tf.__version__}, {where}; {plan}; {needs}"


def describe(progress: Progress) -> str:
    """Says in a few words how far a run is."""
    losses = progress.losses
    terms = [f"content {losses.content:.4g}", f"style {losses.style:.4g}"]
    if losses.tv:
        terms.append(f"tv {losses.tv:.4g}")
    height, width = progress.picture.shape[:2]
    return f"{width}x{height}  loss {losses.total:.5g} ({', '.join(terms)})"


class Trace:
    """Keeps the losses of every iteration for a table.

    Args:
        path: The CSV file that `save` writes.
        rows: What there is already, of a run that is resumed.

    Attributes:
        rows: A row for each iteration so far.
    """

    def __init__(self, path: Path, rows: Sequence[Sequence[float]] = ()) -> None:
        self._path = path
        self.rows: list[Sequence[float]] = list(rows)

    def __call__(self, progress: Progress) -> None:
        """Adds a row."""
        losses = progress.losses
        self.rows.append(
            (
                progress.iteration,
                progress.evaluations,
                round(progress.seconds, 3),
                progress.picture.shape[1],
                progress.picture.shape[0],
                losses.total,
                losses.content,
                losses.style,
                losses.tv,
            )
        )

    def save(self) -> None:
        """Writes the table."""
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\n").writerows([TRACE_COLUMNS, *self.rows])
        files.atomic_write(self._path, text.getvalue().encode())


_TIMES_LONGER = 50
"""How much longer the run computes than it saves."""


class Snapshots:
    """Saves the first picture, and that of every so many iterations.

    Args:
        folder: Where to.
        every: How many iterations lie between two pictures; with 0 there are none.
        most: How many of the last are kept; with 0 all are.
        num_iterations: The last iteration, for names that sort.
        encode: Makes the bytes of a PNG of 8-bit pixels.

    Attributes:
        latest: The picture saved last, if any.
    """

    def __init__(
        self,
        folder: Path,
        every: int,
        most: int,
        num_iterations: int,
        encode: Callable[[Pixels], bytes],
    ) -> None:
        self.latest: Path | None = None
        self._most = most
        self._kept: deque[Path] = deque()
        self._folder = folder
        self._every = every
        self._digits = len(str(num_iterations))
        self._encode = encode

    def first(self, picture: ImageArray) -> None:
        """Saves the picture that a run starts from, which is there long before the result."""
        path = self._folder / "first.png"
        attempt(lambda: self._save(path, picture))
        if self.latest == path:
            say(f"first picture: {os.path.relpath(path)}")

    def __call__(self, progress: Progress) -> None:
        """Saves a picture when one is due."""
        if self._every and progress.iteration % self._every == 0:
            name = f"iteration-{progress.iteration:0{self._digits}d}.png"
            self._save(self._folder / name, progress.picture)
            self._kept.append(self._folder / name)
            if self._most and len(self._kept) > self._most:
                self._kept.popleft().unlink(missing_ok=True)

    def _save(self, path: Path, picture: ImageArray) -> None:
        files.atomic_write(path, self._encode(quantize(picture)))
        self.latest = path


class Checkpoints:
    """Saves where a run stands, so often that little is lost and so seldom that little time is.

    Saving takes at most a fiftieth of the time: after one that took long, the next waits longer.

    Args:
        folder: Where to.
        every: Seconds between two checkpoints; with 0 there are none.
        describe: Makes a checkpoint of a position.

    Attributes:
        seconds: The time spent on saving.
    """

    def __init__(
        self, folder: Path, every: float, describe: Callable[[Position], Checkpoint]
    ) -> None:
        self.seconds = 0.0
        self._folder = folder
        self._every = every
        self._describe = describe
        self._saved = time.monotonic()
        self._wait = every
        self._failing = False
        self._position: Callable[[], Position] | None = None
        self._shape: tuple[int, ...] | None = None

    def __call__(self, progress: Progress) -> None:
        """Saves when it is time, and when a level begins."""
        self._position = progress.position
        shape, self._shape = self._shape, progress.picture.shape
        begins = shape is not None and shape != self._shape
        if begins or time.monotonic() - self._saved >= self._wait:
            self.save()

    def save(self) -> None:
        """Saves where the run stands now, after its last iteration; warns where that fails."""
        if not self._every or self._position is None:
            return
        before = time.monotonic()
        try:
            checkpoint.save(self._folder, self._describe(self._position()))
            self._failing = False
        except MachineError as error:
            if not self._failing:  # once is enough, until it works again
                warn(f"no checkpoint, the one before is kept: {error}")
            self._failing = True
        self._saved = time.monotonic()
        took = self._saved - before
        self.seconds += took
        self._wait = max(self._every, took * _TIMES_LONGER)


class Lines:
    """Prints a line every so many iterations, for logs and pipes.

    Args:
        every: How many iterations lie between two lines; with 0 there are none.
        num_iterations: How many there will be.
    """

    def __init__(self, every: int, num_iterations: int) -> None:
        self._every = every
        self._num_iterations = num_iterations

    def __call__(self, progress: Progress) -> None:
        """Prints a line when one is due."""
        if self._every and progress.iteration % self._every == 0:
            left = progress.seconds * (1.0 / progress.done - 1.0)
            say(
                f"iteration {progress.iteration}/{self._num_iterations}  {describe(progress)}  "
                f"{progress.seconds:.0f} s, {left:.0f} s left"
            )


@contextlib.contextmanager
def display(print_iter: int, num_iterations: int) -> Iterator[Listener]:
    """Shows a moving bar on a terminal, and gives plain lines elsewhere.

    Args:
        print_iter: Iterations between two lines.
        num_iterations: How many there will be, over all levels.

    Yields:
        The listener that moves it.
    """
    console = Console()
    if not console.is_terminal:
        yield Lines(print_iter, num_iterations)
        return
    columns = (
        TextColumn("iteration {task.fields[iteration]}"),
        BarColumn(),
        TextColumn("{task.description}"),
        TimeRemainingColumn(),
    )
    with ProgressBar(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=1.0, iteration=f"0/{num_iterations}")

        def move(progress: Progress) -> None:
            iteration = f"{progress.iteration}/{num_iterations}"
            bar.update(
                task,
                completed=progress.done,
                description=describe(progress),
                iteration=iteration,
            )

        yield move


def together(listeners: Sequence[Listener]) -> Listener:
    """Makes one listener of several, none of which can end the run by failing.

    Args:
        listeners: They are called in this order; one that raises is warned of and not called again.

    Returns:
        A listener that asks for the end when any of them does.
    """
    active = list(listeners)

    def listen(progress: Progress) -> bool:
        stop = False
        for listener in list(active):
            try:
                stop = bool(listener(progress)) or stop
            except Exception as error:  # noqa: BLE001 - hours of work outweigh a report
                active.remove(listener)
                name = type(listener).__name__
                warn(f"{name} failed and is left out from here on: {error}")
        return stop

    return listen

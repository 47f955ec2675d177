"""Everything a person sees while a run goes on: listeners to its progress."""

import contextlib
import csv
import io
import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as ProgressBar

import nst_tf
from nst_tf import images, storage
from nst_tf.pyramid import Level
from nst_tf.style_transfer import Listener, Picture, Progress

_log = logging.getLogger("nst_tf")

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


def opening(levels: Sequence[Level], where: str) -> str:
    """Says what a run is about to do.

    Args:
        levels: The plan, the last level at full size.
        where: The precision and the device.

    Returns:
        One line.
    """
    steps = [f"{level.shape[1]}x{level.shape[0]}: {level.num_iterations}" for level in levels]
    return f"nst_tf {nst_tf.__version__}, {where}; iterations at {', '.join(steps)}"


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
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._rows: list[tuple[float, ...]] = []

    def __call__(self, progress: Progress) -> None:
        """Adds a row."""
        losses = progress.losses
        self._rows.append(
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
        csv.writer(text, lineterminator="\n").writerows([TRACE_COLUMNS, *self._rows])
        storage.publish(self._path, text.getvalue().encode())


class Snapshots:
    """Saves the first picture, and that of every so many iterations.

    Args:
        folder: Where to.
        every: How many iterations lie between two pictures; with 0 there are none.
        num_iterations: The last iteration, for names that sort.
        settings: What goes into the pictures' metadata.
    """

    def __init__(self, folder: Path, every: int, num_iterations: int, settings: str) -> None:
        self._folder = folder
        self._every = every
        self._digits = len(str(num_iterations))
        self._settings = settings

    def first(self, picture: Picture) -> None:
        """Saves the picture that a run starts from, which is there long before the result."""
        path = self._folder / "first.png"
        self._save(path, picture)
        print(f"first picture: {os.path.relpath(path)}", flush=True)

    def __call__(self, progress: Progress) -> None:
        """Saves a picture when one is due."""
        if self._every and progress.iteration % self._every == 0:
            name = f"iteration-{progress.iteration:0{self._digits}d}.png"
            self._save(self._folder / name, progress.picture)

    def _save(self, path: Path, picture: Picture) -> None:
        storage.publish(path, images.encode(images.to_uint8(picture), ".png", self._settings))


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
            print(
                f"iteration {progress.iteration}/{self._num_iterations}  {describe(progress)}  "
                f"{progress.seconds:.0f} s, {left:.0f} s left",
                flush=True,
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
                _log.warning("%s failed and is left out from here on: %s", name, error)
        return stop

    return listen

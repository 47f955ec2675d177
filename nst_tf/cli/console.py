"""Terminal output of a run: callbacks that print its events."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import nst_tf
from nst_tf.config import Config
from nst_tf.errors import printable
from nst_tf.events import Callback, Event, Iteration, Planned, Preview, Saved, Scoring
from nst_tf.system import display_path

if TYPE_CHECKING:
    from rich.console import Console

_WIDE = 110
"""Columns of a terminal in which size and terms of the loss have room beside the time left."""


def print_line(text: str) -> None:
    """Prints a line where anybody reads it: a closed pipe ends no run."""
    with contextlib.suppress(OSError, ValueError):
        print(text, flush=True)


def print_error(text: str) -> None:
    """Prints an error to stderr, in one line of printable ASCII, where anybody reads it."""
    with contextlib.suppress(OSError, ValueError):
        print(printable(f"nst_tf: error: {text}"), file=sys.stderr, flush=True)


def describe_plan(event: Planned) -> str:
    """Describes what a run is about to do.

    Args:
        event: The plan.

    Returns:
        One line.
    """
    levels = [f"{level.width}x{level.height}: {level.num_iterations}" for level in event.levels]
    text = (
        f"nst_tf {nst_tf.__version__}, {event.precision} on {event.device}; "
        f"iterations at {', '.join(levels)}; about {event.memory_bytes / 1e9:.1f} GB of memory"
    )
    if event.tile_size:
        text += f", in tiles of {event.tile_size} pixels"
    if event.seconds is None or event.seconds_per_evaluation is None:
        return text
    text += f" and {describe_duration(event.seconds)}"
    if event.seconds_per_evaluation > 10:
        text += f"; stopping takes up to {describe_duration(event.seconds_per_evaluation)}"
    return text


def describe_losses(event: Iteration) -> str:
    """Describes size and losses in a few words.

    Args:
        event: An iteration.

    Returns:
        Part of a line.
    """
    losses = event.losses
    terms = [f"content {losses.content:.4g}", f"style {losses.style:.4g}"]
    if losses.grain:
        terms.append(f"grain {losses.grain:.4g}")
    if losses.tv:
        terms.append(f"tv {losses.tv:.4g}")
    return f"{event.width}x{event.height}  {_loss(event)} ({', '.join(terms)})"


def _loss(event: Iteration) -> str:
    return f"loss {event.losses.total:.5g}"


def _time_left(event: Iteration) -> str:
    return describe_duration(event.seconds_left)


class Lines:
    """Prints the events of a run in plain lines.

    Args:
        output: The image file asked for.
        every: Iterations between two lines of progress; 0 for none.
    """

    def __init__(self, output: Path, every: int) -> None:
        self._output = output
        self._every = every

    def __call__(self, event: Event) -> None:
        """Prints what there is to say of an event."""
        match event:
            case Planned():
                for note in event.notes:
                    print_line(note)
                print_line(describe_plan(event))
                if event.iterations_done:
                    print_line(f"going on after {event.iterations_done} iterations")
            case Preview(path=Path() as path):
                print_line(f"first image: {display_path(path)}")
            case Iteration():
                self._print_progress(event)
            case Scoring():
                print_line("computing the loss of the image in float32 (--noscore leaves it out)")
            case Saved():
                self._print_result(event)

    def _print_progress(self, event: Iteration) -> None:
        if self._every and event.iteration % self._every == 0:
            print_line(
                f"iteration {event.iteration}/{event.num_iterations}  {describe_losses(event)}  "
                f"{describe_duration(event.seconds)}, {_time_left(event)} left"
            )

    def _print_result(self, event: Saved) -> None:
        if event.finished:
            name = display_path(event.path)
            if event.path != self._output:
                name += f" ({display_path(self._output)} was kept)"
            print_line(
                f"saved {name}: loss {event.losses.total:.5g}, "
                f"{event.iterations} iterations, {describe_duration(event.seconds)}; "
                f"{event.stop_reason}"
            )
        if event.timelapse is not None:
            print_line(f"saved {display_path(event.timelapse)}")


@contextlib.contextmanager
def display(config: Config, console: "Console | None" = None) -> Iterator[Callback]:
    """Shows a progress bar on a terminal, and prints lines of progress elsewhere.

    Args:
        config: The output file, and how often to print.
        console: The terminal; by default stdout, where it is one.

    Yields:
        The callback that shows events.
    """
    if console is None and not (sys.stdout and sys.stdout.isatty()):
        yield Lines(config.output_image, config.print_iter)
        return
    from rich.progress import BarColumn, Progress, TextColumn

    lines = Lines(config.output_image, 0)
    # Where columns do not fit, the last ones are cut off.
    columns = (
        TextColumn("iteration {task.fields[iteration]}"),
        TextColumn("{task.fields[left]} left"),
        BarColumn(bar_width=20),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=1.0, iteration=0, left="", visible=False)

        def show(event: Event) -> None:
            if isinstance(event, Iteration):
                is_wide = bar.console.width >= _WIDE
                bar.update(
                    task,
                    completed=event.done,
                    description=describe_losses(event) if is_wide else _loss(event),
                    iteration=f"{event.iteration}/{event.num_iterations}",
                    left=_time_left(event),
                    visible=True,
                )
            elif isinstance(event, Scoring | Saved):
                bar.update(task, visible=False)
            lines(event)

        yield show


def describe_duration(seconds: float) -> str:
    """Writes a duration in seconds, minutes or hours, whichever suits it."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 6000:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"

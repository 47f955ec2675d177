"""Runs a batch: one line of progress for all images, and a table of those that failed."""

import contextlib
import signal
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from nst_tf.batch.execute import BatchCallback, BatchEvent, BatchPlanned, BatchProgress, Outcome
from nst_tf.batch.execute import run as run_pictures
from nst_tf.batch.sweeps import Report
from nst_tf.cli.batch_flags import BatchCommand
from nst_tf.cli.console import describe_duration, describe_plan, print_error, print_line
from nst_tf.errors import BatchError, NstError, StoppedError
from nst_tf.jobs.planning import plan
from nst_tf.system import display_path

if TYPE_CHECKING:
    from rich.console import Console

_AGAIN = "the same command goes on with the others"


def run(
    batch: BatchCommand, received: Sequence[int], *, overwrite: bool = False, resume: bool = False
) -> None:
    """Makes the images of a batch, and the contact sheet and the table of a sweep.

    Args:
        batch: What is to be made.
        received: Signals that ask for the end, as they come.
        overwrite: As for `nst_tf.jobs.run`.
        resume: Whether a finished image of fewer iterations is continued, too.

    Raises:
        InputError: A flag is wrong.
        MachineError: The cluster cannot be used, or a file cannot be written.
        StoppedError: A signal asked for the end.
        BatchError: Images failed.
    """
    report = _report(batch, overwrite)
    with display(len(batch.pictures)) as callback:
        outcomes = run_pictures(
            batch.pictures,
            workers=batch.workers,
            cluster=batch.cluster,
            overwrite=overwrite,
            resume=True if resume else "same",
            callbacks=[callback],
            should_stop=lambda: bool(received),
        )
    if report is not None:
        written = report.write(outcomes)
        for path in (written.contact_sheet, written.figures):
            if path is not None:
                print_line(f"saved {display_path(path)}")
    failed = [outcome for outcome in outcomes if outcome.status == "failed"]
    _print_table(
        [(outcome.picture.config.output_image.name, outcome.failure) for outcome in failed]
    )
    made = sum(outcome.status in ("finished", "nothing to do") for outcome in outcomes)
    if any(outcome.status in ("stopped", "not begun") for outcome in outcomes):
        kept = f"{made} of {len(outcomes)} images are finished"
        raise StoppedError(received[0] if received else signal.SIGTERM, kept, _AGAIN)
    _raise_for(len(failed), len(outcomes))


def print_plan(batch: BatchCommand, *, overwrite: bool = False) -> None:
    """Prints what a batch would do as comments, a line for each image.

    Args:
        batch: What is to be made.
        overwrite: As for `nst_tf.jobs.run`.

    Raises:
        InputError: The contact sheet would be refused.
        MachineError: Another file has its name.
        BatchError: Images would be refused.
    """
    _report(batch, overwrite)
    refused: list[tuple[str, str]] = []
    for picture in batch.pictures:
        name = picture.config.output_image.name
        try:
            print_line(f"# {name}: {describe_plan(plan(picture.config, overwrite=overwrite))}")
        except NstError as error:
            refused.append((name, str(error)))
    _print_table(refused)
    _raise_for(len(refused), len(batch.pictures))


def _report(batch: BatchCommand, overwrite: bool) -> Report | None:
    """Checks and returns what a sweep writes beside its images; None where nothing is swept."""
    if batch.contact_sheet is None:
        return None
    return Report(batch.pictures, batch.contact_sheet, batch.cell_size, overwrite=overwrite)


def _print_table(failed: Sequence[tuple[str, str]]) -> None:
    if failed:
        width = max(len(name) for name, _ in failed)
        print_line("failed:")
        for name, why in failed:
            print_line(f"  {name:<{width}}  {why}")


def _raise_for(failed: int, images: int) -> None:
    if failed:
        raise BatchError(
            f"{failed} of {images} images failed",
            "the table above says why",
            "correct that, and the same command makes those that are missing",
        )


class Lines:
    """Prints the events of a batch in plain lines.

    Args:
        images: How many images there are.
    """

    def __init__(self, images: int) -> None:
        self._images = images
        self._ended = 0
        self._left = ""

    def __call__(self, event: BatchEvent) -> None:
        """Prints what there is to say of an event."""
        match event:
            case BatchPlanned():
                print_line(_describe(event))
            case BatchProgress(seconds_left=float() as seconds):
                self._left = f"; about {describe_duration(seconds)} left"
            case Outcome():
                self._ended += 1
                self._print(event)

    def _print(self, outcome: Outcome) -> None:
        number = f"[{self._ended}/{self._images}]"
        left = self._left if self._ended < self._images else ""
        name = outcome.picture.config.output_image.name
        if outcome.status == "failed":
            print_error(f"{number} {name}: {outcome.failure}")
        elif outcome.status == "nothing to do":
            print_line(f"{number} {name} is finished{left}")
        elif outcome.status == "finished" and outcome.result and outcome.result.path:
            record = outcome.result.record
            print_line(
                f"{number} saved {display_path(outcome.result.path)}: loss {record['loss']:.5g}, "
                f"{record['iterations']} iterations, {describe_duration(record['seconds'])}{left}"
            )


def _describe(event: BatchPlanned) -> str:
    """Describes what a batch is about to do, and what it takes."""
    images = "1 image" if event.images == 1 else f"{event.images} images"
    text = f"{images}, {event.workers} at once"
    if event.workers < event.workers_asked:
        text += f", as memory does not suffice for {event.workers_asked}"
    if event.memory_bytes:
        text += f"; each takes up to about {event.memory_bytes / 1e9:.1f} GB of memory"
    if event.seconds is not None:
        text += f"; about {describe_duration(event.seconds)}"
    return text


@contextlib.contextmanager
def display(images: int, console: "Console | None" = None) -> Iterator[BatchCallback]:
    """Shows one progress bar for a batch on a terminal, and prints lines elsewhere.

    Args:
        images: How many images there are.
        console: The terminal; by default stdout, where it is one.

    Yields:
        The callback that shows events.
    """
    lines = Lines(images)
    if console is None and not (sys.stdout and sys.stdout.isatty()):
        yield lines
        return
    from rich.progress import BarColumn, Progress, TextColumn

    columns = (
        TextColumn("{task.fields[done]} images"),
        TextColumn("{task.fields[left]}"),
        BarColumn(bar_width=20),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=1.0, done=f"0/{images}", left="")

        def show(event: BatchEvent) -> None:
            lines(event)
            if isinstance(event, BatchProgress):
                left = event.seconds_left
                bar.update(
                    task,
                    completed=event.share,
                    done=f"{event.done}/{images}",
                    left="" if left is None else f"{describe_duration(left)} left",
                )

        yield show

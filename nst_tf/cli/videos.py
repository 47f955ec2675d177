"""The command for videos: from arguments to an exit code, with its terminal output."""

import contextlib
import signal
import sys
from collections.abc import Callable, Iterator, Sequence

from nst_tf.cli import command
from nst_tf.cli.console import describe_duration, print_line
from nst_tf.cli.signals import capture_signals
from nst_tf.errors import StoppedError
from nst_tf.system import display_path
from nst_tf.video.transfer import FrameDone, VideoEvent, VideoPlanned, VideoSaved

_EVERY = 10
"""Frames between two lines of progress."""

_RESUME = "the same command with --resume goes on"


def main(argv: Sequence[str]) -> int:
    """Runs the command in this process, which captures signals meanwhile.

    Args:
        argv: The arguments, without the program's name.

    Returns:
        The exit code, as `nst_tf.cli.command.execute` returns it.
    """
    with capture_signals() as received:
        return execute(argv, received)


def execute(argv: Sequence[str], received: Sequence[int]) -> int:
    """Runs the command.

    Args:
        argv: The arguments, without the program's name.
        received: Signals that ask for the end, as they come.

    Returns:
        The exit code, as `nst_tf.cli.command.execute` returns it.
    """
    return command.execute(argv, received, _perform)


def _perform(argv: Sequence[str], received: Sequence[int]) -> None:
    from nst_tf.cli import video_flags
    from nst_tf.video import transfer

    asked = video_flags.parse(argv)
    if asked.answer:
        print(asked.answer, end="")
        return
    with _display() as callback:
        result = transfer.run(
            asked.config,
            asked.settings,
            overwrite=asked.overwrite,
            resume=asked.resume,
            callbacks=[callback],
            should_stop=lambda: bool(received),
        )
    if result.status == "nothing to do":
        print_line("nothing to do: the video is finished")
    elif result.status == "stopped":
        number = received[0] if received else signal.SIGINT
        raise StoppedError(number, f"{result.frames} frames are finished", _RESUME)


def _print(event: VideoEvent) -> None:
    """Prints an event in a line, of the frames one in ten and the first of each scene."""
    match event:
        case VideoPlanned():
            for note in event.notes:
                print_line(note)
            height, width = event.shape
            print_line(
                f"{event.frames} frames of {width}x{height} at {event.rate:g} per second; about "
                f"{event.memory_bytes / 1e9:.1f} GB of memory"
            )
            if event.frames_done:
                print_line(f"going on after {event.frames_done} frames")
        case FrameDone():
            if event.scene_begins:
                print_line(f"a scene begins at frame {event.number}")
            if event.number % _EVERY == 0:
                print_line(
                    f"frame {event.number}/{event.frames}  flicker {event.flicker:.2f}  "
                    f"{describe_duration(event.seconds_left)} left"
                )
        case VideoSaved():
            scenes = "1 scene" if event.scenes == 1 else f"{event.scenes} scenes"
            print_line(
                f"saved {display_path(event.path)}: {event.frames} frames, {scenes}, flicker "
                f"{event.flicker:.2f}, {describe_duration(event.seconds)}"
            )


@contextlib.contextmanager
def _display() -> Iterator[Callable[[VideoEvent], None]]:
    """Shows a progress bar on a terminal, and prints lines of progress elsewhere."""
    if not (sys.stdout and sys.stdout.isatty()):
        yield _print
        return
    from rich.progress import BarColumn, Progress, TextColumn

    columns = (
        TextColumn("frame {task.fields[frame]}"),
        TextColumn("{task.fields[left]} left"),
        BarColumn(bar_width=20),
    )
    with Progress(*columns, transient=True) as bar:
        task = bar.add_task("", total=1.0, frame="", left="", visible=False)

        def show(event: VideoEvent) -> None:
            if isinstance(event, FrameDone):
                bar.update(
                    task,
                    completed=event.number / event.frames,
                    frame=f"{event.number}/{event.frames}",
                    left=describe_duration(event.seconds_left),
                    visible=True,
                )
            else:
                _print(event)

        yield show

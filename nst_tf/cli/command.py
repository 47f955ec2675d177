"""The command: from arguments to an exit code."""

import contextlib
import logging
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from nst_tf.cli.signals import capture_signals
from nst_tf.errors import NstError, NumericalError, StoppedError, printable

if TYPE_CHECKING:
    from nst_tf.cli.flags import Command
    from nst_tf.jobs import JobResult

_RESUME = "the same command with --resume goes on"


def main(argv: Sequence[str]) -> int:
    """Runs the command in this process, which captures signals meanwhile.

    Args:
        argv: The arguments, without the program's name.

    Returns:
        The exit code.
    """
    with capture_signals() as received:
        return execute(argv, received)


def execute(
    argv: Sequence[str],
    received: Sequence[int],
    perform: Callable[[Sequence[str], Sequence[int]], None] | None = None,
) -> int:
    """Runs the command, and reports errors in one line.

    Args:
        argv: The arguments, without the program's name.
        received: Signals that ask for the end, as they come.
        perform: What it does with these; by default, what the command for images does.

    Returns:
        The exit code: 0 finished, 1 some images of a batch failed, 2 wrong input, 3 the machine
        refused, 4 numerical failure, 70 a defect, 128 + N stopped by signal N.
    """
    try:
        with _streams():
            (perform or _execute)(argv, received)
    except KeyboardInterrupt:
        return _report(_stopped_at_once())
    except Exception as error:  # noqa: BLE001 - a defect, too, ends in one line
        if "--debug" in argv:
            traceback.print_exc()
        # Libraries turn a KeyboardInterrupt into errors of their own.
        is_interrupted = received.count(signal.SIGINT) > 1 and not isinstance(error, NstError)
        return _report(_stopped_at_once() if is_interrupted else error)
    return 0


def _stopped_at_once() -> StoppedError:
    kept = "at once, and all files are whole"
    return StoppedError(signal.SIGINT, kept, f"{_RESUME} from the last checkpoint")


def _execute(argv: Sequence[str], received: Sequence[int]) -> None:
    # Imported here, where a missing package is answered in one line.
    from nst_tf.cli import flags
    from nst_tf.config.files import to_yaml

    command = flags.parse(argv)
    if command.answer:
        print(command.answer, end="")
    elif command.dry_run:
        print(to_yaml(command.config), end="", flush=True)
        _print_plan(command)
    elif command.batch is not None:
        from nst_tf.cli import batches

        batches.run(command.batch, received, overwrite=command.overwrite, resume=command.resume)
    else:
        _run(command, received)


def _print_plan(command: "Command") -> None:
    """Prints what the run would do as comments, so that all that is printed can be a YAML file."""
    from nst_tf.cli import batches, console
    from nst_tf.jobs.planning import plan

    if command.batch is not None:
        batches.print_plan(command.batch, overwrite=command.overwrite)
        return
    planned = plan(command.config, overwrite=command.overwrite)
    for line in (*planned.notes, console.describe_plan(planned)):
        console.print_line(f"# {line}")


def _run(command: "Command", received: Sequence[int]) -> None:
    from nst_tf import jobs
    from nst_tf.cli import console
    from nst_tf.events import Event, Planned

    config = command.config
    planned = 0

    def count(event: Event) -> None:
        nonlocal planned
        if isinstance(event, Planned):
            planned = sum(level.num_iterations for level in event.levels)

    with console.display(config) as callback:
        result = jobs.run(
            config,
            overwrite=command.overwrite,
            resume=command.resume,
            callbacks=[callback, count],
            should_stop=lambda: bool(received),
        )
    if result.status == "nothing to do":
        console.print_line("nothing to do: the run is finished")
    elif result.status == "stopped":
        saves = bool(config.checkpoint_seconds)
        raise _stopped(result, received[0] if received else signal.SIGINT, planned, saves=saves)
    elif result.status == "failed":
        what, _, why = result.failure.partition(": ")
        remedy = f"check the weights; the best image so far is in {result.path}"
        raise NumericalError(what, why, remedy)


def _stopped(result: "JobResult", number: int, planned: int, *, saves: bool) -> StoppedError:
    from nst_tf.system import display_path

    if result.path is None:
        return StoppedError(number, "nothing was begun yet", "give the same command again")
    done = result.record["iterations"]
    kept = f"saved {display_path(result.path)} after {done} of {planned} iterations"
    return StoppedError(number, kept, _RESUME if saves and done else "give the same command again")


def _report(error: Exception) -> int:
    if isinstance(error, StoppedError):  # which was asked for, and is no error
        return _print(str(error), error.exit_code)
    if isinstance(error, NstError):
        return _fail(str(error), error.exit_code)
    if isinstance(error, ModuleNotFoundError):
        what = f"there is no module {error.name!r} in {sys.prefix}, where this Python looks"
        return _fail(f"{what}; activate the environment nst_tf is installed in, or install it", 3)
    if isinstance(error, MemoryError):
        return _fail("memory ran out: there is none left; free some, or raise its limit", 3)
    what = f"internal error: {type(error).__name__}: {error}"
    return _fail(f"{what}; run again with --debug and report it", 70)


def _fail(message: str, exit_code: int) -> int:
    return _print(f"nst_tf: error: {message}", exit_code)


def _print(message: str, exit_code: int) -> int:
    with contextlib.suppress(OSError, ValueError):  # nobody reads it any more
        print(printable(message), file=sys.stderr)
    return exit_code


@contextlib.contextmanager
def _streams() -> Iterator[None]:
    """Prints warnings in one line each, and only these; escapes what a terminal cannot show."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("nst_tf: warning: %(message)s"))
    handler.setLevel(logging.WARNING)
    logger = logging.getLogger("nst_tf")
    before = logger.handlers, logger.propagate
    logger.handlers, logger.propagate = [handler], False
    try:
        yield
    finally:
        logger.handlers, logger.propagate = before

"""The command: flags to a configuration, a run, an exit code."""

import contextlib
import logging
import os
import sys
import traceback
from collections.abc import Sequence

from nst_tf.cli import supervisor as worker
from nst_tf.errors import NstError, printable


def main(argv: Sequence[str]) -> int:
    """Runs the command.

    Args:
        argv: The arguments, without the program's name.

    Returns:
        The exit code: 0 done, 2 wrong input, 3 the machine refused, 4 numerical failure,
        70 a defect, 129, 130 or 143 stopped by a signal.
    """
    _say_warnings_in_one_line()
    # TensorFlow's own chatter would bury ours.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    debug = "--debug" in argv
    try:
        # Here, where an interrupt is answered: importing them takes a good part of a second.
        from nst_tf.cli import flags
        from nst_tf.config.files import to_yaml
        from nst_tf.jobs import run

        command = flags.parse(argv)
        if command.answer:
            print(command.answer, end="")
        elif command.dry_run:
            print(to_yaml(command.config), end="")
        else:
            run.run(command.config, overwrite=command.overwrite, resume=command.resume)
    except KeyboardInterrupt:
        return _fail("stopped by SIGINT at once: all files are whole; see --resume", 130)
    except NstError as error:
        if debug:
            traceback.print_exc()
        return _fail(str(error), error.exit_code)
    except ModuleNotFoundError as error:
        if debug:
            traceback.print_exc()
        what = f"there is no module {error.name!r} in {sys.prefix}, where this Python looks"
        return _fail(f"{what}; activate the environment nst_tf is installed in, or install it", 3)
    except Exception as error:  # noqa: BLE001 - a defect: it still ends in one line
        if debug:
            traceback.print_exc()
        what = f"internal error: {type(error).__name__}: {error}"
        return _fail(f"{what}; run again with --debug and report it", 70)
    return 0


def _fail(message: str, exit_code: int) -> int:
    with contextlib.suppress(OSError, ValueError):  # nobody reads it any more
        print(f"nst_tf: error: {printable(message)}", file=sys.stderr)
    return exit_code


def _say_warnings_in_one_line() -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("nst_tf: warning: %(message)s"))
    handler.setLevel(logging.WARNING)
    log = logging.getLogger("nst_tf")
    log.handlers = [handler]
    log.propagate = False


if __name__ == "__main__":
    sys.exit(worker.supervised(lambda: main(sys.argv[1:])))

"""Runs the command in a child process and reports its abnormal termination.

The parent imports next to nothing, so that the child starts at once.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import warnings

from nst_tf.cli.signals import block_signals, capture_signals, unblock_signals
from nst_tf.jobs.exits import STOP_SIGNALS, explain_exit

_CHILD = "NST_TF_CHILD"
"""The environment variable that tells a process that it is the child."""


def run_in_subprocess() -> int:
    """Runs the command in a child process, and passes on the signals that ask for the end.

    The child is started with the command line of this process, and arrives here again.

    Returns:
        The exit code of the child; 3 where it was killed, 128 + N where a signal N stopped it.
    """
    if os.environ.pop(_CHILD, ""):
        _exit(_run_child())
    block_signals()  # until the child captures them
    child = subprocess.Popen(
        [sys.executable, *sys.orig_argv[1:]],
        env={**os.environ, _CHILD: "1"},
        stdin=subprocess.PIPE,
    )
    for number in STOP_SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda number, _: _pass_on(child, number))
    unblock_signals()
    code = child.wait()
    error = explain_exit(code)
    if error is None:
        return code
    with contextlib.suppress(OSError, ValueError):
        print(f"nst_tf: error: {error}", file=sys.stderr)
    return error.exit_code


def _pass_on(child: "subprocess.Popen[bytes]", number: int) -> None:
    if os.name == "posix":  # elsewhere the terminal reaches both
        child.send_signal(number)


def _run_child() -> int:
    argv = sys.argv[1:]
    _open_closed_descriptors()
    with capture_signals() as received:
        threading.Thread(target=_stop_with_parent, args=[received], daemon=True).start()
        if "--debug" not in argv:
            _silence_libraries()
        from nst_tf.cli import command  # not in the parent

        return command.execute(argv, received)


def _stop_with_parent(received: list[int]) -> None:
    """Asks for the end when the parent has ended, which closes the pipe to descriptor 0."""
    with contextlib.suppress(OSError):
        os.read(0, 1)
    received.append(signal.SIGTERM)


def _open_closed_descriptors() -> None:
    """Keeps the descriptors of stdout and stderr from becoming those of other files."""
    for descriptor in (1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_WRONLY)


def _silence_libraries() -> None:
    """Leaves stderr to this program, where C++ libraries write to descriptor 2 what they log."""
    warnings.simplefilter("ignore")
    if sys.stderr is None:  # a process may run with its descriptors closed
        return
    encoding = sys.stderr.encoding
    sys.stderr = os.fdopen(os.dup(2), "w", buffering=1, encoding=encoding)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    os.close(null)


def _exit(code: int) -> None:
    """Ends the process at once: nothing is left to do, and TensorFlow takes a second for it."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            if stream is not None:
                stream.flush()
    os._exit(code)

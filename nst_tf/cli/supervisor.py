"""Runs the command in a child process and reports its abnormal termination.

The parent imports next to nothing, so that the child starts at once.
"""

import contextlib
import importlib
import os
import signal
import subprocess
import sys
import threading
import warnings
from pathlib import Path

from nst_tf.cli.signals import block_signals, capture_signals, handled, unblock_signals
from nst_tf.jobs.exits import TAIL_BYTES, explain_exit

_CHILD = "NST_TF_CHILD"
"""The environment variable that tells a process that it is the child: a descriptor for what
libraries print, or "-1" for none."""

_TOLD = {91: 1}
"""Exit codes of the child, and those of the command that they stand for: a library that ends the
process does so with 1, too."""

_READ_SECONDS = 1.0
"""How long to wait for what a dead child printed, which nothing but a process of its own delays."""


_COMMANDS = {"nst_tf.main": "command", "nst_tf.video": "videos"}
"""The modules that run commands, and the ones of this package with their `execute`."""


def run_in_subprocess(module: str = "nst_tf.main") -> int:
    """Runs the command in a child process, and passes on the signals that ask for the end.

    The child arrives here again. It is a new process of Python, never a fork: where TensorFlow
    computes in this process, as in a notebook, a fork of it would wait for ever.

    Args:
        module: Whose command it is.

    Returns:
        The exit code of the child; 3 where it was killed, 128 + N where a signal N stopped it.
    """
    if descriptor := os.environ.pop(_CHILD, ""):
        _exit(_run_child(int(descriptor), module))
    _open_closed_descriptors(0, 1, 2)
    read, write = os.pipe()
    inherits = os.name == "posix"  # elsewhere a child is given no other descriptors than 0 to 2
    program, environment = _program(module)
    block_signals()  # until the child captures them
    try:
        child = subprocess.Popen(
            program,
            env={**environment, _CHILD: str(write if inherits else -1)},
            stdin=subprocess.PIPE,
            pass_fds=[write] if inherits else [],
        )
    except BaseException:
        unblock_signals()
        raise
    finally:
        os.close(write)
    printed = bytearray()
    reader = threading.Thread(target=_keep_end, args=[read, printed], daemon=True)
    with child, handled(lambda number, _: _pass_on(child, number)):
        unblock_signals()
        reader.start()
        code = child.wait()
    reader.join(_READ_SECONDS)
    if code in _TOLD:
        return _TOLD[code]
    error = explain_exit(code, bytes(printed))
    if error is None:
        return code
    with contextlib.suppress(OSError, ValueError):
        print(f"nst_tf: error: {error}", file=sys.stderr)
    return error.exit_code


def _program(command: str) -> tuple[list[str], dict[str, str]]:
    """Returns the command line and the environment of the child.

    The command line of this process is repeated, with all options of Python, where it is that of
    the command. In a notebook or in a script that runs this module it would begin the notebook or
    the script again.
    """
    arguments = sys.argv[1:]
    for module in (command, "nst_tf"):
        own = ["-m", module, *arguments]
        if sys.orig_argv[-len(own) :] == own:
            return [sys.executable, *sys.orig_argv[1:]], dict(os.environ)
    path = [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, path))}
    return [sys.executable, "-P", "-m", command, *arguments], environment


def _pass_on(child: "subprocess.Popen[bytes]", number: int) -> None:
    if os.name == "posix":  # elsewhere the terminal reaches both
        child.send_signal(number)


def _keep_end(descriptor: int, printed: bytearray) -> None:
    """Reads a pipe to its end, so that the child never waits, and keeps the last bytes."""
    with contextlib.suppress(OSError), os.fdopen(descriptor, "rb", buffering=0) as pipe:
        while data := pipe.read(TAIL_BYTES):
            printed += data
            del printed[:-TAIL_BYTES]


def _run_child(descriptor: int, module: str) -> int:
    argv = sys.argv[1:]
    _open_closed_descriptors(1, 2)
    with capture_signals() as received:
        threading.Thread(target=_stop_with_parent, args=[received], daemon=True).start()
        if "--debug" not in argv:
            _redirect_libraries(descriptor)
        if descriptor >= 0:
            os.close(descriptor)
        from nst_tf.models import backend  # not in the parent

        backend.take_process()
        with contextlib.suppress(ModuleNotFoundError):  # which the command tells in one line
            from nst_tf import system

            system.keep_processor_time()
        command = importlib.import_module(f"nst_tf.cli.{_COMMANDS[module]}")
        code = command.execute(argv, received)
        return next((told for told, meant in _TOLD.items() if meant == code), code)


def _stop_with_parent(received: list[int]) -> None:
    """Asks for the end when the parent has ended, which closes the pipe to descriptor 0."""
    with contextlib.suppress(OSError):
        os.read(0, 1)
    received.append(signal.SIGTERM)


def _open_closed_descriptors(*descriptors: int) -> None:
    """Keeps the descriptors of the standard streams from becoming those of other files."""
    for descriptor in descriptors:
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def _redirect_libraries(descriptor: int) -> None:
    """Leaves stderr to this program, where C++ libraries write to descriptor 2 what they log.

    Args:
        descriptor: Where their messages go, for the parent to show them after a crash; -1 for
            nowhere.
    """
    warnings.simplefilter("ignore")
    if sys.stderr is not None:  # a process may run with its descriptors closed
        encoding = sys.stderr.encoding
        sys.stderr = os.fdopen(os.dup(2), "w", buffering=1, encoding=encoding)
    if descriptor >= 0:
        os.dup2(descriptor, 2)
        return
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

"""What can go wrong, as one line for the person at the terminal and an exit code for the shell."""

import difflib
import logging
import signal
from collections.abc import Iterable

_log = logging.getLogger("nst_tf")


class NstError(Exception):
    """An expected failure: what was wrong, where, why, and what to do about it.

    Every failure that a user can cause or meet is raised as one of the subclasses; anything else
    that escapes is a defect of the program.

    Args:
        what: The thing that is wrong, as in "cannot read the content picture".
        why: What was received and what is allowed.
        remedy: What to do about it.
        where: The file, key or line concerned; left out when empty.
    """

    exit_code = 70

    def __init__(self, what: str, why: str, remedy: str, *, where: object = "") -> None:
        place = f" ({where})" if str(where) else ""
        super().__init__(printable(f"{what}{place}: {why}; {remedy}"))


class InputError(NstError):
    """A picture, a configuration or a weights file is wrong; nothing was written."""

    exit_code = 2


class MachineError(NstError):
    """The machine refuses: disk, permission, memory or a lock."""

    exit_code = 3


class NumericalError(NstError):
    """The optimisation cannot go on; the best picture so far was kept."""

    exit_code = 4


def warn(text: object) -> None:
    """Says something in one line that does not end the run."""
    _log.warning("%s", printable(str(text)))


def printable(text: str) -> str:
    """Escapes everything but printable ASCII, so that any terminal and any log takes the text.

    Args:
        text: Any text, with newlines, control characters or lone surrogates in it.

    Returns:
        The text on one line, in printable ASCII.
    """
    return "".join(
        c if " " <= c <= "~" else c.encode("unicode_escape").decode("ascii") for c in text
    )


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Names the nearest known word.

    Args:
        word: What was received.
        known: What is allowed.

    Returns:
        "did you mean 'X'?", or "known are A, B, ..." where nothing is near.
    """
    known = list(known)
    near = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"


class StoppedError(NstError):
    """A signal asked for the end.

    Args:
        signal_number: The signal, which sets the exit code as shells expect it, 128 + its number.
        kept: What there is of the run now.
        remedy: How to go on.
        where: The file concerned; left out when empty.
    """

    def __init__(self, signal_number: int, kept: str, remedy: str, *, where: object = "") -> None:
        self.exit_code = 128 + signal_number
        name = signal.Signals(signal_number).name
        super().__init__(f"stopped by {name}", kept, remedy, where=where)

"""Exceptions with one-line messages and exit codes; warnings of the package."""

import difflib
import logging
from collections.abc import Iterable

_logger = logging.getLogger("nst_tf")


class NstError(Exception):
    """An expected failure: what is wrong, where, why, and what to do about it.

    Every failure that a user can cause or meet is raised as one of the subclasses; any other
    exception is a defect of the program. The message is one line of printable ASCII:
    `WHAT (WHERE): WHY; REMEDY`. Errors can be pickled.

    Attributes:
        what: The thing that is wrong, as in "cannot read the content image".
        why: What was received and what is allowed.
        remedy: What to do about it.
        where: The file, key or line concerned, or "".
        exit_code: What the command returns to the shell.
    """

    exit_code = 70

    def __init__(self, what: str, why: str, remedy: str, *, where: object = "") -> None:
        super().__init__(what, why, remedy)  # pickle and copy pass these to __init__
        self.what = what
        self.why = why
        self.remedy = remedy
        self.where = str(where)

    def __str__(self) -> str:
        place = f" ({self.where})" if self.where else ""
        return printable(f"{self.what}{place}: {self.why}; {self.remedy}")


class InputError(NstError, ValueError):
    """An image, an array, a configuration or a weights file is invalid; nothing was written."""

    exit_code = 2


class MachineError(NstError):
    """A resource is missing: disk, permission, memory, a package or a lock."""

    exit_code = 3


class InUseError(MachineError):
    """Another process holds the lock on a folder."""


class WorkerError(MachineError):
    """The process of a job died; what it saved until then is there."""


class NumericalError(NstError):
    """The optimization cannot continue; the best image so far was kept."""

    exit_code = 4


class BatchError(NstError):
    """Some images of a batch failed; the others were made."""

    exit_code = 1


class StoppedError(NstError):
    """A signal stopped the run, as was asked for: its line does not speak of an error.

    Args:
        signal_number: The signal; the exit code is 128 + its number, as shells expect.
        kept: What there is of the run now.
        remedy: How to continue.
    """

    def __init__(self, signal_number: int, kept: str, remedy: str) -> None:
        super().__init__("stopped", kept, remedy)
        self.args = (signal_number, kept, remedy)
        self.exit_code = 128 + signal_number


def warn(text: object) -> None:
    """Logs a warning as one line of printable ASCII."""
    _logger.warning("%s", printable(str(text)))


def printable(text: str) -> str:
    """Escapes everything but printable ASCII, so that any terminal and any log accepts the text.

    Args:
        text: Any text, also with newlines, control characters or lone surrogates.

    Returns:
        The text on one line, in printable ASCII.
    """
    return "".join(
        c if " " <= c <= "~" else c.encode("unicode_escape").decode("ascii") for c in text
    )


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Suggests the nearest allowed word.

    Args:
        word: What was received.
        known: What is allowed.

    Returns:
        "did you mean 'X'?", where X is the first whose beginning, or a part of which, is the word,
        as in "size" and "image_size", or else the nearest in letters; "known are A, B, ..." where
        no word is near.
    """
    known = list(known)
    part = word.strip("-").lower().replace("-", "_")
    near = [name for name in known if part and f"_{name.lstrip('-')}".find(f"_{part}") >= 0]
    near = near[:1] or difflib.get_close_matches(word, known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"

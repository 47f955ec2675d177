"""The words of the command line: the spellings of flags, and images that are given without one."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from nst_tf.errors import InputError, did_you_mean
from nst_tf.system import expand_home

_SHORT = {"o": "output_image", "h": "help"}

_MEANT = {
    "iters": "num_iterations",
    "steps": "num_iterations",
    "epochs": "num_iterations",
    "width": "image_size",
    "height": "image_size",
    "resolution": "image_size",
    "max_size": "image_size",
    "start": "init",
    "model": "weights",
    "depth": "bit_depth",
    "ppi": "dpi",
    "paper_size": "print_size",
    "force": "overwrite",
}
"""Names that other programs have for a setting, where they are not a part of its name here."""

_GPU = "TensorFlow uses a graphics card where there is one; CUDA_VISIBLE_DEVICES= turns it off"
_WEIGHTS = "the network is VGG19; --weights=FILE gives it other weights"
_ELSEWHERE = {
    "gpu": _GPU,
    "device": _GPU,
    "multigpu_strategy": _GPU,
    "multidevice_strategy": _GPU,
    "backend": "everything is computed by TensorFlow",
    "cudnn_autotune": "everything is computed by TensorFlow",
    "proto_file": _WEIGHTS,
    "model_file": _WEIGHTS,
    "model_type": _WEIGHTS,
    "disable_check": _WEIGHTS,
    "init_image": "write --init=FILE",
    "learning_rate": "adam has the step size of neural-style, and lbfgs chooses its own",
    "lbfgs_num_correction": "lbfgs keeps the last 20 steps",
}
"""Flags of neural-style and its successors that do not exist here, and what takes their place."""

_BOOLEANS = ("true", "false")


class Words(NamedTuple):
    """The words of a command line.

    Attributes:
        flags: Each flag with its value, as `--name=value`, once for each value.
        files: The words that are no flags and no values of flags.
        further: The further values of lists, which are among `flags`, too.
    """

    flags: list[str]
    files: list[str]
    further: list[str]


def read_words(
    argv: Sequence[str], known: Mapping[str, bool], lists: Collection[str] = ()
) -> Words:
    """Tells flags from other words, and writes all spellings of a flag in the same way.

    A flag begins with one or two dashes, has hyphens or underscores, and its value after an equals
    sign or in the next word. After `--` no word is a flag.

    Args:
        argv: The arguments, without the program's name.
        known: The names of all flags, and whether each is true or false and needs no value.
        lists: The names of flags whose value is followed by further ones, as a shell expands
            `--content_image *.jpg`.

    Returns:
        The words.

    Raises:
        InputError: A flag is unknown, or has no value.
    """
    flags: list[str] = []
    files: list[str] = []
    further: list[str] = []
    of_list = ""
    left = list(argv)
    while left:
        word = left.pop(0)
        if word == "--":
            files += left
            break
        if not word.strip("-") or word.startswith("--=") or not word.startswith("-"):
            if of_list:
                flags.append(f"--{of_list}={word}")
                further.append(word)
            else:
                files.append(word)
            continue
        written, equals, value = word.partition("=")
        name = _name(written, known)
        of_list = name if name in lists else ""
        if known.get(name, True):
            if not equals and left and left[0].lower() in _BOOLEANS:
                equals, value = "=", left.pop(0)
        elif not equals:
            if not left or _is_flag(left[0], known):
                raise InputError(
                    "cannot read the flags",
                    f"no value for flag {written}",
                    f"write {written}=VALUE",
                )
            equals, value = "=", left.pop(0)
        flags.append(f"--{name}{equals}{value}")
    return Words(flags, files, further)


def _name(written: str, known: Mapping[str, bool]) -> str:
    """Returns the name of a flag, or "noNAME" of one that is switched off."""
    name = written.lstrip("-").replace("-", "_")
    name = _SHORT.get(name, name)
    positive = name.removeprefix("no").removeprefix("_")
    if name in known:
        return name
    if name.startswith("no") and known.get(positive, False):
        return f"no{positive}"
    if name in _ELSEWHERE:
        raise InputError(
            f"unknown flag {written}", "nst_tf has no such setting", f"{_ELSEWHERE[name]}"
        )
    hint = did_you_mean(f"--{_MEANT.get(name, name)}", [f"--{each}" for each in known])
    raise InputError(f"unknown flag {written}", "no setting has this name", hint)


def _is_flag(word: str, known: Mapping[str, bool]) -> bool:
    """Whether a word is a flag of ours, and so no value: a file's name rarely begins so."""
    if not word.startswith("-"):
        return False
    name = word.lstrip("-").partition("=")[0].replace("-", "_")
    return _SHORT.get(name, name) in known


def split_files(text: str) -> list[str]:
    """Splits a list of files at its commas, but not within the name of a file that exists.

    Args:
        text: One name or several, as in "a.jpg,b.jpg".

    Returns:
        The names.
    """
    parts = text.split(",")
    names = []
    while parts:
        lengths = range(len(parts), 1, -1)
        length = next((n for n in lengths if names_file(",".join(parts[:n]))), 1)
        name = ",".join(parts[:length])
        names.append(name if names_file(name) else name.strip())
        parts = parts[length:]
    return names


def names_file(name: str) -> bool:
    """Returns whether a file or folder of this name exists; `~` is the home folder."""
    try:
        return Path(expand_home(name)).exists()
    except (OSError, ValueError):  # the name is too long, or contains NUL
        return False

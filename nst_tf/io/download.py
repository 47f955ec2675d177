"""Files from the network: whole and with the right hash under their final name, or not at all."""

import hashlib
import os
import time
import urllib.request
from pathlib import Path

from nst_tf.errors import InputError, MachineError
from nst_tf.io import files

_TIMEOUT = 30.0
"""Seconds without an answer, as when a name is looked up, a server stalls."""

_DEADLINE = 1800.0
"""Seconds in all: a server that gives a byte now and then must not hold a run for ever."""

_PIECE = 2**18


def cached(url: str, md5: str, limit: int, instead: str) -> bytes:
    """Fetches a file, or finds it where Keras too keeps what it fetched.

    Args:
        url: Where it is.
        md5: Its hash, as its publisher states it.
        limit: The most bytes it may have.
        instead: What to do where it cannot be had.

    Returns:
        Its bytes.

    Raises:
        MachineError: It cannot be fetched or kept, or is another than it should be.
    """
    folder = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras") / "models"
    path = folder / url.rpartition("/")[2]
    if path.exists():
        data = _kept(path, limit)
        if _md5(data) == md5:
            return data
    # Now, not after a long download, it turns out whether there is a place for it.
    files.prepare_folder(folder, f"make that folder writable, or {instead}")
    data = _fetched(url, limit, instead)
    if _md5(data) != md5:
        raise MachineError(
            "cannot use what was downloaded",
            f"its MD5 is {_md5(data)}, not {md5}, after {len(data)} bytes",
            f"try again, or {instead}",
            where=url,
        )
    files.remove_stale_temporaries(path, min_age=_DEADLINE)
    files.atomic_write(path, data)
    return data


def _kept(path: Path, limit: int) -> bytes:
    try:
        return files.read(path, "what was downloaded", limit, "delete it")
    except InputError:
        return b""  # fetched again


def _fetched(url: str, limit: int, instead: str) -> bytes:
    began = time.monotonic()
    pieces: list[bytes] = []
    size = 0
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT) as answer:
            while piece := answer.read(_PIECE):
                pieces.append(piece)
                size += len(piece)
                if size > limit:
                    raise ValueError(f"more than the {limit} bytes allowed came")
                if time.monotonic() - began > _DEADLINE:
                    raise TimeoutError(f"it took more than {_DEADLINE:.0f} s")
    except (OSError, ValueError) as error:
        raise MachineError(
            "cannot download the weights", f"{type(error).__name__}: {str(error)[:200]}", instead,
            where=url,
        ) from error  # fmt: skip
    return b"".join(pieces)


def _md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()

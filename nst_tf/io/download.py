"""Downloads: stored under their final name only when complete and of the right hash."""

import hashlib
import os
import time
import urllib.request
from pathlib import Path

from nst_tf.errors import InputError, MachineError
from nst_tf.io import files

_TIMEOUT = 30.0
"""Seconds to wait for a connection or for more data."""

_DEADLINE = 1800.0
"""Seconds for the whole download, against a server that sends a byte now and then."""

_CHUNK = 2**18


def cached(url: str, md5: str, limit: int, instead: str) -> bytes:
    """Downloads a file, or returns the copy in Keras' cache.

    Args:
        url: The address.
        md5: The MD5 that its publisher states.
        limit: The most bytes it may have.
        instead: What to do where it cannot be downloaded.

    Returns:
        Its bytes.

    Raises:
        MachineError: It cannot be downloaded or stored, or its hash is wrong.
    """
    folder = _cache_folder(instead)
    path = folder / url.rpartition("/")[2]
    if path.exists():
        data = _read_cached(path, limit)
        if _md5(data) == md5:
            return data
    # Checked now, not after a long download.
    files.prepare_folder(folder, f"make that folder writable, or {instead}")
    data = _downloaded(url, limit, instead)
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


def _cache_folder(instead: str) -> Path:
    try:
        return Path(os.environ.get("KERAS_HOME") or Path("~/.keras").expanduser()) / "models"
    except RuntimeError as error:
        raise MachineError(
            "cannot store a download", "there is no home folder", f"set KERAS_HOME, or {instead}"
        ) from error


def _read_cached(path: Path, limit: int) -> bytes:
    try:
        return files.read(path, "what was downloaded", limit, "delete it")
    except InputError:
        return b""  # it is downloaded again


def _downloaded(url: str, limit: int, instead: str) -> bytes:
    start = time.monotonic()
    chunks: list[bytes] = []
    size = 0
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT) as response:
            while chunk := response.read(_CHUNK):
                chunks.append(chunk)
                size += len(chunk)
                if size > limit:
                    raise ValueError(f"more than the {limit} bytes allowed were sent")
                if time.monotonic() - start > _DEADLINE:
                    raise TimeoutError(f"it took more than {_DEADLINE:.0f} s")
    except (OSError, ValueError) as error:
        raise MachineError(
            "cannot download the weights", f"{type(error).__name__}: {str(error)[:200]}", instead,
            where=url,
        ) from error  # fmt: skip
    return b"".join(chunks)


def _md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()

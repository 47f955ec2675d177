"""The one way to write a file: a temporary beside the target, fsync, rename."""

import contextlib
import errno
import os
import secrets
from pathlib import Path

from nst_tf.errors import SystemFault

_TEMPORARY = ".nst_tf-"


def publish(path: Path, data: bytes) -> None:
    """Writes a file whole or not at all.

    The bytes go to a temporary in the same folder, reach the disk, and only then take the final
    name, so that whoever opens that name finds the old file or the complete new one.

    Args:
        path: The final name. Its folder must exist.
        data: All the bytes of the file.

    Raises:
        SystemFault: The disk is full, or the folder cannot be written. The old file is intact.
    """
    temporary = path.parent / f"{_TEMPORARY}{secrets.token_hex(8)}"
    try:
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
            with open(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
        _sync_folder(path.parent)
    except OSError as error:
        raise _fault("cannot write the file", path, error) from error


def prepare_folder(folder: Path) -> None:
    """Creates a folder where there is none and shows that it can be written.

    Args:
        folder: The folder that files will be published in.

    Raises:
        SystemFault: It cannot be created or written.
    """
    probe = folder / f"{_TEMPORARY}{secrets.token_hex(8)}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        os.close(os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
        probe.unlink()
    except OSError as error:
        raise _fault("cannot write to the folder", folder, error) from error


def _sync_folder(folder: Path) -> None:
    """Makes the rename itself durable, where the file system lets a folder be synced."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def _fault(what: str, path: Path, error: OSError) -> SystemFault:
    return SystemFault(
        what,
        error.strerror or type(error).__name__,
        "free some space or choose another place with --output_image",
        where=path,
    )

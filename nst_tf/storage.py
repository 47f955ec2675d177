"""The one way to read a file, whole, and to write one: a temporary beside it, fsync, rename."""

import contextlib
import errno
import os
import secrets
import stat
from pathlib import Path

from nst_tf.errors import InputError, MachineError

_TEMPORARY = ".nst_tf-"

_REASONS = {
    errno.ENOENT: "no such file",
    errno.EACCES: "no permission to read it",
    errno.ELOOP: "its symbolic links form a loop",
}


def read(path: Path, what: str, limit: int, remedy: str) -> bytes:
    """Reads a file whole, so that nothing that later happens to it matters.

    Args:
        path: A regular file or a link to one; devices and pipes could block for ever.
        what: What it should be, as in "the picture".
        limit: The most bytes it may have.
        remedy: What to do where it cannot be read.

    Returns:
        Its bytes, at least one.

    Raises:
        InputError: There is no such file, or it is not one that can be read.
    """

    def refusal(why: str) -> InputError:
        return InputError(f"cannot read {what}", why, remedy, where=path)

    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise refusal("it is a directory")
        if not stat.S_ISREG(status.st_mode):
            raise refusal("it is not a regular file")
        if status.st_size == 0:
            raise refusal("the file is empty")
        if status.st_size > limit:
            raise refusal(f"it has {status.st_size} bytes and {limit} are allowed")
        return path.read_bytes()
    except OSError as error:
        raise refusal(
            _REASONS.get(error.errno or 0, error.strerror or type(error).__name__)
        ) from error
    except ValueError as error:  # NUL, or what the file system's encoding cannot say
        raise refusal(f"no file can have this name ({error})") from error


def publish(path: Path, data: bytes) -> None:
    """Writes a file whole or not at all.

    The bytes go to a temporary in the same folder, reach the disk, and only then take the final
    name, so that whoever opens that name finds the old file or the complete new one.

    Args:
        path: The final name. Its folder must exist.
        data: All the bytes of the file.

    Raises:
        MachineError: The disk is full, or the folder cannot be written. The old file is intact.
    """
    temporary = path.parent / f"{_TEMPORARY}{secrets.token_hex(8)}"
    try:
        try:
            with temporary.open("xb") as file:
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
        MachineError: It cannot be created or written.
    """
    probe = folder / f"{_TEMPORARY}{secrets.token_hex(8)}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch(exist_ok=False)
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


def _fault(what: str, path: Path, error: OSError) -> MachineError:
    return MachineError(
        what,
        error.strerror or type(error).__name__,
        "free some space or choose another place with --output_image",
        where=path,
    )

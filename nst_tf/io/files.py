"""The one way to read a file, whole, and to write one: a temporary beside it, fsync, rename.

A lock on a folder tells whether the run that writes there is alive, and so which temporaries are
nobody's any more.
"""

import contextlib
import errno
import fcntl
import hashlib
import os
import secrets
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from nst_tf.errors import InputError, MachineError, warn

_TEMPORARY = ".nst_tf-"
_REMEDY = "free some space or choose another place with --output_image"
_LOCK = ".lock"
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)

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


def publish(path: Path, *data: bytes | memoryview, replace: bool = True) -> None:
    """Writes a file whole or not at all.

    The bytes go to a temporary in the same folder, reach the disk, and only then take the final
    name, so that whoever opens that name finds the old file or the complete new one.

    Args:
        path: The final name. Its folder must exist.
        data: All the bytes of the file, in pieces where that saves a copy.
        replace: Whether a file of that name may be replaced.

    Raises:
        FileExistsError: There is such a file, and it may not be replaced.
        MachineError: The disk is full, or the folder cannot be written. The old file is intact.
    """
    temporary = path.parent / f"{_prefix(path)}{secrets.token_hex(8)}"
    try:
        try:
            with temporary.open("xb") as file:
                file.writelines(data)
                file.flush()
                os.fsync(file.fileno())
            if replace:
                temporary.replace(path)
            else:
                _link(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
        _sync_folder(path.parent)
    except FileExistsError:
        raise
    except OSError as error:
        raise _fault("cannot write the file", path, error) from error


def _link(temporary: Path, path: Path) -> None:
    """Moves a file to a name that is free, which a rename cannot make sure of."""
    try:
        os.link(temporary, path)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if path.exists():
            raise FileExistsError(errno.EEXIST, "the file exists", str(path)) from error
        temporary.replace(path)  # this file system has no links
    else:
        temporary.unlink()


def prepare_folder(folder: Path, remedy: str = _REMEDY) -> None:
    """Creates a folder where there is none and shows that it can be written.

    Args:
        folder: The folder that files will be published in.
        remedy: What to do where it cannot be.

    Raises:
        MachineError: It cannot be created or written.
    """
    probe = folder / f"{_TEMPORARY}{secrets.token_hex(8)}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch(exist_ok=False)
        probe.unlink()
    except OSError as error:
        raise _fault("cannot write to the folder", folder, error, remedy) from error


@contextlib.contextmanager
def exclusive(folder: Path, *outputs: Path) -> Iterator[None]:
    """Makes a folder this process's own for a while, and clears what dead processes left.

    The lock goes with the process, however it ends. Where the file system has no locks, that is
    warned of, and nothing is cleared.

    Args:
        folder: A folder that only one process at a time may write in; made where there is none.
        outputs: Files elsewhere that only the holder of this folder writes.

    Yields:
        Nothing, while the folder is held.

    Raises:
        MachineError: Another process holds it, it is a symbolic link, or it cannot be written.
    """
    if folder.is_symlink():
        raise MachineError(
            "cannot write to the folder",
            "it is a symbolic link, which could lead anywhere",
            "remove it or choose another --output_image",
            where=folder,
        )
    prepare_folder(folder)
    path = folder / _LOCK
    with contextlib.ExitStack() as stack:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise _fault("cannot write the file", path, error) from error
        stack.callback(os.close, descriptor)
        if _locked(descriptor, path):
            os.ftruncate(descriptor, 0)
            since = time.strftime("%Y-%m-%d %H:%M:%S")
            os.pwrite(descriptor, f"pid {os.getpid()} since {since}\n".encode(), 0)
            for temporary in folder.glob(f"{_TEMPORARY}*"):
                temporary.unlink(missing_ok=True)
            for output in outputs:
                sweep(output)
            stack.callback(path.unlink, missing_ok=True)
        yield


def _locked(descriptor: int, path: Path) -> bool:
    """Locks a file; returns whether that worked, as it does on most file systems."""
    in_use = f"the folder is in use by {_holder(descriptor) or 'a run that has just begun'}"
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Its last holder may have removed the file between our opening and our locking it.
        free = path.exists() and os.path.samestat(os.fstat(descriptor), path.stat())
    except BlockingIOError:
        free = False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise _fault("cannot lock the file", path, error) from error
        warn(f"this file system has no locks: see that no other run writes to {path.parent}")
        return False
    if not free:
        raise MachineError(
            "another run writes there",
            in_use,
            "wait for it, stop it, or choose another --output_image",
            where=path.parent,
        )
    return True


def _holder(descriptor: int) -> str:
    return os.pread(descriptor, 100, 0).decode(errors="replace").strip()


def sweep(path: Path, older: float = 0.0) -> None:
    """Removes temporaries that were to become a file, and whose writer is dead.

    Args:
        path: The file's final name.
        older: Only those that have not been touched for so many seconds.
    """
    for temporary in path.parent.glob(f"{_prefix(path)}*"):
        with contextlib.suppress(OSError):
            if older == 0.0 or time.time() - temporary.stat().st_mtime > older:
                temporary.unlink()


def _prefix(path: Path) -> str:
    """Returns how the temporaries of a file begin, however long its name is."""
    digest = hashlib.sha256(os.fsencode(path.name)).hexdigest()[:12]
    return f"{_TEMPORARY}{digest}-"


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


def _fault(what: str, path: Path, error: OSError, remedy: str = _REMEDY) -> MachineError:
    return MachineError(what, error.strerror or type(error).__name__, remedy, where=path)

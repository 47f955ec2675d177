"""Reading files whole; writing them atomically, by appending lines, and under a lock.

A file is written to a temporary beside it, synced, and renamed. The lock on a folder tells whether
the process that writes there is alive, and so which temporaries are stale.
"""

import contextlib
import errno
import hashlib
import os
import secrets
import stat
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, cast

import filelock

from nst_tf.errors import InputError, InUseError, MachineError, warn

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_TEMPORARY = ".nst_tf-"
_LOCK = ".lock"
_HOLDER = ".lock-holder"
"""Who holds the lock, as text: Windows lets nobody else read a locked file."""

_REMEDY = "free some space or choose another place with --output_image"
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EINVAL)
_REASONS = {
    errno.ENOENT: "no such file",
    errno.EACCES: "no permission to read it",
    errno.ELOOP: "its symbolic links form a loop",
}

_HELD_OPEN = (5, 32)
"""Windows' access denied and sharing violation, as when a viewer has the file open."""

_REPLACE_TIMEOUT = 2.0
"""Seconds to retry the replacement of a file that another program holds open."""


def read(path: Path, what: str, limit: int, remedy: str) -> bytes:
    """Reads a whole file into memory; later changes of the file have no effect.

    Args:
        path: A regular file or a link to one; devices and pipes could block forever.
        what: What the file is, as in "the image".
        limit: The largest size allowed, in bytes.
        remedy: What to do where it cannot be read.

    Returns:
        Its bytes, at least one.

    Raises:
        InputError: There is no such file, or it cannot be read.
    """
    cause: Exception | None = None
    try:
        why = _obstacle(path.stat(), limit)
        if not why:
            return path.read_bytes()
    except OSError as error:
        why, cause = _REASONS.get(error.errno or 0, _text(error)), error
    except ValueError as error:  # NUL, or what the file system's encoding cannot express
        why, cause = f"no file can have this name ({error})", error
    raise InputError(f"cannot read {what}", why, remedy, where=path) from cause


def _obstacle(status: os.stat_result, limit: int) -> str:
    """Returns why a file is not read, or ""."""
    if stat.S_ISDIR(status.st_mode):
        return "it is a directory"
    if not stat.S_ISREG(status.st_mode):
        return "it is not a regular file"
    if status.st_size == 0:
        return "the file is empty"
    if status.st_size > limit:
        return f"it has {status.st_size} bytes and {limit} are allowed"
    return ""


def is_same(path: Path, other: Path) -> bool:
    """Whether two paths lead to one file, which need not exist.

    Args:
        path: A file, or a link to it.
        other: The same.
    """
    with contextlib.suppress(ValueError):  # no file can have such a name
        with contextlib.suppress(OSError):  # one of them does not exist
            return path.samefile(other)
        return os.path.realpath(path) == os.path.realpath(other)
    return False


def atomic_write(path: Path, *data: bytes | memoryview, replace: bool = True) -> None:
    """Writes a file completely or not at all.

    The bytes are written to a temporary in the same folder and synced to the disk; only then is
    the temporary renamed, so that a reader finds the old file or the complete new one.

    Args:
        path: The file. Its folder must exist.
        data: All bytes of the file, in pieces where that saves a copy.
        replace: Whether an existing file may be replaced.

    Raises:
        FileExistsError: The file exists and may not be replaced.
        MachineError: The disk is full, or the folder cannot be written. The old file is intact.
    """
    with atomic_path(path, replace=replace) as temporary, temporary.open("xb") as file:
        file.writelines(data)


@contextlib.contextmanager
def atomic_path(path: Path, *, replace: bool = True) -> Iterator[Path]:
    """Gives a file its name when it is complete, as `atomic_write` does, whoever writes it.

    Args:
        path: The file, or a link to it. Its folder must exist.
        replace: Whether an existing file may be replaced.

    Yields:
        The temporary to create, in the folder of the file.

    Raises:
        FileExistsError: The file exists and may not be replaced.
        MachineError: The disk is full, or the folder cannot be written. The old file is intact.
    """
    path = _followed(path)
    temporary = path.parent / f"{_prefix(path)}{secrets.token_hex(8)}"
    try:
        try:
            yield temporary
            with temporary.open("rb+") as file:
                _sync(file.fileno())
            if replace:
                _replace(temporary, path)
            else:
                _rename_to_free_name(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
        _sync_folder(path.parent)
    except FileExistsError:
        raise
    except OSError as error:
        raise _fault("cannot write the file", path, error) from error


def _followed(path: Path) -> Path:
    """Returns the file that a link leads to.

    A link that another user made could lead anywhere: it counts as the file itself.
    """
    user = os.geteuid() if hasattr(os, "geteuid") else 0  # as Windows has it
    with contextlib.suppress(OSError):
        if path.is_symlink() and path.lstat().st_uid == user and path.is_file():
            return path.resolve()
    return path


def _replace(temporary: Path, path: Path) -> None:
    """Renames, with retries while another program holds the file open (Windows)."""
    deadline = time.monotonic() + _REPLACE_TIMEOUT
    while True:
        try:
            temporary.replace(path)
            return
        except PermissionError as error:
            held_open = getattr(error, "winerror", None) in _HELD_OPEN
            if not held_open or time.monotonic() > deadline:
                raise
        time.sleep(0.05)


def _rename_to_free_name(temporary: Path, path: Path) -> None:
    """Renames without replacing, which a rename by itself does not guarantee."""
    try:
        os.link(temporary, path)
    except (OSError, AttributeError) as error:  # a system may lack the function
        if isinstance(error, OSError) and error.errno not in _NO_LINKS:
            raise
        if path.exists():
            raise FileExistsError(errno.EEXIST, "the file exists", str(path)) from error
        temporary.replace(path)  # no hard links here
    else:
        temporary.unlink()


def append(path: Path, data: bytes) -> None:
    """Appends bytes to a file, which is created where there is none.

    Args:
        path: The file. Its folder must exist.
        data: The bytes, which are in the file when the function returns.

    Raises:
        MachineError: The disk is full, or the file cannot be written.
    """
    try:
        with _open_to_append(path) as file:
            file.write(data)
    except OSError as error:
        raise _fault("cannot write the file", path, error) from error


def append_lines(path: Path, lines: Iterable[str]) -> int:
    """Appends lines to a text file, which is created where there is none.

    The lines are in the file when the function returns: other programs see them, and they outlast
    the process. An incomplete last line, left by a crash or a full disk, is removed first.

    Args:
        path: The file. Its folder must exist.
        lines: Text without line ends; written as UTF-8, with a line feed after each.

    Returns:
        The size of the file in bytes, to which `truncate_to` can cut it back later.

    Raises:
        MachineError: The disk is full, or the file cannot be written.
    """
    data = "".join(f"{line}\n" for line in lines).encode()
    try:
        with _open_to_append(path) as file:
            _remove_incomplete_line(file)
            file.write(data)
            return file.tell()
    except OSError as error:
        raise _fault("cannot write the file", path, error) from error


def truncate_to(path: Path, size: int) -> None:
    """Cuts a file that grows by `append_lines` back to an earlier size, to continue from there.

    Args:
        path: The file; created empty where there is none.
        size: In bytes, as `append_lines` returned it. A smaller file is left as it is.

    Raises:
        MachineError: The file cannot be written.
    """
    try:
        with _open_to_append(path) as file:
            file.truncate(min(size, file.seek(0, os.SEEK_END)))
    except OSError as error:
        raise _fault("cannot write the file", path, error) from error


def _open_to_append(path: Path) -> BinaryIO:
    """Opens for appending; a symbolic link in place of the file is not followed."""

    def opener(name: str, flags: int) -> int:
        return os.open(name, flags | getattr(os, "O_NOFOLLOW", 0), 0o666)

    return cast(BinaryIO, open(path, "a+b", opener=opener))


def _remove_incomplete_line(file: BinaryIO) -> None:
    end = file.seek(0, os.SEEK_END)
    file.seek(max(0, end - 1))
    if file.read(1) not in (b"", b"\n"):
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)
    file.seek(0, os.SEEK_END)


def prepare_folder(folder: Path, remedy: str = _REMEDY) -> None:
    """Creates a folder if it does not exist, and checks that it can be written.

    Args:
        folder: The folder that files will be written to.
        remedy: What to do where that is not possible.

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
def lock_directory(folder: Path, *outputs: Path) -> Iterator[None]:
    """Locks a folder for this process and removes the temporaries of dead processes.

    The lock ends with the process, however that ends. Where the file system has no locks, a
    warning is logged and nothing is removed. A folder that is empty afterwards is removed.

    Args:
        folder: The folder, which is created if it does not exist.
        outputs: Files elsewhere that only the holder of this lock writes.

    Yields:
        Nothing, while the lock is held.

    Raises:
        InUseError: Another process holds the lock.
        MachineError: The folder or its lock is a symbolic link, or the folder cannot be written.
    """
    if folder.is_symlink():
        raise MachineError(
            "cannot write to the folder",
            "it is a symbolic link, which could lead anywhere",
            "remove it or choose another --output_image",
            where=folder,
        )
    prepare_folder(folder)
    with contextlib.ExitStack() as stack:
        stack.callback(_remove_if_empty, folder)
        if _lock(folder, stack):
            since = time.strftime("%Y-%m-%d %H:%M:%S")
            atomic_write(folder / _HOLDER, f"pid {os.getpid()} since {since}\n".encode())
            stack.callback(_unlink, folder / _HOLDER)
            for temporary in folder.glob(f"{_TEMPORARY}*"):
                temporary.unlink(missing_ok=True)
            for output in outputs:
                remove_stale_temporaries(output)
        yield


def _lock(folder: Path, stack: contextlib.ExitStack) -> bool:
    """Locks a folder until the stack is closed; returns False where there are no locks."""
    path = folder / _LOCK
    lock = filelock.FileLock(path)
    try:
        lock.acquire(blocking=False)
    except filelock.Timeout as error:
        raise InUseError(
            "another run writes there",
            f"the folder is in use by {_holder(folder) or 'a run that has just begun'}",
            "wait for it, stop it, or choose another --output_image",
            where=folder,
        ) from error
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise _fault("cannot lock the file", path, error) from error
        warn(f"this file system has no locks: see that no other run writes to {folder}")
        return False
    stack.callback(lock.release)
    stack.callback(_unlink, path)  # before the release, while nobody else can hold it
    return True


def _holder(folder: Path) -> str:
    """Returns who holds the lock, or "" where that is not known."""
    try:
        return (folder / _HOLDER).read_bytes()[:100].decode(errors="replace").strip()
    except OSError:
        return ""


def _remove_if_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):  # it is not empty, or open in another program
        folder.rmdir()


def _unlink(path: Path) -> None:
    with contextlib.suppress(OSError):  # Windows removes no file that is open
        path.unlink(missing_ok=True)


def remove_stale_temporaries(path: Path, min_age: float = 0.0) -> None:
    """Removes temporaries of a file whose writer is dead.

    Args:
        path: The file that they were to become.
        min_age: Only those that were not modified for so many seconds.
    """
    for temporary in path.parent.glob(f"{_prefix(path)}*"):
        with contextlib.suppress(OSError):
            if min_age == 0.0 or time.time() - temporary.stat().st_mtime > min_age:
                temporary.unlink()


def _prefix(path: Path) -> str:
    """Returns how the names of a file's temporaries begin, however long its own name is."""
    digest = hashlib.sha256(os.fsencode(path.name)).hexdigest()[:12]
    return f"{_TEMPORARY}{digest}-"


def _sync(descriptor: int) -> None:
    """Writes a file's data to the disk."""
    command = getattr(fcntl, "F_FULLFSYNC", None)
    if command is not None:  # macOS, where fsync stops at the cache of the disk
        with contextlib.suppress(OSError):
            fcntl.fcntl(descriptor, command)
            return
    os.fsync(descriptor)


def _sync_folder(folder: Path) -> None:
    """Writes a rename to the disk, where a folder can be opened and synced."""
    if not hasattr(os, "O_DIRECTORY"):  # Windows
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def _text(error: OSError) -> str:
    return error.strerror or type(error).__name__


def _fault(what: str, path: Path, error: OSError, remedy: str = _REMEDY) -> MachineError:
    return MachineError(what, _text(error), remedy, where=path)

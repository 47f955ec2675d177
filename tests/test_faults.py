"""Disks that fail, processes that are killed, writers that collide: no file is half written."""

import errno
import io
import os
import random as python_random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nst_tf.errors import MachineError
from nst_tf.io import files
from tests.command import environment

OLD, NEW = b"old" * 40_000, b"new" * 50_000

OPERATIONS = [(io, "open"), (os, "open"), (os, "fsync"), (os, "replace"), (os, "link"),
              (os, "unlink")]  # fmt: skip


def names(folder):
    return sorted(path.name for path in folder.iterdir())


class Faults:
    """Makes the operation number N on the disk fail, and with `persistent` all after it."""

    def __init__(self, monkeypatch, number, code, persistent):
        self.count, self.number, self.code, self.persistent = 0, number, code, persistent
        self.failed = []
        for module, name in OPERATIONS:
            monkeypatch.setattr(module, name, self.failing(name, getattr(module, name)))

    def failing(self, name, real):
        def operation(*arguments, **options):
            self.count += 1
            if self.count == self.number or (self.persistent and self.count > self.number):
                self.failed.append(name)
                raise OSError(self.code, os.strerror(self.code))
            return real(*arguments, **options)

        return operation


@pytest.mark.parametrize("persistent", [False, True], ids=["once", "from-then-on"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EROFS])
@pytest.mark.parametrize("replace", [True, False], ids=["replace", "new"])
def test_RUN_06_10_11_every_operation_on_the_disk_may_fail(
    tmp_path, monkeypatch, code, persistent, replace
):
    untouched = False
    for number in range(1, 50):
        folder = tmp_path / str(number)
        folder.mkdir()
        path = folder / "image.png"
        if replace:
            path.write_bytes(OLD)
        with monkeypatch.context() as patch:
            faults = Faults(patch, number, code, persistent)
            try:
                files.atomic_write(path, NEW, replace=replace)
            except MachineError as error:
                assert os.strerror(code) in str(error)
                assert faults.failed
        found = path.read_bytes() if path.exists() else None
        assert found in ({OLD, NEW} if replace else {None, NEW})
        left = [name for name in names(folder) if name != path.name]
        assert left == [] or "unlink" in faults.failed
        if not faults.failed:
            untouched = True
            assert found == NEW
            break
    assert untouched
    assert number > 4  # the temporary's opening and sync, its renaming, the folder's sync at least


def test_RUN_04_a_file_that_appeared_is_not_replaced(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(OLD)
    with pytest.raises(FileExistsError):
        files.atomic_write(path, NEW, replace=False)
    assert path.read_bytes() == OLD
    assert list(tmp_path.iterdir()) == [path]


def test_RUN_04_neither_on_a_system_without_links(tmp_path, monkeypatch):
    monkeypatch.delattr("os.link")
    path = tmp_path / "a.png"
    files.atomic_write(path, OLD, replace=False)
    with pytest.raises(FileExistsError):
        files.atomic_write(path, NEW, replace=False)
    assert path.read_bytes() == OLD
    assert list(tmp_path.iterdir()) == [path]


def test_RUN_04_neither_where_the_file_system_has_no_links(tmp_path, monkeypatch):
    def unsupported(*_):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", unsupported)
    path = tmp_path / "a.png"
    files.atomic_write(path, OLD, replace=False)
    with pytest.raises(FileExistsError):
        files.atomic_write(path, NEW, replace=False)
    assert path.read_bytes() == OLD


SAVE_FOR_EVER = """
import sys
from pathlib import Path
from nst_tf.io import files
path, way = Path(sys.argv[1]), sys.argv[2]
contents = [b"old" * 40_000, b"new" * 50_000]
with files.lock_directory(path.with_suffix(".run"), path):
    print("ready", flush=True)
    while True:
        for data in contents:
            if way == "naive":
                path.write_bytes(data)
            else:
                files.atomic_write(path, data)
"""


def kill_while_it_saves(path, way, times):
    """Returns how often the file was not whole, and how often a temporary was left."""
    broken = stray = 0
    chance = python_random.Random(7)
    for _ in range(times):
        with subprocess.Popen(
            [sys.executable, "-c", SAVE_FOR_EVER, path, way],
            env=environment(), stdout=subprocess.PIPE, text=True,
        ) as child:  # fmt: skip
            assert child.stdout.readline() == "ready\n"
            time.sleep(chance.uniform(0, 0.03))
            child.kill()
        broken += path.exists() and path.read_bytes() not in (OLD, NEW)
        stray += any(name.startswith(".nst_tf-") for name in names(path.parent))
    return broken, stray


def test_RUN_17_a_hundred_kills_leave_no_broken_file_and_no_temporary_for_long(tmp_path):
    path = tmp_path / "image.png"
    broken, stray = kill_while_it_saves(path, "atomic", 100)
    assert broken == 0
    assert stray > 0  # or the kills never came while it wrote
    with files.lock_directory(path.with_suffix(".run"), path):
        pass
    assert names(tmp_path) == ["image.png"]  # the folder was empty


def test_RUN_17_the_same_kills_break_files_that_are_written_naively(tmp_path):
    broken, _ = kill_while_it_saves(tmp_path / "image.png", "naive", 20)
    assert broken > 0


def test_temporaries_of_another_output_in_the_folder_are_left_alone(tmp_path):
    (tmp_path / ".nst_tf-0123456789ab-aa").write_bytes(b"of another run, which may be alive")
    with files.lock_directory(tmp_path / "a.run", tmp_path / "a.png"):
        pass
    assert (tmp_path / ".nst_tf-0123456789ab-aa").exists()


def test_RUN_20_a_second_run_is_told_of_the_first_and_one_after_its_death_is_not(tmp_path):
    path = tmp_path / "image.png"
    with subprocess.Popen(
        [sys.executable, "-c", SAVE_FOR_EVER, path, "atomic"],
        env=environment(), stdout=subprocess.PIPE, text=True,
    ) as child:  # fmt: skip
        assert child.stdout.readline() == "ready\n"
        with (
            pytest.raises(MachineError, match=f"in use by pid {child.pid} since 20..-") as error,
            files.lock_directory(tmp_path / "image.run", path),
        ):
            pass
        assert error.value.exit_code == 3
        child.kill()
    with files.lock_directory(tmp_path / "image.run", path):
        pass


def test_RUN_20_it_is_the_lock_that_keeps_the_second_run_out(tmp_path, monkeypatch):
    monkeypatch.setattr("fcntl.flock", lambda *_: None)  # a mutant: the lock does nothing
    with files.lock_directory(tmp_path / "a.run"), files.lock_directory(tmp_path / "a.run"):
        pass


def test_RUN_20_without_locks_it_warns_and_goes_on(tmp_path, monkeypatch, caplog):
    def unsupported(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", unsupported)
    with files.lock_directory(tmp_path / "a.run"):
        pass
    assert "no locks" in caplog.records[0].message


def test_RUN_20_a_file_system_that_fails_is_no_file_system_without_locks(tmp_path, monkeypatch):
    def broken(*_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("fcntl.flock", broken)
    with (
        pytest.raises(MachineError, match=r"cannot lock the file .*Input/output error"),
        files.lock_directory(tmp_path / "a.run"),
    ):
        pass


def test_RUN_27_a_run_folder_that_is_a_link_is_not_followed(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "a.run").symlink_to(tmp_path / "elsewhere")
    with (
        pytest.raises(MachineError, match="symbolic link"),
        files.lock_directory(tmp_path / "a.run"),
    ):
        pass
    assert names(tmp_path / "elsewhere") == []


def test_RUN_27_a_lock_that_is_a_link_is_not_followed(tmp_path):
    (tmp_path / "a.run").mkdir()
    (tmp_path / "precious").write_bytes(OLD)
    (tmp_path / "a.run" / ".lock").symlink_to(tmp_path / "precious")
    with pytest.raises(MachineError), files.lock_directory(tmp_path / "a.run"):
        pass
    assert (tmp_path / "precious").read_bytes() == OLD


def test_RUN_27_a_link_that_another_user_made_is_not_followed(tmp_path, monkeypatch):
    (tmp_path / "precious").write_bytes(OLD)
    (tmp_path / "run.json").symlink_to(tmp_path / "precious")
    own = os.geteuid()
    monkeypatch.setattr("os.geteuid", lambda: own + 1)
    files.atomic_write(tmp_path / "run.json", NEW)
    assert (tmp_path / "precious").read_bytes() == OLD
    assert (tmp_path / "run.json").read_bytes() == NEW


SAVE_ONCE = """
import sys
from pathlib import Path
from nst_tf.io import files
files.atomic_write(Path(sys.argv[1]), b"data")
"""


@pytest.mark.skipif(not Path("/usr/bin/strace").exists(), reason="strace is not installed")
def test_RUN_18_the_file_reaches_the_disk_before_its_name_and_then_the_folder(tmp_path):
    done = subprocess.run(
        ["strace", "-f", "-e", "trace=fsync,rename,renameat,renameat2", sys.executable, "-c",
         SAVE_ONCE, tmp_path / "a.png"],
        env=environment(), capture_output=True, text=True, check=True,
    )  # fmt: skip
    calls = [line for line in done.stderr.splitlines() if "fsync(" in line or "rename" in line]
    assert [("rename" in call) for call in calls] == [False, True, False]


def test_RUN_18_the_order_of_operations(tmp_path, monkeypatch):
    seen = []

    def noting(name, real):
        def operation(*arguments, **options):
            seen.append(name)
            return real(*arguments, **options)

        return operation

    for module, name in OPERATIONS:
        monkeypatch.setattr(module, name, noting(name, getattr(module, name)))
    files.atomic_write(tmp_path / "a.png", NEW)
    # The file is written, opened again to be synced, and renamed; then the folder is synced.
    assert seen == ["open", "open", "fsync", "replace", "open", "fsync"]


def test_RUN_43_a_thousand_files_need_no_more_handles_than_one(tmp_path):
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = len(names(Path("/proc/self/fd")))
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 16, before[1]))
    try:
        for number in range(1000):
            files.atomic_write(tmp_path / f"{number}.png", b"x")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert len(list(tmp_path.iterdir())) == 1000


def test_RUN_41_the_temporary_folder_is_not_used(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", SAVE_ONCE, tmp_path / "a.png"],
        env={**environment(), "TMPDIR": "/nowhere"}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "a.png").read_bytes() == b"data"


def test_RUN_16_an_interrupt_while_it_saves_leaves_no_half_file(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    path.write_bytes(OLD)

    def interrupted(_):
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        files.atomic_write(path, NEW)
    assert path.read_bytes() == OLD
    assert list(tmp_path.iterdir()) == [path]


class HeldOpen:
    """Makes the replacement of a file fail as on Windows while a viewer has it open."""

    def __init__(self, monkeypatch, times, winerror=5):
        self.count, self.times, self.winerror = 0, times, winerror
        self.replace = os.replace
        monkeypatch.setattr(os, "replace", self)

    def __call__(self, *arguments):
        self.count += 1
        if self.count <= self.times:
            error = PermissionError(errno.EACCES, "Access is denied")
            error.winerror = self.winerror
            raise error
        self.replace(*arguments)


@pytest.mark.parametrize("winerror", [5, 32])
def test_a_file_that_a_viewer_holds_open_is_replaced_once_it_is_closed(
    tmp_path, monkeypatch, winerror
):
    path = tmp_path / "a.png"
    path.write_bytes(OLD)
    HeldOpen(monkeypatch, 4, winerror)
    files.atomic_write(path, NEW)
    assert path.read_bytes() == NEW
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_stays_open_is_given_up_after_a_while(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    path.write_bytes(OLD)
    HeldOpen(monkeypatch, 10**9)
    monkeypatch.setattr(files, "_REPLACE_TIMEOUT", 0.2)
    began = time.monotonic()
    with pytest.raises(MachineError, match="Access is denied"):
        files.atomic_write(path, NEW)
    assert 0.2 <= time.monotonic() - began < 2
    assert path.read_bytes() == OLD
    assert list(tmp_path.iterdir()) == [path]


def test_RUN_10_no_permission_elsewhere_is_not_waited_for(tmp_path, monkeypatch):
    held = HeldOpen(monkeypatch, 10**9, winerror=None)
    with pytest.raises(MachineError, match="Access is denied"):
        files.atomic_write(tmp_path / "a.png", NEW)
    assert held.count == 1


def test_RUN_18_on_macos_the_data_is_flushed_from_the_disks_cache(tmp_path, monkeypatch):
    commands = []
    monkeypatch.setattr("fcntl.F_FULLFSYNC", 51, raising=False)
    monkeypatch.setattr("fcntl.fcntl", lambda _, command: commands.append(command))
    monkeypatch.setattr(os, "fsync", lambda _: commands.append("fsync"))
    files.atomic_write(tmp_path / "a.png", NEW)
    assert commands == [51, "fsync"]  # the file, and then its folder

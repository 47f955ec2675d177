"""Files are written completely or not at all, and grow by whole lines."""

import os
import subprocess
import sys

import pytest

from nst_tf.errors import MachineError
from nst_tf.io import files
from tests.command import environment

OLD, NEW = b"old" * 1000, b"new" * 2000


def test_writes_and_replaces(tmp_path):
    path = tmp_path / "a.bin"
    for data in (OLD, NEW, b""):
        files.atomic_write(path, data)
        assert path.read_bytes() == data
    assert list(tmp_path.iterdir()) == [path]


def test_gives_the_permissions_that_the_user_asks_for(tmp_path):
    before = os.umask(0o027)
    try:
        files.atomic_write(tmp_path / "a.bin", NEW)
    finally:
        os.umask(before)
    assert (tmp_path / "a.bin").stat().st_mode & 0o777 == 0o640


WRITE_BEYOND_THE_LIMIT = """
import resource, signal, sys
from pathlib import Path
from nst_tf.io import files
from nst_tf.errors import MachineError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
path = Path(sys.argv[1])
try:
    if sys.argv[2] == "naive":
        path.write_bytes(b"new" * 2000)
    else:
        files.atomic_write(path, b"new" * 2000)
except (MachineError, OSError) as error:
    print(error)
"""


@pytest.mark.parametrize("way", ["atomic", "naive"])
def test_RUN_06_10_a_write_that_fails_leaves_the_old_file(tmp_path, way):
    path = tmp_path / "a.bin"
    path.write_bytes(OLD)
    done = subprocess.run(
        [sys.executable, "-c", WRITE_BEYOND_THE_LIMIT, path, way],
        env=environment(), capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "File too large" in done.stdout
    intact = path.read_bytes() == OLD and list(tmp_path.iterdir()) == [path]
    assert intact == (way == "atomic")  # the naive way shows that the test can fail


def test_RUN_06_a_write_that_fails_is_told_in_one_line(tmp_path):
    with pytest.raises(MachineError, match=r"cannot write the file.*free some space") as error:
        files.atomic_write(tmp_path / "missing folder" / "a.bin", NEW)
    assert error.value.exit_code == 3


def test_RUN_01_a_missing_folder_is_made(tmp_path):
    files.prepare_folder(tmp_path / "a" / "b")
    assert list((tmp_path / "a" / "b").iterdir()) == []


def test_RUN_02_a_folder_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "a").write_text("")
    with pytest.raises(MachineError, match="cannot write to the folder"):
        files.prepare_folder(tmp_path / "a")


# Lines


def test_lines_are_appended_and_there_at_once(tmp_path):
    path = tmp_path / "trace.csv"
    size = files.append_lines(path, ["a,b", "1,2"])
    assert path.read_bytes() == b"a,b\n1,2\n"
    assert size == 8
    assert files.append_lines(path, ["Zoë"]) == 8 + len("Zoë\n".encode())
    assert path.read_text(encoding="utf-8").splitlines() == ["a,b", "1,2", "Zoë"]
    assert files.append_lines(path, []) == path.stat().st_size


@pytest.mark.parametrize("rest", [b"", b"2", b"2,3,4"])
def test_RUN_17_an_incomplete_line_is_cut_off_when_lines_are_appended(tmp_path, rest):
    path = tmp_path / "trace.csv"
    path.write_bytes(b"a,b\n" + rest)
    files.append_lines(path, ["5,6"])
    assert path.read_bytes() == b"a,b\n5,6\n"


def test_a_file_of_one_incomplete_line_is_empty_again(tmp_path):
    (tmp_path / "trace.csv").write_bytes(b"a,")
    assert files.append_lines(tmp_path / "trace.csv", ["a,b"]) == 4


def test_a_file_of_lines_is_cut_back_to_an_earlier_size(tmp_path):
    path = tmp_path / "trace.csv"
    size = files.append_lines(path, ["a,b", "1,2"])
    files.append_lines(path, ["3,4", "5,6"])
    files.truncate_to(path, size)
    assert path.read_bytes() == b"a,b\n1,2\n"
    files.truncate_to(path, size + 100)  # what a power cut took is not made up for
    assert path.read_bytes() == b"a,b\n1,2\n"
    assert files.append_lines(path, ["7,8"]) == size + 4
    files.truncate_to(tmp_path / "new.csv", 99)
    assert (tmp_path / "new.csv").read_bytes() == b""


@pytest.mark.parametrize("call", [lambda path: files.append_lines(path, ["a"]),
                                  lambda path: files.truncate_to(path, 0)])  # fmt: skip
def test_RUN_09_27_lines_that_cannot_be_written_are_told_in_one_line(tmp_path, call):
    with pytest.raises(MachineError, match=r"cannot write the file .*No such file"):
        call(tmp_path / "missing" / "trace.csv")
    (tmp_path / "other").write_bytes(OLD)
    (tmp_path / "link.csv").symlink_to(tmp_path / "other")
    with pytest.raises(MachineError, match="cannot write the file"):
        call(tmp_path / "link.csv")
    assert (tmp_path / "other").read_bytes() == OLD


APPEND_UNTIL_THE_DISK_IS_FULL = (
    WRITE_BEYOND_THE_LIMIT.partition("path =")[0]
    + """
path = Path(sys.argv[1])
try:
    while True:
        files.append_lines(path, ["0123456789"])
except MachineError as error:
    print(error)
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, resource.RLIM_INFINITY))
files.append_lines(path, ["the end"])
"""
)


def test_RUN_06_a_disk_that_is_full_leaves_whole_lines(tmp_path):
    path = tmp_path / "trace.csv"
    code = APPEND_UNTIL_THE_DISK_IS_FULL.replace("(4096, 4096)", "(4096, resource.RLIM_INFINITY)")
    done = subprocess.run(
        [sys.executable, "-c", code, path],
        env=environment(), capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "cannot write the file" in done.stdout and "File too large" in done.stdout
    lines = path.read_text().splitlines()
    assert lines == ["0123456789"] * (4096 // 11) + ["the end"]

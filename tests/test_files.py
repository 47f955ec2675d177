"""Files are written whole or not at all."""

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

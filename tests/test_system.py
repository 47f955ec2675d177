"""Memory, processor, versions, start of TensorFlow."""

import configparser
import importlib.metadata
import os
import platform
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from nst_tf import system
from nst_tf.errors import MachineError
from tests.command import ROOT, environment


def test_peak_memory_is_in_bytes_and_sees_an_allocation():
    code = """
import numpy as np
from nst_tf import system
before = system.peak_memory()
np.ones(200_000_000 // 8)
print(before, system.peak_memory())
"""
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True
    )
    before, after = map(int, done.stdout.split())
    assert 1e7 < before < 1e9
    assert after - before == pytest.approx(2e8, rel=0.2)


def test_available_memory_shrinks_when_memory_is_used():
    before = system.available_memory()
    held = np.ones(500_000_000 // 8)
    assert before - system.available_memory() > 2e8
    assert held.size
    assert before < os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


CONTROL_GROUPS = {
    "version 2": ("0::/a/b", "", "memory.max", "memory.current", ""),
    "version 1": ("4:memory:/a/b", "memory", "memory.limit_in_bytes", "memory.usage_in_bytes",
                  "total_"),
}  # fmt: skip


@pytest.mark.parametrize("version", CONTROL_GROUPS)
@pytest.mark.parametrize("limited", [".", "a", "a/b"])
def test_a_limit_of_any_control_group_counts_and_the_page_cache_is_free(
    tmp_path, monkeypatch, version, limited
):
    line, controller, limit, usage, prefix = CONTROL_GROUPS[version]
    for folder in (".", "a", "a/b"):
        group = tmp_path / controller / folder
        group.mkdir(parents=True, exist_ok=True)
        (group / limit).write_text("5000" if folder == limited else "max")
        (group / usage).write_text("3000")
        (group / "memory.stat").write_text(
            f"{prefix}active_file 300\n{prefix}inactive_file 40\nanon 2660\n"
        )
    (tmp_path / "cgroup").write_text(f"9:name=systemd:/\n{line}\n")
    lines = system._lines
    monkeypatch.setattr(system, "_CONTROL_GROUPS", tmp_path)
    monkeypatch.setattr(
        system, "_lines",
        lambda path: lines(tmp_path / "cgroup" if path == "/proc/self/cgroup" else path),
    )  # fmt: skip
    assert system.available_memory() == 5000 - 3000 + 340


def test_versions_are_those_installed():
    versions = system.versions()
    assert versions["python"] == sys.version.split()[0]
    assert versions["scipy"] == importlib.metadata.version("scipy")


def installed(**packages):
    """Returns a replacement of `importlib.metadata.version` that knows these packages only."""

    def version(name):
        if name not in packages:
            raise importlib.metadata.PackageNotFoundError(name)
        return packages[name]

    return version


FLOORS = dict(system._FLOORS)


@pytest.mark.parametrize("name", ["tensorflow", "tensorflow-cpu", "tf-nightly", "tf-nightly-cpu",
                                  "tensorflow-rocm", "tensorflow-macos"])  # fmt: skip
def test_RUN_44_tensorflow_is_found_under_any_of_its_names(monkeypatch, name):
    packages = {**{n: v for n, v in FLOORS.items() if n != "tensorflow"}, name: "2.21.1"}
    monkeypatch.setattr("importlib.metadata.version", installed(**packages))
    system.check_versions()
    assert system.versions()["tensorflow"] == "2.21.1"
    monkeypatch.setattr("importlib.metadata.version", installed(**{**packages, name: "2.20"}))
    with pytest.raises(MachineError, match=r"tensorflow is too old: it is 2\.20, and 2\.21 or"):
        system.check_versions()


@pytest.mark.parametrize("name", FLOORS)
def test_RUN_44_a_missing_package_is_told_with_the_command_that_installs_it(monkeypatch, name):
    packages = {n: v for n, v in FLOORS.items() if n != name}
    monkeypatch.setattr("importlib.metadata.version", installed(**packages))
    text = f'{name} is missing: the package is not installed; run: pip install "{name}>='
    for call in (system.check_versions, system.versions):
        with pytest.raises(MachineError, match=text):
            call()


@pytest.mark.parametrize(
    ("cpuinfo", "expected"),
    [
        (["processor : 0", "model name\t: CPU @ 3 GHz", "model name : other"], "CPU @ 3 GHz"),
        (["CPU implementer : 0x41", "CPU part : 0xd0c"], "aarch64 implementer 0x41 part 0xd0c"),
        ([], "the processor"),
    ],
)
def test_the_processor_has_a_name_on_any_machine(monkeypatch, cpuinfo, expected):
    monkeypatch.setattr(system, "_lines", lambda path: cpuinfo)
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    monkeypatch.setattr("platform.processor", lambda: "the processor")
    assert system.processor()["processor"] == expected
    assert int(system.processor()["cores"]) >= 1


SET_AFTERWARDS = """
import logging
import tensorflow as tf
from nst_tf import errors, system
logging.basicConfig(format="%(message)s", stream=__import__("sys").stdout)
system.configure_tensorflow(2, True)
tf.zeros(3) + 1
system.configure_tensorflow(0, True)  # the same setting again
system.configure_tensorflow(0, False)  # and none
system.configure_tensorflow(3, False)
print(tf.config.threading.get_intra_op_parallelism_threads())
"""


def test_threads_of_tensorflow_that_come_too_late_stay_with_a_warning():
    done = subprocess.run(
        [sys.executable, "-c", SET_AFTERWARDS],
        env=environment(), capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == (
        "threads stay 2: TensorFlow computes in this process already, and takes another number "
        "before its first computation only\n2\n"
    )


def test_paths_are_shown_relative_to_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert system.display_path(tmp_path / "a" / "b.png") == str(Path("a", "b.png"))
    assert system.display_path(tmp_path.parent / "b.png") == str(Path("..", "b.png"))


def test_paths_are_shown_absolute_where_nothing_else_is_possible(tmp_path, monkeypatch):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert system.display_path(tmp_path / "b.png") == str(tmp_path / "b.png")

    def another_drive(*_):
        raise ValueError("path is on mount 'D:', start on mount 'C:'")

    monkeypatch.setattr("os.path.relpath", another_drive)
    assert system.display_path(tmp_path / "b.png") == str(tmp_path / "b.png")
    assert system.portable_path(tmp_path / "b.png", "/other") == (tmp_path / "b.png").as_posix()


def test_paths_are_stored_relative_with_forward_slashes(tmp_path):
    assert system.portable_path(tmp_path / "a" / "b.png", tmp_path / "c") == "../a/b.png"


@pytest.mark.parametrize(
    ("flags", "expected"),
    [("flags : fpu avx512f avx512_bf16 sse", True), ("flags : amx_bf16", True),
     ("flags : fpu avx2 avx512f", False), ("", False)],
)  # fmt: skip
def test_bfloat16_is_a_matter_of_the_processors_flags(monkeypatch, flags, expected):
    monkeypatch.setattr(Path, "read_text", lambda self: flags)
    assert system.computes_bfloat16() == expected


def test_a_system_without_cpuinfo_computes_in_float32(monkeypatch):
    def missing(self):
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", missing)
    assert system.computes_bfloat16() is False


def test_quiet_silences_libraries_and_only_while_it_lasts(capfd):
    with system.quiet():
        os.write(2, b"a library speaks\n")
        warnings.warn("python speaks", stacklevel=1)
    os.write(2, b"we speak\n")
    assert capfd.readouterr().err == "we speak\n"


def test_RUN_44_the_oldest_versions_are_those_of_the_package():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    required = dict(
        line.split(">=") for line in setup["options"]["install_requires"].split() if ">=" in line
    )
    assert {name: required[name] for name in system._FLOORS} == system._FLOORS


def test_RUN_44_an_older_version_is_refused_in_one_line(monkeypatch):
    monkeypatch.setattr("importlib.metadata.version", installed(**{**FLOORS, "scipy": "1.9.3"}))
    with pytest.raises(MachineError, match=r"scipy is too old: it is 1\.9\.3, and 1\.17 or newer"):
        system.check_versions()
    monkeypatch.setattr("importlib.metadata.version", installed(**{**FLOORS, "scipy": "1.100rc1"}))
    system.check_versions()


needs_glibc = pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="only the GNU C library keeps freed memory"
)


@needs_glibc
def test_freed_memory_is_used_again_without_the_system():
    code = """
import resource
from nst_tf import system
system.prepare_environment(False)
bytearray(50_000_000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
bytearray(50_000_000)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 100  # pages; they are 12207


@needs_glibc
def test_freed_memory_goes_back_to_the_system():
    code = """
from nst_tf import system
arrays = [bytearray(50_000) for _ in range(6000)]
arrays = arrays[::60]  # those that are left keep the memory between them
kept = system.memory_in_use()
system.release_memory()
print(kept - system.memory_in_use())
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert int(done.stdout) > 200e6

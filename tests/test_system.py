"""What the machine offers."""

import configparser
import importlib.metadata
import os
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


def test_versions_are_those_installed():
    found = system.versions()
    assert found["python"] == sys.version.split()[0]
    assert found["scipy"] == importlib.metadata.version("scipy")


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
    real = importlib.metadata.version
    monkeypatch.setattr(
        "importlib.metadata.version", lambda name: "1.9.3" if name == "scipy" else real(name)
    )
    with pytest.raises(MachineError, match=r"scipy is too old: it is 1\.9\.3, and 1\.17 or newer"):
        system.check_versions()
    monkeypatch.setattr(
        "importlib.metadata.version", lambda name: "1.100rc1" if name == "scipy" else real(name)
    )
    system.check_versions()

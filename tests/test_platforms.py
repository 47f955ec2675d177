"""The package where Linux's own modules, functions and files are missing.

Windows and macOS are simulated by a `sitecustomize` module, which every Python process of a test
imports first, also the child that the command starts.
"""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from nst_tf.io import images
from tests import command

NO_PROC = """
import io, os, signal, sys, warnings
import psutil

def open_no_proc(path, *arguments, real=io.open, **options):
    if str(path).startswith(("/proc", "/sys")):
        raise FileNotFoundError(2, "No such file or directory", str(path))
    return real(path, *arguments, **options)

io.open = open_no_proc  # which pathlib calls
del os.sched_getaffinity
"""

WINDOWS = (
    NO_PROC
    + """
class NoPosixModules:
    def find_spec(self, name, path=None, target=None):
        if name in ("fcntl", "grp", "pwd", "resource", "termios"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, NoPosixModules())
warnings.filterwarnings("ignore", "only soft file lock is available")  # Windows has a real one
for name in ("fcntl", "resource"):
    sys.modules.pop(name, None)

class MemoryInfo:
    rss = vms = 100_000_000
    peak_wset = 123_456_789

psutil.Process.memory_info = lambda self: MemoryInfo()

real_open = os.open
def open_no_folder(path, flags, *arguments, **options):
    if isinstance(path, (str, os.PathLike)) and os.path.isdir(path):
        raise PermissionError(13, "Permission denied", str(path))
    return real_open(path, flags, *arguments, **options)
os.open = open_no_folder

for name in ("SIGHUP", "SIGKILL", "SIGBUS", "SIGXFSZ", "SIGQUIT", "pthread_sigmask"):
    delattr(signal, name)
for name in ("fork", "pread", "pwrite", "geteuid", "getuid", "killpg", "setsid",
             "O_NOFOLLOW", "O_CLOEXEC", "O_DIRECTORY"):
    delattr(os, name)
"""
)

MACOS = (
    NO_PROC
    + """
import fcntl
fcntl.F_FULLFSYNC = 51
"""
)

SIMULATIONS = {"Windows": WINDOWS, "macOS": MACOS}

IMPORT = """
import importlib, pkgutil
import nst_tf
for name in ("main", "errors", "events", "system", "config", "image", "io", "jobs", "cli"):
    module = importlib.import_module(f"nst_tf.{name}")
    for found in pkgutil.iter_modules(getattr(module, "__path__", ())):
        importlib.import_module(f"nst_tf.{name}.{found.name}")
print("imported")
"""

FILES = """
import sys
from pathlib import Path
from nst_tf.errors import MachineError
from nst_tf.io import files
folder = Path(sys.argv[1])
path = folder / "a.png"
for data in (b"old", b"new"):
    files.atomic_write(path, data)
assert path.read_bytes() == b"new"
try:
    files.atomic_write(path, b"other", replace=False)
except FileExistsError:
    print("not replaced")
with files.lock_directory(folder / "a.run", path):
    try:
        with files.lock_directory(folder / "a.run"):
            pass
    except MachineError as error:
        print(error)
size = files.append_lines(folder / "trace.csv", ["a", "b"])
files.append_lines(folder / "trace.csv", ["c"])
files.truncate_to(folder / "trace.csv", size)
assert (folder / "trace.csv").read_bytes() == b"a\\nb\\n"
print(*sorted(p.name for p in folder.iterdir()))
"""

SYSTEM = """
from nst_tf import system
assert system.available_memory() > 1e6
assert int(system.processor()["cores"]) >= 1 and system.processor()["processor"]
assert system.computes_bfloat16() is False
system.check_versions()
with system.quiet():
    pass
print(system.peak_memory())
"""


@pytest.fixture(
    params=[
        pytest.param(name, marks=[] if name == "Windows" else pytest.mark.slow)
        for name in SIMULATIONS
    ]
)
def environment(request, tmp_path_factory):
    """The environment of a process on a simulated system."""
    folder = tmp_path_factory.mktemp("simulation")
    (folder / "sitecustomize.py").write_text(SIMULATIONS[request.param])
    return {**command.environment(folder), "SIMULATION": request.param}


def run_python(code, environment, *arguments):
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_simulation_takes_away_what_it_should(environment):
    code = "import os, signal; print(hasattr(os, 'sched_getaffinity'), hasattr(signal, 'SIGHUP'))"
    expected = "False True\n" if environment["SIMULATION"] == "macOS" else "False False\n"
    assert run_python(code, environment) == expected


def test_every_light_module_is_imported(environment):
    assert run_python(IMPORT, environment) == "imported\n"


def test_files_are_written_and_folders_locked(environment, tmp_path):
    lines = run_python(FILES, environment, tmp_path).splitlines()
    assert lines[0] == "not replaced"
    assert "the folder is in use by pid " in lines[1]
    assert lines[2:] == ["a.png trace.csv"]


def test_system_facts_are_found_or_left_out(environment):
    peak = int(run_python(SYSTEM, environment))
    if environment["SIMULATION"] == "Windows":
        assert peak == 123_456_789
    else:
        assert peak > 1e7  # on Linux getrusage counts the parent's size too


def test_the_command_makes_an_image_and_replaces_its_own(environment, tmp_path):
    output = tmp_path / "Zoë 画.png"
    options = {
        "env": {**environment, "PYTHONIOENCODING": "cp1252", "TF_CPP_MIN_LOG_LEVEL": "3"},
        "encoding": "cp1252",
    }
    flags = [f"--content_image={command.PALACE}", f"--style_image={command.STYLE}",
             "--image_size=48", "--num_iterations=3", f"--output_image={output}"]  # fmt: skip
    done = command.run(*flags, **options)
    assert (done.returncode, done.stderr) == (0, "")
    assert "saved " in done.stdout
    assert max(images.read(output).shape) == 48
    run = command.run_folder(output)
    assert {"config.yaml", "run.json", "trace.csv"} <= {path.name for path in run.iterdir()}
    assert not (run / ".lock").exists()
    again = command.run(*flags, **options)  # the image is its own, and is replaced
    assert (again.returncode, again.stderr) == (0, "")


def test_a_wrong_input_is_told_in_one_line(environment, tmp_path):
    done = command.run(
        f"--content_image={tmp_path / 'no.png'}", f"--style_image={command.STYLE}",
        f"--output_image={tmp_path / 'o.png'}", env=environment,
    )  # fmt: skip
    assert done.returncode == 2
    assert "no such file" in command.error_line(done)
    assert list(Path(tmp_path).iterdir()) == []


@pytest.mark.slow
def test_a_job_in_a_child_process(environment, tmp_path):
    code = """
import sys
import nst_tf
config = nst_tf.Config(content_image=sys.argv[1], style_image=sys.argv[2], image_size=48,
                       num_iterations=2, output_image=sys.argv[3])
result = nst_tf.jobs.isolated(config)
print(result.status)
"""
    output = tmp_path / "o.png"
    stdout = run_python(code, environment, command.PALACE, command.STYLE, output)
    assert stdout == "finished\n"
    assert np.ptp(images.read(output)) > 100

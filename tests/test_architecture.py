"""The order of the house: which rooms may import which, and what no room may do."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import nst_tf
from tests.command import ROOT, environment

PACKAGE = ROOT / "nst_tf"

# A room may import those that stand after it.
ORDER = [
    "main",
    "worker",
    "run",
    "flags",
    "signals",
    "report",
    "preflight",
    "style_transfer",
    "scene",
    "pyramid",
    "optimizers",
    "objective",
    "losses",
    "adain",
    "vgg19",
    "regions",
    "images",
    "encoding",
    "colours",
    "decoding",
    "parameters",
    "tensor_files",
    "download",
    "checkpoint",
    "config",
    "values",
    "yaml_file",
    "storage",
    "machine",
    "errors",
]

SLOW = {"tensorflow", "keras", "scipy", "skimage"}
QUICK_ROOMS = [
    "images", "decoding", "parameters", "tensor_files", "flags", "config", "values", "yaml_file",
    "storage", "machine", "errors", "pyramid", "main", "run", "worker", "signals", "preflight",
    "checkpoint", "colours", "encoding",
]  # fmt: skip

SOURCES = sorted(PACKAGE.rglob("*.py"))


def room_of(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports_of(path):
    """Returns the rooms that a file imports, wherever in the file it does."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "nst_tf":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("nst_tf."):
            found.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            found |= {a.name.split(".")[1] for a in node.names if a.name.startswith("nst_tf.")}
    return found


def test_every_room_is_in_the_order():
    rooms = {room_of(path) for path in SOURCES} - {"__init__"}
    assert rooms == set(ORDER)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_one_way(path):
    room = room_of(path)
    if room == "__init__":
        return  # it names rooms for type checkers, and imports them when they are asked for
    allowed = set(ORDER[ORDER.index(room) :])
    assert imports_of(path) <= allowed


def test_the_check_of_the_order_sees_a_wrong_import(tmp_path):
    (tmp_path / "wrong.py").write_text("def f():\n    from nst_tf import run\n")
    assert imports_of(tmp_path / "wrong.py") == {"run"}


@pytest.mark.parametrize("room", QUICK_ROOMS)
def test_rooms_that_answer_at_once_import_nothing_slow(room):
    code = f"import sys, nst_tf.{room}; print(*{SLOW} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []


def test_importing_the_package_imports_next_to_nothing():
    code = "import sys, nst_tf; print('numpy' in sys.modules, 'pydantic' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True
    )
    assert done.stdout == "False False\n"


@pytest.mark.parametrize("name", [name for name in nst_tf.__all__ if name != "__version__"])
def test_the_package_gives_what_it_names(name):
    assert getattr(nst_tf, name).__name__ == name


def test_the_package_says_what_it_does_not_have():
    with pytest.raises(AttributeError, match="has no attribute 'stylise'"):
        _ = nst_tf.stylise


FORBIDDEN = {
    r"\bpickle\.|import pickle": "unpickling runs code",
    r"allow_pickle=True": "unpickling runs code",
    r"load_model": "a model can carry code",
    r"yaml\.load\(|unsafe_load": "YAML tags can run code",
    r"torch\.load": "unpickling runs code",
    r"(?<![\w.])(eval|exec)\(": "runs code",
    r"shell=True": "runs what a file name says",
    r"LOAD_TRUNCATED_IMAGES": "a broken picture would pass as a whole one",
    r"MAX_IMAGE_PIXELS = ": "lifts the limit for the whole process",
    r"extractall": "writes where the archive says",
    r"except:": "hides everything",
    r"^\s*assert ": "vanishes with python -O",
    r"set_global_policy|set_random_seed|np\.random\.seed": "global state belongs to the caller",
}


@pytest.mark.parametrize("pattern", FORBIDDEN, ids=FORBIDDEN.get)
@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_static_guard(path, pattern):
    assert re.findall(pattern, path.read_text(), re.MULTILINE) == []


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_storage_writes_files(path):
    if room_of(path) == "storage":
        return
    writes = r"\.write_(text|bytes)\(|\.open\(['\"][wax]|open\([^)]*['\"][wax]b?['\"]|np\.savez?\("
    found = re.findall(writes, path.read_text())
    assert found == []


def test_nothing_refers_to_a_place_outside_the_project():
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    texts = [Path(ROOT, name) for name in tracked if not name.endswith((".jpg", ".png", ".npz"))]
    assert len(texts) > 40
    for path in texts:
        text = path.read_text(encoding="utf-8")
        found = re.findall(r"(?<![\w.])(?:\.\./shared/|/(?:work|root|opt|home/\w+)/)", text)
        assert found == [] or path == Path(__file__), path

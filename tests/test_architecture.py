"""Rules of the package that neither ruff nor import-linter can check."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import nst_tf
from tests.command import ROOT, environment

PACKAGE = ROOT / "nst_tf"
SOURCES = {path.relative_to(ROOT): path for path in sorted(PACKAGE.rglob("*.py"))}

SLOW = {"tensorflow", "keras", "scipy", "skimage"}
IMPORTS_TENSORFLOW = re.compile(r"engine\.(?!state$|pyramid$)|objective|losses|models|optimizers\.")
"""Modules that may import what is slow; a wrong input is answered before they are imported."""

IMPORT_EACH = f"""
import importlib, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
    if slow := {SLOW} & set(sys.modules):
        print(name, *sorted(slow))
        break
"""


def module_name(path):
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def matches(pattern, allowed=()):
    """Returns all lines of the package that match, as "path: match"."""
    return [
        f"{name}: {match.group()}"
        for name, path in SOURCES.items()
        if name.name not in allowed
        for match in re.finditer(pattern, path.read_text(encoding="utf-8"))
    ]


def run_python(code, *arguments):
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=environment(), capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout


def test_what_answers_a_wrong_input_imports_nothing_slow():
    names = [module_name(path) for path in SOURCES]
    quick = [name for name in names if not IMPORTS_TENSORFLOW.match(name.removeprefix("nst_tf."))]
    quick += ["nst_tf.optimizers.result", "nst_tf.models.layers", "nst_tf.models.weights"]
    assert {"nst_tf", "nst_tf.cli.flags", "nst_tf.engine.state", "nst_tf.optimizers"} <= set(quick)
    assert run_python(IMPORT_EACH, *quick) == ""


def test_importing_the_package_imports_next_to_nothing():
    code = "import sys, nst_tf; print('numpy' in sys.modules, 'pydantic' in sys.modules)"
    assert run_python(code) == "False False\n"


def test_the_package_has_what_it_names():
    assert [name for name in nst_tf.__all__ if not hasattr(nst_tf, name)] == []
    assert set(nst_tf.__all__) <= set(dir(nst_tf))
    with pytest.raises(AttributeError, match="has no attribute 'stylise'"):
        _ = nst_tf.stylise


def test_only_the_module_of_files_writes_files():
    writes = r"\.write_(text|bytes)\(|open\([^)]*['\"][rb]*[wax+]|np\.savez?\(|\.tofile\("
    assert matches(writes, allowed={"files.py"}) == []
    assert len(matches(writes)) > 1  # it does see those that are allowed


def test_nothing_lifts_a_limit_of_a_parser():
    assert matches(r"allow_pickle=True|MAX_IMAGE_PIXELS = |safe_mode=False") == []


def test_nothing_refers_to_a_place_outside_the_project():
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    texts = [
        Path(ROOT, name) for name in tracked if not name.endswith((".jpg", ".png", ".webp", ".npz"))
    ]
    assert len(texts) > 40
    pattern = r"(?<![\w.])(?:\.\./shared/|/(?:work|root|opt|home/\w+)/)"
    places = [
        f"{path}: {match}"
        for path in texts
        if path != Path(__file__) and path.exists()
        for match in re.findall(pattern, path.read_text(encoding="utf-8"))
    ]
    assert places == []

"""Runs the command as a person would, in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
CONTENT = ROOT / "images" / "tubingen.jpg"
PALACE = ROOT / "images" / "summer-palace.jpg"
STYLE = ROOT / "images" / "the_scream.jpg"


def run_folder(output):
    """Returns the folder beside an image with the record of its run."""
    return output.with_name(f"{output.name}.run")


def environment(first_on_path=None):
    """Returns the environment for a child, which finds the package in this checkout."""
    path = [str(first_on_path)] if first_on_path else []
    return {**os.environ, "PYTHONPATH": os.pathsep.join([*path, str(ROOT)])}


def command(*flags):
    """Returns the command's words."""
    return [sys.executable, "-m", "nst_tf.main", *map(str, flags)]


def run(*flags, **options):
    """Runs the command to its end."""
    options.setdefault("env", environment())
    return subprocess.run(command(*flags), capture_output=True, text=True, timeout=300, **options)


def error_line(done):
    """Returns the one line on stderr that a refusal consists of."""
    line, end = done.stderr[:-1], done.stderr[-1:]
    assert end == "\n", done.stderr
    assert line.startswith("nst_tf: error: "), done.stderr
    assert line.isascii() and line.isprintable(), done.stderr
    return line

"""Compares two commits: `python -m benchmarks.compare v0.1.0 HEAD`.

Each commit is checked out beside this one and measured in processes of its own, in interleaved
pairs whose order alternates, so that a slow minute of the machine affects both alike. Ratios are
taken within pairs. The figures are also appended to the history.
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks import history
from benchmarks.contenders import PAIRS
from benchmarks.history import HISTORY, ROOT, Measured

UNITS = {"start-up to the first evaluation": "s", "evaluation": "s", "peak memory": "MiB"}

# What it uses of the package has to be there in both commits.
_MEASURE = """
import json, statistics, sys, time
import numpy as np
import nst_tf
from nst_tf import system
from nst_tf.image.resize import resize, resized_shape
from nst_tf.io import images
from pathlib import Path

system.prepare_environment(deterministic=False)  # as the command does
*paths, image_size, repeats, began = sys.argv[1:]
size = int(image_size)
content, style = (images.read(Path(path)) for path in paths)
content, style = (resize(one, resized_shape(one.shape[:2], size)) for one in (content, style))
stylizer = nst_tf.Stylizer(nst_tf.Config(image_size=size, init="content"))
function = stylizer.loss_function(content, style, precision="float32")
import tensorflow as tf

image = tf.constant(content[np.newaxis])
value = float(function(image)[0])
ready = time.time()
seconds = []
for _ in range(int(repeats)):
    start = time.perf_counter()
    float(function(image)[0])
    seconds.append(time.perf_counter() - start)
print(json.dumps({
    "file": nst_tf.__file__,
    "figures": [ready - float(began), statistics.median(seconds), system.peak_memory() / 2**20],
}))
"""


@contextlib.contextmanager
def checkouts(revisions: Sequence[str], root: Path = ROOT) -> Iterator[list[Path]]:
    """Checks revisions out into folders of their own, which are removed afterwards.

    Args:
        revisions: What git takes for them.
        root: The checkout whose commits they are.

    Yields:
        The folders.
    """
    with tempfile.TemporaryDirectory() as temporary, contextlib.ExitStack() as stack:
        folders = [Path(temporary, f"{number}") for number in range(len(revisions))]
        for folder, revision in zip(folders, revisions, strict=True):
            _worktree(root, "add", "--detach", str(folder), revision)
            stack.callback(_worktree, root, "remove", "--force", str(folder))
        yield folders


def _worktree(root: Path, *words: str) -> None:
    command = ["git", "worktree", *words]
    subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)


def measure(checkout: Path, image_size: int, repeats: int) -> dict[str, float]:
    """Measures a checkout in a process of its own.

    Args:
        checkout: Its folder.
        image_size: The longer side of the images.
        repeats: Evaluations that are timed.

    Returns:
        The figures, by the names of `UNITS`.

    Raises:
        subprocess.CalledProcessError: It failed.
    """
    paths = [str(path) for path in next(iter(PAIRS.values()))]
    done = subprocess.run(
        [sys.executable, "-c", _MEASURE, *paths, str(image_size), str(repeats), str(time.time())],
        cwd=checkout,
        env={**os.environ, "PYTHONPATH": str(checkout), "TF_CPP_MIN_LOG_LEVEL": "2"},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        print(done.stderr, file=sys.stderr)
        done.check_returncode()
    answer = json.loads(done.stdout.splitlines()[-1])
    if not Path(answer["file"]).resolve().is_relative_to(checkout.resolve()):
        raise RuntimeError(f"{answer['file']} was measured in place of {checkout}")
    return dict(zip(UNITS, answer["figures"], strict=True))


def measure_pairs(
    folders: Sequence[Path], rounds: int, image_size: int, repeats: int
) -> list[tuple[dict[str, float], ...]]:
    """Measures two checkouts in turn; every second pair begins with the second.

    Args:
        folders: Of the checkouts.
        rounds: The number of pairs.
        image_size: The longer side of the images.
        repeats: Evaluations that are timed in each process.

    Returns:
        The figures of each pair.
    """
    pairs = []
    for number in range(rounds):
        order = folders if number % 2 == 0 else folders[::-1]
        found = {folder: measure(folder, image_size, repeats) for folder in order}
        pairs.append(tuple(found[folder] for folder in folders))
    return pairs


def table(names: Sequence[str], pairs: Sequence[Sequence[Mapping[str, float]]]) -> str:
    """Returns the medians of both commits and of the ratios of pairs, in Markdown.

    Args:
        names: Of the commits.
        pairs: As `measure_pairs` returns them.
    """
    lines = [f"| figure | {' | '.join(names)} | second over first | of single pairs |"]
    lines.append("|---" + "|---:" * 4 + "|")
    for figure, unit in UNITS.items():
        values = [statistics.median(pair[side][figure] for pair in pairs) for side in (0, 1)]
        ratios = sorted(pair[1][figure] / pair[0][figure] for pair in pairs)
        lines.append(
            f"| {figure} | {values[0]:.4g} {unit} | {values[1]:.4g} {unit} | "
            f"{statistics.median(ratios):.3f} | {ratios[0]:.3f} to {ratios[-1]:.3f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measures, prints the table and appends the medians to the history."""
    arguments = _arguments()
    revisions = (arguments.first, arguments.second)
    commits = [
        history.commit_of(revision=revision)._replace(changed=False) for revision in revisions
    ]
    with checkouts([commit.name for commit in commits]) as folders:
        pairs = measure_pairs(folders, arguments.rounds, arguments.size, arguments.repeats)
    print(table(revisions, pairs), end="")
    for side, commit in enumerate(commits):
        medians = (
            Measured(
                f"{arguments.size} px: {figure}",
                statistics.median(pair[side][figure] for pair in pairs),
                unit,
            )
            for figure, unit in UNITS.items()
        )
        history.append("compare", medians, commit, arguments.history)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.compare", description="Compares two commits."
    )
    parser.add_argument("first", help="a revision, as git names them")
    parser.add_argument("second", help="another one")
    parser.add_argument("--rounds", type=int, default=5, help="pairs (%(default)s)")
    parser.add_argument("--size", type=int, default=256, help="longer side (%(default)s)")
    parser.add_argument("--repeats", type=int, default=5, help="evaluations (%(default)s)")
    parser.add_argument("--history", type=Path, default=HISTORY)
    return parser.parse_args()


if __name__ == "__main__":
    main()

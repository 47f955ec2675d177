"""Figures of all commits: a line of `history.jsonl` for each, and their plot over time.

`python -m benchmarks.history` draws `history.png`. The benchmarks append what they measure, with
the commit and the machine; lines are never changed.
"""

import argparse
import json
import subprocess
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from nst_tf import system
from nst_tf.io import files

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROOT = Path(__file__).parent.parent
HISTORY = Path(__file__).parent / "results" / "history.jsonl"
_COLUMNS = 3


class Commit(NamedTuple):
    """A commit, as it was measured.

    Attributes:
        name: Its hash.
        date: When it was committed, in ISO 8601.
        changed: Whether files differed from it.
    """

    name: str
    date: str
    changed: bool = False


class Measured(NamedTuple):
    """A figure.

    Attributes:
        figure: What was measured.
        value: Its value.
        unit: Its unit; empty for a ratio or a number.
    """

    figure: str
    value: float
    unit: str


def commit_of(revision: str, folder: Path = ROOT) -> Commit:
    """Looks a commit up.

    Args:
        revision: What git takes for one.
        folder: A checkout.

    Raises:
        subprocess.CalledProcessError: There is no such revision, or this is no checkout.
    """
    return Commit(*_git(folder, "show", "-s", "--format=%H %cI", f"{revision}^{{commit}}").split())


def current_commit(folder: Path = ROOT) -> Commit | None:
    """Returns the commit that is checked out; None where there is none, as in an archive."""
    try:
        changed = bool(_git(folder, "status", "--porcelain", "--", "nst_tf"))
        return commit_of("HEAD", folder)._replace(changed=changed)
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(folder: Path, *words: str) -> str:
    done = subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def append(
    benchmark: str, measured: Iterable[Measured], commit: Commit, file: Path = HISTORY
) -> None:
    """Appends figures.

    Args:
        benchmark: The module that measured them.
        measured: The figures.
        commit: What they were measured of.
        file: The history.
    """
    common = {
        "measured": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "commit": commit.name,
        "committed": commit.date,
        "changed": commit.changed,
        "machine": ", ".join(f"{key} {value}" for key, value in system.processor().items()),
        "tensorflow": system.versions()["tensorflow"],
        "benchmark": benchmark,
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    files.append_lines(file, (json.dumps({**common, **one._asdict()}) for one in measured))


def read(file: Path = HISTORY) -> list[dict[str, Any]]:
    """Returns the lines of a history, in the order of the commits."""
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    return sorted(rows, key=lambda row: (row["committed"], row["measured"]))


def plot(rows: Sequence[dict[str, Any]]) -> "Figure":
    """Plots each figure over the commits, with a color for each machine.

    Args:
        rows: As `read` returns them, at least one.

    Returns:
        The plot, with a panel for each figure.
    """
    from matplotlib.figure import Figure

    keys = ("benchmark", "figure", "unit")
    names = [dict(name) for name in dict.fromkeys(tuple((k, row[k]) for k in keys) for row in rows)]
    machines = list(dict.fromkeys(row["machine"] for row in rows))
    commits = list(dict.fromkeys(row["commit"] for row in rows))
    lines = -(-len(names) // _COLUMNS)
    figure = Figure(figsize=(5 * _COLUMNS, 3.2 * lines + 0.6), layout="constrained")
    panels = figure.subplots(lines, _COLUMNS, squeeze=False).flat
    for name, panel in zip(names, panels, strict=False):
        panel.set_title(f"{name['benchmark']}\n{name['figure']}", fontsize=9)
        panel.set_ylabel(name["unit"])
        for number, machine in enumerate(machines):
            mine = [row for row in rows if row.items() >= {**name, "machine": machine}.items()]
            x, y = [commits.index(row["commit"]) for row in mine], [row["value"] for row in mine]
            panel.plot(x, y, "o-", color=f"C{number}", label=machine)
        panel.set_xticks(range(len(commits)), [commit[:7] for commit in commits], rotation=60)
        panel.set_ylim(0, 1.1 * panel.dataLim.y1)
    for panel in list(panels):
        panel.remove()
    handles = figure.axes[0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", fontsize=9)
    return figure


def main() -> None:
    """Draws the history."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.history", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--history", type=Path, default=HISTORY)
    parser.add_argument("--only", default="", help="figures whose name or benchmark has this text")
    arguments = parser.parse_args()
    rows = [
        row
        for row in read(arguments.history)
        if arguments.only in f"{row['benchmark']} {row['figure']}"
    ]
    if not rows:
        parser.error("there are no such figures")
    plot(rows).savefig(arguments.history.with_suffix(".png"), dpi=80)


if __name__ == "__main__":
    main()

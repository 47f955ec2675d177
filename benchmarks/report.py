"""The raw record to a summary in JSON, a table in Markdown and a plot."""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.plot import plot
from benchmarks.summary import summarize
from nst_tf.io import files

_COLUMNS = {
    "contender": ("description", "{}"),
    "lowest saved loss": ("best_loss", "{:.3g}"),
    "s to the reference's best": ("seconds_to_reference_best", "{:.1f}"),
    "times faster than the reference's run": ("speedup_over_reference_run", "{:.1f}"),
    "times faster than the reference to its best": ("speedup_over_reference_to_its_best", "{:.1f}"),
    "loss by the reference's end": ("loss_by_reference_end", "{:.3g}"),
    "over the reference's best": ("loss_ratio_by_reference_end", "{:.2f}"),
    "s in all": ("seconds", "{:.1f}"),
    "peak memory, GiB": ("peak_memory_gib", "{:.2f}"),
}


def table(summaries: Sequence[Mapping[str, Any]]) -> str:
    """Writes the summary in Markdown.

    Args:
        summaries: What `summarize` gave, at least one.

    Returns:
        A section with a table for every task.
    """
    lines = ["<!-- written by python -m benchmarks.report -->", ""]
    for summary in summaries:
        lines += [f"## {summary['pair']}, {summary['image_size']} px", ""]
        if reference := summary["reference"]:
            lines += [
                f"The reference's best saved image has a loss of {reference['best_loss']:.3g}, "
                f"at evaluation {reference['best_evaluation']} of {reference['evaluations']}, "
                f"after {reference['best_seconds']:.0f} of {reference['seconds']:.0f} s; "
                f"its last has {reference['final_loss']:.3g}.",
                "",
            ]
        lines += [f"| {' | '.join(_COLUMNS)} |", "|---" + "|---:" * (len(_COLUMNS) - 1) + "|"]
        for contender in summary["contenders"]:
            row = contender | {"peak_memory_gib": contender["peak_memory_bytes"] / 2**30}
            cells = [_cell(row, key, form) for key, form in _COLUMNS.values()]
            lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
    machine = summaries[-1]["machine"]
    packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    lines.append(f"{machine['cores']} cores of {machine['processor']}; {packages}.")
    return "\n".join(lines) + "\n"


def _cell(row: Mapping[str, Any], key: str, form: str) -> str:
    if row.get(key) is not None:
        return form.format(row[key])
    return "never" if key == "seconds_to_reference_best" and key in row else "-"


def main() -> None:
    """Writes `summary.json`, `table.md` and `loss_against_seconds.png` beside the raw record."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report", description=__doc__)
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    folder = parser.parse_args().results
    runs = json.loads(files.read(folder / "raw.json", "the raw record", 2**28, "measure first"))
    summaries = summarize(runs)
    files.atomic_write(folder / "summary.json", (json.dumps(summaries, indent=1) + "\n").encode())
    files.atomic_write(folder / "table.md", table(summaries).encode())
    plot(runs, folder / "loss_against_seconds.png")


if __name__ == "__main__":
    main()

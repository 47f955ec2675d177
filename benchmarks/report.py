"""The raw record to a summary in JSON, a table in Markdown and a plot."""

import argparse
import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.contenders import CONTENDERS, REFERENCE
from benchmarks.plot import plot
from nst_tf import storage

Save = Mapping[str, Any]
Run = Mapping[str, Any]

_ORDER = [contender.name for contender in CONTENDERS]


def first_time_at_or_below(saves: Sequence[Save], loss: float) -> float | None:
    """Finds when a saved picture was first good enough.

    Args:
        saves: "seconds" and "loss" of each saved picture, in any order.
        loss: The limit, itself good enough.

    Returns:
        Seconds, or None when no picture was.
    """
    return min((save["seconds"] for save in saves if save["loss"] <= loss), default=None)


def lowest_by(saves: Sequence[Save], seconds: float) -> float | None:
    """Finds the lowest loss saved up to a time.

    Args:
        saves: "seconds" and "loss" of each saved picture, in any order.
        seconds: The time, itself included.

    Returns:
        The loss, or None when nothing was saved until then.
    """
    return min((save["loss"] for save in saves if save["seconds"] <= seconds), default=None)


def best(saves: Sequence[Save]) -> Save:
    """Returns the saved picture of the lowest loss, the earliest of equals."""
    return min(saves, key=lambda save: (save["loss"], save["seconds"]))


def summarise(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Compares every run with the reference's run of the same task.

    Args:
        runs: The raw record.

    Returns:
        One summary per task: "pair", "image_size", "style_weight", "machine", "reference" (None
        where it has not been measured) and "contenders". Losses are of saved pictures, times in
        seconds since the launch. What was never reached is None.
    """

    def task(run: Run) -> tuple[Any, ...]:
        return run["pair"], run["image_size"], run["style_weight"]

    summaries = []
    for (pair, image_size, style_weight), group in itertools.groupby(sorted(runs, key=task), task):
        # A contender that is no longer in the list still has its measurements, after the others.
        found = sorted(group, key=lambda run: [*_ORDER, run["contender"]].index(run["contender"]))
        reference = next((run for run in found if run["contender"] == REFERENCE), None)
        summaries.append(
            {
                "pair": pair,
                "image_size": image_size,
                "style_weight": style_weight,
                "machine": found[0]["machine"],
                "reference": None if reference is None else _of_reference(reference),
                "contenders": [_compared(run, reference) for run in found],
            }
        )
    return summaries


def _of_reference(run: Run) -> dict[str, Any]:
    lowest = best(run["saves"])
    return {
        "best_loss": lowest["loss"],
        "best_evaluation": lowest["step"],
        "best_seconds": lowest["seconds"],
        "evaluations": run["saves"][-1]["step"],
        "final_loss": run["saves"][-1]["loss"],
        "seconds": run["seconds"],
    }


def _compared(run: Run, reference: Run | None) -> dict[str, Any]:
    saves = run["saves"]
    compared = {
        "contender": run["contender"],
        "description": run["description"],
        "best_loss": best(saves)["loss"],
        "final_loss": saves[-1]["loss"],
        "seconds": run["seconds"],
        "peak_memory_bytes": run["peak_memory_bytes"],
    }
    if reference is None:
        return compared
    lowest = best(reference["saves"])
    reached = first_time_at_or_below(saves, lowest["loss"])
    by_then = lowest_by(saves, reference["seconds"])
    return compared | {
        "seconds_to_reference_best": reached,
        "speedup_over_reference_run": _ratio(reference["seconds"], reached),
        "speedup_over_reference_to_its_best": _ratio(lowest["seconds"], reached),
        "loss_by_reference_end": by_then,
        "loss_ratio_by_reference_end": _ratio(by_then, lowest["loss"]),
        "memory_ratio": _ratio(run["peak_memory_bytes"], reference["peak_memory_bytes"]),
    }


def _ratio(above: float | None, below: float | None) -> float | None:
    return None if above is None or below is None else above / below


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
        summaries: What `summarise` gave.

    Returns:
        A section with a table for every task.
    """
    lines = ["<!-- written by python -m benchmarks.report -->", ""]
    for summary in summaries:
        lines += [f"## {summary['pair']}, {summary['image_size']} px", ""]
        if reference := summary["reference"]:
            lines += [
                f"The reference's best saved picture has a loss of {reference['best_loss']:.3g}, "
                f"at evaluation {reference['best_evaluation']} of {reference['evaluations']}, "
                f"after {reference['best_seconds']:.0f} of {reference['seconds']:.0f} s; "
                f"its last has {reference['final_loss']:.3g}.",
                "",
            ]
        lines += [f"| {' | '.join(_COLUMNS)} |", "|---" + "|---:" * (len(_COLUMNS) - 1) + "|"]
        for contender in summary["contenders"]:
            row = contender | {"peak_memory_gib": contender["peak_memory_bytes"] / 2**30}
            cells = [
                "never" if row.get(key) is None else form.format(row[key])
                for key, form in _COLUMNS.values()
            ]
            lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
    machine = summaries[-1]["machine"] if summaries else {}
    packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    lines.append(f"{machine['cores']} cores of {machine['processor']}; {packages}.")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Writes `summary.json`, `table.md` and `loss_against_seconds.png` beside the raw record."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report", description=__doc__)
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    folder = parser.parse_args().results
    runs = json.loads(storage.read(folder / "raw.json", "the raw record", 2**28, "measure first"))
    summaries = summarise(runs)
    storage.publish(folder / "summary.json", (json.dumps(summaries, indent=1) + "\n").encode())
    storage.publish(folder / "table.md", table(summaries).encode())
    plot(runs, folder / "loss_against_seconds.png")


if __name__ == "__main__":
    main()

"""Compares the runs in the raw record: when a saved image was as good as the reference's best."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.contenders import CONTENDERS, REFERENCE

Save = Mapping[str, Any]
Run = Mapping[str, Any]

_ORDER = [contender.name for contender in CONTENDERS]


def first_time_at_or_below(saves: Sequence[Save], loss: float) -> float | None:
    """Returns when a saved image first reached a loss.

    Args:
        saves: "seconds" and "loss" of each saved image, in any order.
        loss: The loss to reach.

    Returns:
        Seconds, or None where no image reached it.
    """
    return min((save["seconds"] for save in saves if save["loss"] <= loss), default=None)


def lowest_by(saves: Sequence[Save], seconds: float) -> float | None:
    """Returns the lowest loss saved up to a time.

    Args:
        saves: "seconds" and "loss" of each saved image, in any order.
        seconds: The time, itself included.

    Returns:
        The loss, or None where nothing was saved by then.
    """
    return min((save["loss"] for save in saves if save["seconds"] <= seconds), default=None)


def best(saves: Sequence[Save]) -> Save:
    """Returns the saved image of the lowest loss, the earliest of equals."""
    return min(saves, key=lambda save: (save["loss"], save["seconds"]))


def summarize(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Compares every run with the reference's run of the same task.

    Args:
        runs: The raw record.

    Returns:
        One summary per task: "pair", "image_size", "style_weight", "machine", "reference" (None
        where it has not been measured) and "contenders". Losses are of saved images, times in
        seconds since the launch. None stands for what was never reached.
    """

    def task(run: Run) -> tuple[Any, ...]:
        return run["pair"], run["image_size"], run["style_weight"]

    summaries = []
    for (pair, image_size, style_weight), group in itertools.groupby(sorted(runs, key=task), task):
        # A contender that is no longer in the list still has its measurements, after the others.
        ordered = sorted(group, key=lambda run: [*_ORDER, run["contender"]].index(run["contender"]))
        reference = next((run for run in ordered if run["contender"] == REFERENCE), None)
        summaries.append(
            {
                "pair": pair,
                "image_size": image_size,
                "style_weight": style_weight,
                "machine": ordered[0]["machine"],
                "reference": None if reference is None else _of_reference(reference),
                "contenders": [_compared(run, reference) for run in ordered],
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

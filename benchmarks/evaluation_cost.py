"""Seconds per evaluation of loss and gradient, of nst_tf and of PyTorch, against pixels.

An evaluation of nst_tf is what the optimizer calls in each iteration: a tensor in, tensors out, and
the loss is fetched. Every measurement is a process of its own, and only one runs at a time, as
TensorFlow and PyTorch would compete for the cores. All variants take turns in each round, so that a
slow minute of the machine affects all alike; ratios are taken within a round.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks import history
from benchmarks.contenders import PAIRS
from benchmarks.history import HISTORY, Measured
from nst_tf import system
from nst_tf.image.arrays import ImageArray
from nst_tf.image.resize import resize, resized_shape
from nst_tf.io import files, images

_ROOT = Path(__file__).parent.parent
_STYLE_WEIGHT = 1e5


class Variant(NamedTuple):
    """An implementation with its settings."""

    framework: str
    precision: str
    channels_last: bool
    tile_size: int = 0


VARIANTS = {
    "nst_tf float32": Variant("nst_tf", "float32", True),
    "nst_tf bfloat16": Variant("nst_tf", "bfloat16", True),
    **{
        f"nst_tf {precision}, tiles of {tile_size}": Variant("nst_tf", precision, True, tile_size)
        for precision in ("float32", "bfloat16")
        for tile_size in (256, 512, 1024, 2048)
    },
    "torch float32": Variant("torch", "float32", False),
    "torch float32 channels-last": Variant("torch", "float32", True),
    "torch bfloat16 channels-last": Variant("torch", "bfloat16", True),
}
_BASE = "nst_tf float32"


def measure_here(variant: Variant, image_size: int, repeats: int) -> dict[str, Any]:
    """Times evaluations in this process.

    Args:
        variant: The implementation; its library is imported.
        image_size: The longer side of the content and of the style.
        repeats: Timed evaluations, after untimed ones.

    Returns:
        "pixels", "seconds" of each evaluation, "peak_memory_bytes" of this process.
    """
    paths = next(iter(PAIRS.values()))
    content, style = (_at_size(path, image_size) for path in paths)
    evaluate = (_nst_tf if variant.framework == "nst_tf" else _torch)(variant, content, style)
    for _ in range(_warm_up(image_size)):
        evaluate()
    seconds = []
    for _ in range(repeats):
        began = time.monotonic()
        evaluate()
        seconds.append(time.monotonic() - began)
    height, width = content.shape[:2]
    return {
        "pixels": height * width,
        "seconds": seconds,
        "peak_memory_bytes": system.peak_memory(),
    }


def _warm_up(image_size: int) -> int:
    """Untimed evaluations, of which the first traces the graph and fills the allocators.

    The larger an image is, the less of an evaluation that takes, and the longer it is.
    """
    if image_size < 2048:
        return 2
    return 1 if image_size < 4096 else 0


def _at_size(path: Path, image_size: int) -> ImageArray:
    image = images.read(path)
    height, width = image.shape[:2]
    return resize(image, resized_shape((height, width), image_size))


def _nst_tf(variant: Variant, content: ImageArray, style: ImageArray) -> Callable[[], object]:
    system.prepare_environment(deterministic=False)  # as the command does
    import tensorflow as tf

    import nst_tf

    config = nst_tf.Config(
        image_size=max(content.shape),
        style_weight=_STYLE_WEIGHT,
        padding="zero",
        init="content",
        tile_size=variant.tile_size,
        max_memory="1TiB",  # no tiles but those that are asked for
    )
    stylizer = nst_tf.Stylizer(config)
    function = stylizer.loss_function(content, style, precision=variant.precision)
    image = tf.constant(content[np.newaxis])

    def evaluate() -> float:
        value, _ = function(image)
        return float(value)

    return evaluate


def _torch(variant: Variant, content: ImageArray, style: ImageArray) -> Callable[[], object]:
    from benchmarks import gatys_torch

    network = gatys_torch.Network(variant.precision, variant.channels_last)
    objective = gatys_torch.Objective(network, content, style, _STYLE_WEIGHT)
    image = gatys_torch.as_tensor(content).requires_grad_()
    return lambda: objective.backward(image)


def measure(
    names: Sequence[str], sizes: Sequence[int], rounds: int, repeats: int
) -> list[dict[str, Any]]:
    """Times all variants at all sizes, in turn, each in a process of its own.

    Args:
        names: Of `VARIANTS`.
        sizes: Longer sides in pixels.
        rounds: How often each is started anew.
        repeats: Timed evaluations per start.

    Returns:
        A row per size, round and variant: "size", "round", "variant" and what `measure_here` gave.
    """
    rows = []
    for size in sizes:
        for number in range(rounds):
            for name in names:
                command = [
                    *(sys.executable, "-m", "benchmarks.evaluation_cost"),
                    *("--here", "--variants", name, "--sizes", str(size)),
                    *("--repeats", str(repeats)),
                ]
                done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True)
                if done.returncode:
                    why = done.stderr.strip().rpartition("\n")[2]
                    print(f"{name}, {size} px failed: {why}", flush=True)
                    continue
                row = {"size": size, "round": number, "variant": name, **json.loads(done.stdout)}
                median = statistics.median(row["seconds"])
                print(f"{name}, {size} px: {median:.3f} s", flush=True)
                rows.append(row)
    return rows


def with_other_sizes(
    rows: Sequence[dict[str, Any]], earlier: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Adds the rows of an earlier call at sizes that were not measured now, in order of size."""
    sizes = {row["size"] for row in rows}
    kept = [row for row in earlier if row["size"] not in sizes]
    return sorted([*kept, *rows], key=lambda row: row["size"])


def summarize(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Reduces the measurements to medians, ratios and exponents.

    Args:
        rows: What `measure` gave.

    Returns:
        From each variant to "exponent" (of seconds against pixels, by least squares of the
        logarithms; None with one size) and "sizes": per size "pixels", median "seconds", the
        median "ratio" to nst_tf float32 of the same round, and "peak_memory_bytes".
    """
    medians = {
        (row["variant"], row["size"], row["round"]): statistics.median(row["seconds"])
        for row in rows
    }
    summary: dict[str, Any] = {}
    for name in dict.fromkeys(row["variant"] for row in rows):
        sizes: dict[int, dict[str, Any]] = {}
        for size in dict.fromkeys(row["size"] for row in rows if row["variant"] == name):
            mine = [row for row in rows if (row["variant"], row["size"]) == (name, size)]
            ratios = [
                medians[name, size, row["round"]] / medians[_BASE, size, row["round"]]
                for row in mine
                if (_BASE, size, row["round"]) in medians
            ]
            sizes[size] = {
                "pixels": mine[0]["pixels"],
                "seconds": statistics.median(medians[name, size, row["round"]] for row in mine),
                "ratio": statistics.median(ratios) if ratios else None,
                "peak_memory_bytes": max(row["peak_memory_bytes"] for row in mine),
            }
        summary[name] = {"exponent": _exponent(list(sizes.values())), "sizes": sizes}
    return summary


def _exponent(points: Sequence[dict[str, Any]]) -> float | None:
    if len(points) < 2:
        return None
    pixels, seconds = ([point[key] for point in points] for key in ("pixels", "seconds"))
    return float(np.polyfit(np.log(pixels), np.log(seconds), 1)[0])


def table(summary: dict[str, Any]) -> str:
    """Writes the summary in Markdown, with the ratio to nst_tf float32 in brackets."""
    sizes = list(dict.fromkeys(size for row in summary.values() for size in row["sizes"]))
    header = ["seconds per evaluation", *(f"{size} px" for size in sizes), "exponent"]
    lines = [
        "<!-- written by python -m benchmarks.evaluation_cost -->",
        "",
        f"| {' | '.join(header)} |",
        "|---" + "|---:" * (len(sizes) + 1) + "|",
    ]
    for name, row in summary.items():
        cells = [_cell(row["sizes"].get(size)) for size in sizes]
        exponent = "" if row["exponent"] is None else f"{row['exponent']:.2f}"
        lines.append(f"| {' | '.join([name, *cells, exponent])} |")
    return "\n".join(lines) + "\n"


def _cell(point: dict[str, Any] | None) -> str:
    if point is None:
        return "-"
    ratio = "" if point["ratio"] is None else f" ({point['ratio']:.2f})"
    return f"{point['seconds']:.3g}{ratio}, {point['peak_memory_bytes'] / 2**30:.1f} GiB"


def main() -> None:
    """Measures, and writes `evaluation_cost.json` and `.md`; figures of other sizes are kept."""
    arguments = _arguments()
    if arguments.here:
        variant, size = VARIANTS[arguments.variants[0]], arguments.sizes[0]
        print(json.dumps(measure_here(variant, size, arguments.repeats)))
        return
    rows = measure(arguments.variants, arguments.sizes, arguments.rounds, arguments.repeats)
    arguments.results.mkdir(parents=True, exist_ok=True)
    file = arguments.results / "evaluation_cost.json"
    if commit := history.current_commit():
        measured = (
            Measured(f"{name}, {size} px: evaluation", point["seconds"], "s")
            for name, row in summarize(rows).items()
            for size, point in row["sizes"].items()
        )
        history.append("evaluation_cost", measured, commit, arguments.results / HISTORY.name)
    rows = with_other_sizes(rows, json.loads(file.read_text())["rows"] if file.exists() else [])
    summary = summarize(rows)
    data = json.dumps({"versions": system.versions(), "summary": summary, "rows": rows}, indent=1)
    files.atomic_write(file, f"{data}\n".encode())
    files.atomic_write(arguments.results / "evaluation_cost.md", table(summary).encode())
    from benchmarks.plot import plot_costs  # which imports matplotlib

    plot_costs(summary, arguments.results / "evaluation_cost.png")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.evaluation_cost")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument(
        "--sizes",
        type=int,
        nargs="+",
        default=[128, 256, 512, 1024],
        help="longer sides in pixels; 2048 takes 12 GiB or more without tiles",
    )
    parser.add_argument("--rounds", type=int, default=3, help="times each is started anew")
    parser.add_argument("--repeats", type=int, default=5, help="timed evaluations per start")
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()

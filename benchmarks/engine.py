"""Figures of the engine: copies to the host, repeated calls, memory, accuracy and start-up.

Each measurement is a process of its own, one after the other. All figures are printed as one table
and kept in `engine.json`; measuring one again replaces only its own figures.
"""

import argparse
import json
import os
import pickle  # noqa: TID251 - only to see how much it writes
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import psutil

import nst_tf
from benchmarks import history
from benchmarks.contenders import PAIRS
from benchmarks.history import HISTORY, Measured
from nst_tf import optimizers, system
from nst_tf.image.arrays import ImageArray
from nst_tf.image.resize import resize, resized_shape
from nst_tf.io import files, images

if TYPE_CHECKING:
    import tensorflow as tf

# Importing this module does not import TensorFlow: one of the figures is how long that takes.

_ROOT = Path(__file__).parent.parent
_PAIR = next(iter(PAIRS.values()))
_MEGABYTE = 1e6


class Figure(NamedTuple):
    """A measured figure.

    Attributes:
        name: What was measured.
        value: The figure, or several of them.
        unit: Its unit; empty for a ratio or a number.
        at_most: The value that it is expected not to exceed, or None.
    """

    name: str
    value: float | list[float]
    unit: str = ""
    at_most: float | None = None


def fetches(image_size: int = 64, iterations: tuple[int, int] = (10, 30)) -> list[Figure]:
    """Counts copies to the host per evaluation, without callbacks.

    The difference of two runs with few and with many iterations leaves out the copies of the
    initial image, the targets and the result.

    Args:
        image_size: The longer side of the image.
        iterations: The smaller and the larger number of iterations.
    """
    from benchmarks.fetches import counted_fetches

    content, style = map(images.read, _PAIR)
    figures = []
    for method, most in (("lbfgs", 2), ("adam", 2), ("l-bfgs-b", None)):
        counts = []
        for num_iterations in iterations:
            config = nst_tf.Config(
                image_size=image_size,
                num_iterations=num_iterations,
                pyramid="none",
                optimizer=method,
                precision="float32",
            )
            stylizer = nst_tf.Stylizer(config)
            with counted_fetches() as counted:
                result = stylizer(content, style)
            counts.append((result.evaluations, counted.number, counted.num_bytes))
        number, num_bytes = per_evaluation(*counts)
        figures += [
            Figure(f"{method}: copies to the host per evaluation", number, at_most=most),
            Figure(f"{method}: size of these copies", num_bytes, "bytes"),
        ]
    return figures


def per_evaluation(fewer: tuple[int, int, int], more: tuple[int, int, int]) -> tuple[float, float]:
    """Returns copies and bytes per evaluation.

    Args:
        fewer: Evaluations, copies and bytes of one run.
        more: The same of another run, with more evaluations.
    """
    evaluations, number, num_bytes = (b - a for a, b in zip(fewer, more, strict=True))
    return number / evaluations, num_bytes / evaluations


def second_image(image_size: int) -> list[Figure]:
    """Measures the time to the first evaluation of two images of the same size and style.

    Args:
        image_size: The longer side of the images.
    """
    content, style = map(images.read, _PAIR)
    stylizer_class = nst_tf.Stylizer  # imports TensorFlow, before the clock starts
    began = time.perf_counter()
    stylizer = stylizer_class(nst_tf.Config(image_size=image_size))
    building = time.perf_counter() - began
    first = _seconds_to_first_evaluation(stylizer, content, style)
    second = _seconds_to_first_evaluation(stylizer, np.fliplr(content), style)
    name = f"{image_size} px: time to the first evaluation"
    return [
        Figure(f"{name} of the first image, with the Stylizer", building + first, "s"),
        Figure(f"{name} of the first image", first, "s"),
        Figure(f"{name} of the second image", second, "s"),
        Figure(
            f"{name}, second over first with the Stylizer", second / (building + first), "", 0.25
        ),
        Figure(f"{name}, second over first", second / first, "", 0.25),
    ]


def _seconds_to_first_evaluation(
    stylizer: "nst_tf.Stylizer", content: ImageArray, style: ImageArray
) -> float:
    """Returns the time from the call of a stylizer to the end of its first evaluation."""
    ends: list[float] = []

    def should_stop() -> bool:  # called after each evaluation
        ends.append(time.perf_counter())
        return True

    began = time.perf_counter()
    stylizer(content, style, should_stop=should_stop)
    return ends[0] - began


def repeated_calls(kind: str, image_size: int = 64, calls: int = 12) -> list[Figure]:
    """Measures the resident memory after each of many calls, without a call of `gc.collect`.

    Args:
        kind: "stylize", or "Stylizer" for calls of one that is built once.
        image_size: The longer side of the images.
        calls: The number of images.
    """
    content, style = map(images.read, _PAIR)
    config = nst_tf.Config(image_size=image_size)
    call: Callable[..., Any] = partial(nst_tf.stylize, config=config)
    if kind == "Stylizer":
        call = nst_tf.Stylizer(config)
    resident = []
    for number in range(calls):
        call(np.roll(content, 16 * number, axis=1), style)
        resident.append(psutil.Process().memory_info().rss / _MEGABYTE)
    return [
        Figure(f"{kind}: resident memory after each call", resident, "MB"),
        Figure(f"{kind}: growth after the third call", growth(resident), "MB", 60),
    ]


def growth(resident: Sequence[float]) -> float:
    """Returns by how much a series rises above its third value at most; 0 where it falls."""
    return max(resident[2:]) - resident[2]


def result_size(image_size: int = 512) -> list[Figure]:
    """Measures a pickled result.

    Args:
        image_size: The longer side of the image.
    """
    config = nst_tf.Config(image_size=image_size, pyramid="none", num_iterations=1)
    result = nst_tf.stylize(*_PAIR, config)
    ratio = len(pickle.dumps(result)) / result.image.nbytes
    return [Figure("pickled Result over its image", ratio, "", 3)]


def rosenbrock() -> list[Figure]:
    """Measures the error of the minimum of Rosenbrock's function in float64.

    The function is scaled such that float32 cannot represent the minimum.
    """
    name = "error on Rosenbrock's function in float64"
    return [
        Figure(f"{method}: {name}", rosenbrock_error(method), at_most=1e-9)
        for method in ("lbfgs", "l-bfgs-b", "bfgs")
    ]


def rosenbrock_error(method: str) -> float:
    """Returns the largest error of a variable, of a minimum at (1/3, 1/3)."""
    import tensorflow as tf

    def value_and_gradients(x: "tf.Tensor") -> "tuple[tf.Tensor, tf.Tensor]":
        a, b = tf.unstack(3.0 * x)
        value = 100.0 * (b - a**2) ** 2 + (1.0 - a) ** 2
        gradient = [-400.0 * a * (b - a**2) - 2.0 * (1.0 - a), 200.0 * (b - a**2)]
        return value, 3.0 * tf.stack(gradient)

    initial = tf.constant([-0.4, 1.0 / 3.0], tf.float64)
    result = optimizers.minimize(
        value_and_gradients, initial, method=method, max_iterations=1000, tolerance=0.0
    )
    return float(np.abs(result.x.numpy() - 1.0 / 3.0).max())


def history_dtype(image_size: int = 256, iterations: int = 100) -> list[Figure]:
    """Measures what a history in bfloat16 costs "lbfgs" in loss, with a network in float32.

    Args:
        image_size: The longer side of the image.
        iterations: Iterations from the content image.
    """
    import tensorflow as tf

    content, style = map(images.read, _PAIR)
    height, width = content.shape[:2]
    content = resize(content, resized_shape((height, width), image_size))
    stylizer = nst_tf.Stylizer(nst_tf.Config(image_size=image_size, init="content"))
    function = stylizer.loss_function(content, style)
    full, half = (
        optimizers.minimize(
            function,
            tf.constant(content[np.newaxis]),
            bounds=(0.0, 255.0),
            initial_step=2.0,
            max_iterations=iterations,
            history_dtype=dtype,
        ).value
        for dtype in ("float32", "bfloat16")
    )
    name = f"lbfgs: loss after {iterations} iterations"
    return [
        Figure(f"{name}, history in float32", full),
        Figure(f"{name}, history in bfloat16", half),
        Figure(f"{name}, bfloat16 over float32", half / full),
    ]


_FIRST_EVALUATION = """
import sys
import nst_tf
from nst_tf import events, jobs

content, style, output, image_size = sys.argv[1:]
prepared = False

def callback(event):  # the initial image is reported before the first evaluation
    global prepared
    prepared = prepared or isinstance(event, events.Preview)

def should_stop():
    if prepared:
        print("evaluated", flush=True)
    return prepared

config = nst_tf.Config(
    content_image=content, style_image=style, output_image=output, image_size=int(image_size),
    init="adain", pyramid="none",
)
jobs.run(config, callbacks=[callback], should_stop=should_stop)
"""
_IMPORT = "import tensorflow; print('imported', flush=True)"


def start_up(image_size: int = 512, rounds: int = 3) -> list[Figure]:
    """Measures the time from the start of a process to the end of the first evaluation of a job.

    Args:
        image_size: The longer side of the image.
        rounds: How often this and the import of TensorFlow are timed, in turn.
    """
    pairs = []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            arguments = [*map(str, _PAIR), str(Path(folder, "out.png")), str(image_size)]
            evaluated = seconds_to_first_line(_FIRST_EVALUATION, *arguments)
        pairs.append((evaluated, seconds_to_first_line(_IMPORT)))
    evaluated, imported = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratio = statistics.median(evaluated / imported for evaluated, imported in pairs)
    return [
        Figure(
            f"{image_size} px: process start to the end of the first evaluation", evaluated, "s"
        ),
        Figure("process start to the end of `import tensorflow`", imported, "s"),
        Figure(f"{image_size} px: first evaluation over `import tensorflow`", ratio, "", 2),
    ]


def seconds_to_first_line(code: str, *arguments: str) -> float:
    """Returns the time from the start of a Python process to its first line of output.

    Args:
        code: The program.
        arguments: Its arguments.

    Raises:
        subprocess.CalledProcessError: It printed nothing or failed.
    """
    command = [sys.executable, "-c", code, *arguments]
    began = time.perf_counter()
    with subprocess.Popen(
        command, cwd=_ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as child:
        line = child.stdout.readline()
        seconds = time.perf_counter() - began
        child.communicate()
    if child.returncode or not line:
        raise subprocess.CalledProcessError(child.returncode, command[:2])
    return seconds


def score(image_size: int = 512) -> list[Figure]:
    """Measures the float32 loss of the final image: from the last evaluation to the result.

    Args:
        image_size: The longer side of the image.
    """
    content, style = map(images.read, _PAIR)
    stylizer = nst_tf.Stylizer(nst_tf.Config(image_size=image_size, pyramid="none"))
    ends: list[float] = []

    def should_stop() -> bool:
        ends.append(time.perf_counter())
        return True

    stylizer(content, style, should_stop=should_stop)
    seconds = time.perf_counter() - ends[-1]
    return [Figure(f"{image_size} px: float32 score of the final image", seconds, "s", 1.3)]


MEASUREMENTS: Mapping[str, Callable[[], list[Figure]]] = {
    "fetches": fetches,
    "second-image-128": partial(second_image, 128),
    "second-image-256": partial(second_image, 256),
    "second-image-512": partial(second_image, 512),
    "memory-stylize": partial(repeated_calls, "stylize"),
    "memory-stylizer": partial(repeated_calls, "Stylizer"),
    "result": result_size,
    "rosenbrock": rosenbrock,
    "history": history_dtype,
    "start": start_up,
    "score": score,
}


def measure(name: str) -> list[Figure]:
    """Runs a measurement in a process of its own.

    Args:
        name: Of `MEASUREMENTS`.

    Raises:
        subprocess.CalledProcessError: It failed.
    """
    command = [sys.executable, "-m", "benchmarks.engine", "--here", "--only", name]
    done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True)
    if done.returncode:
        raise subprocess.CalledProcessError(done.returncode, name, stderr=done.stderr)
    return [Figure(*values) for values in json.loads(done.stdout.splitlines()[-1])]


def table(results: Mapping[str, Sequence[Figure]]) -> str:
    """Returns a table in Markdown, with a line for each figure."""
    lines = ["| figure | measured | at most |", "|---|---:|---:|"]
    for figure in (figure for figures in results.values() for figure in figures):
        values = figure.value if isinstance(figure.value, list) else [figure.value]
        measured = " ".join([*(f"{value:.4g}" for value in values), figure.unit]).strip()
        most = "" if figure.at_most is None else f"{figure.at_most:g} {figure.unit}".strip()
        lines.append(f"| {figure.name} | {measured} | {most} |")
    return "\n".join(lines) + "\n"


def with_earlier(
    results: Mapping[str, Sequence[Figure]], file: Path
) -> dict[str, Sequence[Figure]]:
    """Adds what an earlier call measured and this one did not, in the order of `MEASUREMENTS`.

    Args:
        results: By the name of their measurement.
        file: `engine.json`; need not exist.
    """
    earlier = json.loads(file.read_text())["results"] if file.exists() else {}
    merged = {name: [Figure(**figure) for figure in figures] for name, figures in earlier.items()}
    merged |= results
    return {name: merged[name] for name in MEASUREMENTS if name in merged}


def main() -> int:
    """Measures, prints the table and writes `engine.json`; returns the number of failures."""
    arguments = _arguments()
    if arguments.here:
        print(json.dumps(MEASUREMENTS[arguments.only[0]]()))
        return 0
    results = {}
    for name in arguments.only:
        print(f"{name} ...", file=sys.stderr, flush=True)
        try:
            results[name] = measure(name)
        except subprocess.CalledProcessError as error:
            print(f"{error}\n{error.stderr}", file=sys.stderr)
    print(table(results), end="")
    arguments.results.mkdir(parents=True, exist_ok=True)
    file = arguments.results / "engine.json"
    merged = with_earlier(results, file)
    record = {
        "versions": system.versions(),
        "results": {
            name: [figure._asdict() for figure in figures] for name, figures in merged.items()
        },
    }
    files.atomic_write(file, (json.dumps(record, indent=1) + "\n").encode())
    if commit := history.current_commit():
        measured = (
            Measured(figure.name, figure.value, figure.unit)
            for figures in results.values()
            for figure in figures
            if not isinstance(figure.value, list)
        )
        history.append("engine", measured, commit, arguments.results / HISTORY.name)
    return len(arguments.only) - len(results)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.engine", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--only", nargs="+", choices=MEASUREMENTS, default=list(MEASUREMENTS))
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())

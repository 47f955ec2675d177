"""How many evaluations each method needs for a loss, and the time it takes outside of them.

For each pair of images, every method minimizes the same float32 loss from the content at one size.
The losses to reach are those of scipy's L-BFGS-B after 20, 40, 70 and 100 iterations.
"""

import argparse
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import tensorflow as tf

import nst_tf
from benchmarks.contenders import PAIRS
from nst_tf import optimizers
from nst_tf.image.resize import resize, resized_shape
from nst_tf.io import files, images

_INITIAL_STEPS = {"l-bfgs-b": 2.0, "lbfgs": 2.0, "adam": 10.0}
"""By method, in gray levels, as `nst_tf.Stylizer` sets them."""

_MARKS = (20, 40, 70, 100)
_RESULTS = Path(__file__).parent / "results"


def trace(
    function: Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]],
    initial: tf.Tensor,
    method: str,
    max_iterations: int,
) -> dict[str, Any]:
    """Minimizes a loss.

    Args:
        function: From the image, [1, H, W, 3], to loss and gradient.
        initial: The initial image.
        method: Of `nst_tf.optimizers.minimize`.
        max_iterations: Iterations at most.

    Returns:
        "steps": the number of evaluations and the loss after each iteration; "seconds", and
        "seconds_evaluating", the part of it in `function`.
    """
    seconds_evaluating = 0.0
    steps: list[tuple[int, float]] = []

    def timed(x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        nonlocal seconds_evaluating
        before = time.perf_counter()
        value_and_gradient = function(x)
        seconds_evaluating += time.perf_counter() - before
        return value_and_gradient

    began = time.perf_counter()
    optimizers.minimize(
        timed,
        initial,
        method=method,
        bounds=(0.0, 255.0),
        max_iterations=max_iterations,
        initial_step=_INITIAL_STEPS[method],
        tolerance=1e-4,
        callback=lambda step: steps.append((step.evaluations, step.value)),
    )
    seconds = time.perf_counter() - began
    return {"steps": steps, "seconds": seconds, "seconds_evaluating": seconds_evaluating}


def evaluations_to(steps: Sequence[tuple[int, float]], loss: float) -> int | None:
    """Returns the evaluations after which a loss was reached, or None."""
    return next((evaluations for evaluations, value in steps if value <= loss), None)


def compared(traces: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Compares the methods with L-BFGS-B.

    Args:
        traces: From each method to what `trace` returned.

    Returns:
        From each method to "evaluations", which maps a loss to the evaluations that the method and
        L-BFGS-B needed for it, and "share_outside_evaluations" of the time.
    """
    steps = traces["l-bfgs-b"]["steps"]
    targets = [steps[mark - 1] for mark in _MARKS if mark <= len(steps)]
    return {
        method: {
            "evaluations": {
                f"{loss:.3f}": [evaluations_to(figures["steps"], loss), evaluations]
                for evaluations, loss in targets
            },
            "share_outside_evaluations": 1 - figures["seconds_evaluating"] / figures["seconds"],
        }
        for method, figures in traces.items()
    }


def measure(pair: str, image_size: int) -> dict[str, Any]:
    """Runs every method on a pair of images and compares them."""
    content, style = (images.read(path) for path in PAIRS[pair])
    height, width = content.shape[:2]
    content = resize(content, resized_shape((height, width), image_size))
    config = nst_tf.Config(image_size=image_size, init="content", padding="zero")
    function = nst_tf.Stylizer(config).loss_function(content, style)
    initial = tf.constant(content[tf.newaxis])
    function(initial)  # traced before anything is timed
    return compared(
        {
            method: trace(function, initial, method, int(1.5 * max(_MARKS)))
            for method in _INITIAL_STEPS
        }
    )


def main() -> None:
    """Measures the pairs asked for and writes `optimizers.json`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", nargs="+", choices=PAIRS, default=list(PAIRS)[:3])
    parser.add_argument("--image_size", type=int, default=256)
    parser.add_argument("--results", type=Path, default=_RESULTS)
    arguments = parser.parse_args()
    pairs = {pair: measure(pair, arguments.image_size) for pair in arguments.pairs}
    for pair, methods in pairs.items():
        print(pair)
        for method, figures in methods.items():
            print(f"  {method}: outside {figures['share_outside_evaluations']:.1%}")
            for loss, (needed, of_scipy) in figures["evaluations"].items():
                print(f"    loss {loss}: {needed} evaluations, L-BFGS-B {of_scipy}")
    arguments.results.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"image_size": arguments.image_size, "pairs": pairs}, indent=2)
    files.atomic_write(arguments.results / "optimizers.json", f"{text}\n".encode())


if __name__ == "__main__":
    main()

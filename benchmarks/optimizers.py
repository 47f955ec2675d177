"""How many evaluations each method needs for a loss, and what it spends outside of them.

For each pair of pictures, every method minimises the same float32 objective from the content at one
size. The losses to reach are those of scipy's L-BFGS-B after 20, 40, 70 and 100 iterations.
"""

import argparse
import json
import os
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from benchmarks.contenders import PAIRS
from nst_tf import optimizers
from nst_tf.config.schema import Config
from nst_tf.engine import pyramid
from nst_tf.image.resize import resize
from nst_tf.io import images
from nst_tf.models import vgg19_features
from nst_tf.objective.terms import Objective, layers_of

_METHODS = ("l-bfgs-b", "lbfgs", "adam")
_MARKS = (20, 40, 70, 100)
_RESULTS = Path(__file__).parent / "results"


def trace(objective: Objective, start, method: str, num_iterations: int) -> dict:
    """Minimises, and returns the loss after each evaluation with the seconds in and outside."""
    seconds_evaluating = 0.0
    steps: list[tuple[int, float]] = []

    def value_and_grad(x):
        nonlocal seconds_evaluating
        before = time.perf_counter()
        losses, gradient = objective.value_and_grad(x)
        seconds_evaluating += time.perf_counter() - before
        return losses.total, gradient

    began = time.perf_counter()
    optimizers.minimize(
        method,
        value_and_grad,
        start,
        bounds=(0.0, 255.0),
        num_iterations=num_iterations,
        callback=lambda step: steps.append((step.evaluations, step.value)),
    )
    seconds = time.perf_counter() - began
    return {"steps": steps, "seconds": seconds, "seconds_evaluating": seconds_evaluating}


def evaluations_to(steps: list[tuple[int, float]], loss: float) -> int | None:
    """Returns the evaluations after which a loss was reached, or None."""
    return next((evaluations for evaluations, value in steps if value <= loss), None)


def measure(pair: str, image_size: int) -> dict:
    """Runs every method on a pair of pictures."""
    config = Config(image_size=image_size, style_weight=1e5, pyramid="none")
    content, style = (images.read(path, config.max_pixels) for path in PAIRS[pair])
    (level,) = pyramid.plan(content.shape[:2], [style.shape[:2]], config)
    content = resize(content, level.shape)
    style = resize(style, level.style_shapes[0])
    network = vgg19_features(layers_of(config))
    objective = Objective(network, content, [style], config)
    objective.value_and_grad(content)  # traced before anything is timed
    traces = {
        method: trace(objective, content, method, int(1.5 * max(_MARKS))) for method in _METHODS
    }
    steps = traces["l-bfgs-b"]["steps"]
    targets = {mark: steps[mark - 1] for mark in _MARKS if mark <= len(steps)}
    return {
        method: {
            "evaluations": {
                f"{loss:.3f}": [evaluations_to(found["steps"], loss), evaluations]
                for evaluations, loss in targets.values()
            },
            "share_outside_evaluations": 1 - found["seconds_evaluating"] / found["seconds"],
        }
        for method, found in traces.items()
    }


def main() -> None:
    """Measures the pairs asked for and writes `optimizers.json`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", nargs="+", choices=PAIRS, default=list(PAIRS)[:3])
    parser.add_argument("--image_size", type=int, default=256)
    parser.add_argument("--results", type=Path, default=_RESULTS)
    arguments = parser.parse_args()
    found = {pair: measure(pair, arguments.image_size) for pair in arguments.pairs}
    for pair, methods in found.items():
        print(pair)
        for method, figures in methods.items():
            print(f"  {method}: outside {figures['share_outside_evaluations']:.1%}")
            for loss, (needed, of_scipy) in figures["evaluations"].items():
                print(f"    loss {loss}: {needed} evaluations, L-BFGS-B {of_scipy}")
    arguments.results.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"image_size": arguments.image_size, "pairs": found}, indent=2)
    (arguments.results / "optimizers.json").write_text(text + "\n")


if __name__ == "__main__":
    main()

"""How well a small preview foretells the large picture.

The large result is scaled down to the size of the small one, and the two are compared by a
perceptual distance: the mean over five layers of VGG19 (blockN_conv1, the packaged network) of
one minus the cosine of the two activation vectors, averaged over positions. 0 is the same picture.
For scale, the distance of the small result to the content, to another style's result, and to a
result from other noise are given beside it.
"""

import argparse
import itertools
import json
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow as tf

from benchmarks.contenders import PAIRS
from nst_tf import images, parameters, storage, vgg19
from nst_tf.config import Config
from nst_tf.style_transfer import stylize

_LAYERS = [f"block{block}_conv1" for block in range(1, 6)]
_RESULTS = Path(__file__).parent / "results"


class Distance:
    """The perceptual distance of two pictures of one size."""

    def __init__(self, weights) -> None:
        self._network = vgg19.build(_LAYERS, "max", weights)

    def __call__(self, one: np.ndarray, other: np.ndarray) -> float:
        """Returns the distance, from 0 to 1."""
        found = [self._network(tf.constant(picture[np.newaxis])) for picture in (one, other)]
        angles = [
            tf.reduce_mean(
                tf.reduce_sum(
                    tf.math.l2_normalize(found[0][layer], -1)
                    * tf.math.l2_normalize(found[1][layer], -1),
                    axis=-1,
                )
            )
            for layer in _LAYERS
        ]
        return float(1.0 - tf.add_n(angles) / len(angles))


def main() -> None:
    """Measures the pairs and sizes asked for, and writes `consistency.json`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", nargs="+", choices=PAIRS, default=list(PAIRS)[:3])
    parser.add_argument("--sizes", nargs=2, type=int, default=[256, 1024])
    parser.add_argument("--plans", nargs="+", default=["auto", "none"], help="values of pyramid")
    parser.add_argument("--results", type=Path, default=_RESULTS)
    parser.add_argument("--pictures", type=Path, help="a folder to keep the results in")
    arguments = parser.parse_args()
    weights = parameters.load("normalised", None).arrays
    distance = Distance(weights)
    found: dict[str, dict[str, float]] = {}
    small_results: dict[tuple[str, str], np.ndarray] = {}
    for plan, pair in itertools.product(arguments.plans, arguments.pairs):
        content, style = (images.read(path) for path in PAIRS[pair])
        results = {}
        for size in arguments.sizes:
            config = Config(image_size=size, pyramid=plan)
            results[size] = stylize(content, style, config, weights=weights).picture
            if arguments.pictures:
                arguments.pictures.mkdir(parents=True, exist_ok=True)
                data = images.encode(images.quantise(results[size]), ".png", "{}")
                storage.publish(arguments.pictures / f"{pair}-{plan}-{size}.png", data)
        small, large = (results[size] for size in arguments.sizes)
        small_results[plan, pair] = small
        reduced = images.resize(large, small.shape[:2])
        found[f"{pair}, pyramid {plan}"] = {
            "large to small": distance(reduced, small),
            "small to content": distance(images.resize(content, small.shape[:2]), small),
        }
        print(pair, plan, found[f"{pair}, pyramid {plan}"], flush=True)
    others = [
        distance(one, other)
        for (key, one), (other_key, other) in itertools.combinations(small_results.items(), 2)
        if key[1] != other_key[1] and one.shape == other.shape
    ]
    record = {"sizes": arguments.sizes, "pairs": found}
    if others:
        record["another style"] = float(np.mean(others))
    arguments.results.mkdir(parents=True, exist_ok=True)
    text = json.dumps(record, indent=2) + "\n"
    storage.publish(arguments.results / "consistency.json", text.encode())


if __name__ == "__main__":
    main()

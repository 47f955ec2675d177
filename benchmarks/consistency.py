"""How well a result at low resolution predicts that at high resolution.

The large result is scaled down to the size of the small one, and the two are compared by a
perceptual distance: the mean over five layers of VGG19 (blockN_conv1, the packaged network) of
one minus the cosine of the two activation vectors, averaged over positions. Equal images have a
distance of 0. For scale, the distance of the small result to the content is given, too.
"""

import argparse
import itertools
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow as tf
from PIL import Image

import nst_tf
from benchmarks.contenders import PAIRS
from nst_tf.image.arrays import ImageArray, quantize
from nst_tf.image.resize import resize
from nst_tf.io import files, images
from nst_tf.models import vgg19_features
from nst_tf.models.weights import load_vgg19

_LAYERS = [f"block{block}_conv1" for block in range(1, 6)]
_RESULTS = Path(__file__).parent / "results"
_WIDTH = 512
_GAP = 8


class Distance:
    """The perceptual distance of two images of one size."""

    def __init__(self, weights: Mapping[str, np.ndarray]) -> None:
        self._network = vgg19_features(_LAYERS, weights)

    def __call__(self, image: ImageArray, other: ImageArray) -> float:
        """Returns the distance of two images [H, W, 3] in [0, 255], from 0 to 1."""
        features = self._network(tf.constant(np.stack([image, other])))
        cosines = []
        for layer in _LAYERS:
            first, second = tf.unstack(tf.math.l2_normalize(features[layer], -1))
            cosines.append(tf.reduce_mean(tf.reduce_sum(first * second, axis=-1)))
        return float(1.0 - tf.add_n(cosines) / len(cosines))


def measure(
    pair: str, plan: str, sizes: Sequence[int], weights: Mapping[str, np.ndarray], folder: Path
) -> dict[str, float]:
    """Computes a small and a large result, and compares them.

    Args:
        pair: Of `PAIRS`.
        plan: A value of `pyramid`.
        sizes: The small size and the large one.
        weights: Parameters of the network.
        folder: Where the results are saved.

    Returns:
        The distances: "large to small", and for scale "small to content".
    """
    content, style = (images.read(path) for path in PAIRS[pair])
    folder.mkdir(parents=True, exist_ok=True)
    results = []
    for size in sizes:
        config = nst_tf.Config(image_size=size, pyramid=plan)
        results.append(nst_tf.stylize(content, style, config, weights=weights).image)
        data = images.encode(quantize(results[-1]), ".png", "{}")
        files.atomic_write(folder / f"{pair}-{plan}-{size}.png", data)
    small, large = results
    shape = small.shape[0], small.shape[1]
    distance = Distance(weights)
    return {
        "large to small": distance(resize(large, shape), small),
        "small to content": distance(resize(content, shape), small),
    }


def sheet(folder: Path, pairs: Sequence[str], plan: str, sizes: Sequence[int]) -> Image.Image:
    """Places the small result of each pair beside the large one, at the same width.

    Args:
        folder: Where `measure` saved them.
        pairs: Of `PAIRS`.
        plan: The value of `pyramid` that they were made with.
        sizes: The small size and the large one.

    Returns:
        An image with a row for each pair.
    """
    rows = []
    for pair in pairs:
        results = [Image.open(folder / f"{pair}-{plan}-{size}.png") for size in sizes]
        height = round(_WIDTH * results[0].height / results[0].width)
        rows.append([image.resize((_WIDTH, height), Image.Resampling.LANCZOS) for image in results])
    heights = [row[0].height + _GAP for row in rows]
    drawn = Image.new("RGB", (2 * _WIDTH + _GAP, sum(heights) - _GAP), "white")
    for number, row in enumerate(rows):
        for column, image in enumerate(row):
            drawn.paste(image, (column * (_WIDTH + _GAP), sum(heights[:number])))
    return drawn


def main() -> None:
    """Measures pairs and plans, adds them to `consistency.json` and draws the first plan."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", nargs="+", choices=PAIRS, default=list(PAIRS)[:3])
    parser.add_argument("--sizes", nargs=2, type=int, default=[256, 1024])
    parser.add_argument("--plans", nargs="+", default=["auto", "none"], help="values of pyramid")
    parser.add_argument("--results", type=Path, default=_RESULTS)
    arguments = parser.parse_args()
    weights = load_vgg19("normalised").arrays
    record = arguments.results / "consistency.json"
    distances = json.loads(record.read_text()) if record.exists() else {}
    small_size, large_size = arguments.sizes
    folder = arguments.results / "images" / "consistency"
    for plan, pair in itertools.product(arguments.plans, arguments.pairs):
        name = f"{pair}, pyramid {plan}, {small_size} and {large_size} px"
        distances[name] = measure(pair, plan, arguments.sizes, weights, folder)
        print(name, distances[name], flush=True)
        files.atomic_write(record, (json.dumps(distances, indent=2) + "\n").encode())
    drawn = np.asarray(sheet(folder, arguments.pairs, arguments.plans[0], arguments.sizes))
    files.atomic_write(
        arguments.results / "consistency.jpg", images.encode(drawn, ".jpg", "{}", quality=85)
    )


if __name__ == "__main__":
    main()

"""How well a small preview foretells the large picture.

The large result is scaled down to the size of the small one, and the two are compared by a
perceptual distance: the mean over five layers of VGG19 (blockN_conv1, the packaged network) of
one minus the cosine of the two activation vectors, averaged over positions. 0 is the same picture.
For scale, the distance of the small result to the content is given beside it.
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
from nst_tf.engine.stylize import stylize
from PIL import Image

from benchmarks.contenders import PAIRS
from nst_tf.config.schema import Config
from nst_tf.image.arrays import quantize
from nst_tf.image.resize import resize
from nst_tf.io import files, images
from nst_tf.models import vgg19_features
from nst_tf.models.weights import load_vgg19

_LAYERS = [f"block{block}_conv1" for block in range(1, 6)]
_RESULTS = Path(__file__).parent / "results"
_WIDTH = 512
_GAP = 8


class Distance:
    """The perceptual distance of two pictures of one size."""

    def __init__(self, weights: Mapping[str, np.ndarray]) -> None:
        self._network = vgg19_features(_LAYERS, weights)

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


def measure(
    pair: str, plan: str, sizes: Sequence[int], weights: Mapping[str, np.ndarray], pictures: Path
) -> dict[str, float]:
    """Makes a small and a large result, and compares them.

    Args:
        pair: Of `PAIRS`.
        plan: A value of `pyramid`.
        sizes: The small size and the large one.
        weights: Parameters of the network.
        pictures: Where the results go.

    Returns:
        The distances: "large to small", and for scale "small to content".
    """
    content, style = (images.read(path) for path in PAIRS[pair])
    pictures.mkdir(parents=True, exist_ok=True)
    results = []
    for size in sizes:
        config = Config(image_size=size, pyramid=plan)
        results.append(stylize(content, style, config, weights=weights).picture)
        data = images.encode(quantize(results[-1]), ".png", "{}")
        files.atomic_write(pictures / f"{pair}-{plan}-{size}.png", data)
    small, large = results
    shape = small.shape[0], small.shape[1]
    distance = Distance(weights)
    return {
        "large to small": distance(resize(large, shape), small),
        "small to content": distance(resize(content, shape), small),
    }


def sheet(folder: Path, pairs: Sequence[str], plan: str, sizes: Sequence[int]) -> Image.Image:
    """Puts the small result of each pair beside the large one, at the same width.

    Args:
        folder: Where `measure` put them.
        pairs: Of `PAIRS`, a row for each.
        plan: The value of `pyramid` that they were made with.
        sizes: The small size and the large one.

    Returns:
        The sheet.
    """
    rows = []
    for pair in pairs:
        found = [Image.open(folder / f"{pair}-{plan}-{size}.png") for size in sizes]
        height = round(_WIDTH * found[0].height / found[0].width)
        rows.append([one.resize((_WIDTH, height), Image.Resampling.LANCZOS) for one in found])
    heights = [row[0].height + _GAP for row in rows]
    drawn = Image.new("RGB", (2 * _WIDTH + _GAP, sum(heights) - _GAP), "white")
    for number, row in enumerate(rows):
        for column, picture in enumerate(row):
            drawn.paste(picture, (column * (_WIDTH + _GAP), sum(heights[:number])))
    return drawn


def main() -> None:
    """Measures the pairs and plans asked for; adds to `consistency.json`, draws the first plan."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", nargs="+", choices=PAIRS, default=list(PAIRS)[:3])
    parser.add_argument("--sizes", nargs=2, type=int, default=[256, 1024])
    parser.add_argument("--plans", nargs="+", default=["auto", "none"], help="values of pyramid")
    parser.add_argument("--results", type=Path, default=_RESULTS)
    arguments = parser.parse_args()
    weights = load_vgg19("normalised").arrays
    record = arguments.results / "consistency.json"
    found = json.loads(record.read_text()) if record.exists() else {}
    small_size, large_size = arguments.sizes
    pictures = arguments.results / "pictures" / "consistency"
    for plan, pair in itertools.product(arguments.plans, arguments.pairs):
        name = f"{pair}, pyramid {plan}, {small_size} and {large_size} px"
        found[name] = measure(pair, plan, arguments.sizes, weights, pictures)
        print(name, found[name], flush=True)
        files.atomic_write(record, (json.dumps(found, indent=2) + "\n").encode())
    drawn = np.asarray(sheet(pictures, arguments.pairs, arguments.plans[0], arguments.sizes))
    files.atomic_write(
        arguments.results / "consistency.jpg", images.encode(drawn, ".jpg", "{}", quality=85)
    )


if __name__ == "__main__":
    main()

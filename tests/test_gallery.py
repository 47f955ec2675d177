"""The sheets of the settings: they can be drawn, exist, and are shown in the text."""

import importlib.util
import json
import re

import numpy as np
import pytest
from PIL import Image

from nst_tf.config import Config
from nst_tf.io import images
from tests.command import ROOT

DOCS = ROOT / "docs"
TEXT = (DOCS / "controls.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def gallery():
    spec = importlib.util.spec_from_file_location("gallery", DOCS / "gallery.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_cell_is_a_configuration_that_differs_from_its_neighbors(gallery):
    for name, sheet in gallery.SHEETS.items():
        configs = []
        for settings in sheet.cells.values():
            own = {**sheet.common, **settings}
            own.setdefault("style_image", [f"{style}.jpg" for style in sheet.styles])
            if "content_masks" in own:
                own["style_image"] = own["style_image"][: len(own["content_masks"])]
            configs.append(Config(**own).model_dump_json())
        assert len(set(configs)) == len(configs), name


def test_every_sheet_shown_exists_and_has_the_cells_that_are_drawn_now(gallery):
    shown = re.findall(r"\(controls/(\w+)\.jpg\)", TEXT)
    assert set(shown) == {path.stem for path in (DOCS / "controls").glob("*.jpg")}
    figures = json.loads((DOCS / "controls" / "figures.json").read_text(encoding="utf-8"))
    for name in shown:
        sheet = gallery.SHEETS[name]
        with Image.open(DOCS / "controls" / f"{name}.jpg") as image:
            assert image.width == len(sheet.cells) * (sheet.size + 8) - 8
        assert list(figures[name]) == list(sheet.cells)


def test_a_sheet_shows_its_results_side_by_side(gallery, tmp_path):
    sheet = gallery.Sheet(
        {"one": {"seed": 1}, "two": {"seed": 2}},
        common={"image_size": 48, "style_scale": 1.0, "num_iterations": 0, "init": "noise"},
    )
    figures = gallery.draw(sheet, tmp_path / "sheet.png")
    drawn = images.read(tmp_path / "sheet.png")
    assert drawn.shape == (171 + 22, 2 * 256 + 8, 3)
    pixels = drawn[22:]
    assert np.abs(pixels[:, :256] - pixels[:, 264:]).mean() > 5
    assert list(figures) == ["one", "two"]
    assert figures["one"]["loss"] != figures["two"]["loss"]
    assert [path.name for path in tmp_path.iterdir()] == ["sheet.png"]


def test_the_masks_of_a_sheet_are_files_of_the_content_s_shape(gallery, tmp_path):
    path = gallery._write_mask("sky", ROOT / "images" / "tubingen.jpg", tmp_path)
    mask, _ = images.read_mask(path, "sky")
    expected = gallery._mask("sky", images.shape_of(ROOT / "images" / "tubingen.jpg"))
    np.testing.assert_allclose(mask, expected, atol=1 / 255)

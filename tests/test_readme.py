"""The README, the configurations, the results that they show, and the list of modules.

Commands and examples are executed by `tests/test_documentation.py`.
"""

import json
import re
import runpy

import pytest
from PIL import Image

from nst_tf.config import Config, load_config
from nst_tf.config.files import portable
from nst_tf.io import images
from tests import documents
from tests.command import ROOT

README = documents.PAGES["README.md"]
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))


def test_opens_with_two_commands_for_a_fresh_machine():
    fresh = documents.blocks("README.md", "bash")[:2]
    assert all(
        block.startswith("python3 -m venv .venv && . .venv/bin/activate &&") for block in fresh
    )
    assert all(len(block.strip().replace("\\\n", " ").splitlines()) == 1 for block in fresh)
    assert fresh[0].strip().endswith("python -m nst_tf.main --config configs/starry.yaml")
    assert fresh[1].strip().endswith("python -m pytest")


def size_of(path):
    with Image.open(path) as image:
        return image.size


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_configurations_name_files_that_are_here_and_begin_with_what_they_make(path):
    config = load_config(path)
    assert config.content_image.exists()
    assert all(style.exists() for style in config.style_image)
    assert config.output_image.resolve().parent == ROOT / "results"
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# ")
    assert f"python -m nst_tf.main --config configs/{path.name}" in text.split("\n\n")[0]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_the_result_shown_was_made_by_the_configuration(path):
    config = load_config(path)
    settings = json.loads(images.settings_of(config.output_image))
    assert settings.pop("nst_tf")
    defaults = portable(Config(output_image=config.output_image))
    assert defaults | settings == portable(config)
    assert max(size_of(config.output_image)) == config.image_size


def test_the_readme_shows_every_configuration_with_its_images():
    for path in CONFIGS:
        config = load_config(path)
        assert f"configs/{path.name}" in README
        for image in (config.content_image, *config.style_image, config.output_image):
            assert f"({image.resolve().relative_to(ROOT)})" in README.replace('"', ")")


def test_every_image_has_its_credit():
    credits = (ROOT / "images" / "CREDITS.md").read_text(encoding="utf-8")
    for folder in ("images", "results"):
        for image in (ROOT / folder).glob("*.*g"):
            assert image.name in credits


def test_the_list_of_modules_is_that_of_the_package():
    path = ROOT / "docs" / "modules.py"
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert text == runpy.run_path(str(path))["with_module_list"](text), f"run python {path}"
    package = ROOT / "nst_tf"
    modules = {path.relative_to(package).as_posix() for path in package.rglob("*.py")}
    listed, folder = set(), ""
    for indent, name, summary in re.findall(r"^( *)- `([\w./]+)`: (.*)$", text, re.MULTILINE):
        assert summary, name
        if name.endswith("/"):
            folder, name = name, f"{name}__init__.py"
        listed.add(f"{folder if indent else ''}{name}")
    assert listed == modules - {"__init__.py"}

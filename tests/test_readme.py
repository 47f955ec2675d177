"""The commands and examples of the README and the configurations, executed on small images."""

import json
import re
import runpy
import shlex
import shutil

import numpy as np
import pytest
from PIL import Image

from nst_tf import main
from nst_tf.config import Config, load_config
from nst_tf.config.files import portable
from nst_tf.io import images
from tests.command import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, re.DOTALL)
COMMANDS = [
    line.split("&&")[-1].strip()
    for language, block in BLOCKS
    if language == "bash"
    for line in block.replace("\\\n", " ").splitlines()
    if re.search(r"nst_tf\.main|^nst-tf ", line)
]
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))


def test_opens_with_two_commands_for_a_fresh_machine():
    fresh = [block for language, block in BLOCKS if language == "bash"][:2]
    assert all(
        block.startswith("python3 -m venv .venv && . .venv/bin/activate &&") for block in fresh
    )
    assert all(len(block.strip().replace("\\\n", " ").splitlines()) == 1 for block in fresh)
    assert fresh[0].strip().endswith("python -m nst_tf.main --config configs/starry.yaml")
    assert fresh[1].strip().endswith("python -m pytest")


def size_of(path):
    with Image.open(path) as image:
        return image.size


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_do_what_they_say(line, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    text = re.sub(
        r"^(python -m nst_tf\.main|nst-tf) | -o \S+| --num-iterations=\S+| --output_dir=\S+",
        " ",
        line,
    )
    words = shlex.split(text, comments=True)
    output = tmp_path / "o.png"
    is_batch = "--output_dir=" in line
    small = [
        "--image_size=110",
        "--style_scale=1",
        "--num_iterations=1",
        f"--output_dir={tmp_path}" if is_batch else f"--output_image={output}",
    ]
    quick = [] if "bfgs" not in line else ["--optimizer=l-bfgs-b"]
    if "--resume" in words:  # there is something to do only after a run
        begun = [word for word in words if word != "--resume"]
        assert main.main([*begun, *small, *quick]) == 0
    assert main.main([*words, *small, *quick]) == 0, capsys.readouterr().err
    if is_batch:
        made = [path for path in tmp_path.glob("*.png") if path.name != "sweep.png"]
        assert [max(size_of(path)) for path in made] == [110] * 4
        assert (tmp_path / "sweep.png").exists() == ("--sweep" in words)
    elif not {"--help", "--dry_run"} & set(words):
        assert max(size_of(output)) == 110


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    """All examples in Python, executed one after the other, as they use one another's names.

    Returns:
        The folder in which they were executed, and their names with their last values.
    """
    folder = tmp_path_factory.mktemp("examples")
    shutil.copytree(ROOT / "images", folder / "images")
    text = "\n".join(block for language, block in BLOCKS if language == "python")
    assert text.count("image_size=") >= 4
    text = re.sub(r"image_size=\d+", "image_size=64, num_iterations=1", text)
    assert text.count('output_dir="swept"') == 1
    text = text.replace('weights="imagenet"', "weights=None")  # downloads nothing
    (folder / "examples.py").write_text(text, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return folder, runpy.run_path("examples.py")


def test_the_examples_save_their_images(examples):
    folder, names = examples
    sizes = {path.stem: size_of(path) for path in folder.glob("*.png")}
    assert sizes == {
        "stylized": (64, 20), "tubingen": (64, 20), "summer-palace": (64, 43), "job": (64, 20)
    }  # fmt: skip
    assert names["job"].status == "finished"
    assert [outcome.status for outcome in names["swept"].outcomes] == ["finished"] * 4
    assert size_of(folder / "swept" / "sweep.png")[0] == 2 * 256 + 8


def test_the_examples_for_research_give_what_they_say(examples):
    _, names = examples
    assert {layer: maps.shape[0] for layer, maps in names["features"].items()} == {
        "block2_conv1": 4, "block3_conv1": 4
    }  # fmt: skip
    assert names["gram"].shape == (4, 128, 128)
    np.testing.assert_allclose(names["minimum"].x, 1.0, atol=1e-9)
    assert len(names["model"].history.epoch) == 1
    assert set(names["result"].losses.terms) == {
        "content/block4_conv2", "style/block1_conv2", "style/block2_conv2", "style/block3_conv3",
        "grain",
    }  # fmt: skip


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


def test_every_setting_is_documented():
    for name in Config.model_fields:
        assert f"`{name}`" in README, name


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

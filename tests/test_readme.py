"""What the README and the configurations say is done here, on small pictures."""

import json
import re
import shlex

import pytest
from PIL import Image

from nst_tf import main
from nst_tf.config import Config, load_config
from nst_tf.config.files import portable
from nst_tf.io import images
from tests.command import ROOT

README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, re.DOTALL)
COMMANDS = [
    line.split("&&")[-1].strip()
    for language, block in BLOCKS
    if language == "bash"
    for line in block.replace("\\\n", " ").splitlines()
    if "nst_tf.main" in line
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


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_do_what_they_say(line, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    words = shlex.split(line, comments=True)
    assert words[:3] == ["python", "-m", "nst_tf.main"]
    output = tmp_path / "o.png"
    small = [
        "--image_size=110",
        "--style_scale=1",
        "--num_iterations=1",
        f"--output_image={output}",
    ]
    quick = [] if "bfgs" not in line else ["--optimizer=l-bfgs-b"]
    if "--resume" in words:  # there is something to do only after a run
        begun = [word for word in words[3:] if word != "--resume"]
        assert main.main([*begun, *small, *quick]) == 0
    assert main.main([*words[3:], *small, *quick]) == 0, capsys.readouterr().err
    if not {"--help", "--dry_run"} & set(words):
        assert max(Image.open(output).size) == 110


def test_the_python_example_does_what_it_says(monkeypatch, tmp_path):
    (example,) = [block for language, block in BLOCKS if language == "python"]
    (tmp_path / "images").symlink_to(ROOT / "images")
    monkeypatch.chdir(tmp_path)
    assert "image_size=512" in example
    exec(example.replace("image_size=512", "image_size=64, num_iterations=1"), {})
    assert Image.open(tmp_path / "stylised.png").size == (64, 20)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_configurations_name_files_that_are_here_and_begin_with_what_they_make(path):
    config = load_config(path)
    assert config.content_image.exists()
    assert all(style.exists() for style in config.style_image)
    assert config.output_image.resolve().parent == ROOT / "results"
    text = path.read_text()
    assert text.startswith("# ")
    assert f"python -m nst_tf.main --config configs/{path.name}" in text.split("\n\n")[0]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_the_result_shown_was_made_by_the_configuration(path):
    config = load_config(path)
    settings = json.loads(images.settings_of(config.output_image))
    assert settings.pop("nst_tf")
    defaults = portable(Config(output_image=config.output_image))
    assert defaults | settings == portable(config)
    assert max(Image.open(config.output_image).size) == config.image_size


def test_the_readme_shows_every_configuration_with_its_pictures():
    for path in CONFIGS:
        config = load_config(path)
        assert f"configs/{path.name}" in README
        for picture in (config.content_image, *config.style_image, config.output_image):
            assert f"({picture.resolve().relative_to(ROOT)})" in README.replace('"', ")")


def test_every_setting_is_documented():
    for name in Config.model_fields:
        assert f"`{name}`" in README, name


def test_every_picture_has_its_credit():
    credits = (ROOT / "images" / "CREDITS.md").read_text()
    for folder in ("images", "results"):
        for picture in (ROOT / folder).glob("*.*g"):
            assert picture.name in credits

"""The command line: flags, precedence, and refusals of wrong ones."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import nst_tf
from nst_tf.cli import flags
from nst_tf.config.fields import FrozenDict
from nst_tf.config.files import portable
from nst_tf.config.schema import Config, section_of
from nst_tf.errors import InputError
from nst_tf.io import images

FILES = ["--content_image=c.jpg", "--style_image=s.jpg"]


def refusal(*argv: str) -> str:
    with pytest.raises(InputError) as caught:
        flags.parse(argv)
    text = str(caught.value)
    assert text.isascii() and text.isprintable()
    return text


def config(*argv: str) -> Config:
    return flags.parse([*FILES, *argv]).config


def test_CFG_33_flags_win_over_the_file_and_the_file_over_defaults(tmp_path, monkeypatch):
    (tmp_path / "configs").mkdir()
    path = tmp_path / "configs" / "x.yaml"
    path.write_text("image_size: 128\nseed: 3\ncontent_image: c.jpg\nstyle_image: s.jpg\n")
    monkeypatch.chdir(tmp_path)
    got = flags.parse(["--config=configs/x.yaml", "--image_size=64", "--style_image=t.jpg"]).config
    assert (got.image_size, got.seed, got.num_iterations) == (64, 3, 40)
    assert got.content_image == tmp_path / "configs" / "c.jpg"
    assert got.style_image == (tmp_path / "t.jpg",)
    text = refusal("--config=configs/x.yaml", "--seed=-1")
    assert "seed cannot be -1 (--seed):" in text


# One value for each setting, unlike its default, as a flag and as it arrives.
VALUES = {
    "normalize_gradients": ("true", True),
    "bit_depth": ("16", 16),
    "quality": ("80", 80),
    "color_profile": ("keep", "keep"),
    "original_colors": ("match", "match"),
    "content_image": ("x.jpg", Path.cwd() / "x.jpg"),
    "style_image": ("a,b.jpg", (Path.cwd() / "a,b.jpg",)),
    "style_blend_weights": ("2e0", (2.0,)),
    "output_image": ("1e5", Path.cwd() / "1e5"),
    "image_size": ("64", 64),
    "style_scale": ("2", 2.0),
    "max_pixels": ("1e6", 1_000_000),
    "content_layers": ("block5_conv2:0.5", {"block5_conv2": 0.5}),
    "style_layers": ("block1_conv1,block2_conv1:2", {"block1_conv1": 1.0, "block2_conv1": 2.0}),
    "content_weight": ("0", 0.0),
    "style_weight": ("1e4", 1e4),
    "tv_weight": (".5", 0.5),
    "pooling": ("average", "average"),
    "init": ("010", str(Path.cwd() / "010")),
    "padding": ("zero", "zero"),
    "preset": ("draft", "draft"),
    "style_strength": ("0.5", 0.5),
    "precision": ("float32", "float32"),
    "pyramid": ("128:80,256:40", "128:80,256:40"),
    "optimizer": ("bfgs", "bfgs"),
    "num_iterations": ("0", 0),
    "bounds": ("false", False),
    "weights": ("imagenet", "imagenet"),
    "weights_sha256": ("0" * 64, "0" * 64),
    "seed": ("5", 5),
    "print_iter": ("0", 0),
    "save_iter": ("9", 9),
    "config_version": ("1", 1),
    "content_masks": ("a,b.png", (Path.cwd() / "a,b.png",)),
    "style_masks": ("c.png", (Path.cwd() / "c.png",)),
    "layer_styles": ("block1_conv1:1", {"block1_conv1": 1}),
    "tv_exponent": ("1", 1),
    "deterministic": ("true", True),
    "threads": ("3", 3),
    "checkpoint_seconds": ("2.5", 2.5),
    "max_snapshots": ("7", 7),
}


@pytest.mark.parametrize("name", Config.model_fields)
def test_every_setting_has_a_flag(name):
    text, value = VALUES[name]
    files = [flag for flag in FILES if not flag.startswith(f"--{name}=")]
    files += ["--content_masks=m.png"] if name == "style_masks" else []
    for given in ([f"--{name}={text}"], [f"--{name}", text]):
        if not isinstance(value, bool) or len(given) == 1:  # a switch takes no separate value
            got = getattr(flags.parse([*files, *given]).config, name)
            kept = FrozenDict if isinstance(value, dict) else type(value)
            assert got == value and type(got) is kept


def test_every_flag_is_in_the_help_with_its_default():
    answer = flags.parse(["--help"]).answer
    lines = {line.split()[0]: line for line in answer.splitlines() if line.startswith("  --")}
    commands = {
        "--config",
        "--rerun",
        "--overwrite",
        "--resume",
        "--dry_run",
        "--debug",
        "--help",
        "--version",
    }
    assert set(lines) == commands | {f"--{name}" for name in Config.model_fields}
    for name, field in Config.model_fields.items():
        assert field.description in lines[f"--{name}"]
    assert all(len(line.split()) > 2 for line in lines.values())
    assert lines["--image_size"].endswith("[512]") and lines["--bounds"].endswith("[true]")
    assert lines["--content_layers"].endswith("[block4_conv2]")


def test_the_help_has_the_settings_of_each_section_under_its_heading():
    blocks = [block.splitlines() for block in flags.help_text().split("\n\n")[1:]]
    names = {heading: [line.split()[0][2:] for line in lines] for heading, *lines in blocks}
    assert names.pop("Command")[0] == "config"
    assert names == {
        heading: [name for name in Config.model_fields if section_of(name).heading == heading]
        for heading in names
    }
    assert names["Output image"] == ["output_image", "bit_depth", "quality", "color_profile"]
    assert next(iter(names)) == "Input images" and names["Input images"][0] == "content_image"
    assert list(names)[-1] == "Preset and version"


def test_the_defaults_in_the_help_are_values_of_their_flags():
    lines = [line for line in flags.help_text().splitlines() if line.startswith("  --")]
    shown = [f"{line.split()[0]}={line.split()[-1][1:-1]}" for line in lines if line[-1] == "]"]
    assert "--style_weight=100000.0" in shown
    assert config(*shown) == config()


def test_switches_belong_to_the_command():
    command = flags.parse([*FILES, "--overwrite", "--dry_run", "--debug"])
    assert (command.overwrite, command.dry_run, command.answer) == (True, True, "")
    plain = flags.parse(FILES)
    assert (plain.overwrite, plain.dry_run) == (False, False)
    assert flags.parse(["--version"]).answer == f"nst_tf {nst_tf.__version__}\n"


@pytest.mark.parametrize("flag", ["--nobounds", "--bounds=false", "--bounds=False", "--bounds=0"])
def test_switch_off(flag):
    assert config(flag).bounds is False
    assert config(flag, "--bounds").bounds is True


def test_the_flags_of_image_lists_may_be_repeated():
    got = config("--style_image=a,b.jpg", "--style_blend_weights=0.25,0.75")
    assert got.style_image == (Path.cwd() / "s.jpg", Path.cwd() / "a,b.jpg")
    assert got.style_blend_weights == (0.25, 0.75)
    masks = config("--content_masks=a.png", "--content_masks=b.png",
                   "--style_masks=c.png", "--style_masks=d.png")  # fmt: skip
    assert masks.content_masks == (Path.cwd() / "a.png", Path.cwd() / "b.png")
    assert masks.style_masks == (Path.cwd() / "c.png", Path.cwd() / "d.png")


@pytest.mark.parametrize("name", [name for name in Config.model_fields if "_" in name])
def test_dashes_in_a_flag_are_answered_with_the_right_spelling(name):
    assert f"did you mean '--{name}'?" in refusal(f"--{name.replace('_', '-')}=1")


@pytest.mark.parametrize("flag", ["--style_wieght=3", "--style-weight=3", "-style_weihgt=3"])
def test_unknown_flag_is_refused_with_the_nearest(flag):
    text = refusal(*FILES, flag)
    assert text.startswith(f"unknown flag --{flag.lstrip('-').partition('=')[0]}:")
    assert text.endswith("did you mean '--style_weight'?")


def test_flag_far_from_all_is_refused_with_all():
    assert "known are --config, " in refusal("--zzz")


def test_flags_cannot_be_read_from_a_file(tmp_path):
    (tmp_path / "flags").write_text("--seed=5\n")
    assert "unknown flag --flagfile" in refusal(*FILES, f"--flagfile={tmp_path / 'flags'}")


@pytest.mark.parametrize("argument", ["x.yaml", "-", "--=3"])
def test_positional_argument_is_refused(argument):
    assert f"unexpected argument '{argument}'" in refusal(argument, *FILES)
    assert f"unexpected argument '{argument}'" in refusal(*FILES, "--", argument)


@pytest.mark.parametrize(
    ("flag", "reason"),
    [
        ("--bounds=maybe", "Non-boolean argument"),
        ("--nobounds=3", "does not take an argument"),
        ("--seed", "Missing value for flag --seed"),
        ("--seed=", "seed cannot be None (--seed)"),
        ("--seed=true", "seed cannot be True (--seed): it should be a valid integer"),
        ("--seed=010", "seed cannot be '010' (--seed)"),
        ("--seed= 5", "seed cannot be ' 5' (--seed)"),
        ("--style_weight=nan", "style_weight cannot be 'nan' (--style_weight)"),
        ("--style_weight=.nan", "finite"),
        ("--output_image=", "a path is not empty"),
        ("--style_image=", "style_image.1 cannot be '' (--style_image)"),
        ("--style_layers=relu4_2", "did you mean 'block4_conv2'?"),
        ("--style_layers=block1_conv1:x", "style_layers.block1_conv1 cannot be 'x'"),
        ("--config=none.yaml", "(none.yaml): no such file"),
        ("--pooling=caf\udce9", "pooling cannot be 'caf\\udce9' (--pooling)"),
    ],
)
def test_wrong_value_is_refused_with_its_flag(flag, reason):
    assert reason in refusal(*FILES, flag)


def test_images_are_required():
    assert "give --content_image=FILE" in refusal("--style_image=s.jpg")
    assert "give --style_image=FILE" in refusal("--content_image=c.jpg")
    assert "content_image is missing" in refusal()


def test_flags_of_one_call_do_not_reach_the_next():
    assert config("--seed=5").seed == 5
    assert config().seed == 0


def test_an_image_is_made_again_with_its_settings_and_flags_on_top(tmp_path):
    made = Config(
        content_image=tmp_path / "a" / "c.jpg", style_image=[tmp_path / "s.jpg"],
        output_image=tmp_path / "b" / "o.png", style_layers="block1_conv1:2,block4_conv2",
        layer_styles="block1_conv1:1", init=str(tmp_path / "i.png"), style_weight=3e4,
        preset="fine",
    )  # fmt: skip
    (tmp_path / "b").mkdir()
    settings = json.dumps({"nst_tf": "0", **portable(made)})
    pixels = np.zeros((4, 5, 3), np.uint8)
    made.output_image.write_bytes(images.encode(pixels, ".png", settings))
    again = flags.parse([f"--rerun={made.output_image}"]).config
    assert portable(again) == portable(made)
    changed = flags.parse(["--rerun", str(made.output_image), "--seed=9", "--init=noise"]).config
    expected = made.replace(seed=9, init="noise")
    assert portable(changed) == portable(expected)


def test_an_image_without_settings_cannot_be_made_again(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "x.png")
    for name in ("x.png", "missing.png"):
        message = refusal(f"--rerun={tmp_path / name}")
        assert "there are no settings to recall" in message
    assert "do not go together" in refusal("--rerun=a.png", "--config=b.yaml")

"""The command line: flags, precedence, and refusals of wrong ones."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import nst_tf
from nst_tf.cli import flags
from nst_tf.cli.batch_flags import BATCH_FLAGS
from nst_tf.config.fields import FrozenDict
from nst_tf.config.files import load_config, portable, to_yaml
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
    "style_image": ("a.jpg,b.jpg", (Path.cwd() / "a.jpg", Path.cwd() / "b.jpg")),
    "style_blend_weights": ("2e0", (2.0,)),
    "output_image": ("1e5", Path.cwd() / "1e5"),
    "image_size": ("64", 64),
    "print_size": ("16.5x11.7IN", "16.5x11.7in"),
    "dpi": ("150", 150),
    "style_scale": ("2", 2.0),
    "max_pixels": ("1e6", 1_000_000),
    "content_layers": ("block5_conv2:0.5", {"block5_conv2": 0.5}),
    "style_layers": ("block1_conv1,block2_conv1:2", {"block1_conv1": 1.0, "block2_conv1": 2.0}),
    "content_weight": ("0", 0.0),
    "style_weight": ("1e4", 1e4),
    "style_loss": ("moments", "moments"),
    "grain_weight": ("1e1", 10.0),
    "strength": ("1.5", 1.5),
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
    "margin": ("4", 4),
    "weights": ("imagenet", "imagenet"),
    "weights_sha256": ("0" * 64, "0" * 64),
    "seed": ("5", 5),
    "print_iter": ("0", 0),
    "save_iter": ("9", 9),
    "config_version": ("1", 1),
    "content_masks": ("a.png", (Path.cwd() / "a.png",)),
    "style_masks": ("c.png", (Path.cwd() / "c.png",)),
    "layer_styles": ("block1_conv1:1", {"block1_conv1": 1}),
    "tv_exponent": ("1", 1),
    "deterministic": ("true", True),
    "threads": ("3", 3),
    "workers": ("2", 2),
    "cluster": ("tcp://a:8786", "tcp://a:8786"),
    "max_memory": ("4GiB", 2**32),
    "tile_size": ("512", 512),
    "checkpoint_seconds": ("2.5", 2.5),
    "score": ("false", False),
    "keep_state": ("false", False),
    "metadata": ("none", "none"),
    "background": ("black", "black"),
    "max_snapshots": ("7", 7),
    "timelapse": ("t.webp", Path.cwd() / "t.webp"),
    "timelapse_seconds": ("3", 3.0),
    "tensorboard": ("true", True),
}


@pytest.mark.parametrize("name", Config.model_fields)
def test_every_setting_has_a_flag(name):
    text, value = VALUES[name]
    files = [flag for flag in FILES if not flag.startswith(f"--{name}=")]
    files += ["--content_masks=m.png"] if name == "style_masks" else []
    hyphens = name.replace("_", "-")
    for flag in (f"--{name}", f"--{hyphens}", f"-{name}"):
        for given in ([f"{flag}={text}"], [flag, text]):
            got = getattr(flags.parse([*files, *given]).config, name)
            kept = FrozenDict if isinstance(value, dict) else type(value)
            assert got == value and type(got) is kept


def test_every_flag_is_in_the_help_with_its_default():
    answer = flags.parse(["--help"]).answer
    lines = {line.split()[0]: line for line in answer.splitlines() if line.startswith("  --")}
    commands = {
        "--config",
        "--rerun",
        "--each",
        "--overwrite",
        "--resume",
        "--dry_run",
        "--debug",
        "--help",
        "--version",
    }
    settings = {f"--{name}" for name in [*BATCH_FLAGS, *Config.model_fields]}
    assert set(lines) == commands | settings
    for name, field in Config.model_fields.items():
        assert field.description in lines[f"--{name}"]
    assert all(len(line.split()) > 2 for line in lines.values())
    assert lines["--image_size"].endswith("[512]") and lines["--bounds"].endswith("[true]")
    assert lines["--content_layers"].endswith("[block4_conv2]")


def test_the_help_has_the_settings_of_each_section_under_its_heading():
    blocks = [block.splitlines() for block in flags.help_text().split("\n\n")[1:]]
    names = {heading: [line.split()[0][2:] for line in lines] for heading, *lines in blocks}
    assert names.pop("Command")[0] == "config"
    assert names.pop("Several images") == list(BATCH_FLAGS)
    assert names == {
        heading: [name for name in Config.model_fields if section_of(name).heading == heading]
        for heading in names
    }
    assert names["Output image"] == [
        "output_image",
        "bit_depth",
        "quality",
        "color_profile",
        "metadata",
    ]
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


@pytest.mark.parametrize(
    "flag",
    ["--nobounds", "--no-bounds", "--no_bounds", "--bounds=false", "--bounds=False", "--bounds=0",
     "--bounds false"],
)  # fmt: skip
def test_switch_off(flag):
    assert config(*flag.split()).bounds is False
    assert config("--bounds").bounds is config("--bounds", "true").bounds is True


def test_the_flags_of_image_lists_may_be_repeated():
    got = config("--style_image=a.jpg", "--style_blend_weights=0.25,0.75")
    assert got.style_image == (Path.cwd() / "s.jpg", Path.cwd() / "a.jpg")
    assert got.style_blend_weights == (0.25, 0.75)
    masks = config("--content_masks=a.png", "--content_masks=b.png",
                   "--style_masks=c.png", "--style_masks=d.png")  # fmt: skip
    assert masks.content_masks == (Path.cwd() / "a.png", Path.cwd() / "b.png")
    assert masks.style_masks == (Path.cwd() / "c.png", Path.cwd() / "d.png")


@pytest.mark.parametrize("flag", ["--style_wieght=3", "--style-wieght=3", "-style_weihgt=3"])
def test_unknown_flag_is_refused_with_the_nearest(flag):
    text = refusal(*FILES, flag)
    assert text.startswith(f"unknown flag {flag.partition('=')[0]}:")
    assert text.endswith("did you mean '--style_weight'?")


def test_flag_far_from_all_is_refused_with_all():
    assert "known are --config, " in refusal("--zzz")


def test_flags_cannot_be_read_from_a_file(tmp_path):
    (tmp_path / "flags").write_text("--seed=5\n")
    assert "unknown flag --flagfile" in refusal(*FILES, f"--flagfile={tmp_path / 'flags'}")


@pytest.mark.parametrize(
    ("flag", "reason"),
    [
        ("--bounds=maybe", "Non-boolean argument"),
        ("--nobounds=3", "does not take an argument"),
        ("--seed", "no value for flag --seed"),
        ("--seed=", "seed cannot be None (--seed)"),
        ("--seed=true", "seed cannot be True (--seed): it should be a valid integer"),
        ("--seed=010", "seed cannot be '010' (--seed)"),
        ("--seed= 5", "seed cannot be ' 5' (--seed)"),
        ("--style_weight=nan", "style_weight cannot be 'nan' (--style_weight)"),
        ("--style_weight=.nan", "finite"),
        ("--output_image=", "a path is not empty"),
        ("--style_image=", "style_image.1 cannot be '' (--style_image)"),
        ("--style_layers=relu6_1", "unknown layer 'block6_conv1'; did you mean 'block"),
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


# The short form, and other programs' spellings


def styles(*argv: str) -> list[str]:
    return [path.name for path in flags.parse(argv).config.style_image]


def test_CMD_01_images_without_flags_are_the_content_and_the_styles(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    got = flags.parse(["c.jpg", "s.jpg", "t.jpg", "-o", "out.webp", "--image-size", "64"]).config
    assert got.content_image == tmp_path / "c.jpg"
    assert got.style_image == (tmp_path / "s.jpg", tmp_path / "t.jpg")
    assert (got.output_image, got.image_size) == (tmp_path / "out.webp", 64)
    assert flags.parse(["-o=x.png", "c.jpg", "s.jpg"]).config.output_image == tmp_path / "x.png"
    assert styles("c.jpg", "--seed=3", "s.jpg", "--style_image=t.jpg") == ["s.jpg", "t.jpg"]
    assert styles("--", "-c.jpg", "-s.jpg") == ["-s.jpg"]
    assert flags.parse(["-h"]).answer == flags.help_text()
    assert flags.help_text().startswith("usage: nst-tf CONTENT STYLE [STYLE ...] [-o OUT] ")


def test_CMD_01_a_file_of_settings_keeps_what_no_word_replaces(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.yaml").write_text("content_image: c.jpg\nstyle_image: s.jpg\nseed: 4\n")
    got = flags.parse(["--config=x.yaml", "d.jpg"]).config
    assert (got.content_image.name, got.style_image[0].name, got.seed) == ("d.jpg", "s.jpg", 4)
    assert styles("--config=x.yaml", "d.jpg", "t.jpg") == ["t.jpg"]


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (["x.yaml"], "unexpected argument 'x.yaml': a file of settings has a flag; "
         "write --config=x.yaml"),
        (["-", *FILES], "unexpected argument '-': it is no file"),
        (["--=3", *FILES], "unexpected argument '--=3'"),
        (["c.jpg", "s.jpg", "image_size=64"], "a setting begins with two dashes; "
         "did you mean '--image_size'?"),
        (["c.jpg"], "give --style_image=FILE"),
        (["d.jpg", *FILES], "unexpected argument 'd.jpg': the content image is given by its flag"),
        (["c.jpg", "s.jpg", "-o"], "no value for flag -o"),
        (["c.jpg", "s.jpg", "-o", "--seed=3"], "no value for flag -o"),
    ],
)  # fmt: skip
def test_CMD_02_words_that_are_no_images_are_refused(argv, text):
    assert text in refusal(*argv)


def test_CMD_02_words_that_no_file_can_be_named_by_are_refused_as_images(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(b"x")
    long = "x" * 300
    assert f"unexpected argument '{long}'" in refusal("a.jpg", "b.jpg", long)
    assert styles("a.jpg", f"{long}=1") == [f"{long}=1"]


def test_CMD_02_an_output_without_its_flag_is_not_taken_as_a_style(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("c.jpg", "s.jpg"):
        (tmp_path / name).write_text("")
    text = refusal("c.jpg", "s.jpg", "out.png")
    assert "unexpected argument 'out.png': no such file" in text and "write -o out.png if" in text
    assert styles("c.jpg", "s.jpg", "t.jpg", "-o", "out.png") == ["s.jpg", "t.jpg"]


def test_CMD_03_lists_of_files_have_commas_and_repeated_flags_add_up(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    content = "--content_image=c.jpg"
    assert styles(content, "--style_image=a.jpg,b.jpg") == ["a.jpg", "b.jpg"]
    assert styles(content, "--style_image=a.jpg, b.jpg", "--style-image=d.jpg") == [
        "a.jpg", "b.jpg", "d.jpg",
    ]  # fmt: skip
    assert styles("c.jpg", "a.jpg,b.jpg") == ["a.jpg", "b.jpg"]
    masks = flags.parse([*FILES, "--content_masks=a.png,b.png", "--style_masks", "d.png,e.png"])
    assert [path.name for path in masks.config.style_masks] == ["d.png", "e.png"]


def test_CMD_03_a_file_whose_name_contains_a_comma_is_itself(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a,b.jpg", "x,,y, z.jpg"):
        (tmp_path / name).write_text("")
    content = "--content_image=c.jpg"
    assert styles(content, "--style_image=a,b.jpg") == ["a,b.jpg"]
    assert styles(content, "--style_image=q.jpg,a,b.jpg,x,,y, z.jpg,r.jpg") == [
        "q.jpg", "a,b.jpg", "x,,y, z.jpg", "r.jpg",
    ]  # fmt: skip
    assert styles("c.jpg", "a,b.jpg", "d.jpg") == ["a,b.jpg", "d.jpg"]
    config = flags.parse([content, "--style_image=a,b.jpg"]).config
    (tmp_path / "x.yaml").write_text(to_yaml(config))
    assert load_config(tmp_path / "x.yaml") == config
    assert portable(config)["style_image"] == ["a,b.jpg"]
    assert [path.name for path in Config(style_image="p,q.jpg").style_image] == ["p,q.jpg"]


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (["--seed=3", "--seed=5"], "--seed has one value: it is given twice, as 3 and 5; give it"),
        (["--style_layers=block1_conv1", "--style-layers=block2_conv1"], "given twice"),
        (["--bounds", "--nobounds"], "given twice, as true and false"),
        (["-o", "a.png", "--output_image=b.png"], "--output_image has one value"),
        (["--config=a.yaml", "--config=b.yaml"], "--config has one value"),
    ],
)  # fmt: skip
def test_CMD_04_a_flag_of_one_value_given_two_is_refused(argv, text):
    assert text in refusal(*FILES, *argv)


def test_CMD_04_the_same_value_twice_is_that_value():
    assert config("--seed=3", "--seed=3", "--resume", "--resume").seed == 3


def test_CMD_05_the_flags_of_neural_style_are_understood():
    got = flags.parse(
        ["-content_image", "c.jpg", "-style_image", "s.jpg,t.jpg", "-style_blend_weights", "3,7",
         "-num_iterations", "500", "-optimizer", "adam", "-init", "random", "-pooling", "avg",
         "-content_layers", "relu4_2", "-style_layers", "relu1_1,conv2_1:2,relu3_1",
         "-original_colors", "1", "-tv_weight", "1e-3", "-print_iter", "10", "-style_scale", "0.5",
         "-normalize_gradients", "-output_image", "o.png", "-image_size", "256"]
    ).config  # fmt: skip
    assert [path.name for path in got.style_image] == ["s.jpg", "t.jpg"]
    assert (got.style_blend_weights, got.num_iterations) == ((3.0, 7.0), 500)
    assert (got.optimizer, got.init, got.pooling) == ("adam", "noise", "average")
    assert got.content_layers == {"block4_conv2": 1.0}
    assert got.style_layers == {"block1_conv1": 1.0, "block2_conv1": 2.0, "block3_conv1": 1.0}
    assert (got.original_colors, got.normalize_gradients) == ("luminance", True)
    assert config("--init=image").init == "content"
    assert config("--init=./image").init == str(Path.cwd() / "image")
    assert config("--original_colors=0").original_colors == "none"


def test_CMD_05_a_layer_in_two_spellings_is_named_twice(tmp_path):
    for layers in ("relu4_2,block4_conv2", {"conv4_2": 1, "block4_conv2": 2}):
        with pytest.raises(InputError, match="a layer is named twice"):
            Config(style_layers=layers)
    got = Config(layer_styles="relu1_1:2", style_image=["a", "b"]).layer_styles
    assert got == {"block1_conv1": 2}


@pytest.mark.parametrize(
    ("flag", "text"),
    [
        ("-gpu", "unknown flag -gpu: nst_tf has no such setting; TensorFlow uses a graphics card"),
        ("-backend", "everything is computed by TensorFlow"),
        ("-model_file", "--weights=FILE"),
        ("--init-image", "write --init=FILE"),
        ("-lbfgs_num_correction", "lbfgs keeps"),
        ("--learning-rate=3", "unknown flag --learning-rate"),
    ],
)
def test_CMD_06_what_only_other_programs_have_says_what_replaces_it(flag, text):
    assert text in refusal(flag, "0", *FILES)


@pytest.mark.parametrize(
    ("flag", "name"),
    [
        ("--content", "content_image"), ("--size", "image_size"), ("--style", "style_image"),
        ("--iterations", "num_iterations"), ("--output", "output_image"), ("--dry", "dry_run"),
        ("--iter", "num_iterations"), ("--max-size", "image_size"), ("--steps", "num_iterations"),
        ("--masks", "content_masks"), ("--colors", "original_colors"), ("--width", "image_size"),
    ],
)  # fmt: skip
def test_CMD_07_a_part_of_a_name_finds_it(flag, name):
    assert refusal(flag, "x", *FILES).endswith(f"did you mean '--{name}'?")


def test_CMD_08_the_home_folder_is_expanded_in_flags(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    got = flags.parse(["~/c.jpg", "~/a.jpg,~/b.jpg", "--output-image=~/o.png", "--init=~/i.png",
                       "--weights=~/w.npz"]).config  # fmt: skip
    assert got.content_image == tmp_path / "c.jpg"
    assert got.style_image == (tmp_path / "a.jpg", tmp_path / "b.jpg")
    assert (got.output_image, got.init) == (tmp_path / "o.png", str(tmp_path / "i.png"))
    assert got.weights == str(tmp_path / "w.npz")
    (tmp_path / "x.yaml").write_text("content_image: '~/c.jpg'\nstyle_image: s.jpg\n")
    literal = flags.parse(["--config=~/x.yaml"]).config
    assert literal.content_image == tmp_path / "~" / "c.jpg"
    assert Config(content_image="~/c.jpg").content_image == Path.cwd() / "~" / "c.jpg"
    assert "no settings to recall" in refusal("--rerun=~nobody-of-this-name/x.png")


# Presets count with whoever gave them


def rerun(tmp_path: Path, made: Config, *argv: str) -> Config:
    settings = json.dumps({"nst_tf": "0", **portable(made)})
    path = made.output_image
    path.write_bytes(images.encode(np.zeros((4, 5, 3), np.uint8), ".png", settings))
    return flags.parse([f"--rerun={path}", *argv]).config


def plan_of(config: Config) -> tuple[str, str, int]:
    return config.preset, config.pyramid, config.num_iterations


@pytest.mark.parametrize(
    ("recorded", "argv", "expected"),
    [
        ({}, ["--preset=fine"], ("fine", "auto", 200)),
        ({"preset": "draft"}, ["--preset=fine"], ("fine", "auto", 200)),
        ({"preset": "draft"}, ["--preset=default"], ("default", "auto", 40)),
        ({"num_iterations": 33, "pyramid": "128:5"}, ["--preset=draft"], ("draft", "none", 9)),
        ({}, ["--preset=draft", "--num_iterations=15"], ("draft", "none", 15)),
        ({"preset": "fine"}, ["--pyramid=none"], ("fine", "none", 200)),
        ({"preset": "fine", "num_iterations": 7}, [], ("fine", "auto", 7)),
        ({"preset": "fine", "num_iterations": 7}, ["--seed=1"], ("fine", "auto", 7)),
    ],
)
def test_CMD_09_a_preset_in_a_flag_wins_with_all_it_stands_for(tmp_path, recorded, argv, expected):
    made = Config(content_image=tmp_path / "c.jpg", style_image=tmp_path / "s.jpg",
                  output_image=tmp_path / "o.png", **recorded)  # fmt: skip
    assert plan_of(rerun(tmp_path, made, *argv)) == expected
    (tmp_path / "config.yaml").write_text(to_yaml(made))
    assert plan_of(flags.parse([f"--config={tmp_path / 'config.yaml'}", *argv]).config) == expected


def test_CMD_09_a_preset_in_python_wins_likewise(tmp_path):
    (tmp_path / "x.yaml").write_text("preset: fine\nnum_iterations: 9\n")
    assert plan_of(load_config(tmp_path / "x.yaml")) == ("fine", "auto", 9)
    overrides = {"preset": "draft"}
    assert plan_of(load_config(tmp_path / "x.yaml", overrides)) == ("draft", "none", 9)
    overrides = {"num_iterations": 8}
    assert plan_of(load_config(tmp_path / "x.yaml", overrides)) == ("fine", "auto", 8)
    config = Config(preset="draft", seed=3)
    assert plan_of(config.replace(preset="fine")) == ("fine", "auto", 200)
    assert plan_of(config.replace(preset="fine", num_iterations=5)) == ("fine", "auto", 5)
    assert plan_of(config.replace(seed=5)) == ("draft", "none", 9)
    with pytest.raises(InputError, match="preset cannot be 'quick'"):
        config.replace(preset="quick")


@pytest.mark.parametrize(
    ("argv", "name", "expected"),
    [
        (["--style_weight=1e6", "--sweep=strength=0.5,1"], "style_weight", [1e6, 1e6]),
        (["--style_weight=1e6", "--sweep=strength=0.5,1"], "style_strength",
         [pytest.approx(0.2375), 0.65]),
        (["--num_iterations=5", "--sweep=preset=draft,fine"], "num_iterations", [5, 5]),
        (["--num_iterations=5", "--sweep=preset=draft,fine"], "pyramid", ["none", "auto"]),
        (["--num_iterations=5", "--sweep=preset=draft,fine", "--sweep=num_iterations=6,7"],
         "num_iterations", [6, 7, 6, 7]),
        (["--strength=0.5", "--sweep=style_weight=1,2"], "style_weight", [1, 2]),
        (["--style_weight=1e6", "--sweep=strength=1.5", "--sweep=style_weight=7"],
         "style_weight", [7]),
        (["--image_size=64", "--sweep=print_size=42cm"], "image_size", ["print"]),
        (["--sweep=strength=0.5,1"], "style_weight", [12500, 1e5]),
    ],
)  # fmt: skip
def test_CMD_09_a_sweep_counts_as_a_flag(tmp_path, argv, name, expected):
    (tmp_path / "x.yaml").write_text("style_weight: 3.0\nnum_iterations: 9\n")
    for more in ([], [f"--config={tmp_path / 'x.yaml'}"]):
        batch = flags.parse([*FILES, *argv, *more]).batch
        assert [getattr(picture.config, name) for picture in batch.pictures] == expected


def test_CMD_10_image_size_may_be_that_of_the_content():
    got = config("--image_size=content")
    assert got.image_size == "content"
    assert got.longer_side((30, 70)) == 70 and config().longer_side((30, 70)) == 512
    assert "image_size: content\n" in to_yaml(got)
    assert portable(got)["image_size"] == got.model_dump()["image_size"] == "content"
    text = refusal(*FILES, "--image_size=contents")
    assert "image_size cannot be 'contents' (--image_size)" in text and "or content for" in text

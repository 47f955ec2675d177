"""Settings: refusals of wrong values, meanings of right ones, and the models that hold them."""

import copy
import inspect
import json
import os
import pickle
import pydoc
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pydantic import BaseModel, ValidationError

import nst_tf
from nst_tf.config.fields import FrozenDict, coarse_levels, default_of
from nst_tf.config.files import (
    given_settings,
    load_config,
    portable,
    settings_affecting_result,
    to_yaml,
)
from nst_tf.config.schema import (
    Config,
    InitialSettings,
    InputSettings,
    LossSettings,
    MultiscaleSettings,
    NetworkSettings,
    OptimizerSettings,
    OutputSettings,
    ReportingSettings,
    RuntimeSettings,
    metadata,
    require_files,
    section_of,
)
from nst_tf.errors import InputError
from nst_tf.io import images
from nst_tf.models.layers import LAYERS

PACKAGE = Path(nst_tf.__file__).parent


def write(folder: Path, content: str | bytes, name: str = "x.yaml") -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def refusal(path: Path | str, **overrides: object) -> str:
    with pytest.raises(InputError) as caught:
        load_config(path, overrides)
    return one_line(caught.value)


def refusal_of(**settings: object) -> str:
    with pytest.raises(InputError) as caught:
        Config(**settings)
    return one_line(caught.value)


def one_line(error: InputError) -> str:
    text = str(error)
    assert text.isascii() and text.isprintable()
    assert error.exit_code == 2
    return text


def python(code: str, *arguments: object, **options: object) -> str:
    """Runs code in a new interpreter, which a hanging read cannot take down with it."""
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(PACKAGE.parent), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        **options,
    )
    return done.stdout + done.stderr


AS_NOBODY = """
import os
import nst_tf.config
try:
    os.setuid(65534)
except PermissionError:
    raise SystemExit("cannot become nobody")
"""
LOAD = """
import sys
from nst_tf.config import load_config
from nst_tf.errors import InputError
try:
    load_config(sys.argv[1])
except InputError as error:
    print("refused:", error)
"""


# --- the file ---------------------------------------------------------------------------------


def test_CFG_01_missing_file_is_refused(tmp_path):
    text = refusal(tmp_path / "none.yaml")
    assert f"({tmp_path / 'none.yaml'}): no such file" in text


def test_CFG_01_folder_is_refused(tmp_path):
    assert "it is a directory" in refusal(tmp_path)


def test_CFG_01_unreadable_file_is_refused(tmp_path):
    path = write(tmp_path, "seed: 1\n")
    path.chmod(0)
    if os.geteuid() != 0:
        assert "no permission to read it" in refusal(path)
        return
    # Root reads everything, so the check is made as somebody else.
    tmp_path.chmod(0o755)
    text = python(AS_NOBODY + LOAD, path.name, cwd=tmp_path)
    if "cannot become nobody" in text:
        pytest.skip("this root may not become another user")
    assert "refused: cannot read the configuration (x.yaml): no permission to read it" in text


@pytest.mark.parametrize("content", ["\n\n", "# only\n# comments\n", "---\n...\n"])
def test_CFG_02_empty_config_is_refused(tmp_path, content):
    assert "the configuration is empty" in refusal(write(tmp_path, content))


def test_CFG_02_file_of_no_bytes_is_refused(tmp_path):
    assert "the file is empty" in refusal(write(tmp_path, ""))


@pytest.mark.parametrize("content", ["- a\n- b\n", "hello\n", "3\n", "''\n"])
def test_CFG_03_config_that_is_no_mapping_is_refused(tmp_path, content):
    assert "line 1): it must be a mapping" in refusal(write(tmp_path, content))


def test_CFG_04_second_document_is_refused(tmp_path):
    text = refusal(write(tmp_path, "seed: 1\n---\nseed: 2\n"))
    assert "line 2): but found another document" in text


def test_CFG_05_unknown_key_is_refused_with_its_line_and_the_nearest(tmp_path):
    path = write(tmp_path, "# a\nseed: 1\nitertions: 5\n")
    text = refusal(path)
    assert f"unknown key 'itertions' ({path}, line 3)" in text
    assert text.endswith("did you mean 'num_iterations'?")


def test_CFG_06_duplicate_key_is_refused_with_both_lines(tmp_path):
    text = refusal(write(tmp_path, "seed: 1\ntv_weight: 0\nseed: 1\n"))
    assert "line 3): 'seed' is set twice, first on line 1" in text


def test_CFG_06_duplicate_layer_is_refused(tmp_path):
    content = "style_layers:\n  block1_conv1: 1\n  block1_conv1: 2\n"
    assert "line 3): 'block1_conv1' is set twice, first on line 2" in refusal(
        write(tmp_path, content)
    )
    assert "a layer is named twice" in refusal_of(style_layers="block1_conv1,block1_conv1:2")


@pytest.mark.parametrize("key", ["1", "true", "null", "1.5", "[a]", "{a: b}", "? "])
def test_CFG_07_key_that_is_no_text_is_refused(tmp_path, key):
    text = refusal(write(tmp_path, f"seed: 1\n{key}: 2\n" if key != "? " else "seed: 1\n? \n: 2\n"))
    assert "line 2): " in text and "is not text" in text


@pytest.mark.parametrize(
    ("written", "value"),
    [("1e5", 1e5), ("1e-3", 1e-3), ("1E+2", 100.0), (".5", 0.5), ("3.", 3.0), ("7", 7.0)],
)
def test_CFG_08_scientific_notation_is_a_number(tmp_path, written, value):
    config = load_config(write(tmp_path, f"style_weight: {written}\n"))
    assert config.style_weight == value and type(config.style_weight) is float


@pytest.mark.parametrize("value", [".nan", ".NaN", ".inf", "-.inf", "1e999"])
def test_CFG_09_value_that_is_not_finite_is_refused(tmp_path, value):
    text = refusal(write(tmp_path, f"style_weight: {value}\n"))
    assert "style_weight cannot be" in text and "finite" in text and "line 1)" in text


def test_CFG_09_value_that_is_not_finite_is_refused_within_layers_and_scales():
    assert "finite" in refusal_of(style_layers={"block1_conv1": float("nan")})
    assert "finite" in refusal_of(style_scale=float("inf"))


@pytest.mark.parametrize(
    ("line", "allowed"),
    [
        ("style_weight: -1", "0 or from 1e-12 to 1e12"),
        ("tv_weight: -1e-3", "0 or from 1e-12 to 1e12"),
        ("num_iterations: -1", "0 to 1000000"),
        ("image_size: 0", "1 to 32768"),
        ("image_size: 32769", "1 to 32768"),
        ("style_scale: 0.04", "0.05 to 20"),
        ("style_scale: 21", "0.05 to 20"),
        ("max_pixels: 0", "1 to 1073741824"),
        ("seed: -1", "0 to 4294967295"),
        ("seed: 4294967296", "0 to 4294967295"),
        ("print_iter: -1", "greater than or equal to 0"),
        ("save_iter: -1", "greater than or equal to 0"),
        ("content_layers: {block4_conv2: -1}", "0 or from 1e-12 to 1e12"),
        ("style_blend_weights: [-1, 2]", "0 or from 1e-12 to 1e12"),
        ("pooling: sum", "'max' or 'average'"),
        ("optimizer: sgd", "'lbfgs', 'l-bfgs-b', 'bfgs' or 'adam'"),
        ("weights_sha256: abc", "64 hex digits"),
    ],
)
def test_CFG_10_value_out_of_range_is_refused_with_the_range(tmp_path, line, allowed):
    text = refusal(write(tmp_path, f"# first\n{line}\n"))
    assert text.startswith(line.partition(":")[0]) and "line 2)" in text and allowed in text


def test_CFG_10_ends_of_the_ranges_are_accepted():
    low = Config(image_size=1, num_iterations=0, style_scale=0.05, seed=0, tv_weight=1e-12)
    high = Config(image_size=32768, num_iterations=1_000_000, style_scale=20, seed=2**32 - 1)
    assert (low.num_iterations, high.seed) == (0, 4294967295)
    assert Config(weights_sha256="AB" * 32).weights_sha256 == "ab" * 32


def test_CFG_11_nothing_to_minimise_is_refused(tmp_path):
    content = "content_weight: 0\nstyle_weight: 0\ntv_weight: 0\n"
    text = refusal(write(tmp_path, content))
    assert "content_weight, style_weight, tv_weight are all 0" in text and "line 1)" in text


@pytest.mark.parametrize("term", ["content", "style"])
@pytest.mark.parametrize("layers", ["", [], {}, {"block4_conv2": 0}, "block1_conv1:0"])
def test_CFG_11_layers_that_sum_to_0_are_refused_unless_unused(term, layers):
    text = refusal_of(**{f"{term}_layers": layers})
    assert f"{term}_layers sum to 0" in text and f"set {term}_weight to 0" in text
    config = Config(**{f"{term}_layers": layers, f"{term}_weight": 0})
    assert not any(getattr(config, f"{term}_layers").values())


def test_CFG_11_blend_weights_fit_the_style_images():
    assert "sum 0" in refusal_of(style_blend_weights=[0, 0])
    assert "3 weights" in refusal_of(style_image=["a", "b"], style_blend_weights=[1, 1, 1])
    blend = Config(style_image=["a", "b"], style_blend_weights=[0, 3]).style_blend_weights
    assert blend == (0.0, 3.0)
    assert Config(style_blend_weights="0.25, 1e1").style_blend_weights == (0.25, 10.0)


@pytest.mark.parametrize("weight", [1e300, 1e-300, 1.1e12, 0.9e-12])
@pytest.mark.parametrize("name", ["content_weight", "style_weight", "tv_weight"])
def test_CFG_12_extreme_weight_is_refused(name, weight):
    assert "1e-12 to 1e12" in refusal_of(**{name: weight})


def test_CFG_12_extreme_layer_weight_is_refused():
    assert "style_layers.block1_conv1" in refusal_of(style_layers={"block1_conv1": 1e300})


@pytest.mark.parametrize("name", ["num_iterations", "image_size", "style_weight", "style_scale"])
@pytest.mark.parametrize("value", ["true", "True", "yes", "no"])
def test_CFG_13_truth_value_is_no_number(tmp_path, name, value):
    text = refusal(write(tmp_path, f"{name}: {value}\n"))
    assert f"{name} cannot be" in text and "it should be a valid" in text


def test_CFG_13_number_is_no_truth_value(tmp_path):
    assert "valid boolean" in refusal(write(tmp_path, "bounds: 1\n"))
    assert load_config(write(tmp_path, "bounds: false\n")).bounds is False


@pytest.mark.parametrize(
    ("written", "remedy"), [("010", "write 10"), ("1_000", "write 1000"), ("'10'", "write 10")]
)
@pytest.mark.parametrize("name", ["num_iterations", "style_weight"])
def test_CFG_14_surprising_number_is_refused_with_the_plain_one(tmp_path, name, written, remedy):
    assert f"{remedy};" in refusal(write(tmp_path, f"{name}: {written}\n"))


@pytest.mark.parametrize("written", ["0o17", "0x1F", "0b11", "1:30", "1,000", "08.5"])
def test_CFG_14_octal_hexadecimal_and_sexagesimal_are_no_numbers(tmp_path, written):
    text = refusal(write(tmp_path, f"num_iterations: {written}\n"))
    assert f"num_iterations cannot be '{written}'" in text


@pytest.mark.parametrize("name", ["NO", "off", "2001-02-03", "1:30", "0o17", "y"])
def test_CFG_15_word_stays_text(tmp_path, name):
    assert load_config(write(tmp_path, f"output_image: {name}\n")).output_image == tmp_path / name


def test_CFG_15_number_for_a_path_is_refused_and_quoted_accepted(tmp_path):
    assert "in quotes where it looks like a number" in refusal(
        write(tmp_path, "content_image: 2020\n")
    )
    config = load_config(write(tmp_path, "content_image: '2020'\n"))
    assert config.content_image == tmp_path / "2020"


def test_CFG_16_name_cut_by_a_comment_shows_in_the_resolved_config(tmp_path):
    resolved = to_yaml(load_config(write(tmp_path, "output_image: a #b.png\n")))
    assert f"output_image: {tmp_path / 'a'}\n" in resolved


def test_CFG_17_one_value_is_a_list_of_one(tmp_path):
    content = "style_layers: block1_conv1\nstyle_image: a.jpg\nstyle_blend_weights: 2\n"
    config = load_config(write(tmp_path, content))
    assert config.style_layers == {"block1_conv1": 1.0}
    assert config.style_image == (tmp_path / "a.jpg",)
    assert config.style_blend_weights == (2.0,)


@pytest.mark.parametrize(
    "value",
    [
        "block4_conv1:0.5, block1_conv1",
        ["block1_conv1", "block4_conv1:0.5"],
        ("block4_conv1:0.5", "block1_conv1"),
        {"block4_conv1": 0.5, "block1_conv1": 1},
    ],
)
def test_layers_have_three_spellings_and_the_order_of_the_network(value):
    layers = Config(style_layers=value).style_layers
    assert list(layers.items()) == [("block1_conv1", 1.0), ("block4_conv1", 0.5)]


@pytest.mark.parametrize(
    ("name", "keras"),
    [
        ("block3_cnov1", "block3_conv1"),
        ("blok5_conv2", "block5_conv2"),
        ("block4", "block4_conv1"),
    ],
)
def test_CFG_18_unknown_layer_is_refused_with_the_16_names(tmp_path, name, keras):
    text = refusal(write(tmp_path, f"seed: 0\nstyle_layers: [{name}]\n"))
    assert f"unknown layer '{name}'; did you mean '{keras}'?" in text and "line 2)" in text
    assert all(layer in text for layer in LAYERS)


def test_the_layers_are_those_of_vgg19():
    # Simonyan and Zisserman 2014, table 1, column E: 2, 2, 4, 4, 4 convolutions.
    assert len(LAYERS) == 16
    assert list(LAYERS)[:3] == ["block1_conv1", "block1_conv2", "block2_conv1"]
    assert list(LAYERS.values()) == [64] * 2 + [128] * 2 + [256] * 4 + [512] * 8


def test_CFG_19_whole_float_is_an_integer_and_a_fraction_is_not(tmp_path):
    config = load_config(write(tmp_path, "num_iterations: 10.0\nimage_size: 1e2\n"))
    assert (config.num_iterations, config.image_size) == (10, 100)
    assert type(config.num_iterations) is int
    text = refusal(write(tmp_path, "num_iterations: 10.5\n"))
    assert "num_iterations cannot be 10.5" in text and "valid integer" in text


def test_CFG_20_integer_of_5000_digits_is_refused(tmp_path):
    for name in ("num_iterations", "style_weight"):
        text = refusal(write(tmp_path, f"{name}: {'9' * 5000}\n"))
        assert f"{name} cannot be" in text and len(text) < 400
        assert f"{name} cannot be this int" in refusal_of(**{name: 10**5000})


@pytest.mark.parametrize(
    "value", ['!!int ""', '!!float ""', "!!bool maybe", "!!timestamp x", "!!timestamp 2001-99-99"]
)
def test_CFG_21_tagged_value_that_breaks_parsers_is_refused(tmp_path, value):
    assert "line 2): tags (!) are not allowed" in refusal(
        write(tmp_path, f"seed: 1\ntv_weight: {value}\n")
    )


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ("{a: ", "}")])
def test_CFG_22_deep_nesting_is_refused(tmp_path, opening, closing):
    for depth in (20, 1000, 10_000):
        path = write(tmp_path, f"seed: {opening * depth}{closing * depth}\n")
        assert "deeper than 20 levels" in refusal(path)
    assert "valid integer" in refusal(write(tmp_path, f"seed: {'[' * 19}{']' * 19}\n"))


@pytest.mark.parametrize(
    "tag",
    [
        "!!python/object/apply:os.system ['touch MARKER']",
        "!!python/object/new:os.system ['touch MARKER']",
        "!<tag:yaml.org,2002:python/object/apply:os.system> ['touch MARKER']",
        "!!python/name:os.system",
        "!own 1",
        "! 1",
    ],
)
def test_CFG_23_tag_is_refused_and_its_command_not_run(tmp_path, tag):
    marker = tmp_path / "marker"
    text = refusal(write(tmp_path, f"seed: {tag.replace('MARKER', str(marker))}\n"))
    assert "line 1): tags (!) are not allowed" in text
    assert not marker.exists()


def test_CFG_23_no_source_uses_an_unsafe_loader():
    sources = list(PACKAGE.rglob("*.py"))
    assert PACKAGE / "config" / "yaml.py" in sources
    forbidden = ("yaml.load(", "unsafe_load", 'typ="unsafe"', "typ='unsafe'", "full_load")
    assert not [path for path in sources for word in forbidden if word in path.read_text()]


BILLION_LAUGHS = "a: &a [x, x]\n" + "".join(
    f"{name}: &{name} [*{before}, *{before}]\n"
    for before, name in zip("abcdefghi", "bcdefghij", strict=True)
)


@pytest.mark.parametrize("content", [BILLION_LAUGHS, "seed: &s 3\n", "seed: *s\n"])
def test_CFG_24_anchors_and_aliases_are_refused(tmp_path, content):
    assert "line 1): anchors (&) and aliases (*) are not allowed" in refusal(
        write(tmp_path, content)
    )


def test_CFG_25_list_that_holds_itself_is_refused(tmp_path):
    assert "anchors (&) and aliases (*) are not allowed" in refusal(
        write(tmp_path, "seed: &x [*x]\n")
    )


@pytest.mark.parametrize("content", ["<<: {seed: 1}\n", "style_layers:\n  <<: {}\n"])
def test_CFG_26_merge_key_is_refused(tmp_path, content):
    assert "merge keys (<<) are not allowed" in refusal(write(tmp_path, content))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"seed: 1\nstyle_layers:\n\tblock1_conv1: 1\n", "cannot start any token; indent with sp"),
        (b"seed: 1\n# two\ninit: a\0b\n", "it holds a control character"),
        (b"seed: 1\n# two\ninit: caf\xe9.jpg\n", "it is not utf-8 text"),
        ("seed: 1\n# two\ninit: x".encode("utf-16") + b"\x00", "it is not utf-16 text"),
    ],
)
def test_CFG_27_tab_NUL_and_latin_1_are_refused_with_the_line(tmp_path, content, reason):
    text = refusal(write(tmp_path, content))
    assert "line 3): " in text and reason in text


def test_CFG_27_NUL_in_a_path_is_refused(tmp_path):
    assert "holds no NUL" in refusal(write(tmp_path, 'content_image: "a\\0b"\n'))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("end", ["", "\n"])
def test_CFG_28_29_byte_order_marks_and_line_ends_are_accepted(tmp_path, encoding, newline, end):
    text = newline.join(["seed: 7", "content_image: ü.jpg"]) + end.replace("\n", newline)
    config = load_config(write(tmp_path, text.encode(encoding)))
    assert (config.seed, config.content_image) == (7, tmp_path / "ü.jpg")


@pytest.mark.parametrize("indent", [None, 2, "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_CMD_11_what_json_writes_is_read(tmp_path, indent, encoding):
    settings = {
        "content_image": "\N{ARTIST PALETTE}\u00fc/\N{SNOWMAN}.png",
        "style_image": ["a,b.jpg", "\N{GRINNING FACE}.jpg"],
        "output_image": os.fsdecode(b"caf\xe9.png"),
        "seed": 7,
        "bounds": False,
        "style_layers": {"block1_conv1": 1e-3},
    }
    text = json.dumps(settings, indent=indent).replace("\n", "\r\n").replace("/", "\\/")
    assert "\\ud83c\\udfa8" in text
    config = load_config(write(tmp_path, text.encode(encoding)))
    assert config.content_image == tmp_path / settings["content_image"]
    assert [path.name for path in config.style_image] == settings["style_image"]
    assert config.output_image == tmp_path / settings["output_image"]
    assert (config.seed, config.bounds, config.style_layers) == (7, False, {"block1_conv1": 1e-3})
    assert load_config(write(tmp_path, to_yaml(config), "y.yaml")) == config


def test_CMD_11_mistakes_in_json_are_one_line(tmp_path):
    assert "line 2): 'seed' is set twice" in refusal(write(tmp_path, '{"seed": 1,\n\t"seed": 2}'))
    assert "line 2): " in refusal(write(tmp_path, '{"seed": 1,\n\t"tv_weight": 2'))
    key = '{"\\ud83c\\udfa8": 1}'
    assert "unknown key" in refusal(write(tmp_path, key)) and "line 1)" in refusal(
        tmp_path / "x.yaml"
    )


def test_CFG_30_large_file_is_refused_by_its_size(tmp_path):
    path = write(tmp_path, "")
    os.truncate(path, 1 << 30)
    assert "it has 1073741824 bytes and 65536 are allowed" in refusal(path)
    start = "seed: 5\n#"
    assert load_config(write(tmp_path, start + "x" * (65536 - len(start)))).seed == 5
    assert "65536 are allowed" in refusal(write(tmp_path, start + "x" * (65537 - len(start))))


def test_CFG_30_pipe_is_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    text = python(LOAD, tmp_path / "pipe")
    assert "refused: cannot read the configuration" in text and "not a regular file" in text


def test_CFG_31_paths_are_relative_to_the_file_that_gives_them(tmp_path, monkeypatch):
    (tmp_path / "configs").mkdir()
    (tmp_path / "elsewhere").mkdir()
    content = "content_image: c.jpg\nstyle_image: [s.jpg, /t.jpg]\ninit: i.png\nweights: w.npz\n"
    write(tmp_path / "configs", content)
    monkeypatch.chdir(tmp_path / "elsewhere")
    config = load_config("../configs/x.yaml", {"style_blend_weights": [1, 2]})
    beside = tmp_path / "elsewhere" / ".." / "configs"
    assert config.content_image == beside / "c.jpg"
    assert config.style_image == (beside / "s.jpg", Path("/t.jpg"))
    assert (config.init, config.weights) == (str(beside / "i.png"), str(beside / "w.npz"))
    assert config.output_image == tmp_path / "elsewhere" / "c_s_t.png"
    overridden = load_config("../configs/x.yaml", {"content_image": "d.jpg"})
    assert overridden.content_image == tmp_path / "elsewhere" / "d.jpg"


def test_keywords_of_init_and_weights_are_no_paths():
    config = Config(init="noise", weights="imagenet")
    assert (config.init, config.weights, config.init_file) == ("noise", "imagenet", None)
    assert Config(init="./noise").init_file == Path.cwd() / "noise"


@pytest.mark.parametrize("name", ["~/a.jpg", "$HOME/a.jpg", "${HOME}.jpg", "*.jpg"])
def test_CFG_32_path_is_taken_literally(tmp_path, name):
    config = load_config(write(tmp_path, f"content_image: '{name}'\n"))
    assert config.content_image == tmp_path / name


def test_CFG_33_overrides_win_over_the_file_and_are_named(tmp_path):
    path = write(tmp_path, "image_size: 128\nseed: 3\n")
    config = load_config(path, {"image_size": 64})
    assert (config.image_size, config.seed, config.num_iterations) == (64, 3, 40)
    assert "image_size: 64\n" in to_yaml(config)
    assert "image_size cannot be 0 (--image_size):" in refusal(path, image_size=0)


def test_CFG_34_newer_config_is_refused_before_what_it_explains(tmp_path):
    text = refusal(write(tmp_path, "pooling: swirl\nconfig_version: 2\nunheard_of: 1\n"))
    assert "config_version cannot be 2" in text and "line 2)" in text and "update nst_tf" in text
    assert load_config(write(tmp_path, "config_version: 1\n")).config_version == 1


# --- the schema -------------------------------------------------------------------------------


def test_IMG_45_style_images_are_at_most_64():
    assert len(Config(style_image=[f"{i}.jpg" for i in range(64)]).style_image) == 64
    assert "at most 64" in refusal_of(style_image=[f"{i}.jpg" for i in range(65)])


def test_IMG_39_path_with_NUL_or_no_letter_is_refused():
    for name in ("content_image", "output_image", "init", "weights"):
        assert f"{name} cannot be" in refusal_of(**{name: "a\0b"})
        assert "not empty" in refusal_of(**{name: ""})


def test_IMG_38_path_that_is_not_unicode_is_kept_and_shown_escaped(tmp_path):
    name = os.fsdecode(b"caf\xe9.jpg")
    config = Config(content_image=name, init=name)
    assert load_config(write(tmp_path, to_yaml(config))) == config
    assert "caf\\udce9" in refusal_of(pooling=name)


def test_files_are_required_by_the_command_only():
    for settings, name in [
        ({"style_image": "s.jpg"}, "content_image"),
        ({"content_image": "c.jpg"}, "style_image"),
    ]:
        with pytest.raises(InputError) as caught:
            require_files(Config(**settings))
        assert one_line(caught.value).startswith(f"{name} is missing")
        assert f"--{name}=" in str(caught.value)
    require_files(Config(content_image="c.jpg", style_image="s.jpg"))


def test_settings_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        Config().seed = 3
    with pytest.raises(ValueError, match="frozen"):
        Config().loss.style_weight = 3.0
    with pytest.raises(TypeError, match="does not support item assignment"):
        Config().style_layers["block1_conv1"] = 2.0


def test_every_setting_has_a_description_and_a_default():
    for name, field in Config.model_fields.items():
        assert field.description, name
        assert not field.is_required(), name


# What a checkpoint's fingerprint left out before settings had metadata.
WITHOUT_EFFECT = {
    "content_image", "content_masks", "style_image", "style_masks", "init", "weights",
    "weights_sha256", "output_image", "preset", "max_pixels", "print_iter", "save_iter",
    "max_snapshots", "checkpoint_seconds", "threads", "score", "keep_state", "metadata", "strength",
    "print_size", "dpi", "max_memory", "tile_size", "workers", "cluster",
    "timelapse", "timelapse_seconds", "tensorboard",
}  # fmt: skip


def test_metadata_of_every_setting():
    found = {name: metadata(name) for name in Config.model_fields}
    assert {name for name in found if not found[name].affects_result} == WITHOUT_EFFECT
    assert {name for name in found if found[name].repeatable} == {
        "style_image", "content_masks", "style_masks",
    }  # fmt: skip


def test_settings_affecting_the_result_are_portable_values():
    config = Config(content_image="c.jpg", seed=5, style_layers="block2_conv1:3", threads=2)
    settings = settings_affecting_result(config)
    assert settings.keys() == Config.model_fields.keys() - WITHOUT_EFFECT
    assert settings["seed"] == 5 and settings["style_layers"] == {"block2_conv1": 3.0}
    assert json.loads(json.dumps(settings)) == settings
    assert settings == settings_affecting_result(config.replace(threads=4, init="noise"))
    assert settings != settings_affecting_result(config.replace(padding="zero"))


# --- sections ---------------------------------------------------------------------------------

SECTIONS = {
    "inputs": InputSettings,
    "output": OutputSettings,
    "multiscale": MultiscaleSettings,
    "loss": LossSettings,
    "network": NetworkSettings,
    "initial": InitialSettings,
    "optimization": OptimizerSettings,
    "runtime": RuntimeSettings,
    "reporting": ReportingSettings,
}


def test_every_setting_belongs_to_one_section_in_the_order_of_the_sections():
    names = [name for section in SECTIONS.values() for name in section.model_fields]
    assert [*names, "preset", "strength", "config_version"] == list(Config.model_fields)
    assert len(set(names)) == len(names)
    for section in SECTIONS.values():
        assert all(section_of(name) is section for name in section.model_fields)
    assert section_of("preset") is section_of("config_version") is Config


@pytest.mark.parametrize(("name", "section"), SECTIONS.items())
def test_a_section_of_the_configuration_holds_its_settings_only(name, section):
    config = Config(style_image="s.jpg", image_size=70, style_weight=2.0, padding="zero", seed=4,
                    quality=3, init="i.png", optimizer="adam", threads=2, print_iter=8)  # fmt: skip
    part = getattr(config, name)
    assert type(part) is section
    assert dict(part) == {setting: getattr(config, setting) for setting in section.model_fields}
    assert part != section() and getattr(Config(), name) == section()
    assert part.replace() == part
    assert not hasattr(part, "preset")


def test_a_section_alone_validates_its_own_rules():
    loss = LossSettings(style_weight=1.0, style_layers={"block2_conv1": 1.0})
    assert (loss.style_weight, loss.style_layers) == (1.0, {"block2_conv1": 1.0})
    assert loss.content_layers == {"block4_conv2": 1.0}
    assert InitialSettings(init="i.png").init_file == Path.cwd() / "i.png"
    for section, settings, text in [
        (LossSettings, {"style_weight": -1.0}, "style_weight cannot be -1.0: a weight is 0 or"),
        (LossSettings, {"style_layers": []}, "style_layers sum to 0"),
        (LossSettings, {"content_weight": 0, "style_weight": 0}, "nothing to minimize"),
        (LossSettings, {"style_blend_weights": [0]}, "there are 1 weights of sum 0"),
        (LossSettings, {"style_wieght": 1.0}, "did you mean 'style_weight'?"),
        (LossSettings, {"image_size": 64}, "unknown key 'image_size': no setting has this name"),
        (InputSettings, {"style_masks": ["m.png"]}, "there are 1 masks of styles and 0 of the"),
        (MultiscaleSettings, {"pyramid": "big"}, "it is none, auto, or SIZE:ITERATIONS"),
        (NetworkSettings, {"weights_sha256": "abc"}, "64 hex digits"),
        (OutputSettings, {"bit_depth": 10}, "bit_depth cannot be 10"),
    ]:
        with pytest.raises(InputError) as caught:
            section(**settings)
        assert text in one_line(caught.value)


def test_rules_between_sections_are_those_of_the_configuration():
    assert LossSettings(style_blend_weights=[1, 2, 3]).style_blend_weights == (1.0, 2.0, 3.0)
    assert "3 weights of sum 6 for 2 style images" in refusal_of(
        style_image=["a", "b"], style_blend_weights=[1, 2, 3]
    )


# --- immutable values -------------------------------------------------------------------------


def test_ARR_01_numbers_of_numpy_and_tensors_are_settings():
    class Tensor:
        def __array__(self, dtype=None, copy=None):
            return np.asarray(5, dtype)

    config = Config(
        image_size=np.int64(64), style_weight=np.float32(0.5), bounds=np.bool_(False),
        seed=Tensor(), num_iterations=np.array(7), style_blend_weights=np.array([0.25, 0.75]),
        style_layers={"block1_conv1": np.float64(2)}, pooling=np.str_("average"),
        pyramid=np.array("none"), style_image=np.array(["a.jpg", "b.jpg"]),
    )  # fmt: skip
    assert config == Config(
        image_size=64, style_weight=0.5, bounds=False, seed=5, num_iterations=7, pyramid="none",
        style_blend_weights=[0.25, 0.75], style_layers="block1_conv1:2", pooling="average",
        style_image=["a.jpg", "b.jpg"],
    )  # fmt: skip
    assert type(config.image_size) is int and type(config.bounds) is bool
    assert config.replace(seed=np.uint8(9)).seed == 9
    assert LossSettings(tv_weight=np.float16(0.5)).tv_weight == 0.5
    assert given_settings({"seed": np.int32(3)}).seed == 3


def test_ARR_01_iterators_and_other_paths_are_files(tmp_path):
    class Entry:
        def __fspath__(self):
            return str(tmp_path / "d.jpg")

    names = (f"{letter}.jpg" for letter in "ab")
    assert [path.name for path in Config(style_image=names).style_image] == ["a.jpg", "b.jpg"]
    assert Config(content_image=Entry()).content_image == tmp_path / "d.jpg"
    assert Config(style_image=Entry()).style_image == (tmp_path / "d.jpg",)
    assert Config(style_blend_weights=iter([1, 2])).style_blend_weights == (1.0, 2.0)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"image_size": None}, "image_size cannot be None"),
        ({"image_size": np.float64(64.5)}, "image_size cannot be 64.5"),
        ({"image_size": np.int64(40_000)}, "image_size cannot be 40000"),
        ({"seed": np.array([1, 2])}, "seed cannot be [1, 2]"),
        ({"style_weight": np.float32("nan")}, "style_weight cannot be nan"),
        ({"bounds": np.int64(1)}, "bounds cannot be 1"),
        ({"num_iterations": np.bool_(True)}, "num_iterations cannot be True"),
        ({"content_image": b"a.jpg"}, "a path is text"),
        ({"content_image": 3}, "a path is text"),
        ({"style_image": {"a.jpg"}}, "style_image cannot be"),
        ({"style_image": [None]}, "style_image.0 cannot be None"),
        ({"style_layers": 3}, "style_layers cannot be 3"),
        ({"style_layers": [1]}, "a list holds layer names"),
        ({"pooling": 1}, "pooling cannot be 1"),
    ],
)
def test_ARR_02_wrong_types_of_settings_are_refused_in_one_line(settings, text):
    assert text in refusal_of(**settings)


def test_ARR_02_settings_that_are_no_file_are_refused():
    for path in (None, {"seed": 3}, b"x.yaml"):
        with pytest.raises(InputError, match="its path is of type"):
            load_config(path)


def test_equal_configurations_have_equal_hashes():
    one = Config(style_layers={"block4_conv1": 0.5, "block1_conv1": 1}, style_image=["a", "b"])
    two = Config(style_layers="block1_conv1,block4_conv1:0.5", style_image=("a", "b"))
    assert one == two and hash(one) == hash(two) and len({one, two}) == 1
    assert {one: 1, one.loss: 2}[two.loss] == 2
    other = one.replace(style_layers={"block4_conv1": 0.5})
    assert one != other and len({one, other}) == 2


def test_layers_are_an_immutable_mapping_equal_to_a_dict():
    layers = Config(style_layers="block3_conv1:0.5,block1_conv1").style_layers
    plain = {"block1_conv1": 1.0, "block3_conv1": 0.5}
    assert layers == plain and plain == layers and layers != {"block1_conv1": 1.0}
    assert list(layers) == ["block1_conv1", "block3_conv1"] and len(layers) == 2
    assert layers["block3_conv1"] == 0.5 and "block2_conv1" not in layers
    assert {**layers} == dict(layers.items()) == plain and repr(layers) == repr(plain)
    assert hash(layers) == hash(FrozenDict({"block3_conv1": 0.5, "block1_conv1": 1.0}))


def test_configurations_and_sections_pickle_and_copy():
    config = Config(style_image=["a", "b"], layer_styles="block1_conv1:2", init="i.png", seed=3)
    for value in (config, config.loss, config.inputs):
        unpickled = pickle.loads(pickle.dumps(value))
        for again in (unpickled, copy.deepcopy(value)):
            assert type(again) is type(value)
            assert again == value and hash(again) == hash(value)


def test_replace_validates_what_it_changes(monkeypatch, tmp_path):
    config = Config(content_image="c.jpg", style_image=["a", "b"], preset="draft")
    monkeypatch.chdir(tmp_path)
    changed = config.replace(seed=9, output_image="o.png", style_layers=["block1_conv1"])
    assert (changed.seed, changed.output_image) == (9, tmp_path / "o.png")
    assert changed.style_layers == {"block1_conv1": 1.0}
    assert (changed.content_image, changed.num_iterations) == (config.content_image, 9)
    assert config.seed == 0
    assert config.replace(preset="fine").num_iterations == 200
    assert config.loss.replace(style_weight=2.0).style_weight == 2.0
    for settings, text in [
        ({"style_weight": -5}, "style_weight cannot be -5: a weight is 0 or from 1e-12"),
        ({"style_blend_weights": [1, 2, 3]}, "3 weights of sum 6 for 2 style images"),
        ({"image_sise": 3}, "did you mean 'image_size'?"),
    ]:
        with pytest.raises(InputError) as caught:
            config.replace(**settings)
        assert text in one_line(caught.value)


def test_the_protocol_of_pydantic_is_kept():
    """Other models can have a configuration as a field, and dump it."""

    class Job(BaseModel):
        config: Config

    config = Config(style_layers="block1_conv1", style_image="s.jpg", init="i.png")
    job = Job.model_validate({"config": {"seed": 3}})
    assert job.config == Config(seed=3)
    with pytest.raises(ValidationError, match="nothing to minimize"):
        Job.model_validate({"config": {"content_weight": 0.0, "style_weight": 0.0}})
    assert Config(**json.loads(config.model_dump_json())) == config
    assert config.model_dump()["style_layers"] == {"block1_conv1": 1.0}
    assert type(config.model_dump()["style_layers"]) is dict
    schema = Config.model_json_schema()["properties"]
    assert schema["seed"]["description"] == Config.model_fields["seed"].description


@pytest.mark.parametrize("section", [Config, *SECTIONS.values()])
def test_help_in_python_shows_every_setting_with_its_text_and_default(section):
    text = pydoc.plain(pydoc.render_doc(section))
    for name, field in section.model_fields.items():
        assert f"{name}: {field.description}. Default: {default_of(field)!r}." in text
    assert inspect.getdoc(section).partition("\n")[0].endswith(".")
    assert list(inspect.signature(section).parameters) == list(section.model_fields)


def test_the_limit_of_pixels_is_that_of_the_image_reader():
    assert Config().max_pixels == images.DEFAULT_MAX_PIXELS


def test_paths_without_a_relative_form_stay_absolute(monkeypatch):
    """As on another drive of Windows."""

    def other_drive(path: str, start: Path) -> str:
        raise ValueError("path is on mount 'C:', start on mount 'D:'")

    monkeypatch.setattr("os.path.relpath", other_drive)
    assert portable(Config(content_image="/c/x.jpg"))["content_image"] == "/c/x.jpg"


def test_long_value_is_cut_in_the_message():
    assert len(refusal_of(pooling="x" * 10_000)) < 250
    assert len(refusal_of(**{"x" * 10_000: 1})) < 1000


def test_resolved_config_can_be_loaded_from_another_folder(tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    monkeypatch.chdir(tmp_path / "a")
    config = Config(content_image="c: #.jpg", style_image=["1", "s,t.jpg"], style_weight=1e4)
    path = write(tmp_path / "b", to_yaml(config))
    monkeypatch.chdir(tmp_path / "b")
    assert load_config(path) == config


def test_importing_the_config_loads_no_tensorflow():
    code = "import sys, nst_tf.config; print([m in sys.modules for m in sys.argv[1:]])"
    assert python(code, "tensorflow", "keras", "scipy", "nst_tf.config") == (
        "[False, False, False, True]\n"
    )


def test_portable_settings_stay_true_when_everything_is_moved(tmp_path):
    text = (
        "content_image: in/c.jpg\nstyle_image: [s.jpg]\noutput_image: out/o.png\n"
        "init: start.png\nweights: w.npz\nstyle_blend_weights: [2]\n"
    )
    folder = tmp_path / "somewhere"
    folder.mkdir()
    settings = portable(load_config(write(folder, text)))
    assert settings["content_image"] == "../in/c.jpg"
    assert settings["style_image"] == ["../s.jpg"]
    assert settings["output_image"] == "o.png"
    assert settings["init"] == "../start.png"
    assert settings["weights"] == "../w.npz"
    assert settings["style_blend_weights"] == [2.0]
    assert portable(Config())["init"] == "adain"
    assert json.loads(json.dumps(settings)) == settings


def test_a_preset_fills_in_what_nothing_else_sets(tmp_path):
    assert Config().num_iterations == 40
    assert Config(preset="draft").num_iterations == 9
    assert Config(preset="draft").pyramid == "none"
    assert Config(preset="fine").num_iterations == 200
    assert Config(preset="fine").pyramid == "auto"
    path = write(tmp_path, "preset: draft\nnum_iterations: 33\n")
    assert load_config(path).num_iterations == 33
    assert load_config(path).pyramid == "none"
    assert load_config(path, {"num_iterations": 44}).num_iterations == 44
    assert load_config(path, {"preset": "fine"}).pyramid == "auto"


def test_the_resolved_configuration_does_not_depend_on_what_a_preset_means(tmp_path):
    resolved = load_config(write(tmp_path, to_yaml(Config(preset="draft"))))
    assert (resolved.preset, resolved.num_iterations, resolved.pyramid) == ("draft", 9, "none")


@pytest.mark.parametrize("text", ["256", "256:", "128:80;256:40", "-1:5", "256:1.5", "auto,128:1"])
def test_a_pyramid_that_cannot_be_read_is_refused(text):
    with pytest.raises(InputError, match=r"none, auto, or SIZE:ITERATIONS.* as in 128:80,256:40"):
        Config(pyramid=text)


@pytest.mark.parametrize("text", ["256:40,128:80", "128:1,128:2", "0:5"])
def test_a_pyramid_whose_sizes_do_not_grow_is_refused(text):
    with pytest.raises(InputError, match="sizes grow from level to level"):
        Config(pyramid=text)


def test_coarse_levels_preset():
    assert coarse_levels("128:80, 256:40") == ((128, 80), (256, 40))


# Regions, layers and styles


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        (
            {"content_masks": ["a", "b", "c"], "style_image": ["s", "t"]},
            "there are 3 masks for 2 style images; give every region its style image",
        ),
        (
            {"content_masks": ["a", "b"], "style_masks": ["c"], "style_image": "s"},
            "there are 1 masks of styles and 2 of the content",
        ),
        (
            {"content_masks": ["a", "b"], "style_image": "s", "style_blend_weights": [1.0]},
            "there are 1 weights of sum 1 for 2 regions",
        ),
        (
            {"layer_styles": "block1_conv1:2", "style_image": "s"},
            "layer_styles cannot name style 2: there are 1 style images; number them from 1",
        ),
        ({"layer_styles": "block1_conv1"}, "every layer needs the number of its style"),
        ({"layer_styles": "block1_conv1:0"}, "layer_styles"),
        ({"layer_styles": "block1_cnov1:1"}, "did you mean 'block1_conv1'?"),
        ({"tv_exponent": 3}, "tv_exponent cannot be 3"),
        ({"padding": "mirror"}, "it should be 'reflect', 'replicate' or 'zero'"),
        ({"original_colors": "yes"}, "'none', 'luminance', 'histogram' or 'match'"),
        ({"checkpoint_seconds": -1.0}, "checkpoint_seconds cannot be -1.0"),
        ({"threads": -2}, "threads cannot be -2"),
        ({"preset": ["draft"]}, "preset cannot be ['draft']: it should be 'draft', 'default' or"),
    ],
)
def test_controls_that_do_not_fit_are_refused(settings, text):
    assert text in refusal_of(**settings)


def test_a_mapping_gives_layers_to_styles():
    found = Config(layer_styles={"block3_conv1": 2, "block1_conv1": 1})
    assert found.layer_styles == {"block1_conv1": 1, "block3_conv1": 2}


def test_CFG_40_workers_and_a_cluster_at_once_are_refused(tmp_path):
    both = {"workers": 2, "cluster": "tcp://a:8786"}
    refused = "workers and cluster do not go together"
    why = "they are 2 and tcp://a:8786, and each decides who computes; leave one of them out"
    assert refusal_of(**both) == f"{refused}: {why}"
    with pytest.raises(InputError, match=refused):
        Config(workers=2).replace(cluster="tcp://a:8786")
    path = write(tmp_path, "workers: 2\ncluster: tcp://a:8786\n")
    assert refusal(path) == f"{refused} ({path}, line 2): {why}"
    assert load_config(path, {"cluster": ""}).workers == 2

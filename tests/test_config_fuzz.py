"""Any content of a configuration gives a Config, or an InputError of one line."""

import os
import pickle
import string
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from nst_tf.cli import flags
from nst_tf.config import Config, load_config
from nst_tf.config.files import to_yaml
from nst_tf.config.yaml import scalar
from nst_tf.errors import InputError
from nst_tf.models.layers import LAYERS

FUZZ = settings(max_examples=150, deadline=None)

WEIGHTS = st.just(0.0) | st.floats(1e-12, 1e12)
POSITIVE = st.floats(1e-12, 1e12)
TEXT = st.text(st.characters(codec=None, exclude_characters="\0"), min_size=1, max_size=30)
LAYER_WEIGHTS = st.dictionaries(st.sampled_from(list(LAYERS)), POSITIVE, min_size=1)
VALID = {
    "content_image": st.none() | TEXT,
    "style_image": st.lists(TEXT, min_size=3, max_size=3) | st.just([]),
    "style_blend_weights": st.lists(POSITIVE, min_size=3, max_size=3) | st.just([]),
    "output_image": TEXT,
    "image_size": st.integers(1, 32768),
    "style_scale": st.floats(0.05, 20),
    "max_pixels": st.integers(1, 2**30),
    "content_layers": LAYER_WEIGHTS,
    "style_layers": LAYER_WEIGHTS,
    "content_weight": POSITIVE,
    "style_weight": WEIGHTS,
    "tv_weight": WEIGHTS,
    "pooling": st.sampled_from(["max", "average"]),
    "init": st.sampled_from(["content", "noise", "style"]) | TEXT,
    "optimizer": st.sampled_from(["l-bfgs-b", "bfgs"]),
    "num_iterations": st.integers(0, 1_000_000),
    "bounds": st.booleans(),
    "weights": st.sampled_from(["normalised", "imagenet"]) | TEXT,
    "weights_sha256": st.none() | st.text("0123456789abcdef", min_size=64, max_size=64),
    "seed": st.integers(0, 2**32 - 1),
    "print_iter": st.integers(0),
    "save_iter": st.integers(0),
    "config_version": st.just(1),
    "layer_styles": st.dictionaries(st.sampled_from(list(LAYERS)), st.integers(1, 3)),
    "preset": st.sampled_from(["draft", "default", "fine"]),
    "checkpoint_seconds": st.floats(0, 86400),
    "padding": st.sampled_from(["reflect", "replicate", "zero"]),
    "dpi": st.integers(0, 10_000),
}
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.just(10**400)
    | st.floats()
    | st.text(st.characters(codec=None))
    | st.binary()
    | st.dates()
)
ANYTHING = st.recursive(
    LEAVES, lambda inner: st.lists(inner) | st.dictionaries(LEAVES, inner), max_leaves=8
)


def config_or_refusal(make) -> Config | None:
    """The property: nothing but a Config or an InputError of one line of ASCII comes out."""
    try:
        made = make()
    except InputError as error:
        assert str(error).isascii() and str(error).isprintable()
        return None
    assert isinstance(made, Config)
    return made


@FUZZ
@given(valid=st.fixed_dictionaries({}, optional=VALID))
def test_valid_settings_come_back_from_their_yaml(tmp_path_factory, valid):
    config = Config(**valid)
    path = tmp_path_factory.getbasetemp() / "resolved.yaml"
    path.write_text(to_yaml(config), encoding="ascii")
    again = load_config(path)
    assert again == config and hash(again) == hash(config)
    assert config.replace() == config == pickle.loads(pickle.dumps(config))
    assert Path(os.path.normpath(again.output_image)).is_absolute()
    for name in ("image_size", "style_weight", "style_layers", "pooling", "bounds", "seed"):
        if name in valid:
            assert getattr(config, name) == valid[name]


@FUZZ
@given(
    valid=st.fixed_dictionaries({}, optional=VALID),
    name=st.sampled_from(list(VALID)) | st.text(st.characters(codec=None)),
    value=ANYTHING,
)
def test_A_settings_with_a_mutated_leaf_in_python(valid, name, value):
    made = config_or_refusal(lambda: Config(**{**valid, name: value}))
    assert made is None or name in VALID


@FUZZ
@given(
    valid=st.fixed_dictionaries({}, optional=VALID),
    name=st.sampled_from(list(VALID)) | st.text(max_size=5),
    value=ANYTHING,
)
def test_A_settings_with_a_mutated_leaf_in_yaml(tmp_path_factory, valid, name, value):
    path = tmp_path_factory.getbasetemp() / "mutated.yaml"
    with path.open("w", encoding="utf-8", errors="surrogatepass") as file:
        YAML(typ="safe", pure=True).dump({**valid, name: value}, file)
    made = config_or_refusal(lambda: load_config(path))
    assert made is None or name in VALID


WORDS = [*VALID, *LAYERS, "1e5", "010", ".nan", "true", "!!int", "<<", "---", "...", "\ufeff"]
SIGNS = [*"-[]{},&*!|>'\"%@`#?~\t\0\r", ": ", "\n", "\n  "]
YAMLISH = st.lists(st.sampled_from(WORDS) | st.sampled_from(SIGNS)).map("".join)


@FUZZ
@given(
    content=st.binary()
    | (st.text() | YAMLISH).map(str.encode)
    | YAMLISH.map(lambda t: t.encode("utf-16"))
)
def test_B_any_bytes_as_the_file(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "raw.yaml"
    path.write_bytes(content)
    config_or_refusal(lambda: load_config(path))


@FUZZ
@given(
    argv=st.lists(
        st.text(st.characters(codec=None, exclude_characters="\0"), max_size=8)
        | st.builds(
            "{}{}{}".format,
            st.sampled_from(["--", "-", "--no", ""]),
            st.sampled_from([*VALID, "config", "help", "debug", "flagfile", "undefok", ""]),
            st.just("")
            | st.text(st.characters(codec=None, exclude_characters="\0")).map("={}".format),
        )
        | st.sampled_from(["--content_image=c.jpg", "--style_image=s.jpg"])
    )
)
def test_any_arguments_of_the_command(argv):
    config_or_refusal(lambda: flags.parse(argv).config)


@FUZZ
@given(st.text(string.digits + "+-._eExoinfa ", max_size=12) | st.text())
def test_scalar_agrees_with_python_on_every_number(text):
    value = scalar(text)
    assert value is None or isinstance(value, bool | int | float | str)
    if isinstance(value, int | float) and not isinstance(value, bool):
        expected = float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
        # Beyond 2**53 an integer is kept where a float would round it.
        assert float(value) == expected or value != value
        assert not text.lstrip("+-").startswith("00") and "_" not in text
    elif isinstance(value, str):
        assert value == text

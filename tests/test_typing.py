"""A user's script passes `mypy --strict`, and a wrong one is refused with its line."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mypy", reason="mypy is not installed (the dev extra brings it)")

ROOT = Path(__file__).parents[1]

SCRIPT = """
from collections.abc import Mapping
from pathlib import Path

import nst_tf
from nst_tf.config import Config, LossSettings, OptimizerSettings


def total(loss: LossSettings) -> float:
    return loss.style_weight * sum(loss.style_layers.values())


config = nst_tf.Config(
    content_image="a.jpg",
    style_image=["s.jpg", Path("t.jpg")],
    style_blend_weights=[0.25, 1],
    output_image=Path("o.png"),
    image_size=256,
    style_weight=1e5,
    tv_weight=1,
    style_layers={"block1_conv1": 1, "block2_conv1": 0.5},
    content_layers=["block4_conv2"],
    layer_styles="block1_conv1:1",
    init=Path("start.png"),
    weights="imagenet",
    pooling="average",
)
single = Config(content_image=None, style_image="s.jpg", style_blend_weights=1)
loaded: Config = nst_tf.load_config("x.yaml", {"seed": 3})
section: LossSettings = config.loss
optimizer: OptimizerSettings = loaded.optimization
content: Path | None = config.content_image
styles: tuple[Path, ...] = config.inputs.style_image
output: Path = config.output.output_image
layers: Mapping[str, float] = config.style_layers
numbers: Mapping[str, int] = LossSettings(layer_styles={"block1_conv1": 1}).layer_styles
start: str = config.initial.init
blend: tuple[float, ...] = config.style_blend_weights
changed: Config = config.replace(seed=4)
print(total(section), total(LossSettings(style_weight=1, style_layers="block2_conv1")))
print({config: layers["block1_conv1"]}, optimizer.bounds, numbers, start, blend)
try:
    Config(image_size=0)
except nst_tf.InputError as error:
    print(error)
"""

# Each line has one mistake, which mypy answers with this error.
WRONG = {
    'Config(style_weight="1e5")': "arg-type",
    "Config(content_image=3)": "arg-type",
    'Config(style_layers={"block1_conv1": "1"})': "dict-item",
    'Config(pooling="sum")': "arg-type",
    "Config(style_wieght=1.0)": "call-arg",
    'Config("a.jpg")': "call-arg",
    "seed: str = Config().seed": "assignment",
    "content: Path = Config().content_image": "assignment",
    'Config().style_layers["block1_conv1"] = 1.0': "index",
    "Config().loss.image_size": "attr-defined",
    "loss: LossSettings = Config().network": "assignment",
}


def mypy(folder: Path, **scripts: str) -> list[str]:
    """Returns the messages of `mypy --strict` without plugins, as somebody's own project has it."""
    for name, text in scripts.items():
        (folder / f"{name}.py").write_text(text)
    done = subprocess.run(
        [
            sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "--config-file=",
            "--no-error-summary", f"--cache-dir={folder / 'cache'}",
            *(f"{name}.py" for name in scripts),
        ],
        cwd=folder, env={**os.environ, "MYPYPATH": str(ROOT)}, capture_output=True, text=True,
        timeout=600,
    )  # fmt: skip
    assert not done.stderr, done.stderr
    return [line for line in done.stdout.splitlines() if ": note:" not in line]


def test_strict_types_of_a_script_of_a_user(tmp_path):
    header = "from pathlib import Path\nfrom nst_tf.config import Config, LossSettings\n"
    wrong = header + "\n".join(WRONG) + "\n"
    found = [
        re.fullmatch(r"wrong\.py:(\d+): error: .* \[([a-z-]+)\]", line).groups()
        for line in mypy(tmp_path, script=SCRIPT, wrong=wrong)
    ]
    assert found == [(str(line), code) for line, code in enumerate(WRONG.values(), start=3)]


def test_the_package_tells_type_checkers_that_it_has_types():
    assert (ROOT / "nst_tf" / "py.typed").read_bytes() == b""
    assert re.search(r"^nst_tf =\n(    .*\n)*?    py\.typed\n", (ROOT / "setup.cfg").read_text(),
                     re.MULTILINE)  # fmt: skip

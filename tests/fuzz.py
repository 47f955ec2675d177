"""Fuzzing guided by coverage: `python -m tests.fuzz images -max_total_time=600`.

Needs `pip install -e ".[fuzz]"`. Any bytes, taken for an image, a configuration or a weights file,
must end in what was asked for or in an `InputError`; libFuzzer stops at anything else, and at what
takes more than its limits of time and memory. Options after the target are libFuzzer's own.
"""

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["nst_tf"]):
    from nst_tf import config
    from nst_tf.errors import InputError
    from nst_tf.io import decoding
    from nst_tf.models import weights

from tests.test_images_fuzz import FORMATS, LIMIT, file_of

_LIMITS = ("-rss_limit_mb=2048", "-timeout=10")


def fuzz_image(data: bytes, folder: Path) -> None:
    del folder
    decoding.decode(data, LIMIT, "fuzz")


def fuzz_configuration(data: bytes, folder: Path) -> None:
    file = folder / "fuzz.yaml"
    file.write_bytes(data)
    config.load_config(file)


def fuzz_weights(data: bytes, folder: Path) -> None:
    file = folder / "fuzz.npz"
    file.write_bytes(data)
    weights.read(file, {"conv/kernel": (3, 3, 3, 2), "conv/bias": (2,)}, None)


def seeds(target: str) -> list[bytes]:
    """Returns files to start from; weights are found from nothing, as their table is small."""
    if target == "images":
        return [file_of(format_) for format_ in FORMATS]
    if target == "configurations":
        return [path.read_bytes() for path in Path("configs").glob("*.yaml")]
    return []


TARGETS = {
    "images": fuzz_image, "configurations": fuzz_configuration, "weights": fuzz_weights,
}  # fmt: skip


def main() -> None:
    target, options = sys.argv[1], sys.argv[2:]
    with tempfile.TemporaryDirectory() as scratch, tempfile.TemporaryDirectory() as corpus:
        for number, seed in enumerate(seeds(target)):
            (Path(corpus) / f"seed-{number}").write_bytes(seed)

        def once(data: bytes) -> None:
            try:
                TARGETS[target](data, Path(scratch))
            except InputError as error:
                assert str(error).isascii() and str(error).isprintable()

        atheris.Setup([sys.argv[0], *_LIMITS, *options, corpus], once)
        atheris.Fuzz()


if __name__ == "__main__":
    main()

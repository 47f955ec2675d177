"""The distributions: what is in them, and that they make the same images as the checkout."""

import configparser
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from email import message_from_string
from pathlib import PurePosixPath

import pytest

import nst_tf
from tests.command import CONTENT, ROOT, STYLE, environment

pytest.importorskip("build", reason="build is not installed (the test extra brings it)")


def tracked():
    """Returns the files of the project as they are, with new ones and without ignored ones."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    return [name for name in listed.split("\0") if name and (ROOT / name).exists()]


@pytest.fixture(scope="module")
def distributions(tmp_path_factory):
    """Builds the source distribution from a copy of the checkout, and the wheel from it.

    Returns:
        The folder of both files.
    """
    copy, out = tmp_path_factory.mktemp("checkout"), tmp_path_factory.mktemp("dist")
    for name in tracked():
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_bytes((ROOT / name).read_bytes())
    done = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", out, copy],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return out


@pytest.fixture(scope="module")
def wheel(distributions):
    (path,) = distributions.glob("*.whl")
    return path


def test_the_wheel_has_the_package_with_its_data_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    package = {name for name in tracked() if name.startswith("nst_tf/")}
    assert {"nst_tf/py.typed", "nst_tf/weights/vgg19_normalised.npz"} <= package
    info = f"nst_tf-{nst_tf.__version__}.dist-info"
    assert {name for name in names if not name.startswith(f"{info}/")} == package
    assert f"{info}/licenses/nst_tf/weights/README.md" in names


def test_the_wheel_has_the_command_the_version_and_both_licenses(wheel):
    with zipfile.ZipFile(wheel) as archive:
        info = f"nst_tf-{nst_tf.__version__}.dist-info"
        metadata = message_from_string(archive.read(f"{info}/METADATA").decode())
        commands = archive.read(f"{info}/entry_points.txt").decode()
    assert metadata["Version"] == nst_tf.__version__
    assert metadata["License-Expression"] == "MIT AND CC-BY-4.0"
    assert "nst-tf = nst_tf.cli.supervisor:run_in_subprocess" in commands
    assert metadata["Requires-Python"] and "tensorboard" in metadata.get_all("Provides-Extra")


def test_the_source_distribution_has_the_tests_and_what_they_need(distributions):
    (path,) = distributions.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {str(PurePosixPath(*PurePosixPath(name).parts[1:])) for name in archive.getnames()}
    folders = ("nst_tf/", "tests/", "images/", "configs/", "docs/")
    needed = {name for name in tracked() if name.startswith(folders) or "/" not in name}
    assert needed - names <= {".gitignore"}
    assert {name for name in names if name.startswith(("results", ".git", ".ci"))} == set()


def test_the_requirements_without_gpu_are_those_of_the_package():
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg", encoding="utf-8")
    required = settings["options"]["install_requires"].split()
    text = (ROOT / "requirements-cpu.txt").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert lines == [re.sub(r"^tensorflow\b", "tensorflow-cpu", line) for line in required]


@pytest.mark.slow
def test_the_wheel_installed_elsewhere_makes_the_same_bytes_as_the_checkout(wheel, tmp_path):
    installed = tmp_path / "installed"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--target", installed, wheel], check=True)
    settings = ["--image_size=64", "--num_iterations=3"]
    where = [sys.executable, "-c", "import nst_tf; print(nst_tf.__file__)"]
    script = installed / "bin" / ("nst-tf.exe" if os.name == "nt" else "nst-tf")
    for name, path, command in (
        ("checkout", ROOT, [sys.executable, "-m", "nst_tf"]),
        ("wheel", installed, [script]),
    ):
        folder = tmp_path / name
        folder.mkdir()
        options = {"cwd": folder, "env": environment() | {"PYTHONPATH": str(path)}, "check": True}
        found = subprocess.run(where, capture_output=True, text=True, **options).stdout
        assert found.strip() == str(path / "nst_tf" / "__init__.py")
        subprocess.run([*command, CONTENT, STYLE, "-o", "o.png", *settings], **options)
    assert (tmp_path / "wheel/o.png").read_bytes() == (tmp_path / "checkout/o.png").read_bytes()

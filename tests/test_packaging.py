"""The distributions: what is in them, and that they make the same images as the checkout."""

import configparser
import json
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from email import message_from_string
from pathlib import PurePosixPath

import pytest
from packaging.markers import Marker
from ruamel.yaml import YAML

import nst_tf
from tests.command import CONTENT, ROOT, STYLE, environment

pytest.importorskip("build", reason="build is not installed (the test extra brings it)")

FUZZED = ("images", "configurations", "weights")


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


def requirements(name):
    """Returns the requirements of a section of setup.cfg: "install_requires", or an extra."""
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg", encoding="utf-8")
    section = "options" if name == "install_requires" else "options.extras_require"
    return settings[section][name].split()


def test_the_requirements_without_gpu_are_those_of_the_package():
    text = (ROOT / "requirements-cpu.txt").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    (tensorflow, *others) = requirements("install_requires")
    assert lines[2:] == others
    cpu, plain = (line.split("; ") for line in lines[:2])
    assert (cpu[0], plain[0]) == (tensorflow.replace("tensorflow", "tensorflow-cpu"), tensorflow)
    for system, machine, is_cpu in (
        ("linux", "x86_64", True), ("linux", "aarch64", False), ("win32", "x86_64", False),
    ):  # fmt: skip
        values = {"sys_platform": system, "platform_machine": machine}
        found = [Marker(marker).evaluate(values) for _, marker in (cpu, plain)]
        assert found == [is_cpu, not is_cpu]


def test_the_image_for_docker_is_made_of_files_that_it_is_given():
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    copied = {
        name
        for line in re.findall(r"^COPY (.+)$", text, re.MULTILINE)
        for name in line.split()[:-1]
    }
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "*" and copied == {line[1:] for line in lines if line.startswith("!")}
    assert all((ROOT / name).exists() for name in copied)
    built_from = {"pyproject.toml", "setup.cfg", "README.md", "LICENSE", "nst_tf"}
    assert built_from <= copied


def test_the_image_for_docker_starts_the_web_page():
    server = pytest.importorskip("nst_tf.web.server")
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert requirements("web") == re.findall(r'"([a-z]\w+>=[\d.]+)"', text)
    (words,) = re.findall(r"^CMD (\[.+\])$", text, re.MULTILINE)
    python, m, module, *flags = json.loads(words)
    assert (python, m, module) == ("python", "-m", "nst_tf.web")
    (port,) = re.findall(r"^EXPOSE (\d+)$", text, re.MULTILINE)
    assert f"--port={port}" in flags and "--host=0.0.0.0" in flags
    assert server._parser().parse_args(flags).output_dir == "/pictures"


def workflow(name):
    text = (ROOT / ".github" / "workflows" / f"{name}.yml").read_text(encoding="utf-8")
    return YAML(typ="safe").load(text)["jobs"]


def test_the_workflows_test_every_python_and_system_that_the_package_names():
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg", encoding="utf-8")
    named = settings["metadata"]["classifiers"]
    matrix = workflow("tests")["tests"]["strategy"]["matrix"]
    assert matrix["python"] == re.findall(r":: (3\.\d+)$", named, re.MULTILINE)
    systems = {"ubuntu": "Linux", "windows": "Windows", "macos": "MacOS"}
    tested = {systems[name.partition("-")[0]] for name in matrix["os"]}
    assert tested == set(re.findall(r"Linux|Windows|MacOS", named))


def test_the_weekly_workflow_runs_what_the_daily_one_leaves_out():
    (job,) = workflow("weekly").values()
    commands = [entry["run"] for entry in job["strategy"]["matrix"]["include"]]
    for command in ("pytest -m slow", "tests.soak", *(f"tests.fuzz {kind}" for kind in FUZZED)):
        assert sum(command in line for line in commands) == 1, command


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

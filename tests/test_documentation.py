"""The README and the pages of docs/: what they show is executed, on small images, or checked."""

import ast
import configparser
import doctest
import inspect
import re
import runpy
import shutil
from fractions import Fraction

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient
from PIL import Image

import nst_tf
from nst_tf import main
from nst_tf.cli.arguments import read_words
from nst_tf.cli.flags import help_text
from nst_tf.cli.videos import main as video_command
from nst_tf.config import Config
from nst_tf.image.arrays import quantize
from nst_tf.image.resize import resize
from nst_tf.io import ffmpeg, images
from tests import documents
from tests.command import PALACE, ROOT, environment
from tests.documents import PAGES, blocks

SIDE = 72
"""The longer side in pixels of images that commands make."""

COMMANDS = [line for line in documents.commands() if documents.makes_images(line)]
CHECKED = [
    line
    for line in [*documents.commands(), *documents.commands_in_text()]
    if line not in COMMANDS and not line.startswith("python -m nst_tf.video --")
]


FLAGS = dict.fromkeys(re.findall(r"^ +--(\w+)", help_text(), re.MULTILINE), True)
"""All flags of the command, as if none had a value: whether they are known is what counts."""


def size_of(path):
    with Image.open(path) as image:
        return image.size


@pytest.fixture(scope="module", autouse=True)
def networks():
    """Keeps networks and graphs of the default settings, which all that follows shares."""
    stylizer = nst_tf.Stylizer(Config(image_size=64, num_iterations=1))
    stylizer(*np.random.default_rng(0).uniform(0, 255, (2, 48, 64, 3)))
    yield
    del stylizer


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_do_what_they_say(line, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    is_batch = "--output_dir=" in line
    output = tmp_path / ("o.tiff" if ".tiff" in line else "o.png")
    small = [
        f"--image_size={SIDE}",
        "--style_scale=1",
        "--num_iterations=1",
        "--pyramid=none",
        "--weights=normalised",  # downloads nothing
        f"--output_dir={tmp_path}" if is_batch else f"--output_image={output}",
    ]
    others = "output_dir|num[-_]iterations|print_size|pyramid|weights"
    replaced = rf" (?:-o |-output_image |--(?:{others})=)\S+"
    words = documents.arguments(re.sub(replaced, "", line))
    if "--resume" in words:  # there is something to do only after a run
        begun = [word for word in words if word != "--resume"]
        assert main.main([*begun, *small]) == 0
    assert main.main([*words, *small]) == 0, capsys.readouterr().err
    if is_batch:
        made = [path for path in tmp_path.glob("*.*") if path.is_file() and path.stem != "sweep"]
        assert [max(size_of(path)) for path in made] == [SIDE] * 4
        assert (tmp_path / "sweep.png").exists() == ("--sweep" in words)
    else:
        assert max(size_of(output)) == SIDE


def test_recipes_have_the_previews_that_the_page_says(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    (named,) = re.findall(r"gives a preview.*?an image", PAGES["docs/recipes.md"], re.DOTALL)
    for_print, for_portrait, dry_run = re.findall("`(--[^`]+)`", named)
    for block in blocks("docs/recipes.md", "bash"):
        if not documents.makes_images(block):
            continue
        preview = "--image_size=256"
        if "--print_size" in block:
            block, preview = re.sub(r" --dpi=\d+", "", block), for_print
        elif "--config" in block:
            preview = for_portrait
        words = [*documents.arguments(block), *preview.split(), dry_run]
        assert main.main(words) == 0, capsys.readouterr().err


def test_commands_for_videos_do_what_they_say(tmp_path, monkeypatch):
    pytest.importorskip("cv2")
    pytest.importorskip("imageio_ffmpeg")
    lines = [line for line in documents.commands() if line.startswith("python -m nst_tf.video --")]
    assert lines
    photo = quantize(resize(images.read(PALACE), (48, 72)))
    ffmpeg.encode(tmp_path / "clip.mp4", [photo, photo], Fraction(12))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "images").symlink_to(ROOT / "images")
    small = ["--image_size=64", "--num_iterations=1", "--frame_iterations=1", "--pyramid=none"]
    assert video_command([*documents.arguments(lines[0]), *small]) == 0
    assert (tmp_path / "out.mp4").stat().st_size
    for line in lines[1:]:
        assert re.sub(r"style_image=\S+", "", line) == re.sub(r"style_image=\S+", "", lines[0])


@pytest.mark.parametrize("line", CHECKED)
def test_other_commands_name_what_there_is(line):
    match line.split():
        case ["python" | "python3", "-m", "pytest" | "venv", *_] | [".", ".venv/bin/activate"]:
            pass
        case ["python", "-m", module, *words]:
            path = ROOT / module.replace(".", "/")
            path = path / "__main__.py" if path.is_dir() else path.with_suffix(".py")
            source = path.read_text(encoding="utf-8") + " --".join(FLAGS)
            assert [word for word in words if word.startswith("--") and word not in source] == []
        case ["python", script, *_]:
            assert script == "-O" or (ROOT / script).is_file()
        case ["nst-tf", *_]:
            read_words(documents.arguments(line), FLAGS)  # refuses a flag that it does not know
        case ["pip", "install", *words]:
            settings = configparser.ConfigParser()
            settings.read(ROOT / "setup.cfg", encoding="utf-8")
            extras = re.findall(r"\[([\w-]+)\]", " ".join(words))
            assert set(extras) <= set(settings["options.extras_require"])
        case ["sphinx-build", "-W", folder, _]:
            assert (ROOT / folder / "conf.py").is_file()
        case _:
            pytest.fail("this command is neither executed nor checked")


OWN_TESTS = ("docs/python.md", "docs/extending.md")
EXAMPLES = [page for page in PAGES if blocks(page, "python") and page not in OWN_TESTS]


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """A function that executes the examples of a page, one after the other, in a folder."""
    done = {}

    def execute(page):
        if page not in done:
            folder = tmp_path_factory.mktemp("examples")
            shutil.copytree(ROOT / "images", folder / "images")
            text = documents.shrunk("\n".join(blocks(page, "python")))
            text = text.replace('weights="imagenet"', "weights=None")  # downloads nothing
            (folder / "examples.py").write_text(text, encoding="utf-8")
            with pytest.MonkeyPatch.context() as patch:
                patch.chdir(folder)
                done[page] = folder, runpy.run_path("examples.py")
            result = done[page][1]["result"]
            assert max(result.image.shape) == 64
            assert result.iterations <= 1
        return done[page]

    return execute


@pytest.mark.parametrize("page", EXAMPLES)
def test_examples_in_python_run(page, executed):
    folder, _ = executed(page)
    assert [size_of(path) for path in folder.glob("stylized.png")] in ([], [(64, 20)])


def test_the_examples_save_their_images_and_give_what_they_say(executed):
    folder, names = executed("docs/python.md")
    sizes = {path.stem: size_of(path) for path in folder.glob("*.png")}
    assert sizes == {
        "stylized": (64, 20), "tubingen": (64, 20), "summer-palace": (64, 43), "job": (64, 20)
    }  # fmt: skip
    assert names["job"].status == "finished"
    assert [outcome.status for outcome in names["swept"].outcomes] == ["finished"] * 4
    assert size_of(folder / "swept" / "sweep.png")[0] == 2 * 256 + 8
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


def test_the_examples_of_extensions_have_their_terms(executed):
    _, names = executed("docs/extending.md")
    assert set(names["result"].losses.terms) == {
        "content/block3_conv1", "style/block1_conv1", "style/block2_conv1", "style/block3_conv1",
        "grain",
    }  # fmt: skip
    assert names["minimum"].iterations == 3
    assert names["value"] < names["loss"](names["start"])[0]


API = sorted(page for page in PAGES if page.startswith("docs/api/") and "index" not in page)


@pytest.mark.parametrize("page", API)
def test_examples_of_the_api_give_what_they_show(page, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    text = "\n".join([*blocks("docs/api/index.md", "pycon"), *blocks(page, "pycon")])
    test = doctest.DocTestParser().get_doctest(text, {"folder": tmp_path}, page, page, 0)
    shown = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    runner.run(test, out=shown.append)
    assert not runner.failures, "".join(shown)


def public_names():
    """Returns the public names of the package, each with the object that it stands for."""
    found = {}
    for module in (nst_tf, *(getattr(nst_tf, name) for name in nst_tf.__all__)):
        if not inspect.ismodule(module):
            continue
        own = [
            name
            for name, value in vars(module).items()
            if getattr(value, "__module__", "") == module.__name__ and inspect.isclass(value)
        ]
        names = getattr(module, "__all__", own)
        found |= {f"{module.__name__}.{name}": getattr(module, name) for name in names}
    return {name: value for name, value in found.items() if not inspect.ismodule(value)}


def test_every_public_name_is_on_a_page_with_an_example():
    sections = [each for page in API for each in PAGES[page].split("\n## ")[1:]]
    documented = []
    for section in sections:
        title, _, text = section.partition("\n")
        assert re.search(rf"^\.\. \w+:: {re.escape(title)}$", text, re.MULTILINE), title
        assert "```pycon\n>>> " in text, title
        documented.append(title)
    names = public_names()
    known = [names[name] for name in documented]
    assert [name for name, value in names.items() if not any(value is each for each in known)] == []


@pytest.mark.slow
def test_the_notebook_runs_from_top_to_bottom(tmp_path):
    notebook = nbformat.read(ROOT / "docs" / "quickstart.ipynb", as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in cells)
    for cell in cells:
        cell.source = documents.shrunk(cell.source)
    shutil.copytree(ROOT / "images", tmp_path / "images")
    client = NotebookClient(
        notebook,
        timeout=600,
        kernel_name="python3",
        resources={"metadata": {"path": str(tmp_path)}},
    )
    client.execute(env=environment())
    assert size_of(tmp_path / "first.png") == (64, 43)
    live = next(cell for cell in cells if "Progress()]" in cell.source)
    shown = [output.data for output in live.outputs if output.output_type == "display_data"]
    assert ["image/png" in data for data in shown] == [True, False]
    assert "iteration 1 of 1, 64x43" in shown[1]["text/markdown"]  # updated in its place
    (distances,) = cells[-1].outputs
    distances = ast.literal_eval(
        re.sub(r"np\.float32\((.*?)\)", r"\1", distances.data["text/plain"])
    )
    assert distances["result"] < distances["photograph"]


def test_every_setting_is_documented():
    for name in Config.model_fields:
        assert (
            f"| `{name}`" in PAGES["docs/settings.md"] or f", `{name}`" in PAGES["docs/settings.md"]
        )


def test_links_and_pictures_lead_to_files_and_headings():
    for page, text in PAGES.items():
        folder = (ROOT / page).parent
        text = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
        for target in re.findall(r"\]\((?!https?:)([^)\s]*)\)", text):
            path, _, anchor = target.partition("#")
            file = folder / path if path else ROOT / page
            assert file.exists(), f"{page}: {target}"
            if anchor:
                assert anchor in headings(file), f"{page}: {target}"


def headings(file):
    """Returns the anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_flags_of_other_programs_are_taken_or_refused_as_the_page_says():
    rows = re.findall(r"^\| (`.*?) \| (.*?) \|", PAGES["docs/coming-from.md"], re.MULTILINE)
    assert len(rows) > 30
    for theirs, ours in rows:
        named = set(re.findall(r"`--([a-z_]+)", ours))
        assert named <= set(FLAGS)
        for name in re.findall(r"`-([a-z_]+)", theirs):
            if name in named:
                read_words([f"-{name}"], FLAGS)
            else:
                with pytest.raises(nst_tf.InputError):
                    read_words([f"-{name}"], FLAGS)


def test_the_diagram_is_the_one_that_is_drawn_now():
    drawn = runpy.run_path(str(ROOT / "docs" / "diagram.py"))["draw"]()
    assert drawn == (ROOT / "docs" / "method.svg").read_bytes(), "run python docs/diagram.py"

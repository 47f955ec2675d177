"""Batches and sweeps: which images are made, under which names, in which processes, and again."""

import contextlib
import csv
import io
import json
import os
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image
from rich.console import Console

import nst_tf
from nst_tf import batch, jobs, main, system
from nst_tf.batch import execute
from nst_tf.batch.contact_sheet import contact_sheet, shape_of
from nst_tf.batch.execute import BatchPlanned, BatchProgress, Outcome
from nst_tf.batch.plan import combinations, expand, pictures, unique_names
from nst_tf.batch.sweeps import Report, as_variants
from nst_tf.cli import batches, flags
from nst_tf.config import Config
from nst_tf.errors import InputError, InUseError, MachineError
from nst_tf.events import Iteration
from nst_tf.io import files, images
from nst_tf.jobs import JobResult
from nst_tf.jobs.output import run_folder
from nst_tf.jobs.planning import outline, plan
from tests import command
from tests.command import CONTENT, PALACE, STYLE

KANDINSKY = STYLE.with_name("kandinsky.jpg")
SMALL = {
    "image_size": 64,
    "style_scale": 0.75,
    "num_iterations": 3,
    "init": "content",
    "pyramid": "none",
}


def small(**settings):
    return Config(**{"content_image": CONTENT, "style_image": [STYLE], **SMALL, **settings})


def small_flags(**settings):
    return [f"--{name}={value}" for name, value in {**SMALL, **settings}.items()]


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def wait_for_rows(trace, rows, child):
    """Waits until a run has appended so many rows to its trace."""
    deadline = time.monotonic() + 240
    while not trace.exists() or trace.read_bytes().count(b"\n") <= rows:
        assert child.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)


def refusal(*argv):
    with pytest.raises(InputError) as raised:
        flags.parse(list(map(str, argv)))
    return str(raised.value)


@pytest.fixture
def photos(tmp_path):
    """A folder with images of three shapes, and files that are none."""
    folder = tmp_path / "photos"
    folder.mkdir()
    with Image.open(PALACE) as image:
        for name, size in (("a.jpg", (90, 70)), ("b.PNG", (70, 90)), ("c.webp", (96, 64))):
            image.resize(size).save(folder / name)
    (folder / "notes.txt").write_text("no image")
    (folder / ".hidden.jpg").write_text("no image")
    (folder / "more").mkdir()
    shutil.copy(folder / "a.jpg", folder / "more" / "d.jpg")
    return folder


# Files


def test_CMD_19_folders_patterns_and_files_are_expanded_in_their_order(photos, monkeypatch):
    monkeypatch.chdir(photos)
    inside = [photos / name for name in ("a.jpg", "b.PNG", "c.webp")]
    assert expand([photos], "content_image") == inside
    assert expand(["*"], "content_image") == [*inside, photos / "more" / "d.jpg"]
    assert expand(["[ac].*"], "content_image") == [inside[0], inside[2]]
    assert expand(["**/*.jpg"], "content_image") == [inside[0], photos / "more" / "d.jpg"]
    assert expand(["c.webp", photos, "missing.jpg"], "content_image") == [
        inside[2], inside[0], inside[1], photos / "missing.jpg",
    ]  # fmt: skip
    Path("[ac].jpg").write_text("")  # a file that exists is itself
    assert expand(["[ac].jpg"], "content_image") == [photos / "[ac].jpg"]


def test_CMD_19_nothing_found_is_refused(photos):
    (photos / "empty").mkdir()
    with pytest.raises(InputError, match=r"content_image names no image \(.*empty\): there is no"):
        expand([photos / "empty"], "content_image")
    with pytest.raises(InputError, match=r"style_image .*no image file matches the pattern; name"):
        expand([photos / "*.txt"], "style_image")


def test_CMD_19_results_in_the_folder_of_the_photos_are_no_photos(photos):
    config = small(output_image=photos / "a_the_scream.png", num_iterations=0)
    jobs.run(config)
    assert (photos / "a_the_scream.png").exists()
    found = expand([photos], "content_image", photos)
    assert [path.name for path in found] == ["a.jpg", "b.PNG", "c.webp"]
    assert len(expand([photos], "content_image")) == 4
    assert expand([photos / "a_the_scream.png"], "content_image", photos)  # where it is named


def test_RUN_21_equal_names_are_told_apart_by_their_paths():
    paths = [Path("/p/a/x.jpg"), Path("/p/b/X.jpg"), Path("/p/b/y.jpg"), Path("/p/b/y.png")]
    assert list(unique_names(paths).values()) == ["a_x", "b_X", "y-jpg", "y-png"]
    deep = [Path("/q/1/a/x.jpg"), Path("/q/2/a/x.jpg")]
    assert list(unique_names(deep).values()) == ["1_a_x-jpg", "2_a_x-jpg"]


def test_RUN_21_two_results_of_one_name_are_refused():
    with pytest.raises(InputError, match="two images would have the same name") as raised:
        pictures(small(), ["a_b.jpg", "a.jpg"], ["c.jpg", "b_c.jpg"], each=True)
    assert "a_b_c.png" in raised.value.where


def test_images_are_named_after_their_files_and_settings(tmp_path):
    both = pictures(small(), ["a.jpg", "b.jpg"], ["s.jpg", "t.jpg"], output_dir=tmp_path)
    assert [picture.config.output_image for picture in both] == [
        tmp_path / "a_s_t.png", tmp_path / "b_s_t.png",
    ]  # fmt: skip
    assert [style.name for style in both[0].config.style_image] == ["s.jpg", "t.jpg"]
    each = pictures(small(), ["a.jpg"], ["s.jpg", "t.jpg"], each=True, suffix=".webp")
    assert [picture.config.output_image.name for picture in each] == ["a_s.webp", "a_t.webp"]
    assert [len(picture.config.style_image) for picture in each] == [1, 1]
    swept = pictures(small(), variants=combinations({"style_layers": ["block1_conv1:2"]}))
    assert swept[0].name == "tubingen_the_scream_style_layers-block1_conv1_2"


def test_variants_whose_names_are_cut_are_numbered():
    long = [f"block1_conv1,block2_conv1,block3_conv1,block4_conv1:{number}" for number in (1, 2)]
    swept = pictures(small(), variants=combinations({"style_layers": long}))
    assert [picture.name[:24] for picture in swept] == [
        "tubingen_the_scream_1_st", "tubingen_the_scream_2_st",
    ]  # fmt: skip


def test_the_values_of_the_last_setting_vary_fastest():
    found = combinations({"seed": [1, 2], "style_weight": {"1e4": 1e4, "1e5": 1e5}})
    assert [variant.settings for variant in found] == [
        {"seed": 1, "style_weight": 1e4}, {"seed": 1, "style_weight": 1e5},
        {"seed": 2, "style_weight": 1e4}, {"seed": 2, "style_weight": 1e5},
    ]  # fmt: skip
    assert found[1].label == "seed 1, style_weight 1e5"
    assert found[1].columns == {"seed": "1", "style_weight": "1e5"}


# The command


def planned(*argv):
    return flags.parse(list(map(str, argv))).batch


def made(*argv):
    return [
        (picture.config.content_image.name, *[style.name for style in picture.config.style_image])
        for picture in planned(*argv).pictures
    ]


def test_CMD_20_files_after_a_flag_belong_to_it_as_a_shell_writes_them():
    words = ["--content_image", "a.jpg", "b.jpg", "--style_image=s.jpg", "t.jpg", "--seed=3"]
    assert made(*words) == [("a.jpg", "s.jpg", "t.jpg"), ("b.jpg", "s.jpg", "t.jpg")]
    assert made(*words, "--each") == [
        ("a.jpg", "s.jpg"), ("a.jpg", "t.jpg"), ("b.jpg", "s.jpg"), ("b.jpg", "t.jpg"),
    ]  # fmt: skip
    assert made("--content_image=a.jpg", "--content_image=b.jpg", "--style_image=s.jpg") == [
        ("a.jpg", "s.jpg"), ("b.jpg", "s.jpg"),
    ]  # fmt: skip
    assert "unexpected argument 'x.jpg'" in refusal(*words, "x.jpg")


def test_CMD_20_words_after_a_list_keep_their_order_and_their_flag(photos, monkeypatch):
    monkeypatch.chdir(photos)
    Path("c.yaml").write_text("content_image: a.jpg\n")

    def styles(*argv):
        config = flags.parse(argv).config
        return [path.name for path in (config.content_image, *config.style_image)]

    assert styles("--config=c.yaml", "--style_image", "s.jpg", "t.jpg") == [
        "a.jpg",
        "s.jpg",
        "t.jpg",
    ]
    assert styles("a.jpg", "--style_image", "t.jpg", "s.jpg") == ["a.jpg", "t.jpg", "s.jpg"]
    twice = ["--style_image", "s.jpg", "b.PNG", "--seed=1", "--style_image", "t.jpg"]
    assert styles("a.jpg", *twice) == ["a.jpg", "s.jpg", "b.PNG", "t.jpg"]
    masked = flags.parse(["a.jpg", "s.jpg", "t.jpg", "--content_masks", "b.PNG", "c.webp"]).config
    assert [path.name for path in masked.content_masks] == ["b.PNG", "c.webp"]


def test_CMD_20_one_image_is_no_batch(photos, monkeypatch):
    monkeypatch.chdir(photos)
    assert planned("a.jpg", "s.jpg", "t.jpg") is None
    assert planned("--content_image=a.jpg", "--content_image=a.jpg", "--style_image=s.jpg") is None
    blended = flags.parse(["a.jpg", "[bc].*"])
    assert blended.batch is None
    assert blended.config.style_image == (photos / "b.PNG", photos / "c.webp")
    assert len(planned(".", "s.jpg").pictures) == 3
    assert len(planned("a.jpg", "s.jpg", "--output_dir=x").pictures) == 1


def test_CMD_20_the_folder_and_the_format_of_the_results(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["--content_image=a.jpg,b.jpg", "--style_image=s.jpg"]

    def first(*argv):
        return planned(*words, *argv).pictures[0].config.output_image

    assert first() == tmp_path / "a_s.png"
    assert first("--output_dir=x/y", "--output_format=webp") == tmp_path / "x" / "y" / "a_s.webp"
    (tmp_path / "c.yaml").write_text("output_image: r/z.jpg\n")
    assert first("--config=c.yaml") == tmp_path / "r" / "a_s.jpg"


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (["--output_image=x.png"], "--output_image names one image: several are made"),
        (["--output_format=gif"], "--output_format is no format: it is 'gif'"),
        (["--output_format=jpg", "--bit_depth=16"], "bit_depth is 16, and JPEG is written with 8"),
        (["--sweep=style_weight"], "cannot read --sweep: 'style_weight' has no values"),
        (["--sweep=style_wieght=1,2"], "did you mean 'style_weight'?"),
        (["--sweep=style_weight=1,x"], "style_weight cannot be 'x'"),
        (["--sweep=style_weight="], "cannot sweep style_weight: there are no values"),
        (["--sweep=seed=1", "--sweep=seed=2"], "cannot sweep seed: it is given twice"),
        (["--sweep=style_image=a.jpg,b.jpg"], "give several files to --style_image, with --each"),
        (["--workers=two"], "workers cannot be 'two'"),
        (["--workers=-1"], "workers cannot be -1"),
        (["--each", "--style_blend_weights=1,2"], "style_blend_weights cannot be [1.0, 2.0]"),
    ],
)
def test_CMD_21_what_makes_no_batch_is_refused(argv, text):
    words = ["--content_image=a.jpg,b.jpg", "--style_image=s.jpg,t.jpg"]
    assert text in refusal(*words, *argv)


def test_CMD_21_a_contact_sheet_belongs_to_a_sweep():
    assert "--cell_size has no use here: it belongs to a sweep" in refusal(
        "a.jpg", "s.jpg", "--cell_size=64"
    )
    assert "content_image is missing" in refusal("--style_image=s.jpg", "--each")
    assert "style_image is missing" in refusal("--content_image=a.jpg,b.jpg")


def test_CMD_22_values_are_labeled_as_they_are_written(tmp_path):
    found = planned(
        "a.jpg", "s.jpg", "--sweep", "style_weight=1e4,1e5", "--sweep=bounds=true,false",
        f"--output_dir={tmp_path}", "--contact_sheet", tmp_path / "x.webp", "--cell_size=64",
    )  # fmt: skip
    assert [picture.variant.label for picture in found.pictures] == [
        "style_weight 1e4, bounds true", "style_weight 1e4, bounds false",
        "style_weight 1e5, bounds true", "style_weight 1e5, bounds false",
    ]  # fmt: skip
    assert (found.pictures[3].config.style_weight, found.pictures[3].config.bounds) == (1e5, False)
    assert (found.contact_sheet, found.cell_size) == (tmp_path / "x.webp", 64)
    layers = planned(
        "a.jpg", "s.jpg", "--sweep=style_layers=block1_conv1,block2_conv1;block3_conv1"
    )
    assert [list(picture.config.style_layers) for picture in layers.pictures] == [
        ["block1_conv1", "block2_conv1"], ["block3_conv1"],
    ]  # fmt: skip
    presets = planned("a.jpg", "s.jpg", "--sweep=preset=draft,fine", "--seed=7")
    assert [picture.config.num_iterations for picture in presets.pictures] == [9, 200]


def test_CMD_23_the_plan_of_a_batch_has_a_line_for_each_image(photos, capsys):
    (photos / "d.jpg").write_text("no image")
    words = [f"--content_image={photos}", f"--style_image={STYLE}", *small_flags()]
    code = main.main([*words, f"--output_dir={photos.parent}", "--dry_run"])
    out, err = capsys.readouterr()
    assert code == 1
    lines = [line for line in out.splitlines() if line.startswith("# ")]
    assert [line.split(": ")[0] for line in lines] == [
        "# a_the_scream.png", "# b_the_scream.png", "# c_the_scream.png",
    ]  # fmt: skip
    assert "iterations at 64x50: 3" in lines[0] and "iterations at 50x64: 3" in lines[1]
    assert "d_the_scream.png  cannot read the image" in out
    assert err.startswith("nst_tf: error: 1 of 4 images failed: ")


# Contact sheets


def test_a_contact_sheet_shows_images_in_rows_under_their_labels():
    colors = [(200, 30, 30), (30, 200, 30), (30, 30, 200)]
    shown = [np.full((20, 40, 3), color, np.float32) for color in colors]
    shown[2] = shown[2].transpose(1, 0, 2)
    sheet = contact_sheet(shown, ["one", "two", "three"], 2, 80)
    # Labels of 22 pixels, images of 80x40 and 80x160, gaps of 8.
    assert sheet.shape == (22 + 40 + 8 + 22 + 160, 168, 3)
    assert shape_of([(20, 40), (20, 40), (40, 20)], ["one", "two", "three"], 2, 80) == (252, 168)
    assert (sheet[22:62, :80] == colors[0]).all()
    assert (sheet[22:62, 88:] == colors[1]).all()
    assert (sheet[92:, :80] == colors[2]).all()
    assert (sheet[70:, 80:] == 255).all() and (sheet[62:70] == 255).all()
    assert (sheet[:22, :80] < 128).any() and (sheet[70:92, :80] < 128).any()


def test_a_label_that_is_wide_is_broken_within_its_cell():
    label = "style_weight 1e4, style_layers block1_conv1,block2_conv1,block3_conv1"
    sheet = contact_sheet([np.zeros((10, 10, 3), np.float32)] * 2, [label, ""], 2, 96)
    top = sheet.shape[0] - 96
    assert top > 22 and (top - 4) % 18 == 0
    assert (sheet[:top, 96:] == 255).all()
    assert (sheet[4:22, :96] < 128).any() and (sheet[top - 18 : top, :96] < 128).any()


def test_OUT_26_a_contact_sheet_that_cannot_be_written_is_refused_before_the_work(tmp_path):
    swept = pictures(small(), variants=combinations({"seed": [1, 2]}), output_dir=tmp_path)
    with pytest.raises(InputError, match="choose x"):
        Report(swept, tmp_path / "x.gif", 64)
    with pytest.raises(InputError, match="WEBP holds at most 16383 pixels"):
        Report(swept, tmp_path / "x.webp", 10_000)
    with pytest.raises(InputError, match="cell_size is too small: it is 3"):
        Report(swept, tmp_path / "x.png", 3)
    for name in ("x.png", "y.csv"):
        (tmp_path / name).write_text("somebody's")
        with pytest.raises(MachineError, match="no sweep wrote that file"):
            Report(swept, (tmp_path / name).with_suffix(".png"), 64)
        Report(swept, (tmp_path / name).with_suffix(".png"), 64, overwrite=True)


def test_OUT_26_only_the_sheet_and_the_table_of_a_sweep_are_replaced(tmp_path):
    swept = pictures(small(), variants=combinations({"seed": [1, 2]}), output_dir=tmp_path)
    other = pictures(small(), variants=combinations({"init": ["noise"]}), output_dir=tmp_path)
    sheet, table = tmp_path / "s.png", tmp_path / "s.csv"
    black = np.zeros((20, 64, 3), np.uint8)
    report = Report(swept, sheet, 64)
    done = [
        Outcome(picture, JobResult(tmp_path / "a.png", {}, None, "finished")) for picture in swept
    ]
    (tmp_path / "a.png").write_bytes(images.encode(black, ".png", json.dumps({"seed": 1})))
    assert report.write(done).contact_sheet == sheet
    Report(other, sheet, 64)
    header = table.read_text().splitlines()[0]
    for text in ("image,price\n", header + ",note\n", header.removesuffix(",failure") + "\n", ""):
        table.write_text(text)
        with pytest.raises(MachineError, match=r"no sweep wrote that file.*choose another"):
            Report(swept, sheet, 64)
    table.unlink()
    for text in (json.dumps({"seed": 1}), "no JSON", "5"):  # an image of a run, and of no version
        sheet.write_bytes(images.encode(black, ".png", text))
        with pytest.raises(MachineError, match="no sweep wrote that file"):
            Report(swept, sheet, 64)


@pytest.mark.parametrize("overwrite", [False, True])
def test_OUT_26_a_contact_sheet_replaces_no_input_and_no_image_of_the_sweep(tmp_path, overwrite):
    shutil.copy(CONTENT, tmp_path / "c.png")
    shutil.copy(STYLE, tmp_path / "t.csv")
    (tmp_path / "link.png").symlink_to(tmp_path / "c.png")
    swept = pictures(
        small(content_image=tmp_path / "c.png", style_image=[tmp_path / "t.csv"]),
        variants=combinations({"seed": [1, 2]}), output_dir=tmp_path,
    )  # fmt: skip
    for name, words in (
        ("c.png", "the sheet would replace an input"),
        ("link.png", "the sheet would replace an input"),
        ("t.png", "the table would replace an input"),
        ("c_t_seed-2.png", "the sheet would replace an image of the sweep"),
    ):
        with pytest.raises(InputError, match=words):
            Report(swept, tmp_path / name, 64, overwrite=overwrite)
    numbered = tmp_path / "c_t_seed-1-2.png"
    report = Report(swept, numbered, 64, overwrite=overwrite)
    numbered.write_bytes(b"the image")  # as its name was taken
    with pytest.raises(InputError, match="the sheet would replace an image of the sweep"):
        report.write([Outcome(swept[0], JobResult(numbered, {}, None, "finished"))])
    assert numbered.read_bytes() == b"the image" and not numbered.with_suffix(".csv").exists()


# Runs


def test_a_plan_from_headers_is_that_from_pixels(photos):
    Image.open(photos / "a.jpg").save(
        photos / "e.jpg",
        exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0",
    )
    for path in [*expand([photos], "content_image"), CONTENT]:
        config = small(content_image=path)
        found, expected = outline(config), plan(config)
        assert found.shape == images.read(path).shape[:2] or max(found.shape) == 64
        assert found.shape == expected.levels[-1][:2]
        assert found.expected.memory_bytes == expected.memory_bytes
    assert outline(small(content_image=photos / "e.jpg")).shape == (64, 50)


def events_of(run_pictures, **options):
    events = []
    outcomes = batch.run(run_pictures, callbacks=[events.append], **options)
    return outcomes, events


def test_RUN_47_one_failing_image_keeps_no_other_from_being_made(photos, tmp_path):
    (photos / "b.PNG").write_text("no image")
    contents = expand([photos], "content_image")
    run_pictures = pictures(small(), contents, output_dir=tmp_path / "out")
    outcomes, events = events_of(run_pictures)
    assert [outcome.status for outcome in outcomes] == ["finished", "failed", "finished"]
    assert isinstance(outcomes[1].error, InputError) and "not an image" in outcomes[1].failure
    assert isinstance(events[0], BatchPlanned)
    assert (events[0].images, events[0].workers, events[0].workers_asked) == (3, 1, 1)
    assert [event for event in events if isinstance(event, Outcome)] == outcomes
    progress = [event for event in events if isinstance(event, BatchProgress)]
    assert [event.share for event in progress] == sorted(event.share for event in progress)
    assert progress[-1].done == 3 and progress[-1].share == 1.0
    assert progress[-1].seconds_left == 0.0
    before = (tmp_path / "out" / "a_the_scream.png").stat().st_mtime_ns
    again, _ = events_of(run_pictures)
    assert [outcome.status for outcome in again] == ["nothing to do", "failed", "nothing to do"]
    assert (tmp_path / "out" / "a_the_scream.png").stat().st_mtime_ns == before


def test_OUT_27_other_settings_of_a_batch_keep_the_images_of_the_first(tmp_path):
    first = pictures(small(num_iterations=1), output_dir=tmp_path)
    other = pictures(small(num_iterations=2), output_dir=tmp_path)
    assert batch.run(first)[0].result.path.name == "tubingen_the_scream.png"
    made = batch.run(other)[0]
    assert (made.status, made.result.path.name) == ("finished", "tubingen_the_scream-2.png")
    assert batch.run(other)[0].status == batch.run(first)[0].status == "nothing to do"
    assert [name for name in names(tmp_path) if name.endswith("png")] == [
        "tubingen_the_scream-2.png", "tubingen_the_scream.png",
    ]  # fmt: skip
    assert batch.run(other, resume=True)[0].status == "nothing to do"


def test_a_stopped_batch_says_what_was_not_begun_and_goes_on(tmp_path):
    run_pictures = pictures(
        small(num_iterations=30), variants=combinations({"seed": [1, 2]}), output_dir=tmp_path
    )
    shares = []

    def note(event):
        if isinstance(event, BatchProgress):
            shares.append(event.share)

    outcomes = batch.run(
        run_pictures, callbacks=[note], should_stop=lambda: bool(shares) and shares[-1] > 0.1
    )
    assert [outcome.status for outcome in outcomes] == ["stopped", "not begun"]
    assert outcomes[0].result.path.exists()
    again = batch.run(run_pictures)
    assert [outcome.status for outcome in again] == ["finished", "finished"]
    rows = (run_folder(outcomes[0].result.path) / "trace.csv").read_text().splitlines()[1:]
    assert [int(row.split(",")[0]) for row in rows] == list(range(1, 31))


def test_RUN_20_a_place_that_is_in_use_is_waited_for(tmp_path, monkeypatch):
    (picture,) = pictures(small(num_iterations=0), output_dir=tmp_path)
    folder = run_folder(picture.config.output_image)
    held, release = threading.Event(), threading.Event()

    def hold():
        with files.lock_directory(folder):
            held.set()
            release.wait(60)

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait(60)
    monkeypatch.setattr(execute, "_WAIT_SECONDS", 0.0)
    (outcome,) = batch.run([picture])
    assert isinstance(outcome.error, InUseError)
    monkeypatch.setattr(execute, "_WAIT_SECONDS", 60.0)
    threading.Timer(1.0, release.set).start()
    assert batch.run([picture])[0].status == "finished"
    holder.join()


def test_an_image_that_asks_for_memory_limits_how_many_are_made_at_once(tmp_path, monkeypatch):
    run_pictures = pictures(
        small(), variants=combinations({"seed": [1, 2, 3]}), output_dir=tmp_path
    )
    needed = outline(run_pictures[0].config).expected.memory_bytes
    monkeypatch.setattr(system, "available_memory", lambda: int(2.5 * needed))
    _, events = events_of(run_pictures, workers=3, should_stop=lambda: True)
    assert (events[0].workers, events[0].workers_asked) == (2, 3)
    assert events[0].memory_bytes == needed
    line = batches._describe(events[0])
    assert line.startswith(
        "3 images, 2 at once, as memory does not suffice for 3; each takes up to"
    )


@pytest.mark.slow
def test_a_second_interrupt_kills_the_processes_at_once(tmp_path):
    run_pictures = pictures(small(num_iterations=100_000), output_dir=tmp_path)

    def interrupt(event):
        if isinstance(event, BatchProgress) and event.share > 0.0:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        batch.run(run_pictures, workers=1, callbacks=[interrupt])
    assert children() == []
    assert not run_pictures[0].config.output_image.exists()


def on_terminal(*events):
    screen = io.StringIO()
    terminal = Console(file=screen, force_terminal=True, width=80)
    with batches.display(3, terminal) as show:
        for event in events:
            show(event)
    return screen.getvalue()


def test_CMD_13_a_terminal_gets_one_bar_for_the_whole_batch():
    text = on_terminal(BatchPlanned(3, 1, 1, 1_100_000_000, 20.0), BatchProgress(1, 3, 0.4, 90.0))
    assert "3 images, 1 at once; each takes up to about 1.1 GB of memory; about 20 s" in text
    assert "1/3 images" in text and "90 s left" in text


def test_the_time_left_is_that_of_the_measured_cost(monkeypatch):
    """By hand: 0.3 of the work in 30 s, after a start that is not measured, leaves 60 s for 0.6."""
    clock = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    whole = outline(small())
    progress = execute._Progress([whole, whole])
    losses = nst_tf.Losses({"tv": 1.0})
    assert progress.event(0).seconds_left is None
    clock[0] = 8.0
    progress.update(0, Iteration(1, 10, 1, 0.5, 0.2, 1.0, losses, 20, 64))
    assert progress.event(0).seconds_left is None
    clock[0] = 38.0
    progress.update(0, Iteration(4, 10, 4, 30.5, 0.8, 1.0, losses, 20, 64))
    assert progress.event(0).share == pytest.approx(0.4)
    assert progress.event(0).seconds_left == pytest.approx(60.0)
    # What was done before an interruption is no work of this batch, nor is what is skipped.
    progress.update(1, Iteration(6, 10, 6, 90.0, 0.5, 1.0, losses, 20, 64))
    assert progress.event(0).seconds_left == pytest.approx(35.0)
    progress.end(1, counts=False)
    assert progress.event(1).share == pytest.approx(0.8)
    assert progress.event(1).images == 2


def children():
    """Returns the processes that run jobs, here and on the workers of a cluster on this machine."""
    found = []
    for each in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):  # it is ending
            if any("nst_tf.jobs.worker" in word for word in each.cmdline()):
                found.append(each)
    return found


def test_RUN_48_a_process_that_dies_costs_its_image_a_second_try_and_the_others_nothing(tmp_path):
    run_pictures = pictures(
        small(num_iterations=6, checkpoint_seconds=1e-6),
        variants=combinations({"seed": [1, 2]}), output_dir=tmp_path,
    )  # fmt: skip
    trace = run_folder(run_pictures[0].config.output_image) / "trace.csv"
    killed = []

    def kill_once(event):
        if isinstance(event, BatchProgress) and not killed and trace.exists():
            killed.extend(child.pid for child in children())
            children()[0].kill()

    outcomes = batch.run(run_pictures, workers=1, callbacks=[kill_once])
    assert len(killed) == 1
    assert [outcome.status for outcome in outcomes] == ["finished", "finished"]
    assert children() == []


@pytest.mark.slow
def test_RUN_48_a_process_that_dies_again_is_a_failure_of_its_image(tmp_path, monkeypatch):
    run_pictures = pictures(small(), variants=combinations({"seed": [1, 2]}), output_dir=tmp_path)
    (tmp_path / "sitecustomize.py").write_text(
        "import os, nst_tf.jobs.planning as planning\n"
        "read = planning.read_inputs\n"
        "def dying(config):\n"
        "    if config.seed == 1: os.kill(os.getpid(), 9)\n"
        "    return read(config)\n"
        "planning.read_inputs = dying\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    outcomes = batch.run(run_pictures, workers=1)
    assert [outcome.status for outcome in outcomes] == ["failed", "finished"]
    assert outcomes[0].failure.startswith("the run died of SIGKILL: ")


@pytest.fixture(scope="module")
def one_by_one(tmp_path_factory):
    """A sweep of 2 x 2 settings by the command in one process, with one thread as all others."""
    folder = tmp_path_factory.mktemp("sweep") / "one"
    done = command.run(
        CONTENT, STYLE, *small_flags(threads=1), f"--output_dir={folder}", "--cell_size=64",
        *(f"--sweep={name}={','.join(map(str, values))}" for name, values in SWEPT.items()),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done, folder


SWEPT = {"style_weight": [10_000, 1_000_000], "style_scale": [0.75, 1]}


def swept(folder, **options):
    return nst_tf.sweep(small(threads=1), SWEPT, output_dir=folder, cell_size=64, **options)


def test_a_sweep_makes_all_combinations_a_contact_sheet_and_a_table(one_by_one):
    done, folder = one_by_one
    assert [line.split(": ")[0] for line in done.stdout.splitlines()[1:]] == [
        *(
            f"[{number}/4] saved {os.path.relpath(folder / f'tubingen_the_scream_{name}.png')}"
            for number, name in enumerate(
                (
                    "style_weight-10000_style_scale-0.75", "style_weight-10000_style_scale-1",
                    "style_weight-1000000_style_scale-0.75", "style_weight-1000000_style_scale-1",
                ),
                start=1,
            )
        ),
        f"saved {os.path.relpath(folder / 'sweep.png')}",
        f"saved {os.path.relpath(folder / 'sweep.csv')}",
    ]  # fmt: skip
    result = swept(folder)  # which finds all of it
    assert [outcome.status for outcome in result.outcomes] == ["nothing to do"] * 4
    assert (result.contact_sheet, result.figures) == (folder / "sweep.png", folder / "sweep.csv")
    with result.figures.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["style_weight"], row["style_scale"]) for row in rows] == [
        ("10000", "0.75"), ("10000", "1"), ("1000000", "0.75"), ("1000000", "1"),
    ]  # fmt: skip
    for row, outcome in zip(rows, result.outcomes, strict=True):
        record = json.loads((run_folder(folder / row["image"]) / "run.json").read_text())
        assert float(row["loss"]) == record["loss"] == outcome.result.record["loss"]
        assert row["status"] == "finished" and row["iterations"] == "3"
    sheet = images.read(result.contact_sheet)
    assert sheet.shape[1] == 2 * 64 + 8
    first = images.read(folder / rows[0]["image"])
    np.testing.assert_array_equal(sheet[-20:, :64], images.read(folder / rows[2]["image"]))
    assert first.shape == (20, 64, 3)


def assert_same(folder, other):
    """Asserts that two sweeps made the same files."""
    assert names(folder) == names(other)
    made = [name for name in names(folder) if name.endswith(".png")]
    assert len(made) == 5
    for name in made:
        assert (folder / name).read_bytes() == (other / name).read_bytes(), name
    losses = []
    for each in (folder, other):
        with (each / "sweep.csv").open(newline="") as file:
            losses.append([(row["image"], row["loss"]) for row in csv.DictReader(file)])
    assert losses[0] == losses[1]


def test_a_sweep_in_two_processes_gives_the_same_bytes(one_by_one):
    folder = one_by_one[1].with_name("processes")
    result = swept(folder, workers=2)
    assert [outcome.failure for outcome in result.outcomes] == [""] * 4
    assert_same(folder, one_by_one[1])


@pytest.fixture
def cluster():
    """The address of a dask cluster of two workers on this machine."""
    distributed = pytest.importorskip(
        "distributed", reason='dask.distributed is not installed: pip install "nst_tf[cluster]"'
    )
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, memory_limit=0
    ) as found:
        yield found.scheduler_address


@pytest.mark.filterwarnings("default")  # those of dask
def test_a_sweep_on_two_workers_of_dask_gives_the_same_bytes(one_by_one, cluster):
    folder = one_by_one[1].with_name("cluster")
    events = []
    result = swept(folder, cluster=cluster, callbacks=[events.append])
    assert [outcome.failure for outcome in result.outcomes] == [""] * 4
    assert (events[0].workers, events[0].workers_asked) == (2, 2)
    assert_same(folder, one_by_one[1])
    assert children() == []


@pytest.mark.filterwarnings("default")  # those of dask
@pytest.mark.skipif(os.name != "posix", reason="SIGKILL")
@pytest.mark.slow
def test_RUN_49_jobs_on_a_cluster_end_with_the_command_and_save(tmp_path, cluster):
    folder = tmp_path / "out"
    child = subprocess.Popen(
        command.command(
            CONTENT, STYLE, f"--output_dir={folder}", f"--cluster={cluster}",
            *small_flags(num_iterations=100_000),
        ),
        env=command.environment(), start_new_session=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    trace = folder / "tubingen_the_scream.png.run" / "trace.csv"
    wait_for_rows(trace, 2, child)
    os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    deadline = time.monotonic() + 120
    while children() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert children() == []
    record = json.loads((trace.parent / "run.json").read_text())
    assert not record["finished"] and record["iterations"] >= 2
    assert (folder / "tubingen_the_scream.png").exists()


def test_CMD_24_a_cluster_that_is_not_there_is_told_in_a_line(tmp_path, monkeypatch):
    pytest.importorskip("distributed", reason="dask.distributed is not installed")
    run_pictures = pictures(small(), output_dir=tmp_path)
    monkeypatch.setattr("nst_tf.engine.connection.CONNECT_SECONDS", 1)
    with pytest.raises(MachineError, match=r"cannot reach the cluster \(tcp://127\.0\.0\.1:9\): "):
        batch.run(run_pictures, cluster="tcp://127.0.0.1:9")
    with pytest.raises(InputError, match="give a positive number of workers, or the address"):
        batch.run(run_pictures, workers=2, cluster="tcp://127.0.0.1:9")


def test_CMD_24_without_dask_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "distributed", None)
    with pytest.raises(MachineError, match=r'pip install "nst_tf\[cluster\]"'):
        batch.run(pictures(small(), output_dir=tmp_path), cluster="tcp://127.0.0.1:9")


def test_variants_may_be_given_by_their_labels(tmp_path):
    variants = as_variants({"a: one": {"seed": 1}, "two, three": {"seed": 2, "init": "noise"}})
    assert [variant.columns for variant in variants] == [
        {"label": "a: one"}, {"label": "two, three"},
    ]  # fmt: skip
    found = pictures(small(), variants=variants, output_dir=tmp_path)
    assert [picture.name for picture in found] == [
        "tubingen_the_scream_label-a_one", "tubingen_the_scream_label-two,_three",
    ]  # fmt: skip
    assert [picture.config.init for picture in found] == ["content", "noise"]


def test_CMD_21_a_sweep_of_nothing_is_refused():
    with pytest.raises(InputError, match="cannot sweep: there are no settings; give lists of"):
        nst_tf.sweep(small(), {})


# Interruptions


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL")
@pytest.mark.slow
def test_RUN_49_a_batch_that_is_killed_three_times_makes_the_same_files(photos, tmp_path):
    def words(folder):
        return command.command(
            f"--content_image={photos}", f"--style_image={STYLE}", f"--output_dir={folder}",
            *small_flags(num_iterations=12, checkpoint_seconds=1e-6),
        )  # fmt: skip

    folder, undisturbed = tmp_path / "killed", tmp_path / "undisturbed"
    killed_at = []
    for name, rows in (("a", 2), ("a", 6), ("b", 4)):
        trace = folder / f"{name}_the_scream.png.run" / "trace.csv"
        child = subprocess.Popen(
            words(folder), env=command.environment(), start_new_session=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        wait_for_rows(trace, rows, child)
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        killed_at.append([path.name for path in folder.glob("*.png")])
    assert "c_the_scream.png" not in killed_at[-1]
    done = subprocess.run(words(folder), env=command.environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "[1/3] a_the_scream.png is finished" in done.stdout
    whole = subprocess.run(words(undisturbed), env=command.environment(), capture_output=True)
    assert whole.returncode == 0
    assert names(folder) == names(undisturbed)
    assert len(names(folder)) == 6
    for name in ("a", "b", "c"):
        image = f"{name}_the_scream.png"
        assert (folder / image).read_bytes() == (undisturbed / image).read_bytes()
        ours, theirs = run_folder(folder / image), run_folder(undisturbed / image)
        assert names(ours) == names(theirs)
        assert [row.split(",")[5:] for row in (ours / "trace.csv").read_text().splitlines()] == [
            row.split(",")[5:] for row in (theirs / "trace.csv").read_text().splitlines()
        ]


@pytest.mark.skipif(os.name != "posix", reason="SIGTERM")
@pytest.mark.parametrize("workers", [0, 1])
def test_RUN_14_a_batch_that_is_stopped_says_how_far_it_is(photos, tmp_path, workers):
    (photos / "b.PNG").write_text("no image")
    child = subprocess.Popen(
        command.command(
            f"--content_image={photos}", f"--style_image={STYLE}", f"--output_dir={tmp_path}",
            f"--workers={workers}", *small_flags(num_iterations=100_000),
        ),
        env=command.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    trace = tmp_path / "a_the_scream.png.run" / "trace.csv"
    wait_for_rows(trace, 2, child)
    child.terminate()
    out, err = child.communicate(timeout=120)
    assert child.returncode == 143
    assert err == "stopped: 0 of 3 images are finished; the same command goes on with the others\n"
    assert out.startswith("3 images, 1 at once; each takes up to about ")


def test_CMD_19_the_command_ends_with_a_table_of_what_failed(photos, tmp_path):
    (photos / "b.PNG").write_text("no image")
    done = command.run(
        f"--content_image={photos}/*", f"--style_image={STYLE}", f"--output_dir={tmp_path / 'o'}",
        *small_flags(num_iterations=0), "--workers=1", "--output_format=jpg",
    )  # fmt: skip
    assert done.returncode == 1
    table = done.stdout.partition("failed:\n")[2].splitlines()
    assert len(table) == 1 and table[0].startswith("  b_the_scream.jpg  cannot read the image (")
    errors = done.stderr.splitlines()
    assert len(errors) == 2
    assert errors[0].startswith("nst_tf: error: [2/4] b_the_scream.jpg: cannot read the image (")
    assert errors[1].startswith("nst_tf: error: 1 of 4 images failed: the table above says why; ")
    assert [name for name in names(tmp_path / "o") if not name.endswith(".run")] == [
        "a_the_scream.jpg", "c_the_scream.jpg", "d_the_scream.jpg",
    ]  # fmt: skip

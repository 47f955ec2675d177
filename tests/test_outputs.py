"""Outputs: names, numbers and run folders; what is never replaced; going on with more."""

import contextlib
import json
import logging
import os
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from nst_tf import Stylizer, jobs, optimizers
from nst_tf.config import Config
from nst_tf.engine import pyramid
from nst_tf.engine.pyramid import Level
from nst_tf.engine.state import OptimizationState
from nst_tf.errors import InputError, MachineError
from nst_tf.events import Iteration
from nst_tf.io import files, images
from nst_tf.jobs import checkpoint, output, places, resume
from nst_tf.jobs.checkpoint import Checkpoint
from nst_tf.jobs.output import numbered, run_folder
from nst_tf.jobs.resume import Plan
from tests import command
from tests.command import CONTENT, PALACE, STYLE

LEVELS = (Level((20, 64), ((20, 64),), 6),)
PIXELS = np.random.default_rng(1).integers(0, 256, (20, 64, 3), np.uint8)
RED, BLUE = {"style_weight": "1"}, {"style_weight": "2"}
"""Fingerprints of two jobs."""


def settings(path, **changes):
    defaults = {
        "content_image": CONTENT, "style_image": [STYLE], "image_size": 64, "num_iterations": 6,
        "pyramid": "none", "init": "content",
    }  # fmt: skip
    return Config(output_image=path, **{**defaults, **changes})


def own_facts(config):
    return {"num_iterations": str(config.num_iterations), "pyramid": json.dumps(config.pyramid)}


def work(path, facts, *, finished=True, resumed=False, overwrite=False, iterations=3, **changes):
    """Does with files what a job does, without computing; returns the image that it saved."""
    config = settings(path, **changes)
    output.check_output(config, overwrite)
    plan = Plan(config, {**own_facts(config), **facts}, LEVELS)
    found = None
    if resumed:
        found = resume.find(plan, places.occupants(path), overwrite=overwrite)
    if found and found.is_complete:
        return None
    with places.claim(plan, found, overwrite=overwrite) as place:
        place.begin()
        place.save(
            lambda saved: output.encode(PIXELS, saved.output_image.suffix, saved, None),
            finished=finished,
        )
        record = {
            "finished": finished, "fingerprint": plan.fingerprint, "output_sha256": place.sha256
        }  # fmt: skip
        (place.folder / "run.json").write_text(json.dumps(record))
        number = place.before.number + 1 if place.before else 0
        done = Checkpoint(number, plan.fingerprint, {}, iterations, state(iterations))
        saved = checkpoint.save(place.folder, done)
        if finished:
            checkpoint.finish(place.folder, saved)
        place.settle()
        return place.saved


def state(iterations=3):
    optimizer_state = {"iterations": np.array(iterations)}
    image = np.zeros((20, 64, 3), np.float32)
    return OptimizationState(0, "float32", 0, 0, 4, 1.0, 1.0, image, optimizer_state)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def record(path):
    return json.loads((run_folder(path) / "run.json").read_text())


def stored(path):
    return json.loads(images.settings_of(path))


def is_of(path, facts):
    return record(path)["fingerprint"]["style_weight"] == facts["style_weight"]


# Names


def test_OUT_07_every_output_has_a_run_folder_of_its_own(tmp_path):
    outputs = [tmp_path / name for name in ("z.png", "z.webp", "z.jpg", "z.tar.png", "z")]
    assert [run_folder(path).name for path in outputs] == [
        "z.png.run", "z.webp.run", "z.jpg.run", "z.tar.png.run", "z.run"
    ]  # fmt: skip
    assert work(outputs[0], RED, finished=False) == outputs[0]
    assert work(outputs[1], RED) == outputs[1]
    assert work(outputs[0], RED, resumed=True) == outputs[0]
    assert record(outputs[0])["finished"]


@pytest.mark.parametrize("letter", ["x", "ü", "画"])
def test_OUT_11_a_name_of_255_bytes_has_a_shorter_run_folder_and_shorter_numbers(tmp_path, letter):
    room = 251 // len(os.fsencode(letter))
    one, other = (
        tmp_path / f"{letter * (room - 1)}{end}.png" for end in (letter, "-" * len(letter.encode()))
    )
    folders = {run_folder(one), run_folder(other)}
    assert len(folders) == 2
    assert work(one, RED) == one
    second = work(one, BLUE)
    assert second.name.endswith("-2.png")
    for path in (second, *folders):
        assert len(os.fsencode(path.name)) <= 255
    assert work(one, RED, finished=False).name.endswith("-3.png")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: path.mkdir(), "it is a folder"),
        (lambda path: path.symlink_to(path.parent), "it is a folder"),
        (lambda path: os.mkfifo(path), "it is not a regular file"),
        (lambda path: path.symlink_to("/dev/null"), "it is not a regular file"),
    ],
    ids=["folder", "link to a folder", "pipe", "device"],
)
@pytest.mark.parametrize("overwrite", [False, True])
def test_OUT_09_what_is_no_file_is_refused_before_the_run(tmp_path, make, words, overwrite):
    path = tmp_path / "o.png"
    make(path)
    before = path.lstat().st_ino
    with pytest.raises(MachineError, match=words) as error:
        output.check_output(settings(path), overwrite)
    assert (error.value.exit_code, error.value.where) == (3, str(path))
    assert path.lstat().st_ino == before


def test_OUT_10_links_that_lead_nowhere_are_refused_and_others_are_followed(tmp_path):
    dangling, loop, inside = (tmp_path / name for name in ("d.png", "l.png", "no/where/i.png"))
    dangling.symlink_to(tmp_path / "gone.png")
    loop.symlink_to(loop)
    (tmp_path / "no").symlink_to(tmp_path / "gone")
    for path, words in (
        (dangling, "it is a link to a file that does not exist"),
        (loop, "its symbolic links form a loop"),
        (inside, "it is a link that leads nowhere"),
    ):
        with pytest.raises(MachineError, match=words):
            output.check_output(settings(path), overwrite=True)
    (tmp_path / "real").mkdir()
    (tmp_path / "folder").symlink_to(tmp_path / "real")
    made = work(tmp_path / "folder" / "o.png", RED)
    assert names(tmp_path / "real") == ["o.png", "o.png.run"]
    (tmp_path / "link.png").symlink_to(made)
    assert work(tmp_path / "link.png", BLUE, seed=3) == tmp_path / "link-2.png"
    assert is_of(made, RED)
    assert work(tmp_path / "link.png", BLUE, seed=3, overwrite=True) == tmp_path / "link.png"
    assert (tmp_path / "link.png").is_symlink() and stored(made)["seed"] == 3
    assert names(tmp_path / "real") == ["o.png", "o.png.run"]


@pytest.mark.parametrize("name", [f"{'x' * 252}.png", f"{'画' * 84}.png", f"{'x' * 256}/o.png"])
def test_OUT_11_names_that_are_too_long_are_refused_before_the_run(tmp_path, name):
    with pytest.raises(MachineError, match="a name in it has more than 255 bytes"):
        output.check_output(settings(tmp_path / name), overwrite=False)


def test_OUT_11_a_path_that_is_too_long_is_refused_before_the_run(tmp_path):
    path = tmp_path.joinpath(*["x" * 200] * 25, "o.png")
    with pytest.raises(MachineError, match="too long"):
        output.check_output(settings(path), overwrite=False)


def test_OUT_12_a_folder_that_cannot_be_written_is_refused_before_the_run(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "o.png", tmp_path / "file" / "sub" / "o.png"):
        with pytest.raises(MachineError, match=r"cannot write to the folder .*: it is a file"):
            output.check_output(settings(path), overwrite=True)
    monkeypatch.setattr("os.access", lambda path, mode: False)  # root may write anywhere
    with pytest.raises(MachineError, match=r"\(.*\): there is no permission to write there"):
        output.check_output(settings(tmp_path / "new" / "o.png"), overwrite=False)
    assert names(tmp_path) == ["file"]


def test_OUT_12_so_is_a_run_folder_that_is_a_file(tmp_path):
    (tmp_path / "o.png.run").write_text("")
    with pytest.raises(MachineError, match="cannot write to the folder"):
        work(tmp_path / "o.png", RED)
    assert names(tmp_path) == ["o.png.run"]


@pytest.mark.parametrize(
    ("name", "changes", "needed"),
    [
        ("o.png", {}, 3_840),
        ("o.tiff", {"bit_depth": 16}, 7_680),
        ("o.jpg", {}, 1_920),
        ("o.webp", {"quality": 80}, 1_920),
        ("o.webp", {}, 3_840),
    ],
)
def test_OUT_14_a_disk_with_too_little_space_is_refused_before_the_run(
    tmp_path, monkeypatch, name, changes, needed
):
    config = settings(tmp_path / "new" / name, **changes)
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=needed))
    output.check_space(config, (20, 64))
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=needed - 1))
    with pytest.raises(MachineError, match=r"the disk is full .*: the result takes up to 0\.0 MB"):
        output.check_space(config, (20, 64))


def long_paths(number):
    return [Path("/") / ("x" * 200) / ("y" * 200) / f"{each}.png" for each in range(number)]


@pytest.mark.parametrize("name", ["o.jpg", "o.png", "o.webp", "o.tiff", "o.avif"])
def test_OUT_13_settings_that_are_too_long_are_shortened_with_a_warning(tmp_path, caplog, name):
    config = settings(
        tmp_path / name, style_image=long_paths(64), content_masks=long_paths(64),
        style_masks=long_paths(64), seed=7,
    )  # fmt: skip
    with caplog.at_level(logging.WARNING, "nst_tf"):
        output.check_settings(config)
        data = output.encode(PIXELS, config.output_image.suffix, config, None)
    config.output_image.write_bytes(data)
    found = stored(config.output_image)
    assert found["seed"] == 7
    if name == "o.jpg":
        assert "style_image" not in found
        (warning,) = [record.message for record in caplog.records]
        assert warning.startswith("the settings are too long for the metadata of o.jpg: style_im")
        assert "config.yaml in the run folder has them" in warning
    else:
        assert len(found["style_image"]) == 64
        assert caplog.records == []


def test_OUT_13_where_nothing_fits_all_of_them_are_left_out(tmp_path, caplog):
    path = Path("/", *["\N{SNOWMAN}" * 80] * 50, "c.png")
    config = settings(
        tmp_path / "o.jpg", content_image=path, init=str(path), weights=str(path), style_image=[]
    )
    with caplog.at_level(logging.WARNING, "nst_tf"):
        output.check_settings(config)
    assert "o.jpg: all of them are left out" in caplog.records[0].message
    config.output_image.write_bytes(output.encode(PIXELS, ".jpg", config, None))
    assert list(stored(config.output_image)) == ["nst_tf"]
    assert output.inspect(config.output_image).is_own


# What is there already


def test_OUT_01_a_finished_image_is_kept_and_another_gets_the_next_free_number(tmp_path):
    path = tmp_path / "x.png"
    assert work(path, RED) == path
    before = path.read_bytes()
    assert work(path, BLUE) == tmp_path / "x-2.png"
    assert work(path, {"style_weight": "3"}) == tmp_path / "x-3.png"
    assert path.read_bytes() == before
    assert is_of(path, RED)
    assert is_of(tmp_path / "x-2.png", BLUE)
    assert stored(tmp_path / "x-2.png")["output_image"] == "x-2.png"
    text = (tmp_path / "x-2.png.run" / "config.yaml").read_text()
    assert f"output_image: {tmp_path / 'x-2.png'}" in text
    assert names(tmp_path) == [
        "x-2.png", "x-2.png.run", "x-3.png", "x-3.png.run", "x.png", "x.png.run"
    ]  # fmt: skip


def test_OUT_01_an_interrupted_run_of_other_settings_gets_a_number_too(tmp_path):
    path = tmp_path / "x.png"
    work(path, RED)
    before = path.read_bytes()
    assert work(path, BLUE, finished=False) == tmp_path / "x-2.png"
    assert path.read_bytes() == before
    assert work(path, BLUE, resumed=True) == tmp_path / "x-2.png"
    assert record(tmp_path / "x-2.png")["finished"]
    assert path.read_bytes() == before
    assert names(tmp_path) == ["x-2.png", "x-2.png.run", "x.png", "x.png.run"]


@pytest.mark.parametrize("again", [True, False], ids=["overwrite again", "resume alone"])
def test_OUT_02_even_with_overwrite_only_a_finished_image_replaces_a_finished_one(tmp_path, again):
    path = tmp_path / "x.png"
    work(path, RED)
    before = path.read_bytes()
    assert work(path, BLUE, overwrite=True, finished=False) == tmp_path / "x-2.png"
    assert path.read_bytes() == before
    assert is_of(path, RED)
    assert not record(tmp_path / "x-2.png")["finished"]
    assert work(path, BLUE, overwrite=again, resumed=True) == path
    assert is_of(path, BLUE)
    assert stored(path)["output_image"] == "x.png"
    assert f"output_image: {path}\n" in (run_folder(path) / "config.yaml").read_text()
    assert names(tmp_path) == ["x.png", "x.png.run"]
    assert names(run_folder(path)) == ["config.yaml", "run.json", "state"]


def test_OUT_02_overwrite_replaces_with_the_record_once_it_is_finished(tmp_path):
    path = tmp_path / "x.png"
    work(path, RED)
    (run_folder(path) / "iteration-2.png").write_bytes(b"of the first run")
    assert work(path, BLUE, overwrite=True) == path
    assert is_of(path, BLUE)
    assert names(tmp_path) == ["x.png", "x.png.run"]
    assert names(run_folder(path)) == ["config.yaml", "run.json", "state"]


def test_OUT_02_a_file_of_somebody_else_is_replaced_by_a_finished_image_only(tmp_path):
    path = tmp_path / "x.png"
    path.write_bytes(b"precious")
    with pytest.raises(MachineError, match="nst_tf did not write that file"):
        work(path, RED)
    assert work(path, RED, overwrite=True, finished=False) == tmp_path / "x-2.png"
    assert path.read_bytes() == b"precious"
    assert work(path, RED, overwrite=True, resumed=True) == path
    assert is_of(path, RED)
    assert names(tmp_path) == ["x.png", "x.png.run"]


def test_OUT_03_the_same_run_takes_its_own_place_once_it_is_finished(tmp_path):
    path = tmp_path / "x.png"
    work(path, RED)
    before = path.read_bytes()
    assert work(path, RED, finished=False, iterations=2) == tmp_path / "x-2.png"
    assert path.read_bytes() == before
    assert record(path)["finished"]
    assert work(path, RED, resumed=True) == path
    assert names(tmp_path) == ["x.png", "x.png.run"]
    work(path, BLUE)
    assert work(path, BLUE) == tmp_path / "x-2.png"  # its own place has a number
    assert work(path, RED) == path
    assert work(path, RED, resumed=True) is None
    assert names(tmp_path) == ["x-2.png", "x-2.png.run", "x.png", "x.png.run"]


def test_OUT_03_the_place_of_an_image_in_use_is_not_taken(tmp_path, caplog):
    path = tmp_path / "x.png"
    work(path, RED)
    with files.lock_directory(run_folder(path)), caplog.at_level(logging.WARNING, "nst_tf"):
        assert work(path, BLUE, overwrite=True) == tmp_path / "x-2.png"
    assert "x.png could not be replaced" in caplog.records[0].message
    assert is_of(path, RED)
    assert is_of(tmp_path / "x-2.png", BLUE)


def test_OUT_04_runs_that_start_at_once_get_different_numbers(tmp_path):
    path = tmp_path / "x.png"
    work(path, RED)
    ready, saved = threading.Barrier(8), []

    def one(number):
        ready.wait()
        # The weight is stored in the image too, which says whose it is before there is a record.
        saved.append(work(path, {"style_weight": f"{number}"}, style_weight=float(number)))

    threads = [threading.Thread(target=one, args=[number]) for number in range(10, 18)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(saved) == [numbered(path, number) for number in range(2, 10)]
    found = {record(image)["fingerprint"]["style_weight"] for image in saved}
    assert found == {f"{number}" for number in range(10, 18)}


def test_OUT_04_a_number_that_is_taken_meanwhile_is_left_alone(tmp_path):
    path = tmp_path / "x.png"
    work(path, RED)
    plan = Plan(settings(path), BLUE, LEVELS)
    with places.claim(plan, None, overwrite=False) as place:
        place.begin()
        (tmp_path / "x-2.png").write_bytes(b"precious")
        place.save(lambda saved: output.encode(PIXELS, ".png", saved, None), finished=True)
        place.settle()
    assert place.saved == tmp_path / "x-3.png"
    assert (tmp_path / "x-2.png").read_bytes() == b"precious"
    assert names(tmp_path / "x-3.png.run") == ["config.yaml"]
    assert not (tmp_path / "x-2.png.run").exists()


def test_OUT_05_numbers_that_are_in_use_are_skipped(tmp_path):
    path = tmp_path / "x.png"
    work(path, RED)
    (tmp_path / "x-2.png").write_bytes(b"a photograph")
    (tmp_path / "x-3.png").mkdir()
    (tmp_path / "x-4.png").symlink_to("gone")
    (tmp_path / "x-5.png.run").write_text("no folder")
    assert work(path, BLUE) == tmp_path / "x-6.png"
    assert work(path, BLUE, resumed=True) is None
    assert (tmp_path / "x-2.png").read_bytes() == b"a photograph"


def test_OUT_06_what_an_interrupted_run_left_is_kept_for_it(tmp_path):
    path = tmp_path / "x.png"
    assert work(path, RED, finished=False) == path
    assert work(path, BLUE) == tmp_path / "x-2.png"
    path.unlink()  # as after a kill, where there is a checkpoint and no image
    assert work(path, {"style_weight": "3"}) == tmp_path / "x-3.png"
    assert work(path, RED, resumed=True) == path
    assert record(path)["finished"]


def test_OUT_06_overwrite_gives_it_up(tmp_path):
    path = tmp_path / "x.png"
    work(path, RED, finished=False)
    assert work(path, BLUE, overwrite=True, finished=False) == path
    assert is_of(path, BLUE)
    assert names(tmp_path) == ["x.png", "x.png.run"]


def test_OUT_08_a_run_folder_of_an_older_version_is_read_where_it_is_of_this_image(tmp_path):
    path, old = tmp_path / "z.png", tmp_path / "z.run"
    work(path, RED, finished=False)
    run_folder(path).rename(old)
    (old / "trace.csv").write_text("iteration\n1\n")
    assert output.record_folder(tmp_path / "z.webp") == tmp_path / "z.webp.run"
    assert work(tmp_path / "z.webp", RED) == tmp_path / "z.webp"
    assert work(path, BLUE) == tmp_path / "z-2.png"
    assert work(path, RED, resumed=True) == path
    assert (run_folder(path) / "trace.csv").read_text() == "iteration\n1\n"
    assert names(old) == ["checkpoint-0", "config.yaml", "run.json", "trace.csv"]
    assert record(path)["finished"]


def test_OUT_08_a_record_of_an_older_version_protects_and_allows(tmp_path):
    path, old = tmp_path / "z.png", tmp_path / "z.run"
    work(path, RED)
    run_folder(path).rename(old)
    facts = {**RED, **own_facts(settings(path))}
    (old / "run.json").write_text(json.dumps({"finished": True, "identity": facts}))
    assert work(path, BLUE) == tmp_path / "z-2.png"
    assert work(path, RED, resumed=True) is None
    assert work(path, RED) == path


def test_OUT_20_an_image_whose_record_is_gone_is_replaced_by_its_own_settings_only(tmp_path):
    content = tmp_path / "c.png"
    content.write_bytes(CONTENT.read_bytes())
    path = tmp_path / "x.png"
    work(path, RED, content_image=content)
    for each in run_folder(path).iterdir():
        each.unlink()
    run_folder(path).rmdir()
    assert work(path, RED, content_image=content, seed=3) == tmp_path / "x-2.png"
    assert work(path, BLUE, content_image=PALACE) == tmp_path / "x-3.png"
    now = path.stat().st_mtime
    os.utime(content, (now + 5, now + 5))  # it may be another picture now
    assert work(path, {"content_image": "other"}, content_image=content) == tmp_path / "x-4.png"
    os.utime(content, (now - 5, now - 5))
    assert work(path, RED, content_image=content) == path


def test_OUT_20_an_image_that_was_changed_is_kept(tmp_path):
    path = tmp_path / "x.png"
    work(path, RED)
    data = images.encode(255 - PIXELS, ".png", images.settings_of(path))
    path.write_bytes(data)  # retouched by a program that keeps the metadata
    assert work(path, RED) == tmp_path / "x-2.png"
    assert path.read_bytes() == data
    path.write_bytes(b"by one that does not")
    with pytest.raises(MachineError, match="nst_tf did not write that file"):
        work(path, RED)


def test_OUT_20_an_image_without_metadata_is_recognized_by_its_record(tmp_path):
    path = tmp_path / "x.png"
    work(path, RED, metadata="none")
    assert images.settings_of(path) is None
    assert work(path, BLUE, metadata="none") == tmp_path / "x-2.png"
    assert work(path, RED, metadata="none") == path


def test_OUT_21_where_nothing_begins_no_folder_is_left(tmp_path):
    path = tmp_path / "x.png"
    plan = Plan(settings(path), RED, LEVELS)
    with contextlib.suppress(KeyboardInterrupt), places.claim(plan, None, overwrite=False):
        assert names(tmp_path) == ["x.png.run"]
        raise KeyboardInterrupt
    assert names(tmp_path) == []


# Resuming and going on with more


def find(path, facts, levels=LEVELS, **changes):
    config = settings(path, **changes)
    return resume.find(Plan(config, {**facts, **own_facts(config)}, levels), places.occupants(path))


def test_OUT_16_there_may_be_nothing_to_resume(tmp_path):
    path = tmp_path / "x.png"
    assert find(path, RED) is None
    assert work(path, RED, resumed=True) == path
    with pytest.raises(InputError, match="it differs in style_weight"):
        find(path, BLUE)
    # With overwrite, too, a job can always be started by the same command.
    options = {"resumed": True, "overwrite": True}
    assert work(path, BLUE, finished=False, **options) == tmp_path / "x-2.png"
    assert work(path, BLUE, **options) == path
    assert work(path, BLUE, **options) is None


def test_OUT_17_a_finished_run_goes_on_and_its_image_is_replaced_once_it_is_finished(tmp_path):
    path = tmp_path / "x.png"
    work(path, RED, iterations=6)
    before = path.read_bytes()
    assert work(path, RED, num_iterations=9) == tmp_path / "x-2.png"  # without resume another run
    (tmp_path / "x-2.png").unlink()
    for each in (tmp_path / "x-2.png.run").iterdir():
        each.unlink()
    (run_folder(path) / "trace.csv").write_text("iteration\n1\n")
    assert (
        work(path, RED, num_iterations=9, resumed=True, finished=False, iterations=7)
        == tmp_path / "x-2.png"
    )
    assert path.read_bytes() == before
    assert find(path, RED, num_iterations=9).checkpoint().iterations == 7
    assert work(path, RED, num_iterations=9, resumed=True, iterations=9) == path
    assert record(path)["fingerprint"]["num_iterations"] == "9"
    assert (run_folder(path) / "trace.csv").read_text() == "iteration\n1\n"
    assert names(tmp_path) == ["x.png", "x.png.run"]


def test_OUT_18_fewer_iterations_than_were_done_are_refused(tmp_path):
    path = tmp_path / "x.png"
    work(path, RED, iterations=6)
    with pytest.raises(InputError, match="6 were done at the full size, and num_iterations is 5"):
        find(path, RED, num_iterations=5).checkpoint()
    (run_folder(path) / "state").unlink()
    with pytest.raises(InputError, match="6 were done at the full size, and num_iterations is 5"):
        find(path, RED, num_iterations=5).checkpoint()


def test_OUT_18_an_interrupted_run_may_end_earlier_than_was_planned(tmp_path):
    path = tmp_path / "x.png"
    work(path, RED, finished=False, iterations=3)
    assert find(path, RED, num_iterations=4).checkpoint().iterations == 3
    with pytest.raises(InputError, match="3 were done at the full size, and num_iterations is 2"):
        find(path, RED, num_iterations=2).checkpoint()


def test_RUN_26_a_finished_image_with_other_metadata_is_not_what_is_asked_for(tmp_path):
    path = tmp_path / "x.png"
    work(path, RED)
    work(tmp_path / "x-2.png", RED, finished=False, num_iterations=9)
    assert find(path, RED, print_iter=3).is_complete
    for changes in (
        {"metadata": "none"},
        {"dpi": 300},
        {"print_size": "20cm", "image_size": "print"},
    ):
        found = find(path, RED, **changes)
        assert (found.is_complete, found.is_interrupted) == (False, False)
        assert found.checkpoint().iterations == 3
    assert work(path, RED, metadata="none", resumed=True) == path
    assert images.settings_of(path) is None
    assert work(path, RED, metadata="none", resumed=True) is None
    assert work(path, RED, metadata="none", dpi=300, resumed=True) == path
    (run_folder(path) / "config.yaml").unlink()
    assert find(path, RED, dpi=72).is_complete  # where nothing is known


@pytest.mark.parametrize("how", ["removed", "damaged"])
def test_OUT_19_without_a_final_state_more_iterations_begin_anew(tmp_path, caplog, how):
    path = tmp_path / "x.png"
    work(path, RED)
    kept = run_folder(path) / "state"
    kept.unlink() if how == "removed" else kept.write_bytes(kept.read_bytes()[:-5])
    plan = find(path, RED, num_iterations=9).plan
    found = find(path, RED, num_iterations=9)
    with (
        caplog.at_level(logging.WARNING, "nst_tf"),
        places.claim(plan, found, overwrite=False) as place,
    ):
        assert place.before is None
        assert place.notes == ("the run begins anew, as its final state was not kept (keep_state)",)
    assert len(caplog.records) == (how == "damaged")


def auto_levels(num_iterations, size=512):
    config = Config(image_size=size, num_iterations=num_iterations)
    return pyramid.plan((size, size), [(size, size)], config)


def test_OUT_17_with_automatic_levels_the_coarse_ones_stay_as_they_were_begun(tmp_path):
    path = tmp_path / "x.png"
    work(path, {**RED, "pyramid": '"auto"'}, pyramid="auto", num_iterations=40)
    levels = auto_levels(80)
    found = find(path, RED, levels, pyramid="auto", num_iterations=80)
    assert found.plan.config.pyramid == "256:80"
    assert found.plan.levels[:-1] == auto_levels(40)[:-1]
    assert found.plan.levels[-1] == levels[-1]
    assert found.plan.fingerprint["pyramid"] == '"256:80"'
    assert not found.is_complete
    # Of a run that went on, the levels have been named.
    facts = {**found.plan.fingerprint, **RED}
    record_path = run_folder(path) / "run.json"
    record_path.write_text(json.dumps({**record(path), "fingerprint": facts}))
    assert find(path, RED, levels, pyramid="auto", num_iterations=80).is_complete
    more = find(path, RED, auto_levels(100), pyramid="auto", num_iterations=100)
    assert more.plan.config.pyramid == "256:80"
    facts = {**facts, "pyramid": '"256:7"'}
    record_path.write_text(json.dumps({**record(path), "fingerprint": facts}))
    with pytest.raises(InputError, match="it differs in"):
        find(path, RED, levels, pyramid="auto", num_iterations=80)


@pytest.mark.parametrize("basis", [1, 3, 10, 40, 77, 200])
@pytest.mark.parametrize("size", [512, 2000, 4096])
def test_OUT_17_the_basis_of_automatic_levels_is_found_again(basis, size):
    levels = auto_levels(basis, size)
    assert pyramid.with_coarse_iterations(auto_levels(500, size), basis)[:-1] == levels[:-1]
    coarsest = levels[0]
    assert pyramid.automatic_basis(max(coarsest.shape), coarsest.num_iterations) == basis


def test_OUT_17_the_run_with_the_same_iterations_comes_first(tmp_path):
    path = tmp_path / "x.png"
    work(path, RED)
    work(path, RED, num_iterations=9)
    work(path, BLUE, finished=False)
    assert find(path, RED, num_iterations=9).occupant.path == tmp_path / "x-2.png"
    assert find(path, RED, num_iterations=9).is_complete
    assert find(path, RED, num_iterations=12).occupant.path == path
    assert find(path, BLUE).is_interrupted


def run_with_states(run):
    """Runs with a callback that collects states; returns the result and the states by iteration."""
    states = {}

    def collect(event):
        if isinstance(event, Iteration):
            states[event.iteration] = event.state()

    return run([collect]), states


@pytest.mark.parametrize(
    ("optimizer", "fewer", "more", "levels"),
    [
        ("lbfgs", 8, 14, "none"),
        ("lbfgs", 25, 40, "32:5"),
        ("adam", 8, 14, "32:5"),
        ("l-bfgs-b", 8, 14, "none"),
        ("l-bfgs-b", 50, 53, "none"),
    ],
)
def test_OUT_17_a_state_goes_on_with_more_iterations_to_the_same_bytes(
    optimizer, fewer, more, levels, tiny_features
):
    content, style = images.read(PALACE), images.read(STYLE)
    config = Config(image_size=48, style_scale=1, pyramid=levels, optimizer=optimizer,
                    num_iterations=fewer)  # fmt: skip
    short, states = run_with_states(
        lambda callbacks: Stylizer(config, network=tiny_features)(
            content, style, callbacks=callbacks
        )
    )
    stylizer = Stylizer(config.replace(num_iterations=more), network=tiny_features)
    whole = stylizer(content, style)
    assert whole.iterations > short.iterations
    resumed = stylizer(content, style, state=states[max(states)])
    assert resumed.image.tobytes() == whole.image.tobytes()
    assert (resumed.iterations, resumed.evaluations) == (whole.iterations, whole.evaluations)


def test_OUT_18_a_state_of_more_iterations_than_are_planned_is_refused(tiny_features):
    content, style = images.read(PALACE), images.read(STYLE)
    config = Config(image_size=48, style_scale=1, pyramid="none", num_iterations=4)
    _, states = run_with_states(
        lambda callbacks: Stylizer(config, network=tiny_features)(
            content, style, callbacks=callbacks
        )
    )
    stylizer = Stylizer(config.replace(num_iterations=3), network=tiny_features)
    with pytest.raises(InputError, match="4 iterations were done, and 3 are planned"):
        stylizer(content, style, state=states[4])
    assert stylizer(content, style, state=states[3]).iterations == 3


def rough(x):
    """A valley with steps, so that line searches fail."""
    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch(x)
        value = tf.reduce_sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)
    return tf.round(value * 64) / 64, tape.gradient(value, x)


@pytest.mark.parametrize(
    ("method", "tolerance", "reason"),
    [
        ("lbfgs", 0.5, "converged: the loss falls"),
        ("adam", 0.5, "converged: the loss falls"),
        ("l-bfgs-b", 0.9, "converged: the loss falls"),
        ("lbfgs", 0.0, "converged: no step"),
        ("l-bfgs-b", 0.0, "converged: no step"),
    ],
)
def test_OUT_17_from_any_state_of_a_run_that_ends_by_itself_it_ends_the_same(
    method, tolerance, reason
):
    states = {}

    def minimize(**more):
        return optimizers.minimize(
            rough, np.linspace(-1.5, 1.5, 12).astype("float32"), method=method,
            tolerance=tolerance, initial_step=0.1, max_iterations=400, **more,
        )  # fmt: skip

    whole = minimize(callback=lambda step: states.update({step.iteration: step.state()}))
    assert whole.stop_reason.startswith(reason)
    assert whole.iterations == max(states)
    for iteration in {1, whole.iterations // 2, whole.iterations - 1, whole.iterations}:
        resumed = minimize(state=states[iteration])
        assert np.array_equal(resumed.x, whole.x), iteration
        for name in ("value", "iterations", "evaluations", "stop_reason"):
            assert getattr(resumed, name) == getattr(whole, name), iteration


# Real jobs


def small(path, **changes):
    """A job with few layers, whose start is short."""
    layers = {"content_layers": "block2_conv1", "style_layers": "block1_conv1,block2_conv1"}
    return settings(path, **{**layers, "style_scale": 1, **changes})


def pixels(path):
    return images.read(path).tobytes()


def stop_after(number):
    return [lambda event: isinstance(event, Iteration) and event.iteration == number]


def test_OUT_17_a_finished_job_goes_on_with_more_iterations(tmp_path):
    whole = jobs.run(small(tmp_path / "whole.png", num_iterations=14, save_iter=5))
    path = tmp_path / "x.png"
    assert jobs.run(small(path, num_iterations=8)).status == "finished"
    before = path.read_bytes()
    longer = small(path, num_iterations=14)
    stopped = jobs.run(longer, resume=True, callbacks=stop_after(11))
    assert (stopped.status, stopped.path) == ("stopped", tmp_path / "x-2.png")
    assert path.read_bytes() == before
    events = []
    done = jobs.run(longer, resume=True, callbacks=[events.append])
    assert (done.status, done.path) == ("finished", path)
    assert events[0].iterations_done == 11
    assert pixels(path) == pixels(whole.path)
    for name in ("iterations", "evaluations", "loss", "stop_reason"):
        assert done.record[name] == whole.record[name]
    traces = [(run_folder(each) / "trace.csv").read_text() for each in (path, whole.path)]
    losses = [[row.split(",")[5:] for row in trace.splitlines()] for trace in traces]
    assert losses[0] == losses[1]
    assert names(tmp_path) == ["whole.png", "whole.png.run", "x.png", "x.png.run"]
    assert jobs.run(longer, resume=True).status == "nothing to do"
    with pytest.raises(InputError, match="14 were done at the full size, and num_iterations is 9"):
        jobs.run(small(path, num_iterations=9), resume=True)
    path.unlink()  # it is made again from its final state
    assert jobs.run(longer, resume=True).path == path
    assert pixels(path) == pixels(whole.path)


@pytest.mark.parametrize("keep_state", [True, False])
def test_RUN_26_a_finished_job_writes_its_image_again_with_other_metadata(tmp_path, keep_state):
    path = tmp_path / "x.png"
    config = small(path, num_iterations=3, keep_state=keep_state)
    jobs.run(config)
    before = pixels(path)
    other = config.replace(metadata="none", dpi=300)
    events = []
    done = jobs.run(other, resume=True, callbacks=[events.append])
    assert (done.status, done.path, names(tmp_path)) == ("finished", path, ["x.png", "x.png.run"])
    assert any(isinstance(event, Iteration) for event in events) is not keep_state
    assert pixels(path) == before and images.settings_of(path) is None
    with Image.open(path) as image:
        assert image.info["dpi"] == pytest.approx((300, 300), abs=0.01)
    assert jobs.run(other, resume=True).status == "nothing to do"
    assert (run_folder(path) / "state").exists() is keep_state
    events.clear()
    assert jobs.run(config, resume=True, callbacks=[events.append]).path == path
    assert any(isinstance(event, Iteration) for event in events) is not keep_state
    assert pixels(path) == before and images.settings_of(path) is not None


def test_OUT_19_the_final_state_can_be_left_out(tmp_path):
    path = tmp_path / "x.png"
    jobs.run(small(path, num_iterations=3, keep_state=False))
    assert names(run_folder(path)) == [
        "config.yaml", "first.png", "latest.png", "losses.svg", "run.json", "trace.csv"
    ]  # fmt: skip
    events = []
    done = jobs.run(small(path, num_iterations=5), resume=True, callbacks=[events.append])
    assert events[0].notes == ("the run begins anew, as its final state was not kept (keep_state)",)
    assert (done.path, done.record["iterations"]) == (path, 5)
    assert (run_folder(path) / "state").exists()


@pytest.mark.parametrize("error", [ValueError("no encoder"), MemoryError(), OSError(5, "I/O")])
def test_OUT_15_an_encoder_that_fails_costs_no_work(tmp_path, monkeypatch, caplog, error):
    path = tmp_path / "x.jpg"

    def broken(pixels, suffix, *arguments, **options):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(images, "encode", broken)
        with pytest.raises(MachineError, match="the result could not be saved: ") as raised:
            jobs.run(small(path))
    assert raised.value.exit_code == 3
    assert [record.message for record in caplog.records] == [
        f"the initial image could not be saved as first.png: {error}"
    ]
    assert not path.exists()
    assert checkpoint.newest(run_folder(path)).iterations == 6
    seen = []
    done = jobs.run(small(path), resume=True, callbacks=[seen.append])
    assert done.status == "finished"
    assert not any(isinstance(event, Iteration) for event in seen)


def test_RUN_06_the_latest_image_is_named_where_the_result_cannot_be_saved(tmp_path, monkeypatch):
    encode = images.encode

    def broken(pixels, suffix, *arguments, **options):
        if suffix == ".jpg":
            raise ValueError("no encoder")
        return encode(pixels, suffix, *arguments, **options)

    monkeypatch.setattr(images, "encode", broken)
    with pytest.raises(MachineError, match=r"no encoder; the latest image is .*latest\.png; then"):
        jobs.run(small(tmp_path / "x.jpg", num_iterations=2))


def test_OUT_13_a_jpeg_with_64_styles_in_long_paths_is_saved(tmp_path, caplog):
    folder = tmp_path / ("x" * 200) / ("y" * 200) / ("z" * 200) / ("w" * 200) / ("v" * 200)
    folder.mkdir(parents=True)
    styles = [folder / f"{number}.png" for number in range(64)]
    data = images.encode(PIXELS, ".png", "")
    for style in styles:
        style.write_bytes(data)
    config = small(tmp_path / "x.jpg", num_iterations=1, style_image=styles)
    with caplog.at_level(logging.WARNING, "nst_tf"):
        assert jobs.run(config).status == "finished"
    (warning,) = [record.message for record in caplog.records]
    assert "the settings are too long for the metadata of x.jpg: style_image are left" in warning


def test_OUT_01_02_the_command_keeps_a_finished_image(tmp_path):
    path = tmp_path / "x.png"
    flags = [f"--{name}={value}" for name, value in (
        ("content_image", CONTENT), ("style_image", STYLE), ("output_image", path),
        ("image_size", 64), ("pyramid", "none"), ("init", "content"),
        ("content_layers", "block2_conv1"), ("style_layers", "block1_conv1"),
    )]  # fmt: skip
    assert command.run(*flags, "--num_iterations=2").returncode == 0
    before = path.read_bytes()
    done = command.run(f"--rerun={path}", "--num_iterations=3")
    assert done.returncode == 0, done.stderr
    shown = [os.path.relpath(each) for each in (path, tmp_path / "x-2.png")]
    assert done.stdout.splitlines()[0] == (
        f"{shown[0]} is left to another run: this one saves {shown[1]}"
    )
    assert done.stdout.splitlines()[-1].startswith(f"saved {shown[1]} ({shown[0]} was kept): ")
    assert path.read_bytes() == before

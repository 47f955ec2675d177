"""Runs from files to a saved picture, with the real network on small pictures."""

import csv
import json
import logging
import os
import signal
import subprocess
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import nst_tf
from nst_tf.config import Config, load_config
from nst_tf.engine import pyramid
from nst_tf.errors import InputError, MachineError, NstError, NumericalError
from nst_tf.image.arrays import quantize
from nst_tf.image.resize import resize
from nst_tf.io import images
from nst_tf.jobs import checkpoint, run
from nst_tf.jobs.checkpoint import Checkpoint, Position
from nst_tf.models import vgg19_features
from nst_tf.models.weights import PACKAGED_SHA256, load_vgg19
from nst_tf.objective.terms import Objective, layers_of
from tests import command
from tests.command import CONTENT, STYLE


def small(output, **settings):
    defaults = {"image_size": 64, "style_scale": 0.75, "num_iterations": 6, "save_iter": 2}
    defaults |= {"init": "content", "pyramid": "none"}
    return Config(
        content_image=CONTENT, style_image=[STYLE], output_image=output, **defaults | settings
    )


def recomputed(config, weights):
    """Evaluates the saved file from scratch."""
    read = [images.read(path, 10**8) for path in (config.content_image, *config.style_image)]
    shapes = [picture.shape[:2] for picture in read]
    level = pyramid.plan(shapes[0], shapes[1:], config)[-1]
    content, *styles = map(resize, read, [level.shape, *level.style_shapes])
    network = vgg19_features(
        layers_of(config), weights, padding=config.padding, pooling=config.pooling
    )
    saved = images.read(config.output_image, 10**8)
    return Objective(network, content, styles, config).value_and_grad(saved)[0]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """One run of the command, from a YAML file, in a folder that does not exist yet."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "small.yaml").write_text(
        f"content_image: {CONTENT}\nstyle_image: {STYLE}\noutput_image: new/picture.png\n"
        "image_size: 64\nstyle_scale: 0.75\nnum_iterations: 6\nsave_iter: 2\nprint_iter: 3\n"
        "style_weight: 1e4\ntv_weight: 1e-3\ninit: content\npyramid: none\n"
    )
    done = command.run("--config", folder / "small.yaml", "--style_weight=2e4", cwd=Path("/"))
    assert done.returncode == 0, done.stderr
    return folder / "new" / "picture.png", done


def record(output):
    return json.loads((output.with_suffix(".run") / "run.json").read_text())


def test_leaves_the_picture_and_its_run_folder_and_nothing_else(finished):
    output, _ = finished
    assert sorted(path.name for path in output.parent.iterdir()) == ["picture.png", "picture.run"]
    assert sorted(path.name for path in output.with_suffix(".run").iterdir()) == [
        "config.yaml",
        "first.png",
        "iteration-2.png",
        "iteration-4.png",
        "iteration-6.png",
        "run.json",
        "trace.csv",
    ]


def test_says_what_it_does_and_no_more(finished):
    output, done = finished
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert lines[0].startswith(f"nst_tf {nst_tf.__version__}, ")
    assert lines[0].endswith(" s")
    assert " on CPU; iterations at 64x20: 6; about " in lines[0]
    first = os.path.relpath(output.with_suffix(".run") / "first.png", "/")
    assert lines[1] == f"first picture: {first}"
    assert [line.split("  ")[0] for line in lines[2:-1]] == ["iteration 3/6", "iteration 6/6"]
    shown = os.path.relpath(output, "/")  # where it ran
    assert lines[-1].startswith(f"saved {shown}: loss {record(output)['loss']:.5g}, 6 iterations")


def test_the_first_picture_is_the_one_it_starts_from(finished):
    first = np.asarray(Image.open(finished[0].with_suffix(".run") / "first.png"))
    content = resize(images.read(CONTENT, 10**8), (20, 64))
    np.testing.assert_array_equal(first, quantize(content))


def test_the_picture_has_the_size_asked_for_and_its_settings(finished):
    output, _ = finished
    with Image.open(output) as picture:
        assert picture.size == (64, 20)
    settings = json.loads(images.settings_of(output))
    assert settings["style_weight"] == 2e4
    assert (output.parent / settings["content_image"]).resolve() == CONTENT
    assert settings["output_image"] == "picture.png"


def test_the_record_holds_what_its_contract_names(finished):
    found = record(finished[0])
    assert set(found) >= {
        "loss", "content_loss", "style_loss", "tv_loss", "iterations", "evaluations", "seconds",
        "seconds_evaluating", "peak_memory_bytes", "stop_reason", "precision", "device",
        "weights_sha256", "versions", "seed", "image_size",
    }  # fmt: skip
    assert found["iterations"] == 6
    assert found["evaluations"] >= 7
    assert found["stop_reason"] == "all iterations were done"
    assert found["image_size"] == [64, 20]
    assert found["weights_sha256"] == PACKAGED_SHA256
    assert 0 < found["seconds_evaluating"] <= found["seconds_stylizing"] < found["seconds"]
    assert 2e8 < found["peak_memory_bytes"] < 4e9
    assert found["versions"]["tensorflow"].startswith("2.")


def test_the_loss_on_record_is_that_of_the_saved_file(finished, weights):
    output, _ = finished
    found = record(output)
    losses = recomputed(load_config(output.with_suffix(".run") / "config.yaml"), weights)
    assert found["loss"] == pytest.approx(losses.total, rel=1e-5)
    assert found["content_loss"] == pytest.approx(losses.content, rel=1e-5)
    assert found["style_loss"] == pytest.approx(losses.style, rel=1e-5)
    assert found["tv_loss"] == pytest.approx(losses.tv, rel=1e-5)
    assert losses.tv > 0


def test_the_trace_has_a_row_for_each_iteration(finished):
    with (finished[0].with_suffix(".run") / "trace.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["iteration"]) for row in rows] == [1, 2, 3, 4, 5, 6]
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"])
    for row in rows:
        terms = sum(float(row[f"{name}_loss"]) for name in ("content", "style", "tv"))
        assert float(row["loss"]) == pytest.approx(terms)


def test_the_resolved_configuration_makes_the_picture_again(finished, tmp_path):
    output, _ = finished
    config = load_config(
        output.with_suffix(".run") / "config.yaml", {"output_image": str(tmp_path / "again.png")}
    )
    run.run(config)
    again = np.asarray(Image.open(tmp_path / "again.png"))
    np.testing.assert_array_equal(again, np.asarray(Image.open(output)))


def test_RUN_03_an_own_picture_is_replaced(tmp_path):
    output = tmp_path / "o.png"
    run.run(small(output, num_iterations=0))
    run.run(small(output, num_iterations=1))
    assert json.loads(images.settings_of(output))["num_iterations"] == 1


def test_RUN_03_overwrite_replaces_the_file_of_somebody_else(tmp_path):
    output = tmp_path / "o.png"
    output.write_text("precious")
    with pytest.raises(MachineError, match="nst_tf did not write that file"):
        run.run(small(output, num_iterations=0))
    assert output.read_text() == "precious"
    run.run(small(output, num_iterations=0), overwrite=True)
    assert Image.open(output).size == (64, 20)


def test_RUN_40_no_iterations_save_the_start(tmp_path):
    output = tmp_path / "o.png"
    run.run(small(output, num_iterations=0, init=str(STYLE)))
    expected = quantize(resize(images.read(STYLE, 10**8), (20, 64)))
    np.testing.assert_array_equal(np.asarray(Image.open(output)), expected)
    assert record(output)["iterations"] == 0


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".tiff"])
def test_the_record_is_of_the_file_as_it_is_read_back(tmp_path, weights, suffix):
    config = small(tmp_path / f"o{suffix}", num_iterations=1)
    run.run(config)
    losses = recomputed(config, weights)
    assert record(config.output_image)["loss"] == pytest.approx(losses.total, rel=1e-5)


def test_RUN_31_a_loss_that_is_not_finite_ends_with_the_best_picture(tmp_path):
    poison = {name: array.copy() for name, array in load_vgg19("normalised").arrays.items()}
    poison["block2_conv1/kernel"] *= np.float32(1e30)
    np.savez(tmp_path / "w.npz", **poison)
    with pytest.raises(
        NumericalError, match=r"the loss is not finite: .*style/block2_conv1"
    ) as error:
        run.run(small(tmp_path / "o.png", weights=str(tmp_path / "w.npz")))
    assert error.value.exit_code == 4
    assert Image.open(tmp_path / "o.png").size == (64, 20)


def test_a_wrong_picture_leaves_nothing(tmp_path):
    (tmp_path / "c.png").write_text("no picture")
    with pytest.raises(InputError, match="not an image"):
        run.run(small(tmp_path / "sub" / "o.png").model_copy(
            update={"content_image": tmp_path / "c.png"}))  # fmt: skip
    assert [path.name for path in tmp_path.iterdir()] == ["c.png"]


@pytest.mark.parametrize(
    ("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["INT", "TERM"]
)
def test_RUN_12_14_a_signal_saves_the_best_picture(tmp_path, number, exit_code):
    output = tmp_path / "o.png"
    flags = [
        f"--content_image={CONTENT}", f"--style_image={STYLE}", f"--output_image={output}",
        "--image_size=64", "--num_iterations=100000", "--save_iter=3", "--print_iter=0",
    ]  # fmt: skip
    with subprocess.Popen(
        command.command(*flags), env=command.environment(), stderr=subprocess.PIPE, text=True
    ) as child:
        first = tmp_path / "o.run" / "iteration-000003.png"
        for _ in range(600):
            if first.exists():
                break
            time.sleep(0.1)
        child.send_signal(number)
        _, stderr = child.communicate(timeout=60)
    assert child.returncode == exit_code
    assert f"stopped by {number.name}" in stderr
    assert len(stderr.splitlines()) == 1
    assert record(output)["stop_reason"] == "stopped on request"
    assert 3 <= record(output)["iterations"] < 100000
    assert Image.open(output).size == (64, 20)


def test_RUN_24_other_versions_go_on_with_a_warning(tmp_path, caplog):
    config = small(tmp_path / "o.png")
    folder = tmp_path / "o.run"
    folder.mkdir()
    elsewhere = {**checkpoint.environment(config), "scipy": "1.99", "cores": "64"}
    position = Position(0, "float32", 6, 0, 1, 1.0, 1.0, np.zeros((20, 64, 3), np.float32), {})
    checkpoint.save(folder, Checkpoint(3, {"weights": "ab"}, elsewhere, [], position))
    with caplog.at_level(logging.WARNING, "nst_tf"):
        found = run._interrupted(folder, {"weights": "ab"}, config)
    assert found.number == 3
    assert [record.message for record in caplog.records] == [
        "the continuation will not be bit-identical: scipy, cores changed"
    ]


def test_RUN_28_many_snapshots_are_told_of_and_the_last_are_kept(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=8_000))
    config = small(tmp_path / "o.png", save_iter=1, max_snapshots=2)
    with caplog.at_level(logging.WARNING, "nst_tf"):
        run.run(config)
        assert caplog.records == []  # two pictures of 64x20 take 7680 bytes at most
        run.run(config.model_copy(update={"max_snapshots": 0}))
    assert "6 snapshots take up to 0.0 GB" in caplog.records[0].message
    run.run(config)
    names = sorted(path.name for path in (tmp_path / "o.run").glob("iteration-*"))
    assert names[-2:] == ["iteration-5.png", "iteration-6.png"]


def test_RUN_35_a_loss_that_cannot_change_is_no_success(tmp_path):
    Image.new("RGB", (64, 20), (90, 120, 30)).save(tmp_path / "c.png")
    with pytest.raises(NumericalError, match="the loss did not change: the gradient is zero"):
        run.run(small(tmp_path / "o.png", content_weight=0.0, style_weight=0.0, tv_weight=1.0)
                .model_copy(update={"content_image": tmp_path / "c.png"}))  # fmt: skip
    assert Image.open(tmp_path / "o.png").size == (64, 20)


def test_RUN_45_a_run_in_a_thread_sets_no_handlers(tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    failures = []

    def work():
        try:
            run.run(small(tmp_path / "o.png", num_iterations=1))
        except (NstError, ValueError) as error:  # what setting a handler would raise
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert failures == []
    assert Image.open(tmp_path / "o.png").size == (64, 20)
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_new_run_mentions_the_one_it_could_have_gone_on_with(tmp_path, caplog):
    config = small(tmp_path / "o.png", num_iterations=1)
    inputs = run._read(config)
    (tmp_path / "o.run").mkdir()
    position = Position(0, "float32", 6, 0, 1, 1.0, 1.0, np.zeros((20, 64, 3), np.float32), {})
    point = Checkpoint(3, inputs.identity(config), {}, [[1.0] * 9] * 4, position)
    checkpoint.save(tmp_path / "o.run", point)
    with caplog.at_level(logging.WARNING, "nst_tf"):
        run.run(config)
    assert [record.message for record in caplog.records] == [
        "beginning anew; --resume would go on after 4 iterations"
    ]

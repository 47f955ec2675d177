"""Jobs from files to a saved image, with the real network on small images."""

import csv
import json
import logging
import math
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import nst_tf
from nst_tf import events, jobs, system
from nst_tf.config import Config, load_config
from nst_tf.config.files import portable
from nst_tf.engine.pyramid import Level
from nst_tf.engine.state import OptimizationState
from nst_tf.errors import InputError, MachineError, NstError
from nst_tf.events import (
    Checkpointed,
    Failed,
    Iteration,
    Losses,
    Planned,
    Preview,
    Saved,
    Scoring,
)
from nst_tf.image.arrays import quantize
from nst_tf.image.resize import resize, resized_shape
from nst_tf.io import images
from nst_tf.jobs import JobResult, checkpoint, inputs, places, provenance, resume
from nst_tf.jobs.callbacks import Latest
from nst_tf.jobs.checkpoint import Checkpoint
from nst_tf.jobs.resume import Plan
from nst_tf.losses import (
    content_loss,
    grain_loss,
    gram_loss,
    gram_matrix,
    jet_statistics,
    jets,
    total_variation_loss,
)
from nst_tf.main import main
from nst_tf.models import vgg19_features
from nst_tf.models.weights import PACKAGED_SHA256, load_vgg19
from tests import command
from tests.command import CONTENT, STYLE


def small(output, **settings):
    defaults = {"image_size": 64, "style_scale": 0.75, "num_iterations": 6, "save_iter": 2}
    defaults |= {"init": "content", "pyramid": "none"}
    return Config(
        content_image=CONTENT, style_image=[STYLE], output_image=output, **defaults | settings
    )


def recomputed(config):
    """Evaluates the saved file by the formula, without the engine."""
    content, style = (images.read(path) for path in (config.content_image, *config.style_image))
    content = resize(content, resized_shape(content.shape[:2], config.image_size))
    side = round(config.image_size * config.style_scale)
    style = resize(style, resized_shape(style.shape[:2], side))
    layers = [*config.content_layers, *config.style_layers]
    network = vgg19_features(layers, padding=config.padding, pooling=config.pooling)
    image = images.read(config.output_image)[np.newaxis]
    features, contents, styles = map(network, (image, content[np.newaxis], style[np.newaxis]))
    terms = {"tv": config.tv_weight * float(total_variation_loss(image)[0])}
    (layer,) = config.content_layers
    terms["content"] = config.content_weight * float(
        content_loss(features[layer], contents[layer])[0]
    )
    for layer in config.style_layers:
        loss = gram_loss(gram_matrix(features[layer]), gram_matrix(styles[layer]))
        terms[f"style/{layer}"] = config.style_weight * float(loss[0])
    sizes = zip(jets(image), jets(style[np.newaxis]), strict=True)
    grain = [grain_loss(jet_statistics(own), jet_statistics(other)) for own, other in sizes]
    terms["grain"] = config.grain_weight * float(sum(grain)[0])
    return Losses(terms)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """One run of the command, from a YAML file, in a folder that does not exist yet."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "small.yaml").write_text(
        f"content_image: {CONTENT}\nstyle_image: {STYLE}\noutput_image: new/image.png\n"
        "image_size: 64\nstyle_scale: 0.75\nnum_iterations: 6\nsave_iter: 2\nprint_iter: 3\n"
        "style_weight: 1e4\ntv_weight: 1e-3\ninit: content\npyramid: none\n"
    )
    done = command.run("--config", folder / "small.yaml", "--style_weight=2e4", cwd=Path("/"))
    assert done.returncode == 0, done.stderr
    return folder / "new" / "image.png", done


def size_of(path):
    with Image.open(path) as image:
        return image.size


def record(output):
    return json.loads((command.run_folder(output) / "run.json").read_text())


def test_leaves_the_image_and_its_run_folder_and_nothing_else(finished):
    output, _ = finished
    assert sorted(path.name for path in output.parent.iterdir()) == ["image.png", "image.png.run"]
    assert sorted(path.name for path in command.run_folder(output).iterdir()) == [
        "config.yaml",
        "first.png",
        "iteration-2.png",
        "iteration-4.png",
        "iteration-6.png",
        "latest.png",
        "losses.svg",
        "run.json",
        "state",
        "trace.csv",
    ]


def test_says_what_it_does_and_no_more(finished):
    output, done = finished
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert lines[0].startswith(f"nst_tf {nst_tf.__version__}, ")
    assert lines[0].endswith(" s")
    assert " on CPU; iterations at 64x20: 6; about " in lines[0]
    first = os.path.relpath(command.run_folder(output) / "first.png", "/")
    assert lines[1] == f"first image: {first}"
    assert [line.split("  ")[0] for line in lines[2:-2]] == ["iteration 3/6", "iteration 6/6"]
    assert lines[-2].startswith("computing the loss of the image in float32")
    shown = os.path.relpath(output, "/")  # where it ran
    assert lines[-1].startswith(f"saved {shown}: loss {record(output)['loss']:.5g}, 6 iterations")


def test_the_first_image_is_the_one_it_starts_from(finished):
    first = np.asarray(Image.open(command.run_folder(finished[0]) / "first.png"))
    content = resize(images.read(CONTENT), (20, 64))
    np.testing.assert_array_equal(first, quantize(content))


def test_the_image_has_the_size_asked_for_and_its_settings(finished):
    output, _ = finished
    with Image.open(output) as image:
        assert image.size == (64, 20)
    settings = json.loads(images.settings_of(output))
    assert settings["style_weight"] == 2e4
    assert (output.parent / settings["content_image"]).resolve() == CONTENT
    assert settings["output_image"] == "image.png"


def test_the_record_holds_what_its_contract_names(finished):
    found = record(finished[0])
    assert set(found) >= {
        "loss", "content_loss", "style_loss", "grain_loss", "tv_loss", "iterations",
        "evaluations", "seconds", "seconds_evaluating", "peak_memory_bytes", "stop_reason",
        "precision", "device",
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


def test_the_loss_on_record_is_that_of_the_saved_file(finished):
    output, _ = finished
    found = record(output)
    losses = recomputed(load_config(command.run_folder(output) / "config.yaml"))
    assert found["loss"] == pytest.approx(losses.total, rel=1e-5)
    assert found["content_loss"] == pytest.approx(losses.content, rel=1e-5)
    assert found["style_loss"] == pytest.approx(losses.style, rel=1e-5)
    assert found["grain_loss"] == pytest.approx(losses.grain, rel=1e-5)
    assert found["tv_loss"] == pytest.approx(losses.tv, rel=1e-5)
    assert losses.tv > 0


def test_the_trace_has_a_row_for_each_iteration(finished):
    with (command.run_folder(finished[0]) / "trace.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["iteration"]) for row in rows] == [1, 2, 3, 4, 5, 6]
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"])
    for row in rows:
        terms = sum(float(row[f"{name}_loss"]) for name in ("content", "style", "grain", "tv"))
        assert float(row["loss"]) == pytest.approx(terms)


def test_the_resolved_configuration_makes_the_image_again(finished, tmp_path):
    output, _ = finished
    config = load_config(
        command.run_folder(output) / "config.yaml", {"output_image": str(tmp_path / "again.png")}
    )
    jobs.run(config)
    again = np.asarray(Image.open(tmp_path / "again.png"))
    np.testing.assert_array_equal(again, np.asarray(Image.open(output)))


def test_freed_memory_goes_back_after_the_last_evaluation(tmp_path, monkeypatch):
    released, seen = [], []
    monkeypatch.setattr(system, "release_memory", lambda: released.append(len(seen)))

    def count(event):
        if isinstance(event, Iteration | Saved):
            seen.append(type(event).__name__)

    jobs.run(small(tmp_path / "a.png", num_iterations=3), callbacks=[count])
    assert seen[:3] == ["Iteration"] * 3
    assert released[-1] >= 3


def test_RUN_03_an_own_image_is_replaced_by_the_same_run_only(tmp_path):
    output = tmp_path / "o.png"
    jobs.run(small(output, num_iterations=0))
    before = output.stat().st_mtime_ns
    assert jobs.run(small(output, num_iterations=0)).path == output
    assert output.stat().st_mtime_ns != before
    other = jobs.run(small(output, num_iterations=1))
    assert other.path == tmp_path / "o-2.png"
    settings = [json.loads(images.settings_of(path)) for path in (output, other.path)]
    assert [each["num_iterations"] for each in settings] == [0, 1]
    assert [each["output_image"] for each in settings] == ["o.png", "o-2.png"]


def test_RUN_03_overwrite_replaces_the_file_of_somebody_else(tmp_path):
    output = tmp_path / "o.png"
    output.write_text("precious")
    with pytest.raises(MachineError, match="nst_tf did not write that file"):
        jobs.run(small(output, num_iterations=0))
    assert output.read_text() == "precious"
    jobs.run(small(output, num_iterations=0), overwrite=True)
    assert size_of(output) == (64, 20)


def test_RUN_40_no_iterations_save_the_start(tmp_path):
    output = tmp_path / "o.png"
    jobs.run(small(output, num_iterations=0, init=str(STYLE)))
    expected = quantize(resize(images.read(STYLE), (20, 64)))
    np.testing.assert_array_equal(np.asarray(Image.open(output)), expected)
    assert record(output)["iterations"] == 0


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".tiff"])
def test_the_record_is_of_the_file_as_it_is_read_back(tmp_path, suffix):
    config = small(tmp_path / f"o{suffix}", num_iterations=1)
    seen = []
    jobs.run(config, callbacks=[seen.append])
    assert sum(isinstance(event, events.Scoring) for event in seen) == 1
    losses = recomputed(config)
    assert record(config.output_image)["loss"] == pytest.approx(losses.total, rel=1e-5)
    assert record(config.output_image)["loss_of"] == "the saved image, in float32"


def test_RUN_31_a_loss_that_is_not_finite_ends_with_the_best_image(tmp_path, capsys):
    poison = {name: array.copy() for name, array in load_vgg19("normalised").arrays.items()}
    poison["block2_conv1/kernel"] *= np.float32(1e30)
    np.savez(tmp_path / "w.npz", **poison)
    config = small(tmp_path / "o.png", weights=str(tmp_path / "w.npz"))
    result = jobs.run(config)
    assert result.status == "failed"
    assert result.failure.startswith("the loss is not finite: ")
    assert "style/block2_conv1" in result.failure
    assert not record(tmp_path / "o.png")["finished"]
    assert size_of(tmp_path / "o.png") == (64, 20)
    assert main([f"--config={tmp_path / 'o.png.run' / 'config.yaml'}"]) == 4
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"nst_tf: error: {result.failure}; "
        f"check the weights; the best image so far is in {tmp_path / 'o.png'}"
    )


def test_a_wrong_image_leaves_nothing(tmp_path):
    (tmp_path / "c.png").write_text("no image")
    with pytest.raises(InputError, match="not an image"):
        jobs.run(small(tmp_path / "sub" / "o.png").replace(content_image=tmp_path / "c.png"))
    assert [path.name for path in tmp_path.iterdir()] == ["c.png"]


@pytest.mark.parametrize(
    ("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["INT", "TERM"]
)
def test_RUN_12_14_a_signal_saves_the_best_image(tmp_path, number, exit_code):
    output = tmp_path / "o.png"
    flags = [
        f"--content_image={CONTENT}", f"--style_image={STYLE}", f"--output_image={output}",
        "--image_size=64", "--num_iterations=100000", "--save_iter=3", "--print_iter=0",
    ]  # fmt: skip
    with subprocess.Popen(
        command.command(*flags), env=command.environment(), stderr=subprocess.PIPE, text=True
    ) as child:
        first = tmp_path / "o.png.run" / "iteration-000003.png"
        for _ in range(600):
            if first.exists():
                break
            time.sleep(0.1)
        child.send_signal(number)
        _, stderr = child.communicate(timeout=60)
    assert child.returncode == exit_code
    assert re.fullmatch(
        r"stopped: saved .*o\.png after \d+ of 100000 iterations; "
        r"the same command with --resume goes on\n", stderr,
    )  # fmt: skip
    assert record(output)["stop_reason"] == "stopped on request"
    assert 3 <= record(output)["iterations"] < 100000
    assert size_of(output) == (64, 20)


def state():
    return OptimizationState(0, "float32", 0, 0, 1, 1.0, 1.0, np.zeros((20, 64, 3), np.float32), {})


def interrupted(output, facts):
    levels = (Level((20, 64), ((20, 64),), 6),)
    plan = Plan(small(output), facts, levels)
    return resume.find(plan, places.occupants(output))


def test_RUN_24_other_versions_go_on_with_a_warning(tmp_path, caplog):
    here = provenance.environment(small(tmp_path / "o.png"))
    elsewhere = {**here, "nst_tf": "0.0.9", "scipy": "1.99", "cores": "64"}
    (tmp_path / "o.png.run").mkdir()
    point = Checkpoint(3, {"weights": "ab"}, elsewhere, 4, state())
    checkpoint.save(tmp_path / "o.png.run", point)
    with caplog.at_level(logging.WARNING, "nst_tf"):
        found = interrupted(tmp_path / "o.png", {"weights": "ab"}).checkpoint()
    assert found.number == 3
    assert [record.message for record in caplog.records] == [
        "the continuation will not be bit-identical: nst_tf, scipy, cores changed"
    ]


@pytest.mark.parametrize(
    ("fits", "asked", "kept", "warned"),
    [
        (512, 0, 256, False),
        (0, 0, 256, False),
        (256, 0, 256, False),
        (128, 0, 128, True),  # memory is short now
        (512, 512, 512, True),
    ],
)
def test_a_continued_run_keeps_its_tiles_where_they_fit(
    tmp_path, caplog, fits, asked, kept, warned
):
    output = tmp_path / "o.png"
    config = small(output, tile_size=asked)
    point = Checkpoint(3, {}, provenance.environment(config, 256), 4, state())
    (tmp_path / "o.png.run").mkdir()
    checkpoint.save(tmp_path / "o.png.run", point)
    plan = Plan(config, {}, (Level((20, 64), ((20, 64),), 6),), fits)
    with caplog.at_level(logging.WARNING, "nst_tf"):
        found = resume.find(plan, places.occupants(output)).checkpoint()
    assert found.environment["tile_size"] == str(kept)
    expected = ["the continuation will not be bit-identical: tile_size changed"] if warned else []
    assert [record.message for record in caplog.records] == expected


@pytest.mark.parametrize("key", ["fingerprint", "identity"])  # as version 0.1 called it
def test_RUN_26_a_finished_run_is_recognized_by_its_record(tmp_path, key):
    output = tmp_path / "o.png"
    settings = json.dumps(portable(small(output)))
    output.write_bytes(images.encode(np.zeros((20, 64, 3), np.uint8), ".png", settings))
    (tmp_path / "o.png.run").mkdir()
    text = json.dumps({"finished": True, key: {"weights": "ab"}})
    (tmp_path / "o.png.run" / "run.json").write_text(text)
    assert interrupted(output, {"weights": "ab"}).is_complete
    with pytest.raises(InputError, match="it differs in weights"):
        interrupted(output, {"weights": "cd"})


def test_RUN_28_many_snapshots_are_told_of_and_the_last_are_kept(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=8_000))
    config = small(tmp_path / "o.png", save_iter=1, max_snapshots=2)
    with caplog.at_level(logging.WARNING, "nst_tf"):
        jobs.run(config)
        assert caplog.records == []  # two images of 64x20 take 7680 bytes at most
        jobs.run(config.replace(max_snapshots=0))
    assert "6 snapshots take up to 0.0 GB" in caplog.records[0].message
    jobs.run(config)
    names = sorted(path.name for path in (tmp_path / "o.png.run").glob("iteration-*"))
    assert names[-2:] == ["iteration-5.png", "iteration-6.png"]


def test_RUN_28_a_resumed_job_counts_the_snapshots_of_its_beginning(tmp_path):
    config = small(tmp_path / "o.png", save_iter=1, max_snapshots=2)
    jobs.run(config, callbacks=[lambda event: isinstance(event, Iteration) and event.iteration > 3])
    assert jobs.run(config, resume=True).status == "finished"
    names = sorted(path.name for path in (tmp_path / "o.png.run").glob("iteration-*"))
    assert names == ["iteration-5.png", "iteration-6.png"]


def test_RUN_35_a_loss_that_cannot_change_is_no_success():
    def constant(image, features):
        return 5.0 + 0.0 * tf.reduce_sum(image, axis=[1, 2, 3])

    import tensorflow as tf

    config = Config(image_size=64, num_iterations=3, pyramid="none", init="content",
                    content_weight=0, style_weight=0, tv_weight=1)  # fmt: skip
    extra = nst_tf.ExtraLoss("constant", constant, weight=1.0)
    flat = np.full((20, 64, 3), 90.0)
    result = nst_tf.stylize(flat, flat, config, extra_losses=[extra])
    assert result.failure == "the loss did not change: the gradient is zero"


@pytest.mark.parametrize(
    "settings",
    [
        {"content_weight": 0.0, "style_weight": 0.0, "tv_weight": 1.0},
        {"style_weight": 0.0},
        pytest.param(
            {"style_image": "c.png", "style_scale": 1.0, "precision": "bfloat16"},
            marks=pytest.mark.slow,
        ),
        {"num_iterations": 0},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_CMD_17_an_image_that_cannot_be_improved_is_no_failure(tmp_path, monkeypatch, settings):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (64, 20), (90, 120, 30)).save("c.png")
    config = small("o.png", precision="float32").replace(content_image="c.png", **settings)
    result = jobs.run(config)
    assert result.status == "finished"
    assert result.losses.total == pytest.approx(0.0, abs=1e-3) or "num_iterations" in settings
    assert size_of(tmp_path / "o.png") == (64, 20)


def test_RUN_45_a_run_in_a_thread_sets_no_handlers(tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    failures = []

    def work():
        try:
            jobs.run(small(tmp_path / "o.png", num_iterations=1))
        except (NstError, ValueError) as error:  # what setting a handler would raise
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert failures == []
    assert size_of(tmp_path / "o.png") == (64, 20)
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_new_run_mentions_the_one_it_could_have_gone_on_with(tmp_path, caplog):
    config = small(tmp_path / "o.png", num_iterations=1)
    named = inputs.read_inputs(config).by_name()
    (tmp_path / "o.png.run").mkdir()
    facts = provenance.fingerprint(config, named, PACKAGED_SHA256)
    checkpoint.save(tmp_path / "o.png.run", Checkpoint(3, facts, {}, 4, state()))
    with caplog.at_level(logging.WARNING, "nst_tf"):
        jobs.run(config)
    assert [record.message for record in caplog.records] == [
        "beginning anew; --resume would go on after 4 iterations"
    ]


def test_a_checkpoint_of_an_older_format_is_refused_and_kept(tmp_path, monkeypatch):
    config = small(tmp_path / "o.png", num_iterations=1)
    (tmp_path / "o.png.run").mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "_FORMAT", "nst_tf checkpoint 1")
        path = checkpoint.save(tmp_path / "o.png.run", Checkpoint(0, {}, {}, 4, state()))
    with pytest.raises(InputError, match="its format is 'nst_tf checkpoint 1', not"):
        jobs.run(config, resume=True)
    assert path.exists()


# As a library


def test_callbacks_get_the_events_in_order_and_the_result_is_plain_data(tmp_path, capfd):
    events = []
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    config = small(tmp_path / "o.png", num_iterations=3, checkpoint_seconds=1e-6)
    result = jobs.run(config, callbacks=[events.append])
    assert capfd.readouterr().out == ""
    assert {number: signal.getsignal(number) for number in handlers} == handlers
    kinds = [type(event) for event in events]
    assert kinds[:3] == [Planned, Preview, Iteration]
    assert kinds[-1] is Saved
    assert [event.iteration for event in events if isinstance(event, Iteration)] == [1, 2, 3]
    for event in events:
        if isinstance(event, Checkpointed):
            before = events[: events.index(event)]
            assert event.iteration == [e for e in before if isinstance(e, Iteration)][-1].iteration
            assert event.path.parent == tmp_path / "o.png.run"
    assert Checkpointed in kinds
    planned, preview, saved = events[0], events[1], events[-1]
    assert planned.levels == ((20, 64, 3),)
    assert planned.device == "CPU"
    assert preview.path == tmp_path / "o.png.run" / "first.png"
    assert preview.image.shape == (20, 64, 3)
    assert saved == Saved(
        result.path, result.losses, 3, saved.seconds, "all iterations were done", True
    )
    assert result.status == "finished"
    assert result.record == record(result.path)
    assert result.losses.total == pytest.approx(recomputed(config).total, rel=1e-5)
    assert pickle.loads(pickle.dumps(result)) == result
    with pytest.raises(AttributeError):
        result.status = "stopped"


def test_RUN_52_a_job_killed_while_the_loss_is_computed_repeats_no_iteration(tmp_path):
    done = []

    def copy(event):  # as it is when the loss is about to be computed
        done.append(event)
        if isinstance(event, Checkpointed) and any(isinstance(each, Scoring) for each in done):
            shutil.copytree(event.path.parent, tmp_path / "killed.png.run")

    result = jobs.run(small(tmp_path / "o.png", num_iterations=3), callbacks=[copy])
    again = []
    config = small(tmp_path / "killed.png", num_iterations=3)
    resumed = jobs.run(config, resume=True, callbacks=[again.append])
    assert not any(isinstance(event, Iteration) for event in again)
    assert (images.read(resumed.path) == images.read(result.path)).all()
    assert resumed.losses == result.losses
    assert (tmp_path / "killed.png.run" / "state").exists()
    more = []
    jobs.run(config.replace(num_iterations=4), resume=True, callbacks=[more.append])
    assert [event.iteration for event in more if isinstance(event, Iteration)] == [4]


def test_only_images_that_are_due_are_copied(tmp_path, monkeypatch):
    monkeypatch.setattr(Latest.__init__, "__defaults__", (math.inf,))  # the next one is never due
    copied = []
    real = Iteration.image.func
    monkeypatch.setattr(Iteration.image, "func", lambda e: copied.append(e.iteration) or real(e))
    jobs.run(small(tmp_path / "o.png", num_iterations=5, save_iter=2))
    assert copied == [2, 4]


def test_a_continued_job_lets_go_of_its_checkpoint(tmp_path, monkeypatch):
    output = tmp_path / "o.png"
    jobs.run(small(output, num_iterations=2))
    taken, alive = [], []
    take = places.Place.take_state

    def spied(place):
        state = take(place)
        arrays = [state.image, *state.optimizer_state.values()]
        taken.extend(map(weakref.ref, arrays))
        return state

    monkeypatch.setattr(places.Place, "take_state", spied)

    def look(event):
        if isinstance(event, Iteration):
            alive.append(sum(each() is not None for each in taken))

    jobs.run(small(output, num_iterations=4), resume=True, callbacks=[look])
    assert len(taken) > 10 and alive == [0, 0]


def test_a_continued_job_without_iterations_keeps_its_state(tmp_path):
    output = tmp_path / "o.png"
    jobs.run(small(output, num_iterations=2))
    kept = tmp_path / "o.png.run" / "state"
    state = kept.read_bytes()
    output.unlink()
    again = jobs.run(small(output, num_iterations=2), resume=True)
    assert (again.status, again.record["iterations"]) == ("finished", 2)
    assert output.exists() and kept.read_bytes() == state


def test_a_true_answer_to_an_iteration_stops_the_job(tmp_path):
    result = jobs.run(
        small(tmp_path / "o.png"),
        callbacks=[lambda event: isinstance(event, Iteration) and event.iteration == 2],
    )
    assert (result.status, result.record["iterations"]) == ("stopped", 2)
    assert not result.record["finished"]
    assert size_of(result.path) == (64, 20)
    assert jobs.run(small(tmp_path / "o.png"), resume=True).status == "finished"
    again = jobs.run(small(tmp_path / "o.png"), resume=True)
    assert again.status == "nothing to do"
    assert again.record == record(result.path)


def test_a_job_that_is_stopped_at_once_leaves_no_image(tmp_path):
    events = []
    result = jobs.run(
        small(tmp_path / "o.png"), callbacks=[events.append], should_stop=lambda: True
    )
    assert result == JobResult(None, {}, None, "stopped")
    assert list(tmp_path.iterdir()) == []
    assert not any(isinstance(event, Iteration) for event in events)


def test_an_error_is_an_event_before_it_is_raised(tmp_path):
    events = []
    (tmp_path / "c.png").write_text("no image")
    config = small(tmp_path / "o.png").replace(content_image=tmp_path / "c.png")
    with pytest.raises(InputError) as raised:
        jobs.run(config, callbacks=[events.append])
    assert events == [Failed(raised.value)]


def test_RUN_38_a_callback_that_fails_is_left_out_and_the_job_goes_on(tmp_path, caplog):
    def broken(event):
        raise RuntimeError("no such table")

    with caplog.at_level(logging.WARNING, "nst_tf"):
        assert jobs.run(small(tmp_path / "o.png"), callbacks=[broken]).status == "finished"
    assert [record.message for record in caplog.records] == [
        "broken failed and is left out from here on: no such table"
    ]


def test_ENV_06_threads_that_cannot_be_changed_any_more_stay_with_a_warning(tmp_path, caplog):
    jobs.run(small(tmp_path / "o.png", num_iterations=0))
    with caplog.at_level(logging.WARNING, "nst_tf"):
        result = jobs.run(small(tmp_path / "p.png", num_iterations=0, threads=1))
    assert result.status == "finished"
    assert [record.message[:13] for record in caplog.records] == ["threads stay "]
    with pytest.raises(MachineError, match="cannot set deterministic"):
        jobs.run(small(tmp_path / "q.png", num_iterations=0, deterministic=True))


def test_no_thread_is_left_behind(tmp_path):
    before = threading.enumerate()
    jobs.run(small(tmp_path / "o.png", num_iterations=0))
    with pytest.raises(InputError):
        jobs.run(small(tmp_path / "o.png", weights=str(CONTENT)))
    assert threading.enumerate() == before


def test_the_package_does_not_import_tensorflow():
    code = (
        "import sys; from nst_tf.jobs import run, isolated, JobResult; "
        "sys.exit(any(name in sys.modules for name in ('tensorflow', 'keras', 'scipy')))"
    )
    done = subprocess.run([sys.executable, "-c", code], env=command.environment())
    assert done.returncode == 0
    assert {"JobResult", "isolated", "run"} <= set(dir(jobs))

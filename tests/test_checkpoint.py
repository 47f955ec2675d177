"""Checkpoints: intact or refused; a run that continues from one ends in the same bytes."""

import dataclasses
import logging
import os
from types import SimpleNamespace

import ml_dtypes
import numpy as np
import pytest

from nst_tf import Stylizer
from nst_tf.config import Config
from nst_tf.engine.state import OptimizationState
from nst_tf.errors import InputError, MachineError
from nst_tf.events import Iteration
from nst_tf.io import images
from nst_tf.jobs import checkpoint, provenance
from nst_tf.jobs.checkpoint import Checkpoint
from tests.command import PALACE as CONTENT
from tests.command import STYLE


def state(**changes):
    random = np.random.default_rng(5)
    return dataclasses.replace(
        OptimizationState(
            level=1, precision="bfloat16", level_iterations=3, iterations=80, evaluations=85,
            seconds=12.5, seconds_evaluating=10.25,
            image=random.normal(size=(4, 5, 3)).astype(np.float32),
            optimizer_state={
                "x": random.normal(size=(4, 5, 3)).astype(np.float32),
                "best_value": np.array(0.1), "pairs": np.array([2, 0, 1]), "s": np.zeros((0, 60)),
                "y": random.normal(size=(2, 3)).astype(ml_dtypes.bfloat16),
                "halves": random.integers(0, 2**16, (2, 3), np.uint16),
            },
        ),
        **changes,
    )  # fmt: skip


def saved(number, **changes):
    return Checkpoint(number, {"weights": "ab"}, {"cores": "2"}, 85, state(**changes))


def assert_same(found, expected):
    for name in ("number", "fingerprint", "environment", "iterations"):
        assert getattr(found, name) == getattr(expected, name)
    for field in dataclasses.fields(OptimizationState):
        one, other = (getattr(c.state, field.name) for c in (found, expected))
        if field.name == "optimizer_state":
            assert one.keys() == other.keys()
            for name in one:
                assert one[name].dtype == other[name].dtype
                np.testing.assert_array_equal(one[name], other[name])
        else:
            np.testing.assert_array_equal(one, other)


def test_what_is_read_is_what_was_saved(tmp_path):
    checkpoint.save(tmp_path, saved(7))
    assert_same(checkpoint.newest(tmp_path), saved(7))


def test_RUN_22_the_newest_is_the_one_with_the_highest_number_whatever_the_clock(tmp_path):
    for number in (3, 4, 5):
        checkpoint.save(tmp_path, saved(number))
    paths = sorted(tmp_path.iterdir())
    assert len(paths) == 2
    for path in paths:  # both from the year 1970
        os.utime(path, (100 - checkpoint.read(path).number, 0))
    assert checkpoint.newest(tmp_path).number == 5


def damage(path, how):
    data = bytearray(path.read_bytes())
    if how == "truncated":
        del data[len(data) // 2 :]
    elif how == "empty":
        data.clear()
    else:
        data[int(how * (len(data) - 1))] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("how", ["truncated", "empty", 0.0, 0.02, 0.3, 0.9, 1.0])
def test_RUN_25_a_damaged_checkpoint_gives_way_to_the_one_before(tmp_path, caplog, how):
    checkpoint.save(tmp_path, saved(4))
    checkpoint.save(tmp_path, saved(5))
    damage(tmp_path / "checkpoint-1", how)
    with caplog.at_level(logging.WARNING, "nst_tf"):
        assert_same(checkpoint.newest(tmp_path), saved(4))
    assert len(caplog.records) == 1
    assert "checkpoint-1" in caplog.records[0].message


def test_RUN_25_it_is_the_digest_that_finds_a_flipped_bit(tmp_path, monkeypatch):
    # A mutant: every digest is the same.
    digest = SimpleNamespace(digest=lambda: b"0" * 32, update=lambda _: None)
    monkeypatch.setattr(checkpoint, "hashlib", SimpleNamespace(sha256=lambda *_: digest))
    checkpoint.save(tmp_path, saved(5))
    damage(tmp_path / "checkpoint-1", 0.9)
    assert checkpoint.newest(tmp_path).number == 5  # taken for whole


def test_RUN_25_where_both_are_damaged_they_are_refused_and_kept(tmp_path):
    checkpoint.save(tmp_path, saved(4))
    checkpoint.save(tmp_path, saved(5))
    for name in ("checkpoint-0", "checkpoint-1"):
        damage(tmp_path / name, 0.5)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(InputError, match="it is damaged; start again without --resume"):
        checkpoint.newest(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_there_may_be_none(tmp_path):
    assert checkpoint.newest(tmp_path) is None


def test_RUN_08_a_full_disk_keeps_the_checkpoint_before(tmp_path, monkeypatch):
    checkpoint.save(tmp_path, saved(4))
    checkpoint.save(tmp_path, saved(5))

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(MachineError, match="No space left"):
        checkpoint.save(tmp_path, saved(6))
    assert_same(checkpoint.newest(tmp_path), saved(5))
    assert len(list(tmp_path.iterdir())) == 2


def read_images():
    return images.read(CONTENT), images.read(STYLE)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"style_weight": 2e5}, "style_weight"),
        ({"image_size": 500, "seed": 3}, "image_size, seed"),
        ({"num_iterations": 41}, "num_iterations"),
        ({"init": "noise"}, "init"),
        ({"init": str(STYLE)}, "init"),
        ({"print_iter": 3, "save_iter": 2, "checkpoint_seconds": 1, "output_image": "x.png"}, ""),
        ({"style_image": ["elsewhere/the_scream.jpg"]}, ""),  # its content counts, not its name
    ],
)
def test_RUN_23_a_fingerprint_changes_with_what_changes_the_image(changes, named):
    content, style = read_images()
    inputs = {"content_image": content, "style_image 1": style}
    defaults = {"content_image": CONTENT, "style_image": [STYLE]}
    one = provenance.fingerprint(Config(**defaults), inputs, "ab")
    other = provenance.fingerprint(Config(**defaults | changes), inputs, "ab")
    assert set(provenance.differences(one, other)) == set(filter(None, named.split(", ")))


def test_RUN_23_a_fingerprint_changes_with_images_and_weights():
    content, style = read_images()
    one = provenance.fingerprint(Config(), {"content_image": content, "the start": None}, "ab")
    touched = content.copy()
    touched[3, 4, 1] += 1
    other = provenance.fingerprint(Config(), {"content_image": touched, "the start": style}, "cd")
    assert provenance.differences(one, other) == ["content_image", "the start", "weights"]


def test_a_setting_that_an_older_version_did_not_have_counts_as_its_default():
    now = provenance.fingerprint(Config(), {}, "ab")
    before = {name: value for name, value in now.items() if name != "padding"}
    assert provenance.differences(before, now) == []
    changed = provenance.fingerprint(Config(padding="zero"), {}, "ab")
    assert provenance.differences(before, changed) == ["padding"]


@pytest.mark.parametrize(
    ("optimizer", "iterations", "resumed_at"),
    [
        ("lbfgs", 8, (1, 5, 8, 9, 15)),
        ("adam", 8, (2, 8, 13)),
        ("l-bfgs-b", 60, (7, 49, 50, 51, 60, 115)),
    ],
)
def test_RUN_17_a_resumed_run_ends_in_the_same_bytes(
    optimizer, iterations, resumed_at, tmp_path, tiny_features
):
    config = Config(
        image_size=48, style_scale=1, num_iterations=iterations, pyramid=f"32:{iterations}",
        optimizer=optimizer,
    )  # fmt: skip
    content, style = read_images()

    def save(event):
        if isinstance(event, Iteration) and event.iteration in resumed_at:
            point = Checkpoint(event.iteration, {}, {}, event.iteration, event.state())
            (tmp_path / str(event.iteration)).write_bytes(b"".join(checkpoint.encode(point)))

    stylizer = Stylizer(config, network=tiny_features)
    whole = stylizer(content, style, callbacks=[save])
    assert whole.iterations == 2 * iterations
    for iteration in resumed_at:
        before = checkpoint.read(tmp_path / str(iteration))
        resumed = stylizer(content, style, state=before.state)
        assert resumed.image.tobytes() == whole.image.tobytes(), iteration
        assert resumed.iterations == whole.iterations
        assert resumed.evaluations == whole.evaluations


def test_a_state_asked_for_late_is_that_of_the_last_iteration(tiny_features):
    content, style = read_images()
    config = Config(image_size=32, style_scale=1, num_iterations=30, pyramid="none", init="content")
    seen = []
    evaluations = 0

    def should_stop():
        nonlocal evaluations
        evaluations += 1
        return evaluations == 9

    stylizer = Stylizer(config, network=tiny_features)
    whole = stylizer(content, style)
    cut = stylizer(content, style, callbacks=[seen.append], should_stop=should_stop)
    assert cut.stop_reason == "stopped on request"
    assert cut.evaluations == 9
    last = [event for event in seen if isinstance(event, Iteration)][-1]
    resumed = stylizer(content, style, state=last.state())
    assert resumed.image.tobytes() == whole.image.tobytes()

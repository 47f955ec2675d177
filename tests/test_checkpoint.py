"""Checkpoints: verified whole or refused; a run that goes on from one takes the same way."""

import dataclasses
import logging
import os
from types import SimpleNamespace

import numpy as np
import pytest

from nst_tf.config.schema import Config
from nst_tf.engine.stylize import stylize
from nst_tf.errors import InputError, MachineError
from nst_tf.io import images
from nst_tf.jobs import checkpoint
from nst_tf.jobs.checkpoint import Checkpoint, Position
from tests.command import PALACE as CONTENT
from tests.command import STYLE


def position(**changes):
    random = np.random.default_rng(5)
    return dataclasses.replace(
        Position(
            level=1, precision="bfloat16", num_iterations=40, iterations=80, evaluations=85,
            seconds=12.5, seconds_evaluating=10.25,
            picture=random.normal(size=(4, 5, 3)).astype(np.float32),
            state={
                "x": random.normal(size=(4, 5, 3)).astype(np.float32),
                "best_value": np.array(0.1), "pairs": np.array([2, 0, 1]), "s": np.zeros((0, 60)),
            },
        ),
        **changes,
    )  # fmt: skip


def saved(number, **changes):
    return Checkpoint(number, {"weights": "ab"}, {"cores": "2"}, [[1, 2.5], [2, 2.25]],
                      position(**changes))  # fmt: skip


def assert_same(found, expected):
    assert found.number == expected.number
    assert found.identity == expected.identity
    assert found.environment == expected.environment
    assert found.trace == expected.trace
    for field in dataclasses.fields(Position):
        one, other = (getattr(c.position, field.name) for c in (found, expected))
        if field.name == "state":
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


def pictures():
    return images.read(CONTENT, 10**8), images.read(STYLE, 10**8)


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
def test_RUN_23_an_identity_changes_with_what_changes_the_picture(changes, named):
    content, style = pictures()
    names = {"content_image": content, "style_image 1": style}
    defaults = {"content_image": CONTENT, "style_image": [STYLE]}
    one = checkpoint.identity(Config(**defaults), names, "ab")
    other = checkpoint.identity(Config(**defaults | changes), names, "ab")
    assert checkpoint.differences(one, other) == named


def test_RUN_23_an_identity_changes_with_pictures_and_weights():
    content, style = pictures()
    one = checkpoint.identity(Config(), {"content_image": content, "the start": None}, "ab")
    touched = content.copy()
    touched[3, 4, 1] += 1
    other = checkpoint.identity(Config(), {"content_image": touched, "the start": style}, "cd")
    assert checkpoint.differences(one, other) == "content_image, the start, weights"


@pytest.mark.parametrize(
    ("optimizer", "iterations", "resumed_at"),
    [
        ("lbfgs", 8, (1, 5, 8, 9, 15)),
        ("adam", 8, (2, 8, 13)),
        ("l-bfgs-b", 60, (7, 49, 50, 51, 60, 115)),
    ],
)
def test_RUN_17_a_resumed_run_ends_in_the_same_bytes(
    optimizer, iterations, resumed_at, weights, tmp_path
):
    config = Config(
        image_size=48, style_scale=1, num_iterations=iterations, pyramid=f"32:{iterations}",
        optimizer=optimizer,
    )  # fmt: skip
    content, style = pictures()

    def listener(progress):
        if progress.iteration in resumed_at:
            point = Checkpoint(progress.iteration, {}, {}, [], progress.position())
            (tmp_path / str(progress.iteration)).write_bytes(b"".join(checkpoint.encode(point)))

    whole = stylize(content, style, config, weights=weights, listener=listener)
    assert whole.iterations == 2 * iterations
    for iteration in resumed_at:
        before = checkpoint.read(tmp_path / str(iteration))
        resumed = stylize(content, style, config, weights=weights, resume=before.position)
        assert resumed.picture.tobytes() == whole.picture.tobytes(), iteration
        assert resumed.iterations == whole.iterations
        assert resumed.evaluations == whole.evaluations
        assert resumed.seconds > before.position.seconds


def test_a_position_asked_for_late_is_that_of_the_last_iteration(weights):
    content, style = pictures()
    config = Config(image_size=32, style_scale=1, num_iterations=30, pyramid="none", init="content")
    seen = []
    evaluations = 0

    def stop():
        nonlocal evaluations
        evaluations += 1
        return evaluations == 9

    whole = stylize(content, style, config, weights=weights)
    cut = stylize(content, style, config, weights=weights, listener=seen.append, stop=stop)
    assert cut.stop_reason == "stopped on request"
    assert cut.evaluations == 9
    resumed = stylize(content, style, config, weights=weights, resume=seen[-1].position())
    assert resumed.picture.tobytes() == whole.picture.tobytes()

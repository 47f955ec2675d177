"""The callbacks that write a run folder: trace, snapshots and checkpoints."""

import csv
import logging
import tracemalloc
import weakref

import numpy as np
import pytest

from nst_tf.config import Config
from nst_tf.engine.pyramid import Level
from nst_tf.engine.state import OptimizationState
from nst_tf.errors import MachineError
from nst_tf.events import Checkpointed, Iteration, Losses, Preview, Scoring
from nst_tf.io import files
from nst_tf.jobs import callbacks, checkpoint
from nst_tf.jobs.callbacks import CallbackList, Checkpoints, Latest, Snapshots, Trace
from nst_tf.jobs.checkpoint import Checkpoint

STATE = OptimizationState(0, "float32", 0, 0, 1, 1.0, 1.0, np.zeros((3, 5, 3), np.float32), {})

LEVELS = (Level((3, 5), ((3, 5),), 100),)


class Source:
    def image(self):
        return np.full((3, 5, 3), 77.0, np.float32)

    def state(self):
        return STATE


def iteration(number, **changes):
    losses = Losses({"content/block4_conv2": 1.5, "style/block1_conv1": 2.0, "tv": 0.25 * number})
    defaults = {
        "iteration": number, "num_iterations": 100, "evaluations": number + 1, "seconds": 10.0,
        "done": 0.25, "seconds_left": 30.0, "losses": losses, "height": 3, "width": 5,
        "source": Source(),
    }  # fmt: skip
    return Iteration(**{**defaults, **changes})


def rows(path):
    with path.open(newline="") as file:
        return [int(row["iteration"]) for row in csv.DictReader(file)]


def test_RUN_38_a_callback_that_fails_is_left_out_and_the_others_go_on(caplog):
    seen = []

    class Broken:
        def __call__(self, event):
            raise OSError("No space left on device")

    notify = CallbackList([Broken(), seen.append])
    with caplog.at_level(logging.WARNING, "nst_tf"):
        for number in (1, 2, 3):
            assert notify(iteration(number)) is False
    assert [event.iteration for event in seen] == [1, 2, 3]
    assert [record.message for record in caplog.records] == [
        "Broken failed and is left out from here on: No space left on device"
    ]


def test_any_callback_can_ask_for_the_end_and_all_are_still_called():
    seen = []
    assert CallbackList([lambda event: True, seen.append])(iteration(1)) is True
    assert len(seen) == 1


def test_the_trace_grows_with_every_iteration(tmp_path):
    path = tmp_path / "trace.csv"
    trace = Trace(path)
    assert path.read_text() == ",".join(callbacks.TRACE_COLUMNS) + "\n"
    for number in (1, 2, 3):
        trace(iteration(number))
        assert rows(path) == list(range(1, number + 1))
    assert path.read_text().splitlines()[2] == "2,3,10.0,5,3,4.0,1.5,2.0,0,0.5"


def test_a_new_run_replaces_the_trace_of_the_last(tmp_path):
    path = tmp_path / "trace.csv"
    path.write_text("something\nelse\n")
    Trace(path)(iteration(1))
    assert rows(path) == [1]


def test_a_continued_trace_is_cut_back_to_the_checkpoint(tmp_path):
    path = tmp_path / "trace.csv"
    first = Trace(path)
    for number in range(1, 8):
        first(iteration(number))
    with path.open("a") as file:
        file.write("8,9,10.")  # as a process leaves it that is killed
    second = Trace(path, rows=4)
    assert rows(path) == [1, 2, 3, 4]
    # Where the optimizer continues from before the checkpoint, iterations come again.
    second(iteration(3))
    assert rows(path) == [1, 2, 3]


@pytest.mark.parametrize("left", [0, 1, 3])
def test_a_continued_trace_that_lost_rows_goes_on_with_a_warning(tmp_path, caplog, left):
    path = tmp_path / "trace.csv"
    if left:
        trace = Trace(path)
        for number in range(1, left):
            trace(iteration(number))
    with caplog.at_level(logging.WARNING, "nst_tf"):
        Trace(path, rows=4)(iteration(5))
    kept = max(0, left - 1)
    assert [record.message for record in caplog.records] == [
        f"trace.csv has lost {4 - kept} of 4 rows"
    ]
    assert rows(path) == [*range(1, left), 5]


def test_a_full_disk_costs_no_row_once_there_is_space_again(tmp_path, caplog, monkeypatch):
    path = tmp_path / "trace.csv"
    trace = Trace(path)

    def full(path, lines):
        raise MachineError("cannot write the file", "No space left on device", "free some")

    with caplog.at_level(logging.WARNING, "nst_tf"):
        with monkeypatch.context() as patch:
            patch.setattr(files, "append_lines", full)
            trace(iteration(1))
            trace(iteration(2))
        trace(iteration(3))
    assert len(caplog.records) == 1
    assert rows(path) == [1, 2, 3]


def snapshots(folder, every=5, keep=0, **options):
    return Snapshots(folder, every, keep, 100, lambda pixels: bytes(pixels), **options)


def test_snapshots_come_when_they_are_due_and_sort_by_name(tmp_path):
    write = snapshots(tmp_path)
    for number in (4, 5, 6, 10):
        write(iteration(number))
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "iteration-005.png",
        "iteration-010.png",
    ]


def test_RUN_28_only_the_last_snapshots_are_kept(tmp_path):
    write = snapshots(tmp_path, every=1, keep=2)
    for number in range(1, 6):
        write(iteration(number))
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "iteration-004.png",
        "iteration-005.png",
    ]


def test_RUN_28_a_continued_run_counts_the_snapshots_of_its_beginning(tmp_path):
    def kept():
        return sorted(path.name for path in tmp_path.glob("iteration-*"))

    for name in ("iteration-7.png", "iteration-8.png", "iteration-012.png", "iteration-x.png"):
        (tmp_path / name).write_bytes(b"of the run that goes on, and of somebody else")
    write = snapshots(tmp_path, every=1, keep=3, continued=True)
    write(iteration(9))  # that of iteration 12 comes again
    write(iteration(10))
    names = ["iteration-009.png", "iteration-010.png", "iteration-8.png", "iteration-x.png"]
    assert kept() == names
    snapshots(tmp_path, every=1, keep=1)(iteration(1))  # a run that begins
    assert kept() == ["iteration-001.png", *names]
    snapshots(tmp_path, every=1, keep=1, continued=True)(iteration(11))
    assert kept() == ["iteration-011.png", "iteration-x.png"]


def test_an_image_that_is_not_due_is_not_copied(tmp_path):
    class Refusing:
        def image(self):
            raise AssertionError("copied")

    snapshots(tmp_path)(iteration(4, source=Refusing()))
    assert list(tmp_path.iterdir()) == []


def test_the_latest_image_of_full_size_is_not_copied(tmp_path):
    image = np.full((900, 1200, 3), 100.25, np.float32)
    latest = Latest(tmp_path / "latest.png", (900, 1200), lambda pixels: b"image")
    tracemalloc.start()
    try:
        latest.save(image)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (tmp_path / "latest.png").read_bytes() == b"image"
    assert peak < 1.6 * image.nbytes  # some parts of it while it is rounded, and the integers


def test_the_latest_image_has_one_size_and_is_written_every_five_seconds(tmp_path, monkeypatch):
    clock = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    first, path = tmp_path / "first.png", tmp_path / "latest.png"
    first.write_bytes(b"first")
    latest = Latest(path, (6, 10), lambda pixels: pixels.tobytes())
    latest(Preview(np.zeros((6, 10, 3), np.float32), first))
    assert path.read_bytes() == b"first" and latest.saved == path
    clock[0] = 104.9
    latest(iteration(1))
    assert path.read_bytes() == b"first"
    clock[0] = 105.0
    latest(iteration(2))
    assert path.read_bytes() == bytes([77] * 180)  # of 3x5 pixels, enlarged
    latest.save(np.full((6, 10, 3), 9.0, np.float32))
    assert path.read_bytes() == bytes([9] * 180)  # the last one whenever it comes


def test_keeping_the_latest_image_takes_at_most_a_fiftieth_of_the_time(tmp_path, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    written = []

    def slow(pixels):
        written.append(clock[0])
        clock[0] += 1.0
        return b"image"

    latest = Latest(tmp_path / "latest.png", (3, 5), slow)
    for number in range(1, 20):
        latest(iteration(number))
        clock[0] += 10.0
    assert written == [0.0, 51.0, 102.0, 153.0]


def test_RUN_07_a_latest_image_that_cannot_be_written_is_one_warning(tmp_path, caplog):
    latest = Latest(tmp_path / "missing" / "latest.png", (3, 5), lambda pixels: b"image", every=0.0)
    for number in (1, 2, 3):
        latest(iteration(number))
    assert len(caplog.records) == 1 and latest.saved is None
    assert caplog.records[0].message.startswith("latest.png is not kept fresh from here on: ")


def test_the_initial_image_is_saved_and_a_failure_is_a_warning(tmp_path, caplog):
    image = np.full((3, 5, 3), 76.6, np.float32)
    path = snapshots(tmp_path).save_initial(image)
    assert path == tmp_path / "first.png"
    assert path.read_bytes() == bytes([77] * 45)
    with caplog.at_level(logging.WARNING, "nst_tf"):
        assert snapshots(tmp_path / "missing").save_initial(image) is None
    assert "first.png" in caplog.records[0].message


def checkpoints(folder, every, notify=lambda event: None):
    return Checkpoints(
        folder, every, lambda event: Checkpoint(event.iteration, {}, {}, event.iteration, STATE),
        notify,
    )  # fmt: skip


def test_checkpoints_come_when_it_is_time_and_when_a_level_begins(tmp_path, monkeypatch):
    clock = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    events = []
    save = checkpoints(tmp_path, 60.0, events.append)
    for number, now in ((1, 130.0), (2, 161.0), (3, 200.0), (4, 221.5)):
        clock[0] = now
        save(iteration(number))
    save(iteration(5, height=6, width=10))
    assert [event.iteration for event in events] == [2, 4, 5]
    assert all(type(event) is Checkpointed for event in events)
    assert checkpoint.newest(tmp_path).iterations == 5
    assert events[-1].path == tmp_path / "checkpoint-1"


def test_saving_takes_at_most_a_fiftieth_of_the_time(tmp_path, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])

    def slow(folder, point):
        clock[0] += 3.0
        return folder

    monkeypatch.setattr(checkpoint, "save", slow)
    events = []
    save = checkpoints(tmp_path, 10.0, events.append)
    for number in range(1, 40):
        clock[0] += 10.0
        save(iteration(number))
    assert [event.iteration for event in events] == [1, 16, 31]  # 150 s apart
    assert save.seconds == 9.0


def test_the_last_iteration_is_saved_and_let_go_before_the_loss_is_computed(tmp_path):
    save = checkpoints(tmp_path, 60.0)
    last = iteration(3)
    alive = weakref.ref(last)
    save(last)
    del last
    assert alive() is not None and list(tmp_path.iterdir()) == []
    save(Scoring())
    assert alive() is None and checkpoint.newest(tmp_path).iterations == 3
    written = (tmp_path / "checkpoint-1").read_bytes()
    save.save()  # nothing is left to save
    save.finish(keep=True)
    assert [path.name for path in tmp_path.iterdir()] == ["state"]
    assert (tmp_path / "state").read_bytes() == written


@pytest.mark.parametrize("every", [0, 60.0])
@pytest.mark.parametrize("keep", [False, True])
def test_a_finished_run_has_its_final_state_or_none(tmp_path, every, keep):
    save = checkpoints(tmp_path, every)
    for number in (1, 2):
        save(iteration(number))
        save.save()
    save(iteration(3))
    save.finish(keep=keep)
    assert [path.name for path in tmp_path.iterdir()] == ["state"] * keep
    assert (found := checkpoint.final(tmp_path)) is None or found.iterations == 3


def test_a_final_state_that_cannot_be_written_leaves_no_checkpoints(tmp_path, monkeypatch, caplog):
    save = checkpoints(tmp_path, 60.0)
    save(iteration(1))
    save.save()
    save(iteration(2))

    def full(folder, point):
        raise MachineError("cannot write", "the disk is full", "free some space")

    monkeypatch.setattr(checkpoint, "save", full)
    with caplog.at_level(logging.WARNING, "nst_tf"):
        save.finish(keep=True)
    assert list(tmp_path.iterdir()) == []
    assert "the final state is not kept" in caplog.records[0].message


def test_checkpoints_that_cannot_be_removed_are_a_warning(tmp_path, caplog):
    save = checkpoints(tmp_path, 60.0)
    save(iteration(1))
    save.save()
    (tmp_path / "state").mkdir()  # a file cannot take its place
    with caplog.at_level(logging.WARNING, "nst_tf"):
        save.finish(keep=True)
    assert "could not be removed" in caplog.records[0].message


def test_no_checkpoints_where_none_are_asked_for(tmp_path):
    save = checkpoints(tmp_path, 0)
    save(iteration(1))
    save.save()
    assert list(tmp_path.iterdir()) == []


def test_a_preview_has_the_path_of_its_file_when_callbacks_get_it(tmp_path):
    events = []
    write = callbacks.RunFolderWriter(
        tmp_path, Config().reporting, LEVELS, {}, {}, bytes, CallbackList([events.append])
    )
    assert write(Preview(np.zeros((3, 5, 3), np.float32))) is False
    assert events[0].path == tmp_path / "first.png"
    assert events[0].path.exists()

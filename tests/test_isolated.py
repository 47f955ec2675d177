"""Jobs in a child process: events, errors by fields, requests to stop, and how it may die."""

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import psutil
import pytest
from PIL import Image

from nst_tf import jobs
from nst_tf.config import Config
from nst_tf.errors import InputError, MachineError, NstError, WorkerError
from nst_tf.events import (
    Checkpointed,
    Failed,
    Iteration,
    Losses,
    Planned,
    PlannedLevel,
    Preview,
    Saved,
    Scoring,
)
from nst_tf.jobs import JobResult, messages
from nst_tf.jobs.exits import explain_exit
from nst_tf.jobs.isolation import Worker
from tests import command
from tests.command import CONTENT, STYLE

LOSSES = Losses({"content/block4_conv2": 1.5, "style/block1_conv1": 2.0})


def small(output, **settings):
    defaults = {"image_size": 64, "style_scale": 0.75, "num_iterations": 3, "init": "content"}
    return Config(
        content_image=CONTENT, style_image=[STYLE], output_image=output, pyramid="none",
        **defaults | settings,
    )  # fmt: skip


def children():
    """Returns the child processes, without the resource tracker of multiprocessing.

    A pool of processes starts the tracker, which lives as long as the interpreter.
    """
    return [
        each
        for each in psutil.Process().children(recursive=True)
        if not any("resource_tracker" in word for word in each.cmdline())
    ]


def test_events_arrive_in_order_and_the_result_is_that_of_the_job(tmp_path):
    events = []
    result = jobs.isolated(small(tmp_path / "o.png"), callbacks=[events.append])
    kinds = [type(event) for event in events]
    ends = [Scoring, Checkpointed, Saved]  # the last iteration is saved before its loss is computed
    assert kinds == [Planned, Preview, Iteration, Iteration, Iteration, *ends]
    assert events[0].levels == ((20, 64, 3),)
    assert events[1].path == tmp_path / "o.png.run" / "first.png"
    assert events[1].image.shape == (20, 64, 3)
    assert [event.iteration for event in events[2:5]] == [1, 2, 3]
    assert events[4].losses.total < events[2].losses.total
    with pytest.raises(ValueError, match="has no state any more"):
        events[2].image  # noqa: B018 - only scalars come over the pipe
    assert result.status == "finished"
    assert result.path == tmp_path / "o.png"
    assert result.losses == events[-1].losses
    assert result.record["loss"] == result.losses.total
    with Image.open(result.path) as image:
        assert image.size == (64, 20)
    assert children() == []


def test_an_error_arrives_with_its_fields(tmp_path):
    (tmp_path / "c.png").write_text("no image")
    events = []
    config = small(tmp_path / "o.png").replace(content_image=tmp_path / "c.png")
    with pytest.raises(InputError) as raised:
        jobs.isolated(config, callbacks=[events.append])
    with pytest.raises(InputError) as expected:
        jobs.run(config)
    for name in ("what", "why", "remedy", "where", "exit_code"):
        assert getattr(raised.value, name) == getattr(expected.value, name)
    assert str(raised.value) == str(expected.value)
    assert events == [Failed(raised.value)]


def test_a_defect_in_the_child_is_told_with_its_traceback(tmp_path, monkeypatch):
    (tmp_path / "sitecustomize.py").write_text(
        "import nst_tf.io.images\n"
        "def broken(*arguments, **options): raise ZeroDivisionError('a defect')\n"
        "nst_tf.io.images.read = broken\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(NstError, match=r"internal error: Traceback.*ZeroDivisionError: a defect"):
        jobs.isolated(small(tmp_path / "o.png"))


@pytest.mark.slow
def test_a_worker_keeps_its_process_from_job_to_job_and_begins_another_after_a_death(tmp_path):
    def kill(event):
        if isinstance(event, Iteration):
            children()[0].kill()

    with Worker(threads=1) as worker:
        assert children() == []
        first = worker.run(small(tmp_path / "1.png"))
        (child,) = children()
        assert child.environ()["TF_NUM_INTRAOP_THREADS"] == "1"
        with pytest.raises(InputError, match="no such file"):
            worker.run(small(tmp_path / "2.png").replace(content_image=tmp_path / "c.png"))
        second = worker.run(small(tmp_path / "3.png"))
        assert children() == [child]
        # What is built once is not built again.
        assert second.record["seconds"] < first.record["seconds"] / 2
        with pytest.raises(WorkerError, match="the run died of SIGKILL"):
            worker.run(small(tmp_path / "4.png"), callbacks=[kill])
        assert children() == []
        assert worker.run(small(tmp_path / "5.png", num_iterations=0)).status == "finished"
    assert children() == []


@pytest.mark.slow
def test_a_request_to_stop_holds_for_one_job_of_a_worker(tmp_path):
    seen = []
    with Worker() as worker:
        stopped = worker.run(
            small(tmp_path / "1.png", num_iterations=100_000),
            callbacks=[seen.append], should_stop=lambda: len(seen) > 3,
        )  # fmt: skip
        assert stopped.status == "stopped"
        assert worker.run(small(tmp_path / "2.png")).status == "finished"


@pytest.mark.slow
def test_warnings_arrive_at_the_logger(tmp_path, caplog):
    Image.new("RGB", (40, 30), "teal").save(
        tmp_path / "c.png", save_all=True, append_images=[Image.new("RGB", (40, 30), "red")]
    )
    config = small(tmp_path / "o.png", num_iterations=0)
    with caplog.at_level(logging.WARNING, "nst_tf"):
        jobs.isolated(config.replace(content_image=tmp_path / "c.png"))
    assert [record.message for record in caplog.records] == [
        f"{tmp_path / 'c.png'}: animated, using the first of 2 frames"
    ]


def test_RUN_29_a_job_that_is_killed_is_told_in_a_sentence_and_can_be_resumed(tmp_path):
    config = small(tmp_path / "o.png", num_iterations=12, checkpoint_seconds=1e-6)

    def kill(event):
        if isinstance(event, Checkpointed):
            (child,) = children()
            child.kill()

    events = []
    with pytest.raises(MachineError) as raised:
        jobs.isolated(config, callbacks=[kill, events.append])
    assert str(raised.value) == (
        "the run died of SIGKILL: the system killed it, as it does when memory runs out; "
        "go on with --resume if there is a checkpoint, or take a smaller --image_size"
    )
    assert events[-1] == Failed(raised.value)
    assert children() == []
    result = jobs.isolated(config, resume=True)
    assert (result.status, result.record["iterations"]) == ("finished", 12)
    rows = (tmp_path / "o.png.run" / "trace.csv").read_text().splitlines()[1:]
    assert [int(row.split(",")[0]) for row in rows] == list(range(1, 13))


@pytest.mark.parametrize("way", ["should_stop", pytest.param("callback", marks=pytest.mark.slow)])
def test_a_request_to_stop_is_passed_on(tmp_path, way):
    config = small(tmp_path / "o.png", num_iterations=100_000)
    seen = []

    def count(event):
        seen.append(event)
        return way == "callback" and len(seen) > 4

    result = jobs.isolated(
        config, callbacks=[count], should_stop=lambda: way == "should_stop" and len(seen) > 4
    )
    assert result.status == "stopped"
    assert 0 < result.record["iterations"] < 100_000
    assert result.path.exists()


@pytest.mark.slow
def test_an_interrupted_parent_leaves_no_child_and_the_best_image(tmp_path):
    def interrupt(event):
        if isinstance(event, Iteration) and event.iteration == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        jobs.isolated(small(tmp_path / "o.png", num_iterations=100_000), callbacks=[interrupt])
    assert children() == []
    assert (tmp_path / "o.png").exists()


PARENT = """
import sys
from nst_tf import Config, jobs
jobs.isolated(Config(content_image=sys.argv[1], style_image=[sys.argv[2]], image_size=64,
                     output_image=sys.argv[3], num_iterations=100_000, pyramid="none"),
              callbacks=[lambda event: print(type(event).__name__, flush=True)])
"""


@pytest.mark.slow
def test_a_child_whose_parent_is_killed_saves_and_ends(tmp_path):
    words = [sys.executable, "-c", PARENT, CONTENT, STYLE, tmp_path / "o.png"]
    with subprocess.Popen(
        words, env=command.environment(), stdout=subprocess.PIPE, text=True
    ) as parent:
        for line in parent.stdout:
            if line == "Iteration\n":
                break
        (child,) = psutil.Process(parent.pid).children()
        parent.kill()
        child.wait(60)
    assert (tmp_path / "o.png").exists()


@pytest.mark.slow
def test_a_job_runs_in_a_thread_of_a_server(tmp_path):
    results = []
    thread = threading.Thread(
        target=lambda: results.append(jobs.isolated(small(tmp_path / "o.png", num_iterations=0)))
    )
    thread.start()
    thread.join()
    assert results[0].status == "finished"


def test_the_parent_does_not_import_tensorflow(tmp_path):
    code = (
        "import sys; from nst_tf import Config, jobs; "
        "jobs.isolated(Config(content_image=sys.argv[1], style_image=[sys.argv[2]],"
        " image_size=64, num_iterations=0, output_image=sys.argv[3])); "
        "sys.exit(any(name in sys.modules for name in ('tensorflow', 'keras', 'scipy')))"
    )
    words = [sys.executable, "-c", code, CONTENT, STYLE, tmp_path / "o.png"]
    done = subprocess.run(words, env=command.environment(), capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


# Messages


PLANNED = Planned((PlannedLevel(20, 64, 3),), "float32", "CPU", 10**9, 8.5, None, 7)


@pytest.mark.parametrize(
    "message",
    [
        PLANNED,
        Iteration(3, 8, 5, 1.25, 0.5, 1.25, LOSSES, 20, 64),
        Iteration(3, 8, 5, 1.25, 0.5, 1.25, Losses({"tv": float("inf")}), 20, 64),
        Saved(CONTENT, LOSSES, 8, 12.5, "all iterations were done", True),
        Checkpointed(CONTENT, 3, 0.25),
        Scoring(),
        JobResult(CONTENT, {"loss": 3.5, "image_size": [64, 20]}, LOSSES, "failed", "the loss"),
        JobResult(None, {}, None, "stopped"),
        "a warning with \N{SNOWMAN} and\na line",
    ],
    ids=lambda message: type(message).__name__,
)
def test_a_message_is_one_line_and_comes_back(message):
    line = messages.encode(message)
    assert "\n" not in line
    assert line.isascii()
    assert messages.decode(line) == message


def test_an_error_comes_back_with_its_type_and_fields():
    error = MachineError("what", "why", "remedy", where="/a/file")
    error.exit_code = 143
    (found,) = [messages.decode(messages.encode(Failed(error))).error]
    assert type(found) is MachineError
    assert (str(found), found.exit_code) == (str(error), 143)
    unknown = messages.decode(messages.encode(Failed(NstError("a", "b", "c")))).error
    assert type(unknown) is NstError


def test_a_preview_is_read_from_its_file(tmp_path):
    pixels = np.arange(90, dtype=np.uint8).reshape(5, 6, 3)
    Image.fromarray(pixels).save(tmp_path / "first.png")
    message = Preview(np.zeros((5, 6, 3), np.float32), tmp_path / "first.png")
    found = messages.decode(messages.encode(message))
    np.testing.assert_array_equal(found.image, pixels)
    (tmp_path / "first.png").unlink()
    assert messages.decode(messages.encode(message)) is None


def test_a_configuration_survives_the_way_to_the_child(tmp_path):
    config = small(
        tmp_path / "o.png", tv_weight=1e-3, style_blend_weights=[1], init=str(STYLE),
        style_layers={"block1_conv1": 0.5}, weights=str(tmp_path / "w.npz"), preset="fine",
    )  # fmt: skip
    assert Config(**json.loads(json.dumps(config.model_dump(mode="json")))) == config


# Exits


@pytest.mark.parametrize(
    ("code", "name", "cause", "exit_code"),
    [
        (-9, "SIGKILL", "the system killed it, as it does when memory runs out", 3),
        (-11, "SIGSEGV", "it crashed, as TensorFlow does when memory runs out", 3),
        (-7, "SIGBUS", "it crashed, as programs do when a disk or the memory runs out", 3),
        (-6, "SIGABRT", "it aborted, as TensorFlow does when memory runs out", 3),
        (-10, "SIGUSR1", "it was stopped before it could save", 138),
        (-15, "SIGTERM", "it was stopped before it could save", 143),
        (-2, "SIGINT", "it was stopped before it could save", 130),
        (-200, "signal 200", "another program or a person sent it", 3),
        (0xC0000005, "an access violation", "it crashed, as TensorFlow does when memory", 3),
    ],
)
def test_an_exit_is_explained(code, name, cause, exit_code):
    error = explain_exit(code)
    assert str(error).startswith(f"the run died of {name}: {cause}")
    assert "go on with --resume" in str(error)
    assert error.exit_code == exit_code
    assert MachineError.exit_code == 3


@pytest.mark.parametrize("code", [0, 2, 70, 143])
def test_a_process_that_ended_by_itself_needs_no_explanation(code):
    assert explain_exit(code) is None


def test_the_worker_without_a_job_ends():
    done = subprocess.run(
        [sys.executable, "-m", "nst_tf.jobs.worker"], env=command.environment(),
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_child_that_ends_without_a_result_is_an_error(tmp_path, monkeypatch):
    (tmp_path / "nst_tf").mkdir()
    monkeypatch.setattr(sys, "executable", "/bin/false" if os.name == "posix" else "where")
    began = time.monotonic()
    with pytest.raises(MachineError, match="the run ended with exit code 1: it said nothing"):
        jobs.isolated(small(tmp_path / "o.png"))
    assert time.monotonic() - began < 10
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler

"""Real runs that are stopped, killed, starved and gone on with."""

import contextlib
import ctypes
import hashlib
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from nst_tf.jobs import checkpoint
from tests import command
from tests.command import PALACE, STYLE


def flags(output, **changes):
    """Settings of a run with few layers, whose start is short."""
    settings = {
        "content_layers": "block2_conv1", "style_layers": "block1_conv1,block2_conv1",
        "init": "content",
        "content_image": PALACE, "style_image": STYLE, "output_image": output, "image_size": 48,
        "style_scale": 1, "num_iterations": 60, "pyramid": "32:30", "print_iter": 0,
        "checkpoint_seconds": 0.01,
    }  # fmt: skip
    return [f"--{name}={value}" for name, value in {**settings, **changes}.items()]


@contextlib.contextmanager
def started(output, *more, **changes):
    with subprocess.Popen(
        command.command(*flags(output, **changes), *more), env=command.environment(),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    ) as child:  # fmt: skip
        try:
            yield child
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)


def wait_for_checkpoints(output, number):
    """Waits until a checkpoint of this number, or a higher one, was written."""
    for _ in range(6000):
        with contextlib.suppress(Exception):
            if checkpoint.newest(command.run_folder(output)).number >= number:
                return
        time.sleep(0.01)
    raise TimeoutError


def record(output):
    return json.loads((command.run_folder(output) / "run.json").read_text())


def digest(output):
    with Image.open(output) as image:
        return hashlib.sha256(image.convert("RGB").tobytes()).hexdigest()


def rows(output):
    return (command.run_folder(output) / "trace.csv").read_text().splitlines()


def size_of(output):
    with Image.open(output) as image:
        return image.size


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The image of a run that nothing interrupts."""
    output = tmp_path_factory.mktemp("whole") / "o.png"
    done = command.run(*flags(output))
    assert done.returncode == 0, done.stderr
    return output


def assert_finished_like(output, whole):
    assert digest(output) == digest(whole)
    found, expected = record(output), record(whole)
    assert found["finished"]
    for name in ("loss", "iterations", "evaluations", "stop_reason"):
        assert found[name] == expected[name]
    assert [row.split(",")[5:] for row in rows(output)] == [
        row.split(",")[5:] for row in rows(whole)
    ]
    left = sorted(path.name for path in command.run_folder(output).iterdir())
    assert left == [
        "config.yaml", "first.png", "latest.png", "losses.svg", "run.json", "state", "trace.csv"
    ]  # fmt: skip


def test_RUN_17_a_run_that_was_killed_goes_on_to_the_same_bytes(tmp_path, whole):
    output = tmp_path / "o.png"
    for number in (1, 2):  # killed twice, gone on with once in between
        with started(output, *(["--resume"] if number > 1 else [])) as child:
            wait_for_checkpoints(output, number)
            os.killpg(child.pid, signal.SIGKILL)
        assert not output.exists()
    done = command.run(*flags(output), "--resume")
    assert done.returncode == 0, done.stderr
    assert "going on after" in done.stdout
    assert_finished_like(output, whole)


@pytest.mark.parametrize(
    "number",
    [
        signal.SIGTERM,
        pytest.param(signal.SIGINT, marks=pytest.mark.slow),
        pytest.param(signal.SIGHUP, marks=pytest.mark.slow),
    ],
)
def test_RUN_12_14_15_a_signal_saves_the_best_image_and_where_it_stands(tmp_path, whole, number):
    output = tmp_path / "o.png"
    with started(output, checkpoint_seconds=1000) as child:
        time_out = time.monotonic() + 60
        while not (tmp_path / "o.png.run" / "first.png").exists() and time.monotonic() < time_out:
            time.sleep(0.01)
        time.sleep(1.5)
        child.send_signal(number)
        sent = time.monotonic()
        _, stderr = child.communicate(timeout=60)
    assert child.returncode == 128 + number
    assert time.monotonic() - sent < 10
    assert len(stderr.splitlines()) == 1
    assert re.fullmatch(
        r"stopped: saved .*o\.png after \d+ of \d+ iterations; "
        r"(the same command with --resume goes on|give the same command again)\n", stderr,
    )  # fmt: skip
    assert not record(output)["finished"]
    assert size_of(output) == (48, 32)
    if record(output)["iterations"]:
        done = command.run(*flags(output, checkpoint_seconds=1000), "--resume")
        assert done.returncode == 0, done.stderr
        assert_finished_like(output, whole)


@pytest.mark.slow
def test_RUN_12_a_terminals_interrupt_reaches_both_processes_and_counts_once(tmp_path):
    output = tmp_path / "o.png"
    with started(output) as child:
        wait_for_checkpoints(output, 2)
        os.killpg(child.pid, signal.SIGINT)
        _, stderr = child.communicate(timeout=60)
    assert child.returncode == 130
    assert "stopped: saved " in stderr


def test_RUN_13_a_second_interrupt_stops_at_once(tmp_path):
    output = tmp_path / "o.png"
    # One evaluation of this takes a second or more, so that the first signal is not yet heeded.
    with started(output, image_size=700, pyramid="none", init="content", precision="float32",
                 num_iterations=500) as child:  # fmt: skip
        time_out = time.monotonic() + 60
        while not (tmp_path / "o.png.run" / "first.png").exists() and time.monotonic() < time_out:
            time.sleep(0.01)
        child.send_signal(signal.SIGINT)
        time.sleep(0.7)
        child.send_signal(signal.SIGINT)
        _, stderr = child.communicate(timeout=60)
    assert child.returncode == 130
    assert stderr.startswith("stopped: at once, and all files are whole; the same command with")
    assert len(stderr.splitlines()) == 1
    for path in tmp_path.rglob("*"):
        assert not path.name.startswith(".nst_tf-")


def test_RUN_16_an_interrupt_during_the_start_is_one_line(tmp_path):
    for seconds in (0.3, 0.8, 2.0):
        output = tmp_path / f"{seconds}.png"
        with started(output) as child:
            time.sleep(seconds)
            child.send_signal(signal.SIGINT)
            _, stderr = child.communicate(timeout=60)
        assert child.returncode == 130
        assert len(stderr.splitlines()) == 1, stderr
        assert "stopped: " in stderr or "died of SIGINT" in stderr


def test_RUN_29_a_worker_that_is_killed_for_memory_is_reported_by_its_parent(tmp_path, whole):
    output = tmp_path / "o.png"
    with started(output) as child:
        wait_for_checkpoints(output, 1)
        worker = children_of(child.pid)[0]
        os.kill(worker, signal.SIGKILL)
        _, stderr = child.communicate(timeout=60)
    assert child.returncode == 3
    assert stderr == (
        "nst_tf: error: the run died of SIGKILL: the system killed it, as it does when memory runs "
        "out; go on with --resume if there is a checkpoint, or take a smaller --image_size\n"
    )
    assert command.run(*flags(output), "--resume").returncode == 0
    assert_finished_like(output, whole)


def children_of(pid):
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(number) for number in text.split()]


def test_a_worker_whose_parent_is_killed_saves_and_ends(tmp_path):
    output = tmp_path / "o.png"
    with started(output, num_iterations=100_000) as child:
        wait_for_checkpoints(output, 3)
        worker = children_of(child.pid)[0]
        child.kill()
        for _ in range(600):
            if not Path(f"/proc/{worker}").exists() or output.exists():
                break
            time.sleep(0.1)
    assert output.exists()


@pytest.mark.slow
def test_RUN_17_the_trace_grows_during_the_run_and_is_cut_back_to_the_checkpoint(tmp_path, whole):
    output = tmp_path / "o.png"
    with started(output, checkpoint_seconds=1000) as child:  # one, when the second level begins
        wait_for_checkpoints(output, 0)
        saved = checkpoint.newest(tmp_path / "o.png.run").iterations
        for _ in range(3000):
            if len(rows(output)) > saved + 4:
                break
            time.sleep(0.01)
        os.killpg(child.pid, signal.SIGKILL)
    assert not output.exists()
    numbers = [int(row.split(",")[0]) for row in rows(output)[1:] if row.count(",") == 9]
    assert numbers[: saved + 3] == list(range(1, saved + 4))
    done = command.run(*flags(output, checkpoint_seconds=1000), "--resume")
    assert done.returncode == 0, done.stderr
    assert f"going on after {saved} iterations" in done.stdout
    assert_finished_like(output, whole)


@pytest.mark.slow
def test_RUN_23_another_run_is_not_resumed(tmp_path):
    output = tmp_path / "o.png"
    with started(output) as child:
        wait_for_checkpoints(output, 3)
        os.killpg(child.pid, signal.SIGKILL)
    done = command.run(*flags(output, style_weight="2e5", tv_weight=1), "--resume")
    assert done.returncode == 2
    assert "it differs in style_weight, tv_weight" in command.error_line(done)
    assert checkpoint.newest(tmp_path / "o.png.run") is not None


def test_RUN_26_a_finished_run_has_nothing_to_do(whole):
    before = whole.stat()
    done = command.run(*flags(whole), "--resume")
    assert (done.returncode, done.stdout) == (0, "nothing to do: the run is finished\n")
    assert whole.stat().st_mtime_ns == before.st_mtime_ns
    other = command.run(*flags(whole, seed=3), "--resume")
    assert other.returncode == 2
    assert "it differs in seed" in command.error_line(other)


@pytest.mark.slow
def test_RUN_26_OUT_16_without_a_checkpoint_the_run_begins(tmp_path, whole):
    done = command.run(*flags(tmp_path / "o.png"), "--resume")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[0] == "there is nothing to resume: the run begins"
    assert_finished_like(tmp_path / "o.png", whole)


def test_RUN_20_two_runs_of_one_output(tmp_path):
    output = tmp_path / "o.png"
    with started(output, num_iterations=100_000) as child:
        wait_for_checkpoints(output, 1)
        second = command.run(*flags(output))
        assert second.returncode == 3
        assert "in use by pid" in command.error_line(second)
        child.send_signal(signal.SIGINT)
        child.communicate(timeout=60)
    assert child.returncode == 130


@pytest.mark.slow
def test_RUN_07_08_files_that_grow_too_large_cost_no_image(tmp_path):
    def limited():
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    done = command.run(*flags(tmp_path / "o.png"), preexec_fn=limited)
    assert done.returncode == 0, done.stderr
    warning, last = done.stderr.splitlines()  # one of checkpoints, however often they fail
    assert "no checkpoint, the one before is kept" in warning
    assert "the final state is not kept" in last
    assert size_of(tmp_path / "o.png") == (48, 32)
    names = [path.name for path in (tmp_path / "o.png.run").iterdir()]
    assert not any(name.startswith(("checkpoint", "state")) for name in names)


def mount_tmpfs(folder, size):
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"tmpfs", os.fsencode(folder), b"tmpfs", 0, f"size={size}".encode()):
        pytest.skip(f"cannot mount a small disk here: {os.strerror(ctypes.get_errno())}")


def test_RUN_06_a_disk_that_is_really_full(tmp_path):
    mount_tmpfs(tmp_path, "64k")
    try:
        output = tmp_path / "o.png"
        (tmp_path / "ballast").write_bytes(b"x" * 36_000)
        changes = {"image_size": 150, "pyramid": "none", "num_iterations": 3}
        done = command.run(*flags(output, checkpoint_seconds=0, **changes))
        assert done.returncode == 3
        assert "the result takes up to 0.0 MB, and 0.0 MB are free" in command.error_line(done)
        (tmp_path / "ballast").write_bytes(b"x" * 4_000)
        with started(output, checkpoint_seconds=0, **changes) as child:
            while not (tmp_path / "o.png.run" / "first.png").exists():
                time.sleep(0.01)
            (tmp_path / "more").write_bytes(b"x" * shutil.disk_usage(tmp_path).free)
            _, stderr = child.communicate(timeout=60)
        assert child.returncode == 3
        error = stderr.splitlines()[-1]
        assert "the result could not be saved" in error
        assert "No space left on device" in error
        assert not output.exists()
        assert [p.name for p in tmp_path.rglob("*") if p.name.startswith(".nst_tf-")] == []
        (tmp_path / "more").unlink()
        assert command.run(*flags(output, image_size=48)).returncode == 0
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def test_RUN_29_a_run_that_would_not_fit_is_refused_before_it_begins(tmp_path):
    def limited():
        resource.setrlimit(resource.RLIMIT_AS, (3 * 2**30, 3 * 2**30))

    began = time.monotonic()
    done = command.run(*flags(tmp_path / "o.png", image_size=4000, pyramid="none"),
                       preexec_fn=limited)  # fmt: skip
    assert done.returncode == 3
    assert time.monotonic() - began < 10
    line = command.error_line(done)
    assert "the memory does not suffice: a run at this size needs about" in line
    assert "try --image_size=" in line
    assert list(tmp_path.iterdir()) == []


EXHAUSTED = """
import sys
from nst_tf import Config, jobs
import tensorflow as tf
from nst_tf.engine import stylizer

def exhausted(*arguments, **options):
    tf.zeros((2**20, 2**20, 2**10))  # four petabytes

stylizer.MultiscaleOptimizer = exhausted
jobs.run(Config(content_image=sys.argv[1], style_image=[sys.argv[1]], image_size=32,
                output_image=sys.argv[2]))
"""


def test_RUN_29_memory_that_runs_out_on_the_way_is_told_in_one_line(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", EXHAUSTED, PALACE, tmp_path / "o.png"],
        env=command.environment(), capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1
    assert "nst_tf.errors.MachineError: memory ran out" in done.stderr.splitlines()[-1]


def test_RUN_30_a_graphics_card_whose_memory_is_too_small():
    pytest.skip("there is no graphics card here; the same exception is raised for main memory")


def test_RUN_21_equal_names_in_a_batch():
    pytest.skip("there is no batch: a run writes one output, which RUN-20's lock keeps its own")


def test_RUN_09_nobody_listens_and_the_run_goes_on(tmp_path):
    output = tmp_path / "o.png"
    words = " ".join(map(str, command.command(*flags(output, print_iter=1))))
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {words} 2>&1 | head -n 1"],
        env=command.environment(), capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.stdout.startswith("nst_tf ")
    assert record(output)["finished"]
    assert size_of(output) == (48, 32)


@pytest.mark.slow
def test_RUN_09_neither_does_a_closed_descriptor_end_it(tmp_path):
    output = tmp_path / "o.png"
    words = " ".join(map(str, command.command(*flags(output, num_iterations=3, pyramid="none"))))
    done = subprocess.run(
        ["bash", "-c", f"{words} >&- 2>&- <&-"], env=command.environment(), timeout=120
    )
    assert done.returncode == 0
    assert record(output)["finished"]


def test_RUN_04_an_image_that_appears_meanwhile_is_left_alone(tmp_path):
    output = tmp_path / "o.png"
    with started(output) as child:
        wait_for_checkpoints(output, 1)
        output.write_bytes(b"precious")
        stdout, stderr = child.communicate(timeout=120)
    assert child.returncode == 0, stderr
    assert output.read_bytes() == b"precious"
    assert size_of(tmp_path / "o-2.png") == (48, 32)
    assert stdout.splitlines()[-1].startswith(
        f"saved {os.path.relpath(tmp_path / 'o-2.png')} ({os.path.relpath(output)} was kept): "
    )
    assert record(tmp_path / "o-2.png")["finished"]


@pytest.mark.slow
def test_RUN_15_nohup_is_respected(tmp_path):
    output = tmp_path / "o.png"

    def nohup():
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    with subprocess.Popen(
        command.command(*flags(output, num_iterations=6)), env=command.environment(),
        preexec_fn=nohup, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as child:  # fmt: skip
        wait_for_checkpoints(output, 1)
        child.send_signal(signal.SIGHUP)
        child.communicate(timeout=60)
    assert child.returncode == 0
    assert record(output)["finished"]


@pytest.mark.slow
def test_RUN_19_a_run_that_slept_goes_on(tmp_path, whole):
    output = tmp_path / "o.png"
    with started(output) as child:
        wait_for_checkpoints(output, 3)
        os.killpg(child.pid, signal.SIGSTOP)
        time.sleep(1)
        os.killpg(child.pid, signal.SIGCONT)
        child.communicate(timeout=60)
    assert child.returncode == 0
    assert digest(output) == digest(whole)


@pytest.mark.slow
def test_deterministic_runs_are_the_same_and_say_so(tmp_path):
    digests = set()
    for number in range(2):
        output = tmp_path / f"{number}.png"
        done = command.run(*flags(output, num_iterations=5, pyramid="none", deterministic="true",
                                  threads=2))  # fmt: skip
        assert done.returncode == 0, done.stderr
        digests.add(digest(output))
        assert record(output)["precision"] == "float32"
    assert len(digests) == 1

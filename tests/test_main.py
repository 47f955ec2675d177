"""The command: exit codes and the one line that a refusal consists of."""

import importlib
import io
import logging
import re
import signal
import struct
import subprocess
import sys
import time
import zlib

import numpy as np
import pytest
from PIL import Image

import nst_tf
from nst_tf import events, jobs
from nst_tf.cli import command, signals
from nst_tf.cli.supervisor import run_in_subprocess
from nst_tf.config import Config
from nst_tf.errors import MachineError
from nst_tf.io import download
from nst_tf.jobs import planning
from nst_tf.main import main
from nst_tf.models import backend
from tests.command import CONTENT, ROOT, STYLE, environment, error_line, run


@pytest.fixture(scope="module")
def without_tensorflow(tmp_path_factory):
    """An environment in which importing TensorFlow or Keras shows, as an exit code of 99."""
    folder = tmp_path_factory.mktemp("poisoned")
    for name in ("tensorflow", "keras"):
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text("import os\nos._exit(99)\n")
    return environment(folder)


def refusal(environment, tmp_path, *flags, exit_code=2):
    """Runs into a refusal, which comes before TensorFlow and leaves nothing behind."""
    before = sorted(tmp_path.rglob("*"))
    done = run(*flags, env=environment, cwd=tmp_path)
    assert done.returncode == exit_code, done
    assert done.stdout == ""
    assert sorted(tmp_path.rglob("*")) == before
    return error_line(done)


def given(content=CONTENT, style=STYLE, output="out.png"):
    return f"--content_image={content}", f"--style_image={style}", f"--output_image={output}"


def test_the_guard_against_tensorflow_works(without_tensorflow, tmp_path):
    done = run(*given(), "--image_size=64", "--num_iterations=0", env=without_tensorflow,
               cwd=tmp_path)  # fmt: skip
    assert done.returncode == 3 and "exit code 99" in done.stderr


def test_CFG_05_typo_in_a_flag(without_tensorflow, tmp_path):
    line = refusal(without_tensorflow, tmp_path, *given(), "--style_wieght=3")
    assert "--style_wieght" in line
    assert "did you mean '--style_weight'?" in line


def test_CFG_01_missing_configuration(without_tensorflow, tmp_path):
    line = refusal(without_tensorflow, tmp_path, "--config", "missing.yaml")
    assert "(missing.yaml): no such file" in line


def test_another_python_than_that_of_the_installation(tmp_path):
    # -S leaves out the folder of installed packages, as a Python outside of the environment does.
    program = [sys.executable, "-S", "-m", "nst_tf.main", *given()]
    done = subprocess.run(
        program, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 3
    assert "there is no module 'absl' in " in error_line(done)
    assert "activate the environment nst_tf is installed in" in error_line(done)


def test_no_images_given(without_tensorflow, tmp_path):
    line = refusal(without_tensorflow, tmp_path)
    assert "content_image is missing" in line
    assert "--content_image=FILE" in line


def test_IMG_05_text_as_content(without_tensorflow, tmp_path):
    (tmp_path / "page.jpg").write_text("<!DOCTYPE html><title>404</title>")
    line = refusal(without_tensorflow, tmp_path, *given(content="page.jpg"))
    assert "page.jpg" in line
    assert "not an image (starts with '<!DOCTYPE')" in line


def test_IMG_07_truncated_image(without_tensorflow, tmp_path):
    Image.new("RGB", (40, 30), "teal").save(tmp_path / "whole.png")
    data = (tmp_path / "whole.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(data[: len(data) // 2])
    line = refusal(without_tensorflow, tmp_path, *given(content="cut.png"))
    assert "cut.png" in line
    assert "cut short" in line


@pytest.mark.parametrize("size", [(1, 1), (8, 8), (10, 10), (15, 15)])
def test_IMG_15_image_too_small_for_the_network(without_tensorflow, tmp_path, size):
    Image.new("RGB", size, "teal").save(tmp_path / "small.png")
    line = refusal(without_tensorflow, tmp_path, *given("small.png"))
    assert f"it has {size[0]}x{size[1]} pixels" in line
    assert "block5_conv1 needs a shorter side of at least 16" in line


def test_IMG_16_extreme_aspect(without_tensorflow, tmp_path):
    Image.new("RGB", (4000, 20), "teal").save(tmp_path / "strip.png")
    line = refusal(without_tensorflow, tmp_path, *given("strip.png"))
    assert "it has 512x3 pixels" in line


def test_IMG_10_bomb(without_tensorflow, tmp_path):
    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", 13000, 13000, 8, 2, 0, 0, 0)
    (tmp_path / "bomb.png").write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    )
    line = refusal(without_tensorflow, tmp_path, *given("bomb.png"))
    assert "more than 100000000 pixels" in line


def test_IMG_43_output_would_replace_an_input(without_tensorflow, tmp_path):
    Image.new("RGB", (40, 30), "teal").save(tmp_path / "a.png")
    (tmp_path / "link.png").symlink_to("a.png")
    for flags in (given("a.png", output="a.png"), given("a.png", output="link.png")):
        assert "the output would replace an input" in refusal(
            without_tensorflow, tmp_path, *flags, "--overwrite"
        )


def test_IMG_45_no_style_and_too_many(without_tensorflow, tmp_path):
    content = given()[0]
    assert "style_image is missing" in refusal(without_tensorflow, tmp_path, content)
    many = [f"--style_image={STYLE}"] * 65
    assert "64" in refusal(without_tensorflow, tmp_path, content, *many)


def test_RUN_03_a_file_of_somebody_else_is_not_replaced(without_tensorflow, tmp_path):
    Image.new("RGB", (40, 30), "teal").save(tmp_path / "out.png")
    line = refusal(without_tensorflow, tmp_path, *given(), exit_code=3)
    assert "nst_tf did not write that file" in line
    assert "--overwrite" in line


def test_RUN_05_output_of_unknown_format(without_tensorflow, tmp_path):
    line = refusal(without_tensorflow, tmp_path, *given(output="out.pgn"))
    assert "did you mean '.png'?" in line


def test_RUN_02_output_folder_is_a_file(without_tensorflow, tmp_path):
    (tmp_path / "folder").write_text("")
    line = refusal(without_tensorflow, tmp_path, *given(output="folder/out.png"), exit_code=3)
    assert "cannot write to the folder" in line


def test_WGT_03_weights_that_are_a_web_page(without_tensorflow, tmp_path):
    (tmp_path / "vgg.npz").write_text("<!DOCTYPE html><title>404</title>")
    line = refusal(without_tensorflow, tmp_path, *given(), "--weights=vgg.npz")
    assert "vgg.npz" in line
    assert "web page" in line


def test_bfgs_that_would_not_fit(without_tensorflow, tmp_path):
    line = refusal(without_tensorflow, tmp_path, *given(), "--optimizer=bfgs", exit_code=3)
    assert "full inverse Hessian" in line
    assert "use --optimizer=lbfgs" in line


def test_IMG_38_a_name_that_is_no_text_is_escaped(without_tensorflow, tmp_path):
    line = refusal(without_tensorflow, tmp_path, *given(content="no\udcff\nsuch.png"))
    assert "no\\udcff\\nsuch.png" in line


def test_RUN_42_a_terminal_without_unicode(without_tensorflow, tmp_path):
    poor = {**without_tensorflow, "LANG": "C", "PYTHONIOENCODING": "ascii", "TERM": "dumb"}
    assert "no such file" in refusal(poor, tmp_path, *given(content="gibt-es-nicht-ä.png"))


def test_no_pyramid_fits(without_tensorflow, tmp_path):
    line = refusal(without_tensorflow, tmp_path, *given(), "--pyramid=600:10")
    assert "its level of 600 pixels is not smaller than 512" in line


def test_CMD_15_dry_run_prints_the_resolved_configuration_and_the_plan(
    without_tensorflow, tmp_path
):
    done = run(*given(), "--style_weight=3e4", "--dry_run", env=without_tensorflow, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "style_weight: 30000.0\n" in done.stdout
    assert f"output_image: {tmp_path / 'out.png'}\n" in done.stdout
    assert not list(tmp_path.iterdir())
    *_, plan = done.stdout.splitlines()
    assert re.fullmatch(
        r"# nst_tf \S+, (float32|bfloat16) on CPU; iterations at 256x80: 80, 512x159: 40; "
        r"about \d\.\d GB of memory and .+", plan,
    )  # fmt: skip
    (tmp_path / "x.yaml").write_text(done.stdout)
    again = run("--config=x.yaml", "--dry-run", env=without_tensorflow, cwd=tmp_path)
    assert again.stdout.splitlines()[:-1] == done.stdout.splitlines()[:-1]


def test_CMD_15_dry_run_refuses_what_the_run_would_after_the_settings(capsys, tmp_path):
    assert main([*given(content="none.png"), "--dry_run"]) == 2
    captured = capsys.readouterr()
    assert "content_image: " in captured.out and "# " not in captured.out
    assert "no such file" in captured.err


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (["--weights=none.npz"], "cannot read the weights"),
        (["--weights=text.npz"], "cannot use the weights"),
        (["--sweep=seed=1,2", "--contact_sheet=x.xyz"], "x.xyz"),
        (["--sweep=seed=1,2", "--contact_sheet=text.npz"], "text.npz"),
        (["--sweep=seed=1,2", "--cell_size=4"], "cell_size is too small"),
    ],
)
def test_CMD_15_dry_run_checks_weights_and_the_contact_sheet(
    capsys, monkeypatch, tmp_path, flags, text
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.npz").write_text("no weights")
    argv = [str(CONTENT), str(STYLE), "--image_size=64", "--pyramid=none", *flags]
    for more in (["--dry_run"], []):
        assert main([*argv, *more]) == 2
        assert text in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["text.npz"]


def test_CMD_15_dry_run_downloads_nothing(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(download, "cached", lambda *arguments: pytest.fail("downloaded"))
    argv = [str(CONTENT), str(STYLE), "--image_size=64", "--pyramid=none", "--weights=imagenet"]
    assert main([*argv, "--dry_run"]) == 0


def test_CMD_15_dry_run_refuses_another_backend_of_keras(monkeypatch, tmp_path):
    monkeypatch.setattr(backend, "_configured_backend", lambda: "torch")
    monkeypatch.delitem(sys.modules, "keras", raising=False)
    config = Config(content_image=CONTENT, style_image=STYLE, output_image=tmp_path / "x.png")
    for work in (planning.plan, jobs.run):
        with pytest.raises(MachineError, match="KERAS_BACKEND=tensorflow"):
            work(config)


def test_CMD_10_the_content_s_own_size_is_planned(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (400, 300), "teal").save("c.png")
    assert main([*given("c.png"), "--image-size=content", "--dry-run"]) == 0
    assert "; iterations at 200x150: 102, 400x300: 40; about" in capsys.readouterr().out
    assert main([*given("c.png"), "--image_size=content", "--pyramid=400:5", "--dry-run"]) == 2
    assert "its level of 400 pixels is not smaller than 400" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [
        ("x.jfif", "choose x.jpg"), ("x.gif", "choose x.png"), ("x.BMP", "choose x.png"),
        ("x.heic", "choose x.avif"), ("a.b.jxl", "choose a.b.webp"), ("x", "as in x.png"),
        ("x.", "as in x.png"), ("folder/", "as in folder/out.png"),
        ("folder", "it is a folder; name a file in it, as in folder/out.png"),
        ("x.jpgg", "did you mean '.jpg'?"),
    ],
)  # fmt: skip
def test_CMD_16_an_output_of_another_kind_gets_a_name_that_can_be_written(
    capsys, monkeypatch, tmp_path, name, suggestion
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    assert main([str(CONTENT), str(STYLE), "-o", name]) in (2, 3)
    assert suggestion in capsys.readouterr().err


def fake_run(monkeypatch, *events, path=None, status="finished", iterations=3):
    """Replaces the job by events and a result."""

    def run(config, callbacks, **_):
        for event in events:
            for callback in callbacks:
                callback(event)
        return jobs.JobResult(path, {"iterations": iterations} if path else {}, None, status)

    monkeypatch.setattr(jobs, "run", run, raising=False)


PLANNED = events.Planned(
    (events.PlannedLevel(20, 30, 160), events.PlannedLevel(40, 60, 40)), "float32", "CPU", 1, 1, 1
)


@pytest.mark.parametrize(
    ("saved", "iterations", "flags", "line"),
    [
        ("stop.png", 3, [], "stopped: saved stop.png after 3 of 200 iterations; "
         "the same command with --resume goes on"),
        ("stop-2.png", 3, ["--checkpoint_seconds=0"], "stopped: saved stop-2.png after 3 of 200 "
         "iterations; give the same command again"),
        ("stop.png", 0, [], "stopped: saved stop.png after 0 of 200 iterations; "
         "give the same command again"),
        (None, 0, [], "stopped: nothing was begun yet; give the same command again"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_CMD_12_a_stopped_run_is_told_of_without_an_error(
    monkeypatch, capsys, tmp_path, saved, iterations, flags, line, number
):
    monkeypatch.chdir(tmp_path)
    path = saved and tmp_path / saved
    fake_run(monkeypatch, PLANNED, path=path, status="stopped", iterations=iterations)
    argv = [str(CONTENT), str(STYLE), "-o", "stop.png", *flags]
    assert command.execute(argv, [number]) == 128 + number
    assert capsys.readouterr().err == f"{line}\n"


def test_CMD_12_a_second_interrupt_is_no_error_either(monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "_execute", interrupted)
    assert main([]) == 130
    assert capsys.readouterr().err == (
        "stopped: at once, and all files are whole; the same command with --resume goes on from "
        "the last checkpoint\n"
    )


def test_CMD_18_what_never_began_leaves_no_run_folder(capsys, tmp_path):
    """Refused by its second image, before the lock; and stopped while it holds the lock."""
    (tmp_path / "bad.png").write_text("no image")
    output = tmp_path / "out" / "x.png"
    assert main([str(CONTENT), str(tmp_path / "bad.png"), "-o", str(output)]) == 2
    assert not output.parent.exists()
    argv = [str(CONTENT), str(STYLE), "-o", str(output), "--image-size=64"]
    assert command.execute(argv, [signal.SIGINT]) == 130
    assert not list(output.parent.iterdir())
    assert capsys.readouterr().err.endswith(
        "stopped: nothing was begun yet; give the same command again\n"
    )


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_RUN_42_lines_with_letters_that_a_stream_lacks_are_escaped(monkeypatch, tmp_path, encoding):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "\N{SNOWMAN}.png"
    losses = events.Losses({"tv": 1.0})
    preview = events.Preview(np.zeros((2, 2, 3), np.float32), tmp_path / "\N{SNOWMAN}.run")
    saved = events.Saved(path, losses, 3, 1.0, "all iterations were done", True)
    fake_run(monkeypatch, PLANNED, preview, saved, path=path)
    screen = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr("sys.stdout", screen)
    assert main([str(CONTENT), str(STYLE), "-o", path.name]) == 0
    screen.flush()
    text = screen.buffer.getvalue().decode(encoding)
    assert "first image: \\u2603.run" in text and "saved \\u2603.png: loss 1" in text


def test_CMD_01_the_command_has_three_names(tmp_path):
    for words in (["-m", "nst_tf"], ["-m", "nst_tf.main"]):
        done = subprocess.run(
            [sys.executable, *words, "--version"], env=environment(), capture_output=True,
            text=True, cwd=tmp_path,
        )  # fmt: skip
        assert (done.returncode, done.stdout) == (0, f"nst_tf {nst_tf.__version__}\n"), done.stderr
    settings = (ROOT / "setup.cfg").read_text()
    module, function = re.search(r"nst-tf = ([\w.]+):(\w+)", settings).groups()
    assert getattr(importlib.import_module(module), function) is run_in_subprocess


def test_help_names_every_setting(without_tensorflow, tmp_path):
    done = run("--help", env=without_tensorflow, cwd=tmp_path)
    assert done.returncode == 0
    for name in ("content_image", "style_weight", "overwrite", "config"):
        assert f"--{name}" in done.stdout or f"--[no]{name}" in done.stdout


def test_debug_shows_the_traceback(without_tensorflow, tmp_path):
    done = run("--config=missing.yaml", "--debug", env=without_tensorflow, cwd=tmp_path)
    assert done.returncode == 2
    assert "Traceback" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("nst_tf: error: cannot read the configuration")


def test_RUN_46_checks_do_not_vanish_with_asserts(without_tensorflow, tmp_path):
    Image.fromarray(np.zeros((10, 10, 3), np.uint8)).save(tmp_path / "small.png")
    optimised = {**without_tensorflow, "PYTHONOPTIMIZE": "2"}
    assert "too small" in refusal(optimised, tmp_path, *given("small.png"), "--image_size=10")


def test_a_refusal_comes_at_once(without_tensorflow, tmp_path):
    began = time.monotonic()
    refusal(without_tensorflow, tmp_path, *given(content="missing.png"))
    assert time.monotonic() - began < 5  # a tenth of that on a machine without other work


def test_the_supervising_process_imports_next_to_nothing():
    code = (
        "import sys; before = set(sys.modules); import nst_tf.main; "
        "print(sorted(name for name in sys.modules if name.partition('.')[0] in "
        "('numpy', 'pydantic', 'tensorflow', 'PIL', 'absl', 'rich', 'logging')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(), capture_output=True, text=True
    )
    assert done.stdout == "[]\n", done.stderr


def test_options_of_python_reach_the_child(tmp_path):
    # -S leaves out the installed packages: it is the child that does not find them.
    program = [sys.executable, "-X", "utf8", "-S", "-m", "nst_tf.main", "--version"]
    done = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 3
    assert "there is no module" in error_line(done)


def test_RUN_42_a_stream_that_lacks_a_letter_gets_it_escaped(tmp_path, monkeypatch):
    screen = io.TextIOWrapper(io.BytesIO(), encoding="cp1252")
    monkeypatch.setattr("sys.stdout", screen)
    assert main([*given(output=tmp_path / "\N{SNOWMAN}.png"), "--dry_run"]) == 0
    screen.flush()
    assert b"2603" in screen.buffer.getvalue()


def test_the_logger_is_left_as_it_was(capsys):
    logger = logging.getLogger("nst_tf")
    before = list(logger.handlers), logger.propagate
    assert main(["--version"]) == 0
    assert (logger.handlers, logger.propagate) == before


def test_a_defect_ends_in_one_line(monkeypatch, capsys):
    def broken(argv, received):
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr(command, "_execute", broken)
    assert main([]) == 70
    assert capsys.readouterr().err == (
        "nst_tf: error: internal error: ZeroDivisionError: a defect; "
        "run again with --debug and report it\n"
    )


# Signals


def test_RUN_12_signals_are_collected_and_handlers_restored():
    before = {number: signal.getsignal(number) for number in signals.STOP_SIGNALS}
    with signals.capture_signals() as received:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
            signal.raise_signal(number)
        assert received == [signal.SIGTERM, signal.SIGINT]
    assert {number: signal.getsignal(number) for number in before} == before


def test_RUN_13_a_second_interrupt_after_a_while_raises(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    with pytest.raises(KeyboardInterrupt), signals.capture_signals() as received:
        signal.raise_signal(signal.SIGINT)
        clock[0] = 0.4
        signal.raise_signal(signal.SIGINT)
        assert received == [signal.SIGINT]
        clock[0] = 0.6
        signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize(("received", "exit_code"), [([signal.SIGINT], 70), ([2, 2], 130)])
def test_RUN_13_an_error_that_a_second_interrupt_causes_is_no_defect(
    monkeypatch, capsys, received, exit_code
):
    def fail(argv, received):
        raise RuntimeError("KeyboardInterrupt in a callback")  # as libraries write it

    monkeypatch.setattr(command, "_execute", fail)
    assert command.execute([], received) == exit_code
    assert ("internal error" in capsys.readouterr().err) == (exit_code == 70)


def test_RUN_15_an_ignored_signal_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with signals.capture_signals() as received:
            signal.raise_signal(signal.SIGHUP)
            assert received == []
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_blocked_signal_is_captured_once_it_is_unblocked():
    signals.block_signals()
    signal.raise_signal(signal.SIGTERM)  # would kill this process
    with signals.capture_signals() as received:
        assert received == [signal.SIGTERM]

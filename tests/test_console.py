"""What the command prints during a run."""

import io
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

import nst_tf
from nst_tf.cli import console
from nst_tf.config import Config
from nst_tf.events import Iteration, Losses, Planned, PlannedLevel, Preview, Saved, Scoring

LOSSES = Losses({"content/block4_conv2": 1.5, "style/block1_conv1": 2.0, "tv": 0.25})


def iteration(number, done=0.25, seconds=10.0, left=30.0, num_iterations=8, losses=LOSSES):
    return Iteration(
        iteration=number, num_iterations=num_iterations, evaluations=number + 1, seconds=seconds,
        done=done, seconds_left=left, losses=losses, height=3, width=5,
    )  # fmt: skip


def planned(seconds=500.0, per_evaluation=1.0, iterations_done=0):
    levels = (PlannedLevel(20, 32, 12), PlannedLevel(40, 64, 6))
    return Planned(
        levels, "float32", "CPU", 1_130_000_000, seconds, per_evaluation, 0, iterations_done
    )


def saved(path, finished=True):
    return Saved(path, LOSSES, 8, 12.4, "all iterations were done", finished)


@pytest.fixture
def printed(capsys, tmp_path, monkeypatch):
    """Prints events, with `o.png` in the current folder as the output, and returns the lines."""
    monkeypatch.chdir(tmp_path)

    def lines(*events, every=2):
        show = console.Lines(tmp_path / "o.png", every)
        for event in events:
            assert not show(event)
        return capsys.readouterr().out.splitlines()

    return lines


def test_lines_say_how_far_a_run_is_and_how_long_it_will_take(printed):
    assert printed(*map(iteration, (1, 2, 3))) == [
        "iteration 2/8  5x3  loss 3.75 (content 1.5, style 2, tv 0.25)  10 s, 30 s left"
    ]


def test_no_lines_where_none_are_asked_for(printed):
    assert printed(iteration(8), every=0) == []


@pytest.mark.parametrize(
    ("event", "end"),
    [
        (planned(), "and 8 min"),
        (planned(seconds=99.4), "and 99 s"),
        (planned(seconds=7000.0), "and 1.9 h"),
        (planned(per_evaluation=20.0), "and 8 min; stopping takes up to 20 s"),
        (planned(seconds=None, per_evaluation=None), "about 1.1 GB of memory"),
    ],
)
def test_the_first_line_is_the_plan(printed, event, end):
    (line,) = printed(event)
    version = nst_tf.__version__
    assert line.startswith(
        f"nst_tf {version}, float32 on CPU; iterations at 32x20: 12, 64x40: 6; about 1.1 GB of "
    )
    assert line.endswith(end)


def test_a_run_that_goes_on_says_from_where(printed):
    assert printed(planned(iterations_done=7))[1:] == ["going on after 7 iterations"]


def test_the_initial_image_is_named_where_it_was_saved(printed, tmp_path):
    image = np.zeros((3, 5, 3), np.float32)
    path = tmp_path / "o.run" / "first.png"
    assert printed(Preview(image, path)) == [f"first image: {Path('o.run', 'first.png')}"]
    assert printed(Preview(image)) == []


def test_the_last_line_is_the_result(printed, tmp_path):
    end = "loss 3.75, 8 iterations, 12 s; all iterations were done"
    assert printed(saved(tmp_path / "o.png")) == [f"saved o.png: {end}"]
    assert printed(saved(tmp_path / "o-2.png")) == [f"saved o-2.png (o.png was kept): {end}"]
    assert printed(saved(tmp_path / "o.png", finished=False)) == []


def test_a_path_on_another_drive_is_shown_as_it_is(printed, tmp_path, monkeypatch):
    def other_drive(path):
        raise ValueError("path is on mount 'D:', start on mount 'C:'")

    monkeypatch.setattr("os.path.relpath", other_drive)
    assert printed(saved(tmp_path / "o.png"))[0].startswith(f"saved {tmp_path / 'o.png'}: ")


def test_RUN_09_a_closed_pipe_is_no_reason_to_fail(monkeypatch):
    class Closed(io.StringIO):
        def write(self, text):
            raise BrokenPipeError

    monkeypatch.setattr("sys.stdout", Closed())
    console.print_line("nobody reads this")


def shown_on_terminal(tmp_path, width, *events):
    screen = io.StringIO()
    terminal = Console(file=screen, force_terminal=True, width=width)
    config = Config(output_image=tmp_path / "o.png", print_iter=1)
    with console.display(config, terminal) as show:
        for event in events or (planned(), iteration(2)):
            show(event)
    return screen.getvalue()


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(90.0, "90 s"), (120.0, "2 min"), (3700.0, "62 min"), (15e3, "4.2 h"), (9e5, "250.0 h")],
)
def test_CMD_13_the_time_left_is_whole_and_in_its_unit(tmp_path, printed, seconds, words):
    large = Losses({"content/block4_conv2": 1.23456e8, "style/block1_conv1": 2.34567e-8})
    event = iteration(123_456, left=seconds, num_iterations=1_000_000, losses=large)
    (line,) = printed(event, every=1)
    assert line.endswith(f", {words} left")
    for width in (60, 80, 120):
        text = shown_on_terminal(tmp_path, width, event)
        assert "iteration 123456/1000000 " in text and f" {words} left " in text
    assert "loss 1.2346e+08" in shown_on_terminal(tmp_path, 80, event)
    assert "content 1.235e+08" in shown_on_terminal(tmp_path, 120, event)


def test_CMD_14_the_scoring_is_announced(tmp_path, printed):
    line = "computing the loss of the image in float32 (--noscore leaves it out)"
    assert printed(Scoring()) == [line]
    assert line in shown_on_terminal(tmp_path, 80, planned(), iteration(2), Scoring())


def test_a_terminal_gets_a_bar(tmp_path):
    text = shown_on_terminal(tmp_path, 120)
    assert "iteration 2/8" in text
    assert "loss 3.75" in text


@pytest.mark.parametrize("width", [0, 1])
def test_RUN_42_a_terminal_without_width_is_no_reason_to_fail(tmp_path, width):
    shown_on_terminal(tmp_path, width)


def test_without_a_terminal_there_are_lines(tmp_path, capsys):
    with console.display(Config(output_image=tmp_path / "o.png", print_iter=4)) as show:
        show(iteration(4))
    assert capsys.readouterr().out.startswith("iteration 4/8  5x3  loss 3.75")

"""What a person sees while a run goes on."""

import io
import logging

import numpy as np
import pytest
from rich.console import Console

from nst_tf.engine.stylize import Progress
from nst_tf.jobs import callbacks as report
from nst_tf.objective.terms import Losses


def progress(iteration, done=0.25):
    losses = Losses({"content/block4_conv2": 1.5, "style/block1_conv1": 2.0, "tv": 0.25})
    return Progress(
        iteration=iteration, evaluations=iteration + 1, seconds=10.0, done=done, losses=losses,
        picture=np.full((3, 5, 3), 77.0, np.float32), position=lambda: None,
    )  # fmt: skip


def test_lines_say_how_far_a_run_is_and_how_long_it_will_take(capsys):
    lines = report.Lines(every=2, num_iterations=8)
    for iteration in (1, 2, 3):
        lines(progress(iteration))
    # By hand: a quarter of the work took 10 s, so three times as much is left.
    assert capsys.readouterr().out == (
        "iteration 2/8  5x3  loss 3.75 (content 1.5, style 2, tv 0.25)  10 s, 30 s left\n"
    )


def test_no_lines_where_none_are_asked_for(capsys):
    report.Lines(every=0, num_iterations=8)(progress(8))
    assert capsys.readouterr().out == ""


def test_snapshots_come_when_they_are_due_and_sort_by_name(tmp_path):
    snapshots = report.Snapshots(tmp_path, every=5, most=0, num_iterations=100, encode=bytes)
    for iteration in (4, 5, 6, 10):
        snapshots(progress(iteration))
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "iteration-005.png",
        "iteration-010.png",
    ]


def test_RUN_38_a_listener_that_fails_is_left_out_and_the_others_go_on(caplog):
    seen = []

    class Broken:
        def __call__(self, progress):
            raise OSError("No space left on device")

    listen = report.together([Broken(), seen.append])
    with caplog.at_level(logging.WARNING, "nst_tf"):
        for iteration in (1, 2, 3):
            assert listen(progress(iteration)) is False
    assert [p.iteration for p in seen] == [1, 2, 3]
    assert [record.message for record in caplog.records] == [
        "Broken failed and is left out from here on: No space left on device"
    ]


def test_any_listener_can_ask_for_the_end_and_all_are_still_told():
    seen = []
    listen = report.together([lambda progress: True, seen.append])
    assert listen(progress(1)) is True
    assert len(seen) == 1


def test_a_terminal_gets_a_bar(monkeypatch):
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=120)
    monkeypatch.setattr(report, "Console", lambda: console)
    with report.display(print_iter=1, num_iterations=8) as listen:
        listen(progress(2))
    assert "iteration 2/8" in screen.getvalue()
    assert "loss 3.75" in screen.getvalue()


@pytest.mark.parametrize("width", [0, 1])
def test_RUN_42_a_terminal_without_width_is_no_reason_to_fail(monkeypatch, width):
    console = Console(file=io.StringIO(), force_terminal=True, width=width)
    monkeypatch.setattr(report, "Console", lambda: console)
    with report.display(print_iter=1, num_iterations=8) as listen:
        listen(progress(2))

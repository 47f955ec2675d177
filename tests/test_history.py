"""Figures of benchmarks as a history, and the comparison of two commits."""

import subprocess

import pytest

from benchmarks import compare, history
from benchmarks.history import Commit, Measured


def git(folder, *words):
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", *identity, *words], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path):
    """A checkout of two commits, the first of which has the tag v1."""
    folder = tmp_path / "repository"
    (folder / "nst_tf").mkdir(parents=True)
    git(folder, "init", "-q")
    for text in ("one", "two"):
        (folder / "nst_tf" / "a.txt").write_text(text)
        git(folder, "add", "-A")
        git(folder, "commit", "-q", "-m", text)
        if text == "one":
            git(folder, "tag", "v1")
    return folder


def test_commits_are_told_with_their_dates_and_whether_files_differ(repository):
    first, second = (history.commit_of(name, repository) for name in ("v1", "HEAD"))
    assert first.name != second.name and first.date <= second.date
    assert history.current_commit(repository) == second
    (repository / "nst_tf" / "a.txt").write_text("three")
    assert history.current_commit(repository) == second._replace(changed=True)
    assert history.current_commit(repository.parent) is None
    with pytest.raises(subprocess.CalledProcessError):
        history.commit_of("v2", repository)


def test_figures_are_appended_and_read_in_the_order_of_commits(tmp_path):
    file = tmp_path / "history.jsonl"
    older, newer = (Commit(name * 40, f"2026-01-0{name}T00:00:00+00:00") for name in "12")
    history.append("engine", [Measured("start", 3.0, "s")], newer, file)
    before = file.read_bytes()
    history.append("compare", [Measured("b", 1.0, "s"), Measured("c", 2.0, "MiB")], older, file)
    assert file.read_bytes().startswith(before)
    rows = history.read(file)
    assert [(row["commit"][0], row["figure"], row["value"]) for row in rows] == [
        ("1", "b", 1.0), ("1", "c", 2.0), ("2", "start", 3.0),
    ]  # fmt: skip
    assert all("cores" in row["machine"] and row["tensorflow"] for row in rows)


def test_the_history_is_plotted_with_a_panel_for_each_figure(tmp_path):
    pytest.importorskip("matplotlib", reason="needs the extra bench")
    file = tmp_path / "history.jsonl"
    for name in "12":
        measured = [Measured(f"figure {index}", index + int(name), "s") for index in range(4)]
        history.append("a", measured, Commit(name * 40, f"2026-01-0{name}"), file)
    panels = history.plot(history.read(file)).axes
    assert len(panels) == 4
    for index, panel in enumerate(panels):
        (line,) = panel.lines
        assert line.get_xydata().tolist() == [[0, index + 1], [1, index + 2]]
        assert f"figure {index}" in panel.get_title() and panel.get_ylabel() == "s"


def test_two_commits_are_checked_out_and_leave_nothing(repository):
    with compare.checkouts(["v1", "HEAD"], repository) as folders:
        assert [(folder / "nst_tf" / "a.txt").read_text() for folder in folders] == ["one", "two"]
    assert not any(folder.exists() for folder in folders)
    listed = subprocess.run(
        ["git", "worktree", "list"], cwd=repository, capture_output=True, text=True, check=True
    ).stdout
    assert len(listed.splitlines()) == 1


def test_pairs_are_interleaved_and_ratios_taken_within_them(monkeypatch):
    order = []

    def measure(folder, image_size, repeats):
        order.append(folder)
        slow = 10.0 if len(order) > 2 else 1.0  # the machine, in the second pair
        return {figure: slow * (2.0 if folder == "b" else 1.0) for figure in compare.UNITS}

    monkeypatch.setattr(compare, "measure", measure)
    pairs = compare.measure_pairs(["a", "b"], rounds=3, image_size=64, repeats=1)
    assert order == ["a", "b", "b", "a", "a", "b"]
    lines = compare.table(["v1", "HEAD"], pairs).splitlines()
    assert len(lines) == 2 + len(compare.UNITS)
    assert all("| 2.000 | 2.000 to 2.000 |" in line for line in lines[2:])


@pytest.mark.slow
def test_a_checkout_is_measured_in_a_process_of_its_own(tmp_path):
    found = compare.measure(history.ROOT, image_size=32, repeats=1)
    assert found.keys() == compare.UNITS.keys()
    assert 0 < found["evaluation"] < found["start-up to the first evaluation"]
    assert 100 < found["peak memory"] < 10_000
    (tmp_path / "nst_tf.py").write_text("raise SystemExit(3)")
    with pytest.raises(subprocess.CalledProcessError):
        compare.measure(tmp_path, image_size=32, repeats=1)

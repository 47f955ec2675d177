"""What can be watched of a run elsewhere: the plot of its losses, and TensorBoard."""

import logging
import re
import sys
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from nst_tf import jobs
from nst_tf.config import Config
from nst_tf.engine.pyramid import Level
from nst_tf.errors import MachineError
from nst_tf.events import Iteration, Losses
from nst_tf.jobs import loss_plot, planning
from nst_tf.jobs.callbacks import TRACE_COLUMNS, Trace
from nst_tf.jobs.tensorboard import TensorBoard
from tests.command import CONTENT, STYLE, run_folder

LEVELS = (Level((20, 30), ((20, 30),), 6), Level((40, 60), ((40, 60),), 4))
SVG = "{http://www.w3.org/2000/svg}"


class Gray:
    def __init__(self, shape):
        self.shape = shape

    def image(self):
        return np.full((*self.shape, 3), 100.0, np.float32)


def iterations(first=1, last=10):
    for number in range(first, last + 1):
        shape = LEVELS[number > 6].shape
        terms = {"content/block4_conv2": 1.0 / number, "style/block1_conv1": 100.0 / number}
        yield Iteration(
            number, 10, number, 0.0, number / 10, 0.0, Losses(terms), *shape, Gray(shape)
        )


def lines(path):
    """Returns the points of each line of a plot: by color, for each level."""
    found = {}
    for element in ElementTree.parse(path).iter(f"{SVG}path"):
        if element.get("stroke-linejoin"):
            points = re.findall(r"([\d.]+) ([\d.]+)", element.get("d"))
            found.setdefault(element.get("stroke"), []).append(np.array(points, float))
    return list(found.values())


def texts(path):
    return [element.text for element in ElementTree.parse(path).iter(f"{SVG}text")]


def test_the_plot_has_a_line_for_each_term_and_level_on_a_logarithmic_axis(tmp_path):
    trace = Trace(tmp_path / "trace.csv")
    for event in iterations():
        trace(event)
    loss_plot.write(tmp_path / "losses.svg", tmp_path / "trace.csv")
    total, content, style = lines(tmp_path / "losses.svg")  # no others: they are 0
    assert [len(level) for level in total] == [len(level) for level in content] == [6, 4]
    x, y = np.concatenate(style).T
    assert np.allclose(np.diff(x), (696 - 78) / 9, atol=0.11)
    decade = content[0][0, 1] - style[0][0, 1]  # pixels for a factor of 100
    assert np.allclose(y - y[0], decade / 2 * np.log10(np.arange(1, 11)), atol=0.2)
    assert {"30x20", "60x40", "total", "content", "style", "iteration", "weighted loss", "1"} <= {
        *texts(tmp_path / "losses.svg")
    }


@pytest.mark.parametrize("losses", [[5.0], [5.0] * 3, [5.001, 5.0], [1e-9, 1e9], [0.0, 0.0]])
def test_every_trace_gives_a_plot_whose_points_are_inside(tmp_path, losses):
    rows = [
        ",".join(map(str, (number, 1, 0.1, 30, 20, loss, loss, 0, 0, 0)))
        for number, loss in enumerate(losses, start=1)
    ]
    text = "\n".join([",".join(TRACE_COLUMNS), *rows, ""])
    (tmp_path / "trace.csv").write_text(text)
    loss_plot.write(tmp_path / "losses.svg", tmp_path / "trace.csv")
    for points in (level for term in lines(tmp_path / "losses.svg") for level in term):
        assert np.all((points >= (77, 55)) & (points <= (697, 367)))
    assert sum(re.fullmatch(r"[\d.e+-]+", text) is not None for text in texts(
        tmp_path / "losses.svg"
    )) >= 3  # fmt: skip


def scalars(folder, tag="loss/total"):
    """Returns what TensorBoard shows: from each run to its steps and values."""
    multiplexer = pytest.importorskip(
        "tensorboard.backend.event_processing.plugin_event_multiplexer",
        reason="needs the extra tensorboard",
    )
    from tensorboard.util import tensor_util

    read = multiplexer.EventMultiplexer().AddRunsFromDirectory(str(folder))
    read.Reload()
    return {
        run: {e.step: tensor_util.make_ndarray(e.tensor_proto) for e in read.Tensors(run, tag)}
        for run in sorted(read.Runs())
    }


def board(folder):
    return TensorBoard(folder, LEVELS, lambda pixels: b"\x89PNG of %d" % pixels.shape[0])


def test_tensorboard_shows_each_level_as_a_run_with_its_terms_and_images(tmp_path):
    write = board(tmp_path)
    for event in iterations():
        write(event)
    found = scalars(tmp_path / "tensorboard")
    assert {run: list(steps) for run, steps in found.items()} == {
        "1-30x20": [1, 2, 3, 4, 5, 6], "2-60x40": [7, 8, 9, 10],
    }  # fmt: skip
    assert found["2-60x40"][10] == pytest.approx(10.1)
    style = scalars(tmp_path / "tensorboard", "loss/style/block1_conv1")
    assert style["1-30x20"][4] == pytest.approx(25.0)
    pictures = scalars(tmp_path / "tensorboard", "image")["2-60x40"]
    assert list(pictures) == [7, 8, 9, 10]
    assert pictures[10].tolist() == [b"60", b"40", b"\x89PNG of 40"]


def test_OUT_32_a_resumed_run_goes_on_with_the_same_steps_in_tensorboard(tmp_path):
    for first, last in ((1, 9), (8, 9), (4, 10)):  # each continues from an earlier iteration
        write = board(tmp_path)
        for event in iterations(first, last):
            write(event)
        steps = {run: list(values) for run, values in scalars(tmp_path / "tensorboard").items()}
        whole = {"1-30x20": [*range(1, 7)], "2-60x40": [*range(7, last + 1)]}
        assert steps == whole


def small(output, **settings):
    sizes = {"image_size": 64, "num_iterations": 4, "init": "content", "pyramid": "none"}
    return Config(
        content_image=CONTENT, style_image=[STYLE], output_image=output, **sizes | settings
    )


def test_OUT_31_tensorboard_without_its_package_is_refused_before_the_work(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    for work in (jobs.run, planning.plan):
        with pytest.raises(MachineError) as caught:
            work(small(tmp_path / "o.png", tensorboard=True))
        assert str(caught.value) == (
            "cannot write for TensorBoard: the package tensorboard is not installed; "
            'install it: pip install "nst_tf[tensorboard]"'
        )
    assert list(tmp_path.iterdir()) == []


def test_OUT_32_an_interrupted_job_has_plot_and_events_and_goes_on_with_them(tmp_path):
    pytest.importorskip("tensorboard", reason="needs the extra tensorboard")
    config = small(tmp_path / "o.png", tensorboard=True)
    folder = run_folder(tmp_path / "o.png")

    def stop(event):
        return isinstance(event, Iteration) and event.iteration == 2

    assert jobs.run(config, callbacks=[stop]).status == "stopped"
    (total, *_) = lines(folder / "losses.svg")
    assert len(total[0]) == 2
    assert jobs.run(config, resume=True).status == "finished"
    (total, *_) = lines(folder / "losses.svg")
    assert len(total[0]) == 4
    ((run, steps),) = scalars(folder / "tensorboard").items()
    assert run.startswith("1-64x") and list(steps) == [1, 2, 3, 4]
    jobs.run(config.replace(num_iterations=1, tensorboard=False), overwrite=True)
    assert not (folder / "tensorboard").exists()  # another run's


def test_OUT_30_32_a_plot_or_events_that_fail_cost_no_result(tmp_path, caplog):
    pytest.importorskip("tensorboard", reason="needs the extra tensorboard")
    config = small(tmp_path / "o.png", tensorboard=True)
    folder = run_folder(tmp_path / "o.png")

    def spoil(event):
        if isinstance(event, Iteration) and event.iteration == 1:
            (folder / "tensorboard").write_bytes(b"no folder")
            (folder / "trace.csv").write_bytes(b"iteration,loss\nx,y\n")

    with caplog.at_level(logging.WARNING, "nst_tf"):
        assert jobs.run(config, callbacks=[spoil]).status == "finished"
    assert "the losses could not be plotted" in caplog.text
    assert "TensorBoard failed and is left out from here on" in caplog.text
    assert (tmp_path / "o.png").exists() and not (folder / "losses.svg").exists()

"""The arithmetic of the benchmarks, small measurements, and their PyTorch loss against nst_tf's."""

import importlib.util
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import nst_tf
from benchmarks import consistency, engine, evaluation_cost, optimizers, run, summary
from benchmarks.contenders import CONTENDERS, PAIRS, Contender, Task
from benchmarks.engine import Figure
from benchmarks.fetches import counted_fetches
from nst_tf.models import vgg19_features

ROOT = Path(__file__).parent.parent
SAVES = [
    {"file": "b.png", "step": 20, "seconds": 20.0, "loss": 4.0},
    {"file": "a.png", "step": 10, "seconds": 10.0, "loss": 7.0},
    {"file": "d.png", "step": 40, "seconds": 40.0, "loss": 6.0},
    {"file": "c.png", "step": 30, "seconds": 30.0, "loss": 4.0},
]

# Torch and TensorFlow do not share a process, so that torch is only looked for here.
needs_torch = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None, reason="torch is not installed: pip install .[bench]"
)


@pytest.mark.parametrize(
    ("loss", "seconds"), [(7.0, 10.0), (6.99, 20.0), (4.0, 20.0), (3.99, None), (100.0, 10.0)]
)
def test_first_time_at_or_below(loss, seconds):
    assert summary.first_time_at_or_below(SAVES, loss) == seconds


@pytest.mark.parametrize(("seconds", "loss"), [(9.9, None), (10.0, 7.0), (25.0, 4.0), (99.0, 4.0)])
def test_lowest_by(seconds, loss):
    assert summary.lowest_by(SAVES, seconds) == loss


def test_best_is_the_earliest_of_equals():
    assert summary.best(SAVES)["file"] == "b.png"


def made_up_run(contender, saves, seconds, gib=1, pair="p+q"):
    return {
        "pair": pair,
        "image_size": 512,
        "style_weight": 1e5,
        "contender": contender,
        "description": contender,
        "machine": {},
        "seconds": seconds,
        "peak_memory_bytes": gib * 2**30,
        "saves": [
            {"file": f"{when}.png", "step": when, "seconds": float(when), "loss": loss}
            for when, loss in saves
        ],
    }


def test_summary_of_a_faster_and_of_a_worse_contender():
    runs = [
        made_up_run("nst_tf-fine", [(50, 9.0), (300, 5.5)], 301.0),
        made_up_run("nst_tf-draft", [(8, 6.0), (16, 5.0), (32, 2.5)], 33.0, gib=3),
        made_up_run("reference", [(100, 8.0), (160, 5.0), (200, 5.6)], 202.0, gib=2),
    ]
    (task,) = summary.summarize(runs)
    assert task["reference"] == {
        "best_loss": 5.0,
        "best_evaluation": 160,
        "best_seconds": 160.0,
        "evaluations": 200,
        "final_loss": 5.6,
        "seconds": 202.0,
    }
    reference, draft, fine = task["contenders"]  # in the order of the list of contenders
    assert reference["seconds_to_reference_best"] == 160.0
    assert draft["seconds_to_reference_best"] == 16.0
    assert draft["speedup_over_reference_run"] == pytest.approx(202 / 16)
    assert draft["speedup_over_reference_to_its_best"] == pytest.approx(160 / 16)
    assert draft["loss_by_reference_end"] == 2.5
    assert draft["loss_ratio_by_reference_end"] == pytest.approx(0.5)
    assert draft["memory_ratio"] == pytest.approx(1.5)
    assert fine["seconds_to_reference_best"] is None
    assert fine["speedup_over_reference_run"] is None
    assert fine["loss_by_reference_end"] == 9.0  # its later, better image came too late


def test_summary_keeps_tasks_apart():
    runs = [
        made_up_run("nst_tf-draft", [(10, 1.0)], 11.0, pair="p+r"),
        made_up_run("reference", [(10, 2.0)], 11.0),
    ]
    first, second = summary.summarize(runs)
    assert (first["pair"], second["pair"]) == ("p+q", "p+r")
    assert second["reference"] is None
    assert "seconds_to_reference_best" not in second["contenders"][0]


def test_measuring_again_replaces_only_the_same_contender_and_task(tmp_path):
    file = tmp_path / "raw.json"
    others = [
        made_up_run("reference", [(10, 2.0)], 11.0),
        made_up_run("nst_tf-draft", [(10, 2.0)], 11.0, pair="p+r"),
    ]
    old = made_up_run("nst_tf-draft", [(10, 2.0)], 11.0)
    new = made_up_run("nst_tf-draft", [(9, 2.0)], 10.0)
    for entry in (old, *others, new):
        run.record(entry, file)
    assert json.loads(file.read_text()) == [*others, new]


def test_a_contender_that_fails_is_refused_with_its_last_words(tmp_path):
    script = "import sys; print('begun'); sys.exit('no such flag')"
    failing = Contender("x", "x", lambda *_: [[sys.executable, "-c", script]], "*.png")
    task = Task(*next(iter(PAIRS.values())))
    with pytest.raises(run.ContenderError, match="exit code 1: no such flag"):
        run.measure(failing, task, tmp_path / "x")


def test_contenders_differ_in_name_and_description():
    assert len({contender.name for contender in CONTENDERS}) == len(CONTENDERS)
    assert len({contender.description for contender in CONTENDERS}) == len(CONTENDERS)


def test_cost_exponent_and_ratios_are_those_of_a_power_law_on_an_uneven_machine():
    """Seconds are pixels^1.25; the second variant takes 3 times as long; rounds slow down both."""
    rows = [
        {
            "size": size,
            "round": number,
            "variant": name,
            "pixels": size**2,
            "seconds": [factor * slowness * size**2.5 * noise for noise in (1, 0.99, 50)],
            "peak_memory_bytes": size,
        }
        for size in (64, 128, 512)
        for number, slowness in enumerate((1, 7, 1.5))
        for name, factor in (("nst_tf float32", 1), ("torch float32", 3))
    ]
    costs = evaluation_cost.summarize(rows)
    assert costs["torch float32"]["exponent"] == pytest.approx(1.25)
    assert costs["torch float32"]["sizes"][128]["ratio"] == pytest.approx(3)
    assert costs["nst_tf float32"]["sizes"][64]["seconds"] == pytest.approx(1.5 * 64**2.5)


def test_sizes_of_an_earlier_call_stay_and_a_size_measured_again_is_replaced_whole():
    earlier = [{"size": size, "variant": name} for size in (64, 128) for name in ("a", "b")]
    now = [{"size": 128, "variant": "a", "new": True}, {"size": 32, "variant": "a"}]
    assert evaluation_cost.with_other_sizes(now, earlier) == [now[1], *earlier[:2], now[0]]


def test_the_cost_of_an_evaluation_is_that_of_the_optimizers_function():
    cost = evaluation_cost.measure_here(evaluation_cost.VARIANTS["nst_tf bfloat16"], 48, 2)
    assert cost["pixels"] == 48 * 32
    assert len(cost["seconds"]) == 2 and min(cost["seconds"]) > 0
    assert cost["peak_memory_bytes"] > 1e8


def bowl(x):
    """A function with its minimum, 1, where all variables are 200."""
    return 1.0 + tf.reduce_sum(tf.square(x - 200.0)), 2.0 * (x - 200.0)


def test_methods_are_compared_at_the_losses_of_scipys():
    initial = tf.fill([1, 2, 3, 3], 100.0)
    traces = {method: optimizers.trace(bowl, initial, method, 40) for method in ("lbfgs", "adam")}
    assert traces["lbfgs"]["steps"][-1][1] == pytest.approx(1.0, abs=1e-3)
    assert [evaluations for evaluations, _ in traces["adam"]["steps"][:3]] == [2, 3, 4]
    for trace in traces.values():
        losses = [loss for _, loss in trace["steps"]]
        assert losses[-1] < losses[0]
        assert 0 < trace["seconds_evaluating"] < trace["seconds"]
    assert optimizers.evaluations_to([(2, 9.0), (3, 5.0), (5, 4.0)], 5.0) == 3
    assert optimizers.evaluations_to([(2, 9.0)], 5.0) is None

    steps = [(number + 1, 100.0 / number) for number in range(1, 46)]
    times = {"seconds": 10.0, "seconds_evaluating": 9.0}
    compared = optimizers.compared(
        {"l-bfgs-b": {"steps": steps, **times}, "lbfgs": {"steps": [(7, 5.0), (9, 3.0)], **times}}
    )
    assert compared["lbfgs"]["evaluations"] == {"5.000": [7, 21], "2.500": [None, 41]}
    assert compared["lbfgs"]["share_outside_evaluations"] == pytest.approx(0.1)


def test_copies_to_the_host_are_counted_with_their_size():
    tensor, scalar = tf.constant([1.0, 2.0, 3.0]), tf.constant(1.0, tf.float64)
    with counted_fetches() as fetches:
        np.asarray(tensor)
        tensor.numpy()
        float(scalar)
        tf.reduce_sum(tensor)
        np.asarray([1.0])
    np.asarray(tensor)
    assert (fetches.number, fetches.num_bytes) == (3, 12 + 12 + 8)


@pytest.mark.parametrize("method", ["lbfgs", "adam", "l-bfgs-b"])
def test_images_are_copied_to_the_host_by_scipys_methods_only(method):
    curvatures = tf.reshape(tf.exp(tf.linspace(0.0, 9.0, 20 * 30 * 3)), [1, 20, 30, 3])
    counts = []
    for iterations in (5, 15):
        initial = tf.fill([1, 20, 30, 3], 100.0)
        with counted_fetches() as fetches:
            result = nst_tf.optimizers.minimize(
                lambda x: (tf.reduce_sum(curvatures * x**2) / 2, curvatures * x),
                initial,
                method=method,
                max_iterations=iterations,
                tolerance=0.0,
            )
        counts.append((result.evaluations, fetches.number, fetches.num_bytes))
    number, num_bytes = engine.per_evaluation(*counts)
    if method == "l-bfgs-b":
        assert num_bytes >= 4 * 20 * 30 * 3
    else:
        assert 1 <= number <= 2
        assert num_bytes <= 100


def test_figures_of_two_runs_are_per_evaluation():
    assert engine.per_evaluation((11, 30, 500), (31, 70, 900)) == (2.0, 20.0)


def test_growth_counts_from_the_third_call():
    assert engine.growth([100.0, 900.0, 950.0, 940.0, 960.0, 930.0]) == 10.0
    assert engine.growth([100.0, 900.0, 950.0, 940.0]) == 0.0


@pytest.mark.parametrize("kind", ["stylize", "Stylizer"])
def test_repeated_calls_get_different_images_and_are_recorded_one_by_one(kind, monkeypatch):
    contents = []
    monkeypatch.setattr(nst_tf, "stylize", lambda content, style, config: contents.append(content))
    monkeypatch.setattr(
        nst_tf, "Stylizer", lambda config: lambda content, style: contents.append(content)
    )
    resident, growth = engine.repeated_calls(kind, calls=4)
    assert len({content.tobytes() for content in contents}) == 4
    assert len(resident.value) == 4 and min(resident.value) > 100
    assert growth == Figure(
        f"{kind}: growth after the third call", engine.growth(resident.value), "MB", 60
    )


def test_a_second_image_needs_no_second_graph():
    with_stylizer, first, second, *ratios = engine.second_image(32)
    assert second.value < first.value < with_stylizer.value
    assert [ratio.value for ratio in ratios] == [
        second.value / with_stylizer.value,
        second.value / first.value,
    ]


def test_a_result_takes_little_more_than_its_image():
    (figure,) = engine.result_size(32)
    assert 1 < figure.value < 1.5


@pytest.mark.parametrize("method", ["lbfgs", "l-bfgs-b", "bfgs"])
def test_rosenbrocks_minimum_is_found_in_float64(method):
    assert engine.rosenbrock_error(method) < 1e-9


def test_the_time_of_a_process_is_that_to_its_first_line():
    code = "import sys, time; print(sys.argv[1], flush=True); time.sleep(0.8)"
    began = time.perf_counter()
    seconds = engine.seconds_to_first_line(code, "x")
    assert 0 < seconds < time.perf_counter() - began - 0.8
    for broken in ("", "print('x'); raise SystemExit(1)"):
        with pytest.raises(subprocess.CalledProcessError):
            engine.seconds_to_first_line(broken)


def test_the_table_of_the_engine_has_a_line_for_each_figure():
    results = {
        "a": [Figure("time", 1.23456, "s", 1.3), Figure("ratio", 2)],
        "b": [Figure("memory", [900.0, 912.345], "MB")],
    }
    assert engine.table(results).splitlines()[2:] == [
        "| time | 1.235 s | 1.3 s |",
        "| ratio | 2 |  |",
        "| memory | 900 912.3 MB |  |",
    ]


def test_figures_of_an_earlier_call_stay_unless_measured_again(tmp_path):
    file = tmp_path / "engine.json"
    now = {"score": [Figure("score", 1.0, "s")]}
    assert engine.with_earlier(now, file) == now
    earlier = {name: [Figure(name, 5.0)._asdict()] for name in ("result", "score", "forgotten")}
    file.write_text(json.dumps({"results": earlier}))
    assert engine.with_earlier(now, file) == {"result": [Figure("result", 5.0)], **now}


@pytest.fixture
def image_files(tmp_path, random):
    """A content of 60x84, a style of 90x50 and a result of 40x56, smooth as photographs are."""
    files = {}
    for name, (height, width) in {"content": (60, 84), "style": (90, 50), "out": (40, 56)}.items():
        coarse = random.integers(0, 256, (height // 5, width // 5, 3), dtype=np.uint8)
        files[name] = tmp_path / f"{name}.png"
        Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC).save(files[name])
    return files


def in_torch(module, files, *arguments):
    command = [
        *(sys.executable, "-m", f"benchmarks.{module}", "--image_size=56"),
        *(f"--{name}={files[name]}" for name in ("content", "style")),
        *map(str, arguments),
    ]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


@needs_torch
def test_the_scorer_gives_the_loss_that_nst_tf_gives(image_files, weights):
    config = nst_tf.Config(
        image_size=56, style_weight=2e4, padding="zero", init="content", grain_weight=0.0
    )
    stylizer = nst_tf.Stylizer(config, weights=weights)
    file = image_files["out"]
    expected = stylizer.losses(file, image_files["content"], image_files["style"])

    done = in_torch("score", image_files, "--style_weight=2e4", file)
    assert done.returncode == 0, done.stderr
    scores = json.loads(done.stdout)[str(file)]
    assert scores["loss"] == pytest.approx(expected.total, rel=1e-4)
    assert scores["content_loss"] == pytest.approx(expected.content, rel=1e-4)
    assert scores["style_loss"] == pytest.approx(expected.style, rel=1e-4)


@needs_torch
def test_the_scorer_refuses_an_image_of_another_size(image_files):
    done = in_torch("score", image_files, image_files["style"])
    assert done.returncode != 0
    assert "(90, 50, 3), and the content (40, 56, 3)" in done.stderr


@needs_torch
def test_the_reference_saves_when_due_and_at_the_end_and_minimizes(image_files, tmp_path):
    began = time.monotonic()
    done = in_torch(
        "reference",
        image_files,
        f"--output_folder={tmp_path / 'out'}",
        "--evaluations=7",
        "--save_every=3",
    )
    wall = time.monotonic() - began
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "out" / "reference.json").read_text())
    assert [save["evaluation"] for save in record["saves"]] == [3, 6, 7]
    assert {path.name for path in (tmp_path / "out").glob("*.png")} == {
        save["file"] for save in record["saves"]
    }
    assert record["saves"][-1]["printed_loss"] < record["saves"][0]["printed_loss"]
    assert wall - 5 < record["seconds"] < wall + 0.1
    assert record["saves"][-1]["seconds"] <= record["seconds"]


def test_the_distance_of_images_is_that_of_a_naive_twin(weights, waves, random):
    other = random.uniform(0, 255, waves.shape).astype(np.float32)
    distance = consistency.Distance(weights)
    assert distance(waves, waves) == pytest.approx(0.0, abs=1e-6)
    layers = [f"block{block}_conv1" for block in range(1, 6)]
    network = vgg19_features(layers, weights)
    cosines = []
    for layer in layers:
        one, two = (
            np.asarray(network(image[np.newaxis])[layer], np.float64)[0] for image in (waves, other)
        )
        lengths = np.linalg.norm(one, axis=2) * np.linalg.norm(two, axis=2)
        cosines.append(np.mean((one * two).sum(axis=2) / lengths))
    assert distance(waves, other) == pytest.approx(1 - np.mean(cosines), abs=1e-5)


def test_the_sheet_shows_small_and_large_at_one_width(tmp_path):
    for size, gray in ((20, 50), (80, 200)):
        Image.new("L", (size, size // 2), gray).save(tmp_path / f"a+b-auto-{size}.png")
    drawn = np.asarray(consistency.sheet(tmp_path, ["a+b"], "auto", [20, 80]))
    assert drawn.shape == (256, 2 * 512 + 8, 3)
    assert (drawn[:, :512] == 50).all() and (drawn[:, -512:] == 200).all()

"""Tiles computed by worker processes: the bytes of one process, whatever becomes of the workers."""

import os
import signal
import threading
import time

import keras
import numpy as np
import pytest
from PIL import Image

import nst_tf
from nst_tf import events, jobs, system
from nst_tf.config import Config, RuntimeSettings
from nst_tf.engine import cluster_worker
from nst_tf.engine.cluster import open_cluster
from nst_tf.engine.networks import Networks
from nst_tf.errors import MachineError
from nst_tf.models import strips
from nst_tf.models.weights import Parameters
from nst_tf.objective.spec import spec_of
from nst_tf.objective.tiled import TiledObjective

distributed = pytest.importorskip("distributed", reason="dask.distributed is not installed")
pytestmark = pytest.mark.filterwarnings("default")  # those of dask

SETTINGS = {
    "image_size": 80, "pyramid": "none", "num_iterations": 3, "tile_size": 32, "init": "content",
    "precision": "float32", "score": False, "style_layers": ["block1_conv1", "block4_conv1"],
}  # fmt: skip


@pytest.fixture(scope="module")
def images():
    random = np.random.default_rng(7)
    return random.uniform(0, 255, (64, 80, 3)), random.uniform(0, 255, (50, 80, 3))


@pytest.fixture(scope="module")
def two_workers():
    """A scheduler with two workers, each with one thread."""
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, memory_limit=0, dashboard_address=":0",
        silence_logs="CRITICAL",
    ) as cluster:  # fmt: skip
        yield cluster


@pytest.fixture(scope="module")
def address(two_workers):
    return two_workers.scheduler_address


@pytest.fixture(scope="module")
def by_two(images, address):
    return nst_tf.stylize(*images, Config(cluster=address, **SETTINGS))


def test_two_workers_give_what_one_process_gives_but_for_the_last_digits(images, by_two):
    alone = nst_tf.stylize(*images, Config(**SETTINGS))
    assert by_two.iterations == alone.iterations == 3
    assert by_two.losses.total == pytest.approx(alone.losses.total, rel=1e-5)
    # Sums of one and of two threads differ in the last digit, and line searches enlarge that.
    assert np.abs(by_two.image - alone.image).max() < 0.5


def test_any_number_of_workers_gives_the_same_bytes(images, by_two):
    by_one = nst_tf.stylize(*images, Config(workers=1, **SETTINGS))
    np.testing.assert_array_equal(by_one.image, by_two.image)


def test_a_run_goes_on_with_another_number_of_workers_to_the_same_bytes(
    images, address, tmp_path, caplog
):
    for name, image in zip(("c.png", "s.png"), images, strict=True):
        Image.fromarray(image.astype("uint8")).save(tmp_path / name)
    config = Config(
        content_image=tmp_path / "c.png", style_image=tmp_path / "s.png", workers=1,
        output_image=tmp_path / "whole.png", **SETTINGS,
    )  # fmt: skip
    assert jobs.run(config).status == "finished"
    parted = config.replace(output_image=tmp_path / "parted.png")

    def stop(event):
        return isinstance(event, events.Iteration) and event.iteration == 2

    assert jobs.run(parted, callbacks=[stop]).status == "stopped"
    two = parted.replace(workers=0, cluster=address)
    assert jobs.run(two, resume=True).status == "finished"
    assert not [each for each in caplog.records if each.name == "nst_tf"]
    found, expected = (Image.open(tmp_path / name) for name in ("parted.png", "whole.png"))
    np.testing.assert_array_equal(found, expected)


def kill_a_worker(address, killed):
    with distributed.Client(address, set_as_default=False) as client:
        killed.append(client.submit(os.getpid, pure=False).result(timeout=60))
    os.kill(killed[0], signal.SIGKILL)


def test_RUN_50_a_worker_that_is_killed_changes_no_byte(images, by_two, address):
    killed = []

    def kill_once(event):
        if not killed:
            kill_a_worker(address, killed)

    found = nst_tf.stylize(*images, Config(cluster=address, **SETTINGS), callbacks=[kill_once])
    assert killed
    assert found.iterations == 3
    np.testing.assert_array_equal(found.image, by_two.image)


@pytest.mark.slow
def test_RUN_50_so_does_one_killed_between_the_passes(images, by_two, address, monkeypatch):
    killed = []
    backward = TiledObjective._backward

    def kill_before(*arguments):
        if not killed:
            kill_a_worker(address, killed)
        return backward(*arguments)

    monkeypatch.setattr(TiledObjective, "_backward", kill_before)
    found = nst_tf.stylize(*images, Config(cluster=address, **SETTINGS))
    assert killed
    np.testing.assert_array_equal(found.image, by_two.image)


def test_RUN_51_a_scheduler_that_is_gone_is_told_in_one_line(images):
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, memory_limit=0, dashboard_address=":0",
        silence_logs="CRITICAL",
    ) as cluster:  # fmt: skip

        def close(event):
            threading.Thread(target=cluster.close).start()
            time.sleep(2)

        config = Config(cluster=cluster.scheduler_address, **{**SETTINGS, "num_iterations": 50})
        with pytest.raises(MachineError, match="the cluster is gone") as refused:
            nst_tf.stylize(*images, config, callbacks=[close])
    assert "--resume" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_an_address_at_which_nothing_answers_is_refused(images, monkeypatch):
    monkeypatch.setattr("nst_tf.engine.connection.CONNECT_SECONDS", 1)
    with pytest.raises(MachineError, match=r"cannot reach the cluster \(tcp://127\.0\.0\.1:9\)"):
        nst_tf.stylize(*images, Config(cluster="tcp://127.0.0.1:9", **SETTINGS))


def test_ENV_18_workers_of_other_versions_are_refused_by_name(address):
    recipe = Networks(Config().network, spec_of(Config().loss)).recipe("float32")
    other = recipe._replace(versions={**recipe.versions, "numpy": "1.0"})
    with open_cluster(RuntimeSettings(cluster=address)) as cluster:
        run = cluster.runner(other)
        task = cluster_worker.Task("forward", 0, 0, True, np.zeros((1, 16, 16, 3)), None)
        with pytest.raises(
            MachineError, match=r"one has numpy \d.*, the run was started with 1\.0"
        ):
            list(run([task]))


def test_workers_convolve_large_tiles_as_their_processor_needs_it(tiny_weights, monkeypatch):
    monkeypatch.setattr(system, "is_x86_without_avx512", lambda: True)
    monkeypatch.setattr(strips.sys, "platform", "linux")
    weights = Parameters(tiny_weights, "0" * 64)
    recipe = Networks(Config().network, spec_of(Config().loss), weights=weights).recipe("float32")
    network = cluster_worker._build(recipe).objective.network
    kinds = {type(each) for each in network.layers if isinstance(each, keras.layers.Conv2D)}
    assert kinds == {strips.StripConv2D}


def test_no_cluster_is_opened_for_what_needs_no_tiles(images):
    config = Config(**{**SETTINGS, "cluster": "tcp://127.0.0.1:9", "tile_size": 0})
    assert nst_tf.stylize(*images, config).iterations == 3

"""Machines as people have them: Keras' settings, notebooks, batch systems, limits of memory."""

import io
import logging
import resource
import signal
import subprocess
import sys
import textwrap
import time
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
from PIL import Image

from nst_tf import jobs, system
from nst_tf.cli import signals
from nst_tf.config import Config
from nst_tf.engine.stylizer import Stylizer
from nst_tf.errors import MachineError
from nst_tf.image.resize import resize
from nst_tf.io import decoding, images
from nst_tf.jobs import exits, inputs
from tests import command
from tests.command import PALACE, STYLE


def flags(output, **changes):
    """Settings of a run with few layers, whose start is short."""
    settings = {
        "content_layers": "block2_conv1", "style_layers": "block1_conv1,block2_conv1",
        "content_image": PALACE, "style_image": STYLE, "output_image": output, "image_size": 48,
        "num_iterations": 2, "pyramid": "none", "print_iter": 0,
    }  # fmt: skip
    return [f"--{name}={value}" for name, value in {**settings, **changes}.items()]


def run_python(code, *arguments, **environment):
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        env={**command.environment(), "TF_CPP_MIN_LOG_LEVEL": "2", **environment},
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip


# Keras and TensorFlow as found


@pytest.fixture(scope="module")
def usual(tmp_path_factory):
    """The pixels of a run where nothing is set."""
    output = tmp_path_factory.mktemp("usual") / "o.png"
    assert command.run(*flags(output)).returncode == 0
    return images.read(output)


@pytest.mark.parametrize(
    ("settings", "environment"),
    [
        ('{"backend": "jax", "image_data_format": "channels_first", "floatx": "float16"}',
         {"KERAS_BACKEND": "torch"}),
        pytest.param(
            '["damaged"', {"KERAS_BACKEND": "", "KERAS_MAX_EPOCHS": "many"}, marks=pytest.mark.slow
        ),
        pytest.param(
            '{"backend": "theano", "floatx": "bfloat32", "epsilon": 1}', {}, marks=pytest.mark.slow
        ),
    ],
)  # fmt: skip
def test_ENV_01_02_keras_settings_do_not_change_the_image(tmp_path, usual, settings, environment):
    (tmp_path / "keras.json").write_text(settings)
    output = tmp_path / "o.png"
    found = {**command.environment(), "KERAS_HOME": str(tmp_path), **environment}
    done = command.run(*flags(output), env=found)
    assert (done.returncode, done.stderr) == (0, "")
    np.testing.assert_array_equal(images.read(output), usual)
    assert (tmp_path / "keras.json").read_text() == settings


@pytest.mark.parametrize(
    "settings", ["[]", '{"floatx": "float8"}', '{"image_data_format": 3}', '{"epsilon": 1}']
)
def test_ENV_02_settings_that_keras_cannot_be_imported_with_are_named_in_one_line(
    tmp_path, settings
):
    (tmp_path / "keras.json").write_text(settings)
    code = """
        import nst_tf
        try:
            nst_tf.stylize
        except nst_tf.MachineError as error:
            print(error)
    """
    done = run_python(code, KERAS_HOME=str(tmp_path))
    assert done.stdout.startswith("cannot import Keras: "), done.stderr
    assert f"correct or delete {tmp_path / 'keras.json'}" in done.stdout


def test_ENV_03_a_keras_of_another_backend_is_refused_with_what_helps(monkeypatch):
    keras = SimpleNamespace(config=SimpleNamespace(backend=lambda: "torch"))
    monkeypatch.setitem(sys.modules, "keras", keras)
    began = time.monotonic()
    with pytest.raises(MachineError) as raised:
        jobs.run(Config(content_image=PALACE, style_image=[STYLE], output_image="o.png"))
    assert time.monotonic() - began < 1
    assert "Keras computes with 'torch'" in str(raised.value)
    assert "restart Python with KERAS_BACKEND=tensorflow, or use nst_tf.jobs.isolated" in str(
        raised.value
    )


def test_ENV_04_an_unknown_flag_of_tensorflow_is_told_in_its_own_words(tmp_path):
    found = {**command.environment(), "TF_XLA_FLAGS": "--tf_xla_no_such_flag"}
    done = command.run(*flags(tmp_path / "o.png"), env=found)
    assert done.returncode == 3
    line = command.error_line(done)
    assert "--tf_xla_no_such_flag" in line
    assert line.endswith("correct or unset the environment variable TF_XLA_FLAGS")


NOTEBOOK = """
    import runpy, signal, sys
    import tensorflow as tf
    tf.linalg.matmul(tf.ones([50, 50]), tf.ones([50, 50]))
    before = signal.getsignal(signal.SIGTERM)
    sys.argv = ["a notebook", *sys.argv[1:]]
    try:
        runpy.run_module("nst_tf.main", run_name="__main__")
    except SystemExit as end:
        print("ended with", end.code, signal.getsignal(signal.SIGTERM) is before)
"""


def test_ENV_05_the_command_runs_in_a_notebook_that_has_computed(tmp_path, usual):
    output = tmp_path / "o.png"
    done = run_python(NOTEBOOK, *flags(output))
    assert done.stdout.splitlines()[-1] == "ended with 0 True", done.stderr
    np.testing.assert_array_equal(images.read(output), usual)


def test_ENV_06_threads_asked_for_twice_are_told_and_the_image_is_made(tmp_path):
    code = """
        import sys
        from nst_tf.main import main
        for name in "ab":
            print(main([argument.replace("NAME", name) for argument in sys.argv[1:]]))
        print(main([*sys.argv[1:], "--deterministic=true"]))
    """
    done = run_python(code, *flags(tmp_path / "NAME.png", threads=1))
    assert [line for line in done.stdout.splitlines() if line.isdecimal()] == ["0", "0", "3"]
    warning, error = [line for line in done.stderr.splitlines() if line.startswith("nst_tf: ")]
    assert warning.startswith("nst_tf: warning: threads stay 1: TensorFlow computes in this ")
    assert error.startswith("nst_tf: error: cannot set deterministic: TensorFlow computes in this ")
    assert {"a.png", "b.png"} <= {path.name for path in tmp_path.iterdir()}


def test_ENV_06_a_stylizer_does_not_ignore_them(caplog):
    import tensorflow as tf

    assert tf.reduce_sum(tf.ones(3)) == 3  # it has computed
    with caplog.at_level(logging.WARNING, "nst_tf"):
        Stylizer(Config(threads=3))
    assert [record.message for record in caplog.records] == [
        "threads stay one for each core: TensorFlow computes in this process already, and takes "
        "another number before its first computation only"
    ]
    with pytest.raises(MachineError, match="cannot set deterministic"):
        Stylizer(Config(deterministic=True))


# How the worker died

DYING = """
import os, signal
if os.environ.get("NST_TF_CHILD"):
    from nst_tf.cli import command
    def execute(argv, received):
        os.write(2, os.environ["WORDS"].encode())
        code = int(os.environ["CODE"])
        if code < 0:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [-code])
            if -code not in (signal.SIGKILL, signal.SIGSTOP):
                signal.signal(-code, signal.SIG_DFL)
            os.kill(os.getpid(), -code)
        os._exit(code)
    command.execute = execute
"""

FATAL = (
    "2026-01-02 03:04:05.678901: F external/xla/a.cc:12] Check failed: n > 0 \\x1b[0m\n"
    "*** Check failure stack trace: ***\n    @     0x7f01  abort\n"
)


def die(tmp_path, code, words=""):
    """Runs the command whose child ends in a certain way, without TensorFlow."""
    (tmp_path / "sitecustomize.py").write_text(DYING)
    found = {**command.environment(tmp_path), "CODE": str(code), "WORDS": words}
    return command.run("--version", env=found)


def test_ENV_07_an_exit_code_of_a_library_is_told_with_its_last_words(tmp_path):
    done = die(tmp_path, 1, "first\n\nE0000 00:00:1.2 34 b.cc:5] the cable is unplugged\n")
    assert done.returncode == 3
    assert command.error_line(done) == (
        'nst_tf: error: the run ended with exit code 1: its last words: "first / the cable is '
        'unplugged"; go on with --resume if there is a checkpoint, or run again with --debug to '
        "see all messages"
    )


@pytest.mark.parametrize("code", [5, 71, 255])
def test_ENV_07_a_silent_one_is_told_too(tmp_path, code):
    done = die(tmp_path, code)
    assert done.returncode == 3
    assert f"the run ended with exit code {code}: it said nothing" in command.error_line(done)


@pytest.mark.parametrize("code", [0, 2, 3, 4, 70, 129, 130, 138, 140, 143, 152])
def test_ENV_07_the_exit_codes_of_the_command_itself_are_passed_on(tmp_path, code):
    assert exits.explain_exit(code, b"words") is None


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("SIGILL", "the processor does not know an instruction, and TensorFlow needs one with AVX"),
        ("SIGKILL", "the system killed it, as it does when memory runs out"),
        ("SIGSEGV", "it crashed, as TensorFlow does when memory runs out"),
        ("SIGBUS", "it crashed, as programs do when a disk or the memory runs out"),
        ("SIGABRT", "it aborted, as TensorFlow does when memory runs out"),
        ("SIGFPE", "a library met an arithmetic error"),
        ("SIGSYS", "a sandbox forbids a system call"),
        ("SIGTRAP", "a library failed a check of its own"),
        ("SIGQUIT", "somebody ended it"),
        ("SIGALRM", "another program or a person sent it"),
    ],
)
def test_ENV_08_each_signal_has_its_own_sentence(name, sentence):
    number = getattr(signal, name)
    for code in (-number, 128 + number):  # the second through a shell
        error = exits.explain_exit(code)
        assert f"the run died of {name}: {sentence}" in str(error)
        assert error.exit_code == 3
    assert ("image_size" in str(error)) == ("memory" in sentence)


def test_ENV_08_the_last_words_tell_the_cause_where_they_do(tmp_path):
    done = die(tmp_path, -signal.SIGABRT, FATAL)
    assert done.returncode == 3
    line = command.error_line(done)
    assert 'SIGABRT: it aborted; its last words: "Check failed: n > 0' in line
    assert "image_size" not in line
    words = b"terminate called after throwing an instance of 'std::bad_alloc'\n"
    assert "smaller --image_size" in str(exits.explain_exit(-signal.SIGABRT, words))
    words = b"The TensorFlow library was compiled to use AVX instructions, but these aren't there\n"
    assert "use a processor with AVX" in str(exits.explain_exit(-signal.SIGABRT, words))
    words = b"""WARNING: All log messages before absl::InitializeLog() is called go to STDERR
I0000 00:00:1764.5 31 port.cc:153] oneDNN custom operations are on. You may see slightly different
W0000 00:00:1764.6 31 b.cc:12] a warning
2026-01-02 03:04:05.678901: I tensorflow/core/c.cc:3] more of it
2026-01-02 03:04:05.678901: F tensorflow/core/d.cc:3] what counts [1] a: b
"""
    assert exits.last_words(words) == "what counts [1] a: b"
    # Nobody speaks when it is killed: what was printed before has nothing to do with it.
    assert "words" not in str(exits.explain_exit(-signal.SIGKILL, words))


def test_ENV_08_very_long_last_words_are_cut_and_never_fill_the_pipe(tmp_path):
    done = die(tmp_path, 1, "x" * 100_000)
    assert len(command.error_line(done)) < 600


def test_ENV_07_08_an_isolated_job_says_why_it_died(tmp_path, monkeypatch):
    (tmp_path / "sitecustomize.py").write_text(
        "import os, sys\n"
        "if 'nst_tf.jobs.worker' in sys.orig_argv:\n"
        "    os.write(2, b'the cable is unplugged\\n')\n"
        "    os._exit(7) if os.environ['CODE'] == '7' else os.abort()\n"
    )
    monkeypatch.setenv("PYTHONPATH", command.environment(tmp_path)["PYTHONPATH"])
    config = Config(content_image=PALACE, style_image=[STYLE], output_image=tmp_path / "o.png")
    for code, told in (("7", "ended with exit code 7: its"), ("6", "died of SIGAB")):
        monkeypatch.setenv("CODE", code)
        with pytest.raises(MachineError, match=told) as raised:
            jobs.isolated(config)
        assert 'last words: "the cable is unplugged"' in str(raised.value)


@pytest.mark.parametrize("number", ["SIGUSR1", "SIGUSR2", "SIGXCPU"])
def test_ENV_09_the_warning_of_a_batch_system_saves_the_image(tmp_path, number):
    number = getattr(signal, number)
    output = tmp_path / "o.png"
    many = flags(output, num_iterations=5000, print_iter=1)
    with subprocess.Popen(
        command.command(*many), env=command.environment(), stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    ) as child:  # fmt: skip
        while not child.stdout.readline().startswith("iteration "):
            assert child.poll() is None
        for _ in range(3):  # the kernel sends SIGXCPU every second
            child.send_signal(number)
            time.sleep(0.3)
        child.communicate(timeout=60)
    assert child.returncode == 128 + number
    assert max(images.read(output).shape) == 48


@pytest.fixture
def former_handlers():
    before = {number: signal.getsignal(number) for number in (signal.SIGXCPU, signal.SIGUSR1)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_ENV_09_a_warning_after_the_end_does_not_kill_the_exiting_process(former_handlers):
    with signals.capture_signals():
        signal.raise_signal(signal.SIGXCPU)
    signal.raise_signal(signal.SIGXCPU)
    assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL


def test_ENV_09_a_repeated_warning_ends_nothing(monkeypatch, former_handlers):
    clock = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    with signals.capture_signals() as received:
        for clock[0] in range(5):
            signal.raise_signal(signal.SIGXCPU)
            signal.raise_signal(signal.SIGUSR1)
    assert received == [signal.SIGXCPU, signal.SIGUSR1]


def test_ENV_09_the_warning_comes_before_the_limit_of_processor_time():
    code = """
        import resource, sys
        from nst_tf import system
        resource.setrlimit(resource.RLIMIT_CPU, (LIMITS))
        system.keep_processor_time()
        print(resource.getrlimit(resource.RLIMIT_CPU))
    """
    for limits, expected in (
        ("200, 200", "(140, 200)"), ("20, 20", "(10, 20)"), ("50, 100", "(50, 100)"),
        ("-1, -1", "(-1, -1)"),
    ):  # fmt: skip
        assert run_python(code.replace("LIMITS", limits)).stdout == f"{expected}\n"


def test_ENV_09_an_isolated_job_is_stopped_by_it(tmp_path):
    config = Config(
        content_image=PALACE, style_image=[STYLE], output_image=tmp_path / "o.png", image_size=48,
        content_layers=["block2_conv1"], style_layers=["block1_conv1"], pyramid="none",
        num_iterations=5000,
    )  # fmt: skip

    def warn_worker(event):
        if getattr(event, "iteration", 0) == 2:
            for child in psutil.Process().children(recursive=True):
                if "nst_tf.jobs.worker" in child.cmdline():
                    child.send_signal(signal.SIGUSR1)

    assert jobs.isolated(config, callbacks=[warn_worker]).status == "stopped"
    assert max(images.read(tmp_path / "o.png").shape) == 48


@pytest.mark.parametrize("number", [34, 35, 50, 64])
def test_ENV_10_a_real_time_signal_is_told_in_a_sentence(tmp_path, number):
    done = die(tmp_path, -number)
    assert done.returncode == 3
    assert "another program or a person sent it; go on with --resume" in command.error_line(done)


# Memory

CONTROL_GROUPS = {
    "version 2": ("0::", "cgroup2 cgroup2 rw", "memory.max", "memory.current", ""),
    "version 1": ("4:cpu,memory:", "cgroup cgroup rw,memory,cpu", "memory.limit_in_bytes",
                  "memory.usage_in_bytes", "total_"),
}  # fmt: skip


@pytest.fixture(params=CONTROL_GROUPS)
def groups(request, tmp_path, monkeypatch):
    """Makes the files of a machine with control groups; the machine itself has enough memory."""
    line, kind, limit, usage, prefix = CONTROL_GROUPS[request.param]
    process = tmp_path / "proc"
    process.mkdir()
    monkeypatch.setattr(system, "_PROCESS", str(process))
    monkeypatch.setattr(system, "_CONTROL_GROUPS", tmp_path / "usual place")
    enough = SimpleNamespace(available=10**15)
    monkeypatch.setattr(system.psutil, "virtual_memory", lambda: enough)
    monkeypatch.setattr(system, "_left_of_limits", list)
    mounted = tmp_path / "mounted here"

    def make(path, *, mounted_root="/", **folders):
        """Each of `folders` has a limit, a usage and a page cache."""
        (process / "cgroup").write_text(f"9:name=systemd:/\n{line}{path}\n")
        place = str(mounted).replace(" ", "\\040")
        (process / "mountinfo").write_text(
            f"31 23 0:28 / /sys rw,relatime shared:7 - sysfs sysfs rw\n"
            f"35 31 0:32 {mounted_root} {place} rw,relatime shared:9 - {kind}\n"
        )
        for name, (most, used, cached) in folders.items():
            folder = mounted.joinpath(*name.split("_")) if name != "root" else mounted
            folder.mkdir(parents=True, exist_ok=True)
            (folder / limit).write_text(f"{most}\n")
            (folder / usage).write_text(f"{used}\n")
            (folder / "memory.stat").write_text(f"anon 5\n{prefix}inactive_file {cached}\n")

    return make


def test_ENV_11_page_cache_of_a_control_group_can_be_reclaimed(groups):
    groups("/", root=(4294967296, 3900000000, 3400000000))
    assert system.available_memory() == 4294967296 - 500000000


def test_ENV_11_page_cache_that_is_shared_makes_no_more_than_the_limit(groups):
    groups("/", root=(1000, 300, 900))
    assert system.available_memory() == 1000


@pytest.mark.parametrize(
    ("path", "root", "left"),
    [
        ("/slurm/job/step", "/", 700),  # the limit in between is the least
        ("/slurm/job", "/", 700),
        ("/slurm", "/", 4900),
        ("/docker/abc/slurm/job", "/docker/abc", 700),  # a container sees its part only
        ("/docker/abc", "/docker/abc", 9900),
        ("/elsewhere", "/docker/abc", 9900),
        ("/../../elsewhere", "/", 9900),
    ],
)
def test_ENV_12_the_least_limit_of_nested_control_groups_counts(groups, path, root, left):
    groups(
        path, mounted_root=root, root=(10_000, 100, 0), slurm=(5_000, 100, 0),
        slurm_job=(800, 100, 0), slurm_job_step=("max", 100, 0),
    )  # fmt: skip
    assert system.available_memory() == left


def test_ENV_12_a_group_beyond_its_limit_leaves_nothing(groups):
    groups("/", root=(1000, 2000, 100))
    assert system.available_memory() == 0


@pytest.mark.parametrize("limit", ["RLIMIT_AS", "RLIMIT_DATA"])
def test_ENV_13_limits_of_the_process_count(limit):
    code = f"""
        import resource
        from nst_tf import system
        resource.setrlimit(resource.{limit}, (3_000_000_000, -1))
        before = system.available_memory()
        held = b"x" * 500_000_000
        print(before, before - system.available_memory())
    """
    before, difference = map(int, run_python(code).stdout.split())
    assert 1e9 < before < 3e9
    assert difference == pytest.approx(5e8, rel=0.1)


def test_ENV_14_a_device_file_is_no_gpu_without_driver_and_tensorflow(tmp_path, monkeypatch):
    monkeypatch.setattr(system, "_DEVICES", tmp_path)
    cuda = "('is_cuda_build', True), ('is_rocm_build', False)"
    loadable = {"": True, "libcuda.so.1": True}
    monkeypatch.setattr(system, "_build_of_tensorflow", lambda: cuda)
    monkeypatch.setattr(system, "_can_be_loaded", lambda library: loadable[library])
    assert not system.may_have_gpu()  # no device file
    (tmp_path / "kfd").touch()
    assert not system.may_have_gpu()  # TensorFlow is not built for AMD
    (tmp_path / "nvidiactl").touch()
    assert not system.may_have_gpu()
    (tmp_path / "nvidia1").touch()  # as in a container with the second card
    assert system.may_have_gpu()
    loadable["libcuda.so.1"] = False
    assert not system.may_have_gpu()  # no driver
    loadable["libcuda.so.1"] = True
    monkeypatch.setattr(system, "_build_of_tensorflow", lambda: cuda.replace("True", "False"))
    assert not system.may_have_gpu()
    monkeypatch.setattr(system, "_build_of_tensorflow", lambda: "")  # an unknown one is asked
    assert system.may_have_gpu()


def test_ENV_14_the_build_of_tensorflow_is_read_without_importing_it():
    code = """
        import sys
        from nst_tf import system
        print("is_cuda_build" in system._build_of_tensorflow(), "tensorflow" in sys.modules)
    """
    assert run_python(code).stdout == "True False\n"


def picture(path, shape, random):
    pixels = random.integers(0, 256, (*shape, 3), np.uint8)
    Image.fromarray(pixels).save(path, compress_level=1)
    return pixels.astype(np.float32)


def test_ENV_15_inputs_are_reduced_to_the_largest_size_in_use(tmp_path, random):
    content = picture(tmp_path / "c.png", (150, 201), random)
    small = picture(tmp_path / "s.png", (40, 33), random)
    large = picture(tmp_path / "l.png", (300, 160), random)
    mask = np.zeros((150, 201), np.uint8)
    mask[:, :90] = 255
    Image.fromarray(mask).save(tmp_path / "m.png")
    config = Config(
        content_image=tmp_path / "c.png", style_image=[tmp_path / "s.png", tmp_path / "l.png"],
        content_masks=[tmp_path / "m.png", tmp_path / "m.png"], output_image=tmp_path / "o.png",
        init=str(tmp_path / "c.png"), image_size=96, style_scale=0.75, pyramid="50:3",
    )  # fmt: skip
    read = inputs.read_inputs(config)
    np.testing.assert_array_equal(read.content, resize(content, (72, 96)))
    np.testing.assert_array_equal(read.initial, read.content)
    np.testing.assert_array_equal(read.styles[0], small)  # not enlarged
    np.testing.assert_array_equal(read.styles[1], resize(large, (72, 38)))
    assert [each.shape for each in read.content_masks] == [(72, 96)] * 2
    assert [level.shape for level in read.levels] == [(38, 50), (72, 96)]
    assert read.levels[-1].style_shapes == ((72, 59), (72, 38))


def test_ENV_15_many_large_inputs_take_little_more_memory_than_one(tmp_path, random):
    for name in "cs":
        picture(tmp_path / f"{name}.png", (3000, 4000), random)
    code = """
        import sys
        from nst_tf import system
        from nst_tf.config import Config
        from nst_tf.jobs.inputs import read_inputs
        folder = sys.argv[1]
        for styles in (1, 5):
            read_inputs(Config(
                content_image=f"{folder}/c.png", style_image=[f"{folder}/s.png"] * styles,
                output_image=f"{folder}/o.png", image_size=128,
            ))
            print(system.peak_memory())
    """
    one, five = map(int, run_python(code, tmp_path).stdout.split())
    decoding_one = 32 * 12e6
    assert one < decoding_one + 150e6
    assert five - one < 60e6


def test_ENV_15_an_image_that_cannot_be_decoded_in_memory_is_refused_before(tmp_path, monkeypatch):
    Image.new("RGB", (2000, 1000)).save(tmp_path / "c.png")
    monkeypatch.setattr(system, "available_memory", lambda: 50_000_000)
    with pytest.raises(MachineError, match=r"2000x1000 pixels take 0\.1 GB, 0\.1 GB are availab"):
        images.read(tmp_path / "c.png")


def test_ENV_16_memory_that_runs_out_while_decoding_is_not_damage(tmp_path):
    Image.new("RGB", (6000, 4000)).save(tmp_path / "c.png")
    found = command.environment()
    done = command.run(
        *flags(tmp_path / "o.png", content_image=tmp_path / "c.png"), env=found,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (1_300_000_000, -1)),
    )  # fmt: skip
    assert done.returncode == 3
    assert "memory" in command.error_line(done)


@pytest.mark.parametrize("error", [MemoryError(), OSError("out of memory error when reading")])
def test_ENV_16_a_decoder_without_memory_is_told_from_a_damaged_file(monkeypatch, error):
    def decode(*arguments):
        raise error

    file = io.BytesIO()
    Image.new("RGB", (20, 10)).save(file, "PNG")
    monkeypatch.setattr(decoding, "_decoded", decode)
    with pytest.raises(MachineError, match="the memory does not suffice to read the image"):
        decoding.decode(file.getvalue(), 1000)


def test_ENV_16_memory_that_runs_out_elsewhere_is_told_in_one_line(tmp_path, monkeypatch):
    def hash_(*arguments):
        raise MemoryError("Unable to allocate 9.00 GiB")

    monkeypatch.setattr("nst_tf.jobs.runner.fingerprint", hash_)
    config = Config(content_image=PALACE, style_image=[STYLE], output_image=tmp_path / "o.png")
    events = []
    with pytest.raises(MachineError, match=r"memory ran out: Unable to allocate 9\.00 GiB; take"):
        jobs.run(config, callbacks=[events.append])
    assert len(events) == 1


def test_ENV_17_a_tensorflow_that_cannot_be_loaded_is_told_in_one_line(tmp_path):
    (tmp_path / "keras.py").write_text(
        "raise ImportError('Traceback:\\nlibtensorflow_cc.so.2: failed to map segment from shared "
        "object\\n\\nFailed to load the native runtime')"
    )
    code = """
        import nst_tf
        try:
            nst_tf.Stylizer
        except nst_tf.MachineError as error:
            print(error)
    """
    done = run_python(code, PYTHONPATH=command.environment(tmp_path)["PYTHONPATH"])
    assert done.stdout == (
        "cannot import TensorFlow: libtensorflow_cc.so.2: failed to map segment from shared object;"
        " free some memory or raise its limit\n"
    )


def test_memory_of_tensors_goes_back_to_the_system():
    code = """
from nst_tf import system
system.prepare_environment(False)
import tensorflow as tf
tf.ones(10) + 1.0
before = system.memory_in_use()
x = tf.random.normal([25_000_000])
print(system.memory_in_use() - before)
del x
system.release_memory()
print(system.memory_in_use() - before)
"""
    environment = {k: v for k, v in command.environment().items() if "ONEDNN" not in k}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    taken, left = map(int, done.stdout.split())
    assert taken > 95_000_000
    assert left < 20_000_000

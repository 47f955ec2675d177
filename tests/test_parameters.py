"""Files of trained parameters: what is taken, and what is refused before it is believed."""

import ast
import hashlib
import io
import json
import logging
import os
import pickle
import struct
import subprocess
import sys
import tracemalloc
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import safetensors.numpy
from numpy.lib import format as npy

from nst_tf.errors import InputError
from nst_tf.models import weights

TABLE = {
    "block1_conv1/kernel": (3, 3, 3, 4),
    "block1_conv1/bias": (4,),
    "block1_conv2/kernel": (3, 3, 4, 5),
    "block1_conv2/bias": (5,),
}
KERNEL = "block1_conv1/kernel"
SAVEZ_HEADER = "{{'descr': {!r}, 'fortran_order': False, 'shape': {}, }}"


def arrays(dtype="float32", table=TABLE):
    rng = np.random.default_rng(7)
    return {name: rng.normal(size=shape).astype(dtype) for name, shape in table.items()}


def write_npz(path, content):
    np.savez(path, **content)


def write_safetensors(path, content):
    safetensors.numpy.save_file(content, path)


def write_h5(path, content):
    """The layout of Keras' own download, as in `block1_conv1/block1_conv1_W_1:0`."""
    with h5py.File(path, "w") as file:
        for name, array in content.items():
            layer, _, part = name.partition("/")
            part = {"kernel": "W_1:0", "bias": "b_1:0"}.get(part, part)
            file[f"{layer}/{layer}_{part}"] = array


WRITERS = {"npz": write_npz, "safetensors": write_safetensors, "h5": write_h5}
every_format = pytest.mark.parametrize("kind", WRITERS)


def write(folder, kind, content):
    path = folder / f"w.{kind}"
    WRITERS[kind](path, content)
    return path


def hash_of(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def read(path, table=TABLE):
    """Reads with the file's own hash, so that the checks behind the hash are the ones met."""
    return weights.read(path, table, hash_of(path)).arrays


def refusal(path, *words, table=TABLE, sha256=None):
    """Shows that a file is refused in one printable line that names it and holds the words."""
    with pytest.raises(InputError) as caught:
        weights.read(path, table, sha256)
    text = str(caught.value)
    assert all(" " <= c <= "~" for c in text), text
    for word in (str(path), *words):
        assert word in text, text
    return text


def refusal_behind_hash(path, *words, table=TABLE):
    return refusal(path, *words, table=table, sha256=hash_of(path))


def peak_bytes(action):
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def npy_bytes(shape_text, data=b"", descr="<f4", header=SAVEZ_HEADER):
    text = header.format(descr, shape_text).encode() + b"\n"
    return npy.magic(1, 0) + struct.pack("<H", len(text)) + text + data


def zip_of(path, members, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


# What is accepted


@every_format
def test_same_arrays_from_every_format(tmp_path, kind):
    content = arrays()
    # Written last to first: the order of the table counts, not that of the file.
    got = read(write(tmp_path, kind, dict(reversed(content.items()))))
    assert list(got) == list(TABLE)
    for name, array in content.items():
        assert got[name].dtype == np.float32
        np.testing.assert_array_equal(got[name], array)


def test_content_and_not_the_name_decides_the_format(tmp_path):
    path = write(tmp_path, "npz", arrays()).rename(tmp_path / "weights.h5")
    np.testing.assert_array_equal(read(path)[KERNEL], arrays()[KERNEL])


def test_fortran_order_and_compression_are_read(tmp_path):
    content = {name: np.asfortranarray(array) for name, array in arrays().items()}
    path = tmp_path / "w.npz"
    np.savez_compressed(path, **content)
    np.testing.assert_array_equal(read(path)[KERNEL], arrays()[KERNEL])


@pytest.mark.parametrize("leaf", ["{layer}_{W}_1:0", "{layer}/{kernel}:0", "{kernel}:0"])
def test_old_keras_names_in_h5(tmp_path, leaf):
    path = tmp_path / "w.h5"
    with h5py.File(path, "w") as file:
        for name, array in arrays().items():
            layer, part = name.split("/")
            short = {"kernel": "W", "bias": "b"}[part]
            file[f"{layer}/{leaf.format(layer=layer, kernel=part, W=short)}"] = array
    for name, array in arrays().items():
        np.testing.assert_array_equal(read(path)[name], array)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # in Keras' save
def test_WGT_07_save_weights_of_keras_today_with_a_top_is_read(tmp_path):
    keras = pytest.importorskip("keras")
    model = keras.Sequential(
        [
            keras.Input((6, 7, 3)),
            keras.layers.Conv2D(4, 3, name="block1_conv1"),
            keras.layers.Conv2D(5, 3, name="block1_conv2"),
            keras.layers.Flatten(name="flatten"),
            keras.layers.Dense(2, name="predictions"),
        ]
    )
    content = arrays()
    for layer in ("block1_conv1", "block1_conv2"):
        model.get_layer(layer).set_weights([content[f"{layer}/kernel"], content[f"{layer}/bias"]])
    path = tmp_path / "model.weights.h5"
    model.save_weights(path)
    got = read(path)
    assert list(got) == list(TABLE)
    for name, array in content.items():
        np.testing.assert_array_equal(got[name], array)


def test_vgg19_has_its_published_number_of_parameters():
    shapes = weights.vgg19_shapes()
    assert len(shapes) == 32
    assert next(iter(shapes.items())) == ("block1_conv1/kernel", (3, 3, 3, 64))
    assert shapes["block3_conv1/kernel"] == (3, 3, 128, 256)
    # 20,024,384 is what keras.applications.VGG19(include_top=False).count_params() says.
    assert sum(int(np.prod(shape)) for shape in shapes.values()) == 20_024_384


def test_packaged_network_is_the_one_that_was_packaged():
    network = weights.load_vgg19("normalised").arrays
    assert {name: array.shape for name, array in network.items()} == weights.vgg19_shapes()
    assert len({name.split("/")[0] for name in network}) == 16
    assert {array.dtype for array in network.values()} == {np.dtype(np.float32)}
    # Read once from the file with numpy.load alone.
    assert network["block1_conv1/kernel"][0, 1, 2, 3] == np.float16(0.01276)
    assert network["block1_conv1/bias"][0] == np.float32(0.03664097)
    assert network["block3_conv4/kernel"][2, 0, 5, 7] == np.float16(-0.0006776)
    assert network["block5_conv4/kernel"][1, 1, 511, 510] == np.float16(-0.05594)
    assert network["block5_conv4/bias"][511] == np.float32(0.012156895)


def test_packaged_decoder_has_the_published_channels():
    decoder = weights.load_adain_decoder()
    assert decoder.sha256 == weights.DECODER_SHA256
    # Huang and Belongie (2017), section 6.1: the encoder of table 1, column E, up to conv4_1,
    # mirrored.
    kernels = [array.shape for name, array in decoder.arrays.items() if name.endswith("kernel")]
    assert [shape[3] for shape in kernels] == [256, 256, 256, 256, 128, 128, 64, 64, 3]
    assert kernels[0] == (3, 3, 512, 256)


def test_importing_weights_does_not_import_tensorflow():
    code = (
        "import sys, nst_tf.models.weights\n"
        "sys.exit(bool({'tensorflow', 'keras'} & {*sys.modules}))"
    )
    root = str(Path(weights.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": root}
    assert subprocess.run([sys.executable, "-c", code], env=environment).returncode == 0


# What is refused


@pytest.mark.parametrize("sha256", [None, weights.PACKAGED_SHA256])
def test_WGT_01_missing_file_is_refused(tmp_path, sha256):
    remedy = f"restore the file with SHA-256 {sha256}" if sha256 else "correct the path"
    refusal(tmp_path / "none.npz", "no such file", remedy, sha256=sha256)


def test_WGT_01_folder_pipe_and_giant_are_refused_unread(tmp_path):
    refusal(tmp_path, "it is a directory")
    os.mkfifo(tmp_path / "pipe")
    refusal(tmp_path / "pipe", "not a regular file")  # a pipe without a writer would block for ever
    giant = tmp_path / "giant.npz"
    giant.touch()
    os.truncate(giant, 1_000_000_001)
    assert peak_bytes(lambda: refusal(giant, "1000000001 bytes and 1000000000 are allowed")) < 1e6


def test_WGT_02_empty_file_is_refused(tmp_path):
    path = tmp_path / "w.npz"
    path.touch()
    refusal(path, "the file is empty")


@every_format
@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9, 0.999])
def test_WGT_02_truncated_file_is_refused(tmp_path, kind, kept):
    path = write(tmp_path, kind, arrays())
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept)])
    text = refusal_behind_hash(path)
    # A cut header leaves nothing of safetensors to be known by.
    assert "incomplete or damaged" in text or (kind == "safetensors" and "not known" in text)


def test_WGT_03_web_page_is_refused(tmp_path):
    path = tmp_path / "w.npz"
    path.write_bytes(b"\n<!DOCTYPE html><title>404 \xe2\x80\x93 not found</title>")
    refusal(path, "web page", "<!DOCTYPE", "delete and fetch again")
    refusal(path, "its SHA-256 is", "delete and fetch again", sha256="0" * 64)


@pytest.mark.parametrize(
    "start", [b"\x93NUMPY\x01\x00", b"GIF89a", b"\x1f\x8b\x08", b"(dp0\n", b"{"]
)
def test_unknown_format_is_refused(tmp_path, start):
    path = tmp_path / "w.npz"
    path.write_bytes(start + bytes(50))
    refusal(path, "format is not known", "give VGG19 weights as .npz")


@every_format
def test_WGT_04_wrong_hash_is_refused(tmp_path, kind):
    path = write(tmp_path, kind, arrays())
    found = hash_of(path)
    refusal(
        path, found[:12], "abcdef012345...", "delete and fetch again", sha256="abcdef012345" * 6
    )
    assert weights.read(path, TABLE, found.upper()).arrays.keys() == TABLE.keys()


def test_WGT_04_hash_is_checked_before_anything_is_parsed(tmp_path, monkeypatch):
    def parse(*_):
        pytest.fail("the file was parsed")

    path = write(tmp_path, "npz", arrays())
    monkeypatch.setattr(zipfile, "ZipFile", parse)
    refusal(path, "its SHA-256 is", sha256="0" * 64)


def test_WGT_05_one_flipped_byte_of_an_npz_never_changes_the_arrays(tmp_path):
    path = write(tmp_path, "npz", arrays())
    data = path.read_bytes()
    refused = 0
    positions = range(0, len(data), 3)
    for position in positions:
        damaged = bytearray(data)
        damaged[position] ^= 0xFF
        path.write_bytes(damaged)
        try:
            got = weights.read(path, TABLE, None).arrays
        except InputError:
            refused += 1
        else:  # a date or another field that nobody reads
            for name, array in arrays().items():
                np.testing.assert_array_equal(got[name], array)
    assert refused > len(positions) / 2


@pytest.mark.parametrize("kind", ["safetensors", "h5"])
def test_WGT_05_one_flipped_byte_is_refused_by_the_hash(tmp_path, kind):
    path = write(tmp_path, kind, arrays())
    sha256 = hash_of(path)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    refusal(path, "its SHA-256 is", sha256[:12], sha256=sha256)


def test_WGT_05_one_flipped_byte_of_the_packaged_network_is_refused(tmp_path):
    data = bytearray(weights.PACKAGED.read_bytes())
    data[20_000_000] ^= 1
    path = tmp_path / "w.npz"
    path.write_bytes(data)
    shapes = weights.vgg19_shapes()
    refusal(path, "13df98c3a8c6...", table=shapes, sha256=weights.PACKAGED_SHA256)
    refusal(path, "damaged", "CRC", table=shapes)


@every_format
def test_WGT_06_missing_extra_and_renamed_are_refused(tmp_path, kind):
    content = arrays()
    bias = content.pop("block1_conv2/bias")
    refusal_behind_hash(write(tmp_path, kind, content), "'block1_conv2/bias' is missing")
    content["block1_conv2/bios"] = bias
    text = refusal_behind_hash(write(tmp_path, kind, content), "'block1_conv2/bias' is missing and")
    assert "bios' is not known" in text
    content = {**arrays(), "block9_conv9/kernel": bias}
    refusal_behind_hash(write(tmp_path, kind, content), "'block9_conv9/kernel' is not known")


@every_format
def test_WGT_07_vgg16_is_recognised(tmp_path, kind):
    table = {
        name: (3, 3, 2, 2) if name.endswith("kernel") else (2,) for name in weights.vgg19_shapes()
    }
    vgg16 = {name: array for name, array in arrays(table=table).items() if "conv4" not in name}
    path = write(tmp_path, kind, vgg16)
    refusal_behind_hash(path, "block3_conv4 missing: this looks like VGG16", table=table)


@every_format
def test_WGT_07_wrong_shape_is_refused(tmp_path, kind):
    content = arrays()
    content[KERNEL] = content[KERNEL].transpose(3, 2, 0, 1).copy()  # PyTorch's orientation
    words = (f"'{KERNEL}' has shape (4, 3, 3, 3)", "expected is (3, 3, 3, 4)")
    refusal_behind_hash(write(tmp_path, kind, content), *words)


@every_format
def test_WGT_07_classification_top_is_passed_over(tmp_path, kind):
    top = {"fc1/kernel": np.full((7, 2), np.nan, np.float32), "predictions/bias": np.zeros(9)}
    assert list(read(write(tmp_path, kind, {**top, **arrays()}))) == list(TABLE)


@every_format
def test_WGT_08_half_and_double_precision_are_cast(tmp_path, kind, caplog):
    caplog.set_level(logging.WARNING, "nst_tf")
    got = read(write(tmp_path, kind, arrays("float16")))
    np.testing.assert_array_equal(got[KERNEL], arrays("float16")[KERNEL].astype(np.float32))
    assert not caplog.records  # nothing is lost, so nothing is said
    got = read(write(tmp_path, kind, arrays("float64")))
    np.testing.assert_array_equal(got[KERNEL], arrays("float64")[KERNEL].astype(np.float32))
    assert got[KERNEL].dtype == np.float32
    assert caplog.messages == ["float64 weights are rounded to float32"]


@every_format
@pytest.mark.parametrize("dtype", ["int32", "uint8", "bool"])
def test_WGT_08_other_types_are_refused(tmp_path, kind, dtype):
    content = {**arrays(), KERNEL: np.ones(TABLE[KERNEL], dtype)}
    refusal_behind_hash(write(tmp_path, kind, content), f"'{KERNEL}' is of type", "float32")


def test_WGT_08_bfloat16_is_refused(tmp_path):
    path = tmp_path / "w.safetensors"
    header = json.dumps({KERNEL: {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))
    refusal(path, f"'{KERNEL}' is of type BF16", "convert it to float32", table={KERNEL: (2,)})


@every_format
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_WGT_09_values_that_are_not_finite_are_refused(tmp_path, kind, value):
    content = arrays()
    content["block1_conv2/bias"][2:4] = value
    path = write(tmp_path, kind, content)
    refusal_behind_hash(path, "'block1_conv2/bias' holds 2 values that are NaN or infinite")


@pytest.mark.filterwarnings("error")
def test_WGT_09_double_beyond_float32_is_refused(tmp_path):
    content = arrays("float64")
    content[KERNEL][0, 1, 2, 3] = 1e300
    refusal(write(tmp_path, "npz", content), f"'{KERNEL}' holds 1 values that are NaN or infinite")


@every_format
def test_WGT_10_zero_kernel_is_refused_and_zero_bias_is_not(tmp_path, kind):
    content = {**arrays(), "block1_conv1/bias": np.zeros(4, np.float32)}
    assert not read(write(tmp_path, kind, content))["block1_conv1/bias"].any()
    content[KERNEL] = np.zeros(TABLE[KERNEL], np.float32)
    refusal_behind_hash(write(tmp_path, kind, content), "weights are all zero", KERNEL)


class Trap:
    """Unpickled, it leaves a file behind."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


@pytest.mark.parametrize("form", ["pickle", "torch", "torch as pickle", "object array", "npy"])
def test_WGT_11_pickle_is_refused_and_does_not_run(tmp_path, form):
    trap, path = Trap(tmp_path / "sprung"), tmp_path / "w.npz"
    if form == "object array":
        np.savez(path, **{**arrays(), KERNEL: np.array([trap], dtype=object)})
        refusal(path, f"'{KERNEL}' is of type object")
    elif form == "npy":
        stream = io.BytesIO()
        np.save(stream, np.array([trap], dtype=object))
        path.write_bytes(stream.getvalue())
        refusal(path, "format is not known")
    elif form == "torch":
        zip_of(path, {"archive/data.pkl": pickle.dumps(trap), "archive/data/0": bytes(4)})
        refusal(path, "PyTorch file with a pickle", "can carry code", ".safetensors")
    else:
        magic = pickle.dumps(0x1950A86A20F9469CFC6C, 2) if form == "torch as pickle" else b""
        path.write_bytes(magic + pickle.dumps(trap))
        refusal(path, "it is a pickle", "can carry code")
    assert not (tmp_path / "sprung").exists()
    pickle.dumps(trap)  # and the trap is a real one:
    pickle.loads(pickle.dumps(trap)).close()
    assert (tmp_path / "sprung").exists()


def test_WGT_11_sources_hold_nothing_that_runs_what_it_reads():
    modules = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
    calls = {"eval", "exec", "load_model", "unsafe_load"}
    sources = sorted(Path(weights.__file__).parent.rglob("*.py"))
    assert len(sources) >= 3
    for source in sources:
        for node in ast.walk(ast.parse(source.read_text("utf-8"))):
            where = f"{source.name}:{getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = {alias.name for alias in node.names} | {getattr(node, "module", "")}
                assert not names & modules, where
                assert not any((name or "").startswith("torch") for name in names), where
            elif isinstance(node, ast.Call):
                function = node.func
                name = getattr(function, "id", getattr(function, "attr", ""))
                assert name not in calls, where
                for keyword in node.keywords:
                    allowed = getattr(keyword.value, "value", None) is False
                    assert keyword.arg != "allow_pickle" or allowed, where


@pytest.fixture(scope="module")
def bomb(tmp_path_factory):
    """180 MB of zeros, as the header says, in less than 1 MB: (file, shape)."""
    path, shape = tmp_path_factory.mktemp("bomb") / "bomb.npz", (3, 3, 2_500_000, 2)
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open(f"{KERNEL}.npy", "w") as member,
    ):
        member.write(npy_bytes(shape))
        for _ in range(45):
            member.write(bytes(4_000_000))
    assert path.stat().st_size < 1_000_000
    return path, shape


def test_WGT_12_bomb_of_a_shape_not_in_the_table_is_not_inflated(bomb):
    path, shape = bomb
    table = {KERNEL: (3, 3, 3, 4)}
    peak = peak_bytes(lambda: refusal(path, f"has shape {shape}", table=table))
    assert peak < 5e6  # the file itself is 0.8 MB, its content 180 MB


@pytest.mark.parametrize("directory_lies", [False, True])
def test_WGT_12_bomb_behind_a_right_header_is_not_inflated(tmp_path, directory_lies):
    path, header = tmp_path / "bomb.npz", npy_bytes((3, 3, 3, 4))
    zip_of(path, {f"{KERNEL}.npy": header + bytes(100_000_000)}, zipfile.ZIP_DEFLATED)
    word = f"claims {len(header) + 432} bytes where {len(header) + 100_000_000} are stored"
    if directory_lies:
        data = bytearray(path.read_bytes())
        entry = data.rfind(b"PK\x01\x02")
        struct.pack_into("<I", data, entry + 24, len(header) + 432)  # the uncompressed size
        path.write_bytes(data)
        word = "CRC"
    peak = peak_bytes(lambda: refusal(path, word, table={KERNEL: (3, 3, 3, 4)}))
    assert peak < 5e6


@pytest.mark.parametrize("shape", ["(1000000000000000,)", "(3, 3, 3, 37037037037037)"])
def test_WGT_13_header_that_claims_4_PB_is_refused(tmp_path, shape):
    path = zip_of(tmp_path / "w.npz", {f"{KERNEL}.npy": npy_bytes(shape)})
    table = {KERNEL: (3, 3, 3, 4)}
    assert peak_bytes(lambda: refusal(path, f"has shape {shape}", table=table)) < 1e6


def test_WGT_14_negative_dimension_is_refused(tmp_path):
    path = zip_of(tmp_path / "w.npz", {f"{KERNEL}.npy": npy_bytes("(-1, 4)")})
    refusal(path, "has shape (-1, 4)", table={KERNEL: (3, 3, 3, 4)})


@pytest.mark.parametrize(
    "shape",
    [
        "__import__('os').mkdir('sprung')",
        "(" * 90,
        "[" * 9000,
        "-" * 9000 + "1",
        "9" * 5000,
        "(3.0,)",
        "None",
    ],
)
def test_WGT_14_evil_header_is_refused_and_does_not_run(tmp_path, monkeypatch, shape):
    monkeypatch.chdir(tmp_path)
    path = zip_of(tmp_path / "w.npz", {f"{KERNEL}.npy": npy_bytes(shape)})
    refusal(path, "incomplete or damaged", "delete and fetch again", table={KERNEL: (4,)})
    assert [entry.name for entry in tmp_path.iterdir()] == ["w.npz"]


def test_WGT_14_header_that_claims_more_than_is_stored_is_refused(tmp_path):
    path = zip_of(tmp_path / "w.npz", {"a.npy": npy_bytes("(4,)", bytes(12))})
    refusal(path, "'a.npy' claims", "are stored", table={"a": (4,)})


def test_WGT_14_later_npy_version_is_refused(tmp_path):
    # Its header may be 4 GiB long.
    data = npy.magic(2, 0) + struct.pack("<I", 2**32 - 1)
    path = zip_of(tmp_path / "w.npz", {"a.npy": data})
    refusal(path, "'a.npy' is not an array as numpy.savez writes it", table={"a": (4,)})


def test_WGT_15_duplicate_member_is_refused(tmp_path):
    path = write(tmp_path, "npz", arrays())
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr(f"{KERNEL}.npy", npy_bytes(TABLE[KERNEL], bytes(432)))
    refusal(path, f"'{KERNEL}' is in it twice", "delete and fetch again")


def test_WGT_15_two_names_of_one_array_in_h5_are_refused(tmp_path):
    path = write(tmp_path, "h5", arrays())
    with h5py.File(path, "a") as file:
        file["block1_conv1/kernel:0"] = np.ones(TABLE[KERNEL], np.float32)
    refusal_behind_hash(path, f"'{KERNEL}' is in it twice")


@pytest.mark.parametrize(
    "member", ["../../x.npy", "/x.npy", "../../x", "..\\x.exe", "read\nme\x1b"]
)
def test_WGT_16_member_outside_the_table_is_refused(tmp_path, member):
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    path = write(folder, "npz", arrays())
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(member, npy_bytes("(1,)", bytes(4)))
    text = refusal(path, "x" if "x" in member else "read")
    assert "is not known" in text or "is not an array" in text
    assert [entry for entry in tmp_path.rglob("*") if entry.is_file()] == [path]


def test_WGT_17_h5_dataset_of_4_TB_is_refused(tmp_path):
    path = tmp_path / "w.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("block1_conv1/kernel:0", shape=(10**12,), dtype="f4")
    assert path.stat().st_size < 10_000
    table = {KERNEL: (3, 3, 3, 4)}
    word = "has shape (1000000000000,)"
    assert peak_bytes(lambda: refusal_behind_hash(path, word, table=table)) < 1e6


def test_WGT_18_h5_without_a_known_hash_is_refused(tmp_path):
    path = write(tmp_path, "h5", arrays())
    refusal(path, "HDF5", "only with a known SHA-256", "--weights_sha256")


@pytest.mark.parametrize("reference", ["external", "soft", "virtual", "raw", "chunked", "group"])
def test_WGT_18_h5_that_leads_elsewhere_is_refused(tmp_path, reference):
    secret, path = tmp_path / "secret.h5", tmp_path / "w.h5"
    content, shape = arrays(), TABLE[KERNEL]
    kernel = content.pop(KERNEL)
    with h5py.File(secret, "w") as file:
        file["kernel:0"] = kernel
    write_h5(path, content)
    with h5py.File(path, "a") as file:
        layer = file["block1_conv1"]
        if reference == "external":
            layer["kernel:0"] = h5py.ExternalLink(str(secret), "/kernel:0")
        elif reference == "group":
            file["elsewhere"] = h5py.ExternalLink(str(secret), "/")
        elif reference == "soft":
            file["kept"] = kernel
            layer["kernel:0"] = h5py.SoftLink("/kept")
        elif reference == "virtual":
            layout = h5py.VirtualLayout(shape, "f4")
            layout[:] = h5py.VirtualSource(str(secret), "kernel:0", shape)
            layer.create_virtual_dataset("kernel:0", layout)
        elif reference == "raw":
            (tmp_path / "raw").write_bytes(kernel.tobytes())
            layer.create_dataset("kernel:0", shape, "f4", external=str(tmp_path / "raw"))
        else:
            layer.create_dataset("kernel:0", data=kernel, chunks=shape, compression="gzip")
    links = reference in ("external", "soft", "group")
    word = "is a link, which is not followed" if links else "is virtual, external or chunked data"
    refusal_behind_hash(path, word)


def test_WGT_18_h5_group_that_holds_itself_ends(tmp_path):
    path = write(tmp_path, "h5", arrays())
    with h5py.File(path, "a") as file:
        file["block1_conv1/again"] = file["/"]
    assert list(read(path)) == list(TABLE)


def test_WGT_19_whole_models_are_refused_unopened(tmp_path):
    model = {"config.json": "{}", "metadata.json": "{}", "model.weights.h5": b"\x89HDF\r\n\x1a\n"}
    path = zip_of(tmp_path / "m.keras", model)
    refusal(path, "whole .keras model", "can carry code", "give VGG19 weights as .npz")
    folder = tmp_path / "saved"
    folder.mkdir()
    (folder / "saved_model.pb").touch()
    refusal(folder, "TensorFlow SavedModel", "can carry code")


def test_WGT_19_whole_keras_model_in_h5_is_refused(tmp_path):
    path = tmp_path / "m.h5"
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = json.dumps({"class_name": "Lambda"})
        file["model_weights/block1_conv1/block1_conv1/kernel"] = arrays()[KERNEL]
    refusal_behind_hash(path, "whole Keras model", "can carry code")

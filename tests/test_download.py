"""Downloads from a real server on this machine, which behaves and misbehaves."""

import contextlib
import hashlib
import http.server
import os
import socket
import threading
import time

import pytest

from nst_tf.errors import MachineError
from nst_tf.io import download
from tests import command
from tests.command import PALACE, STYLE

DATA = bytes(range(256)) * 4000
MD5 = hashlib.md5(DATA).hexdigest()
INSTEAD = "use --weights=normalised"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked += 1
        what = self.path.rpartition("/")[2]
        if what == "missing.h5":
            self.send_error(404)
            return
        self.send_response(200)
        if what == "short.h5":
            self.send_header("Content-Length", str(len(DATA)))
        self.end_headers()
        if what == "page.h5":
            self.wfile.write(b"<!DOCTYPE html> log in first")
        elif what == "endless.h5":
            while True:
                self.wfile.write(DATA)
        elif what == "stalled.h5":
            self.wfile.write(DATA[:1000])
            self.wfile.flush()
            time.sleep(3)
        elif what == "short.h5":
            self.wfile.write(DATA[:5000])
        else:
            self.wfile.write(DATA)

    def handle(self):
        with contextlib.suppress(OSError):  # the client has had enough
            super().handle()

    def log_message(self, *_):
        pass


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as found:
        found.asked = 0
        found.address = f"http://127.0.0.1:{found.server_port}"
        threading.Thread(target=found.serve_forever, daemon=True).start()
        yield found
        found.shutdown()


def fetch(server, name):
    return download.cached(f"{server.address}/{name}", MD5, 2 * len(DATA), INSTEAD)


def kept(tmp_path):
    folder = tmp_path / "keras" / "models"
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_fetches_once_and_keeps_it(server, tmp_path):
    assert fetch(server, "good.h5") == DATA
    assert fetch(server, "good.h5") == DATA
    assert server.asked == 1
    assert (tmp_path / "keras" / "models" / "good.h5").read_bytes() == DATA


@pytest.mark.parametrize("damaged", [b"", DATA[:-1], b"\0" + DATA[1:], DATA * 3])
def test_WGT_20_what_an_interrupted_download_left_is_fetched_again(server, tmp_path, damaged):
    path = tmp_path / "keras" / "models" / "good.h5"
    path.parent.mkdir(parents=True)
    path.write_bytes(damaged)
    assert fetch(server, "good.h5") == DATA
    assert path.read_bytes() == DATA


def test_WGT_20_temporaries_of_long_ago_are_removed_and_young_ones_are_not(server, tmp_path):
    folder = tmp_path / "keras" / "models"
    fetch(server, "good.h5")
    prefix = f".nst_tf-{hashlib.sha256(b'good.h5').hexdigest()[:12]}-"
    for age, name in ((4000, "old"), (10, "young")):
        (folder / f"{prefix}{name}").write_bytes(DATA[:99])
        os.utime(folder / f"{prefix}{name}", (time.time() - age,) * 2)
    (folder / "good.h5").unlink()
    fetch(server, "good.h5")
    assert kept(tmp_path) == [f"{prefix}young", "good.h5"]


@pytest.mark.parametrize("name", ["page.h5", "short.h5"])
def test_WGT_03_another_file_is_refused_and_not_kept(server, tmp_path, name):
    with pytest.raises(MachineError, match=r"cannot (use what was downloaded|download)") as error:
        fetch(server, name)
    assert error.value.exit_code == 3
    assert INSTEAD in str(error.value)
    assert kept(tmp_path) == []


def test_WGT_21_a_file_that_is_not_there_is_told_with_the_remedy(server):
    with pytest.raises(MachineError, match=r"cannot download the weights .*404.*; use --weights="):
        fetch(server, "missing.h5")


def test_WGT_21_a_server_that_stalls_is_not_waited_for(server, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "_TIMEOUT", 0.5)
    began = time.monotonic()
    with pytest.raises(MachineError, match=r"cannot download the weights .*timed out"):
        fetch(server, "stalled.h5")
    assert time.monotonic() - began < 2.5
    assert kept(tmp_path) == []


def test_WGT_21_a_server_that_dribbles_is_left_after_a_while(server, monkeypatch):
    monkeypatch.setattr(download, "_DEADLINE", -1.0)
    with pytest.raises(MachineError, match="it took more than"):
        fetch(server, "good.h5")


def test_WGT_21_nobody_answers(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}/a.h5"
        with pytest.raises(MachineError, match="refused"):
            download.cached(url, MD5, 100, INSTEAD)


def test_WGT_22_endless_data_is_cut_off(server, tmp_path):
    with pytest.raises(MachineError, match=f"more than the {2 * len(DATA)} bytes allowed"):
        fetch(server, "endless.h5")
    assert kept(tmp_path) == []


def test_WGT_23_a_folder_that_cannot_be_written_is_named_before_anything_is_fetched(
    server, tmp_path, monkeypatch
):
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "file"))
    with pytest.raises(MachineError, match=r"cannot write to the folder \(.*--weights=") as error:
        fetch(server, "good.h5")
    assert error.value.exit_code == 3
    assert server.asked == 0


def test_WGT_24_two_at_once_leave_one_good_file(server, tmp_path):
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(fetch(server, "good.h5"))) for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [DATA] * 6
    assert kept(tmp_path) == ["good.h5"]


def test_WGT_21_without_a_network_the_command_says_what_to_do(tmp_path):
    environment = {**command.environment(), "KERAS_HOME": str(tmp_path / "keras")}
    environment |= {"https_proxy": "http://127.0.0.1:9", "HTTPS_PROXY": "http://127.0.0.1:9"}
    done = command.run(
        f"--content_image={PALACE}", f"--style_image={STYLE}", "--weights=imagenet",
        f"--output_image={tmp_path / 'o.png'}", env=environment,
    )  # fmt: skip
    assert done.returncode == 3
    line = command.error_line(done)
    assert "cannot download the weights (https://storage.googleapis.com/" in line
    assert "use --weights=normalised" in line
    assert not (tmp_path / "o.png").exists()


def test_WGT_23_without_a_home_folder_the_remedy_is_named(monkeypatch):
    monkeypatch.delenv("KERAS_HOME", raising=False)

    def no_home(_):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr("pathlib.Path.expanduser", no_home)
    with pytest.raises(MachineError, match="there is no home folder; set KERAS_HOME, or use --we"):
        download.cached("https://localhost/a.h5", MD5, 100, INSTEAD)

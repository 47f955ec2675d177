"""The web page's server for tests: in this process, or as a command in a process of its own."""

import contextlib
import re
import subprocess
import sys
import time

from starlette.testclient import TestClient

from nst_tf.web.app import make_app
from tests.command import ROOT, environment

TOKEN = "a token for tests"
HOST = "127.0.0.1:8600"
PHOTO = ROOT / "images" / "tubingen.jpg"
PAINTING = "gallery-the_scream"


@contextlib.contextmanager
def local_client(folder):
    """Runs the server in this process; yields a client that has the token."""
    origin = f"http://{HOST}"
    app = make_app(folder, TOKEN)
    with TestClient(
        app, base_url=origin, headers={"Origin": origin}, raise_server_exceptions=False
    ) as client:
        assert client.get("/", params={"token": TOKEN}).status_code == 200
        yield client


def upload(client, data, name="photo.jpg"):
    """Uploads bytes as an image."""
    headers = {"Content-Type": "application/octet-stream", "X-Name": name}
    return client.post("/inputs", content=data, headers=headers)


def ask(client, content, key, styles=(PAINTING,), mask=None, **settings):
    """Asks for a picture."""
    body = {"key": key, "content": content, "styles": list(styles), "mask": mask}
    return client.post("/pictures", json={**body, "settings": settings})


def picture(client, id_):
    """Returns the record of a picture."""
    return next(one for one in client.get("/pictures").json() if one["id"] == id_)


def wait_until(condition, seconds=300):
    """Waits until a condition holds, and returns what it returned."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.2)
    return found


def ended(client, id_):
    """Waits for the end of a picture, and returns its record."""
    return wait_until(
        lambda: (one := picture(client, id_))["state"] not in ("queued", "running") and one
    )


def command(*flags):
    """Returns the words of the command."""
    return [sys.executable, "-m", "nst_tf.web", *map(str, flags)]


@contextlib.contextmanager
def served(folder, *flags):
    """Runs the command on a free port; yields its process and the address that it prints."""
    process = subprocess.Popen(
        command(f"--output_dir={folder}", "--port=0", *flags),
        env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        address = ""
        while not address:
            line = process.stdout.readline()
            assert line, process.stderr.read()
            address = (re.findall(r"http://\S+", line) or [""])[0]
        yield process, address
    finally:
        if process.poll() is None:
            process.terminate()
        process.communicate(timeout=90)

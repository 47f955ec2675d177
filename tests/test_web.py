"""The server of the web page: rows WEB of the catalogue, and what requests give."""

import asyncio
import io
import itertools
import json
import os
import re
import shutil
import socket
import subprocess
import sys

import numpy as np
import psutil
import pytest
from PIL import Image

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

from starlette.exceptions import HTTPException
from starlette.requests import Request

from nst_tf.config import Config
from nst_tf.errors import InputError, MachineError
from nst_tf.io import images
from nst_tf.web import bodies, checks, controls
from nst_tf.web.events import stream
from nst_tf.web.guard import Guard
from nst_tf.web.inputs import Uploads
from nst_tf.web.messages import describe
from nst_tf.web.pictures import Pictures
from tests import command as nst_command
from tests.command import ROOT, environment
from tests.web_server import (
    HOST,
    PAINTING,
    PHOTO,
    TOKEN,
    ask,
    command,
    ended,
    local_client,
    picture,
    served,
    upload,
    wait_until,
)

keys = (f"key {number}" for number in itertools.count())

SMALL = {"image_size": 64, "pyramid": "none", "num_iterations": 3}
LONG = {**SMALL, "num_iterations": 1000}


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    with local_client(tmp_path_factory.mktemp("web")) as client:
        yield client


@pytest.fixture
def server(client):
    return client.app.state.server


@pytest.fixture(scope="module")
def photo(client):
    """The identifier of a photo that was taken at a place that its Exif tells."""
    exif = Image.Exif()
    exif.get_ifd(0x8825)[2] = (48.0, 31.0, 12.0)  # GPSLatitude
    exif[0x013B] = "somebody"
    file = io.BytesIO()
    with Image.open(PHOTO) as image:
        image.save(file, "JPEG", exif=exif)
    assert b"somebody" in file.getvalue()
    return upload(client, file.getvalue()).json()["id"]


@pytest.fixture(scope="module")
def made(client, photo):
    """A finished picture."""
    answer = ask(client, photo, next(keys), **SMALL)
    assert answer.status_code == 201, answer.text
    one = ended(client, answer.json()["id"])
    assert one["state"] == "finished", one
    return one


def one_line(answer):
    """Returns the text of a refusal, which is one line."""
    assert answer.headers["content-type"].startswith("text/plain")
    line = answer.text.removesuffix("\n")
    assert line.isprintable()
    assert "/" + "tmp" not in line and str(ROOT) not in line and "Traceback" not in line
    return line


def png(width, height):
    file = io.BytesIO()
    Image.new("RGB", (width, height), (90, 90, 90)).save(file, "PNG")
    return file.getvalue()


# --- addresses and files


@pytest.mark.parametrize(
    "path",
    [
        "../../etc/passwd", "%2e%2e%2f%2e%2e%2fetc%2fpasswd", "..%5C..%5Cwin.ini", "//etc/passwd",
        "%00", "/etc/passwd", "C:%5Cwin.ini", "CON", "page.js::$DATA", "%2e%2e",
    ],
)  # fmt: skip
def test_WEB_01_no_address_leads_to_another_file(client, path):
    for before, after in (
        ("/static/", ""), ("/inputs/", ""), ("/pictures/", "/image"), ("/pictures/", "/download"),
    ):  # fmt: skip
        answer = client.get(f"{before}{path}{after}")
        assert answer.status_code == 404, answer.url
        assert one_line(answer) == "there is no such thing here"


def test_WEB_01_identifiers_are_random(made, photo):
    assert all(re.fullmatch("[0-9a-f]{32}", id_) for id_ in (made["id"], photo))


def test_WEB_02_links_are_not_followed(client, server, made, tmp_path):
    secret = tmp_path / "secret.png"
    secret.write_bytes(png(8, 8))
    one = server.pictures.get(made["id"])
    result = server.pictures.result(one)
    kept = result.read_bytes()
    result.unlink()
    result.symlink_to(secret)
    latest = server.pictures.latest(one)
    latest.unlink()
    latest.symlink_to(secret)
    latest.with_name("first.png").unlink()
    try:
        for name in ("image", "thumbnail", "download"):
            assert client.get(f"/pictures/{one.id}/{name}").status_code == 404
    finally:
        result.unlink()
        result.write_bytes(kept)
    assert client.get(f"/pictures/{one.id}/image").content == kept
    folder = result.parent.parent
    linked = folder / ("0" * 32)
    linked.symlink_to(result.parent)
    assert [found.id for found in Pictures(folder).all()].count(one.id) == 1
    linked.unlink()


# --- uploads


def receive(*pieces, delay=0.0):
    """Returns a request whose body comes in pieces, and the list of those that were read."""
    read = []

    async def next_piece():
        await asyncio.sleep(delay)
        read.append(len(read))
        body = pieces[(len(read) - 1) % len(pieces)]
        return {"type": "http.request", "body": body, "more_body": True}  # without an end

    return Request({"type": "http", "method": "POST", "headers": []}, next_piece), read


def test_WEB_03_large_and_slow_uploads_end_while_they_are_read(client, server, monkeypatch):
    def count():
        return len(list(server.uploads))

    before = count()
    declared = client.post(
        "/inputs", content=b"",
        headers={"Content-Type": "application/octet-stream", "Content-Length": str(2**30)},
    )  # fmt: skip
    assert declared.status_code == 413
    assert one_line(declared) == "at most 32 MB can be sent"
    request, read = receive(bytes(2**20))
    with pytest.raises(HTTPException) as refusal:
        asyncio.run(bodies.read_body(request, bodies.MAX_UPLOAD))
    assert refusal.value.status_code == 413
    assert len(read) == 33
    monkeypatch.setattr(bodies, "_BODY_SECONDS", 0.1)
    request, read = receive(b"x", delay=0.04)
    with pytest.raises(HTTPException) as refusal:
        asyncio.run(bodies.read_body(request, bodies.MAX_UPLOAD))
    assert refusal.value.status_code == 408
    assert len(read) < 4
    assert count() == before


def test_WEB_04_multipart_and_giant_headers_are_refused(client, running):
    parts = b"".join(
        b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n\r\n' for _ in range(10_000)
    )
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    assert client.post("/inputs", content=parts, headers=headers).status_code == 415
    assert client.post("/pictures", content=parts, headers=headers).status_code == 413
    host, port, _ = running
    with socket.create_connection((host, port), 10) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 200_000)
        assert connection.recv(100).startswith(b"HTTP/1.1 400")


@pytest.mark.parametrize("kind", ["text", "cut", "bomb", "empty"])
def test_WEB_05_what_is_no_image_is_refused_with_the_text_of_the_command(client, tmp_path, kind):
    data = {
        "text": b"a failed download",
        "cut": PHOTO.read_bytes()[:9000],
        "bomb": png(1, 1).replace(b"\x00\x00\x00\x01\x00\x00\x00\x01", b"\x00\x00\xea\x60" * 2),
        "empty": b"",
    }[kind]
    answer = upload(client, data, "holiday.jpg")
    assert answer.status_code == 400
    path = tmp_path / "holiday.jpg"
    path.write_bytes(data)
    with pytest.raises(InputError) as refusal:
        images.read(path, checks.MAX_PIXELS)
    assert one_line(answer) == describe(refusal.value)
    assert client.get("/about").status_code == 200


def test_a_plan_does_not_depend_on_the_settings_of_keras(tmp_path, monkeypatch):
    """As the process that makes the picture does not."""
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    config = Config(content_image=PHOTO, style_image=PHOTO, output_image=tmp_path / "x.png")
    assert checks.plan_job(config).width == config.image_size


@pytest.mark.skipif(os.name != "posix", reason="there are no limits of memory here")
def test_WEB_05_memory_is_limited_while_an_upload_is_decoded(client, server, monkeypatch):
    monkeypatch.setattr(checks, "_MEMORY_BYTES", 2**29)
    answer = upload(client, png(7000, 7000))
    assert answer.status_code == 400
    assert "takes too much memory or time" in one_line(answer)
    assert not list((server.pictures._folder.parent / "uploads").glob(".nst_tf-*"))


def test_WEB_06_nothing_that_was_uploaded_is_served(client):
    for data in (
        b'<svg xmlns="http://www.w3.org/2000/svg"/>',
        b"<!doctype html><script>1</script>",
    ):
        assert upload(client, data, "a.svg").status_code == 400
    answer = upload(client, PHOTO.read_bytes() + b"<script>alert(1)</script>")
    shown = client.get(f"/inputs/{answer.json()['id']}")
    assert shown.content.startswith(b"\xff\xd8") and b"<script>" not in shown.content
    assert shown.headers["content-type"] == "image/jpeg"
    assert shown.headers["x-content-type-options"] == "nosniff"
    for path in ("/", "/static/page.js", "/nowhere"):
        policy = client.get(path).headers["content-security-policy"]
        assert policy.startswith("default-src 'self';") and "unsafe" not in policy


def test_WEB_07_names_are_text_and_no_file_has_them(client, server):
    name = "..%2F%3Cscript%3Ealert(1)%3C%2Fscript%3E%0Ax.jpg"
    answer = upload(client, PHOTO.read_bytes(), name)
    assert answer.json()["name"] == "script>x.jpg"
    assert upload(client, png(40, 30), "%3Cb%3E%0A1.png").json()["name"] == "<b>1.png"
    folder = server.pictures._folder.parent
    names = [path.name for path in folder.rglob("*")]
    assert names and not any("script" in name or "<b>" in name for name in names)
    scripts = "".join(path.read_text() for path in (ROOT / "nst_tf/web/static").glob("*.js"))
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", scripts)


# --- who may ask


@pytest.mark.parametrize(
    "origin", [None, "null", "http://evil.example", f"https://{HOST}", "http://127.0.0.1:9999"]
)
def test_WEB_08_other_pages_change_nothing(client, origin):
    headers = {"Origin": origin} if origin else {}
    client.headers.pop("Origin")
    try:
        for method, path in (("POST", "/pictures"), ("POST", "/inputs"), ("DELETE", "/pictures/a")):
            answer = client.request(method, path, headers=headers)
            assert answer.status_code == 403
            assert one_line(answer) == "The request comes from another page."
    finally:
        client.headers["Origin"] = f"http://{HOST}"


def test_WEB_08_nothing_is_told_without_the_token(client):
    cookies = dict(client.cookies)
    client.cookies.clear()
    try:
        for path in ("/", "/about", "/pictures", "/events", "/static/page.js", "/?token=wrong"):
            assert client.get(path, follow_redirects=False).status_code == 403
        assert client.post("/pictures", json={}).status_code == 403
        answer = client.get("/", params={"token": TOKEN}, follow_redirects=False)
        assert (answer.status_code, answer.headers["location"]) == (303, "/")
        assert re.search("HttpOnly.*SameSite=strict", answer.headers["set-cookie"])
    finally:
        client.cookies.update(cookies)


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8600", "127.0.0.1.evil.example", ""]
)
def test_WEB_09_other_names_of_this_machine_are_refused(client, host):
    answer = client.get("/about", headers={"Host": host})
    assert answer.status_code == 403
    assert one_line(answer) == "This server does not have that name."


def test_WEB_09_the_network_is_reached_by_numbers():
    for public, host, known in (
        (False, "localhost:1", True), (False, "[::1]:8600", True), (False, "192.168.1.5:1", False),
        (True, "192.168.1.5:1", True), (True, "[fe80::1]:1", True), (True, "evil.example", False),
    ):  # fmt: skip
        guard = Guard(None, TOKEN, is_public=public)
        assert guard._is_known(host) is known, host


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """Host, port and folder of the command, which runs without the token being known."""
    folder = tmp_path_factory.mktemp("served")
    with served(folder) as (_, address):
        host, port = re.findall(r"http://([\d.]+):(\d+)/\?token=\S{40,}", address)[0]
        yield host, int(port), folder


def test_WEB_10_only_this_machine_reaches_the_page_unless_that_is_allowed(running, tmp_path):
    assert running[0] == "127.0.0.1"
    listening = [
        found.laddr.ip
        for found in psutil.net_connections("tcp")
        if found.status == psutil.CONN_LISTEN and found.laddr.port == running[1]
    ]
    assert listening == ["127.0.0.1"]
    words = command("--host=0.0.0.0", f"--output_dir={tmp_path / 'web'}")
    done = subprocess.run(words, env=environment(), capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "--allow_network" in nst_command.error_line(done)
    assert not (tmp_path / "web").exists()
    with served(tmp_path / "web", "--host=0.0.0.0", "--allow_network") as (process, address):
        assert "token=" in address
        process.terminate()
        _, errors = process.communicate(timeout=60)
    assert errors.startswith("nst_tf: warning: other machines can reach 0.0.0.0:")
    assert process.returncode == 143


def test_WEB_11_nothing_is_loaded_from_an_address(client):
    for address in ("http://127.0.0.1:1/a.png", "file:///etc/passwd"):
        answer = ask(client, address, next(keys))
        assert answer.status_code == 400
        assert one_line(answer).startswith("there is no such image")
    code = (
        "import sys, nst_tf.web.app, nst_tf.web.server\n"
        "print({'httpx2', 'httpx', 'requests', 'tensorflow'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True)
    assert done.stdout.strip() == b"set()"
    sources = "".join(path.read_text() for path in (ROOT / "nst_tf/web").glob("*.py"))
    assert not re.search(r"urlopen|urllib\.request|http\.client|open_connection", sources)
    page = (ROOT / "nst_tf/web/static/index.html").read_text()
    assert re.findall(r'(?:src|href)="([^"]*)"', page)
    assert not re.search(r'(?:src|href)="(?:https?:)?//', page)


# --- settings


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"weights": "/etc/passwd"}, "the page has no setting 'weights'"),
        ({"output_image": "x.png"}, "the page has no setting 'output_image'"),
        ({"init": "/etc/passwd"}, "the page takes keywords and no files"),
        ({"strenght": 1}, "did you mean 'strength'?"),
        ({"seed": [1]}, "it is no text and no number"),
        ({"pyramid": "9" * 300}, "it has 300 characters"),
    ],
)
def test_WEB_12_files_and_unknown_settings_are_refused(client, photo, settings, text):
    answer = ask(client, photo, next(keys), **settings)
    assert answer.status_code == 400
    assert text in one_line(answer)


@pytest.mark.parametrize(
    "settings",
    [{"strength": 3}, {"style_weight": "much"}, {"pooling": "min"}, {"seed": -1}, {"padding": 1}],
)
def test_WEB_12_values_are_refused_in_the_words_of_the_command(client, photo, settings):
    with pytest.raises(InputError) as refusal:
        Config.from_mapping(settings)
    answer = ask(client, photo, next(keys), **settings)
    assert (answer.status_code, one_line(answer)) == (400, describe(refusal.value))


def test_WEB_12_configurations_are_no_images(client):
    assert upload(client, b"image_size: 64\n", "a.yaml").status_code == 400


def test_the_form_is_that_of_the_settings(client):
    about = client.get("/about").json()
    offered = {control["name"]: control for control in about["controls"]}
    assert set(offered) <= set(Config.model_fields)
    assert offered["preset"]["choices"] == ["draft", "default", "fine"]
    assert (offered["strength"]["low"], offered["strength"]["high"]) == (0, 2)
    assert {image["id"] for image in about["gallery"]} >= {PAINTING}
    defaults = {name: control["default"] for name, control in offered.items()}
    defaults = {name: value for name, value in defaults.items() if value != ""}
    assert controls.configure(controls.check(defaults)).image_size == 512


# --- the queue


def test_WEB_13_15_a_queue_has_four_places_and_a_request_counts_once(client, photo):
    running = ask(client, photo, next(keys), **LONG).json()["id"]
    wait_until(lambda: picture(client, running)["state"] == "running")
    key = next(keys)
    first = ask(client, photo, key, **SMALL)
    again = ask(client, photo, key, **SMALL)
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json()["id"] == again.json()["id"]
    waiting = [first.json()["id"]]
    waiting += [ask(client, photo, next(keys), **SMALL).json()["id"] for _ in range(3)]
    refused = ask(client, photo, next(keys), **SMALL)
    assert refused.status_code == 429
    assert one_line(refused) == "the queue is full; wait until a picture is finished"
    assert client.delete(f"/pictures/{waiting[0]}").status_code == 409
    for id_ in waiting:
        assert client.post(f"/pictures/{id_}/stop").status_code == 204
        assert picture(client, id_)["state"] == "stopped"
        assert client.delete(f"/pictures/{id_}").status_code == 204
    wait_until(lambda: client.get(f"/pictures/{running}/losses").json())
    client.post(f"/pictures/{running}/stop")
    one = ended(client, running)
    assert (one["state"], one["message"]) == ("stopped", "")
    assert 0 < one["iterations"] < 1000
    saved = client.get(f"/pictures/{running}/download").content
    assert Image.open(io.BytesIO(saved)).size == (64, 20)
    losses = client.get(f"/pictures/{running}/losses").json()
    assert losses[-1][1] < losses[0][1]


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"image_size": 4096}, "image_size cannot be 4096: here, it is from 64 to 2048"),
        ({"image_size": "content"}, "image_size cannot be 'content'"),
        ({"num_iterations": 10**6}, "num_iterations cannot be 1000000"),
        ({"pyramid": "128:80,9000:1"}, "a size in it is from 64 to 2048"),
        ({"pyramid": "128:99999"}, "its number of iterations is from 0 to 1000"),
        ({"style_scale": 20}, "style_scale cannot be 20.0"),
    ],
)
def test_WEB_14_the_page_allows_less_than_the_command(client, photo, settings, text):
    answer = ask(client, photo, next(keys), **settings)
    assert answer.status_code == 400
    assert text in one_line(answer)


def test_WEB_14_memory_is_estimated_before_a_picture_begins(client, server, photo, monkeypatch):
    monkeypatch.setattr(checks, "_memory_of_children", lambda: -(2**45))
    before = [one.id for one in server.pictures.all()]
    answer = ask(client, photo, next(keys), **SMALL)
    assert answer.status_code == 503
    assert one_line(answer).startswith("the memory does not suffice: a run at this size needs")
    assert [one.id for one in server.pictures.all()] == before
    assert sorted(path.name for path in server.pictures._folder.iterdir()) == sorted(before)


def is_worker(process):
    try:
        return "nst_tf.jobs.worker" in process.cmdline()
    except psutil.Error:
        return False


@pytest.mark.slow
def test_WEB_15_17_a_picture_goes_on_when_the_server_is_started_again(tmp_path):
    folder = tmp_path / "web"
    with local_client(folder) as client:
        photo = upload(client, PHOTO.read_bytes()).json()["id"]
        unused = upload(client, png(40, 30)).json()["id"]
        id_ = ask(client, photo, "key", **LONG).json()["id"]
        wait_until(lambda: len(client.get(f"/pictures/{id_}/losses").json()) > 3)
        assert any(map(is_worker, psutil.Process().children()))
    done = json.loads((folder / "pictures" / id_ / "picture.png.run/run.json").read_text())
    damaged = folder / "pictures" / ("1" * 32)
    damaged.mkdir()
    (damaged / "picture.json").write_text('{"id": "1111')
    with local_client(folder) as client:
        assert [one["id"] for one in client.get("/pictures").json()] == [id_]
        assert client.get(f"/inputs/{photo}").status_code == 200
        assert client.get(f"/inputs/{unused}").status_code == 404
        assert list((folder / "uploads").iterdir()) == []
        more = done["iterations"] + 2
        wait_until(lambda: len(client.get(f"/pictures/{id_}/losses").json()) > more)
        client.post(f"/pictures/{id_}/stop")
        one = ended(client, id_)
        assert one["state"] == "stopped" and one["iterations"] > done["iterations"]
        losses = client.get(f"/pictures/{id_}/losses").json()
        assert [number for number, _ in losses] == list(range(1, len(losses) + 1))


def test_WEB_17_what_is_damaged_or_unused_does_not_outlast_the_server(client, made, tmp_path):
    source = client.app.state.server.pictures.result(
        client.app.state.server.pictures.get(made["id"])
    ).parent
    pictures = tmp_path / "pictures"
    shutil.copytree(source, pictures / made["id"])
    shutil.copytree(source, pictures / ("2" * 32))  # whose record is of another one
    for name, text in (("1" * 32, '{"id": "1111'), ("3" * 32, "{}"), ("4" * 32, "")):
        (pictures / name).mkdir()
        (pictures / name / "picture.json").write_text(text)
    (tmp_path / "uploads").mkdir()
    for name in ("5" * 32, "5" * 32 + ".jpeg", "5" * 32 + ".preview.jpg", "my own.jpg"):
        (tmp_path / "uploads" / name).touch()
    assert [one.id for one in Pictures(pictures).all()] == [made["id"]]
    assert list(Uploads(tmp_path / "uploads")) == []
    assert [path.name for path in (tmp_path / "uploads").iterdir()] == ["my own.jpg"]


@pytest.mark.parametrize("flag", ["port", "output_dir"])
def test_WEB_16_a_port_or_a_folder_in_use_is_named(running, tmp_path, flag):
    flags = {"port": running[1], "output_dir": tmp_path / "web"}
    if flag == "output_dir":
        flags = {"port": 0, "output_dir": running[2]}
    words = command(*(f"--{name}={value}" for name, value in flags.items()))
    done = subprocess.run(words, env=environment(), capture_output=True, text=True, timeout=60)
    assert done.returncode == 3
    assert re.search(rf"choose another (one with )?--{flag}$", nst_command.error_line(done))


def test_WEB_18_uploads_have_a_quota(client, server, monkeypatch):
    monkeypatch.setattr(server.uploads, "_quota", 1000)
    answer = upload(client, PHOTO.read_bytes())
    assert answer.status_code == 507
    assert "the folder for uploads is full" in one_line(answer)


def test_WEB_18_a_full_disk_is_told(client, monkeypatch):
    def fail(*arguments):
        raise MachineError("cannot write the file", "No space left on device", "free some space")

    monkeypatch.setattr("nst_tf.web.inputs.files.atomic_write", fail)
    answer = upload(client, PHOTO.read_bytes())
    assert (answer.status_code, one_line(answer).split(";")[0]) == (
        507, "cannot write the file: No space left on device"
    )  # fmt: skip


@pytest.mark.parametrize("id_", ["..", "%2e%2e", "uploads", "0" * 32, "%2Fetc", PAINTING])
def test_WEB_19_only_pictures_can_be_removed(client, server, made, id_):
    folder = server.pictures._folder.parent
    before = sorted(folder.rglob("*"))
    assert client.delete(f"/pictures/{id_}").status_code in (404, 405)
    assert sorted(folder.rglob("*")) == before


def test_WEB_20_a_defect_is_told_in_one_line(client, server, made, monkeypatch):
    def fail(picture):
        raise RuntimeError(f"secret in {ROOT}")

    monkeypatch.setattr(server.pictures, "image", fail)
    answer = client.get(f"/pictures/{made['id']}/image")
    assert answer.status_code == 500
    assert one_line(answer) == (
        "internal error: RuntimeError; the terminal of the server tells more"
    )


def test_WEB_20_messages_have_neither_paths_nor_flags():
    error = MachineError(
        "the disk is full", "no room in /srv/me/x/a.png", "try --image_size=64", where="/srv/me"
    )
    assert describe(error) == "the disk is full (me): no room in a.png; try image_size=64"


def test_WEB_21_where_a_photo_was_taken_is_told_nowhere(client, made):
    shown = [client.get(f"/inputs/{made['content']['id']}").content]
    for format_ in client.get("/about").json()["formats"]:
        answer = client.get(f"/pictures/{made['id']}/download", params={"format": format_})
        assert answer.status_code == 200, answer.text
        shown.append(answer.content)
    for data in shown:
        assert b"somebody" not in data
        assert not Image.open(io.BytesIO(data)).getexif().get_ifd(0x8825)


# --- results


def test_a_picture_is_that_of_the_command_byte_for_byte(client, server, made, tmp_path):
    folder = server.pictures.result(server.pictures.get(made["id"])).parent
    for name in ("content.jpeg", "style-1.jpg"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    flags = [f"--{name}={value}" for name, value in SMALL.items()]
    done = nst_command.run("content.jpeg", "style-1.jpg", "-o", "picture.jpg", *flags, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    answer = client.get(f"/pictures/{made['id']}/download", params={"format": "jpg"})
    assert answer.content == (tmp_path / "picture.jpg").read_bytes()
    assert 'filename="photo_The-Scream.jpg"' in answer.headers["content-disposition"]


@pytest.mark.slow
def test_a_picture_goes_on_becomes_larger_and_is_removed(client, made):
    before = client.get(f"/pictures/{made['id']}/image").content
    client.post(f"/pictures/{made['id']}/continue", json={"iterations": 2})
    more = ended(client, made["id"])
    assert (more["state"], more["iterations"]) == ("finished", made["iterations"] + 2)
    assert more["loss"] < made["loss"]
    after = client.get(f"/pictures/{made['id']}/image").content
    assert after != before
    key = next(keys)
    larger = client.post(f"/pictures/{made['id']}/larger", json={"key": key}).json()
    assert (larger["width"], larger["height"]) == (128, 40)
    wait_until(lambda: client.get(f"/pictures/{larger['id']}/losses").json())
    client.post(f"/pictures/{larger['id']}/stop")
    assert ended(client, larger["id"])["state"] == "stopped"
    assert client.get(f"/pictures/{larger['id']}/thumbnail").status_code == 200
    assert client.delete(f"/pictures/{larger['id']}").status_code == 204
    assert client.get(f"/pictures/{larger['id']}/image").status_code == 404


@pytest.mark.slow
def test_a_region_keeps_the_photo_elsewhere(client):
    photo = upload(client, png(96, 64)).json()["id"]
    mask = np.zeros((64, 96), np.uint8)
    mask[:, 48:] = 255
    file = io.BytesIO()
    Image.fromarray(mask).save(file, "PNG")
    region = upload(client, file.getvalue(), "region.png").json()["id"]
    id_ = ask(client, photo, next(keys), mask=region, **{**SMALL, "image_size": 96}).json()["id"]
    one = ended(client, id_)
    assert one["state"] == "finished" and one["mask"]["id"] == region
    pixels = np.asarray(Image.open(io.BytesIO(client.get(f"/pictures/{id_}/image").content)))
    changed = np.abs(pixels.astype(int) - 90).mean(axis=(0, 2))
    assert changed[:24].max() < 12 < changed[72:].mean()
    assert client.delete(f"/pictures/{id_}").status_code == 204
    assert client.get(f"/inputs/{photo}").status_code == 200  # to make another one of it


def test_events_tell_pictures_and_progress(client, photo):
    id_ = ask(client, photo, next(keys), **LONG).json()["id"]
    server = client.app.state.server
    seen = []

    async def is_ended():
        return False

    async def follow():
        async for text in stream(server.scheduler, server.pictures, is_ended):
            name, data = re.fullmatch(r"event: (\w+)\ndata: (.*)\n\n", text).groups()
            seen.append((name, json.loads(data)))
            if name == "progress" and seen[-1][1]["iteration"] > 3:
                server.scheduler.stop(id_)
            if name == "pictures" and seen[-1][1][-1]["state"] == "stopped":
                return

    asyncio.run(asyncio.wait_for(follow(), 100))
    progress = [data for name, data in seen if name == "progress" and data["id"] == id_]
    assert {one["phase"] for one in progress} >= {"optimizing"}
    assert 3 < progress[-1]["iteration"] < 1000 and progress[-1]["frame"] > 0
    numbers = [number for one in progress for number, _ in one["losses"]]
    assert numbers == list(range(1, progress[-1]["iteration"] + 1))
    assert seen[-1][1][-1]["id"] == id_


def test_uploads_begin_in_an_empty_folder_and_follow_no_link(tmp_path):
    target = tmp_path / "precious"
    target.mkdir()
    (target / "file").touch()
    (tmp_path / "uploads").symlink_to(target)
    with pytest.raises(MachineError, match="symbolic link"):
        Uploads(tmp_path / "uploads")
    assert (target / "file").exists()


def test_WEB_15_a_picture_whose_process_is_killed_fails(client, photo):
    id_ = ask(client, photo, next(keys), **LONG).json()["id"]
    wait_until(lambda: len(client.get(f"/pictures/{id_}/losses").json()) > 2)
    worker = next(child for child in psutil.Process().children() if is_worker(child))
    worker.kill()
    one = ended(client, id_)
    assert one["state"] == "failed"
    assert "killed" in one["message"] and "--" not in one["message"]
    assert client.get(f"/pictures/{id_}/image").content.startswith(b"\x89PNG")
    assert client.get("/about").status_code == 200
    assert not worker.is_running()

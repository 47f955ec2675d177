"""The application: the page, and what it asks the server for."""

import asyncio
import contextlib
import functools
import io
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any, cast
from urllib.parse import unquote

from PIL import Image
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import (
    FileResponse,
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
    StreamingResponse,
)
from starlette.routing import Route

from nst_tf.config.schema import PRESETS
from nst_tf.errors import InputError, MachineError, NstError, printable
from nst_tf.web import checks, controls, events
from nst_tf.web.bodies import MAX_NAME, MAX_UPLOAD, printable_name, read_body, read_json
from nst_tf.web.guard import Guard, cookie_name, is_same
from nst_tf.web.inputs import Input, Uploads, missing, read_gallery
from nst_tf.web.messages import describe
from nst_tf.web.pictures import FORMATS, Picture, Pictures
from nst_tf.web.scheduler import Scheduler

_MAX_STYLES = 8
_THUMBNAIL_SIDE = 240

_PAGE = "index.html"
_STATIC = {path.name: path for path in (Path(__file__).parent / "static").iterdir()}
"""The files of the page by their names."""

_LARGER = ("preset", "pyramid", "init", "num_iterations", "image_size", "style_strength")
"""Settings of a picture that its larger version has values of its own for."""

_LARGER_WORK = 20 * 1024
"""Iterations of a larger version times its size: it has little to add but fine detail."""

_TYPES: Mapping[str, str] = {
    "png": "image/png", "jpg": "image/jpeg", "webp": "image/webp", "tiff": "image/tiff",
    "avif": "image/avif",
}  # fmt: skip


class Server:
    """What the requests work on.

    Args:
        folder: Where pictures and uploads are.
        token: The secret that the address of the page contains.

    Attributes:
        pictures: All pictures.
        uploads: Images that no picture uses yet.
        scheduler: The queue.
        is_closing: Whether streams of events are to end.
    """

    def __init__(self, folder: Path, token: str) -> None:
        self.pictures = Pictures(folder / "pictures")
        self.uploads = Uploads(folder / "uploads")
        self.scheduler = Scheduler(self.pictures)
        self.is_closing = False
        self._token = token
        self._gallery = read_gallery()
        self._submitting = asyncio.Lock()  # one after the other, so that one key makes one picture

    @contextlib.asynccontextmanager
    async def lifespan(self, app: Starlette) -> AsyncIterator[None]:
        """Makes pictures as long as the server runs."""
        self.scheduler.start()
        try:
            yield
        finally:
            self.is_closing = True
            await run_in_threadpool(self.scheduler.close)

    async def page(self, request: Request) -> Response:
        """Returns the page; an address with the token leaves it in a cookie."""
        if (token := request.query_params.get("token")) is not None:
            if not is_same(token, self._token):
                raise HTTPException(403, "this is not the token of this server")
            response = RedirectResponse("/", 303)
            name = cookie_name(request.headers.get("host", ""))
            response.set_cookie(name, token, httponly=True, samesite="strict")
            return response
        return FileResponse(_STATIC[_PAGE])

    async def static(self, request: Request) -> Response:
        """Returns a file of the page."""
        path = _STATIC.get(request.path_params["name"])
        if path is None:
            raise HTTPException(404)
        return FileResponse(path)

    async def about(self, request: Request) -> Response:
        """Returns what the page offers: settings, presets, formats and the gallery."""
        return JSONResponse(
            {
                "controls": [control._asdict() for control in controls.describe()],
                "presets": {name: dict(meaning) for name, meaning in PRESETS.items()},
                "formats": FORMATS,
                "gallery": [
                    {"id": image.id, "name": image.name, "credit": image.credit}
                    for image in self._gallery.values()
                ],
            }
        )

    async def upload(self, request: Request) -> Response:
        """Takes an image, which is the body of the request; its name is in a header."""
        if request.headers.get("content-type") != "application/octet-stream":
            raise HTTPException(415, "an image is sent as the body of the request, by itself")
        name = printable_name(unquote(request.headers.get("x-name", "")))
        pieces = await read_body(request, MAX_UPLOAD)
        try:
            image, facts = await run_in_threadpool(self.uploads.add, pieces, name)
        except MachineError as error:
            raise HTTPException(507, describe(error)) from error
        answer = {"id": image.id, "name": name, "width": facts.width, "height": facts.height}
        return JSONResponse(answer, 201)

    async def input_image(self, request: Request) -> Response:
        """Returns a small JPEG of an image that pictures are made from."""
        image = self._find(request.path_params["id"])
        if image is None:
            raise HTTPException(404)
        return Response(image.preview.read_bytes(), media_type="image/jpeg")

    def _find(self, id_: object) -> Input | None:
        if not isinstance(id_, str):
            return None
        known = self.uploads.get(id_) or self._gallery.get(id_)
        return known or self.pictures.find_input(id_)

    def _required(self, id_: object) -> Input:
        if (image := self._find(id_)) is None:
            raise missing(id_)
        return image

    async def list_pictures(self, request: Request) -> Response:
        """Returns the records of all pictures."""
        return JSONResponse(self.pictures.as_plain())

    async def create(self, request: Request) -> Response:
        """Checks a new picture and appends it to the queue."""
        asked = await read_json(request)

        def make(key: str) -> Picture:
            styles = asked.get("styles")
            if not isinstance(styles, list) or not 0 < len(styles) <= _MAX_STYLES:
                raise InputError(
                    "the styles cannot be used",
                    f"there are {len(styles)}" if isinstance(styles, list) else "it is no list",
                    f"choose 1 to {_MAX_STYLES} style images",
                )
            settings = controls.check(asked.get("settings", {}))
            controls.configure(settings)
            mask = asked.get("mask")
            return self.pictures.create(
                key,
                settings,
                self._required(asked.get("content")),
                [self._required(style) for style in styles],
                None if mask is None else self._required(mask),
            )

        return await self._submit(asked, make)

    async def enlarge(self, request: Request) -> Response:
        """Appends the same picture in twice the size to the queue; it starts from the smaller."""
        picture = self._picture(request)
        asked = await read_json(request)

        def make(key: str) -> Picture:
            source = self.pictures.result(picture)
            if picture.is_active or not source.exists():
                raise HTTPException(409, "the picture is not finished yet; wait for it")
            size = 2 * self.pictures.config(picture).longer_side((1, 1))
            settings = {
                **{name: value for name, value in picture.settings.items() if name not in _LARGER},
                "image_size": size,
                "pyramid": "none",
                "num_iterations": max(1, round(_LARGER_WORK / size)),
            }
            controls.configure(settings)
            content, *styles = (self._required(p.id) for p in (picture.content, *picture.styles))
            mask = self._required(picture.mask.id) if picture.mask else None
            return self.pictures.create(key, settings, content, styles, mask, source)

        return await self._submit(asked, make)

    async def _submit(self, asked: Mapping[str, Any], make: Callable[[str], Picture]) -> Response:
        key = asked.get("key")
        if not isinstance(key, str) or not 0 < len(key) <= MAX_NAME:
            raise HTTPException(400, "the request has no key; reload the page")
        async with self._submitting:
            if (known := self.pictures.with_key(key)) is not None:
                return JSONResponse(known.model_dump(mode="json"))
            if self.scheduler.is_full:
                raise HTTPException(429, "the queue is full; wait until a picture is finished")
            picture = await run_in_threadpool(make, key)
            try:
                facts = await run_in_threadpool(self._plan, picture)
                picture = self.pictures.save(
                    picture.model_copy(update={"width": facts.width, "height": facts.height})
                )
            except BaseException:
                self.pictures.remove(picture.id)
                raise
            for part in picture.parts:
                self.uploads.discard(part.id)
            self.scheduler.add(picture.id)
        return JSONResponse(picture.model_dump(mode="json"), 201)

    def _plan(self, picture: Picture) -> checks.PlanFacts:
        return checks.plan_job(self.pictures.config(picture))

    def _picture(self, request: Request) -> Picture:
        picture = self.pictures.get(request.path_params["id"])
        if picture is None:
            raise HTTPException(404)
        return picture

    async def stop(self, request: Request) -> Response:
        """Ends a picture with the best image so far."""
        self.scheduler.stop(self._picture(request).id)
        return Response(status_code=204)

    async def go_on(self, request: Request) -> Response:
        """Appends a picture to the queue once more, with more iterations where asked for."""
        picture = self._picture(request)
        more = (await read_json(request)).get("iterations", 0)
        if not isinstance(more, int) or more < 0:
            raise HTTPException(400, "iterations is a whole number, 0 or more")
        async with self._submitting:
            picture = self._picture(request)
            if picture.is_active:
                raise HTTPException(409, "the picture is being made")
            if self.scheduler.is_full:
                raise HTTPException(429, "the queue is full; wait until a picture is finished")
            settings = dict(picture.settings)
            if more:
                settings["num_iterations"] = self.pictures.config(picture).num_iterations + more
                controls.configure(settings)
            self.pictures.change(picture.id, settings=settings, state="queued", message="")
            self.scheduler.add(picture.id)
        return Response(status_code=204)

    async def delete(self, request: Request) -> Response:
        """Removes a picture; the images that it was made from can be used until the server ends."""
        picture = self._picture(request)
        if picture.is_active:
            raise HTTPException(409, "the picture is being made; stop it first")
        await run_in_threadpool(self._delete, picture)
        return Response(status_code=204)

    def _delete(self, picture: Picture) -> None:
        for part in (picture.content, *picture.styles):
            image = self.pictures.find_input(part.id)
            if image is not None and self._find(part.id) == image:  # nobody else has it
                self.uploads.take_back(image)
        self.pictures.remove(picture.id)

    async def image(self, request: Request) -> Response:
        """Returns the best image there is of a picture."""
        data = await run_in_threadpool(self.pictures.image, self._picture(request))
        if data is None:
            raise HTTPException(404)
        return Response(data, media_type="image/png")

    async def thumbnail(self, request: Request) -> Response:
        """Returns a small JPEG of a picture."""
        data = await run_in_threadpool(self.pictures.image, self._picture(request))
        if data is None:
            raise HTTPException(404)
        return Response(await run_in_threadpool(_reduced, data), media_type="image/jpeg")

    async def losses(self, request: Request) -> Response:
        """Returns the loss of each iteration of a picture."""
        losses = await run_in_threadpool(self.pictures.losses, self._picture(request))
        return JSONResponse(losses)

    async def download(self, request: Request) -> Response:
        """Returns the saved image of a picture as a file, in any format."""
        picture = self._picture(request)
        format_ = request.query_params.get("format", "png")
        if format_ not in FORMATS:
            raise HTTPException(400, f"the format is one of {', '.join(FORMATS)}")
        data = await run_in_threadpool(self.pictures.encoded, picture, format_)
        if data is None:
            raise HTTPException(404)
        name = self.pictures.file_name(picture, format_)
        headers = {"Content-Disposition": f'attachment; filename="{name}"'}
        return Response(data, headers=headers, media_type=_TYPES[format_])

    async def events(self, request: Request) -> Response:
        """Streams the pictures and the progress of the one that is being made."""

        async def is_ended() -> bool:
            return self.is_closing or await request.is_disconnected()

        stream = events.stream(self.scheduler, self.pictures, is_ended)
        return StreamingResponse(stream, media_type="text/event-stream")


@functools.lru_cache(maxsize=64)
def _reduced(png: bytes) -> bytes:
    """Reduces an image that was written here."""
    file = io.BytesIO()
    with Image.open(io.BytesIO(png)) as image:
        image.thumbnail((_THUMBNAIL_SIDE, _THUMBNAIL_SIDE))
        image.convert("RGB").save(file, "JPEG", quality=85)
    return file.getvalue()


async def _refuse(request: Request, error: Exception) -> Response:
    refusal = cast(HTTPException, error)
    text = refusal.detail if refusal.status_code != 404 else "there is no such thing here"
    return PlainTextResponse(f"{printable(text)}\n", refusal.status_code, refusal.headers)


async def _explain(request: Request, error: Exception) -> Response:
    status = 400 if isinstance(error, InputError) else 503
    return PlainTextResponse(f"{describe(cast(NstError, error))}\n", status)


async def _report(request: Request, error: Exception) -> Response:
    text = f"internal error: {type(error).__name__}; the terminal of the server tells more"
    return PlainTextResponse(f"{text}\n", 500)


def make_app(folder: Path, token: str, *, is_public: bool = False) -> Starlette:
    """Makes the application.

    Args:
        folder: Where pictures and uploads are; no other server may use it.
        token: The secret that the address of the page contains.
        is_public: Whether the server listens on more than this machine.

    Returns:
        The application; its `state.server` is the `Server`.

    Raises:
        MachineError: The folder cannot be written.
    """
    server = Server(folder, token)
    routes = [
        Route("/", server.page),
        Route("/static/{name}", server.static),
        Route("/about", server.about),
        Route("/events", server.events),
        Route("/inputs", server.upload, methods=["POST"]),
        Route("/inputs/{id}", server.input_image),
        Route("/pictures", server.list_pictures),
        Route("/pictures", server.create, methods=["POST"]),
        Route("/pictures/{id}", server.delete, methods=["DELETE"]),
        Route("/pictures/{id}/stop", server.stop, methods=["POST"]),
        Route("/pictures/{id}/continue", server.go_on, methods=["POST"]),
        Route("/pictures/{id}/larger", server.enlarge, methods=["POST"]),
        Route("/pictures/{id}/image", server.image),
        Route("/pictures/{id}/thumbnail", server.thumbnail),
        Route("/pictures/{id}/losses", server.losses),
        Route("/pictures/{id}/download", server.download),
    ]
    app = Starlette(
        routes=routes,
        lifespan=server.lifespan,
        middleware=[Middleware(Guard, token=token, is_public=is_public)],
        exception_handlers={HTTPException: _refuse, NstError: _explain, Exception: _report},
    )
    app.state.server = server
    return app

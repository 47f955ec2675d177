"""The bodies of requests, read within limits of size and time, and the names of uploaded files."""

import asyncio
import json
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

MAX_UPLOAD = 32 * 2**20
"""The largest image that can be uploaded, in bytes."""

MAX_NAME = 100
"""The longest name of a file or of a request, in characters."""

_MAX_REQUEST = 64 * 2**10
_BODY_SECONDS = 30.0


def printable_name(text: str) -> str:
    """Makes the name of an uploaded file a text of one line, for people only.

    Args:
        text: Any.
    """
    plain = "".join(c for c in text.replace("\\", "/").rpartition("/")[2] if c.isprintable())
    return plain.strip()[:MAX_NAME] or "image"


async def read_body(request: Request, limit: int) -> list[bytes]:
    """Reads the body of a request.

    Args:
        request: Any.
        limit: The most bytes to read.

    Returns:
        The body, in pieces.

    Raises:
        HTTPException: It is longer, or takes more than half a minute.
    """
    too_long = HTTPException(413, f"at most {limit / 2**20:g} MB can be sent")
    declared = request.headers.get("content-length", "0")
    if not declared.isdecimal() or int(declared) > limit:
        raise too_long
    pieces: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            async for piece in request.stream():
                size += len(piece)
                if size > limit:
                    raise too_long
                pieces.append(piece)
    except TimeoutError as error:
        raise HTTPException(408, "the request took too long; try it again") from error
    except ClientDisconnect as error:
        raise HTTPException(400, "the request was not sent whole") from error
    return pieces


async def read_json(request: Request) -> dict[str, Any]:
    """Reads the body of a request as a JSON object.

    Args:
        request: Any.

    Raises:
        HTTPException: It is none, or too long.
    """
    body = b"".join(await read_body(request, _MAX_REQUEST))
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, "the request is not JSON; reload the page") from error
    if not isinstance(value, dict):
        raise HTTPException(400, "the request is no JSON object; reload the page")
    return value

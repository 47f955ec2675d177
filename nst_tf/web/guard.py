"""Who may ask the server what: its host names, the token, the origin, and headers of answers."""

import hmac
import ipaddress
from collections.abc import Mapping
from http.cookies import CookieError, SimpleCookie
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")

_HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": (
        "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}

_READING = ("GET", "HEAD")
_CLOSED = "This page needs its token: open the whole address that the server printed at its start."


class Guard:
    """Refuses requests of other web sites, of other names for this machine, and without the token.

    Args:
        app: What answers the requests that are allowed.
        token: The secret that the address of the page contains.
        is_public: Whether the server listens on more than this machine. It is then reached by
            addresses in numbers, which no other web site can have as its name.
    """

    def __init__(self, app: ASGIApp, token: str, *, is_public: bool = False) -> None:
        self._app = app
        self._token = token
        self._is_public = is_public

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
            await send(message)

        if refusal := self._refusal(scope):
            response = PlainTextResponse(f"{refusal}\n", 403)
            await response(scope, receive, send_with_headers)
        else:
            await self._app(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope) -> str:
        """Returns why a request is refused, or ""."""
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if not self._is_known(host):
            return "This server does not have that name."
        if scope["method"] not in _READING and headers.get("origin") != f"http://{host}":
            return "The request comes from another page."
        if scope["path"] == "/" and b"token=" in scope["query_string"]:
            return ""  # the page itself compares it
        if not is_same(_cookie(headers, cookie_name(host)), self._token):
            return _CLOSED
        return ""

    def _is_known(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        return name in _LOCAL_NAMES or (self._is_public and _is_address(name))


def is_same(token: str, other: str) -> bool:
    """Whether two tokens are the same, in a time that does not tell how much of them is."""
    return hmac.compare_digest(token.encode(), other.encode())


def cookie_name(host: str) -> str:
    """Returns the name of the cookie with the token; browsers share cookies among ports.

    Args:
        host: The header `Host`.
    """
    return f"nst_tf-{host.rpartition(':')[2]}" if ":" in host else "nst_tf"


def _cookie(headers: Headers, name: str) -> str:
    try:
        cookie = SimpleCookie(headers.get("cookie", ""))
    except CookieError:
        return ""
    return cookie[name].value if name in cookie else ""


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True

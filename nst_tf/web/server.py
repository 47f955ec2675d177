"""The command `python -m nst_tf.web`: flags, the address, and the server until it is ended."""

import argparse
import contextlib
import os
import secrets
import signal
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

import nst_tf
from nst_tf.cli import command
from nst_tf.cli.console import print_line
from nst_tf.cli.signals import capture_signals
from nst_tf.errors import InputError, InUseError, MachineError, StoppedError, warn
from nst_tf.io import files
from nst_tf.system import display_path, expand_home

DEFAULT_PORT = 8600
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_HELP = "see python -m nst_tf.web --help"
_CONNECTIONS = 100
_CLOSING_SECONDS = 3


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are those of nst_tf."""

    def error(self, message: str) -> NoReturn:
        """Raises what is wrong with the arguments."""
        raise InputError("the command cannot be read", message, _HELP)


def _parser() -> _Parser:
    parser = _Parser(
        prog="python -m nst_tf.web",
        description="A page in the browser that makes pictures on this machine.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--output_dir",
        default="nst_tf-web",
        metavar="FOLDER",
        help="where pictures are kept (%(default)s)",
    )
    parser.add_argument(
        "--port", type=int, default=DEFAULT_PORT, help="the port, 0 for a free one (%(default)s)"
    )
    parser.add_argument(
        "--host", default="127.0.0.1", help="the address to listen on (%(default)s)"
    )
    parser.add_argument(
        "--allow_network",
        action="store_true",
        help="allow a --host that other machines can reach",
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.add_argument("--version", action="version", version=f"nst_tf {nst_tf.__version__}")
    return parser


def main(argv: Sequence[str]) -> int:
    """Runs the command.

    Args:
        argv: The arguments, without the program's name.

    Returns:
        The exit code, as `nst_tf.cli.command.execute` returns it.
    """
    with capture_signals() as received:
        return command.execute(argv, received, _perform)


def _perform(argv: Sequence[str], received: Sequence[int]) -> None:
    flags = _parser().parse_args(argv)
    is_public = flags.host not in _LOOPBACK
    if is_public and not flags.allow_network:
        raise InputError(
            f"host cannot be {flags.host}",
            "other machines could reach the page",
            "add --allow_network if they should, or leave --host out",
        )
    try:
        import uvicorn

        from nst_tf.web.app import make_app
    except ModuleNotFoundError as error:
        raise MachineError(
            "the web page cannot be shown",
            f"there is no module {error.name!r}",
            'install it: pip install "nst_tf[web]"',
        ) from error
    folder = Path(expand_home(flags.output_dir)).absolute()
    files.prepare_folder(folder, "choose another --output_dir")
    with _locked(folder), _listen(flags.host, flags.port) as listening:
        token = secrets.token_urlsafe(32)
        app = make_app(folder, token, is_public=is_public)

        class Server(uvicorn.Server):
            """Ends the streams of events as soon as a signal asks for the end."""

            async def startup(self, sockets: list[socket.socket] | None = None) -> None:
                await super().startup(sockets)
                if received:  # a signal that came before this server captured them
                    self.handle_exit(received[0], None)

            def handle_exit(self, sig: int, frame: FrameType | None) -> None:
                app.state.server.is_closing = True
                super().handle_exit(sig, frame)

        _announce(flags.host, listening.getsockname()[1], token, folder, is_public=is_public)
        server = Server(
            uvicorn.Config(
                app,
                http="h11",
                ws="none",
                lifespan="on",
                log_level="error",
                access_log=False,
                server_header=False,
                proxy_headers=False,
                limit_concurrency=_CONNECTIONS,
                timeout_graceful_shutdown=_CLOSING_SECONDS,
            )
        )
        with contextlib.suppress(KeyboardInterrupt):
            server.run([listening])
    kept = f"the pictures are in {display_path(folder)}"
    number = received[0] if received else signal.SIGINT
    raise StoppedError(number, kept, "the same command goes on with those that are unfinished")


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(files.lock_directory(folder))
        except InUseError as error:
            remedy = "end it, or choose another --output_dir"
            raise InUseError("another server uses the folder", error.why, remedy) from error
        yield


def _listen(host: str, port: int) -> socket.socket:
    """Opens the port, before anything else is begun."""
    remedy = "choose another one with --port"
    if not 0 <= port <= 65535:
        raise InputError(f"port cannot be {port}", "it is from 0 to 65535", remedy)
    listening = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        if os.name == "posix":  # elsewhere it lets two servers share a port
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen()
    except OSError as error:
        listening.close()
        why = error.strerror or str(error)
        raise MachineError(f"port {port} of {host} cannot be used", why, remedy) from error
    return listening


def _announce(host: str, port: int, token: str, folder: Path, *, is_public: bool) -> None:
    if is_public:
        warn(
            f"other machines can reach {host}:{port}, and whoever has the address below can use "
            "this one; it is not encrypted"
        )
    name = "127.0.0.1" if host in ("0.0.0.0", "::") else host
    shown = f"[{name}]" if ":" in name else name
    print_line(f"nst_tf {nst_tf.__version__}: pictures are kept in {display_path(folder)}")
    print_line(f"open http://{shown}:{port}/?token={token}")
    print_line("Ctrl-C ends the server")

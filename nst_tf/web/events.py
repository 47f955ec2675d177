"""The server-sent events: the pictures, and the progress of the one that is being made."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable

from nst_tf.web.pictures import Pictures
from nst_tf.web.scheduler import Scheduler

_POLL_SECONDS = 0.2
_ALIVE_SECONDS = 15.0


async def stream(
    scheduler: Scheduler, pictures: Pictures, is_ended: Callable[[], Awaitable[bool]]
) -> AsyncIterator[str]:
    """Tells what changes, as soon as it is seen.

    Args:
        scheduler: Whose progress is told; of its losses, those that were not sent yet.
        pictures: Whose records are told, all of them after every change of one.
        is_ended: Asked before each look whether nobody listens anymore.

    Yields:
        Events in the format of `text/event-stream`, and a comment where nothing has changed for
        some time, so that the connection is kept.
    """
    loop = asyncio.get_running_loop()
    seen_pictures, sent, last = -1, 0, loop.time()
    seen_progress: tuple[str | None, int] = (None, -1)
    while not await is_ended():
        progress, version = scheduler.progress, pictures.version
        if version != seen_pictures:
            seen_pictures, last = version, loop.time()
            yield _event("pictures", pictures.as_plain())
        now = (progress.id, progress.version) if progress else (None, -1)
        if progress is not None and now != seen_progress:
            if now[0] != seen_progress[0] or len(progress.losses) < sent:
                sent = 0
            losses = progress.losses[sent:]
            plain = {**progress.as_plain(), "first": sent, "losses": losses}
            sent += len(losses)
            last = loop.time()
            yield _event("progress", plain)
        seen_progress = now
        if loop.time() - last > _ALIVE_SECONDS:
            last = loop.time()
            yield ": still here\n\n"
        await asyncio.sleep(_POLL_SECONDS)


def _event(name: str, data: object) -> str:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n"

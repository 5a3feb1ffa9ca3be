"""A service without a server, so that programs that use the asynchronous client can be tested in milliseconds.

transport = FakeTransport(fake_manifest(n_layers=2))
async with Client(transport) as client:
    async with (await client.model("fake")).trace("two words") as t:
        t.save(h=t.layers[1].resid_post)
assert transport.fake.requests[0].graph.nodes[0].op == "site.read"
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, final

from interpd.graph.run import Event
from interpd.graph.schema import Manifest
from interpd_client import testing
from interpd_client.testing import Answer, fake_manifest
from interpd_client.transport import EventStream

__all__ = ["FakeTransport", "fake_manifest"]


@final
class FakeTransport:
    """Answers as a fake of the blocking kind does, which ``fake`` is: what was asked is kept there.

    Args:
        manifest: The model that is resident.
        answer: What to do with a request, see ``interpd_client.testing.FakeTransport``.
    """

    def __init__(self, manifest: Manifest, answer: Answer | None = None) -> None:
        self.fake = testing.FakeTransport(manifest, answer)

    def __getattr__(self, name: str) -> Callable[..., Coroutine[Any, Any, Any]]:
        method = getattr(self.fake, name)

        async def ask(*args: object) -> Any:
            # others get their turn, as they do while a real service is asked
            await asyncio.sleep(0)
            answer = method(*args)
            return _Stream(answer) if name in ("run", "attach") else answer

        return ask


@final
class _Stream:
    """The events of a blocking stream, each behind a turn of the event loop."""

    def __init__(self, stream: EventStream) -> None:
        self._stream = stream

    @property
    def next_number(self) -> int:
        """Number of the first event that has not come out."""
        return self._stream.next_number

    async def __aiter__(self) -> AsyncIterator[Event]:
        for event in self._stream:
            await asyncio.sleep(0)
            yield event

    def close(self) -> None:
        """Forgets the rest."""
        self._stream.close()

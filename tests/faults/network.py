"""The wires between the parts: a TCP proxy for each, which can be cut, slowed, deafened, and made to lie.

Every part has a listener of its own at the broker, advertised at its wire's port, and its own port to
ClickHouse. So any one connection of the stack can be hurt while the others are well.
"""

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

CHUNK = 64 * 1024
#: A refused request is read to its end, which is when nothing came for so long.
SILENCE_S = 0.3
#: What ClickHouse says when it takes nothing: exception code → its words.
REFUSALS = {
    252: "Too many parts (3000). Merges are processing significantly slower than inserts. (TOO_MANY_PARTS)",
    241: "Memory limit (total) exceeded: would use 7.50 GiB. (MEMORY_LIMIT_EXCEEDED)",
    164: "Cannot execute query in readonly mode. (READONLY)",
    243: "Cannot reserve 1.00 MiB, not enough space. (NOT_ENOUGH_SPACE)",
}


@dataclass(slots=True)
class Mood:
    """What is wrong with a wire now."""

    #: Every connection is reset, old and new.
    cut: bool = False
    #: Nothing that was sent arrives, until the mood passes: from the part, to it, or both.
    deaf_up: bool = False
    deaf_down: bool = False
    #: Seconds that every piece is late.
    delay_s: float = 0.0
    #: Bytes a second; 0: as many as come.
    rate: int = 0
    #: HTTP: the exception code with which requests are refused.
    refuse: int = 0
    #: HTTP: requests arrive and are carried out; their answers do not come, then the connection ends.
    swallow: bool = False


@dataclass
class Wire:
    """One listening port in front of one target."""

    name: str
    port: int
    target: int
    mood: Mood = field(default_factory=Mood)
    connections: set[asyncio.WriteTransport] = field(default_factory=set)
    #: Set by the next insert that passes, for those who want to strike in the middle of it.
    inserting: threading.Event = field(default_factory=threading.Event)
    carried: int = 0

    async def accept(self, near: asyncio.StreamReader, near_out: asyncio.StreamWriter) -> None:
        """Carry one connection to its end."""
        if self.mood.cut:
            near_out.transport.abort()
            return
        try:
            far, far_out = await asyncio.open_connection("127.0.0.1", self.target, limit=CHUNK)
        except OSError:
            near_out.transport.abort()
            return
        ends = {near_out.transport, far_out.transport}
        self.connections |= ends
        pumps = [
            asyncio.create_task(self._up(near, far_out, near_out)),
            asyncio.create_task(self._down(far, near_out)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            for end in (near_out, far_out):
                end.close()
            self.connections -= ends

    async def _up(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, back: asyncio.StreamWriter
    ) -> None:
        while data := await reader.read(CHUNK):
            mood = self.mood
            if data.startswith((b"POST ", b"GET ")):
                if b"INSERT" in data:
                    self.inserting.set()
                if mood.refuse:
                    await self._refuse(reader, back, mood.refuse)
                    return
            while self.mood.deaf_up:
                await asyncio.sleep(0.02)
            await self._slow(len(data))
            writer.write(data)
            await writer.drain()

    async def _down(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(CHUNK):
            if self.mood.swallow:
                while self.mood.swallow:
                    await asyncio.sleep(0.02)
                writer.transport.abort()
                return
            while self.mood.deaf_down:
                await asyncio.sleep(0.02)
            await self._slow(len(data))
            writer.write(data)
            await writer.drain()

    async def _slow(self, size: int) -> None:
        self.carried += size
        if self.mood.delay_s:
            await asyncio.sleep(self.mood.delay_s)
        if self.mood.rate:
            await asyncio.sleep(size / self.mood.rate)

    async def _refuse(
        self, reader: asyncio.StreamReader, back: asyncio.StreamWriter, code: int
    ) -> None:
        # Closed with unread data in it, a connection is reset and the answer never read.
        with contextlib.suppress(TimeoutError):
            while await asyncio.wait_for(reader.read(CHUNK), SILENCE_S):
                pass
        text = f"Code: {code}. DB::Exception: {REFUSALS[code]}\n".encode()
        back.write(
            b"HTTP/1.1 500 Internal Server Error\r\nContent-Type: text/plain\r\nConnection: close\r\n"
            b"X-ClickHouse-Exception-Code: %d\r\nContent-Length: %d\r\n\r\n%s"
            % (code, len(text), text)
        )
        with contextlib.suppress(OSError):
            await back.drain()

    def reset(self) -> None:
        """End every connection now, as a cable that is pulled and put in again."""
        for transport in list(self.connections):
            transport.abort()


class Network(threading.Thread):
    """All wires of a stack, in a thread of their own."""

    def __init__(self, wires: list[Wire]) -> None:
        super().__init__(daemon=True, name="network")
        self.wires = {wire.name: wire for wire in wires}
        self._loop = asyncio.new_event_loop()
        self._up = threading.Event()
        self._error: OSError | None = None

    def __enter__(self) -> "Network":
        self.start()
        self._up.wait()
        if self._error is not None:
            raise self._error
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self.join(10)

    def run(self) -> None:
        """Thread body."""
        asyncio.set_event_loop(self._loop)
        try:
            for wire in self.wires.values():
                server = asyncio.start_server(wire.accept, "127.0.0.1", wire.port, limit=CHUNK)
                self._loop.run_until_complete(server)
        except OSError as error:
            self._error = error
            return
        finally:
            self._up.set()
        self._loop.run_forever()

    @contextlib.contextmanager
    def mood(self, name: str, mood: Mood) -> Iterator[Wire]:
        """Let a wire have a mood for a while; afterwards it is well again."""
        wire = self.wires[name]
        wire.mood = mood
        if mood.cut:
            self._loop.call_soon_threadsafe(wire.reset)
        try:
            yield wire
        finally:
            wire.mood = Mood()

    def reset(self, name: str) -> None:
        """Reset a wire's connections."""
        self._loop.call_soon_threadsafe(self.wires[name].reset)

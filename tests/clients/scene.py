"""The servers of `clients/scenarios.json`, for clients in any language.

    python -m tests.clients.scene

prints one line, a JSON object with the address of each: `gateway`, a real gateway with mock models; `cutting`, the same
through a proxy that cuts every connection after some bytes; `future`, a server of a later version; `nowhere`, a port at
which nobody listens; `requests`, the port at which a connection gets all that the mock models were asked, as JSON. They
serve until standard input ends.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from parley.testing import Gateway
from tests.clients import future
from tests.clients.cutting import cutting

SCENARIOS = Path(__file__).parents[2] / "clients" / "scenarios.json"
CUT_AFTER = 20_000
"""Bytes: a few events, so that an answer of 40,000 characters needs several connections."""

_COATS = [{"name": "weather", "arguments": {"city": city}} for city in ("Oslo", "Bergen")]
LONG = "".join(f"{number:07d} " for number in range(5000))
MODELS: dict[str, dict[str, Any]] = {
    "slow": {"token_delay": 0.02},
    "tools": {"tool_calls": _COATS},
    "refuses": {"refusal": "I would rather not."},
    "thinks": {"reasoning": "let me think", "reply": "because"},
    "busy": {"errors": [{"status": 429, "retry_after": 40}], "repeat_errors": True},
    "poor": {
        "errors": [{"status": 429, "code": "insufficient_quota", "type": "insufficient_quota"}],
        "repeat_errors": True,
    },
    "small": {"errors": [{"status": 400, "code": "context_length_exceeded"}], "repeat_errors": True},
    "locked": {"errors": [{"status": 401}], "repeat_errors": True},
    "full": {"errors": [{"status": 503}], "repeat_errors": True},
    "breaks": {"cut_after": 4, "token_delay": 0.01},
    "never": {"stall_after": 0},
    "endless": {"endless": True, "token_delay": 0.02},
    "long": {"reply": LONG, "chunking": 40, "token_delay": 0.001},
    "embed": {},
}
CONFIG = {"retry": {"base": 0.001, "max_attempts": 2}, "breaker": {"enabled": False}}


def scenarios() -> list[dict[str, Any]]:
    """The table."""
    table: dict[str, Any] = json.loads(SCENARIOS.read_text("utf-8"))
    rows: list[dict[str, Any]] = table["scenarios"]
    return rows


@asynccontextmanager
async def scene() -> AsyncIterator[dict[str, str]]:
    """The servers, until the block ends: their addresses by name."""
    gateway = Gateway(MODELS, config=CONFIG)
    await asyncio.to_thread(gateway.start)

    async def tell(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = await asyncio.to_thread(lambda: gateway.requests)
        rows = [{"path": one.path, "headers": dict(one.headers), "body": one.body} for one in asked]
        writer.write(json.dumps(rows).encode())
        await writer.drain()
        writer.close()

    later, later_address = await future.serve()
    telling = await asyncio.start_server(tell, "127.0.0.1", 0)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound, but nobody listens: nobody else can have the port either
        try:
            async with cutting(int(gateway.address.rpartition(":")[2]), CUT_AFTER) as proxy:
                yield {
                    "gateway": gateway.address,
                    "cutting": proxy.address,
                    "future": later_address,
                    "nowhere": f"127.0.0.1:{unused.getsockname()[1]}",
                    "requests": f"127.0.0.1:{telling.sockets[0].getsockname()[1]}",
                }
        finally:
            telling.close()
            await later.stop(0)
            await asyncio.to_thread(gateway.stop)


async def main() -> None:
    """Serve until standard input ends."""
    async with scene() as addresses:
        print(json.dumps(addresses), flush=True)  # what this program is for
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main())

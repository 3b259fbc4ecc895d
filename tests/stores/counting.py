"""A process of three that share a file: it counts `times` on a shared counter, and waits to hear from all three."""

from __future__ import annotations

import asyncio
import os
import sys

from parley_server import shelves
from parley_server.config import load


async def main(path: str, times: int) -> None:
    stores = shelves.build(load(f"storage: {{path: {path}}}", {}))
    await stores.start()
    values, heard = stores.keyvalue("limits"), set[bytes]()
    news = stores.messages("limits").listen("done")
    assert await anext(news) is None
    for _ in range(times):
        while True:
            there = await values.add("count", b"1", 600)
            if there is None or await values.replace("count", there, b"%d" % (int(there) + 1), 600):
                break
    name = str(os.getpid()).encode()
    async with asyncio.timeout(40):
        while len(heard) < 3:  # the others may have begun to listen later
            await asyncio.sleep(0.1)
            await stores.messages("limits").publish("done", name)
            message = await anext(news)
            if message is not None:
                heard.add(message)
        await stores.messages("limits").publish("done", name)
    print(f"heard {len(heard)}")
    await asyncio.sleep(1)  # for the others to hear of this one
    await news.aclose()  # type: ignore[attr-defined]
    await stores.aclose()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))

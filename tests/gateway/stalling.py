"""`parley-server` with a fault: SIGUSR1 blocks its event loop for two seconds."""

from __future__ import annotations

import asyncio
import signal
import time

from parley_server import app, cli


class Stalling(app.Gateway):
    """A gateway whose event loop can be blocked from outside."""

    async def start(self) -> None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, time.sleep, 2)
        await super().start()


if __name__ == "__main__":
    app.Gateway = Stalling  # type: ignore[misc]  # the one seam there is in a process of its own
    cli.main()

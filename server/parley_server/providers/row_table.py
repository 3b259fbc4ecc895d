"""All providers that follow OpenAI's wire format and need no more than a row."""

from __future__ import annotations

from parley_server.providers.row_hosts import HOSTS
from parley_server.providers.row_labs import LABS
from parley_server.providers.row_servers import SERVERS
from parley_server.providers.rows import Row

ROWS: tuple[Row, ...] = (*LABS, *HOSTS, *SERVERS)

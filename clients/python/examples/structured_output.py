"""An answer as a Python object."""

from dataclasses import dataclass
from typing import Annotated, Literal

import parley


@dataclass
class Ticket:
    """A support request, sorted."""

    summary: Annotated[str, "One sentence."]
    urgency: Literal["low", "high"]
    tags: list[str]


with parley.Client() as client:
    reply = client.chat("mock/echo", "My invoice is wrong and I leave in an hour!", output=Ticket)
    ticket = reply.json(Ticket)  # a Ticket, or InvalidOutput that says what does not fit
    print(ticket.urgency, "-", ticket.summary)

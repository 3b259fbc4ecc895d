"""Leave a target alone that fails, until it has had time to recover.

Inside the retries, so that these end as soon as a target is given up; outside the meter, since a call that is not let
through is no attempt. The state belongs to the target: `Circuit` in `core/circuit.py`.
"""

from __future__ import annotations

from typing import Any

from parley_server.core.circuit import Circuit
from parley_server.core.context import Context
from parley_server.core.errors import CircuitOpen, GatewayError, ProtocolError, RateLimited, Unavailable
from parley_server.core.reply import Outcome, Reply
from parley_server.core.service import Service
from parley_server.core.target import Target


class Breaker:
    """Lets calls through while the circuit allows it; otherwise raises CircuitOpen with the time until it may again.

    Failures are what says that the target is ill: unavailable, overloaded, silent, broken off, nonsense. A refusal for
    what the caller asked is an answer. A rate limit with a time keeps everybody away until then. A caller who goes away
    counts as nothing, before the answer as within it.
    """

    def __init__(self, target: Target, circuit: Circuit) -> None:
        self._target = target
        self._circuit = circuit

    def __call__(self, inner: Service) -> Service:
        circuit = self._circuit

        async def guarded(request: Any, ctx: Context) -> Reply[Any]:
            ticket = circuit.admit()
            if ticket is None:
                raise self._open()
            try:
                reply = await inner(request, ctx)
            except BaseException as error:
                _tell(circuit, ticket, error)
                raise

            def over(outcome: Outcome) -> None:
                if outcome.final is not None:
                    circuit.succeeded(ticket)
                else:
                    _tell(circuit, ticket, outcome.error)

            reply.on_over(over)
            return reply

        return guarded

    def _open(self) -> CircuitOpen:
        wait = self._circuit.wait()
        return CircuitOpen(
            f"{self._target} has failed too often and is left alone for another {wait:.1f} s",
            retry_after=wait,
            facts={"provider": self._target.provider, "model": self._target.model},
        )


def _tell(circuit: Circuit, ticket: int, error: BaseException | None) -> None:
    match error:
        case GatewayError(attempted=False):  # somebody further in did not ask it
            circuit.left(ticket)
        case RateLimited(retry_after=float(seconds)):
            circuit.left(ticket)
            circuit.shut(seconds)
        case Unavailable() | ProtocolError():
            circuit.failed(ticket, error.retry_after)
        case GatewayError():
            circuit.succeeded(ticket)  # it answered, if only to refuse
        case _:
            circuit.left(ticket)

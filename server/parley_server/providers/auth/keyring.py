"""Several credentials for one provider: a key that is refused or at its limit is set aside, and nobody notices.

    what the provider says                 what becomes of the key
    401: it does not know the key          set aside for all models; an alarm in the log, once; a probe now and then
    403: not this model, with this key     set aside for the model
    the account is out of money            set aside for all models until the provider's own time, or for long
    429: too much of this model            left alone for the model until the provider's own time, or for a little
    everything else                        nothing: it says nothing of the key

It is all the same whether a status says so or an error within a 200, be it the whole body or an event of a stream.

Requests are dealt to the usable keys evenly, by number and size, unless somebody who counts what each key may still be
used for (`pipeline/upstream_limits`) has chosen one. Which key is meant is known to the `Shown` that every
request gets for itself, so it does not matter how many are under way. All keys of a ring must be as good as one
another: what a provider keeps for an account (stored responses, batches, caches of prompts) it keeps for one of them.
"""

from __future__ import annotations

import hashlib
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NoReturn

from parley_server.core.context import Context
from parley_server.core.errors import CredentialsRejected, GatewayError, QuotaExhausted, RateLimited, Unavailable
from parley_server.core.secret import Secret
from parley_server.providers.auth.base import Auth
from parley_server.transports.base import Outgoing

DEAD_FOR = 600.0
"""Seconds until a key that is not known, not allowed, or out of money, is tried again, with one request."""
COOL_FOR = 10.0
"""Seconds that a rate limit holds where the provider does not say."""
_SHORTEST = 1.0  # seconds; a provider that wants us back at once would be asked in a circle
_PROBE = 60.0  # seconds until a probe of which nothing was heard is made once more
_FADE = 60.0  # seconds in which what a key was used for loses all but a third of its weight
_BYTES = 4096  # of a request weigh as much as its being one
_EARLY = 0.005  # seconds; timers of event loops ring this much too soon, and who waited until then is not sent away
_MOST_MODELS = 1000  # that one key is set aside for, before those whose time is over are forgotten

_ALL = ""  # stands for all models

_log = logging.getLogger(__name__)


class Why(StrEnum):
    """Why a key is set aside."""

    DEAD = "dead"
    FORBIDDEN = "forbidden"
    QUOTA = "quota"
    LIMITED = "limited"


@dataclass(slots=True)
class Aside:
    """A key is set aside until a time. Behind it one request probes, and the others wait for what comes of it."""

    why: Why
    until: float
    probing: bool = False


@dataclass(slots=True, eq=False)
class Key:
    """One credential and what is known of it. `aside`: by model, or for all."""

    fingerprint: str
    auth: Auth
    load: float = 0.0
    at: float = 0.0
    aside: dict[str, Aside] = field(default_factory=dict)
    alarmed: bool = False


class Keyring(Auth):
    """Shows the usable key that has had least to do. `clock` never goes back; `name`: whose keys they are."""

    def __init__(
        self, keys: Sequence[tuple[str, Auth]], name: str = "", clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`keys`: each with its fingerprint, by which people recognise it."""
        self.keys = [Key(fingerprint, auth) for fingerprint, auth in keys]
        self._name = name
        self._clock = clock

    async def headers(self, request: Outgoing, /) -> Mapping[str, str]:
        """Those of some usable key, of which nothing is learnt: for whoever does not ask `for_request`."""
        return await self.for_request(_ALL).headers(request)

    def rejected(self, _status: int, /) -> bool:
        return False

    def for_request(self, model: str, ctx: Context | None = None, /) -> Shown:
        return Shown(self, model, ctx)

    def usable(self, model: str, /) -> Sequence[int]:
        now = self._clock()
        return [number for number, key in enumerate(self.keys) if _is_free(key, model, now)]

    @property
    def set_aside(self) -> int:
        """Keys that no model may be asked with now."""
        return len(self.keys) - len(self.usable(_ALL))

    def pick(self, model: str, weight: float, asked: Sequence[Key], wanted: int | None = None) -> Key:
        """The key to use now, none of those that the request was `asked` with. Raises why there is none.

        `wanted`: number of the one that somebody has chosen who counts better.
        """
        now = self._clock()
        chosen = None if wanted is None or not 0 <= wanted < len(self.keys) else self.keys[wanted]
        best: Key | None = None
        for key in self.keys:
            if key in asked or not _is_free(key, model, now):
                continue
            key.load *= math.exp((key.at - now) / _FADE)
            key.at = now
            if best is None or key.load < best.load or key is chosen:
                best = key
                if key is chosen:
                    break
        if best is None:
            self._raise(model)
        for about in (_ALL, model) if best.aside and weight else ():  # accounts without money still list their models
            bar = best.aside.get(about)
            if bar is not None:  # its time is over: this request is the probe, the others wait for what comes of it
                if bar.why is Why.LIMITED:
                    del best.aside[about]
                    self._level(best)
                else:
                    bar.until, bar.probing = now + _PROBE, True
        best.load += weight
        return best

    def heard(self, key: Key, model: str) -> None:
        """The provider took the key."""
        if not key.aside:
            return
        for about in (_ALL, model):
            bar = key.aside.get(about)
            if bar is not None and bar.probing:  # the success of a request that is older than the bar says nothing
                self._back(key, about)

    def learn(self, key: Key, error: GatewayError, model: str) -> bool:
        """Learn from a refusal. Whether it says something of the key, so that another one may do better."""
        match error:
            case CredentialsRejected():
                said = error.provider_error
                status = said.http_status if said is not None else 0
                within = said is not None and said.code == "403"  # as it is told within a 200
                if status == 403 or within or error.for_model:
                    self._bar(key, model, Why.FORBIDDEN, DEAD_FOR)
                else:
                    self._bar(key, _ALL, Why.DEAD, DEAD_FOR)
                    self._alarm(key, f"the provider refuses it ({status or 'no status'})")
            case QuotaExhausted():
                self._bar(key, _ALL, Why.QUOTA, max(error.retry_after or DEAD_FOR, _SHORTEST))
                self._alarm(key, "its account is out of money or quota")
            case RateLimited():
                self._bar(key, model, Why.LIMITED, max(error.retry_after or COOL_FOR, _SHORTEST))
            case Unavailable():
                return False
            case _:
                self.heard(key, model)  # the key was good enough to be told what is wrong with the request
                return False
        return True

    def outlook(self, model: str) -> tuple[Why, float]:
        """Where no key is usable: what keeps the first one that will be, of those that are merely limited if there are
        any, and the seconds until then."""
        now = self._clock()
        ahead: list[tuple[bool, float, Why]] = []
        for key in self.keys:
            bars = [bar for bar in (key.aside.get(_ALL), key.aside.get(model)) if bar is not None and bar.until > now]
            worst = max(bars, key=lambda bar: bar.until, default=Aside(Why.LIMITED, now))
            lasting = next((bar.why for bar in bars if bar.why is not Why.LIMITED), worst.why)
            ahead.append((lasting is not Why.LIMITED, worst.until - now, lasting))
        _, seconds, why = min(ahead)
        return why, seconds

    def __repr__(self) -> str:
        now = self._clock()
        said = (f"{key.fingerprint}{'' if _is_free(key, _ALL, now) else ' aside'}" for key in self.keys)
        return f"Keyring({', '.join(said)})"

    def _bar(self, key: Key, about: str, why: Why, seconds: float) -> None:
        now = self._clock()
        before = key.aside.get(about)
        until = now + seconds
        if before is not None and not before.probing:
            if before.why is not Why.LIMITED and why is Why.LIMITED:
                return  # that it is limited as well is no news
            until = max(until, before.until)  # what came first may have said more
        if len(key.aside) >= _MOST_MODELS:
            key.aside = {model: bar for model, bar in key.aside.items() if bar.until > now}
        key.aside[about] = Aside(why, until)

    def _alarm(self, key: Key, what: str) -> None:
        if key.alarmed:
            return
        key.alarmed = True
        _log.error(
            "%s: the key with the fingerprint %s is set aside: %s; %d of %d keys are left",
            *(self._name, key.fingerprint, what, len(self.usable(_ALL)), len(self.keys)),
        )

    def _back(self, key: Key, about: str) -> None:
        del key.aside[about]
        self._level(key)
        if about == _ALL and key.alarmed:
            key.alarmed = False
            _log.warning("%s: the key with the fingerprint %s works again", self._name, key.fingerprint)

    def _level(self, key: Key) -> None:
        """No flood for it to make up for what it has missed."""
        key.load = max(one.load for one in self.keys)

    def _raise(self, model: str) -> NoReturn:
        why, seconds = self.outlook(model)
        count = len(self.keys)
        error: GatewayError
        match why:
            case Why.LIMITED:
                text = f"all {count} keys for the provider are at their limits, the first one for {seconds:.1f} s"
                error = RateLimited(text, retry_after=seconds)
            case Why.QUOTA:
                error = QuotaExhausted(f"no account of the {count} keys for the provider has any money or quota left")
            case _:
                about = " for this model" if why is Why.FORBIDDEN else ""
                error = CredentialsRejected(f"the provider refuses all {count} keys that there are{about}")
        error.attempted = False
        raise error


class Shown(Auth):
    """The keys that one request is shown with, one after another until one will do; each at most once."""

    def __init__(self, ring: Keyring, model: str, ctx: Context | None) -> None:
        self._ring = ring
        self._ctx = ctx
        self._model = model
        self._asked: list[Key] = []

    async def headers(self, request: Outgoing, /) -> Mapping[str, str]:
        weight = 1.0 + len(request.body) / _BYTES if request.body else 0.0  # a listing is nothing
        ctx = self._ctx
        while True:
            wanted = None if ctx is None else ctx.credential
            key = self._ring.pick(self._model, weight, self._asked, wanted)
            if ctx is not None and wanted is not None:
                ctx.credential = self._ring.keys.index(key)
            self._asked.append(key)
            try:
                return await key.auth.headers(request)
            except GatewayError as error:  # where keys are exchanged for tokens
                if not self.refused(error):
                    raise

    def rejected(self, status: int, /) -> bool:
        if not self._asked[-1].auth.rejected(status):
            return False
        self._asked.pop()  # not the key but a token that was made from it: the same one once more
        return True

    def accepted(self) -> None:
        self._ring.heard(self._asked[-1], self._model)

    def refused(self, error: GatewayError, /) -> bool:
        """Whether another key may do; where none is left, `error` says when the first one will be back."""
        ring, model = self._ring, self._model
        if not ring.learn(self._asked[-1], error, model):
            return False
        if any(ring.keys[number] not in self._asked for number in ring.usable(model)):
            return True
        why, seconds = ring.outlook(model)
        if why is Why.LIMITED and not isinstance(error, RateLimited):
            return True  # it is no use, but `headers` then says what is more to the point: wait
        if isinstance(error, RateLimited):
            error.retry_after = max(seconds, 0.0)
        return False


def _is_free(key: Key, model: str, now: float) -> bool:
    if not key.aside:
        return True
    bars = (key.aside.get(_ALL), key.aside.get(model))
    return all(bar is None or bar.until <= now + _EARLY for bar in bars)


def fingerprint(key: Secret) -> str:
    """What a key can be recognised by and not be guessed from."""
    return hashlib.sha256(key.reveal().encode()).hexdigest()[:8]


def of_keys(keys: Sequence[Secret], make: Callable[[Secret], Auth], name: str = "") -> Auth:
    """What authenticates with `keys`, each of which `make` knows how to show. A ring only if there are several."""
    if len(keys) == 1:
        return make(keys[0])
    return Keyring([(fingerprint(key), make(key)) for key in keys], name)

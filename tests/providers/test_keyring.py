"""Several keys: which one is shown, and what becomes of one that is refused."""

from __future__ import annotations

import logging
import math
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from parley import v1
from parley_server.core.errors import (
    CredentialsRejected,
    GatewayError,
    InvalidRequest,
    ModelNotFound,
    Overloaded,
    QuotaExhausted,
    RateLimited,
    Unavailable,
)
from parley_server.core.secret import Secret
from parley_server.providers.auth import Bearer, Keyring, TokenAuth, of_keys
from parley_server.providers.auth.keyring import COOL_FOR, DEAD_FOR, fingerprint
from parley_server.transports.base import Outgoing
from tests.fakes import context

REQUEST = Outgoing("POST", "https://x.example/v1/chat", {}, b"{}")
SECRETS = tuple(Secret(f"sk-{name}-0123456789") for name in "abc")


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def ring(count: int = 3, clock: Clock | None = None) -> Keyring:
    keys = [(f"k{number}", Bearer(Secret(f"key{number}"))) for number in range(count)]
    return Keyring(keys, "acme", clock or Clock())


def refused(status: int) -> CredentialsRejected:
    return CredentialsRejected("no", provider_error=v1.ProviderError(http_status=status))


def refused_for_the_model() -> CredentialsRejected:
    error = refused(200)
    error.for_model = True
    return error


async def shown(auth: Any, model: str = "m", request: Outgoing = REQUEST) -> tuple[str, Any]:
    """The key that a new request is shown with, and what it is told of the outcome by."""
    use = auth.for_request(model)
    return (await use.headers(request))["authorization"].removeprefix("Bearer "), use


def count(auth: Keyring, model: str = "m") -> int:
    return len(auth.usable(model))


async def refuse(auth: Keyring, error: GatewayError, model: str = "m") -> bool:
    _, use = await shown(auth, model)
    again: bool = use.refused(error)
    return again


async def test_requests_are_dealt_evenly() -> None:
    auth = ring()
    dealt = [(await shown(auth))[0] for _ in range(30)]
    assert {key: dealt.count(key) for key in dealt} == {"key0": 10, "key1": 10, "key2": 10}


async def test_a_large_request_weighs_more() -> None:
    auth = ring(2)
    large = Outgoing("POST", REQUEST.url, {}, b"x" * 40_960)  # as much as ten more requests
    assert (await shown(auth, request=large))[0] == "key0"
    assert [(await shown(auth))[0] for _ in range(10)] == ["key1"] * 10


@pytest.mark.parametrize(
    ("error", "back_after", "other_models_too"),
    [
        (refused(401), DEAD_FOR, True),
        (refused(400), DEAD_FOR, True),
        (refused(403), DEAD_FOR, False),
        (refused_for_the_model(), DEAD_FOR, False),
        (QuotaExhausted("no money"), DEAD_FOR, True),
        (QuotaExhausted("no money", retry_after=3600), 3600, True),
        (RateLimited("slow"), COOL_FOR, False),
        (RateLimited("slow", retry_after=42.0), 42.0, False),
        (RateLimited("slow", retry_after=0.0), COOL_FOR, False),
        (RateLimited("slow", retry_after=0.2), 1.0, False),
        (Unavailable("broken"), None, False),
        (Overloaded("busy"), None, False),
        (InvalidRequest("wrong"), None, False),
        (ModelNotFound("who"), None, False),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, GatewayError) else str(value),
)
async def test_what_becomes_of_a_refused_key(
    error: GatewayError, back_after: float | None, other_models_too: bool
) -> None:
    clock = Clock()
    auth = ring(2, clock)
    assert await refuse(auth, error) is (back_after is not None)
    assert count(auth) == (1 if back_after else 2)
    assert count(auth, "other") == (1 if other_models_too else 2)
    if back_after is not None:
        clock.now += back_after - 0.1
        assert count(auth) == 1
        clock.now += 0.1
        assert count(auth) == 2


async def test_somebody_who_counts_better_may_choose() -> None:
    auth = ring(3)
    ctx = context()
    for wanted in (2, 2, 0, 1, 1):
        ctx.credential = wanted
        assert (await auth.for_request("m", ctx).headers(REQUEST))["authorization"] == f"Bearer key{wanted}"
    ctx.credential = 2
    use = auth.for_request("m", ctx)
    await use.headers(REQUEST)
    assert use.refused(refused(401))
    assert (await use.headers(REQUEST))["authorization"] == "Bearer key0"
    assert ctx.credential == 0
    ctx.credential = 2
    await auth.for_request("m", ctx).headers(REQUEST)
    assert ctx.credential != 2


async def test_one_request_is_shown_with_each_key_once() -> None:
    auth = ring(3)
    use = auth.for_request("m")
    tried = []
    for more in (True, True, False):
        tried.append((await use.headers(REQUEST))["authorization"])
        assert use.refused(refused(401)) is more
    assert len(set(tried)) == 3


async def test_with_no_key_left_it_is_said_when_the_first_one_is_back() -> None:
    clock = Clock()
    auth = ring(2, clock)
    use = auth.for_request("m")
    await use.headers(REQUEST)
    assert use.refused(RateLimited("slow", retry_after=20.0))
    clock.now += 5
    await use.headers(REQUEST)
    last = RateLimited("slow", retry_after=60.0)
    assert not use.refused(last)
    assert last.retry_after == pytest.approx(15.0)
    clock.now += 10
    with pytest.raises(RateLimited) as nobody:
        await auth.for_request("m").headers(REQUEST)
    assert nobody.value.retry_after == pytest.approx(5.0)
    assert not nobody.value.attempted
    assert (await shown(auth, "other"))[0]
    clock.now += 5
    assert (await shown(auth))[0] == "key0"


async def test_a_key_that_is_merely_limited_counts_for_more_than_one_that_is_dead() -> None:
    auth = ring(2)
    assert await refuse(auth, RateLimited("slow", retry_after=20.0))
    use = auth.for_request("m")
    await use.headers(REQUEST)
    assert use.refused(refused(401))  # not because another would do, but because there is more to the point to be said
    with pytest.raises(RateLimited) as waiting:
        await use.headers(REQUEST)
    assert waiting.value.retry_after == pytest.approx(20.0)


@pytest.mark.parametrize(
    ("error", "kind"), [(refused(401), CredentialsRejected), (QuotaExhausted("x"), QuotaExhausted)]
)
async def test_where_all_are_beyond_hope_the_provider_is_not_asked(
    error: GatewayError, kind: type[GatewayError]
) -> None:
    auth = ring(2)
    assert await refuse(auth, error)
    assert not await refuse(auth, error)
    with pytest.raises(kind) as nobody:
        await shown(auth)
    assert not nobody.value.attempted


async def test_a_dead_key_is_probed_by_one_request_at_a_time() -> None:
    clock = Clock()
    auth = ring(2, clock)
    assert await refuse(auth, refused(401))  # key0
    clock.now += DEAD_FOR
    (first, probe), (second, _) = await shown(auth), await shown(auth)
    assert {first, second} == {"key0", "key1"}
    assert [(await shown(auth))[0] for _ in range(3)] == ["key1"] * 3
    probe.refused(refused(401))
    clock.now += DEAD_FOR - 1
    assert count(auth) == 1
    clock.now += 1
    _, probe = await shown(auth)
    probe.accepted()
    assert [count(auth), sorted({(await shown(auth))[0] for _ in range(4)})] == [2, ["key0", "key1"]]


async def test_a_probe_of_which_nothing_is_heard_is_made_again() -> None:
    clock = Clock()
    auth = ring(2, clock)
    assert await refuse(auth, refused(401))
    clock.now += DEAD_FOR
    assert {(await shown(auth))[0] for _ in range(2)} == {"key0", "key1"}
    assert count(auth) == 1
    clock.now += 60
    assert count(auth) == 2


async def test_a_listing_proves_nothing() -> None:
    clock = Clock()
    auth = ring(1, clock)
    assert not await refuse(auth, QuotaExhausted("no money"))
    clock.now += DEAD_FOR
    _, listing = await shown(auth, "", Outgoing("GET", REQUEST.url, {}, b""))
    listing.accepted()
    _, probe = await shown(auth)
    assert count(auth) == 0
    probe.accepted()
    assert count(auth) == 1


async def test_the_success_of_a_request_from_before_does_not_bring_a_dead_key_back() -> None:
    auth = ring(2)
    _, before = await shown(auth)  # key0
    await shown(auth)
    assert await refuse(auth, refused(401))  # key0 again
    before.accepted()
    assert count(auth) == 1


async def test_the_alarm_is_raised_once_and_never_shows_a_key(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    auth = of_keys(SECRETS, Bearer, "acme")
    assert isinstance(auth, Keyring)
    auth._clock = clock
    caplog.set_level(logging.INFO)
    for _ in range(3):
        assert await refuse(auth, refused(401), "m") or count(auth) == 0
        clock.now += DEAD_FOR - 1
    alarms = [record.getMessage() for record in caplog.records]
    assert len(alarms) == 3  # one for each key
    assert alarms[0].startswith(f"acme: the key with the fingerprint {fingerprint(SECRETS[0])} is set aside")
    assert "2 of 3 keys are left" in alarms[0]
    clock.now += 2
    caplog.clear()
    _, probe = await shown(auth)
    probe.accepted()
    assert "works again" in caplog.text
    everything = "".join(alarms) + caplog.text + repr(auth) + repr(auth.keys)
    assert not any(secret.reveal() in everything for secret in SECRETS)
    assert not any(secret.reveal()[:8] in everything for secret in SECRETS)


async def test_keys_that_are_exchanged_for_tokens() -> None:
    async def none() -> Any:
        raise CredentialsRejected("no such key")

    auth = Keyring([("a", TokenAuth(none)), ("b", Bearer(Secret("good")))], "acme")
    assert (await shown(auth))[0] == "good"
    assert count(auth) == 1


def test_one_key_is_no_ring() -> None:
    assert isinstance(of_keys(SECRETS[:1], Bearer), Bearer)


class Ring(RuleBasedStateMachine):
    """Whatever happens, no key is shown before its time, each at most once for a request, and time brings all back."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.ring = ring(3, self.clock)
        self.not_before: dict[tuple[str, str], float] = {}
        self.unasked: list[GatewayError] = []

    def _show(self, use: Any, model: str) -> str | None:
        try:
            use.headers(REQUEST).send(None)
        except StopIteration as done:
            key: str = done.value["authorization"]
        except GatewayError as error:
            self.unasked.append(error)
            return None
        assert self._free_at(key, model) <= self.clock.now + 0.006
        return key

    def _free_at(self, key: str, model: str) -> float:
        return max(self.not_before.get((key, model), 0.0), self.not_before.get((key, ""), 0.0))

    @rule(
        model=st.sampled_from(["m", "n"]),
        outcomes=st.lists(st.sampled_from(["ok", "401", "403", "429", "quota", "503", "400"]), min_size=1, max_size=3),
        seconds=st.floats(1, 1000),
    )
    def request(self, model: str, outcomes: list[str], seconds: float) -> None:
        use = self.ring.for_request(model)
        seen: list[str] = []
        for outcome in outcomes:
            key = self._show(use, model)
            if key is None:
                return
            assert key not in seen
            seen.append(key)
            now = self.clock.now
            match outcome:
                case "ok":
                    use.accepted()
                    return
                case "401":
                    error: GatewayError = refused(401)
                    self.not_before[key, ""] = now + DEAD_FOR
                case "403":
                    error = refused(403)
                    self.not_before[key, model] = now + DEAD_FOR
                case "429":
                    error = RateLimited("x", retry_after=seconds)
                    self.not_before[key, model] = now + seconds
                case "quota":
                    error = QuotaExhausted("x")
                    self.not_before[key, ""] = now + DEAD_FOR
                case "503":
                    error = Unavailable("x")
                case _:
                    error = InvalidRequest("x")
            if not use.refused(error):
                return

    @rule(seconds=st.floats(0.1, 700))
    def time_passes(self, seconds: float) -> None:
        self.clock.now += seconds

    @precondition(lambda self: self.not_before)
    @rule()
    def after_a_long_time_all_are_back(self) -> None:
        self.clock.now += 2000
        assert count(self.ring) == 3

    @invariant()
    def counts_are_right(self) -> None:
        assert 0 <= count(self.ring) <= 3
        assert not any(error.attempted for error in self.unasked)
        assert all(error.retry_after >= 0 for error in self.unasked if error.retry_after is not None)
        assert all(math.isfinite(key.load) and key.load >= 0 for key in self.ring.keys)


TestRing = Ring.TestCase
TestRing.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)

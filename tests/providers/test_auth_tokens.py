"""Tokens that expire: one fetch for all, renewed ahead, never shown; and asking a real token server for them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from parley_server.core.errors import (
    Code,
    CredentialsRejected,
    GatewayError,
    ProtocolError,
    RateLimited,
    Unavailable,
)
from parley_server.core.secret import Secret
from parley_server.core.target import Target
from parley_server.dialects.openai_chat import OpenAIChat
from parley_server.providers.auth import Token, TokenAuth, forms
from parley_server.providers.base import Provider
from parley_server.providers.endpoint import Wire
from parley_server.transports.base import Outgoing
from parley_server.transports.http import HttpTransport
from tests.fakes import chat
from tests.upstream import Exchange, Script, Upstream, in_turn, refusing, scripted

CALL = Outgoing("POST", "https://provider.test/v1/chat", {}, b"{}")


class Clock:
    """Unix time that passes when told to."""

    def __init__(self) -> None:
        self.now = 1_790_000_000.0

    def __call__(self) -> float:
        return self.now


class Issuer:
    """A token server as a function: gives t1, t2, …, each for `life` seconds, or raises what it is told to."""

    def __init__(self, clock: Clock, life: float = 3600.0) -> None:
        self.clock = clock
        self.life = life
        self.asked = 0
        self.error: Exception | None = None
        self.open = asyncio.Event()
        self.open.set()
        self.cancelled = 0

    async def __call__(self) -> Token:
        self.asked += 1
        number = self.asked
        try:
            await self.open.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.error is not None:
            raise self.error
        return Token(Secret(f"t{number}"), self.clock.now + self.life)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def issuer(clock: Clock) -> Issuer:
    return Issuer(clock)


async def shown(auth: TokenAuth) -> str:
    return (await auth.headers(CALL)).get("authorization", "")


async def settled() -> None:
    """Let what runs in the background come to its end."""
    for _ in range(5):
        await asyncio.sleep(0)


# ------------------------------------------------------------------------------------------------------ one, and cached


async def test_a_token_is_fetched_once_and_shown_until_it_ages(clock: Clock, issuer: Issuer) -> None:
    auth = TokenAuth(issuer, clock)
    assert [await shown(auth) for _ in range(3)] == ["Bearer t1"] * 3
    assert issuer.asked == 1


async def test_scheme_and_header_are_the_providers_choice(clock: Clock, issuer: Issuer) -> None:
    assert await TokenAuth(issuer, clock, scheme="ZenApiKey").headers(CALL) == {"authorization": "ZenApiKey t1"}
    assert await TokenAuth(issuer, clock, scheme="", header="x-token").headers(CALL) == {"x-token": "t2"}


async def test_concurrent_callers_share_one_fetch(clock: Clock, issuer: Issuer) -> None:
    auth = TokenAuth(issuer, clock)
    issuer.open.clear()
    calls = [asyncio.create_task(shown(auth)) for _ in range(20)]
    await settled()
    issuer.open.set()
    assert await asyncio.gather(*calls) == ["Bearer t1"] * 20
    assert issuer.asked == 1


async def test_a_cancelled_caller_takes_nobody_with_it(clock: Clock, issuer: Issuer) -> None:
    auth = TokenAuth(issuer, clock)
    issuer.open.clear()
    first, second = asyncio.create_task(shown(auth)), asyncio.create_task(shown(auth))
    await settled()
    first.cancel()
    await settled()
    assert first.cancelled()
    issuer.open.set()
    assert await second == "Bearer t1"
    assert (issuer.asked, issuer.cancelled) == (1, 0)


async def test_a_fetch_that_everybody_left_still_serves_the_next(clock: Clock, issuer: Issuer) -> None:
    auth = TokenAuth(issuer, clock)
    issuer.open.clear()
    only = asyncio.create_task(shown(auth))
    await settled()
    only.cancel()
    issuer.open.set()
    await settled()
    assert await shown(auth) == "Bearer t1"
    assert issuer.asked == 1


# ------------------------------------------------------------------------------------------------------- renewing ahead


async def test_renewal_never_makes_a_caller_wait(clock: Clock, issuer: Issuer) -> None:
    auth = TokenAuth(issuer, clock, refresh_ahead=300)
    await shown(auth)
    clock.now += 3600 - 300
    issuer.open.clear()  # the token server takes its time
    assert [await shown(auth) for _ in range(3)] == ["Bearer t1"] * 3
    await settled()
    assert issuer.asked == 2  # one renewal under way for all of them
    issuer.open.set()
    await settled()
    assert await shown(auth) == "Bearer t2"


async def test_a_short_life_is_not_spent_renewing(clock: Clock, issuer: Issuer) -> None:
    issuer.life = 100
    auth = TokenAuth(issuer, clock, refresh_ahead=300)
    await shown(auth)
    clock.now += 70
    await shown(auth)
    await settled()
    assert issuer.asked == 1
    clock.now += 10
    assert await shown(auth) == "Bearer t1"
    await settled()
    assert issuer.asked == 2


async def test_an_expired_token_is_not_shown(clock: Clock, issuer: Issuer) -> None:
    auth = TokenAuth(issuer, clock)
    await shown(auth)
    clock.now += 3600
    assert await shown(auth) == "Bearer t2"


async def test_a_failed_renewal_leaves_the_old_token_until_it_expires(
    clock: Clock, issuer: Issuer, caplog: pytest.LogCaptureFixture
) -> None:
    auth = TokenAuth(issuer, clock)
    await shown(auth)
    issuer.error = Unavailable("the token server answered 503")
    clock.now += 3590
    with caplog.at_level(logging.WARNING):
        assert await shown(auth) == "Bearer t1"
        await settled()
    assert "the token server answered 503" in caplog.text
    assert "t1" not in caplog.text
    assert await shown(auth) == "Bearer t1"
    clock.now += 10
    with pytest.raises(Unavailable, match="503"):
        await shown(auth)


# ------------------------------------------------------------------------------------------------------------- failures


async def test_after_a_failure_the_token_server_is_left_in_peace_for_a_while(clock: Clock, issuer: Issuer) -> None:
    auth = TokenAuth(issuer, clock)
    issuer.error = Unavailable("down")
    pauses = []
    for _ in range(8):
        with pytest.raises(Unavailable):
            await shown(auth)
        asked = issuer.asked
        with pytest.raises(Unavailable) as again:  # at once, without asking
            await shown(auth)
        assert issuer.asked == asked
        assert again.value.retry_after is not None
        pauses.append(again.value.retry_after)
        clock.now += again.value.retry_after
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60]
    issuer.error = None
    assert await shown(auth) == f"Bearer t{issuer.asked}"


async def test_the_pause_that_the_token_server_asks_for_is_kept(clock: Clock, issuer: Issuer) -> None:
    auth = TokenAuth(issuer, clock)
    issuer.error = Unavailable("busy", retry_after=20)
    for _ in range(2):
        with pytest.raises(Unavailable) as caught:
            await shown(auth)
        assert caught.value.retry_after == 20
    assert issuer.asked == 1


async def test_every_caller_gets_an_error_of_its_own(clock: Clock, issuer: Issuer) -> None:
    auth = TokenAuth(issuer, clock)
    issuer.error = CredentialsRejected("no such client")
    results = await asyncio.gather(shown(auth), shown(auth), return_exceptions=True)
    assert [type(result) for result in results] == [CredentialsRejected] * 2
    assert results[0] is not results[1]


@pytest.mark.parametrize(
    ("raised", "message"),
    [
        (ValueError("sk-secret in the text"), "fetching a token failed: ValueError"),
        (ProtocolError("nonsense"), "nonsense"),
        (RateLimited("slow down"), "slow down"),
    ],
)
async def test_other_failures_are_unavailable(clock: Clock, issuer: Issuer, raised: Exception, message: str) -> None:
    issuer.error = raised
    with pytest.raises(Unavailable) as caught:
        await shown(TokenAuth(issuer, clock))
    assert caught.value.message == message
    assert caught.value.code == Code.UNAVAILABLE


async def test_a_fetch_that_hangs_is_given_up(clock: Clock, issuer: Issuer) -> None:
    issuer.open.clear()
    with pytest.raises(Unavailable, match="did not answer within"):
        await shown(TokenAuth(issuer, clock, fetch_timeout=0.001))
    assert issuer.cancelled == 1


async def test_a_token_that_comes_expired_is_no_token(clock: Clock, issuer: Issuer) -> None:
    issuer.life = 0
    with pytest.raises(Unavailable, match="expired"):
        await shown(TokenAuth(issuer, clock))


# ------------------------------------------------------------------------------------------------------------ rejection


async def test_a_refused_token_is_replaced_once(clock: Clock, issuer: Issuer) -> None:
    auth = TokenAuth(issuer, clock)
    await shown(auth)
    assert not auth.rejected(401)  # fetched just now: another one would be refused as well
    clock.now += 600
    await shown(auth)
    assert auth.rejected(401)
    assert await shown(auth) == "Bearer t2"
    assert not auth.rejected(401)
    assert await shown(auth) == "Bearer t2"


async def test_what_is_not_allowed_is_not_asked_again(clock: Clock, issuer: Issuer) -> None:
    auth = TokenAuth(issuer, clock)
    await shown(auth)
    clock.now += 600
    assert not auth.rejected(403)
    assert await shown(auth) == "Bearer t1"


async def test_a_late_refusal_of_the_old_token_spares_the_new_one(clock: Clock, issuer: Issuer) -> None:
    auth = TokenAuth(issuer, clock)
    await shown(auth)
    clock.now += 600
    both_shown = asyncio.Barrier(2)

    async def call(order: int) -> tuple[bool, str]:
        await shown(auth)
        await both_shown.wait()
        for _ in range(10 * order):  # the second hears of it when the first has a new token
            await asyncio.sleep(0)
        return auth.rejected(401), await shown(auth)

    assert list(await asyncio.gather(call(0), call(1))) == [(True, "Bearer t2")] * 2
    assert issuer.asked == 2


async def test_nothing_shows_a_token(clock: Clock, issuer: Issuer) -> None:
    issuer.life = 3600
    auth = TokenAuth(issuer, clock)
    token = await auth.token()
    assert "t1" not in repr(auth) + repr(token) + str(token) + repr(Outgoing("GET", "u", await auth.headers(CALL), b""))


# ---------------------------------------------------------------------------------------------- over the gateway's wire


@asynccontextmanager
async def served(script: Script) -> AsyncIterator[tuple[HttpTransport, Upstream]]:
    async with scripted(script) as upstream:
        transport = HttpTransport()
        try:
            yield transport, upstream
        finally:
            await transport.aclose()


def answering(status: int, body: Any, **headers: str) -> Script:
    async def script(exchange: Exchange) -> None:
        await exchange.answer(status, body, headers)

    return script


async def test_a_call_refused_for_an_old_token_goes_again_with_a_new_one(clock: Clock, issuer: Issuer) -> None:
    async def script(exchange: Exchange) -> None:
        fresh = exchange.request.headers["authorization"] == "Bearer t2"
        await exchange.answer(200 if fresh else 401, {"data": []})

    async with served(script) as (transport, upstream):
        auth = TokenAuth(issuer, clock)
        await shown(auth)
        clock.now += 600
        provider = Provider(name="lab", base_url=upstream.base_url, chat=OpenAIChat(), auth=auth)
        wire = Wire(provider, Target("lab", "m"), transport, connect_timeout=5)
        dialect = OpenAIChat()
        incoming = await wire.send(dialect.encode(chat(), wire.target, stream=False), dialect)
        await incoming.aclose()
        assert [request.headers["authorization"] for request in upstream.requests] == ["Bearer t1", "Bearer t2"]


async def test_a_form_is_posted_and_its_token_read(clock: Clock) -> None:
    script = answering(200, {"access_token": "abc.def", "token_type": "Bearer", "expires_in": 3599})
    async with served(script) as (transport, upstream):
        form: forms.Fields = {"grant_type": "client_credentials", "client_secret": Secret("p&ss")}
        answer = await forms.post_form(transport, f"{upstream.base_url}/token", form, {"authorization": "Basic eA=="})
        token = forms.token_of(answer, clock.now)
        request = upstream.requests[0]
        assert request.body == b"grant_type=client_credentials&client_secret=p%26ss"
        assert request.headers["content-type"] == "application/x-www-form-urlencoded"
        assert request.headers["authorization"] == "Basic eA=="
        assert (token.value.reveal(), token.expires_at) == ("abc.def", clock.now + 3599)


async def test_json_is_posted_and_fetched(clock: Clock) -> None:
    async with served(answering(200, {"token": "xyz"})) as (transport, upstream):
        answer = await forms.post_json(transport, upstream.base_url, {"username": "u", "api_key": Secret("k")})
        assert upstream.requests[0].json == {"username": "u", "api_key": "k"}
        assert forms.token_of(answer, clock.now, "token").expires_at > clock.now
        await forms.get_json(transport, f"{upstream.base_url}/metadata", {"metadata-flavor": "Google"})
        assert (upstream.requests[1].method, upstream.requests[1].body) == ("GET", b"")


@pytest.mark.parametrize(
    ("fields", "expires_at"),
    [
        ({"expires_in": 3600}, 1000 + 3600),
        ({"expires_in": "3600"}, 1000 + 3600),
        ({"expires_on": "1790003600"}, 1790003600),
        ({"expiration": 1790003600}, 1790003600),
        ({"expires_in": 60, "expiration": 1790003600}, 1060),
        ({"expires_in": None}, 1600),
        ({"expires_in": "soon"}, 1600),
        ({"expires_in": -5, "expires_at": 2000}, 2000),
    ],
)
def test_when_a_token_expires(fields: dict[str, Any], expires_at: float) -> None:
    assert forms.token_of({"access_token": "t", **fields}, 1000).expires_at == expires_at


@pytest.mark.parametrize("value", [None, "", " ", 7, "two\nlines", "naïve"])
def test_what_is_no_token(value: Any) -> None:
    with pytest.raises(Unavailable, match="holds no access_token"):
        forms.token_of({"access_token": value}, 1000)


@pytest.mark.parametrize(
    ("status", "body", "error", "words"),
    [
        (
            401,
            {"error": "invalid_client", "error_description": "The client is not known."},
            CredentialsRejected,
            "The client is not known.",
        ),
        (
            400,
            {"errorCode": "BXNIM0415E", "errorMessage": "Provided API key could not be found."},
            CredentialsRejected,
            "API key could not be found",
        ),
        (403, {"error": {"status": "PERMISSION_DENIED", "message": "Not you."}}, CredentialsRejected, "Not you."),
        (400, {"error": "invalid_grant"}, CredentialsRejected, "invalid_grant"),
        (404, "<html>nothing here</html>", CredentialsRejected, "404"),
        (429, {"error": "slow_down"}, Unavailable, "slow_down"),
        (503, "upstream connect error", Unavailable, "503"),
        (302, "", Unavailable, "302"),
        (200, "<html>login</html>", Unavailable, "not a JSON object"),
        (200, "[]", Unavailable, "not a JSON object"),
    ],
)
async def test_refusals(status: int, body: Any, error: type[GatewayError], words: str) -> None:
    async with served(answering(status, body)) as (transport, upstream):
        with pytest.raises(GatewayError) as caught:
            await forms.post_form(transport, upstream.base_url, {"grant_type": "x"})
        assert type(caught.value) is error
        assert words in caught.value.message


async def test_a_secret_that_the_server_repeats_is_not_repeated() -> None:
    script = answering(401, {"error": "hunter2 bad", "error_description": "client_secret hunter2 is wrong"})
    async with served(script) as (transport, upstream):
        with pytest.raises(CredentialsRejected) as caught:
            await forms.post_form(transport, upstream.base_url, {"client_secret": Secret("hunter2")})
        assert "hunter2" not in f"{caught.value.message}{caught.value.provider_error}"


async def test_a_busy_token_server_says_when_to_come_back() -> None:
    async with served(answering(503, {}, **{"retry-after": "7"})) as (transport, upstream):
        with pytest.raises(Unavailable) as caught:
            await forms.get_json(transport, upstream.base_url)
        assert caught.value.retry_after == 7


async def test_an_endless_answer_is_not_read_to_its_end() -> None:
    async with served(answering(200, '{"access_token": "' + "x" * 300_000 + '"}')) as (transport, upstream):
        with pytest.raises(Unavailable):
            await forms.get_json(transport, upstream.base_url)
        assert transport.open == 0


async def test_a_token_server_that_is_not_there() -> None:
    transport = HttpTransport()
    with refusing() as url, pytest.raises(Unavailable, match="the token server cannot be asked"):
        await forms.get_json(transport, url)
    await transport.aclose()


async def test_failing_and_recovering_over_the_wire(clock: Clock) -> None:
    script = in_turn(answering(500, "oops"), answering(200, {"access_token": "good", "expires_in": 60}))
    async with served(script) as (transport, upstream):

        async def fetch() -> Token:
            return forms.token_of(await forms.get_json(transport, upstream.base_url), clock.now)

        auth = TokenAuth(fetch, clock)
        with pytest.raises(Unavailable, match="500"):
            await shown(auth)
        clock.now += 1
        assert await shown(auth) == "Bearer good"

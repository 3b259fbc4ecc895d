"""The list of models while providers answer, fail, stall and come back. Time is fake."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any, ClassVar

import pytest
import structlog

from parley import v1
from parley_server.core.errors import ProtocolError, Unavailable
from parley_server.providers import anthropic, openai_compatible
from parley_server.providers.base import Provider
from parley_server.providers.directory import Directory
from parley_server.transports.base import Outgoing
from tests.fakes import run
from tests.providers.cards import made

ACTIVE, UNAVAILABLE, DEPRECATED = v1.Model.STATE_ACTIVE, v1.Model.STATE_UNAVAILABLE, v1.Model.STATE_DEPRECATED


class _Answer:
    """A whole body."""

    status = 200
    headers: Mapping[str, str] = {}
    arrived = True

    def __init__(self, shelf: Shelf, body: bytes) -> None:
        self._shelf = shelf
        self._body = body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._body

    async def read(self, limit: int) -> bytes:
        if len(self._body) > limit:
            raise ProtocolError("too large")
        return self._body

    async def aclose(self) -> None:
        self._shelf.open -= 1


class Shelf:
    """A wire to listings: names of models, an error, or raw text by host, each after so many seconds."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.delays: dict[str, float] = {}
        self.asked: list[str] = []
        self.open = 0

    async def send(self, request: Outgoing, *, connect_timeout: float) -> _Answer:
        host = request.url.split("/")[2]
        self.asked.append(host)
        await asyncio.sleep(self.delays.get(host, 0))
        match self.answers[host]:
            case BaseException() as error:
                raise error
            case str() as text:
                body = text.encode()
            case names:
                body = json.dumps({"data": [{"id": n} if isinstance(n, str) else n for n in names]}).encode()
        self.open += 1
        return _Answer(self, body)

    async def aclose(self) -> None:
        raise AssertionError("the directory does not own the transport")


class Cards:
    """A catalogue of two models, both shut down on the twentieth day."""

    def __init__(self) -> None:
        self.day = 1
        self.said: dict[tuple[str, str], v1.Model] = {}

    _cards: ClassVar = {
        ("labs", "known"): v1.Model(
            id="labs/known",
            provider="labs",
            provider_model="known",
            display_name="Known",
            operations=["chat"],
            capabilities=["tools", "reasoning"],
            limits=v1.ModelLimits(context_tokens=1000, max_output_tokens=100),
        ),
        ("labs", "old"): v1.Model(
            id="labs/old", provider="labs", provider_model="old", operations=["chat"], state=DEPRECATED
        ),
    }

    def get(self, provider: str, model: str, owner: str) -> v1.Model | None:
        return self._cards.get((provider, model.removesuffix("-2026")))

    def models(self, provider: str, owner: str) -> Iterable[v1.Model]:
        return [card for (name, _), card in self._cards.items() if name == provider and self.day < 20]

    def own(self, model: str, owner: str) -> v1.Model | None:
        return self.said.get((owner, model))

    def today(self) -> int:
        return self.day


def provider(name: str, *models: str, catalog: str = "", embeddings: bool = True) -> Provider:
    card = made(openai_compatible.KIND, name, base_url=f"http://{name}/v1", models=models, embeddings=embeddings)
    return Provider(
        name=card.name,
        base_url=card.base_url,
        chat=card.chat,
        embed=card.embed,
        models=card.models,
        known_models=models,
        catalog=catalog,
    )


class Shop:
    """A directory with all around it."""

    def __init__(self, shelf: Shelf, *providers: Provider) -> None:
        self.shelf = shelf
        self.changes = 0
        self.cards = Cards()
        self.directory = Directory({p.name: p for p in providers}, self.cards, shelf, on_change=self._changed)

    def _changed(self) -> None:
        self.changes += 1

    def states(self) -> dict[str, int]:
        return {model.id: model.state for model in self.directory.after("")}


async def test_before_the_first_answer_configuration_and_catalogue_speak() -> None:
    shop = Shop(Shelf(), provider("a", "tuned", catalog="labs"), provider("b"))
    assert shop.directory.ids() == ["a/known", "a/old", "a/tuned"]
    assert shop.states() == {"a/known": ACTIVE, "a/old": DEPRECATED, "a/tuned": ACTIVE}


async def test_the_listing_replaces_the_catalogues_names_but_not_the_configured_ones() -> None:
    shop = Shop(Shelf(a=["known", "new"]), provider("a", "tuned", catalog="labs"))
    await shop.directory.refresh()
    assert shop.directory.ids() == ["a/known", "a/new", "a/tuned"]
    assert shop.shelf.open == 0


async def test_facts_of_the_listing_win_over_those_of_the_catalogue() -> None:
    shop = Shop(Shelf(a=[{"id": "known", "max_model_len": 5000}]), provider("a", catalog="labs"))
    await shop.directory.refresh()
    model = shop.directory.get("a/known")
    assert model is not None
    assert (model.id, model.provider, model.display_name) == ("a/known", "a", "Known")
    assert (model.limits.context_tokens, model.limits.max_output_tokens) == (5000, 100)
    assert list(model.capabilities) == ["tools", "reasoning"]
    assert list(model.operations) == ["chat"]


async def test_operations_nobody_tells_are_those_of_the_provider() -> None:
    shop = Shop(Shelf(a=["big", "nomic-embed-text"], b=["small-embed"]), provider("a"), provider("b", embeddings=False))
    await shop.directory.refresh()
    told = {model.id: list(model.operations) for model in shop.directory.after("")}
    assert told == {"a/big": ["chat", "embed"], "a/nomic-embed-text": ["embed"], "b/small-embed": ["chat"]}


async def test_an_unlisted_name_may_be_in_the_catalogue_under_another() -> None:
    shop = Shop(Shelf(a=["new"]), provider("a", catalog="labs"))
    await shop.directory.refresh()
    dated = shop.directory.get("a/known-2026")
    assert dated is not None
    assert (dated.id, dated.provider_model, dated.limits.context_tokens) == ("a/known-2026", "known-2026", 1000)
    assert shop.directory.get("a/nothing") is None
    assert shop.directory.get("nobody/known") is None
    assert shop.directory.get("known") is None


async def test_what_is_handed_out_of_the_catalogue_is_a_copy() -> None:
    shop = Shop(Shelf(a=[]), provider("a", catalog="labs"))
    await shop.directory.refresh()
    one = shop.directory.get("a/known")
    assert one is not None
    one.display_name = "scribbled"
    other = shop.directory.get("a/known")
    assert other is not None
    assert other.display_name == "Known"


async def test_bare_names_and_pages() -> None:
    shop = Shop(Shelf(a=["x", "y/z"], b=["x"]), provider("a"), provider("b"))
    await shop.directory.refresh()
    assert shop.directory.ids_of("x") == ["a/x", "b/x"]
    assert shop.directory.ids_of("y/z") == ["a/y/z"]
    assert shop.directory.ids_of("z") == []
    assert [model.id for model in shop.directory.after("a/x")] == ["a/y/z", "b/x"]
    assert [model.id for model in shop.directory.after("a/xx")] == ["a/y/z", "b/x"]  # one that has gone meanwhile
    assert [model.id for model in shop.directory.after("z")] == []


async def test_a_provider_that_goes_down_keeps_what_it_listed_last() -> None:
    shop = Shop(Shelf(a=["one"], b=["two"]), provider("a"), provider("b"))
    await shop.directory.refresh()
    shop.shelf.answers["a"] = Unavailable("refused")
    await shop.directory.refresh()
    assert shop.states() == {"a/one": UNAVAILABLE, "b/two": ACTIVE}
    shop.shelf.answers["a"] = ["one", "three"]
    await shop.directory.refresh()
    assert shop.states() == {"a/one": ACTIVE, "a/three": ACTIVE, "b/two": ACTIVE}


@pytest.mark.parametrize(
    "answer", [Unavailable("refused"), "<html>", '{"data": 5}', "5", RuntimeError("a bug of ours")]
)
async def test_no_answer_of_one_provider_spoils_the_others(answer: Any) -> None:
    shop = Shop(Shelf(a=answer, b=["two"]), provider("a", "set"), provider("b"))
    await shop.directory.refresh()
    assert shop.states() == {"a/set": UNAVAILABLE, "b/two": ACTIVE}
    assert shop.shelf.open == 0


async def test_a_down_provider_is_logged_once_until_it_is_back() -> None:
    shop = Shop(Shelf(a=Unavailable("refused")), provider("a"))
    with structlog.testing.capture_logs() as logs:
        await shop.directory.refresh()
        await shop.directory.refresh()
        assert [entry["error"] for entry in logs] == ["refused"]
        shop.shelf.answers["a"] = []
        await shop.directory.refresh()
        shop.shelf.answers["a"] = Unavailable("again")
        await shop.directory.refresh()
    assert [entry["error"] for entry in logs] == ["refused", "again"]


async def test_listeners_hear_of_changes_only() -> None:
    shop = Shop(Shelf(a=["one"], b=["two"]), provider("a"), provider("b"))
    assert shop.changes == 1
    await shop.directory.refresh()
    assert shop.changes == 3
    await shop.directory.refresh()
    assert shop.changes == 3
    shop.shelf.answers["b"] = Unavailable("refused")
    await shop.directory.refresh()
    await shop.directory.refresh()
    assert shop.changes == 4


async def test_a_new_day_changes_what_the_catalogue_offers() -> None:
    shop = Shop(Shelf(a=Unavailable("refused")), provider("a", "tuned", catalog="labs"))
    await shop.directory.refresh()
    assert shop.directory.ids() == ["a/known", "a/old", "a/tuned"]
    changes = shop.changes
    shop.cards.day = 20
    await shop.directory.refresh()
    await shop.directory.refresh()
    assert shop.directory.ids() == ["a/tuned"]
    assert shop.changes == changes + 1


async def test_a_price_list_of_the_provider_replaces_that_of_the_catalogue() -> None:
    own = v1.ModelPricing(input_nano_usd=1, tiers=[v1.PriceTier(service_tier="flex", input_nano_usd=0)])

    class Priced(Cards):
        def get(self, provider: str, model: str, owner: str) -> v1.Model | None:
            return v1.Model(pricing=v1.ModelPricing(input_nano_usd=5, output_nano_usd=6, tiers=[v1.PriceTier()]))

    directory = Directory({"a": provider("a", catalog="labs")}, Priced(), Shelf(), on_change=lambda: None)
    directory._listed["a"] = [v1.Model(provider_model="one", pricing=own), v1.Model(provider_model="two")]
    directory._merge()
    one, two = directory.get("a/one"), directory.get("a/two")
    assert one is not None
    assert two is not None
    assert one.pricing == own
    assert two.pricing.output_nano_usd == 6


async def test_the_operator_has_the_last_word() -> None:
    shop = Shop(Shelf(a=[{"id": "known", "max_model_len": 5000}, "new"]), provider("a", catalog="labs"))
    said = {
        ("a", "known"): v1.Model(capabilities=["json-schema"], limits=v1.ModelLimits(context_tokens=700)),
        ("a", "new"): v1.Model(operations=["embed"]),
    }
    shop.cards.said.update(said)
    await shop.directory.refresh()
    known, new = shop.directory.get("a/known"), shop.directory.get("a/new")
    assert known is not None
    assert new is not None
    assert (known.limits.context_tokens, known.limits.max_output_tokens) == (700, 100)
    assert list(known.capabilities) == ["json-schema"]
    assert list(new.operations) == ["embed"]


async def test_listeners_see_the_new_list() -> None:
    seen: list[list[str]] = []
    shelf = Shelf(a=["one"])
    made: list[Directory] = []
    directory = Directory(
        {"a": provider("a")}, Cards(), shelf, on_change=lambda: seen.append(made[0].ids() if made else [])
    )
    made.append(directory)
    await directory.refresh()
    assert seen == [[], ["a/one"]]


def test_all_are_asked_at_once_and_each_answer_counts_when_it_comes() -> None:
    async def main() -> None:
        shop = Shop(Shelf(a=["one"], b=["two"], c=["three"]), provider("a"), provider("b"), provider("c"))
        shop.shelf.delays = {"a": 3600, "b": 1, "c": 2}
        start = asyncio.get_running_loop().time()
        refreshing = asyncio.create_task(shop.directory.refresh())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert shop.shelf.asked == ["a", "b", "c"]
        await asyncio.sleep(1.5)
        assert shop.directory.ids() == ["b/two"]
        await asyncio.sleep(1)
        assert shop.directory.ids() == ["b/two", "c/three"]
        await refreshing
        assert asyncio.get_running_loop().time() - start == pytest.approx(15)
        assert shop.shelf.open == 0

    run(main())


def test_it_is_kept_fresh_until_cancelled() -> None:
    async def main() -> None:
        shop = Shop(Shelf(a=["one"], b=RuntimeError("a bug of ours")), provider("a"), provider("b"))
        keeping = asyncio.create_task(shop.directory.keep_fresh(300))
        await asyncio.sleep(950)
        assert shop.shelf.asked == ["a", "b"] * 4
        keeping.cancel()
        with pytest.raises(asyncio.CancelledError):
            await keeping

    run(main())


def test_cancelling_a_refresh_ends_every_question() -> None:
    async def main() -> None:
        shop = Shop(Shelf(a=["one"]), provider("a"))
        shop.shelf.delays = {"a": 5}
        refreshing = asyncio.create_task(shop.directory.refresh())
        await asyncio.sleep(1)
        refreshing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await refreshing
        await asyncio.sleep(100)
        assert shop.directory.ids() == []
        assert len(asyncio.all_tasks()) == 1

    run(main())


async def test_pages_are_followed_to_the_last() -> None:
    pages = iter(
        [
            {"data": [{"id": "a", "type": "model"}], "has_more": True, "last_id": "a"},
            {"data": [{"id": "b", "type": "model"}], "has_more": False, "last_id": "b"},
        ]
    )

    class Pages(Shelf):
        async def send(self, request: Outgoing, *, connect_timeout: float) -> _Answer:
            self.answers["claude"] = json.dumps(next(pages))
            return await super().send(request, connect_timeout=connect_timeout)

    card = made(anthropic.KIND, "claude", base_url="http://claude/v1")
    shop = Shop(Pages(), card)
    await shop.directory.refresh()
    assert [i for i in shop.directory.ids() if i in ("claude/a", "claude/b")] == ["claude/a", "claude/b"]
    assert shop.shelf.asked == ["claude", "claude"]


async def test_providers_without_a_listing_are_not_asked() -> None:
    plain = provider("a", "set")
    mute = Provider(name="a", base_url=plain.base_url, chat=plain.chat, known_models=("set",))
    shop = Shop(Shelf(), mute)
    await shop.directory.refresh()
    assert shop.shelf.asked == []
    assert shop.states() == {"a/set": ACTIVE}

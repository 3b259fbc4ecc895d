"""Pages of models: every model once, in order, whatever the size; tokens bound to their arguments."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley import v1
from parley_server.api.models import Models
from parley_server.core.errors import InvalidRequest, ModelNotFound, PageTokenInvalid


class Known:
    def __init__(self, ids: Iterable[str]) -> None:
        self.models = {
            i: v1.Model(id=i, provider=i.partition("/")[0], provider_model=i.partition("/")[2], operations=["chat"])
            for i in sorted(ids)
        }

    def get(self, model_id: str) -> v1.Model | None:
        return self.models.get(model_id)

    def ids_of(self, bare_name: str) -> list[str]:
        return [i for i, model in self.models.items() if model.provider_model == bare_name]

    def ids(self) -> list[str]:
        return list(self.models)

    def after(self, model_id: str) -> Iterable[v1.Model]:
        ids = self.ids()
        return [self.models[i] for i in ids[bisect_right(ids, model_id) :]]


names = st.sets(
    st.builds("{}/{}".format, st.sampled_from(["a", "b"]), st.text("xyz-.", min_size=1, max_size=4)), max_size=30
)


@given(names, st.integers(1, 40))
def test_pages_show_every_model_once_in_order(ids: set[str], size: int) -> None:
    models, seen, token = Models(Known(ids)), [], ""
    while True:
        page = models.page(v1.ListModelsRequest(page_size=size, page_token=token))
        assert len(page.models) <= size
        seen += [model.id for model in page.models]
        token = page.next_page_token
        if not token:
            break
        assert page.models, "a page with a successor is not empty here"
    assert seen == sorted(ids)


def test_a_page_goes_on_behind_models_that_came_and_went() -> None:
    first = Models(Known(["a/1", "a/3", "a/5"])).page(v1.ListModelsRequest(page_size=2))
    second = Models(Known(["a/2", "a/4", "a/5"])).page(
        v1.ListModelsRequest(page_size=2, page_token=first.next_page_token)
    )
    assert [model.id for model in second.models] == ["a/4", "a/5"]


def test_sizes() -> None:
    models = Models(Known(f"a/{i:04}" for i in range(1500)))
    assert len(models.page(v1.ListModelsRequest()).models) == 100
    assert len(models.page(v1.ListModelsRequest(page_size=5000)).models) == 1000
    with pytest.raises(InvalidRequest):
        models.page(v1.ListModelsRequest(page_size=-1))


@pytest.mark.parametrize("token", ["x", "!!!!", "AAAAAAAAAAAAAAAA", "é"])
def test_a_foreign_token_is_refused(token: str) -> None:
    with pytest.raises(PageTokenInvalid):
        Models(Known(["a/1"])).page(v1.ListModelsRequest(page_token=token))


def test_a_token_belongs_to_its_arguments() -> None:
    models = Models(Known(["a/1", "a/2"]))
    token = models.page(v1.ListModelsRequest(page_size=1, provider="a")).next_page_token
    assert models.page(v1.ListModelsRequest(page_size=7, page_token=token, provider="a")).models
    with pytest.raises(PageTokenInvalid):
        models.page(v1.ListModelsRequest(page_token=token, provider="b"))


def test_filters() -> None:
    models = Models(Known(["a/1", "b/1"]))
    assert [m.id for m in models.page(v1.ListModelsRequest(provider="b")).models] == ["b/1"]
    assert not models.page(v1.ListModelsRequest(operation="embed")).models
    assert not models.page(v1.ListModelsRequest(capabilities=["tools"])).models
    with pytest.raises(InvalidRequest, match="none of chat, embed"):
        models.page(v1.ListModelsRequest(operation="sing"))


def test_filters_by_several_providers_operations_and_capabilities() -> None:
    known = Known(["a/1", "b/1", "c/1", "c/2"])
    known.models["c/2"].operations[:] = ["rerank"]
    known.models["b/1"].capabilities.extend(["tools", "reasoning"])
    models = Models(known)

    def ids(**filters: Any) -> list[str]:
        return [model.id for model in models.page(v1.ListModelsRequest(**filters)).models]

    assert ids(provider="a,c") == ids(provider=" c, a,") == ["a/1", "c/1", "c/2"]
    assert ids(operation="rerank") == ["c/2"]
    assert ids(provider="a,b", operation="rerank") == []
    assert ids(capabilities=["reasoning", "tools"]) == ["b/1"]
    assert ids(provider="d") == []


def test_a_token_outlives_another_spelling_of_the_same_filters() -> None:
    models = Models(Known(["a/1", "b/1", "b/2"]))
    token = models.page(v1.ListModelsRequest(page_size=1, provider="a,b")).next_page_token
    page = models.page(v1.ListModelsRequest(page_token=token, provider="b, a"))
    assert [model.id for model in page.models] == ["b/1", "b/2"]
    with pytest.raises(PageTokenInvalid):
        models.page(v1.ListModelsRequest(page_token=token, provider="b"))


def test_one_model_by_id_or_unambiguous_bare_name() -> None:
    models = Models(Known(["a/x", "a/y", "b/x"]))
    assert models.one("a/y").id == models.one("y").id == "a/y"
    with pytest.raises(InvalidRequest, match="a/x or b/x"):
        models.one("x")
    with pytest.raises(ModelNotFound, match="did you mean"):
        models.one("a/z")

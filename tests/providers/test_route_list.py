"""Routes among the models: what is said of them is true of all their targets."""

from __future__ import annotations

import bisect
from collections.abc import Iterable

from parley import v1
from parley_server.providers.route_list import RouteList, Shown


class Listing:
    """Models by ID."""

    def __init__(self, *models: v1.Model) -> None:
        self._models = {model.id: model for model in sorted(models, key=lambda model: model.id)}

    def get(self, model_id: str) -> v1.Model | None:
        return self._models.get(model_id)

    def ids_of(self, bare_name: str) -> list[str]:
        return [name for name in self._models if name.partition("/")[2] == bare_name]

    def ids(self) -> list[str]:
        return list(self._models)

    def after(self, model_id: str) -> Iterable[v1.Model]:
        return [self._models[name] for name in self.ids()[bisect.bisect_right(self.ids(), model_id) :]]


ONE = v1.Model(
    id="p/one",
    operations=["chat", "embed"],
    capabilities=["tools", "reasoning"],
    input_modalities=[v1.MODALITY_TEXT, v1.MODALITY_IMAGE],
    limits=v1.ModelLimits(context_tokens=1000, max_output_tokens=10, embedding_dimensions=3),
    pricing=v1.ModelPricing(input_nano_usd=1),
    state=v1.Model.STATE_ACTIVE,
)
TWO = v1.Model(
    id="q/two",
    operations=["chat"],
    capabilities=["json-schema", "tools"],
    input_modalities=[v1.MODALITY_TEXT],
    limits=v1.ModelLimits(context_tokens=500, embedding_dimensions=4),
    state=v1.Model.STATE_UNAVAILABLE,
)


def listed(*targets: str, name: str = "smart") -> v1.Model:
    model = RouteList(Listing(ONE, TWO), {name: Shown(targets)}).get(name)
    assert model is not None
    return model


def test_a_route_can_what_all_its_targets_can() -> None:
    assert listed("p/one", "q/two") == v1.Model(
        id="smart",
        targets=["p/one", "q/two"],
        operations=["chat"],
        capabilities=["tools"],
        input_modalities=[v1.MODALITY_TEXT],
        limits=v1.ModelLimits(context_tokens=500),
        state=v1.Model.STATE_ACTIVE,
    )


def test_of_a_target_that_nobody_knows_nothing_can_be_said() -> None:
    assert listed("p/one", "r/gone") == v1.Model(id="smart", targets=["p/one", "r/gone"], state=v1.Model.STATE_ACTIVE)


def test_it_is_unavailable_where_all_are() -> None:
    assert listed("q/two").state == v1.Model.STATE_UNAVAILABLE


def test_models_and_routes_are_one_list_in_order() -> None:
    routes = RouteList(Listing(ONE, TWO), {"zoo": Shown(("p/one",)), "a": Shown(("q/two",)), "pz": Shown(("p/one",))})
    everything = ["a", "p/one", "pz", "q/two", "zoo"]
    assert routes.ids() == everything
    assert [model.id for model in routes.after("")] == everything
    for number, name in enumerate(everything):
        assert [model.id for model in routes.after(name)] == everything[number + 1 :]


def test_a_route_wins_over_the_bare_name_of_a_model() -> None:
    routes = RouteList(Listing(ONE, TWO), {"two": Shown(("p/one",))})
    assert routes.ids_of("two") == ["two"]
    assert routes.ids_of("one") == ["p/one"]
    assert routes.get("q/two") == TWO

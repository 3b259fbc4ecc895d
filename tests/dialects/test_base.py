"""The words all dialects share: merge patches, bodies, wishes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley import v1
from parley_server.core.errors import ProtocolError, UnsupportedParameter
from parley_server.dialects.base import Wishes, dump, load_object, merge_patch

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)
objects = st.dictionaries(st.sampled_from("abc"), json_values, max_size=3)

RFC_7396 = [  # its appendix A: original, patch, result
    ('{"a":"b"}', '{"a":"c"}', '{"a":"c"}'),
    ('{"a":"b"}', '{"b":"c"}', '{"a":"b","b":"c"}'),
    ('{"a":"b"}', '{"a":null}', "{}"),
    ('{"a":"b","b":"c"}', '{"a":null}', '{"b":"c"}'),
    ('{"a":["b"]}', '{"a":"c"}', '{"a":"c"}'),
    ('{"a":"c"}', '{"a":["b"]}', '{"a":["b"]}'),
    ('{"a":{"b":"c"}}', '{"a":{"b":"d","c":null}}', '{"a":{"b":"d"}}'),
    ('{"a":[{"b":"c"}]}', '{"a":[1]}', '{"a":[1]}'),
    ('["a","b"]', '["c","d"]', '["c","d"]'),
    ('{"a":"b"}', '["c"]', '["c"]'),
    ('{"a":"foo"}', "null", "null"),
    ('{"a":"foo"}', '"bar"', '"bar"'),
    ('{"e":null}', '{"a":1}', '{"e":null,"a":1}'),
    ("[1,2]", '{"a":"b","c":null}', '{"a":"b"}'),
    ("{}", '{"a":{"bb":{"ccc":null}}}', '{"a":{"bb":{}}}'),
]


@pytest.mark.parametrize(("original", "patch", "result"), RFC_7396)
def test_merge_patch_does_what_rfc_7396_shows(original: str, patch: str, result: str) -> None:
    assert merge_patch(json.loads(original), json.loads(patch)) == json.loads(result)


@given(json_values, json_values)
def test_merge_patch_leaves_its_arguments_alone_and_settles(target: Any, patch: Any) -> None:
    before = json.dumps([target, patch])
    merged = merge_patch(target, patch)
    assert json.dumps([target, patch]) == before
    assert merge_patch(merged, patch) == merged


@given(objects, objects, st.sets(st.sampled_from("abc")))
def test_dump_keeps_what_is_ours_and_merges_the_rest(
    body: dict[str, Any], options: dict[str, Any], keep: set[str]
) -> None:
    dumped = json.loads(dump(dict(body), json.dumps(options), sorted(keep)))
    patched = merge_patch(body, options)
    for name in "abc":
        source = body if name in keep else patched
        assert dumped.get(name, "absent") == source.get(name, "absent")


def test_dump_without_options_is_the_body() -> None:
    assert dump({"b": 1, "a": None}, "", ("b",)) == b'{"b":1,"a":null}'


def test_only_the_outermost_level_is_protected() -> None:
    dumped = json.loads(dump({"model": "m", "x": {"model": 1}}, '{"model": "n", "x": {"model": 2}}', ("model",)))
    assert dumped == {"model": "m", "x": {"model": 2}}


def test_options_can_take_a_field_out_but_not_a_protected_one() -> None:
    assert json.loads(dump({"a": 1, "model": "m"}, '{"a": null, "model": null}', ("model",))) == {"model": "m"}


@pytest.mark.parametrize("body", [b"", b"<html>", b"[1]", b"5", b"null", b'{"a": 1', b"\xff", b'{"a": "\xff"}'])
def test_a_body_that_is_no_json_object_is_nonsense_of_the_provider(body: bytes) -> None:
    with pytest.raises(ProtocolError):
        load_object(body)


def test_a_json_object_is_loaded() -> None:
    assert load_object('{"a": ["é"]}'.encode()) == {"a": ["é"]}


@pytest.mark.parametrize("policy", [v1.UNSUPPORTED_POLICY_WARN, v1.UNSUPPORTED_POLICY_UNSPECIFIED])
def test_unmet_wishes_are_warnings(policy: v1.UnsupportedPolicy.ValueType) -> None:
    wishes = Wishes(policy)
    assert wishes.warnings() == ()
    wishes.unmet("sampling.seed", "there is no seed")
    wishes.unmet("reasoning.effort", "less it is", code="CLAMPED")
    assert wishes.warnings() == (
        v1.Warning(code="UNSUPPORTED_PARAMETER", message="there is no seed", field="sampling.seed"),
        v1.Warning(code="CLAMPED", message="less it is", field="reasoning.effort"),
    )


def test_unmet_wishes_refuse_the_request_that_asks_for_it() -> None:
    wishes = Wishes(v1.UNSUPPORTED_POLICY_ERROR)
    assert wishes.warnings() == ()
    for number in range(5):
        wishes.unmet(f"field{number}", f"problem {number}", code="CLAMPED")
    with pytest.raises(UnsupportedParameter) as caught:
        wishes.warnings()
    assert caught.value.message == "problem 0; problem 1; problem 2"
    assert [(v.field, v.reason) for v in caught.value.violations] == [(f"field{n}", "CLAMPED") for n in range(5)]

"""The dashboard and the alerts: they ask for what there is, by names and labels that it has."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import combinations

import pytest

from parley_server import semconv
from tests.tools.dashboards import BEGIN, Source, alerts, dashboard, files, rewritten, rules
from tests.tools.metrics import PAGE, ROWS, label, prometheus

NAME = re.compile(r"\b(?:parley|gen_ai|rpc)_[a-z_]+")
SELECTOR = re.compile(r"\b((?:parley|gen_ai|rpc)_[a-z_]+)(?:\{([^}]*)\})?")
SERIES = {
    name: row
    for row in ROWS
    for name in (
        [prometheus(row) + part for part in ("_bucket", "_sum", "_count")]
        if row.kind == "histogram"
        else [prometheus(row)]
    )
}
LABELS = {label(name) for row in ROWS for name in row.attributes}


def expressions() -> Iterator[tuple[str, str]]:
    """By what they are for."""
    for panel in dashboard()["panels"]:
        for target in panel.get("targets", ()):
            yield f"{panel['title']} {target['refId']}", target["expr"]
    for alert in alerts():
        yield alert.name, alert.expression


@pytest.mark.parametrize("expression", [pytest.param(text, id=name) for name, text in expressions()])
def test_every_expression_asks_for_what_there_is(expression: str) -> None:
    assert expression.count("(") == expression.count(")")
    asked = [(name, matchers) for name, matchers in SELECTOR.findall(expression) if name not in LABELS]
    assert asked
    for name, matchers in asked:
        row = SERIES[name]
        own = {label(attribute) for attribute in row.attributes}
        assert set(re.findall(r"(\w+)\s*[=!]~?", matchers)) <= own | {"instance"}
        assert ("rate(" + name in expression) == (row.kind in ("histogram", "counter")), "counters are rates"
    grouped = {one for group in re.findall(r"by \(([^)]*)\)", expression) for one in group.split(", ")}
    assert grouped - {"le"} <= {label(attribute) for name, _ in asked for attribute in SERIES[name].attributes}
    assert ("le" in grouped) == ("histogram_quantile" in expression) == ("_bucket" in expression)


def test_what_is_not_in_the_table_cannot_be_asked_for() -> None:
    with pytest.raises(KeyError, match="made_up"):
        Source().rate("parley.made_up")
    with pytest.raises(KeyError, match=r"has no attribute 'parley\.caller'"):
        Source().rate("parley.upstream.attempts", semconv.PARLEY_CALLER)


def test_panels_have_numbers_of_their_own_and_do_not_overlap() -> None:
    panels = dashboard()["panels"]
    assert [panel["id"] for panel in panels] == list(range(1, len(panels) + 1))
    places = [panel["gridPos"] for panel in panels]
    for one, other in combinations(places, 2):
        apart = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        above = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert apart or above
    assert all(place["x"] + place["w"] <= 24 for place in places)
    legends = [target["legendFormat"] for panel in panels for target in panel.get("targets", ())]
    assert set(re.findall(r"\{\{(\w+)\}\}", "".join(legends))) <= LABELS


def test_alerts_are_told_of_and_say_what_to_do() -> None:
    [group] = rules()["groups"]
    assert [rule["alert"] for rule in group["rules"]] == [alert.name for alert in alerts()]
    page = PAGE.read_text("utf-8")
    for rule in group["rules"]:
        assert f"| `{rule['alert']}` | {rule['for']} | a {rule['labels']['severity']} |" in page
        summary = rule["annotations"]["summary"]
        by = {one for found in re.findall(r"by \(([^)]*)\)", rule["expr"]) for one in found.split(", ")}
        assert set(re.findall(r"\$labels\.(\w+)", summary)) <= by
        assert summary.endswith((".", "?"))
    assert rewritten(page) == page
    with pytest.raises(ValueError, match="no place for the table"):
        rewritten(page.replace(BEGIN, ""))


def test_the_folder_holds_what_the_table_makes() -> None:
    folder = PAGE.parents[1] / "deploy" / "dashboards"
    for name, text in files().items():
        assert (folder / name).read_text("utf-8") == text

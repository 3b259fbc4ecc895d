"""Write the Grafana dashboard and the Prometheus alerts in deploy/dashboards/, from the table of metrics.

python -m tests.tools.dashboards            writes them anew, and their table into docs/metrics.md
python -m tests.tools.dashboards --check    writes nothing; exits with 1 if what is there is stale

Expressions name metrics and attributes as the table does, and raise KeyError for what is not in it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from parley_server import semconv
from tests.tools.metrics import PAGE, ROWS, label, prometheus

FOLDER = Path(__file__).resolve().parents[2] / "deploy" / "dashboards"
BEGIN, END = "<!-- alerts: written by `make gen` from tests/tools/dashboards.py -->", "<!-- /alerts -->"
_ROWS = {row.name: row for row in ROWS}
_DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
_HERE = 'instance=~"$instance"'
_WIDTH, _HEIGHT = 24, 8
_NANO = "1e9"

_CALLS, _ATTEMPTS = "rpc.server.call.duration", "parley.upstream.attempts"
_DURATION, _FIRST = "gen_ai.client.operation.duration", "gen_ai.client.operation.time_to_first_chunk"
_TOKENS, _COST = "gen_ai.client.token.usage", "parley.upstream.cost_nano_usd"
_TARGET = (semconv.PARLEY_PROVIDER, semconv.REQUEST_MODEL)
_FAULTS = "UNAVAILABLE|INTERNAL|DEADLINE_EXCEEDED"


@dataclass(frozen=True)
class Source:
    """Where expressions look: `scope` selects gateways, `window` is what rates are taken over."""

    scope: str = _HERE
    window: str = "$__rate_interval"

    def of(self, name: str, part: str = "", where: str = "", **attributes: str) -> str:
        """The samples of a metric. `where`: an attribute; `attributes`: one of `matches` and `differs`, a pattern."""
        row = _ROWS[name]
        matchers = [self.scope] if self.scope else []
        for operator, key in (("=~", "matches"), ("!~", "differs")):
            if key in attributes:
                matchers.append(f'{_known(row.name, where)}{operator}"{attributes[key]}"')
        return f"{prometheus(row)}{part}" + (f"{{{', '.join(matchers)}}}" if matchers else "")

    def rate(self, name: str, *by: str, part: str = "", window: str = "", **filters: str) -> str:
        """How much a counter grows in a second, `by` attributes. Of a histogram, `part` says which."""
        part = part or ("_count" if _ROWS[name].kind == "histogram" else "")
        labels = ", ".join(_known(name, attribute) for attribute in by)
        return f"sum{_by(labels)}(rate({self.of(name, part, **filters)}[{window or self.window}]))"

    def quantile(self, share: float, name: str, *by: str, **filters: str) -> str:
        """Of a histogram, over the window."""
        labels = ", ".join(["le", *(_known(name, attribute) for attribute in by)])
        inner = f"sum by ({labels}) (rate({self.of(name, '_bucket', **filters)}[{self.window}]))"
        return f"histogram_quantile({share:g}, {inner})"

    def total(self, name: str, *by: str, how: str = "sum", **filters: str) -> str:
        """Of what is held now."""
        return f"{how}{_by(', '.join(_known(name, attribute) for attribute in by))}({self.of(name, **filters)})"


def _by(labels: str) -> str:
    return f" by ({labels}) " if labels else ""


def _known(name: str, attribute: str) -> str:
    """The label of an attribute that this metric has."""
    if attribute not in _ROWS[name].attributes:
        raise KeyError(f"{name} has no attribute {attribute!r}")
    return label(attribute)


@dataclass(frozen=True)
class Panel:
    """A graph. `lines`: expression and legend of each. `thirds`: how wide it is."""

    title: str
    unit: str
    lines: tuple[tuple[str, str], ...]
    thirds: int = 1
    stacked: bool = False
    kind: str = "timeseries"


def sections(look: Source) -> Iterator[tuple[str, list[Panel]]]:
    """What is shown, from what callers see inwards."""
    code, error = semconv.RPC_STATUS_CODE, semconv.ERROR_TYPE
    faults = look.rate(_CALLS, where=code, matches=_FAULTS)
    yield "Calls", [
        Panel("Calls by status", "reqps", ((look.rate(_CALLS, code), _legend(code)),), stacked=True),
        Panel("Share of calls that failed for no fault of their callers", "percentunit", (
            (f"({faults} or vector(0)) / {look.rate(_CALLS)}", "failed"),
        )),
        Panel("Calls under way", "short", (
            (look.total("parley.server.active_calls"), "calls"),
            (look.total("parley.upstream.open_streams"), "answers of providers"),
            (look.total("parley.upstream.queued_calls"), "waiting for a target"),
        )),
        Panel("Duration of Chat", "s", tuple(_quantiles(look, _CALLS, where=semconv.RPC_METHOD, matches=".*/Chat"))),
        Panel("Duration of StreamChat", "s", tuple(
            _quantiles(look, _CALLS, where=semconv.RPC_METHOD, matches=".*/StreamChat")
        )),
        Panel("Failed calls by reason", "reqps", (
            (look.rate(_CALLS, error, where=code, differs="OK"), _legend(error)),
        ), stacked=True),
    ]  # fmt: skip
    yield "Providers", [
        Panel("Attempts", "reqps", ((look.rate(_ATTEMPTS, *_TARGET), _legend(*_TARGET)),), stacked=True),
        Panel("Attempts that were not the first", "reqps", (
            (look.rate(_ATTEMPTS, semconv.PARLEY_ATTEMPT_KIND, where=semconv.PARLEY_ATTEMPT_KIND, differs="first"),
             _legend(semconv.PARLEY_ATTEMPT_KIND)),
        ), stacked=True),
        Panel("Failed attempts", "reqps", (
            (look.rate(_ATTEMPTS, semconv.PARLEY_PROVIDER, error, where=error, differs="|CANCELLED|OUTRUN"),
             _legend(semconv.PARLEY_PROVIDER, error)),
        ), stacked=True),
        Panel("Time to first chunk, p95", "s", ((look.quantile(0.95, _FIRST, *_TARGET), _legend(*_TARGET)),)),
        Panel("Duration of attempts, p95", "s", ((look.quantile(0.95, _DURATION, *_TARGET), _legend(*_TARGET)),)),
        Panel("Circuits (1: tried again, 2: left alone)", "short", (
            (look.total("parley.upstream.circuit.state", *_TARGET, how="max") + " > 0", _legend(*_TARGET)),
        )),
        Panel("Waits for a place or for limits, p95", "s", (
            (look.quantile(0.95, "parley.upstream.queue.duration", semconv.PARLEY_PROVIDER, semconv.PARLEY_QUEUE),
             _legend(semconv.PARLEY_PROVIDER, semconv.PARLEY_QUEUE)),
        )),
        Panel("Attempts under way", "short", (
            (look.total("parley.upstream.active_attempts", *_TARGET), _legend(*_TARGET)),
        )),
        Panel("Keys set aside", "short", ((look.total("parley.upstream.keys_set_aside"), "keys"),)),
    ]  # fmt: skip
    yield "Tokens and cost", [
        Panel("Tokens in a second", "short", (
            (look.rate(_TOKENS, semconv.TOKEN_TYPE, part="_sum"), _legend(semconv.TOKEN_TYPE)),
        )),
        Panel("US dollars in an hour", "currencyUSD", (
            (f"{look.rate(_COST, *_TARGET)} * 3600 / {_NANO}", _legend(*_TARGET)),
        ), stacked=True),
        Panel("US dollars in an hour, by caller", "currencyUSD", (
            (f"{look.rate('parley.caller.cost_nano_usd', semconv.PARLEY_CALLER)} * 3600 / {_NANO}",
             _legend(semconv.PARLEY_CALLER)),
        ), stacked=True),
    ]  # fmt: skip
    yield "Cache and limits", [
        Panel("Lookups in the cache", "reqps", (
            (look.rate("parley.cache.lookups", semconv.PARLEY_CACHE_RESULT), _legend(semconv.PARLEY_CACHE_RESULT)),
        ), stacked=True),
        Panel("US dollars saved in an hour", "currencyUSD", (
            (f"{look.rate('parley.cache.saved_nano_usd')} * 3600 / {_NANO}", "saved"),
        )),
        Panel("Calls that limits let through and refused", "reqps", (
            (look.rate("parley.limits.calls", semconv.PARLEY_LIMITS_RESULT, semconv.PARLEY_LIMITS_OF),
             _legend(semconv.PARLEY_LIMITS_RESULT, semconv.PARLEY_LIMITS_OF)),
        ), stacked=True),
    ]  # fmt: skip
    yield "Gateways", [
        Panel("Delay of the event loop", "s", tuple(_quantiles(look, "parley.event_loop.delay"))),
        Panel("Configuration (revision, and whether the newest is refused)", "short", (
            (look.total("parley.config.revision", how="max"), "revision"),
            (look.total("parley.config.refused", how="max"), "refused"),
        )),
        Panel("Stores that do not answer", "short", ((look.total("parley.store.unavailable"), "stores"),)),
    ]  # fmt: skip


def _quantiles(look: Source, name: str, **filters: str) -> Iterator[tuple[str, str]]:
    for share in (0.5, 0.95, 0.99):
        yield look.quantile(share, name, **filters), f"p{share * 100:g}"


def _legend(*attributes: str) -> str:
    return " ".join(f"{{{{{label(attribute)}}}}}" for attribute in attributes)


def dashboard() -> dict[str, Any]:
    """As Grafana imports it."""
    panels: list[dict[str, Any]] = []
    top = 0
    for title, shown in sections(Source()):
        panels.append(_row(len(panels) + 1, title, top))
        top += 1
        left = 0
        for panel in shown:
            width = panel.thirds * _WIDTH // 3
            if left + width > _WIDTH:
                left, top = 0, top + _HEIGHT
            panels.append(_graph(len(panels) + 1, panel, left, top, width))
            left += width
        top += _HEIGHT
    instances = f"label_values({prometheus(_ROWS['parley.config.revision'])}, instance)"
    return {
        "uid": "parley",
        "title": "Parley",
        "description": "Written from the table of metrics; see docs/metrics.md.",
        "tags": ["parley", "llm"],
        "schemaVersion": 39,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {
            "list": [
                {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"},
                {
                    "name": "instance",
                    "label": "Gateway",
                    "type": "query",
                    "datasource": _DATASOURCE,
                    "query": {"query": instances, "refId": "instance"},
                    "definition": instances,
                    "refresh": 2,
                    "multi": True,
                    "includeAll": True,
                    "allValue": ".*",
                    "current": {"text": "All", "value": "$__all"},
                },
            ]
        },
        "panels": panels,
    }


def _row(number: int, title: str, top: int) -> dict[str, Any]:
    place = {"x": 0, "y": top, "w": _WIDTH, "h": 1}
    return {"id": number, "type": "row", "title": title, "collapsed": False, "gridPos": place, "panels": []}


def _graph(number: int, panel: Panel, left: int, top: int, width: int) -> dict[str, Any]:
    custom: dict[str, Any] = {"fillOpacity": 10, "showPoints": "never", "spanNulls": False}
    if panel.stacked:
        custom |= {"fillOpacity": 40, "stacking": {"mode": "normal", "group": "A"}}
    targets = [
        {"refId": chr(ord("A") + index), "datasource": _DATASOURCE, "expr": expression, "legendFormat": legend}
        for index, (expression, legend) in enumerate(panel.lines)
    ]
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "datasource": _DATASOURCE,
        "gridPos": {"x": left, "y": top, "w": width, "h": _HEIGHT},
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0, "custom": custom}, "overrides": []},
        "options": {
            "legend": {"displayMode": "list", "placement": "bottom"},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
        "targets": targets,
    }


@dataclass(frozen=True)
class Alert:
    """`lasts`: for how long before it is told. `why`: one sentence for whoever is woken, and one for what to do."""

    name: str
    expression: str
    lasts: str
    severity: str
    why: str


def alerts() -> list[Alert]:
    """Those worth having."""
    look = Source(scope="", window="5m")
    slow = Source(scope="", window="15m")
    target = "{{ $labels.parley_provider }}/{{ $labels.gen_ai_request_model }}"
    calls = look.rate(_CALLS)
    refusals = "PROVIDER_CREDENTIALS_REJECTED|PROVIDER_QUOTA_EXHAUSTED"
    cost = look.rate(_COST, window="1h")
    later = look.rate(_ATTEMPTS, where=semconv.PARLEY_ATTEMPT_KIND, differs="first")
    return [
        Alert(
            "ParleyGone", f"absent({look.of('parley.config.revision')})", "5m", "page",
            "No gateway tells its metrics. Are there any, and can they be scraped?",
        ),
        Alert(
            "ParleyCallsFail",
            f"{look.rate(_CALLS, where=semconv.RPC_STATUS_CODE, matches=_FAULTS)} / {calls} > 0.05 and {calls} > 0.1",
            "5m", "page",
            "More than 5 % of calls fail for no fault of their callers. Failed attempts by provider say whose it is.",
        ),
        Alert(
            "ParleyEventLoopLate", look.quantile(0.99, "parley.event_loop.delay") + " > 0.5", "5m", "page",
            "A gateway's event loop comes back half a second late: it has too much to do, or something blocks it.",
        ),
        Alert(
            "ParleyKeyRefused",
            f"{slow.rate(_ATTEMPTS, semconv.PARLEY_PROVIDER, where=semconv.ERROR_TYPE, matches=refusals)} > 0",
            "1m", "page",
            "{{ $labels.parley_provider }} refuses a key, or its account has no money. Nothing mends that by itself.",
        ),
        Alert(
            "ParleyKeysSetAside", look.total("parley.upstream.keys_set_aside") + " > 0", "5m", "ticket",
            "Keys of a provider with several are not used any more; the others carry the load.",
        ),
        Alert(
            "ParleyTargetLeftAlone",
            look.total("parley.upstream.circuit.state", *_TARGET, how="max") + " == 2", "5m", "ticket",
            f"{target} has failed for minutes and is left alone; its fallbacks are asked instead, if it has any.",
        ),
        Alert(
            "ParleyManyRetries",
            f"{later} / {look.rate(_ATTEMPTS)} > 0.3",
            "10m", "ticket",
            "Three in ten attempts are retries, fallbacks or hedges: callers see little of it, the bill does.",
        ),
        Alert(
            "ParleySlowToBegin", slow.quantile(0.95, _FIRST, *_TARGET) + " > 10", "15m", "ticket",
            f"One stream in twenty of {target} takes more than ten seconds to its first content.",
        ),
        Alert(
            "ParleyCallsQueue", look.total("parley.upstream.queued_calls") + " > 100", "5m", "ticket",
            "A hundred calls wait for a target: raise `bulkhead` or `limits`, or add a target to the route.",
        ),
        Alert(
            "ParleyCostJumps",
            f"{cost} > 3 * {cost.replace('[1h]', '[1h] offset 1d')} and {cost} * 3600 > {_NANO}",
            "15m", "ticket",
            "The last hour has cost three times what the same hour did yesterday, and more than a dollar.",
        ),
        Alert(
            "ParleyStoreAway", look.total("parley.store.unavailable") + " > 0", "1m", "ticket",
            "What gateways share does not answer: limits, cache or streams are each gateway's own meanwhile.",
        ),
        Alert(
            "ParleyConfigRefused", look.total("parley.config.refused", how="max") + " == 1", "2m", "ticket",
            "The newest configuration is no good and is not in use; the log says what is wrong with it.",
        ),
    ]  # fmt: skip


def rules() -> dict[str, Any]:
    """As Prometheus reads them."""
    return {
        "groups": [
            {
                "name": "parley",
                "rules": [
                    {
                        "alert": alert.name,
                        "expr": alert.expression,
                        "for": alert.lasts,
                        "labels": {"severity": alert.severity},
                        "annotations": {"summary": alert.why},
                    }
                    for alert in alerts()
                ],
            }
        ]
    }


def files() -> dict[str, str]:
    """By name, what is to stand in the folder."""
    note = "# Written by `make gen` from the table of metrics; do not edit.\n"
    return {
        "parley.json": json.dumps(dashboard(), indent=1) + "\n",
        "alerts.yaml": note + yaml.safe_dump(rules(), sort_keys=False, allow_unicode=True, width=140),
    }


def rewritten(text: str) -> str:
    """The page with the table of alerts as it must be. Raises ValueError without its marks."""
    before, begin, rest = text.partition(BEGIN)
    _, end, behind = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"there is no place for the table: {BEGIN} … {END}")
    lines = ["| alert | after | for | why |", "|---|---|---|---|"]
    for alert in alerts():
        why = alert.why.replace("{{ $labels.parley_provider }}/{{ $labels.gen_ai_request_model }}", "a target")
        why = why.replace("{{ $labels.parley_provider }}", "A provider").replace("|", "\\|")
        lines.append(f"| `{alert.name}` | {alert.lasts} | a {alert.severity} | {why[0].upper()}{why[1:]} |")
    return "\n".join([before + begin, *lines, end + behind])


def main() -> int:
    """Write, or check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if something is stale")
    texts = {FOLDER / name: text for name, text in files().items()}
    texts[PAGE] = rewritten(PAGE.read_text("utf-8"))
    if not parser.parse_args().check:
        FOLDER.mkdir(parents=True, exist_ok=True)
        for path, text in texts.items():
            path.write_text(text, "utf-8")
        return 0
    stale = [path.name for path, text in texts.items() if not path.exists() or path.read_text("utf-8") != text]
    for name in stale:
        print(f"{name} is stale: run `make gen` and commit the result")
    return bool(stale)


if __name__ == "__main__":
    sys.exit(main())

"""Dashboards and rules refer only to what a server really exports, and explain themselves."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from convd.service.metrics.gpu import GpuCollector
from deploy.grafana.dashboards import DASHBOARDS, HARDWARE
from deploy.grafana.edge import EDGE
from deploy.grafana.generate import FOLDER
from deploy.grafana.panels import Dashboard, Panel
from deploy.grafana.promql import grouped_labels, selected_labels, series
from testbed.envoy import recorded_series
from tests.digits import Digits
from tests.service.test_integrity import lie_about_the_golden_answers
from tests.support import ROOT, add_version, running_server, wait_until

RULES = ROOT / "deploy" / "prometheus" / "rules"
PROMTOOL = shutil.which("promtool")
TARGET_LABELS = {"job", "instance"}
UNITS = {
    "none", "s", "percentunit", "reqps", "ops", "bytes", "sci", "celsius", "watt", "joule",
    "dateTimeAsIso",
}  # fmt: skip
PANELS = [
    pytest.param(board, panel, id=f"{board.uid}: {panel.title}")
    for board in DASHBOARDS
    for panel in board.panels
]


def rules() -> list[dict[str, Any]]:
    return [
        rule
        for path in sorted(RULES.glob("*.yml"))
        for group in yaml.safe_load(path.read_text())["groups"]
        for rule in group["rules"]
    ]


ALERTS = [rule for rule in rules() if "alert" in rule]
RECORDED = {rule["record"]: rule["expr"] for rule in rules() if "record" in rule}


@pytest.fixture(scope="module")
def exported(
    published: Path, digits: Digits, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, set[str]]:
    """Labels of every series that a server exports, by name."""
    repository = tmp_path_factory.mktemp("repository")
    add_version(repository, "digits", published)
    lie_about_the_golden_answers(add_version(repository, "digits", published))
    add_version(repository, "digits", published)
    (repository / "digits" / "config.yaml").write_text(
        "version_policy: all\nlabels: {stable: 1, canary: 3}\nshadow: {share: 1}\n"
    )
    with running_server(repository) as client:
        wait_until(lambda: 'cause="golden"' in client.get("/metrics")[1])
        image = digits.encoded()
        for _ in range(5):
            client.classify(*[image] * 100)
        text = client.get("/metrics")[1]
    labels: dict[str, set[str]] = {"up": set(TARGET_LABELS)}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found = labels.setdefault(sample.name, set(TARGET_LABELS))
            found.update(sample.labels)
    for family in GpuCollector(None, 0).describe():
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels[name] = {"gpu", "name", *TARGET_LABELS}
    labels |= {name: TARGET_LABELS | found for name, found in recorded_series().items()}
    for name, expression in RECORDED.items():
        labels[name] = grouped_labels(expression)
    # Recorded series made of recorded series have the labels of those.
    labels["model_version:convd_request_errors:ratio_rate5m"] |= {"job", "model", "version"}
    return labels


def check(expression: str, exported: dict[str, set[str]]) -> None:
    names = series(expression)
    assert names, f"no series in {expression}"
    assert names <= exported.keys(), names - exported.keys()
    for name, label in selected_labels(expression):
        assert label in exported[name], f"{name} has no label {label}"
    known = set().union(*(exported[name] for name in names))
    assert grouped_labels(expression) <= known, grouped_labels(expression) - known


@pytest.mark.parametrize(("board", "panel"), PANELS)
def test_a_panel_asks_for_what_exists_and_says_what_it_shows(
    board: Dashboard, panel: Panel, exported: dict[str, set[str]]
) -> None:
    assert panel.unit in UNITS
    assert len(panel.help) > 30
    assert panel.help.endswith(".")
    defined = {variable.name for variable in board.variables} | {"__rate_interval"}
    assert panel.queries
    for query in panel.queries:
        assert set(re.findall(r"\$(\w+)", query.expression)) <= defined
        assert query.legend
        legend_labels = set(re.findall(r"\{\{(\w+)\}\}", query.legend))
        known = set().union(*(exported[name] for name in series(query.expression)))
        assert legend_labels <= known
        check(query.expression, exported)


@pytest.mark.parametrize("board", DASHBOARDS, ids=[board.uid for board in DASHBOARDS])
def test_the_choices_at_the_top_come_from_series_that_exist(
    board: Dashboard, exported: dict[str, set[str]]
) -> None:
    for variable in board.variables:
        assert variable.name in exported[variable.metric]
    names = [variable.name for variable in board.variables]
    assert names == (
        ["instance"] if board in (HARDWARE, EDGE) else ["instance", "model", "version"]
    )


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule.get("alert") or rule["record"])
def test_a_rule_asks_for_what_exists(rule: dict[str, Any], exported: dict[str, set[str]]) -> None:
    check(rule["expr"], exported)


@pytest.mark.parametrize("alert", ALERTS, ids=[alert["alert"] for alert in ALERTS])
def test_an_alert_says_what_to_do_and_has_a_section_in_the_guide(alert: dict[str, Any]) -> None:
    assert alert["labels"]["severity"] in {"warning", "critical"}
    assert alert["annotations"].keys() == {"summary", "description", "runbook"}
    name = alert["alert"]
    assert alert["annotations"]["runbook"].endswith(f"; docs/operating.md#{name.lower()}")
    headings = re.findall(r"^#+ (.*)$", (ROOT / "docs/operating.md").read_text(), re.MULTILINE)
    assert name in headings


def test_the_dashboards_on_disk_are_fresh() -> None:
    from deploy.grafana import generate

    expected = {f"{board.uid}.json" for board in DASHBOARDS}
    assert {path.name for path in FOLDER.glob("*.json")} == expected
    for board in DASHBOARDS:
        text = generate.render(board)
        assert (FOLDER / f"{board.uid}.json").read_text() == text, "make dashboards"


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed")
@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "rules", *map(str, sorted(RULES.glob("*.yml")))),
        ("test", "rules", str(ROOT / "deploy" / "prometheus" / "tests" / "alerts.yml")),
    ],
    ids=["check", "unit tests"],
)
def test_prometheus_accepts_the_rules(arguments: tuple[str, ...]) -> None:
    done = subprocess.run([str(PROMTOOL), *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr

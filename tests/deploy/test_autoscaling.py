"""Both ways to autoscale ask for what the server exports, get what is meant, and move alike."""

import shutil
import subprocess
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml

from convd.service.lifecycle.version_metrics import VersionCollector
from convd.service.metrics import Metrics
from deploy.grafana.promql import grouped_labels, series
from tests.deploy.manifests import documents, quantity, resource

PROMTOOL = shutil.which("promtool")
AUTOSCALER: dict[str, Any] = resource("components/hpa", "HorizontalPodAutoscaler")["spec"]
SCALED: dict[str, Any] = resource("components/keda", "ScaledObject")
(ADAPTER,) = (one for one in documents("components/hpa") if "rules" in one)
OF_ADAPTER = {
    rule["name"]["as"]: rule["metricsQuery"]
    .replace("<<.GroupBy>>", "pod")
    .replace("<<.LabelMatchers>>", 'namespace="convd",pod=~"a|b|idle"')
    for rule in ADAPTER["rules"]
}
OF_KEDA = [one["metadata"]["query"] for one in SCALED["spec"]["triggers"]]


def exported() -> set[str]:
    """Names of the series that a server exports once it has answered."""
    metrics = Metrics()
    metrics.watch_readiness(lambda: "")
    VersionCollector(metrics.registry, lambda: (), metrics.forget)
    endings = {"histogram": ("_bucket", "_count", "_sum"), "counter": ("_total",)}
    return {
        f"{family.name}{ending}"
        for family in metrics.registry.collect()
        for ending in endings.get(family.type, ("",))
    }


def test_their_queries_ask_for_what_the_server_exports() -> None:
    for expression in (*OF_ADAPTER.values(), *OF_KEDA):
        assert series(expression) <= exported()
        assert grouped_labels(expression) <= {"pod", "model"}
    for rule in ADAPTER["rules"]:
        assert series(rule["seriesQuery"]) == {"convd_ready"}


def test_both_ask_for_the_same_and_have_the_same_targets() -> None:
    asked = {one["pods"]["metric"]["name"]: one["pods"]["target"] for one in AUTOSCALER["metrics"]}
    assert asked.keys() == OF_ADAPTER.keys()
    for trigger, (name, target) in zip(SCALED["spec"]["triggers"], asked.items(), strict=True):
        query = trigger["metadata"]["query"]
        assert series(query) == series(OF_ADAPTER[name]) - {"convd_ready"}
        assert f'namespace="{SCALED["metadata"]["namespace"]}"' in query
        assert trigger["metricType"] == target["type"]
        assert Decimal(trigger["metadata"]["threshold"]) == quantity(target["averageValue"])


def test_both_move_alike() -> None:
    keda = SCALED["spec"]
    assert AUTOSCALER["minReplicas"] == keda["minReplicaCount"]
    assert AUTOSCALER["maxReplicas"] == keda["maxReplicaCount"]
    own = keda["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    assert AUTOSCALER["behavior"] == own
    for one in (AUTOSCALER, keda):
        assert one["scaleTargetRef"]["name"] == resource("base", "Deployment")["metadata"]["name"]


@pytest.mark.skipif(PROMTOOL is None, reason="needs promtool")
def test_what_prometheus_answers(tmp_path: Path) -> None:
    """Pod `a` serves two models at half of its time, `b` runs a batch on each of four cores."""
    queries = [*OF_ADAPTER.values(), *OF_KEDA]
    busy_seconds = {("a", "m", 1): 6, ("a", "m", 2): 1.5, ("a", "n", 1): 3, ("b", "m", 1): 60}
    inputs = {f'convd_ready{{namespace="convd",pod="{pod}"}}': "1x40" for pod in ("a", "b", "idle")}
    for (pod, model, version), seconds in busy_seconds.items():
        labels = f'namespace="convd",pod="{pod}",model="{model}",version="{version}"'
        inputs[f"convd_batch_duration_seconds_sum{{{labels}}}"] = f"0+{seconds}x40"
        age_seconds = 0.1 if (pod, model) == ("a", "m") else 0
        inputs[f"convd_queue_age_seconds{{{labels}}}"] = f"{age_seconds}x40"
    expected = {
        "convd_engine_busy_ratio": {"a": 0.5, "b": 1, "idle": 0},
        "convd_queue_age_seconds": {"a": 0.1, "b": 0, "idle": 0},
        "keda_busy": {"": 1.5},
        "keda_age": {"": 0.1},
    }
    case = {
        "interval": "15s",
        "input_series": [{"series": name, "values": values} for name, values in inputs.items()],
        "promql_expr_test": [
            {
                "expr": expression,
                "eval_time": "5m",
                "exp_samples": [
                    {"labels": f'{{pod="{pod}"}}' if pod else "{}", "value": value}
                    for pod, value in values.items()
                ],
            }
            for expression, values in zip(queries, expected.values(), strict=True)
        ],
    }
    test = {"rule_files": [], "evaluation_interval": "15s", "tests": [case]}
    (tmp_path / "test.yml").write_text(yaml.safe_dump(test))
    done = subprocess.run(
        [str(PROMTOOL), "test", "rules", str(tmp_path / "test.yml")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr

"""The rules of deploy/prometheus as a PrometheusRule: python -m deploy.prometheus_rule."""

from pathlib import Path

import yaml

RULES = Path(__file__).parent / "prometheus" / "rules"
TARGET = Path(__file__).parent / "kubernetes/components/monitoring/prometheus-rule.yaml"
_HEADER = "# Written by python -m deploy.prometheus_rule from deploy/prometheus/rules.\n"


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as they are read."""


_Dumper.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar(
        "tag:yaml.org,2002:str", text, style="|" if "\n" in text else None
    ),
)


def prometheus_rule() -> str:
    """The resource, with every group of every file of rules."""
    groups = []
    for file in sorted(RULES.glob("*.yml")):
        groups += yaml.safe_load(file.read_text())["groups"]
    resource = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "convd", "namespace": "convd"},
        "spec": {"groups": groups},
    }
    return _HEADER + yaml.dump(resource, Dumper=_Dumper, sort_keys=False, width=100)


def main() -> None:
    """Write the resource."""
    TARGET.write_text(prometheus_rule())


if __name__ == "__main__":
    main()

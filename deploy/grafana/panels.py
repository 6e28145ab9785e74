"""Panels and dashboards in Grafana's JSON model, as far as convd's dashboards need them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
_COLUMNS = 24
_ROW_HEIGHT = 8

Json = dict[str, Any]


@dataclass(frozen=True)
class Query:
    """One PromQL expression and the legend of its series.

    Attributes:
        expression: PromQL; `$model`, `$version` and `$instance` are the dashboard's variables.
        legend: Grafana's template of the series' names, such as `{{model}} {{version}}`.
    """

    expression: str
    legend: str


@dataclass(frozen=True)
class Panel:
    """One panel.

    Attributes:
        title: What it shows, in a few words.
        help: A sentence that says how to read it.
        unit: Grafana's id of the unit, such as `s` or `percentunit`.
        queries: What it asks Prometheus.
        kind: How it is drawn.
        columns: Its width, of 24.
        thresholds: Values from which on it turns red, or orange and red.
        largest: Upper end of the axis; None lets the data decide.
    """

    title: str
    help: str
    unit: str
    queries: Sequence[Query]
    kind: Literal["timeseries", "stat", "table", "bargauge"] = "timeseries"
    columns: int = 8
    thresholds: Sequence[float] = ()
    largest: float | None = None
    stacked: bool = False

    def to_json(self, number: int, column: int, row: int) -> Json:
        """The panel at a place of the grid."""
        instant = self.kind != "timeseries"
        return {
            "id": number,
            "type": self.kind,
            "title": self.title,
            "description": self.help,
            "datasource": DATASOURCE,
            "gridPos": {"x": column, "y": row, "w": self.columns, "h": _ROW_HEIGHT},
            "targets": [
                {
                    "refId": chr(ord("A") + index),
                    "datasource": DATASOURCE,
                    "expr": query.expression,
                    "legendFormat": query.legend,
                    "instant": instant,
                    "range": not instant,
                    "format": "table" if self.kind == "table" else "time_series",
                }
                for index, query in enumerate(self.queries)
            ],
            "fieldConfig": {"defaults": self._defaults(), "overrides": []},
            "options": self._options(),
            **({"transformations": _ONE_TABLE} if self.kind == "table" else {}),
        }

    def _defaults(self) -> Json:
        colors = ["orange", "red"][-len(self.thresholds) :] if self.thresholds else []
        steps: list[Json] = [{"value": None, "color": "green"}]
        pairs = zip(self.thresholds, colors, strict=True)
        steps += [{"value": value, "color": color} for value, color in pairs]
        defaults: Json = {
            "unit": self.unit,
            "min": 0,
            "color": {"mode": "palette-classic" if self.kind == "timeseries" else "thresholds"},
            "thresholds": {"mode": "absolute", "steps": steps},
            "custom": {},
        }
        if self.largest is not None:
            defaults["max"] = self.largest
        if self.kind == "timeseries":
            defaults["custom"] = {
                "drawStyle": "line",
                "fillOpacity": 20 if self.stacked else 5,
                "showPoints": "never",
                "stacking": {"mode": "normal" if self.stacked else "none", "group": "A"},
                "thresholdsStyle": {"mode": "line" if self.thresholds else "off"},
            }
        return defaults

    def _options(self) -> Json:
        if self.kind == "timeseries":
            return {
                "legend": {
                    "displayMode": "table",
                    "placement": "bottom",
                    "showLegend": True,
                    "calcs": ["lastNotNull", "max"],
                },
                "tooltip": {"mode": "multi", "sort": "desc"},
            }
        if self.kind == "table":
            return {"showHeader": True, "cellHeight": "sm"}
        options: Json = {
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "orientation": "auto",
        }
        if self.kind == "stat":
            return options | {"colorMode": "value", "graphMode": "none", "textMode": "auto"}
        return options | {"displayMode": "basic", "showUnfilled": True, "valueMode": "color"}


_ONE_TABLE = [
    {"id": "merge", "options": {}},
    {"id": "organize", "options": {"excludeByName": {"Time": True, "__name__": True}}},
]


@dataclass(frozen=True)
class Variable:
    """A choice at the top of a dashboard.

    Attributes:
        name: How expressions call it.
        label: How people call it.
        metric: A series that has the label of that name.
        within: Selector that narrows the choice by the variables before it.
    """

    name: str
    label: str
    metric: str
    within: str = ""

    @property
    def query(self) -> str:
        """Grafana's question for the values of a label."""
        selector = f"{self.metric}{{{self.within}}}" if self.within else self.metric
        return f"label_values({selector}, {self.name})"

    def to_json(self) -> Json:
        """The variable in Grafana's model: several values, or all."""
        return {
            "name": self.name,
            "label": self.label,
            "type": "query",
            "datasource": DATASOURCE,
            "query": {"query": self.query, "refId": self.name},
            "refresh": 2,
            "sort": 3,
            "multi": True,
            "includeAll": True,
            "allValue": ".*",
            "current": {"text": "All", "value": "$__all"},
        }


@dataclass(frozen=True)
class Dashboard:
    """One dashboard.

    Attributes:
        uid: Its id, which links to it use.
        title: Its name.
        description: What it is for.
        variables: The choices at its top.
        rows: Panels, row by row from left to right, under a heading each.
    """

    uid: str
    title: str
    description: str
    variables: Sequence[Variable]
    rows: Sequence[tuple[str, Sequence[Panel]]] = field(default_factory=tuple)

    @property
    def panels(self) -> list[Panel]:
        """Every panel."""
        return [panel for _, panels in self.rows for panel in panels]

    def to_json(self) -> Json:
        """The dashboard in Grafana's model."""
        return {
            "uid": self.uid,
            "title": self.title,
            "description": self.description,
            "tags": ["convd"],
            "schemaVersion": 39,
            "version": 1,
            "editable": False,
            "graphTooltip": 1,
            "timezone": "browser",
            "refresh": "10s",
            "time": {"from": "now-30m", "to": "now"},
            "templating": {
                "list": [
                    {
                        "name": "datasource",
                        "label": "Data source",
                        "type": "datasource",
                        "query": "prometheus",
                        "refresh": 1,
                        "current": {},
                    },
                    *[variable.to_json() for variable in self.variables],
                ]
            },
            "annotations": {"list": []},
            "links": [
                {
                    "title": "convd",
                    "type": "dashboards",
                    "tags": ["convd"],
                    "asDropdown": False,
                    "includeVars": True,
                    "keepTime": True,
                }
            ],
            "panels": self._grid(),
        }

    def _grid(self) -> list[Json]:
        placed: list[Json] = []
        row = 0
        for heading, panels in self.rows:
            placed.append(
                {
                    "id": len(placed) + 1,
                    "type": "row",
                    "title": heading,
                    "collapsed": False,
                    "gridPos": {"x": 0, "y": row, "w": _COLUMNS, "h": 1},
                    "panels": [],
                }
            )
            row += 1
            column = 0
            for panel in panels:
                if column + panel.columns > _COLUMNS:
                    row, column = row + _ROW_HEIGHT, 0
                placed.append(panel.to_json(len(placed) + 1, column, row))
                column += panel.columns
            row += _ROW_HEIGHT
        return placed

"""Write the dashboards as JSON for Grafana: python -m deploy.grafana.generate."""

import json
from pathlib import Path

from deploy.grafana.dashboards import DASHBOARDS
from deploy.grafana.panels import Dashboard

FOLDER = Path(__file__).parent / "dashboards"


def render(dashboard: Dashboard) -> str:
    """One dashboard as the text of its file."""
    return json.dumps(dashboard.to_json(), indent=2) + "\n"


def main() -> None:
    """Write every dashboard."""
    FOLDER.mkdir(exist_ok=True)
    for dashboard in DASHBOARDS:
        (FOLDER / f"{dashboard.uid}.json").write_text(render(dashboard))


if __name__ == "__main__":
    main()

"""Write the dashboards as JSON for Grafana, or check that they are fresh.

python -m deploy.grafana.generate [--check]
"""

import argparse
import json
from pathlib import Path

from deploy.grafana.dashboards import DASHBOARDS

FOLDER = Path(__file__).parent / "dashboards"


def main() -> None:
    """Write each dashboard, or fail where the file says something else."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if stale")
    check = parser.parse_args().check
    FOLDER.mkdir(exist_ok=True)
    expected = {FOLDER / f"{one.uid}.json": one.to_json() for one in DASHBOARDS}
    for path, dashboard in expected.items():
        text = json.dumps(dashboard, indent=2) + "\n"
        if not check:
            path.write_text(text)
        elif not path.is_file() or path.read_text() != text:
            raise SystemExit(f"{path} is stale: run python -m deploy.grafana.generate")
    for stray in set(FOLDER.glob("*.json")) - set(expected):
        raise SystemExit(f"{stray} is made by nobody: remove it")


if __name__ == "__main__":
    main()

"""A real Prometheus with the project's rules, their times shortened so that a drill ends today."""

import contextlib
import json
import re
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

RULES = Path("deploy/prometheus/rules")
RANGE = "20s"
HOLD = "2s"
START_SECONDS = 30.0


def wait_until(condition: Callable[[], bool], what: str, seconds: float) -> float:
    """Wait until something holds, and return how long that took; end the drill if it never does."""
    started = time.monotonic()
    while not condition():
        if time.monotonic() - started > seconds:
            raise SystemExit(f"waited {seconds:g} s in vain: {what}")
        time.sleep(0.25)
    return time.monotonic() - started


def shorten(rules: str) -> str:
    """Rules that look back and hold on for seconds instead of minutes; nothing else is changed."""
    return re.sub(r"\bfor: \d+m\b", f"for: {HOLD}", rules.replace("[5m]", f"[{RANGE}]"))


def rules() -> list[dict[str, Any]]:
    """Every rule, shortened."""
    return [
        rule
        for path in sorted(RULES.glob("*.yml"))
        for group in yaml.safe_load(shorten(path.read_text()))["groups"]
        for rule in group["rules"]
    ]


class Prometheus:
    """The HTTP interface of a Prometheus.

    Args:
        port: Where it listens on this machine.
    """

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}"

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Evaluate an expression now; the samples of the answer."""
        result: list[dict[str, Any]] = self._get("query", query=expression)["result"]
        return result

    def value(self, expression: str) -> float:
        """The only sample of an answer; not a number where there is none."""
        samples = self.query(expression)
        return float(samples[0]["value"][1]) if samples else float("nan")

    def firing(self) -> set[str]:
        """Names of the alerts that fire now."""
        alerts = self._get("alerts")["alerts"]
        return {one["labels"]["alertname"] for one in alerts if one["state"] == "firing"}

    def is_ready(self) -> bool:
        """Whether it answers questions."""
        with contextlib.suppress(OSError):
            urllib.request.urlopen(f"{self._url}/-/ready", timeout=2).close()  # noqa: S310
            return True
        return False

    def _get(self, path: str, **parameters: str) -> dict[str, Any]:
        url = f"{self._url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310
            data: dict[str, Any] = json.load(answer)["data"]
            return data


@contextlib.contextmanager
def running_prometheus(folder: Path, port: int, target: str) -> Iterator[Prometheus]:
    """Run Prometheus over one target until the block ends.

    Args:
        folder: Where it keeps its configuration and data.
        port: Where it listens.
        target: Host and port of the metrics to scrape.
    """
    (folder / "rules").mkdir(parents=True)
    for path in RULES.glob("*.yml"):
        (folder / "rules" / path.name).write_text(shorten(path.read_text()))
    configuration = yaml.safe_load((RULES.parent / "prometheus.yml").read_text())
    configuration["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    [job] = [one for one in configuration["scrape_configs"] if one["job_name"] == "convd"]
    configuration["scrape_configs"] = [job]
    job["static_configs"] = [{"targets": [target]}]
    del job["dns_sd_configs"]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(configuration))
    command = ["prometheus", f"--config.file={folder}/prometheus.yml"]
    command += [f"--storage.tsdb.path={folder}/data", f"--web.listen-address=127.0.0.1:{port}"]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        prometheus = Prometheus(port)
        wait_until(prometheus.is_ready, "Prometheus is ready", START_SECONDS)
        yield prometheus
    finally:
        process.terminate()
        process.wait()

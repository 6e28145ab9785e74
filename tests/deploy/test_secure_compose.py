"""The compose file with TLS and tokens, and the scrape file that goes with it."""

import yaml

from convd.service.settings import ENVIRONMENT_PREFIX, ServerSettings
from tests.support import ROOT

SECURE = yaml.safe_load((ROOT / "docker-compose.secure.yml").read_text())["services"]
PLAIN = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]


def test_its_variables_make_a_server_that_nobody_enters_without_credentials() -> None:
    for name in ("server", "server-gpu", "server-canary"):
        variables = PLAIN[name]["environment"] | SECURE[name]["environment"]
        settings = {key.removeprefix(ENVIRONMENT_PREFIX).lower(): v for key, v in variables.items()}
        settings |= {"repository": "/models", "host": "0.0.0.0"}  # noqa: S104
        assert not ServerSettings(**settings).insecure


def test_prometheus_scrapes_by_the_files_that_are_mounted() -> None:
    scrape = yaml.safe_load((ROOT / "deploy/prometheus/secure.yml").read_text())
    job, envoy = scrape["scrape_configs"]
    mounted = {volume.split(":")[-2] for volume in SECURE["prometheus"]["volumes"]}
    assert job["scheme"] == "https"
    assert {job["authorization"]["credentials_file"], job["tls_config"]["ca_file"]} < mounted
    plain = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    assert [job["dns_sd_configs"], envoy] == [
        plain["scrape_configs"][0]["dns_sd_configs"],
        plain["scrape_configs"][1],
    ]
    assert scrape["rule_files"] == plain["rule_files"]

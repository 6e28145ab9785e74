"""The manifests of deploy/kubernetes agree with the server, the image and each other.

`make kubernetes-check` holds them against the schemas of Kubernetes.
"""

import pytest
import yaml

from convd.service.settings import decode_budget, drain_limit_seconds, exposure
from convd.service.web.routes import SERVER as ROUTES
from deploy.prometheus_rule import TARGET, prometheus_rule
from tests.deploy.manifests import Server, documents, find, instruction, quantity, resource
from tests.support import ROOT

SERVERS = {
    "cpu": Server("base", "overlays/cpu"),
    "gpu": Server("base", "overlays/gpu"),
    "scale": Server("base", "overlays/cpu", "components/object-storage"),
    "secure": Server("base", "overlays/cpu", "components/access"),
    "kserve": Server("kserve"),
}
EVERY = pytest.mark.parametrize("server", SERVERS.values(), ids=SERVERS)
PROBES = ("startupProbe", "readinessProbe", "livenessProbe")
# What the exit takes besides the drain, as docs/operating.md says.
EXIT_SECONDS = 2
# The server, its libraries and a network of the zoo.
OWN_BYTES = 768 * 2**20


@EVERY
def test_the_settings_are_usable_and_serve_other_machines(server: Server) -> None:
    settings = server.settings()
    assert settings.host == "0.0.0.0"  # noqa: S104
    assert str(settings.repository).startswith("s3://") or str(settings.repository) in (
        *server.mounts(),
        "/mnt/models",
    )
    assert bool(exposure(settings)) == settings.insecure, "insecure where, and only where, it is"


@EVERY
def test_the_ports_are_those_of_the_settings_and_of_the_image(server: Server) -> None:
    settings = server.settings()
    ports = [port["containerPort"] for port in server.container()["ports"]]
    assert ports == [settings.grpc_port, settings.http_port]
    assert " ".join(map(str, ports)) == instruction("EXPOSE")


def test_services_lead_to_ports_that_the_container_names() -> None:
    names = {port["name"]: port["containerPort"] for port in SERVERS["cpu"].container()["ports"]}
    for service in ("convd", "convd-pods"):
        for port in resource("base", "Service", service)["spec"]["ports"]:
            assert names[port["targetPort"]] == port["port"]
    for one in find(documents("base/network-policy.yaml"), "port"):
        assert one in names


@EVERY
def test_each_probe_asks_what_the_server_offers(server: Server) -> None:
    settings, container = server.settings(), server.container()
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    asked = {}
    for name in PROBES:
        probe = container[name]
        encrypted = settings.tls_certificate is not None
        if "grpc" in probe:
            assert not encrypted, "Kubernetes' gRPC probes speak no TLS"
            assert probe["grpc"] == {"port": settings.grpc_port}, "the health of the whole server"
            asked[name] = "ready"
        else:
            http = probe["httpGet"]
            assert ports.get(http["port"], http["port"]) == settings.http_port
            assert http.get("scheme", "HTTP") == ("HTTPS" if encrypted else "HTTP")
            (asked[name],) = (one.action for one in ROUTES if one.path == http["path"])
    # A pod that is loading, or has no model, is not to be killed.
    assert asked == {"startupProbe": "live", "readinessProbe": "ready", "livenessProbe": "live"}


@EVERY
def test_a_pod_lives_until_its_accepted_calls_are_answered(server: Server) -> None:
    settings = server.settings()
    if server is SERVERS["kserve"]:
        pod = resource("kserve", "InferenceService", "digits")["spec"]["predictor"]
    else:
        pod = server.specs[0]
    assert "lifecycle" not in server.container(), "the lame-duck time is in place of a preStop hook"
    readiness = server.container()["readinessProbe"]
    assert settings.lame_duck_seconds >= readiness["periodSeconds"] + readiness["timeoutSeconds"]
    limit = drain_limit_seconds(settings) + EXIT_SECONDS
    assert pod["terminationGracePeriodSeconds"] > limit


@EVERY
def test_the_container_has_the_rights_of_the_image_and_no_more(server: Server) -> None:
    user, group = map(int, instruction("USER").split(":"))
    rights = server.specs[0].get("securityContext", {}) | server.container()["securityContext"]
    assert (rights["runAsUser"], rights["runAsGroup"]) == (user, group)
    assert rights.get("fsGroup", group) == group
    assert rights["runAsNonRoot"]
    assert rights["readOnlyRootFilesystem"]
    assert not rights["allowPrivilegeEscalation"]
    assert rights["capabilities"] == {"drop": ["ALL"]}
    assert rights["seccompProfile"] == {"type": "RuntimeDefault"}
    writable = [path for path, mount in server.mounts().items() if not mount.get("readOnly")]
    assert writable in ([], [str(server.settings().repository_cache)])


@EVERY
def test_resources_are_what_the_threads_and_the_budgets_take(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, resources = server.settings(), server.container()["resources"]
    assert resources["requests"] == resources["limits"]
    assert quantity(resources["limits"]["cpu"]) % 1 == 0, "of a fraction nothing computes"
    assert settings.intra_op_threads == 0, "the quota decides"
    assert settings.unary_threads >= 2 * settings.max_batch_size
    limit_bytes = int(quantity(resources["limits"]["memory"]))
    monkeypatch.setattr("convd.service.settings.memory_limit_bytes", lambda: limit_bytes)
    assert settings.load_memory_bytes + decode_budget(settings) + OWN_BYTES <= limit_bytes


def test_secrets_are_mounted_as_folders_that_the_server_follows() -> None:
    server = SERVERS["secure"]
    settings, mounts = server.settings(), server.mounts()
    for file in (settings.tls_certificate, settings.tls_key, settings.principals):
        assert file is not None
        mount = mounts[str(file.parent)]
        assert "subPath" not in mount, "a single mounted file keeps its old content"
        assert mount["secret"]["defaultMode"] == 0o440, "root's, and readable by the pod's group"


def test_the_copy_from_object_storage_has_a_volume() -> None:
    server = SERVERS["scale"]
    mount = server.mounts()[str(server.settings().repository_cache)]
    assert not mount["readOnly"]
    assert "emptyDir" in mount


def test_the_runtime_of_kserve_is_the_same_server() -> None:
    own, kserve = SERVERS["cpu"], SERVERS["kserve"]
    differ = {"CONVD_REPOSITORY", "CONVD_PROVIDER", "CONVD_ALLOWED_HOST", "CONVD_POLL_SECONDS"}
    ours = {name: value for name, value in own.environment().items() if name not in differ}
    assert ours == {k: v for k, v in kserve.environment().items() if k not in differ}
    ports = {port["name"]: port["containerPort"] for port in own.container()["ports"]}
    for name in PROBES:
        probe = own.container()[name]
        if "httpGet" in probe:
            probe["httpGet"]["port"] = ports[probe["httpGet"]["port"]]
        assert probe == kserve.container()[name]
    assert own.container()["resources"] == kserve.container()["resources"]


def test_prometheus_finds_the_job_that_rules_and_dashboards_select() -> None:
    spec = resource("components/monitoring", "PodMonitor")["spec"]
    (labels,) = documents("base/kustomization.yaml")[0]["labels"]
    scrape = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    (job,) = [one for one in scrape["scrape_configs"] if one["job_name"] == "convd"]
    assert labels["pairs"][spec["jobLabel"]] == job["job_name"]
    assert spec["selector"]["matchLabels"] == labels["pairs"]
    secure = resource("components/access", "PodMonitor")["spec"]
    for endpoint in spec["podMetricsEndpoints"] + secure["podMetricsEndpoints"]:
        assert endpoint["port"] in {port["name"] for port in SERVERS["cpu"].container()["ports"]}
        assert "metrics" in {one.action for one in ROUTES if one.path == endpoint["path"]}
    annotations = resource("kserve", "ClusterServingRuntime")["spec"]["annotations"]
    assert annotations["prometheus.kserve.io/path"] == endpoint["path"]
    assert int(annotations["prometheus.kserve.io/port"]) == SERVERS["kserve"].settings().http_port


def test_the_rules_are_those_of_prometheus() -> None:
    assert TARGET.read_text() == prometheus_rule(), "python -m deploy.prometheus_rule"

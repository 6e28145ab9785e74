"""Which requests a browser may send to the HTTP side, and which names the server answers to."""

import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convd.service.errors import PermissionDeniedError
from convd.service.web.origin_policy import OriginPolicy
from tests.support import Client, http_request, running_server

EVERYWHERE = "0.0.0.0"  # noqa: S104
CONTAINER = OriginPolicy(EVERYWHERE, ["server", ".models.example"])


def enters(policy: OriginPolicy, method: str = "GET", **headers: str) -> bool:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        policy.check(method, {"host": "localhost:8002"} | sent)
    except PermissionDeniedError:
        return False
    return True


@pytest.mark.parametrize(
    "name",
    [
        *("localhost", "localhost:8002", "LOCALHOST", "localhost.", "a.localhost"),
        # Probes and scrapes by address; an address cannot be rebound.
        *("127.0.0.1:8002", "10.244.1.7:8002", "[::1]:8002", "[fd00::7]", "192.168.0.1"),
    ],
)
def test_names_that_nobody_else_can_take_are_accepted_wherever_the_server_listens(
    name: str,
) -> None:
    for host in ("127.0.0.1", "::1", EVERYWHERE, "::", "10.0.0.7"):
        assert enters(OriginPolicy(host), host=name)


@pytest.mark.parametrize(
    "name",
    [
        *("", "rebound.example", "localhost.rebound.example", "127.0.0.1.rebound.example:8002"),
        *("[::", "a b", "localhost@rebound.example", "rebound.example#localhost", "localhost/x"),
        *("localhost:8002:1", "[localhost]", "0x7f.1", "2130706433", "server.", "xserver", "."),
        *("models.example.rebound.example", "evilmodels.example"),
    ],
)
def test_no_other_name_is_accepted_wherever_the_server_listens(name: str) -> None:
    for host in ("127.0.0.1", "::1", EVERYWHERE, "::", "10.0.0.7"):
        assert not enters(OriginPolicy(host, [".models.example"]), host=name)


def test_names_that_the_operator_gives_are_accepted() -> None:
    for name in ("server:8002", "SERVER", "a.models.example", "a.b.models.example:80"):
        assert enters(CONTAINER, host=name)
    assert enters(OriginPolicy("gpu7.example"), host="gpu7.example:8002")
    assert enters(OriginPolicy(EVERYWHERE), host=socket.gethostname())
    assert not enters(OriginPolicy("127.0.0.1"), host="gpu7.example")


def test_a_probe_that_names_no_host_is_not_a_browser() -> None:
    CONTAINER.check("GET", {})


@given(name=st.text(max_size=30))
def test_any_name_is_accepted_or_refused(name: str) -> None:
    enters(CONTAINER, host=name)


LINK = {"sec_fetch_mode": "navigate", "sec_fetch_dest": "document"}


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        ({}, True),
        ({"sec_fetch_site": "same-origin"}, True),
        ({"sec_fetch_site": "none"}, True),
        ({"sec_fetch_site": "same-site"}, False),
        ({"sec_fetch_site": "cross-site"}, False),
        ({"sec_fetch_site": "cross-site", "sec_fetch_mode": "no-cors"}, False),
        ({"sec_fetch_site": "nonsense"}, False),
        # A frame and a form of another page are not links.
        ({"sec_fetch_site": "cross-site"} | LINK | {"sec_fetch_dest": "iframe"}, False),
        # A proxy may rename the host, so the browser's own word counts before the names.
        ({"sec_fetch_site": "same-origin", "origin": "https://models.example"}, True),
        ({"sec_fetch_site": "cross-site", "origin": "http://localhost:8002"}, False),
        ({"origin": "http://localhost:8002"}, True),
        ({"origin": "http://localhost:9000"}, False),
        ({"origin": "https://rebound.example"}, False),
        ({"origin": "null"}, False),
    ],
)
def test_only_pages_of_this_site_and_programs_may_send_requests(
    method: str, headers: dict[str, str], allowed: bool
) -> None:
    for host in ("127.0.0.1", EVERYWHERE):
        assert enters(OriginPolicy(host), method, **headers) is allowed


def test_a_link_on_another_page_may_lead_here_but_not_post() -> None:
    from_elsewhere = {"sec_fetch_site": "cross-site"} | LINK
    assert enters(CONTAINER, "GET", **from_elsewhere)
    assert not enters(CONTAINER, "POST", **from_elsewhere)


POST = "/api/classify?model=digits"
PATHS = ("/", "/metrics", "/livez", "/readyz", "/api/models", "/static/console.js", "/nowhere")


def test_the_origin_policy_stands_before_every_path(client: Client) -> None:
    for path in PATHS:
        status, headers, body = http_request(client.http_port, "GET", path, Host="rebound.example")
        assert (status, b"the host name rebound.example" in body) == (403, True)
        assert "Content-Security-Policy" in headers
        status, _, _ = http_request(client.http_port, "GET", path, Sec_Fetch_Site="cross-site")
        assert status == 403
    status, _, _ = http_request(client.http_port, "POST", POST, b"", Sec_Fetch_Site="cross-site")
    assert status == 403


def test_every_answer_has_the_security_headers(client: Client) -> None:
    for path in PATHS:
        _, headers, _ = http_request(client.http_port, "GET", path)
        assert headers["X-Content-Type-Options"] == "nosniff", path
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin", path
        assert headers["X-Frame-Options"] == "DENY", path
        assert headers["Cache-Control"] == "no-store", path
        assert "default-src 'none'" in headers["Content-Security-Policy"], path


def test_a_page_that_rebinds_its_name_gets_nothing_from_a_container(repository: Path) -> None:
    """The container listens on all interfaces, and Prometheus scrapes it by its service's name."""
    names = "server, server-gpu"
    with running_server(repository, host=EVERYWHERE, allowed_host=names, insecure=True) as client:
        port = client.http_port
        rebound = {"Host": f"rebound.example:{port}", "Origin": f"http://rebound.example:{port}"}
        for page in (rebound, rebound | {"Sec_Fetch_Site": "same-origin"}):
            for path in PATHS:
                assert http_request(port, "GET", path, None, **page)[0] == 403
            assert http_request(port, "POST", POST, b"x", **page)[0] == 403
        for name in (f"server:{port}", f"server-gpu:{port}", f"10.244.1.7:{port}"):
            status, _, body = http_request(port, "GET", "/metrics", Host=name)
            assert (status, b"convd_" in body) == (200, True)
            assert http_request(port, "GET", "/readyz", Host=name)[0] == 200

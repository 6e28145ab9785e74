"""Who may enter the HTTP side."""

import pytest

from convd.service.errors import PermissionDeniedError
from convd.service.web.origin_policy import OriginPolicy
from tests.support import Client, http_request


def enters(host: str, method: str = "POST", **headers: str) -> bool:
    environ = {"REQUEST_METHOD": method, "HTTP_HOST": "localhost:8002"} | headers
    try:
        OriginPolicy(host).check(environ)
    except PermissionDeniedError:
        return False
    return True


@pytest.mark.parametrize(
    "name",
    ["localhost", "localhost:8002", "127.0.0.1:8002", "127.0.0.9", "[::1]:8002", "a.localhost"],
)
def test_a_loopback_server_answers_to_loopback_names(name: str) -> None:
    assert enters("127.0.0.1", "GET", HTTP_HOST=name)
    assert enters("::1", "GET", HTTP_HOST=name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "example.com",
        "localhost.example.com",
        "127.0.0.1.example.com:8002",
        "192.168.0.1",
        "[::",
        "a b",
    ],
)
def test_a_loopback_server_answers_to_no_other_name(name: str) -> None:
    assert not enters("127.0.0.1", "GET", HTTP_HOST=name)
    assert enters("0.0.0.0", "GET", HTTP_HOST=name), "its names are not known"  # noqa: S104


@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        ({}, True),
        ({"HTTP_SEC_FETCH_SITE": "same-origin"}, True),
        ({"HTTP_SEC_FETCH_SITE": "none"}, True),
        ({"HTTP_SEC_FETCH_SITE": "same-site"}, False),
        ({"HTTP_SEC_FETCH_SITE": "cross-site"}, False),
        # A proxy may rename the host, so the browser's own word counts before the names.
        ({"HTTP_SEC_FETCH_SITE": "same-origin", "HTTP_ORIGIN": "https://models.example"}, True),
        ({"HTTP_SEC_FETCH_SITE": "cross-site", "HTTP_ORIGIN": "http://localhost:8002"}, False),
        ({"HTTP_ORIGIN": "http://localhost:8002"}, True),
        ({"HTTP_ORIGIN": "http://localhost:9000"}, False),
        ({"HTTP_ORIGIN": "https://example.com"}, False),
        ({"HTTP_ORIGIN": "null"}, False),
    ],
)
def test_only_pages_of_this_site_and_programs_may_post(
    headers: dict[str, str], allowed: bool
) -> None:
    assert enters("127.0.0.1", **headers) is allowed
    assert enters("0.0.0.0", **headers) is allowed  # noqa: S104


def test_the_origin_policy_stands_before_every_path(client: Client) -> None:
    for path in ("/", "/metrics", "/livez", "/api/models", "/nowhere"):
        status, _, body = http_request(client.http_port, "GET", path, Host="rebound.example")
        assert status == 403
        assert b"not rebound.example" in body
    path = "/api/classify?model=digits"
    status, _, _ = http_request(client.http_port, "POST", path, b"", Sec_Fetch_Site="cross-site")
    assert status == 403

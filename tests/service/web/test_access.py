"""Every path of the HTTP port against the table, by a client that has each scope alone."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from convd.service.access.table import PATHS, UnlistedError
from convd.service.web import routes
from convd.service.web.admission import Admission
from convd.service.web.lanes import Lane
from convd.service.web.routes import Route
from testbed.principals import write_principals
from tests.digits import Digits
from tests.support import Client, http_request, running_server

ROUTES = (
    *routes.SERVER,
    *routes.PAGES,
    *routes.CONSOLE,
    *routes.CLASSIFY,
    *routes.HEALTH,
    *routes.OPEN_INFERENCE,
)

# What docs/security.md says, written down a second time: a change of the table is meant twice.
OPEN = r"GET (/livez|/readyz|/v2/health/\w+|/|/static/{file})"
MODEL = r"/v2/models/{model}(/versions/{version})?"
SCOPES = {
    "health": rf"GET {MODEL}/ready",
    "infer": rf"POST (/api/(classify|explain)|/v1/classify/{{model}}|{MODEL}/infer)",
    "models:list": r"GET /api/models|GET /v2|POST /v2/repository/index",
    "models:read": rf"GET (/api/models/{{model}}/.*|{MODEL}(/config)?)",
    "metrics:read": rf"GET (/metrics|/v2/models/stats|{MODEL}/stats)",
    "admin:models": r"GET /api/comparisons|POST /v2/repository/models/.*|"
    r"\w+ /v2/(system|cuda)sharedmemory/.*",
    "admin:logs": r"\w+ /v2/logging|GET /v2(/models/{model})?/trace/setting",
}
PER_MODEL = ("infer", "models:read")
DENIED = (401, 403)


class Guarded(NamedTuple):
    """A server with access control, and the token of each principal."""

    client: Client
    tokens: dict[str, str]

    def status(self, route: Route, token: str | None, model: str = "digits") -> int:
        """The status of a request for a route."""
        path = route.path.replace("{model}", model).replace("{version}", "1")
        path = path.replace("{file...}", "golden/0000.png").replace("{file}", "console.js")
        path = path.replace("{request...}", "status") + f"?model={model}"
        # Else this model is gone for the rest of the table.
        path = path.replace(f"{model}/unload", "absent/unload")
        return self.ask(route.method, path, token)[0]

    def ask(
        self, method: str, path: str, token: str | None = None, body: bytes | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of a request."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        body = b"" if body is None and method == "POST" else body
        return http_request(self.client.http_port, method, path, body, **headers)


@pytest.fixture(scope="module")
def guarded(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    root = tmp_path_factory.mktemp("guarded")
    principals = {
        scope.replace(":", "."): [f"{scope}:digits" if scope in PER_MODEL else scope]
        for scope in SCOPES
    }
    principals["elsewhere"] = ["infer:other", "models:read:other"]
    limits = {"requests_per_second": 0.01}
    principals |= {"few": ["metrics:read"], "short": ["infer:*"]}
    tokens = write_principals(
        root / "principals.json",
        principals,
        few={"limits": limits},
        short={"limits": {"request_bytes": 10}},
    )
    with running_server(
        models, principals=root / "principals.json", allow_repository_control=True
    ) as client:
        yield Guarded(client, tokens)


def scope_of(route: Route) -> str:
    """The scope that this test expects a route to need; empty for none."""
    named = f"{route.method} {route.path}"
    found = [scope for scope, pattern in SCOPES.items() if re.fullmatch(pattern, named)]
    if re.fullmatch(OPEN, named):
        found.append("")
    assert len(found) == 1, f"{named}: {found}"
    return found[0]


def test_the_table_has_the_routes_and_no_others() -> None:
    assert {(route.method, route.path) for route in ROUTES} == set(PATHS)
    for route in ROUTES:
        assert (PATHS[route.method, route.path].scope or "") == scope_of(route)


@pytest.mark.parametrize("token", [None, "wrong"])
def test_without_a_valid_token(guarded: Guarded, token: str | None) -> None:
    for route in ROUTES:
        status = guarded.status(route, token)
        assert (status == 401) is (scope_of(route) != ""), route


@pytest.mark.parametrize("scope", SCOPES)
def test_a_scope_is_exactly_its_row(guarded: Guarded, scope: str) -> None:
    token = guarded.tokens[scope.replace(":", ".")]
    for route in ROUTES:
        status = guarded.status(route, token)
        if scope_of(route) in ("", scope):
            assert status not in DENIED, route
        else:
            assert status == 403, route


def test_a_scope_for_one_model_says_nothing_of_another(guarded: Guarded) -> None:
    for route in ROUTES:
        if scope_of(route) in PER_MODEL:
            for model in ("digits", "absent"):
                assert guarded.status(route, guarded.tokens["elsewhere"], model) == 403, route


def test_a_refusal_says_what_to_send_and_nothing_else(guarded: Guarded) -> None:
    status, headers, body = guarded.ask("GET", "/api/models")
    assert (status, headers["WWW-Authenticate"]) == (401, "Bearer")
    assert "digits" not in body.decode()
    assert json.loads(body)["code"] == "UNAUTHENTICATED"
    other = guarded.ask("GET", "/api/models", "wrong")[2]
    assert [json.loads(one)["detail"] for one in (body, other)] == [json.loads(body)["detail"]] * 2


def test_a_body_is_not_read_before_the_decision(guarded: Guarded) -> None:
    status, _, _ = guarded.ask("POST", "/v1/classify/digits", body=b"x" * 10_000_000)
    assert status == 401


def test_limits_hold_over_http_too(guarded: Guarded, digits: Digits) -> None:
    assert guarded.ask("GET", "/metrics", guarded.tokens["few"])[0] == 200
    status, headers, _ = guarded.ask("GET", "/metrics", guarded.tokens["few"])
    assert status == 429
    assert 90 < int(headers["Retry-After"]) <= 101
    path = "/v1/classify/digits"
    assert guarded.ask("POST", path, guarded.tokens["short"], digits.encoded())[0] == 413


def test_a_picture_over_http_is_counted_for_its_principal(guarded: Guarded, digits: Digits) -> None:
    path = "/v1/classify/digits"
    status, _, body = guarded.ask("POST", path, guarded.tokens["infer"], digits.encoded())
    assert status == 200, body
    text = guarded.ask("GET", "/metrics", guarded.tokens["metrics.read"])[2].decode()
    assert 'convd_principal_requests_total{code="OK",principal="infer"}' in text


def test_the_reasons_of_readiness_are_for_those_who_may_list_models(
    repository: Path, tmp_path: Path
) -> None:
    (repository / "broken" / "1").mkdir(parents=True)
    (repository / "broken" / "1" / "manifest.json").write_text("{}")
    tokens = write_principals(tmp_path / "principals.json", {"lab": ["models:list"], "cam": []})
    with running_server(repository, principals=tmp_path / "principals.json") as client:
        server = Guarded(client, tokens)
        for path in ("/readyz", "/v2/health/ready"):
            answers = {who: server.ask("GET", path, tokens.get(who)) for who in ("", "cam", "lab")}
            assert [answer[0] for answer in answers.values()] == [503] * 3
            assert [b"broken" in answer[2] for answer in answers.values()] == [False, False, True]


def test_an_unknown_model_names_no_other_one(guarded: Guarded) -> None:
    for path in ("/v2/models/other", "/v2/models/other/config", "/api/models/other/1"):
        status, _, body = guarded.ask("GET", path, guarded.tokens["elsewhere"])
        assert status == 404, path
        assert b"digits" not in body, path


def test_a_route_without_a_row_cannot_be_registered() -> None:
    with pytest.raises(UnlistedError, match="GET /new has no row"):
        Admission([Route("GET", "/new", "new", Lane.PAGE)], None)

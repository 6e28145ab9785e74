"""Every path of the HTTP port: its methods, what it does, which threads do it, how large a body."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from convd.service.settings import MEBIBYTE
from convd.service.web.lanes import Lane

MAX_PICTURE_BYTES = 16 * MEBIBYTE
"""Maximum size of an image file to try in the console."""


@dataclass(frozen=True)
class Route:
    """One path.

    Attributes:
        method: Its method; GET includes HEAD.
        path: Its path; `{name}` stands for one segment, `{name...}` for the rest.
        action: What it does, by the name under which a process has a function for it.
        lane: Which threads do it.
        max_body_bytes: Maximum size of a request's body; None for that of a message.
        recorded_as: The method under which its requests are counted, traced and logged; empty for
            those that are not.
    """

    method: str
    path: str
    action: str
    lane: Lane
    max_body_bytes: int | None = 0
    recorded_as: str = ""

    @cached_property
    def _pattern(self) -> "re.Pattern[str]":
        literal = re.escape(self.path)
        rest = re.sub(r"\\{(\w+)\\\.\\\.\\\.\\}", r"(?P<\1>.+)", literal)
        return re.compile(re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]+)", rest))

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods that it accepts."""
        return ("GET", "HEAD") if self.method == "GET" else (self.method,)

    def segments(self, path: str) -> Mapping[str, str] | None:
        """The variable parts of a path; None if it is another path."""
        match = self._pattern.fullmatch(path)
        return None if match is None else match.groupdict()


SERVER = (
    Route("GET", "/livez", "live", Lane.PROBE),
    Route("GET", "/readyz", "ready", Lane.PROBE),
    Route("GET", "/metrics", "metrics", Lane.METRICS),
)
"""What a server answers itself, even while it has no model."""

PAGES = (
    Route("GET", "/", "page", Lane.PAGE),
    Route("GET", "/static/{file}", "page", Lane.PAGE),
)
"""The console's files, which a server answers itself."""

CONSOLE = (
    Route("GET", "/api/models", "console_models", Lane.PAGE),
    Route("GET", "/api/comparisons", "console_comparisons", Lane.PAGE),
    Route("GET", "/api/models/{model}/{version}", "console_version", Lane.PAGE),
    Route("GET", "/api/models/{model}/{version}/files/{file...}", "console_file", Lane.PAGE),
    Route(
        "POST",
        "/api/classify",
        "console_classify",
        Lane.TRIAL,
        MAX_PICTURE_BYTES,
        recorded_as="/console/classify",
    ),
    Route(
        "POST",
        "/api/explain",
        "console_explain",
        Lane.TRIAL,
        MAX_PICTURE_BYTES,
        recorded_as="/console/explain",
    ),
)
"""What the console asks of the models."""

CLASSIFY = (
    Route(
        "POST", "/v1/classify/{model}", "classify", Lane.INFERENCE, None, recorded_as="/v1/classify"
    ),
)
"""Pictures, classified."""

HEALTH = (
    Route("GET", "/v2/health/live", "v2_live", Lane.PROBE),
    Route("GET", "/v2/health/ready", "v2_ready", Lane.PROBE),
)
"""The probes of the Open Inference Protocol, which a server answers itself."""

_MODELS = ("/v2/models/{model}", "/v2/models/{model}/versions/{version}")


def _describing(path: str, action: str) -> Route:
    return Route("GET", path, action, Lane.PAGE, recorded_as=f"/v2/{action}")


def _controlling(path: str, action: str, lane: Lane = Lane.PAGE) -> Route:
    return Route("POST", path, action, lane, MEBIBYTE, recorded_as=f"/v2/{action}")


OPEN_INFERENCE = (
    _describing("/v2", "server"),
    # Before the model of this name.
    _describing("/v2/models/stats", "stats"),
    *(_describing(model, "model") for model in _MODELS),
    *(
        _describing(f"{model}/{action}", action)
        for model in _MODELS
        for action in ("ready", "config", "stats")
    ),
    *(
        Route("POST", f"{model}/infer", "infer", Lane.INFERENCE, None, recorded_as="/v2/infer")
        for model in _MODELS
    ),
    _controlling("/v2/repository/index", "index"),
    _controlling("/v2/repository/models/{model}/load", "load", Lane.CONTROL),
    _controlling("/v2/repository/models/{model}/unload", "unload", Lane.CONTROL),
    _describing("/v2/logging", "logging"),
    _controlling("/v2/logging", "logging"),
    _describing("/v2/trace/setting", "trace"),
    _describing("/v2/models/{model}/trace/setting", "trace"),
    *(
        make(f"/v2/{kind}sharedmemory/{{request...}}", "shared_memory")
        for kind in ("system", "cuda")
        for make in (_describing, _controlling)
    ),
)
"""The rest of the Open Inference Protocol, with Triton's extensions."""


class Found(NamedTuple):
    """What a table of routes has for a path and a method.

    Attributes:
        route: The route; None if there is none.
        segments: The variable parts of the path.
        allowed: The methods that the path accepts; empty if there is no such path.
    """

    route: Route | None
    segments: Mapping[str, str]
    allowed: tuple[str, ...]


class RoutingTable:
    """Finds the route of a request.

    Args:
        routes: The routes; the first that fits is taken.
    """

    def __init__(self, routes: Iterable[Route]) -> None:
        self._routes = tuple(routes)

    def find(self, method: str, path: str) -> Found:
        """Find the route of a method and a path."""
        allowed: list[str] = []
        for route in self._routes:
            segments = route.segments(path)
            if segments is None:
                continue
            if method in route.methods:
                return Found(route, segments, route.methods)
            allowed += route.methods
        return Found(None, {}, tuple(allowed))

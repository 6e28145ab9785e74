"""The metrics, in the format that a scraper asks for."""

import gzip
from collections.abc import Callable

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder, gzip_accepted

from convd.service.web.request import Request
from convd.service.web.response import Response


def metrics_page(registry: CollectorRegistry) -> Callable[[Request], Response]:
    """Make the function that answers with a registry's metrics, or those that `name[]` names."""

    def answer(request: Request) -> Response:
        headers, names = request.head.headers, request.head.query.get("name[]")
        encode, content_type = choose_encoder(headers.get("accept", ""))
        chosen = registry.restricted_registry(names) if names else registry
        body: bytes = encode(chosen)
        if not gzip_accepted(headers.get("accept-encoding", "")):
            return Response(body, content_type)
        return Response(gzip.compress(body), content_type, headers=(("Content-Encoding", "gzip"),))

    return answer

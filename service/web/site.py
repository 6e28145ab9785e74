"""The site: an ASGI application that finds the route of a request and has it answered."""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from http import HTTPStatus
from urllib.parse import parse_qs

from grpc import StatusCode

from convd.service.access.certificates import PeerCertificate
from convd.service.calls.call import Call
from convd.service.calls.status import Status
from convd.service.errors import NotFoundError
from convd.service.quoting import quote
from convd.service.web.admission import Admission
from convd.service.web.asgi import Receive, Scope, Send
from convd.service.web.body import Bodies, RequestTooLargeError
from convd.service.web.https import CLIENT_CERTIFICATE
from convd.service.web.lanes import Lanes
from convd.service.web.origin_policy import OriginPolicy
from convd.service.web.request import MAX_HEAD_BYTES, Head, Request
from convd.service.web.response import PROBLEM, Response, error_response, problem, text
from convd.service.web.routes import Route, RoutingTable

Answer = Callable[[Request], Response]

_API_ROOTS = ("/v1/", "/v2/")

# Requests of full size whose bodies may be held together.
_LARGEST_REQUESTS = 4


class Site:
    """Answers every request: refuses it, or runs the function of its route in a thread.

    Args:
        origin_policy: Decides which requests to accept.
        answers: The routes, each with the function that answers.
        admission: Decides who may send which request; None where anyone may send all.
        inference_threads: Maximum requests for inference in progress.
        max_message_bytes: Maximum size of a body where a route does not say.
    """

    def __init__(
        self,
        origin_policy: OriginPolicy,
        answers: Mapping[Route, Answer],
        *,
        admission: Admission | None = None,
        inference_threads: int,
        max_message_bytes: int,
    ) -> None:
        self._origin_policy = origin_policy
        self._answers = answers
        self._admission = admission or Admission((), None)
        self._table = RoutingTable(answers)
        self._lanes = Lanes(inference_threads)
        self._max_message_bytes = max_message_bytes
        self._bodies = Bodies(_LARGEST_REQUESTS * max_message_bytes)
        roots = ("/", "/metrics", "/livez", "/readyz")
        shown = [path for path in roots if self._table.find("GET", path).route]
        self._nothing_here = (
            f"there is nothing at this path; try {', '.join(shown[:-1])} or {shown[-1]}"
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        arrived_at = time.monotonic()
        head = _read_head(scope)
        try:
            _check_size(scope)
            certificate = scope["state"].get(CLIENT_CERTIFICATE)
            response = await self._answer(head, certificate, receive, arrived_at)
        except RequestTooLargeError as error:
            status = Status(StatusCode.RESOURCE_EXHAUSTED, error.http, str(error))
            response = problem(status, _call(head).identify())
        # The table of statuses covers every error.
        except Exception as error:
            response = error_response(error, _call(head))
        if head.path.startswith("/v2") and response.content_type == PROBLEM:
            # The clients of the protocol read `error` from plain JSON only.
            response = replace(response, content_type="application/json")
        await send(
            {
                "type": "http.response.start",
                "status": int(response.status),
                "headers": response.raw_headers(),
            }
        )
        await send({"type": "http.response.body", "body": response.body})

    def close(self) -> None:
        """Drop what waits for a thread."""
        self._lanes.close()

    async def _answer(
        self,
        head: Head,
        certificate: PeerCertificate | None,
        receive: Receive,
        arrived_at: float,
    ) -> Response:
        self._origin_policy.check(head.method, head.headers)
        found = self._table.find(head.method, head.path)
        route = found.route
        if route is None:
            return self._refuse_path(head, found.allowed)
        max_bytes = route.max_body_bytes
        if max_bytes is None:
            max_bytes = self._max_message_bytes
        principal = self._admission.admit(route, head, found.segments, certificate)
        if principal is not None and principal.limits.request_bytes is not None:
            max_bytes = min(max_bytes, principal.limits.request_bytes)
        with self._bodies.one(receive, max_bytes) as body:
            content = await body.read(head.headers.get("content-length", ""))
            request = Request(
                head,
                route,
                found.segments,
                content,
                arrived_at,
                principal.name if principal else "",
                self._admission.may_know_reasons(route, principal),
            )
            answer = self._lanes.submit(route.lane, partial(self._answers[route], request))
            if not content:
                return await answer
            gone = asyncio.ensure_future(receive())
            try:
                await asyncio.wait((answer, gone), return_when=asyncio.FIRST_COMPLETED)
                if not answer.done():
                    request.cancellation.cancel()
                return await answer
            finally:
                gone.cancel()
                answer.cancel()

    def _refuse_path(self, head: Head, allowed: tuple[str, ...]) -> Response:
        if not allowed:
            if head.path.startswith(_API_ROOTS):
                raise NotFoundError(f"there is nothing at {quote(head.path)}")
            return text(self._nothing_here, HTTPStatus.NOT_FOUND)
        refusal = text(
            f"{quote(head.path)} accepts only {' or '.join(allowed)}",
            HTTPStatus.METHOD_NOT_ALLOWED,
        )
        return Response(
            refusal.body, refusal.content_type, refusal.status, (("Allow", ", ".join(allowed)),)
        )


def _read_head(scope: Scope) -> Head:
    return Head(
        scope["method"],
        scope["path"],
        parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True),
        {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]},
    )


def _check_size(scope: Scope) -> None:
    """Refuse a long head that arrived as a whole; the server refuses one that keeps growing."""
    headers = sum(len(name) + len(value) for name, value in scope["headers"])
    if headers + len(scope["raw_path"]) + len(scope["query_string"]) > MAX_HEAD_BYTES:
        raise RequestTooLargeError(
            f"the address and the headers have more than {MAX_HEAD_BYTES} bytes",
            HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
        )


def _call(head: Head) -> Call:
    """What a refusal tells of a call that did not begin."""
    method = f"{head.method} {quote(head.path)}"
    return Call(request_id=head.request_id, method=method, protocol="http")

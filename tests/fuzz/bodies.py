"""Fuzz targets: bodies of HTTP, as the site hands them to the functions of its routes."""

import functools
import json
import random

from convd.service.calls.call import Call
from convd.service.protocols.classification import ClassificationServicer
from convd.service.web.api.classify import ClassifyPictures
from convd.service.web.api.infer_body import HEADER_LENGTH
from convd.service.web.api.open_inference import OpenInferenceHttp
from convd.service.web.request import Head, Request
from convd.service.web.routes import CLASSIFY, OPEN_INFERENCE
from tests.fuzz.bounds import memory_within
from tests.fuzz.mutation import mutate_json
from tests.fuzz.requests import open_inference
from tests.fuzz.served import DECODE_BUDGET_BYTES, MODEL, answered_or_refused, inference_on, load
from tests.fuzz.target import MutateBytes, Target
from tests.service.protocols.open_inference.requests import (
    png,
    raw_encoded_request,
    raw_image_request,
)
from tests.service.web.bodies import binary_body, form, json_body

_MAX_BODY_BYTES = 16 * 1024

# No JSON text has this byte, so the first one ends the JSON.
_END_OF_JSON = b"\0"

_INFER = next(route for route in OPEN_INFERENCE if route.action == "infer")
_FORM, _FORM_HEADERS = form(png(), png())


@functools.cache
def _open_inference() -> OpenInferenceHttp:
    inference = inference_on(load())
    return OpenInferenceHttp(open_inference(), inference.decode_budget)


@functools.cache
def _classify() -> ClassifyPictures:
    inference = inference_on(load())
    return ClassifyPictures(ClassificationServicer(inference), inference.check_image_count)


def _request(route: object, body: bytes, headers: dict[str, str]) -> Request:
    head = Head("POST", "/", {}, {name.lower(): value for name, value in headers.items()})
    return Request(head, route, {"model": MODEL}, body, 0.0)  # type: ignore[arg-type]


def read_infer_body(data: bytes) -> None:
    """Take the bytes for JSON, followed by binary data after a zero byte."""
    text, end, binary = data.partition(_END_OF_JSON)
    headers = {HEADER_LENGTH: str(len(text))} if end else {}
    request = _request(_INFER, text + binary, headers)
    with memory_within(DECODE_BUDGET_BYTES + 64 * len(data)):
        answered_or_refused(lambda: _open_inference().actions["infer"](request, Call()))


def read_form(data: bytes) -> None:
    """Take the bytes for files of a form."""
    headers = {name.replace("_", "-"): value for name, value in _FORM_HEADERS.items()}
    request = _request(CLASSIFY[0], data, headers)
    with memory_within(DECODE_BUDGET_BYTES + 64 * len(data)):
        answered_or_refused(lambda: _classify().answer(request, Call()))


def mutate_infer_body(data: bytes, chance: random.Random, mutate_bytes: MutateBytes) -> bytes:
    """Change the JSON, or the binary data after it."""
    text, end, binary = data.partition(_END_OF_JSON)
    if end and chance.random() < 0.3:
        return text + end + mutate_bytes(binary)
    return mutate_json(text, chance, mutate_bytes) + end + binary


def mutate_form(data: bytes, chance: random.Random, mutate_bytes: MutateBytes) -> bytes:
    """Change a line of the form, or any bytes."""
    lines = data.split(b"\r\n")
    if chance.random() < 0.3:
        return mutate_bytes(data)
    place = chance.randrange(len(lines))
    action = chance.random()
    if action < 0.2:
        del lines[place]
    elif action < 0.4:
        lines.insert(chance.randrange(len(lines)), lines[place])
    else:
        lines[place] = mutate_bytes(lines[place])
    return b"\r\n".join(lines)


def _seeds() -> dict[str, bytes]:
    classified = raw_image_request()
    classified.outputs.add(name="probabilities").parameters["classification"].int64_param = 2
    classified.parameters["timeout"].int64_param = 1_000_000
    seeds = {"json": json_body(classified), "nested": json_body(raw_image_request(2), nested=True)}
    for name, request in (
        ("binary", raw_image_request(2)),
        ("encoded", raw_encoded_request(png(), png())),
    ):
        body, size = binary_body(request, binary_output=True)
        seeds[name] = body[:size] + _END_OF_JSON + body[size:]
    base64 = {"name": "encoded_image", "datatype": "BYTES", "shape": [1], "data": ["aGVsbG8="]}
    seeds["base64"] = json.dumps(
        {"inputs": [base64 | {"parameters": {"content_type": "base64"}}]}
    ).encode()
    return seeds


INFER_BODY = Target(read_infer_body, mutate_infer_body, _seeds(), _MAX_BODY_BYTES)
FORM = Target(read_form, mutate_form, {"two": _FORM}, _MAX_BODY_BYTES)

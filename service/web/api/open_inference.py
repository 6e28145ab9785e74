"""The Open Inference Protocol over HTTP: each path asks what its method asks over gRPC."""

from collections.abc import Callable, Mapping
from typing import Any, cast

import grpc
from google.protobuf.message import Message

from convd.artifact.errors import InvalidImageError
from convd.protos.inference import grpc_service_pb2 as pb
from convd.service.calls.call import Call
from convd.service.errors import InvalidRequestError, UnavailableError
from convd.service.inference.decode_budget import DecodeBudget
from convd.service.protocols.open_inference.servicer import OpenInferenceServicer
from convd.service.web.api.infer_answer import write_infer
from convd.service.web.api.infer_body import HEADER_LENGTH, json_size, read_infer
from convd.service.web.api.json_fields import JSON_FACTOR, read_document
from convd.service.web.api.json_messages import message_document
from convd.service.web.request import Request
from convd.service.web.response import Response, json_response

_NO_CONTEXT = cast(grpc.ServicerContext, None)

Answer = Callable[[Request, Call], Response]


class OpenInferenceHttp:
    """The functions of the protocol's paths.

    Args:
        servicer: Answers the same requests over gRPC.
        budget: Memory for what is unpacked from requests.
    """

    def __init__(self, servicer: OpenInferenceServicer, budget: DecodeBudget) -> None:
        self._servicer = servicer
        self._budget = budget

    @property
    def actions(self) -> Mapping[str, Answer]:
        """Its functions, by the action of their routes."""
        servicer = self._servicer
        return {
            "server": _asking(servicer.ServerMetadata, lambda _: pb.ServerMetadataRequest()),
            "model": _asking(servicer.ModelMetadata, _named(pb.ModelMetadataRequest)),
            "config": _asking(
                servicer.ModelConfig, _named(pb.ModelConfigRequest), lambda answer: answer["config"]
            ),
            "stats": _asking(servicer.ModelStatistics, _named(pb.ModelStatisticsRequest)),
            "index": _asking(
                servicer.RepositoryIndex, _index_request, lambda answer: answer["models"]
            ),
            "load": _asking(servicer.RepositoryModelLoad, _load_request),
            "unload": _asking(
                servicer.RepositoryModelUnload,
                lambda request: pb.RepositoryModelUnloadRequest(
                    model_name=request.segments["model"]
                ),
            ),
            "logging": _asking(servicer.LogSettings, _log_request, _log_values),
            "trace": _asking(
                servicer.TraceSetting,
                lambda request: pb.TraceSettingRequest(
                    model_name=request.segments.get("model", "")
                ),
                lambda answer: {name: one["value"] for name, one in answer["settings"].items()},
            ),
            "shared_memory": _asking(
                servicer.SystemSharedMemoryStatus, lambda _: pb.SystemSharedMemoryStatusRequest()
            ),
            "ready": self._model_ready,
            "infer": self._infer,
        }

    def _model_ready(self, request: Request, _call: Call) -> Response:
        segments = request.segments
        message = pb.ModelReadyRequest(name=segments["model"], version=segments.get("version", ""))
        if not self._servicer.ModelReady(message, _NO_CONTEXT).ready:
            raise UnavailableError("the model is not ready")
        return json_response({"name": segments["model"], "ready": True})

    def _infer(self, request: Request, call: Call) -> Response:
        body, length = request.body, request.head.headers.get(HEADER_LENGTH.lower(), "")
        size = json_size(body, length)
        try:
            with self._budget.reserve(size * JSON_FACTOR, call):
                message, binary = read_infer(body, size)
        except InvalidImageError as error:
            raise InvalidRequestError(
                f"the JSON document has {size} bytes, which is too much to unpack: send tensors as "
                f"binary data after it, with {HEADER_LENGTH}"
            ) from error
        message.model_name = request.segments["model"]
        message.model_version = request.segments.get("version", "")
        content, header = write_infer(self._servicer.infer(message, call), binary)
        if header is None:
            return Response(content, "application/json")
        headers = ((HEADER_LENGTH, str(header)),)
        return Response(content, "application/octet-stream", headers=headers)


def _asking(
    method: Callable[[Any, grpc.ServicerContext], Message],
    read: Callable[[Request], Message],
    choose: Callable[[dict[str, Any]], object] = lambda document: document,
) -> Answer:
    """Make the function of a path that answers with the document of a message, or part of it."""

    def answer(request: Request, _call: Call) -> Response:
        return json_response(choose(message_document(method(read(request), _NO_CONTEXT))))

    return answer


def _named(kind: Callable[..., Message]) -> Callable[[Request], Message]:
    """Make the function that reads which model and version a path names."""

    def read(request: Request) -> Message:
        segments = request.segments
        return kind(name=segments.get("model", ""), version=segments.get("version", ""))

    return read


def _index_request(request: Request) -> pb.RepositoryIndexRequest:
    document = read_document(request.body) if request.body else {}
    return pb.RepositoryIndexRequest(
        ready=document.get("ready") is True,
        repository_name=str(document.get("repository_name") or ""),
    )


def _load_request(request: Request) -> pb.RepositoryModelLoadRequest:
    message = pb.RepositoryModelLoadRequest(model_name=request.segments["model"])
    parameters = read_document(request.body).get("parameters") if request.body else None
    for name in parameters if isinstance(parameters, dict) else ():
        message.parameters[name].bool_param = True
    return message


def _log_request(request: Request) -> pb.LogSettingsRequest:
    message = pb.LogSettingsRequest()
    if request.head.method != "POST":
        return message
    for name, value in read_document(request.body).items():
        setting = message.settings[name]
        if isinstance(value, bool):
            setting.bool_param = value
        elif isinstance(value, int) and 0 <= value < 2**32:
            setting.uint32_param = value
        elif isinstance(value, str):
            setting.string_param = value
        else:
            raise InvalidRequestError(
                f"log setting '{name[:64]}' is neither a boolean, a whole number nor a string"
            )
    return message


def _log_values(document: dict[str, Any]) -> dict[str, Any]:
    """The settings with their values, whatever their type."""
    return {name: next(iter(setting.values())) for name, setting in document["settings"].items()}

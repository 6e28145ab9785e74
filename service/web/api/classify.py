"""`POST /v1/classify/MODEL`: a picture, or several, classified for `curl` and for gateways.

The answer is the ClassifyResponse of `protos/convd/v1/classification.proto`, as JSON.
"""

from collections.abc import Callable

from multipart import MultipartError, PushMultipartParser, parse_options_header

from convd.protos.convd.v1 import classification_pb2 as pb
from convd.service.calls.call import Call
from convd.service.errors import InvalidRequestError
from convd.service.protocols.classification import ClassificationServicer
from convd.service.quoting import quote
from convd.service.web.api.json_messages import message_document
from convd.service.web.request import Head, Request
from convd.service.web.response import Response, json_response

DEFAULT_TOP_K = 5
"""How many classes people want to see."""

_MAX_INT32 = 2**31 - 1
_MAX_INT64 = 2**63 - 1


class ClassifyPictures:
    """Answers with the classes of pictures.

    Args:
        servicer: Answers the same request over gRPC.
        check_image_count: Raises if a request has too many pictures.
    """

    def __init__(
        self, servicer: ClassificationServicer, check_image_count: Callable[[int], None]
    ) -> None:
        self._servicer = servicer
        self._check_image_count = check_image_count

    def answer(self, request: Request, call: Call) -> Response:
        """Classify the picture that is the body, or each file of a form."""
        head = request.head
        message = pb.ClassifyRequest(
            model=_model(request),
            images=[pb.Image(encoded=one) for one in self._pictures(request)],
            top_k=_number(head, "top_k", default=DEFAULT_TOP_K, least=0, most=_MAX_INT32),
            return_features=_flag(head, "return_features"),
            return_activation_maps=_flag(head, "return_activation_maps"),
        )
        answer = self._servicer.answer(message, call)
        return json_response(message_document(answer, with_empty_lists=False))

    def _pictures(self, request: Request) -> list[bytes]:
        kind, options = parse_options_header(request.head.headers.get("content-type", ""))
        if kind != "multipart/form-data":
            if not request.body:
                raise InvalidRequestError(
                    "the body is empty: send a picture, for example with curl --data-binary "
                    "@cat.jpg or -F image=@cat.jpg"
                )
            return [request.body]
        pictures: list[bytes] = []
        try:
            with PushMultipartParser(options.get("boundary", "")) as parser:
                parts: list[bytes] = []
                for event in parser.parse(request.body):
                    if event is None:
                        pictures.append(b"".join(parts))
                        self._check_image_count(len(pictures))
                        parts = []
                    elif isinstance(event, (bytes, bytearray)):
                        parts.append(bytes(event))
        except MultipartError as error:
            raise InvalidRequestError(
                f"the form cannot be read: {quote(str(error))}; send each picture as a file of "
                "multipart/form-data, for example with curl -F image=@cat.jpg"
            ) from None
        return pictures


def _model(request: Request) -> pb.ModelSpec:
    name, version = request.segments["model"], request.head.parameter("version")
    if not version:
        return pb.ModelSpec(name=name)
    if version.isascii() and version.isdigit():
        number = _number(request.head, "version", default=0, least=1, most=_MAX_INT64)
        return pb.ModelSpec(name=name, version=number)
    return pb.ModelSpec(name=name, version_label=version)


def _flag(head: Head, name: str) -> bool:
    text = head.parameter(name).lower()
    if text not in ("", "true", "false", "1", "0"):
        raise InvalidRequestError(f"{name} is '{quote(text)}': send true or false")
    return text in ("true", "1")


def _number(head: Head, name: str, *, default: int, least: int, most: int) -> int:
    text = head.parameter(name)
    if not text:
        return default
    # Longer ones are out of range, and slow to convert.
    number = int(text[:20]) if text.isascii() and text.isdigit() else -1
    if not least <= number <= most:
        raise InvalidRequestError(
            f"{name} is '{quote(text)}': send a whole number from {least} to {most}"
        )
    return number

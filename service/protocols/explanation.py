"""Messages of explanations: reads the question, writes progress and the answer."""

from convd.protos.convd.v1 import classification_pb2 as pb
from convd.service.errors import InvalidRequestError
from convd.service.inference.explanation import Explanation, Method, Progress, Question
from convd.service.inference.preparation import PixelImage
from convd.service.lifecycle.catalog import VersionChoice

_METHODS = {
    pb.EXPLANATION_METHOD_CLASS_ACTIVATION: Method.CLASS_ACTIVATION,
    pb.EXPLANATION_METHOD_OCCLUSION: Method.OCCLUSION,
}
_NUMBERS = {method: number for number, method in _METHODS.items()}


def read_question(request: pb.ExplainRequest, choice: VersionChoice) -> Question:
    """Read what is to be explained.

    Raises:
        InvalidRequestError: The image has no source, or the method is unknown.
    """
    kind = request.image.WhichOneof("source")
    source: bytes | PixelImage
    if kind == "encoded":
        source = request.image.encoded
    elif kind == "pixels":
        pixels = request.image.pixels
        source = PixelImage(pixels.data, pixels.height, pixels.width, pixels.channels)
    else:
        raise InvalidRequestError(
            "the image has no source that a map can be laid over: set encoded or pixels"
        )
    if request.method and request.method not in _METHODS:
        raise InvalidRequestError(f"method is {request.method}: there is none of this number")
    by = request.WhichOneof("class_choice")
    return Question(
        choice,
        source,
        label=request.label if by == "label" else None,
        index=request.class_index if by == "class_index" else None,
        method=_METHODS.get(request.method),
    )


def write_part(part: Progress | Explanation) -> pb.ExplainResponse:
    """Write one message of the answer."""
    if isinstance(part, Progress):
        return pb.ExplainResponse(progress=pb.ExplainProgress(done=part.done, total=part.total))
    servable = part.servable
    height, width = part.heat.shape
    return pb.ExplainResponse(
        explanation=pb.Explanation(
            model_name=servable.name,
            model_version=servable.version,
            method=_NUMBERS[part.method],
            class_probability=pb.ClassProbability(
                index=part.place,
                label=servable.manifest.labels[part.place],
                probability=part.probability,
            ),
            heat_map=pb.HeatMap(height=height, width=width, values=part.heat.ravel().tolist()),
            overlay_png=part.picture,
        )
    )

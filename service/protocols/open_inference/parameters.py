"""Parameters of requests, of inputs and of requested outputs."""

from collections.abc import Mapping

from convd.protos.inference import grpc_service_pb2 as pb
from convd.service.errors import InvalidRequestError, UnsupportedError
from convd.service.quoting import quote

MICROSECONDS = 1_000_000

Parameters = Mapping[str, pb.InferParameter]

SHARED_MEMORY_REASON = (
    "shared memory is not supported, because it would give callers access to memory of the "
    "server's machine: send the bytes in raw_input_contents"
)


def check_parameters(parameters: Parameters) -> None:
    """Refuse parameters without a value of a known type; unknown names are ignored, as in Triton.

    Raises:
        InvalidRequestError: A parameter has no value, or one of an unsupported type.
    """
    for name, parameter in parameters.items():
        kind = parameter.WhichOneof("parameter_choice")
        if kind is None:
            raise InvalidRequestError(
                f"parameter '{quote(name)}' has no value of a known type: set bool_param, "
                "int64_param, string_param or double_param"
            )
        if kind == "uint64_param" and name not in ("priority", "timeout"):
            raise InvalidRequestError(
                f"parameter '{quote(name)}' is set as uint64_param, which is not supported here: "
                "set bool_param, int64_param, string_param or double_param"
            )


def priority(parameters: Parameters) -> int:
    """Priority of a request: 1 is the highest, 0 is the default.

    Raises:
        InvalidRequestError: It is negative or not a whole number.
    """
    return _natural(parameters, "priority")


def timeout_seconds(parameters: Parameters) -> float | None:
    """Timeout of a request in seconds; None if it sets none.

    Raises:
        InvalidRequestError: It is negative or not a whole number.
    """
    return _natural(parameters, "timeout") / MICROSECONDS or None


def flag(parameters: Parameters, name: str) -> bool:
    """Whether a parameter is set and true."""
    return name in parameters and parameters[name].bool_param


def classification(output: str, parameters: Parameters) -> int | None:
    """Number of classes to return instead of the tensor; None for the tensor.

    Raises:
        InvalidRequestError: It is not an int64, or less than 1.
    """
    parameter = parameters.get("classification")
    if parameter is None:
        return None
    if parameter.WhichOneof("parameter_choice") != "int64_param":
        raise InvalidRequestError(
            f"parameter 'classification' of output '{output}' has the wrong type: set int64_param"
        )
    if parameter.int64_param < 1:
        raise InvalidRequestError(
            f"parameter 'classification' of output '{output}' is {parameter.int64_param}; it must "
            "be at least 1"
        )
    return parameter.int64_param


def refuse_shared_memory(parameters: Parameters) -> None:
    """Refuse a tensor in shared memory.

    Raises:
        UnsupportedError: The tensor is in shared memory.
    """
    if "shared_memory_region" in parameters:
        raise UnsupportedError(SHARED_MEMORY_REASON)


def _natural(parameters: Parameters, name: str) -> int:
    parameter = parameters.get(name)
    if parameter is None:
        return 0
    kind = parameter.WhichOneof("parameter_choice")
    if kind not in ("int64_param", "uint64_param"):
        raise InvalidRequestError(
            f"parameter '{name}' has the wrong type: set int64_param or uint64_param"
        )
    value = parameter.int64_param if kind == "int64_param" else parameter.uint64_param
    if value < 0:
        raise InvalidRequestError(f"parameter '{name}' is {value}; it must not be negative")
    return value

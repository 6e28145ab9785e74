"""Reads JSON documents, and their fields with the types that they must have.

Every function raises an InvalidRequestError that names the field.
"""

from typing import Any

from pydantic_core import from_json

from convd.service.errors import InvalidRequestError
from convd.service.quoting import quote

JSON_FACTOR = 48
"""What a JSON document takes as Python objects, at most, for each of its bytes."""

_MAX_OBJECTS = 32


def read_document(data: bytes | memoryview) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        InvalidRequestError: It is not a JSON object.
    """
    try:
        document = from_json(bytes(data), allow_inf_nan=False)
    except ValueError as error:
        raise InvalidRequestError(f"the body is not a JSON document: {quote(str(error))}") from None
    if not isinstance(document, dict):
        raise InvalidRequestError("the body is not a JSON object: send {...}")
    return document


def pop_flag(parameters: dict[str, Any], name: str, where: str) -> bool:
    """Take a parameter that is a boolean; False if there is none."""
    value = parameters.pop(name, False)
    if not isinstance(value, bool):
        raise InvalidRequestError(f"parameter '{name}' of {where} is not a boolean")
    return value


def text_field(document: dict[str, Any], name: str, where: str) -> str:
    """A field that is a string; empty if there is none."""
    value = document.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise InvalidRequestError(f"'{name}' of {where} is not a string")
    return value


def object_field(document: dict[str, Any], name: str, where: str) -> dict[str, Any]:
    """A field that is an object, without what is null in it; empty if there is none."""
    value = document.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidRequestError(f"'{name}' of {where} is not an object")
    return {key: one for key, one in value.items() if one is not None}


def objects_field(document: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """A field that is a list of a few objects; empty if there is none."""
    value = document.get(name)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise InvalidRequestError(f"'{name}' is not a list of objects")
    if len(value) > _MAX_OBJECTS:
        raise InvalidRequestError(
            f"the request has {len(value)} {name}: send at most {_MAX_OBJECTS}"
        )
    return value

"""Protobuf messages as JSON documents, with the names that the protocols give their fields."""

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

_FLOAT = FieldDescriptor.TYPE_FLOAT


def message_document(message: Message, *, with_empty_lists: bool = True) -> dict[str, Any]:
    """Make the JSON document of a message.

    Unlike protobuf's own mapping it keeps whole numbers of 64 bits as numbers, which is what the
    clients of the Open Inference Protocol read, and shows fields that have their default.

    Args:
        message: The message; its bytes become base64.
        with_empty_lists: Whether lists without elements are shown too.
    """
    document: dict[str, Any] = {}
    for field in message.DESCRIPTOR.fields:
        if field.has_presence and not message.HasField(field.name):
            continue
        value = getattr(message, field.name)
        if field.is_repeated and not value and not with_empty_lists:
            continue
        document[field.name] = _value(field, value, with_empty_lists=with_empty_lists)
    return document


def _value(field: Any, value: Any, *, with_empty_lists: bool) -> Any:  # noqa: ANN401
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, Message):
        return message_document(value, with_empty_lists=with_empty_lists)
    if isinstance(value, Mapping):
        of_value = field.message_type.fields_by_name["value"]
        return {
            str(key): _value(of_value, one, with_empty_lists=with_empty_lists)
            for key, one in value.items()
        }
    if isinstance(value, Sequence) and not isinstance(value, str):
        # Long ones, such as features, are written as they are: that is ten times faster.
        if field.type == _FLOAT:
            return list(value)
        return [_value(field, one, with_empty_lists=with_empty_lists) for one in value]
    if field.enum_type is not None:
        return field.enum_type.values_by_number[value].name
    # The shortest text that gives the same float32 again.
    return float(str(np.float32(value))) if field.type == _FLOAT else value

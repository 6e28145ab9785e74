"""Mutations that know a format: what is inside changes, and what is around it stays valid."""

import json
import random
import zlib
from collections.abc import Callable, Sequence
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message

from tests.fuzz.target import Mutate, MutateBytes

_PNG = b"\x89PNG\r\n\x1a\n"

_NUMBERS = (0, 1, -1, 2, 7, 255, 65_536, 2**31 - 1, 2**31, 2**32, 2**53, 2**63 - 1, -(2**63), 1e308)
_TEXTS = ("", "a", "\0", "\n", "../x", "/", "\ud800", "é", "x" * 300, "1", "nan", "pets", "image")


def mutate_picture(data: bytes, chance: random.Random, mutate_bytes: MutateBytes) -> bytes:
    """Change any bytes; in a PNG, mostly within its chunks, whose checksums are then made right."""
    if not data.startswith(_PNG) or chance.random() < 0.2:
        return mutate_bytes(data)
    chunks = _png_chunks(data)
    place = chance.randrange(len(chunks)) if chunks else 0
    if not chunks:
        return mutate_bytes(data)
    name, content = chunks[place]
    action = chance.random()
    if action < 0.1:
        chunks.insert(chance.randrange(len(chunks)), chunks[place])
    elif action < 0.2:
        del chunks[place]
    elif name == b"IDAT" and action < 0.6:
        chunks[place] = name, zlib.compress(mutate_bytes(_unpacked(content)))
    else:
        chunks[place] = name, mutate_bytes(content)
    return _PNG + b"".join(
        len(content).to_bytes(4) + name + content + zlib.crc32(name + content).to_bytes(4)
        for name, content in chunks
    )


def mutate_json(data: bytes, chance: random.Random, mutate_bytes: MutateBytes) -> bytes:
    """Replace, remove or copy values of a JSON text."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return mutate_bytes(data)
    if not isinstance(document, dict) or chance.random() < 0.1:
        return mutate_bytes(data)
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        places = _places(document)
        if not places:
            break
        parent, key = chance.choice(places)
        if chance.random() < 0.2:
            del parent[key]
        else:
            parent[key] = _json_value(document, parent[key], chance)
    return json.dumps(document).encode()


def mutate_message(kind: Callable[[], Message]) -> Mutate:
    """A mutation of the fields of a protobuf message of some kind."""

    def mutate(data: bytes, chance: random.Random, mutate_bytes: MutateBytes) -> bytes:
        message = kind()
        try:
            message.ParseFromString(data)
        except DecodeError:
            return mutate_bytes(data)
        if chance.random() < 0.2:
            return mutate_bytes(data)
        for _ in range(chance.choice((1, 1, 2, 4))):
            target = chance.choice(_messages(message))
            fields: Sequence[Any] = target.DESCRIPTOR.fields
            field = chance.choice(fields)
            try:
                _change_field(target, field, chance, mutate_bytes)
            # A value that is out of a field's range; the others are tried often enough.
            except (ValueError, TypeError, OverflowError):
                continue
        return message.SerializeToString()

    return mutate


def _png_chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    chunks = []
    position = len(_PNG)
    while position + 12 <= len(data):
        length = int.from_bytes(data[position : position + 4])
        start = position + 8
        chunks.append((data[position + 4 : start], data[start : start + length]))
        position = start + length + 4
    return chunks


def _unpacked(content: bytes) -> bytes:
    try:
        return zlib.decompressobj().decompress(content, 65_536)
    except zlib.error:
        return content


def _places(node: Any) -> list[tuple[Any, Any]]:
    keys = list(node) if isinstance(node, dict) else range(len(node))
    places = [(node, key) for key in keys]
    for key in keys:
        if isinstance(node[key], dict | list):
            places += _places(node[key])
    return places


def _json_value(document: Any, old: Any, chance: random.Random) -> Any:
    kind = chance.randrange(6)
    if kind == 0:
        return chance.choice(_NUMBERS)
    if kind == 1:
        return chance.choice(_TEXTS)
    if kind == 2:
        return chance.choice((None, True, False, [], {}, float("nan"), float("inf")))
    if kind == 3:
        return [old] * chance.choice((1, 2, 5))
    if kind == 4 and isinstance(old, int | float):
        return old * chance.choice((0.5, 2, 1000, -1))
    parent, key = chance.choice(_places(document))
    return json.loads(json.dumps(parent[key]))


def _messages(message: Message) -> list[Message]:
    """A message and all that it holds."""
    found = [message]
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        if field.message_type.GetOptions().map_entry:
            if field.message_type.fields_by_name["value"].message_type:
                found += [one for part in value.values() for one in _messages(part)]
        elif field.is_repeated:
            found += [one for part in value for one in _messages(part)]
        else:
            found += _messages(value)
    return found


def _change_field(
    message: Message, field: FieldDescriptor, chance: random.Random, mutate_bytes: MutateBytes
) -> None:
    values = getattr(message, field.name)
    if chance.random() < 0.1:
        message.ClearField(field.name)
    elif field.message_type is not None:
        if field.message_type.GetOptions().map_entry:
            values[chance.choice(("timeout", "priority", "classification", "x"))].SetInParent()
        elif field.is_repeated:
            values.add().CopyFrom(chance.choice(values)) if values else values.add()
        else:
            values.SetInParent()
    elif not field.is_repeated:
        setattr(message, field.name, _field_value(field, values, chance, mutate_bytes))
    elif values and chance.random() < 0.8:
        place = chance.randrange(len(values))
        values[place] = _field_value(field, values[place], chance, mutate_bytes)
    else:
        values.append(_field_value(field, field.default_value or 0, chance, mutate_bytes))


def _field_value(
    field: FieldDescriptor, old: Any, chance: random.Random, mutate_bytes: MutateBytes
) -> Any:
    if field.type == FieldDescriptor.TYPE_BYTES:
        return mutate_bytes(old or b"\0")
    if field.type == FieldDescriptor.TYPE_STRING:
        return chance.choice(_TEXTS)
    if field.type == FieldDescriptor.TYPE_BOOL:
        return chance.random() < 0.5
    return chance.choice((*_NUMBERS, old + 1, old - 1))

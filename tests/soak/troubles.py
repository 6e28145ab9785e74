"""Clients that do harm, by mistake or on purpose; each does one kind of it again and again."""

import contextlib
import random
import threading
import time
from collections.abc import Callable

import grpc

from convd.protos.convd.v1 import classification_pb2 as pb
from convd.protos.convd.v1.classification_pb2_grpc import ClassificationServiceStub
from tests.artifact.formats.pictures import (
    drawn,
    encoded,
    jpeg_with_scans,
    png_of_rows,
    run_length_bmp,
    webp_header,
)
from tests.soak import frames
from tests.soak.callers import CLASSIFY, open_channel
from tests.soak.ledger import Attempt, Ledger
from tests.soak.models import FICKLE, HOSTILE, PICTURES

Trouble = Callable[[int, Ledger, random.Random], None]

_LARGE = encoded(drawn(2000, 2000), "JPEG", quality=30)
_TALL = png_of_rows(drawn(1, 2), 1)

HOSTILE_PICTURES = (
    _LARGE,
    _LARGE[: len(_LARGE) // 2],
    encoded(drawn(2000, 2000), "JPEG", quality=30, progressive=True),
    png_of_rows(drawn(900, 900), 500),
    _TALL[:16] + b"\0\0\0\1\3\xfd\x3f\xc0" + _TALL[24:],
    webp_header(16_383, 16_383),
    run_length_bmp(8000, 8000),
    run_length_bmp(500, 500),
    jpeg_with_scans(80, 300, 300),
    encoded(drawn(2500, 2500).point(lambda _: 0), "PNG"),
    b"<html>504</html>",
    b"",
)

_HOSTILE_SECONDS = 60.0
_HELD_SECONDS = 0.7


def _request(model: str, *pictures: bytes) -> pb.ClassifyRequest:
    images = [pb.Image(encoded=picture) for picture in pictures]
    return pb.ClassifyRequest(model=pb.ModelSpec(name=model), images=images)


def hostile_pictures(port: int, ledger: Ledger, chance: random.Random) -> None:
    """Pictures that are broken, huge or dear, each waited for."""
    with open_channel(port) as channel:
        stub = ClassificationServiceStub(channel)
        for picture in chance.sample(HOSTILE_PICTURES, 4):
            started = time.monotonic()
            code = grpc.StatusCode.OK
            try:
                stub.Classify(_request(HOSTILE, picture), timeout=_HOSTILE_SECONDS)
            except grpc.RpcError as error:
                code = error.code()
            ledger.note(Attempt((HOSTILE, CLASSIFY, code.name), started, time.monotonic()))
            time.sleep(0.1)


def half_sent(port: int, _ledger: Ledger, chance: random.Random) -> None:
    """Calls whose message does not come, or stops in its middle."""
    data = _request(FICKLE, *PICTURES).SerializeToString()
    connection = frames.connect(port)
    for stream in range(1, 2 * chance.randint(1, 40), 2):
        sent = frames.headers(CLASSIFY, stream)
        if chance.random() < 0.5:
            sent += frames.message(data, stream, sent_bytes=chance.randrange(1, 2000))
        connection.sendall(sent)
    time.sleep(chance.uniform(0, _HELD_SECONDS))
    frames.tear_off(connection)


def resets(port: int, ledger: Ledger, chance: random.Random) -> None:
    """Whole calls, of which the client gives up each, or the connection."""
    data = _request(FICKLE, PICTURES[1]).SerializeToString()
    connection = frames.connect(port)
    streams = range(1, 2 * chance.randint(1, 8), 2)
    ledger.note_sent(FICKLE, len(streams))
    for stream in streams:
        connection.sendall(frames.headers(CLASSIFY, stream) + frames.message(data, stream))
        time.sleep(chance.uniform(0, 0.01))
        if chance.random() < 0.5:
            connection.sendall(frames.reset(stream))
    frames.tear_off(connection)


def slow_readers(port: int, ledger: Ledger, chance: random.Random) -> None:
    """Calls whose answers are not taken."""
    data = _request(FICKLE, PICTURES[1]).SerializeToString()
    connection = frames.connect(port, window_bytes=0)
    ledger.note_sent(FICKLE, 20)
    for stream in range(1, 40, 2):
        connection.sendall(frames.headers(CLASSIFY, stream) + frames.message(data, stream))
    time.sleep(chance.uniform(0.5, 1) * _HELD_SECONDS)
    connection.close()


def cancellations(port: int, ledger: Ledger, chance: random.Random) -> None:
    """Calls that are cancelled, or have deadlines that cannot be met."""
    with open_channel(port) as channel:
        stub = ClassificationServiceStub(channel)
        for _ in range(10):
            ledger.note_sent(FICKLE)
            limit = chance.choice((0.001, 0.005, 0.02, 5.0))
            call = stub.Classify.future(_request(FICKLE, *PICTURES), timeout=limit)
            time.sleep(chance.uniform(0, 0.02))
            call.cancel()  # type: ignore[no-untyped-call]


TROUBLES: tuple[Trouble, ...] = (
    hostile_pictures,
    half_sent,
    resets,
    slow_readers,
    cancellations,
)


def make_trouble(
    trouble: Trouble, port: int, ledger: Ledger, stop: threading.Event, chance: random.Random
) -> None:
    """Make one kind of trouble until told to stop; a server that refuses it is in its right."""
    while not stop.is_set():
        with contextlib.suppress(OSError):
            trouble(port, ledger, chance)
        stop.wait(chance.uniform(0.1, 0.5))

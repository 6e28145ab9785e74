import asyncio
import inspect
import io
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convd.client import (
    AsyncClient,
    Classification,
    Client,
    ImageLike,
    InvalidImageError,
    InvalidRequestError,
    NotFoundError,
    UnavailableError,
)
from convd.client.exchange import MAX_IMAGES_PER_CALL
from tests.digits import Digits
from tests.support import Client as Server
from tests.support import running_server


def address(server: Server) -> str:
    return f"127.0.0.1:{server.grpc_port}"


@pytest.mark.parametrize(
    "give",
    [
        lambda _picture, path: path,
        lambda _picture, path: str(path),
        lambda _picture, path: path.read_bytes(),
        lambda _picture, path: memoryview(path.read_bytes()),
        lambda picture, _path: picture,
        lambda picture, _path: np.asarray(picture),
        lambda picture, _path: np.asarray(picture)[:, :, np.newaxis],
        lambda picture, _path: np.asarray(picture.convert("RGB")),
        lambda picture, _path: picture.convert("P"),
        lambda picture, _path: picture.convert("LA"),
    ],
)
def test_every_kind_of_image_gives_the_answer_of_the_file(
    client: Server, digits: Digits, tmp_path: Path, give: Callable[[Image.Image, Path], object]
) -> None:
    path = tmp_path / "digit.png"
    path.write_bytes(digits.encoded(3))
    wanted = client.classify(digits.encoded(3), top_k=0).results[0].classification.classes
    with Client(address(client)) as ask:
        answer = ask.classify(give(digits.picture(3), path), "digits", top_k=0)  # type: ignore[call-overload]
    assert (answer.model, answer.version, answer.task) == ("digits", 1, "multiclass")
    assert [(one.index, one.label, one.probability) for one in answer.classes] == [
        (one.index, one.label, one.probability) for one in wanted
    ]
    assert (answer.label, answer.probability) == (wanted[0].label, wanted[0].probability)


def test_a_turned_pillow_image_keeps_its_orientation() -> None:
    from convd.client.images import read_image

    picture = Image.new("RGB", (4, 2))
    exif = picture.getexif()
    exif[0x0112] = 6
    file = io.BytesIO()
    picture.save(file, "JPEG", exif=exif)
    message = read_image(Image.open(file))
    assert Image.open(io.BytesIO(message.encoded)).getexif()[0x0112] == 6


@pytest.mark.parametrize(
    ("image", "kind", "text"),
    [
        (b"no image", InvalidImageError, "send a JPEG, PNG, WebP or BMP"),
        ("absent.png", InvalidImageError, "cannot read absent.png: No such file"),
        (np.zeros((3, 4, 4), np.uint8), InvalidImageError, r"uint8 \[3, 4, 4\]: give uint8"),
        (np.zeros((4, 4)), InvalidImageError, "float64"),
        (7, TypeError, "cannot read an image from int: give a path"),
    ],
)
def test_what_is_no_image(client: Server, image: object, kind: type[Exception], text: str) -> None:
    with Client(address(client)) as ask, pytest.raises(kind, match=text):
        ask.classify(image, "digits")  # type: ignore[call-overload]


def test_many_images_keep_their_order_over_many_calls(client: Server, digits: Digits) -> None:
    count = 2 * MAX_IMAGES_PER_CALL + 3
    with Client(address(client)) as ask:
        answers = ask.classify([digits.encoded(index % 120) for index in range(count)], "digits")
        alone = [ask.classify(digits.encoded(index % 120), "digits") for index in range(count)]
    assert [one.label for one in answers] == [one.label for one in alone]


def test_a_bad_image_among_others_leaves_them_their_answers(client: Server, digits: Digits) -> None:
    good = digits.encoded(4)
    with Client(address(client)) as ask:
        with pytest.raises(InvalidImageError, match="2 of 4 images") as refused:
            ask.classify([good, b"bad", "absent.png", good], "digits")
        assert refused.value.index == 1
        kinds = [type(one) for one in refused.value.results]
        assert kinds == [Classification, InvalidImageError, InvalidImageError, Classification]
        assert [one.index for one in refused.value.results[1:3]] == [1, 2]  # type: ignore[union-attr]
        with pytest.raises(InvalidImageError, match="2 of 2") as refused:
            ask.classify([b"bad", b"worse"], "digits")
        assert ask.classify([], "digits") == []


def test_more_than_a_server_takes_in_one_call_is_split(repository: Path, digits: Digits) -> None:
    with (
        running_server(repository, max_images_per_request=5) as server,
        Client(address(server)) as ask,
    ):
        answers = ask.classify([digits.encoded(index) for index in range(23)], "digits")
    assert [one.label for one in answers] == [str(index % 10) for index in range(23)]


def test_a_stream_answers_in_order_and_survives_a_bad_image(client: Server, digits: Digits) -> None:
    images: list[ImageLike] = [digits.encoded(1), b"bad", "absent.png", digits.picture(2)]
    with Client(address(client)) as ask:
        answers = list(ask.classify_stream(images, "digits", top_k=1))
        assert [getattr(one, "label", type(one)) for one in answers] == [
            "1",
            InvalidImageError,
            InvalidImageError,
            "2",
        ]
        assert "cannot read absent.png" in str(answers[2])
        (unknown,) = ask.classify_stream([digits.encoded()], "nobody")
        assert isinstance(unknown, NotFoundError)


def test_wrong_questions(client: Server, digits: Digits) -> None:
    with Client(address(client)) as ask:
        with pytest.raises(NotFoundError, match="there is no model nobody"):
            ask.classify(digits.encoded(), "nobody")
        with pytest.raises(NotFoundError, match="no version 9"):
            ask.classify(digits.encoded(), "digits", version=9)
        with pytest.raises(InvalidRequestError, match="does not name a model"):
            ask.classify(digits.encoded(), "")
        for wrong in ({"top_k": -1}, {"version": 0}, {"version": 1, "version_label": "a"}):
            with pytest.raises(ValueError, match=r"top_k|version"):
                ask.classify(digits.encoded(), "digits", **wrong)


def test_models_are_described(client: Server) -> None:
    with Client(address(client)) as ask:
        (one,) = ask.models()
        assert (one.name, one.version, one.state) == ("digits", 1, "available")
        assert one.accuracy is not None
        assert one.accuracy > 0.9
        described = ask.model("digits")
    assert described.model == one
    assert described.labels == tuple("0123456789")
    assert described.input_shape == (32, 32, 1)


def test_a_model_is_waited_for(published: Path, tmp_path: Path) -> None:
    root = tmp_path / "repository"
    root.mkdir()
    with running_server(root) as server, Client(address(server)) as ask:
        with pytest.raises(NotFoundError):
            ask.wait_for_model("digits", timeout_seconds=0.5)
        shutil.copytree(published, root / "digits" / ".new")
        (root / "digits" / ".new").rename(root / "digits" / "1")
        assert ask.wait_for_model("digits").model.state == "available"
        broken = root / "broken" / "1"
        broken.mkdir(parents=True)
        with pytest.raises(UnavailableError, match="is failed: "):
            ask.wait_for_model("broken")


def test_a_client_finds_a_server_that_came_back(repository: Path, digits: Digits) -> None:
    with running_server(repository) as server:
        port = server.grpc_port
        client = Client(address(server))
        assert client.classify(digits.encoded(6), "digits").label == "6"
    with client, running_server(repository, grpc_port=port):
        assert client.wait_for_model("digits", timeout_seconds=20).model.state == "available"
        assert client.classify(digits.encoded(6), "digits").label == "6"


def test_asyncio_asks_the_same(client: Server, digits: Digits) -> None:
    images = [digits.encoded(index) for index in range(5)]

    async def ask() -> list[object]:
        async with AsyncClient(address(client)) as asking:
            streamed = [one async for one in asking.classify_stream(images, "digits")]
            together = await asyncio.gather(*(asking.classify(one, "digits") for one in images))
            return [
                await asking.classify(images, "digits"),
                streamed,
                list(together),
                await asking.models(),
                await asking.wait_for_model("digits"),
            ]

    with Client(address(client)) as same:
        wanted = same.classify(images, "digits")
        assert asyncio.run(ask()) == [wanted] * 3 + [same.models(), same.model("digits")]

    async def refused() -> None:
        async with AsyncClient(address(client)) as asking:
            await asking.classify([b"bad", images[0]], "digits")

    with pytest.raises(InvalidImageError, match="1 of 2"):
        asyncio.run(refused())


def test_both_clients_have_the_same_methods() -> None:
    for name, method in inspect.getmembers(Client, inspect.isfunction):
        if not name.startswith("_"):
            twin = inspect.signature(getattr(AsyncClient, name)).parameters
            assert inspect.signature(method).parameters == twin, name


def test_importing_convd_is_instant_and_brings_nothing() -> None:
    code = """
import sys, time
began = time.process_time()
import convd
seconds = time.process_time() - began
heavy = {"torch", "numpy", "PIL", "grpc", "onnxruntime", "pydantic"} & set(sys.modules)
assert not heavy, heavy
assert seconds < 0.1, seconds
assert "Client" in dir(convd)
convd.Client
heavy = {"torch", "numpy", "PIL", "onnxruntime", "pydantic", "click"} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code], check=True)

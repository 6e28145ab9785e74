"""`Explain`: the map is right, fits the picture, and keeps deadlines, cancellation and limits."""

import base64
import io
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import onnxruntime as ort
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray
from PIL import Image

from convd.artifact.geometry import on_picture, place
from convd.artifact.preprocessing import prepare_image
from convd.client.client import Client as PythonClient
from convd.commands.main import main
from convd.protos.convd.v1 import classification_pb2 as pb
from convd.service.inference.occlusion import GRID, patches
from tests.explained import BIAS, CLASS_WEIGHTS, RECIPE, publish_red, red_spot
from tests.support import Client, code_of, http_request, png, running_server, wait_until

CAM = pb.EXPLANATION_METHOD_CLASS_ACTIVATION
OCCLUSION = pb.EXPLANATION_METHOD_OCCLUSION
RED = 1


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    root = tmp_path_factory.mktemp("repository")
    publish_red(root, "plain", with_maps=False)
    publish_red(root, "coarse", with_maps=True, side=12)
    return root, publish_red(root, "maps", with_maps=True)


@pytest.fixture(scope="module")
def client(graph: tuple[Path, bytes]) -> Iterator[Client]:
    with running_server(graph[0]) as client:
        yield client


def request(picture: Image.Image | bytes, model: str = "maps", **fields: Any) -> pb.ExplainRequest:
    data = picture if isinstance(picture, bytes) else png(picture)
    spec, image = pb.ModelSpec(name=model), pb.Image(encoded=data)
    return pb.ExplainRequest(model=spec, image=image, **fields)


def explain(client: Client, *arguments: Any, **fields: Any) -> pb.Explanation:
    *progress, last = client.stub.Explain(request(*arguments, **fields), timeout=60)
    assert all(part.HasField("progress") for part in progress)
    return last.explanation


def numbers(explanation: pb.Explanation) -> NDArray[np.float32]:
    heat = explanation.heat_map
    return np.array(heat.values, np.float32).reshape(heat.height, heat.width)


def outputs(network: bytes, picture: Image.Image, *names: str) -> list[NDArray[np.float32]]:
    image = prepare_image(picture, RECIPE)[np.newaxis]
    found: list[NDArray[np.float32]] = ort.InferenceSession(network).run(names, {"image": image})
    return found


def test_class_activation_is_its_definition(client: Client, graph: tuple[Path, bytes]) -> None:
    picture = red_spot(37, 23, 20, 10, 6)
    found = explain(client, picture, label="red")
    assert found.method == CAM
    maps, logits, probabilities = outputs(
        graph[1], picture, "activation_maps", "logits", "probabilities"
    )
    assert abs(found.class_probability.probability - probabilities[0, RED]) < 1e-6
    evidence = sum(CLASS_WEIGHTS[RED, each] * maps[0, each] for each in range(len(maps[0])))
    assert abs(evidence.mean() + BIAS[RED] - logits[0, RED]) < 1e-5
    wanted = on_picture(evidence, place(37, 23, RECIPE))
    np.testing.assert_allclose(numbers(found), wanted, atol=1e-5)


def test_occlusion_is_a_direct_computation(client: Client, graph: tuple[Path, bytes]) -> None:
    picture = red_spot(37, 23, 20, 10, 6)
    found = explain(client, picture, "plain", class_index=RED)
    assert found.method == OCCLUSION
    image = prepare_image(picture, RECIPE)
    session = ort.InferenceSession(graph[1])

    def excess(pixels: NDArray[np.uint8]) -> float:
        none, red = session.run(["logits"], {"image": pixels[np.newaxis]})[0][0]
        return float(red - none)

    drops = []
    for patch in patches(*image.shape[:2]):
        covered = image.copy()
        near = [
            image[y, x]
            for y in range(max(0, patch.top - 1), min(16, patch.bottom + 1))
            for x in range(max(0, patch.left - 1), min(16, patch.right + 1))
            if not (patch.top <= y < patch.bottom and patch.left <= x < patch.right)
        ]
        colour = np.round(np.mean(near, axis=0)).astype(np.uint8)
        covered[patch.top : patch.bottom, patch.left : patch.right] = colour
        drops.append(excess(image) - excess(covered))
    wanted = np.array(drops, np.float32).reshape(GRID, GRID)
    np.testing.assert_allclose(numbers(found), on_picture(wanted, place(37, 23, RECIPE)), atol=1e-5)


@pytest.mark.parametrize("model", ["maps", "plain"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 7])
def test_the_map_finds_the_object_in_the_picture_that_was_sent(
    client: Client, model: str, orientation: int
) -> None:
    width, height, x, y, radius = 121, 87, 52.0, 48.0, 12.0
    picture = red_spot(width, height, x, y, radius)
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture.save(file, "PNG", exif=exif)
    found = explain(client, file.getvalue(), model, label="red")
    heat = np.nan_to_num(np.maximum(numbers(found), 0))
    assert heat.shape == (height, width)
    rows, columns = np.mgrid[:height, :width] + 0.5
    centre = (heat * columns).sum() / heat.sum(), (heat * rows).sum() / heat.sum()
    assert abs(centre[0] - x) < radius
    assert abs(centre[1] - y) < radius
    overlay = Image.open(io.BytesIO(found.overlay_png))
    assert overlay.size == (width, height)
    assert overlay.getexif().get(0x0112, 1) == orientation


def test_maps_that_are_too_coarse_explain_only_on_request(client: Client) -> None:
    picture = red_spot(37, 23, 20, 10, 6)
    assert explain(client, picture, "coarse").method == OCCLUSION
    assert explain(client, picture, "coarse", method=CAM).method == CAM


def test_a_large_picture_gets_a_map_in_proportion(client: Client) -> None:
    found = explain(client, red_spot(2048, 513, 900, 250, 90), label="red")
    assert (found.heat_map.width, found.heat_map.height) == (512, 128)


def test_progress_is_told(client: Client) -> None:
    parts = list(client.stub.Explain(request(red_spot(30, 30, 9, 9, 5), "plain")))
    told = [part.progress.done for part in parts[:-1]]
    assert told == sorted(set(told))
    assert told[0] == 0
    assert told[-1] == GRID * GRID == parts[0].progress.total


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"label": "blue"}, "has no label 'blue'"),
        ({"class_index": 2}, "indices 0 to 1"),
        ({"class_index": -1}, "indices 0 to 1"),
        ({"method": 9}, "method is 9"),
        ({"model": "plain", "method": CAM}, "export it with --features"),
    ],
)
def test_what_cannot_be_is_refused(client: Client, fields: dict[str, Any], why: str) -> None:
    picture = red_spot(30, 30, 9, 9, 5)
    code, text = code_of(lambda: explain(client, picture, **fields))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert why in text


def test_a_picture_that_cannot_be_used_is_refused(client: Client) -> None:
    for bad in (pb.Image(encoded=b"no picture"), pb.Image(prepared=b"12"), pb.Image()):
        message = pb.ExplainRequest(model=pb.ModelSpec(name="maps"), image=bad)
        code, _ = code_of(partial(_all_parts, client, message))
        assert code is grpc.StatusCode.INVALID_ARGUMENT


def test_the_deadline_holds_while_classification_takes_all_time(client: Client) -> None:
    """Under load an explanation by occlusion makes no progress, and ends when its time is up."""
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            client.classify(png(red_spot(30, 30, 9, 9, 5)), model="plain")

    with ThreadPoolExecutor(2) as pool:
        callers = [pool.submit(ask) for _ in range(2)]
        try:
            call = client.stub.Explain(request(red_spot(30, 30, 9, 9, 5), "plain"), timeout=1.0)
            code, _ = code_of(lambda: list(call))
        finally:
            stop.set()
        assert code is grpc.StatusCode.DEADLINE_EXCEEDED
        for caller in callers:
            caller.result(30)


def test_who_cancels_leaves_a_place_for_others(graph: tuple[Path, bytes]) -> None:
    with running_server(graph[0], max_explanations=1) as client:
        stop = threading.Event()

        def ask() -> None:
            while not stop.is_set():
                client.classify(png(red_spot(30, 30, 9, 9, 5)), model="plain")

        with ThreadPoolExecutor(2) as pool:
            caller = pool.submit(ask)
            try:
                held = client.stub.Explain(request(red_spot(30, 30, 9, 9, 5), "plain"))
                next(iter(held))
                picture = red_spot(30, 30, 9, 9, 5)
                code, text = code_of(lambda: explain(client, picture, "plain"))
                assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
                assert "--max-explanations" in text
                held.cancel()  # type: ignore[no-untyped-call]
                wait_until(lambda: _is_let_in(client))
            finally:
                stop.set()
            caller.result(30)


def _all_parts(client: Client, message: pb.ExplainRequest) -> list[pb.ExplainResponse]:
    return list(client.stub.Explain(message))


def _is_let_in(client: Client) -> bool:
    try:
        explain(client, red_spot(30, 30, 9, 9, 5))
    except grpc.RpcError:
        return False
    return True


def test_the_command_writes_a_picture_and_numbers(client: Client, tmp_path: Path) -> None:
    image = tmp_path / "spot.png"
    red_spot(61, 47, 30, 20, 9).save(image)
    server = f"127.0.0.1:{client.grpc_port}"
    for name, method in (("map.png", "class-activation"), ("map.npy", "occlusion")):
        output = tmp_path / name
        arguments = ["explain", str(image), "--model", "maps", "--output", str(output)]
        result = CliRunner().invoke(main, [*arguments, "--method", method, "--server", server])
        assert result.exit_code == 0, result.output
        assert f"by {method}" in result.output
    with Image.open(tmp_path / "map.png") as drawn:
        assert drawn.size == (61, 47)
    assert np.load(tmp_path / "map.npy").shape == (47, 61)
    result = CliRunner().invoke(main, [*arguments, "--json", "--server", server])
    assert json.loads(result.stdout)["output"] == str(tmp_path / "map.npy")


def test_the_python_client_explains(client: Client) -> None:
    told: list[int] = []
    with PythonClient(f"127.0.0.1:{client.grpc_port}") as python:
        found = python.explain(
            png(red_spot(61, 47, 30, 20, 9)),
            "plain",
            label="red",
            on_progress=lambda done, _total: told.append(done),
        )
    assert (found.method, found.label) == ("occlusion", "red")
    assert np.shape(found.heat) == (47, 61)
    assert told[-1] == GRID * GRID


def test_the_console_explains(client: Client) -> None:
    path = "/api/explain?model=plain&label=red"
    picture = png(red_spot(61, 47, 30, 20, 9))
    status, _, body = http_request(client.http_port, "POST", path, picture)
    assert status == 200
    answer = json.loads(body)
    assert (answer["label"], answer["method"]) == ("red", "occlusion")
    drawn = Image.open(io.BytesIO(base64.b64decode(answer["overlay_png"])))
    assert drawn.size == (61, 47)
    path = "/api/explain?model=plain&label=blue"
    status, _, body = http_request(client.http_port, "POST", path, picture)
    assert status == 400
    assert b"has no label" in body

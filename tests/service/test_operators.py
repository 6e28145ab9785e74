"""What operators meet: places, chosen models, emptied volumes, probes of connections, levels."""

import logging
import shutil
import socket
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from convd.client import Client, NotFoundError
from convd.commands.main import main
from convd.service.settings import SettingsError
from convd.service.settings_sources import load_settings
from testbed.server import CONVD_PORTS, http_get, launched
from tests.digits import Digits
from tests.support import Client as Server
from tests.support import free_ports, running_server, wait_until
from tests.tiny_artifact import publish_tiny


def address(server: Server) -> str:
    return f"127.0.0.1:{server.grpc_port}"


@pytest.fixture
def two_models(repository: Path) -> Path:
    publish_tiny(repository, seed=0)
    publish_tiny(repository, seed=1)
    return repository


@pytest.mark.parametrize(
    ("place", "served"),
    [
        ("", {("digits", 1), ("pets", 2)}),
        ("pets", {("pets", 2)}),
        ("pets/1", {("pets", 1)}),
    ],
)
def test_a_repository_a_model_or_a_version_is_served(
    two_models: Path, tmp_path: Path, place: str, served: set[tuple[str, int]]
) -> None:
    words = ["-m", "convd", "serve", two_models / place, "--grpc-port", 0, "--http-port", 0]
    with launched(words, tmp_path / "log", CONVD_PORTS) as server:
        wait_until(lambda: http_get(server.http_port, "/readyz")[0] == 200)
        with Client(server.address) as client:
            found = {(one.name, one.version) for one in client.models() if one.provider}
        assert found == served
        assert server.terminate() == 0
    assert "console, metrics and health on http://" in server.log.read_text()


def test_a_place_that_is_none_says_what_to_give(repository: Path, tmp_path: Path) -> None:
    shutil.copytree(repository / "digits" / "1", tmp_path / "artifact")
    for arguments, code, text in (
        ([tmp_path / "artifact"], 1, "copy it to REPOSITORY/artifact/1"),
        ([tmp_path / "absent"], 1, "does not exist: give a model repository"),
        ([repository, "--repository", "x"], 2, "give either"),
        (["--repository", repository / "digits"], 1, "give the repository that it lies in"),
    ):
        result = CliRunner().invoke(main, ["serve", *map(str, arguments)])
        assert (result.exit_code, text in result.output) == (code, True), result.output


def test_chosen_models_are_served_and_missed(two_models: Path, digits: Digits) -> None:
    with running_server(two_models, models="digits, later:2") as server:
        with Client(address(server)) as client:
            assert client.classify(digits.encoded(3), "digits").label == "3"
            with pytest.raises(NotFoundError):
                client.model("pets")
        status, text = server.get("/readyz")
        assert (status, "later: no version is published" in text) == (503, True)
        publish_tiny(two_models, "later")
        publish_tiny(two_models, "later", seed=1)
        wait_until(lambda: server.get("/readyz")[0] == 200)
        with Client(address(server)) as client:
            assert {(one.name, one.version) for one in client.models()} == {
                ("digits", 1),
                ("later", 2),
            }


@pytest.mark.parametrize(
    ("models", "text"),
    [
        ("a b", "is not a valid model name"),
        ("digits:x", "write digits:VERSION"),
        ("digits:01", "write digits:VERSION"),
        ("digits:", "write digits:VERSION"),
        ("digits,digits:2", "digits is there twice"),
    ],
)
def test_a_list_of_models_that_cannot_be(models: str, text: str) -> None:
    with pytest.raises(SettingsError, match=text) as refused:
        load_settings({"repository": "."}, environment={"CONVD_MODELS": models})
    assert str(refused.value).startswith("the variable CONVD_MODELS: ")


def test_an_emptied_repository_keeps_what_is_served(
    two_models: Path, digits: Digits, caplog: pytest.LogCaptureFixture
) -> None:
    with running_server(two_models) as server, Client(address(server)) as client:
        shutil.rmtree(two_models / "pets")
        wait_until(lambda: len(client.models()) == 1)
        aside = two_models.parent / "aside"
        (two_models / "digits").rename(aside)
        wait_until(lambda: "is empty all at once" in caplog.text)
        assert client.classify(digits.encoded(3), "digits").label == "3"
        assert server.get("/readyz")[0] == 200
        aside.rename(two_models / "digits")
        wait_until(lambda: "readable again" in caplog.text)


def test_folders_that_are_not_served_are_named_once(
    repository: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("digits/v1", "digits/007", "my model/1"):
        (repository / name).mkdir(parents=True)
    with running_server(repository, poll_seconds=0.02) as server:
        with Client(address(server)) as client:
            client.wait_for_model("digits")
        wait_until(lambda: caplog.text.count("is not served") >= 3)
        shutil.rmtree(repository / "digits" / "v1")
        (repository / "digits" / "v2").mkdir()
        wait_until(lambda: caplog.text.count("is not served") >= 4)
    assert caplog.text.count("is not served") == 4
    for name, reason in (("digits/v1", "version's name"), ("my model", "model's name")):
        assert f"{repository / name} is not served: a {reason}" in caplog.text


def test_localhost_is_one_address_for_both_ports(repository: Path) -> None:
    assert load_settings({"repository": ".", "host": "localhost"}).host == "127.0.0.1"
    with running_server(repository, host="localhost") as server:
        for port in (server.grpc_port, server.http_port):
            socket.create_connection(("127.0.0.1", port)).close()


def test_the_log_begins_at_its_level(repository: Path, tmp_path: Path) -> None:
    grpc_port, http_port = free_ports(2)
    words = ["serve", repository, "--grpc-port", grpc_port, "--http-port", http_port]
    log = tmp_path / "log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "convd", *map(str, words), "--log-level", "error"],
            stderr=output,
        )
        try:
            with Client(f"127.0.0.1:{grpc_port}") as client:
                client.wait_for_model("digits")
        finally:
            process.terminate()
            assert process.wait(30) == 0
    assert log.read_text() == ""


def pings_until_goodbye(port: int, pings: int) -> bool:
    """Send HTTP/2 pings on a silent connection; whether the server ended it."""

    def frame(kind: int, payload: bytes = b"") -> bytes:
        return struct.pack(">I", len(payload))[1:] + bytes([kind, 0]) + bytes(4) + payload

    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4))
        stream = connection.makefile("rb")
        answered = 0
        for number in range(pings):
            connection.sendall(frame(6, struct.pack(">Q", number)))
            while True:
                header = stream.read(9)
                if len(header) < 9 or header[3] == 7:
                    return True
                stream.read(int.from_bytes(header[:3], "big"))
                if header[3] == 6 and header[4] & 1:
                    answered += 1
                    break
        assert answered == pings
        return False


def test_how_often_a_client_may_probe_is_set(repository: Path) -> None:
    with running_server(repository) as strict:
        assert pings_until_goodbye(strict.grpc_port, 10)
    with running_server(repository, max_ping_strikes=0) as lenient:
        assert not pings_until_goodbye(lenient.grpc_port, 10)


def test_a_value_out_of_place_names_where_it_came_from(tmp_path: Path) -> None:
    config = tmp_path / "convd.yaml"
    config.write_text("grpc_port: 8001\nkeepalive_seconds: never\n")
    with pytest.raises(SettingsError, match=r"keepalive_seconds \(.*convd.yaml, line 2\)"):
        load_settings({"repository": "."}, config)
    variables = {"CONVD_MAX_QUEUE_SIZE": "10"}
    with pytest.raises(SettingsError, match=r"greater than max_queue_size \(10\)") as refused:
        load_settings({"repository": ".", "max_images_per_request": "20"}, None, variables)
    sources = "[--max-images-per-request; the variable CONVD_MAX_QUEUE_SIZE]"
    assert str(refused.value).endswith(sources)
    with pytest.raises(SettingsError, match="--log-level: loud cannot be used"):
        load_settings({"repository": ".", "log_level": "loud"})


def test_nothing_of_this_is_logged_as_an_error(
    repository: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING), running_server(repository):
        pass
    assert not [one for one in caplog.records if one.name.startswith("convd")]

import json
import shutil
import threading
from pathlib import Path

import grpc
import pytest
from click.testing import CliRunner, Result

from convd.client import Client as Asker
from convd.commands.main import main
from convd.service.lifecycle.loading import ServableLoader
from tests.client.scripted_server import a_cat, own_certificate, scripted_server
from tests.digits import Digits
from tests.support import Client, running_server, wait_until


def run(*arguments: object, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(main, [str(one) for one in arguments], input=stdin)


def address(client: Client) -> str:
    return f"127.0.0.1:{client.grpc_port}"


@pytest.fixture
def pictures(tmp_path: Path, digits: Digits) -> Path:
    """A folder with 20 digits, one of them deeper, one broken, and a text."""
    folder = tmp_path / "pictures"
    (folder / "more").mkdir(parents=True)
    for index in range(19):
        (folder / f"{index:02}.png").write_bytes(digits.encoded(index))
    (folder / "more" / "19.PNG").write_bytes(digits.encoded(19))
    (folder / "20.jpg").write_bytes(b"broken")
    (folder / "notes.txt").write_text("no picture")
    return folder


def test_a_folder_is_classified_picture_by_picture(client: Client, pictures: Path) -> None:
    result = run("classify", pictures, "--model", "digits", "--json", "--server", address(client))
    assert result.exit_code == 1
    answers = [json.loads(line) for line in result.stdout.splitlines()]
    assert [one["classes"][0]["label"] for one in answers] == [str(i % 10) for i in range(20)]
    assert answers[-1]["image"] == str(pictures / "more" / "19.PNG")
    assert f"{pictures / '20.jpg'}: " in result.stderr
    assert "21 images in " in result.stderr
    assert "per second; 1 could not be classified" in result.stderr


def test_a_picture_from_standard_input(client: Client, digits: Digits) -> None:
    arguments = ("classify", "-", "--model", "digits", "--top-k", 1, "--server", address(client))
    result = run(*arguments, stdin=digits.encoded(7))
    assert result.exit_code == 0, result.output
    assert "-  (digits version 1)" in result.stdout
    assert " 7 " in result.stdout


def test_a_folder_without_pictures_is_wrong_usage(client: Client, tmp_path: Path) -> None:
    result = run("classify", tmp_path, "--model", "digits", "--server", address(client))
    assert result.exit_code == 2
    assert "has no JPEG, PNG, WebP or BMP files" in result.stderr


def test_a_file_that_is_not_there(client: Client) -> None:
    result = run("classify", "absent.png", "--model", "digits", "--server", address(client))
    assert result.exit_code == 1
    assert "cannot read absent.png" in result.stderr


def test_a_model_that_is_loading_is_waited_for(
    published: Path, tmp_path: Path, digits: Digits, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "repository"
    shutil.copytree(published, root / "digits" / "1")
    may_load = threading.Event()

    load = ServableLoader.__call__

    def later(self: ServableLoader, *arguments: object) -> object:
        may_load.wait(30)
        return load(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(ServableLoader, "__call__", later)
    wait = Asker.wait_for_model

    def and_then_load(self: Asker, *arguments: object, **options: object) -> object:
        may_load.set()
        return wait(self, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Asker, "wait_for_model", and_then_load)
    picture = tmp_path / "digit.png"
    picture.write_bytes(digits.encoded(5))
    with running_server(root, wait=False) as server:
        with Asker(address(server)) as asker:
            wait_until(asker.models)
        result = run("classify", picture, "--model", "digits", "--server", address(server))
    assert result.exit_code == 0, result.output
    assert "waiting: " in result.stderr
    assert "is loading" in result.stderr
    assert " 5 " in result.stdout


def test_models_fit_80_columns(client: Client) -> None:
    result = run("models", "--server", address(client))
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0].split() == ["MODEL", "VERSION", "STATE", "ACCURACY", "COMPUTED", "BY"]
    assert lines[1].split()[:3] == ["digits", "1", "available"]
    assert lines[1].endswith("CPU in float32")
    assert lines[2].strip() == "10 classes: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9"
    (described,) = map(
        json.loads, run("models", "--json", "--server", address(client)).stdout.splitlines()
    )
    assert described["class_names"] == list("0123456789")
    assert described["state"] == "available"


def test_exit_codes_tell_what_went_wrong(client: Client, tmp_path: Path, digits: Digits) -> None:
    picture = tmp_path / "digit.png"
    picture.write_bytes(digits.encoded())
    ask = ("classify", picture, "--model")
    here = ("--server", address(client))
    assert run(*ask, "digits", *here).exit_code == 0
    unknown = run(*ask, "nobody", *here)
    assert (unknown.exit_code, "NOT_FOUND: there is no model" in unknown.stderr) == (1, True)
    assert run(*ask, "digits", "--version", 1, "--version-label", "a", *here).exit_code == 2
    assert run(*ask, "digits", "--server", "http://x:8001").exit_code == 2
    assert run(*ask, "digits", "--tls-ca", tmp_path / "absent.pem").exit_code == 2
    nobody = run("models", "--server", "127.0.0.1:9")
    assert (nobody.exit_code, "start one with 'convd serve'" in nobody.stderr) == (4, True)
    http = run("models", "--server", f"127.0.0.1:{client.http_port}")
    assert (http.exit_code, "give the gRPC port" in http.stderr) == (4, True)


def test_tls_and_a_token_by_flags_and_variables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, key = own_certificate()
    (tmp_path / "ca.pem").write_bytes(certificate)
    (tmp_path / "token").write_text(" of-a-file \n")
    (tmp_path / "x.png").write_bytes(b"")
    tokens = []

    def answer(message, context):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
        token = dict(context.invocation_metadata()).get("authorization")
        tokens.append(token)
        if token is None:
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "send a token")
        return a_cat(message, context)

    with scripted_server(answer, grpc.ssl_server_credentials([(key, certificate)])) as server:
        ask = ("classify", tmp_path / "x.png", "--model", "pets", "--server", server)
        tls = ("--tls-ca", tmp_path / "ca.pem")
        refused = run(*ask, *tls)
        assert (refused.exit_code, refused.stderr) == (5, "Error: UNAUTHENTICATED: send a token\n")
        assert run(*ask, *tls, "--token-file", tmp_path / "token").exit_code == 0
        monkeypatch.setenv("CONVD_CLIENT_TLS_CA", str(tmp_path / "ca.pem"))
        monkeypatch.setenv("CONVD_TOKEN", "of-a-variable")
        assert run(*ask).exit_code == 0
    assert tokens == [None, "Bearer of-a-file", "Bearer of-a-variable"]


@pytest.mark.parametrize(
    ("typed", "meant"), [("clasify", "classify"), ("model", "models"), ("server", "serve")]
)
def test_a_mistyped_command_is_guessed(typed: str, meant: str) -> None:
    result = run(typed)
    assert result.exit_code == 2
    assert f"did you mean {meant!r}?" in result.stderr

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from convd.commands.health import command
from testbed.authorities import Authority
from testbed.principals import write_principals
from tests.support import Client, running_server


def _ask(*arguments: str) -> Result:
    return CliRunner().invoke(command, arguments)


def test_a_ready_server_and_its_model(client: Client) -> None:
    server = f"127.0.0.1:{client.grpc_port}"
    for arguments in ((), ("--model", "digits")):
        answer = _ask("--server", server, *arguments)
        assert answer.exit_code == 0, answer.output
        assert "SERVING" in answer.output


def test_an_unknown_model_and_a_server_that_is_not_there(client: Client) -> None:
    answer = _ask("--server", f"127.0.0.1:{client.grpc_port}", "--model", "nobody")
    assert answer.exit_code == 1
    assert "not found" in answer.output
    answer = _ask("--server", "127.0.0.1:9")
    assert answer.exit_code == 1
    assert "no server listens there" in answer.output


@pytest.mark.parametrize("asks_for_certificates", [False, True])
def test_the_health_check_of_a_container_trusts_the_server_beside_it(
    repository: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    asks_for_certificates: bool,
) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.issue("server", hosts=("*.models.example",))
    principals = tmp_path / "principals.json"
    token = write_principals(principals, {"lab": ["health"]})["lab"]
    settings: dict[str, Any] = {
        "tls_certificate": certificate,
        "tls_key": key,
        "principals": principals,
    }
    if asks_for_certificates:
        settings["tls_client_ca"] = authority.certificate_file
    with running_server(repository, **settings) as server:
        address = ("--server", f"127.0.0.1:{server.grpc_port}")
        assert _ask(*address).exit_code == 1, "a stranger's TLS is not plain text"
        for name, file in settings.items():
            monkeypatch.setenv(f"CONVD_{name.upper()}", str(file))
        assert _ask(*address).exit_code == 0
        refused = _ask(*address, "--model", "digits")
        assert refused.exit_code == 1
        assert "send a valid token" in refused.output
        monkeypatch.setenv("CONVD_TOKEN", token)
        assert _ask(*address, "--model", "digits").exit_code == 0
        # Another server's certificate is refused.
        other = Authority(tmp_path / "other").issue("server", hosts=("*.models.example",))
        monkeypatch.setenv("CONVD_TLS_CERTIFICATE", str(other[0]))
        monkeypatch.delenv("CONVD_TLS_CLIENT_CA", raising=False)
        assert _ask(*address).exit_code == 1

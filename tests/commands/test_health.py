from click.testing import CliRunner, Result

from convd.commands.health import command
from tests.support import Client


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

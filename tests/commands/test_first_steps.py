import json
import socket
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from convd.commands.main import SUMMARIES, main
from convd.service.settings import ServerSettings
from convd.service.settings_sources import load_settings


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(one) for one in arguments])


def test_a_configuration_has_every_setting_as_a_comment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    written = run("init")
    assert (written.exit_code, "next: convd serve --config convd.yaml" in written.stdout) == (
        0,
        True,
    )
    file = Path("convd.yaml")
    wanted = dict(load_settings({"repository": "repository"}, environment={}))
    assert dict(load_settings({}, file, {})) == wanted
    # What is commented out is the default, and can be read once it is not.
    lines = file.read_text().splitlines()
    bare = [line[1:] for line in lines if line.startswith("#") and line[1] != " "]
    assert {line.partition(":")[0] for line in bare} == {
        name for name, field in ServerSettings.model_fields.items() if not field.is_required()
    }
    file.write_text("\n".join(["repository: repository", *bare]))
    assert dict(load_settings({}, file, {})) == wanted
    again = run("init", "convd.yaml")
    assert (again.exit_code, "exists already" in again.stderr) == (1, True)


def findings(*arguments: object) -> tuple[int, dict[str, list[dict[str, str]]]]:
    result = run("doctor", "--json", *arguments)
    found: dict[str, list[dict[str, str]]] = {}
    for line in result.stdout.splitlines():
        finding = json.loads(line)
        found.setdefault(finding["subject"], []).append(finding)
    return result.exit_code, found


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVD_GRPC_PORT", "0")
    monkeypatch.setenv("CONVD_HTTP_PORT", "0")


@pytest.mark.usefixtures("free")
def test_a_machine_and_a_repository_that_are_well(repository: Path) -> None:
    code, found = findings(repository)
    assert code == 0, found
    assert set(found) == {
        "python", "convd", "extras", "providers", "cores", "memory", "telemetry", "settings",
        "ports", "repository",
    }  # fmt: skip
    assert found["repository"] == [
        {"subject": "repository", "state": "ok", "text": "digits: version 1"}
    ]
    assert {one["text"] for one in found["extras"]} >= {"client", "serve", "export"}
    shown = run("doctor", repository)
    assert shown.stdout.endswith("no problem found\n")
    assert max(map(len, shown.stdout.splitlines())) <= 160


@pytest.mark.usefixtures("free")
def test_what_is_in_the_way_is_a_problem(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (repository / "digits" / "v2").mkdir()
    (repository / "empty").mkdir()
    code, found = findings(repository / "digits")
    assert code == 0
    texts = [one["text"] for one in found["repository"]]
    assert any("v2 is not served" in text for text in texts)
    assert "empty has no version" in texts
    (tmp_path / "nothing").mkdir()
    for place, text in (("absent", "does not exist"), ("nothing", "has no models: publish one")):
        code, found = findings(tmp_path / place)
        problems = [one for some in found.values() for one in some if one["state"] == "problem"]
        assert (code, len(problems)) == (1, 1)
        assert text in problems[0]["text"]
    monkeypatch.setenv("CONVD_WORKERS", "many")
    code, found = findings(repository)
    assert code == 1
    assert found["settings"][0]["text"].startswith("the variable CONVD_WORKERS: many cannot")


def test_a_port_that_is_taken_is_a_problem(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setenv("CONVD_GRPC_PORT", str(taken.getsockname()[1]))
        monkeypatch.setenv("CONVD_HTTP_PORT", "0")
        code, found = findings(repository)
    assert (code, found["ports"][0]["state"]) == (1, "problem")
    assert "choose another one with --grpc-port" in found["ports"][0]["text"]


def test_every_command_but_a_few_prints_json() -> None:
    context = click.Context(main)
    for name in SUMMARIES:
        command = main.get_command(context, name)
        assert command is not None
        flags = {flag for parameter in command.params for flag in parameter.opts}
        assert ("--json" in flags) != (name in ("serve", "init", "token")), name

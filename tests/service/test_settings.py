"""Settings: every value has bounds, and a refusal names where the value came from."""

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convd.service.lifecycle.configuration import ConfigurationError, parse_configuration
from convd.service.settings import ServerSettings, SettingsError
from convd.service.settings_sources import load_settings
from convd.service.strict_yaml import StrictYamlError, read_yaml


def numbers() -> list[str]:
    """Names of the settings that are numbers."""
    return [
        name
        for name, field in ServerSettings.model_fields.items()
        if field.annotation in (int, float) or name == "poll_seconds"
    ]


def refusal(config: Path | None = None, /, **flags: Any) -> str:
    with pytest.raises(SettingsError) as refused:
        load_settings({"repository": "."} | flags, config)
    assert "\n" not in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize("value", ["inf", "-inf", "nan", "1e300", "-1", "9" * 30, ""])
@pytest.mark.parametrize("name", numbers())
def test_no_number_may_be_without_bounds(name: str, value: str) -> None:
    text = refusal(None, **{name: value})
    assert text.startswith(f"--{name.replace('_', '-')}: {value[:8]}")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("drain_seconds", "inf"),
        ("drain_seconds", "0"),
        ("max_message_bytes", "2147483648"),
        ("max_connection_age_seconds", "1e11"),
        ("max_connection_age_seconds", "0.0001"),
        ("max_queue_delay_seconds", "inf"),
        ("poll_seconds", "0"),
        ("poll_seconds", "sometimes"),
        ("max_batch_size", "100000000"),
        ("intra_op_threads", "100000"),
        ("workers", "100000"),
        ("unary_threads", "0"),
        ("decode_budget_bytes", "1"),
    ],
)
def test_values_that_would_break_later_are_refused_at_start(name: str, value: str) -> None:
    assert f"{value} cannot be used" in refusal(None, **{name: value})


def test_the_repository_may_be_looked_at_once_only() -> None:
    settings = load_settings({"repository": ".", "poll_seconds": "never"})
    assert settings.poll_seconds == "never"
    assert load_settings({"repository": ".", "poll_seconds": "0.5"}).poll_seconds == 0.5


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            b"grpc_port: 1\nhttp_port: 2\ngrpc_port: 3\n",
            "line 3: a key is there twice: 'grpc_port'",
        ),
        (b"- grpc_port\n", "must be a mapping"),
        (b"grpc_port 8001\n", "must be a mapping"),
        (b"\x80\x02\xff", "not text in UTF-8"),
        (b"\0\0\0", "not valid YAML"),
        (b"host: !!python/object/apply:os.getcwd []\n", "line 1: tags such as"),
        (b"host: x\nworkers: !!timestamp soon\n", "line 2: tags such as"),
        (b"console: !!bool perhaps\n", "line 1: tags such as"),
        (b"a: &a [1]\nb: [*a, *a]\n", "line 2: aliases are not read"),
        (b"{" * 5000, "not valid YAML"),
        (b"? [1]\n: 2\n", "line 1: "),
        (b"workers: 1" + b":1" * 1000 + b".5\n", "not valid YAML: OverflowError"),
        (b"host: x\n\nworkers: 99999\n", "line 3): 99999 cannot be used"),
        (b"grpc_prot: 1\n", "line 1): unknown setting; did you mean grpc_port?"),
    ],
)
def test_a_configuration_file_is_read_strictly(
    content: bytes, message: str, tmp_path: Path
) -> None:
    config = tmp_path / "convd.yaml"
    config.write_bytes(content)
    text = refusal(config)
    assert message in text
    assert str(config) in text


def test_what_is_not_a_file_is_not_read(tmp_path: Path) -> None:
    assert "does not exist" in refusal(tmp_path / "missing.yaml")
    assert "not a regular file" in refusal(tmp_path)
    os.mkfifo(tmp_path / "fifo")
    assert "not a regular file" in refusal(tmp_path / "fifo")
    slow = tmp_path / "slow.yaml"
    slow.write_text("workers: 1" + ":1" * 100_000)
    assert "over the limit" in refusal(slow)
    large = tmp_path / "large.yaml"
    large.touch()
    os.truncate(large, 3 * 2**30)
    assert "over the limit" in refusal(large)


def test_a_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVD_WORKERS", "many")
    assert refusal().startswith("the variable CONVD_WORKERS: many cannot be used")
    monkeypatch.delenv("CONVD_WORKERS")
    monkeypatch.setenv("CONVD_WORKER", "2")
    assert refusal() == "CONVD_WORKER: unknown setting; did you mean workers?"


@pytest.mark.parametrize(
    "name", [name for name in ServerSettings.model_fields if name.endswith("_port")]
)
def test_variables_that_kubernetes_sets_are_recognised(
    name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    variable = f"CONVD_{name.upper()}"
    monkeypatch.setenv(variable, "tcp://10.96.0.1:8001")
    monkeypatch.setenv(f"{variable}_8001_TCP", "tcp://10.96.0.1:8001")
    monkeypatch.setenv("CONVD_SERVICE_HOST", "10.96.0.1")
    monkeypatch.setenv("CONVD_WORKERS_PORT", "tcp://10.96.0.1:8001")
    settings = load_settings({"repository": "."})
    assert getattr(settings, name) == ServerSettings.model_fields[name].default
    assert f"{variable}=tcp://10.96.0.1:8001 comes from Kubernetes" in caplog.text


def test_precedence_is_flag_variable_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "convd.yaml"
    config.write_text("workers: 2\nunary_threads: 2\nmax_streams: 2\n")
    monkeypatch.setenv("CONVD_UNARY_THREADS", "3")
    monkeypatch.setenv("CONVD_MAX_STREAMS", "3")
    settings = load_settings({"repository": ".", "max_streams": "4"}, config)
    assert (settings.workers, settings.unary_threads, settings.max_streams) == (2, 3, 4)


@pytest.mark.parametrize("name", ["max_batch_size", "max_queue_size", "max_queue_delay_seconds"])
def test_a_model_has_the_servers_bounds(name: str) -> None:
    for value in ("1e12", ".inf"):
        with pytest.raises(ConfigurationError, match=name):
            parse_configuration(f"{name}: {value}".encode())


@given(text=st.text())
def test_any_text_is_a_mapping_or_refused_in_one_line(text: str) -> None:
    try:
        mapping = read_yaml(text)
    except StrictYamlError as error:
        assert "\n" not in str(error)
    else:
        assert set(mapping.lines) == set(mapping)


def test_every_number_has_both_bounds() -> None:
    for name in numbers():
        schema = ServerSettings.model_json_schema()["properties"][name]
        schema = schema.get("anyOf", [schema])[0]
        assert {"minimum", "maximum"} <= set(schema), name


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])  # noqa: S104
def test_other_addresses_than_loopback_need_encryption_and_credentials(
    host: str, tmp_path: Path
) -> None:
    flags: dict[str, object] = {"repository": tmp_path, "host": host}
    with pytest.raises(SettingsError, match="not encrypted, and anyone who can connect may do"):
        load_settings(flags)
    files = {"tls_certificate": "server.crt", "tls_key": "server.key"}
    with pytest.raises(SettingsError, match=r"\d: anyone|[:g]: anyone"):
        load_settings(flags | files)
    with pytest.raises(SettingsError, match="calls and answers are not encrypted;"):
        load_settings(flags | {"principals": "principals.json"})
    assert load_settings(flags | files | {"principals": "principals.json"}).host == host
    assert load_settings(flags | files | {"tls_client_ca": "ca.pem"}).host == host
    assert load_settings(flags | {"insecure": True}).host == host


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "[::1]", "localhost"])
def test_loopback_needs_nothing(host: str, tmp_path: Path) -> None:
    assert not load_settings({"repository": tmp_path, "host": host}).insecure


def test_a_certificate_needs_its_key(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="tls_key belong together"):
        load_settings({"repository": tmp_path, "tls_certificate": "server.crt"})
    with pytest.raises(SettingsError, match="tls_client_ca needs"):
        load_settings({"repository": tmp_path, "tls_client_ca": "ca.pem"})

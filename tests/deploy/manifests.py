"""The manifests of deploy/kubernetes, as far as the tests need to read them."""

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import click
import yaml

from convd.commands.main import main
from convd.service.settings import ENVIRONMENT_PREFIX, ServerSettings
from tests.support import ROOT

FOLDER = ROOT / "deploy" / "kubernetes"
_SUFFIXES = {"": Decimal(1), "m": Decimal("0.001"), "Mi": Decimal(2**20), "Gi": Decimal(2**30)}


def documents(place: str) -> list[dict[str, Any]]:
    """The documents of a file, or of every file in a folder."""
    path = FOLDER / place
    files = sorted(path.glob("*.yaml")) if path.is_dir() else [path]
    return [one for file in files for one in yaml.safe_load_all(file.read_text())]


def resource(place: str, kind: str, name: str = "convd") -> dict[str, Any]:
    """A resource, or what is patched in one."""
    (found,) = (
        one
        for one in documents(place)
        if one.get("kind") == kind and one.get("metadata", {}).get("name") == name
    )
    return found


class Server:
    """A server as its manifests have it.

    Args:
        *places: Where its manifest lies, and then its patches, in their order.
    """

    def __init__(self, *places: str) -> None:
        kind = "ClusterServingRuntime" if places == ("kserve",) else "Deployment"
        self.specs = [_pod_spec(resource(place, kind)) for place in places]
        self.containers = [one["containers"][0] for one in self.specs]

    def container(self) -> dict[str, Any]:
        """Its container; later patches win, and lists such as ports are those of the last."""
        return _merged(self.containers)

    def environment(self) -> dict[str, str]:
        """Its variables."""
        pairs = [pair for one in self.containers for pair in one.get("env", ())]
        return {pair["name"]: pair["value"] for pair in pairs}

    def mounts(self) -> dict[str, dict[str, Any]]:
        """What is mounted where: by path, the volume with the keys of the mount."""
        volumes = {one["name"]: one for spec in self.specs for one in spec.get("volumes", ())}
        found = [one for container in self.containers for one in container.get("volumeMounts", ())]
        return {one["mountPath"]: volumes[one["name"]] | one for one in found}

    def settings(self) -> ServerSettings:
        """The settings that its image, its variables and its arguments make."""
        variables = image_variables() | self.environment()
        given: dict[str, Any] = {
            name.removeprefix(ENVIRONMENT_PREFIX).lower(): value
            for name, value in variables.items()
            if name.startswith(ENVIRONMENT_PREFIX)
        }
        program, *flags = self.container()["args"]
        command = main.get_command(click.Context(main), program)
        assert command is not None
        with command.make_context(program, list(flags)) as context:
            given |= {name: value for name, value in context.params.items() if value is not None}
        return ServerSettings(**given)


def image_variables() -> dict[str, str]:
    """The variables of convd that the serving images set."""
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    words = [word for line in text.splitlines() if line.startswith("ENV ") for word in line.split()]
    pairs = [word.split("=", 1) for word in words if word.startswith(ENVIRONMENT_PREFIX)]
    return dict(pairs)


def instruction(name: str) -> str:
    """The arguments of an instruction of the Dockerfile that is there once."""
    (found,) = (
        line.removeprefix(f"{name} ")
        for line in (ROOT / "Dockerfile").read_text().splitlines()
        if line.startswith(f"{name} ")
    )
    return found


def quantity(text: str) -> Decimal:
    """The value of a quantity such as 4Gi or 700m."""
    number = text.rstrip("mMGi")
    return Decimal(number) * _SUFFIXES[text.removeprefix(number)]


def find(node: Any, key: str) -> Iterator[Any]:
    """Every value of a key, at any depth."""
    if isinstance(node, dict):
        for name, value in node.items():
            if name == key:
                yield value
            yield from find(value, key)
    elif isinstance(node, list):
        for one in node:
            yield from find(one, key)


def _pod_spec(manifest: dict[str, Any]) -> dict[str, Any]:
    spec: dict[str, Any] = manifest["spec"]
    return spec["template"]["spec"] if "template" in spec else spec


def _merged(parts: list[dict[str, Any]]) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for part in parts:
        for key, value in part.items():
            before = merged.get(key)
            if isinstance(value, dict) and isinstance(before, dict):
                merged[key] = _merged([before, value])
            elif value is None:
                merged.pop(key, None)
            else:
                merged[key] = value
    return merged

"""Kubernetes manifests against the schemas of what they are for.

Runs in an environment of its own: python -m tests.interop.manifest_schemas FILE...
"""

import copy
import functools
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kserve.models
import kubernetes.client
import kubernetes_validate.utils
import yaml
from cloudcoil.models.keda.v1alpha1 import ScaledObject
from cloudcoil.models.prometheus_operator.v1 import PodMonitor, PrometheusRule

VERSIONS = [one for one in kubernetes_validate.utils.all_versions() if int(one.split(".")[1]) >= 30]

# Maps whose keys their author chooses; everywhere else an unknown key must be refused.
FREE_MAPS = {"labels", "annotations", "matchLabels", "requests", "limits"}
FREE_PLACES = {("Service", "spec", "selector"), ("ScaledObject", "spec", "triggers", "metadata")}

# It would read its megabytes again for every resource.
kubernetes_validate.utils.schema_contents = functools.cache(
    kubernetes_validate.utils.schema_contents
)


def check(resource: dict[str, Any], version: str) -> None:
    """Refuse a resource that its schema does not allow.

    Args:
        resource: A manifest.
        version: Of Kubernetes; custom resources have the version that is installed here.

    Raises:
        Exception: What is wrong with it.
    """
    kind = resource["kind"]
    if kind in _PYDANTIC:
        # These models drop what they do not know.
        known = _PYDANTIC[kind].model_validate(resource)
        after = known.model_dump(mode="json", by_alias=True, exclude_unset=True)
        if lost := list(_differences(resource, after)):
            raise ValueError(f"unknown to {kind}: {', '.join(lost)}")
    elif kind in _KSERVE:
        _check_openapi(resource, _KSERVE[kind], kind)
    else:
        kubernetes_validate.validate(resource, version, strict=True)


_PYDANTIC = {
    "ScaledObject": ScaledObject,
    "PodMonitor": PodMonitor,
    "PrometheusRule": PrometheusRule,
}
_KSERVE = {
    "ClusterServingRuntime": "V1alpha1ClusterServingRuntime",
    "InferenceService": "V1beta1InferenceService",
}
_PRIMITIVES: dict[str, Any] = {
    "str": str,
    "int": int,
    "bool": bool,
    "float": (int, float),
    "object": object,
}


def _differences(before: Any, after: Any, where: str = "") -> Iterator[str]:
    if isinstance(before, dict) and isinstance(after, dict):
        for key in before.keys() | after.keys():
            yield from _differences(before.get(key), after.get(key), f"{where}.{key}")
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for index, (one, other) in enumerate(zip(before, after, strict=True)):
            yield from _differences(one, other, f"{where}[{index}]")
    elif before != after:
        yield where


def _check_openapi(value: Any, kind: str, where: str) -> None:
    """Compare a value with a type of the clients that KServe and Kubernetes generate."""
    if many := re.fullmatch(r"list\[(.+)\]|dict[(\[]str, (.+)[)\]]", kind, re.IGNORECASE):
        of_list, of_dict = many.groups()
        if not isinstance(value, list if of_list else dict):
            raise ValueError(f"{where} is not of type {kind}")
        for key, item in enumerate(value) if isinstance(value, list) else value.items():
            _check_openapi(item, of_list or of_dict, f"{where}.{key}")
        return
    if kind in _PRIMITIVES:
        if not isinstance(value, _PRIMITIVES[kind]):
            raise ValueError(f"{where} is not of type {kind}")
        return
    model = getattr(kserve.models, kind, None) or getattr(kubernetes.client, kind)
    attributes = {key: attribute for attribute, key in model.attribute_map.items()}
    if unknown := value.keys() - attributes:
        raise ValueError(f"unknown in {where}: {', '.join(unknown)}")
    for key, item in value.items():
        _check_openapi(item, model.openapi_types[attributes[key]], f"{where}.{key}")
    # It refuses what lacks a required key.
    model(**{attributes[key]: item for key, item in value.items()})


def mistyped(resource: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The resource with an unknown key in one of its maps, for each map that is not free."""

    def maps(node: Any, path: tuple[str | int, ...]) -> Iterator[tuple[str | int, ...]]:
        if isinstance(node, dict):
            place = (resource["kind"], *(part for part in path if isinstance(part, str)))
            if path and path[-1] not in FREE_MAPS and place not in FREE_PLACES:
                yield path
            for key, value in node.items():
                yield from maps(value, (*path, key))
        elif isinstance(node, list):
            for index, value in enumerate(node):
                yield from maps(value, (*path, index))

    for path in maps(resource, ()):
        altered = copy.deepcopy(resource)
        node: Any = altered
        for part in path:
            node = node[part]
        node["mistyped"] = "value"
        yield ".".join(map(str, path)), altered


def main() -> None:
    """Check every file, and that each check would have found a mistyped key."""
    tried: set[str] = set()
    for file in map(Path, sys.argv[1:]):
        for resource in yaml.safe_load_all(file.read_text()):
            name = f"{file.name}: {resource['kind']} {resource['metadata']['name']}"
            for version in VERSIONS:
                try:
                    check(resource, version)
                except Exception as error:
                    raise SystemExit(f"{name}, Kubernetes {version}: {error}") from error
            if (known := yaml.safe_dump(resource)) in tried:
                continue
            tried.add(known)
            for where, altered in mistyped(resource):
                try:
                    check(altered, VERSIONS[-1])
                except Exception:  # noqa: S112
                    continue
                raise SystemExit(f"{name}: an unknown key in {where} is not noticed")
        print(f"ok  {file.name}", flush=True)
    print(f"ok  {len(tried)} resources, Kubernetes {VERSIONS[0]} to {VERSIONS[-1]}", flush=True)


if __name__ == "__main__":
    main()

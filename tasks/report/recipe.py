"""How the run was made: the resolved configuration, digests and versions, without paths and without secrets."""

from collections.abc import Mapping
from typing import Any

from pipeline_config.schema import STAGES
from tasks.report.places import LOCAL, is_path
from tasks.report.text import shown

_LONGEST = 300  # characters of a value


def configuration(manifests: Mapping[str, Mapping[str, Any]], places: Mapping[str, Any], title: str) -> str:
    """What shaped the outputs, as YAML that loads: each stage's section as its manifest holds it, places put in.

    Settings that shape no output (batch sizes, worker counts, bounds of gates) are in no manifest, so they are not
    shown either: a page that is found in the cache would tell old ones.
    """
    import yaml

    seeds = {manifest["config"].get("seed", 0) for manifest in manifests.values()}
    sections: dict[str, Any] = {"model": places["model"]}
    if len(seeds) == 1:
        sections |= {"seed": seeds.pop()}
    for stage in STAGES[:-1]:
        sections[stage] = None
        if stage in manifests:
            settings = manifests[stage]["config"].items()
            own = {name: value for name, value in settings if name != "seed" or "seed" not in sections}
            sections[stage] = own | places.get(stage, {})
    if "ingest" in manifests:
        sources = sections["ingest"].get("sources", [])
        sections["ingest"]["sources"] = [_source(source, places["sources"]) for source in sources]
    sections["report"] = {"title": title}
    text: str = yaml.safe_dump(_shown(sections), sort_keys=False, allow_unicode=True, width=100)
    return text


def _source(source: Mapping[str, Any], places: Mapping[str, Any]) -> dict[str, Any]:
    """Name and place first; what was not set is left out."""
    place: dict[str, Any] = places.get(source["name"], {"path": LOCAL})
    settings = {name: value for name, value in source.items() if value not in (None, {})}
    return {"name": source["name"], **place, **settings}


def seeds(manifests: Mapping[str, Mapping[str, Any]]) -> str:
    """The seed, or each stage's own where they differ."""
    found = {stage: manifests[stage]["config"].get("seed", 0) for stage in STAGES if stage in manifests}
    if len(set(found.values())) == 1:
        return f"{next(iter(found.values()))} in every stage"
    return ", ".join(f"{stage} {seed}" for stage, seed in found.items())


def identities(manifests: Mapping[str, Mapping[str, Any]]) -> list[dict[str, str]]:
    """Key, content digest and code digest of each stage, cut to twelve digits."""
    return [
        {
            "stage": stage,
            "key": _cut(manifests[stage]["key"]),
            "digest": _cut(manifests[stage].get("digest", "")),
            "code": _cut(manifests[stage].get("code", "")),
        }
        for stage in STAGES
        if stage in manifests
    ]


def versions(manifests: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Every library that shaped an output, with its version."""
    found: dict[str, str] = {}
    for manifest in manifests.values():
        found |= manifest.get("versions", {})
    return sorted((shown(name, 60), shown(version, 40)) for name, version in found.items())


def inputs(manifests: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str, str]]:
    """Stage, name and digest of every file, model and template that was read from outside the row flow."""
    return [
        (stage, "(a file)" if is_path(name) else shown(name, 60), _cut(value))
        for stage in STAGES
        if stage in manifests
        for name, value in sorted(manifests[stage].get("references", {}).items())
    ]


def _cut(digest: Any) -> str:
    return shown(digest, 60)[:12]


def _shown(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {shown(name, 80): _shown(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_shown(item) for item in value]
    if isinstance(value, str):
        return LOCAL if is_path(value) else shown(value, _LONGEST)
    return value

"""Why a stage runs or does not, in words: what changed since the run before, from what to what.

The artifact that the run before used tells what its key was made of; each part that differs is named, the most telling
first: settings, then files and models, the input, the code, libraries.
"""

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from tasks.artifact import Artifact, read_manifest
from tasks.kernels.digests import canonical_json
from tasks.key import key_of, settings

if TYPE_CHECKING:
    from tasks.execute import Workspace

SKIPPED = "no section in the configuration"
_MOST = 4  # changes that are named; the rest is counted
_LONGEST = 40  # characters of a value
_DIGEST = re.compile(r"[0-9a-f]{32,64}")


def why_run(
    stage: str, parts: Mapping[str, Any], modules: Mapping[str, str], inputs: Iterable[Artifact], work: "Workspace"
) -> str:
    """What differs from the artifact that the run before used.

    Args:
        parts: what the key is made of.
        modules: module → digest of the stage's code in it.
        inputs: the artifacts that the stage reads.
    """
    old = _previous(stage, work)
    if isinstance(old, str):
        why = old
    elif old.get("key") == key_of(dict(parts)):
        why = "" if stage in work.force else "its artifact is damaged"
    else:
        words = [*_own_changes(stage, old, parts), *_inputs(stage, old, inputs, work)]
        words += [*_code(old, parts["code"], modules), *_libraries(old, parts["versions"])]
        if old["format"] != parts["format"]:
            words.append("the artifact format changed")
        why = _listed(words) or "its input changed"
    if stage in work.force:
        return f"forced; {why}" if why else "forced"
    return why


def why_cached(stage: str, artifact: Artifact, work: "Workspace") -> str:
    """Since when the artifact is there."""
    same = "same inputs, configuration and code"
    if work.previous.get(stage) == artifact.key:
        return f"{same} as in the last run"
    made = str(artifact.manifest.get("created", "")).replace("T", " ")[:16]
    return f"{same} as on {made} UTC" if made else same


def why_depends(stage: str, above: str, work: "Workspace") -> str:
    """Which stage has to run first, and which settings of this one changed besides; its code is not looked at yet."""
    old = _previous(stage, work)
    words = [] if isinstance(old, str) else differences(old["config"], settings(stage, work.config))
    return f"{above} runs first" + (f"; {_listed(words)}" if words else "")


def why_skipped(stage: str, work: "Workspace") -> str:
    """No section; or none any more."""
    return f"{SKIPPED} any more" if stage in work.previous else SKIPPED


def _previous(stage: str, work: "Workspace") -> dict[str, Any] | str:
    """The manifest of the artifact that the run before used, or why there is none."""
    key = work.previous.get(stage)
    if key is None:
        return "not run before"
    try:
        return read_manifest(work.store.folder(stage, key))
    except (OSError, ValueError):
        return "its last artifact is gone"


def _own_changes(stage: str, old: Mapping[str, Any], parts: Mapping[str, Any]) -> list[str]:
    """Settings, and what is read from outside the row flow."""
    before, after = old["references"], parts["references"]
    if stage != "ingest":
        return differences(old["config"], parts["config"]) + _references(before, after)
    words = [f"source `{name}` added" for name in after if name not in before]
    words += [f"source `{name}` removed" for name in before if name not in after]
    words += [
        f"source `{name}` changed: {_content(name, before[name], old)} -> {_content(name, after[name])}"
        for name in after
        if name in before and before[name] != after[name]
    ]
    settings = differences(old["config"], parts["config"])
    return words + [word for word in settings if not re.fullmatch(r"sources\..+ (added|removed)", word)]


def _content(source: str, digest: str, manifest: Mapping[str, Any] | None = None) -> str:
    """Which content a source has, and how many rows were read of it if that is known."""
    rows = ((manifest or {}).get("facts") or {}).get("rows_by_source", {}).get(source)
    return f"content {digest[:8]}" + ("" if rows is None else f" ({rows:,} rows)")


def _references(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    words = []
    for name in sorted({*old, *new}):
        before, after, shown = old.get(name), new.get(name), name.replace("_", " ")
        if before == after:
            continue
        if before is None or after is None:
            words.append(f"{shown} {'added' if before is None else 'removed'}")
        elif _DIGEST.fullmatch(before):
            words.append(f"{shown} changed")
        else:
            words.append(f"{shown} {_cut(before)} -> {_cut(after)}")
    return words


def _inputs(stage: str, old: Mapping[str, Any], inputs: Iterable[Artifact], work: "Workspace") -> list[str]:
    """Which stage's output is another one, and how many rows it had and has."""
    before = {parent["stage"]: parent for parent in old["parents"]}
    after = {artifact.stage: artifact for artifact in inputs}
    words = [f"{name} is no longer above it" for name in before if name not in after]
    words += [f"{name} is new above it" for name in after if name not in before]
    for name, artifact in after.items():
        parent = before.get(name)
        if parent is None:
            continue
        if parent["digest"] != artifact.digest:
            words.append(f"its input from {name} changed{_rows(name, parent['key'], artifact, work)}")
            if stage != "report":
                break  # the text below a decision changed with it
        elif stage == "report" and parent["key"] != artifact.key:
            words.append(f"{name} was made in another way")
    return words


def _rows(stage: str, old_key: str, artifact: Artifact, work: "Workspace") -> str:
    after = artifact.manifest["rows"]["out"]
    try:
        before = read_manifest(work.store.folder(stage, old_key))["rows"]["out"]
    except (OSError, ValueError, KeyError):
        return f": {after:,} rows now" if after else ""
    if before == after:
        return f" ({after:,} rows as before)" if after else ""
    return f": {before:,} -> {after:,} rows"


def _code(old: Mapping[str, Any], code: str, modules: Mapping[str, str]) -> list[str]:
    if old["code"] == code:
        return []
    before = old.get("modules") or {}
    changed = [name for name in sorted({*before, *modules}) if before.get(name) != modules.get(name)] if before else []
    files = [f"{name.replace('.', '/')}.py" for name in changed]
    return [f"its code changed: {_listed(files)}" if files else "its code changed"]


def _libraries(old: Mapping[str, Any], versions: Mapping[str, str]) -> list[str]:
    return differences(old["versions"], versions)


def differences(old: Any, new: Any, path: str = "") -> list[str]:
    """`a.b 0.7 -> 0.8` for every leaf that differs; entries of a list with names are told by their names."""
    if _are_named(old) and _are_named(new):
        before, after = ({each["name"]: each for each in entries} for entries in (old, new))
        moved = old != new and before == after
        return [f"the order of {path} changed"] if moved else differences(before, after, path)
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        return [
            word
            for name in sorted({*old, *new})
            for word in differences(old.get(name), new.get(name), f"{path}.{name}" if path else str(name))
        ]
    if old == new:
        return []
    if isinstance(old or new, Mapping) and (old is None or new is None):
        return [f"{path} {'added' if old is None else 'removed'}"]
    return [f"{path} {_value(old)} -> {_value(new)}"]


def _are_named(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, Mapping) and each.get("name") for each in value)


def _value(value: Any) -> str:
    if value is None:
        return "not set"
    return _cut(value if isinstance(value, str) else canonical_json(value))


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _listed(words: list[str]) -> str:
    more = len(words) - _MOST
    return ", ".join(words[:_MOST]) + (f" and {more} more" if more > 0 else "")

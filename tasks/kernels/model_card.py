"""The card of a published model: what it was made of, how, and how well it did; no paths, no dates."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tasks.kernels.assets import find_asset, is_asset

_BASE = re.compile(r'^base_model: (".*")$', re.MULTILINE)
_LICENCE = re.compile(r"^license:\s*(\S+)", re.MULTILINE)


def model_card(
    title: str,
    summary: str,
    *,
    base: str,
    licence: str | None,
    data: Mapping[str, Any],
    settings: Mapping[str, Any],
    metrics: Mapping[str, float],
    alone: bool = True,
) -> str:
    """A model card in Markdown with the front matter that hubs read.

    Args:
        summary: one or two sentences: what it is.
        base: name of the model it was made from, as `public_name` gives it.
        licence: SPDX name of the base model's licence; None: unknown.
        data: counts of the rows and tokens.
        settings: the configuration section.
        metrics: numbers that the same run gives again; no times.
        alone: whether `from_pretrained` loads it; False: it has something attached (`attached.py`).
    """
    known = licence.lower() if licence else "unknown"
    front = ["---", "library_name: transformers", f"license: {known}", f"base_model: {json.dumps(base)}", "---"]
    how = "with `transformers.AutoModelForCausalLM.from_pretrained` and `AutoTokenizer.from_pretrained`"
    body = [
        f"# {title}",
        "",
        summary,
        "",
        f"- Base model: `{base}`, licence {licence or 'unknown: see the base model'}; these weights are under it too.",
        f"- Load {how if alone else 'with Winnow (`winnow evaluate`); what was learned is in `adapter/`'}.",
        "",
        "## Data",
        "",
        *_table(data),
        "",
        "## Results",
        "",
        *_table(metrics),
        "",
        "## Configuration",
        "",
        "```json",
        json.dumps(settings, indent=1, sort_keys=True, ensure_ascii=False),
        "```",
        "",
    ]
    return "\n".join([*front, "", *body])


def public_name(name: str) -> str:
    """A model's name without the path of this machine: hub names and assets as they are, of a folder its last part."""
    return name if is_asset(name) or not Path(name).is_absolute() else Path(name).name


def licence_of(name: str, folder: Path) -> str | None:
    """The licence of a model: of an asset as it is declared, else as the folder's own card says."""
    if is_asset(name):
        return find_asset(name).licence
    try:
        found = _LICENCE.search((folder / "README.md").read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return None
    return None if found is None or found[1] == "unknown" else found[1]


def base_of(folder: Path) -> str:
    """The base model that a published model's card names; the folder's name if it has none."""
    try:
        found = _BASE.search((folder / "README.md").read_text(encoding="utf-8", errors="replace"))
    except OSError:
        found = None
    return str(json.loads(found[1])) if found else folder.name


def _table(values: Mapping[str, Any]) -> list[str]:
    lines = [f"| {name} | {_number(value)} |" for name, value in sorted(values.items())]
    return ["| what | value |", "|---|---|", *lines] if lines else ["None."]


def _number(value: Any) -> str:
    return (
        f"{value:.4g}"
        if isinstance(value, float) and not value.is_integer()
        else f"{value:,.0f}"
        if isinstance(value, int | float)
        else str(value)
    )

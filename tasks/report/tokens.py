"""Rendered samples of the tokenised rows, with what is learned marked."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline_config.schema import Config

if TYPE_CHECKING:
    from tasks.artifact import Artifact

SAMPLES = 3


def token_samples(upstream: "Mapping[str, Artifact]", run: Config, data_dir: Path) -> str:
    """Three rows as HTML; empty where nothing was tokenised."""
    if "tokenize" not in upstream:
        return ""
    from tasks.kernels.chat_template import chat_tokenizer
    from tasks.kernels.pii import mask
    from tasks.kernels.preview import preview_rows, render_html

    rows = preview_rows(upstream["tokenize"].rows(), chat_tokenizer(run, data_dir), SAMPLES)
    for row in rows:
        row["pieces"] = [(mask(text), trained) for text, trained in row["pieces"]]
    return render_html(rows)

"""The tokenizer of a run and its chat template: the model's own, or one that is given.

Template features that would make two runs differ are pinned: `strftime_now` gives a fixed date.
"""

from pathlib import Path
from typing import Any

from pipeline_config.errors import ModelError
from pipeline_config.schema import Config
from tasks.kernels.digests import FileDigests
from tasks.kernels.models import load_tokenizer, model_digest, model_folder

_FIXED_DATE = "{%- macro strftime_now(format) -%}01 Jan 2026{%- endmacro -%}"


def tokenizer_model(run: Config) -> str:
    """The model whose tokenizer a run uses."""
    return (run.tokenize.model if run.tokenize else None) or run.model


def chat_tokenizer(run: Config, data_dir: Path) -> Any:
    """The tokenizer of a run, with the chat template of `tokenize.chat_template` where one is given.

    Raises:
        ModelError: the model or the template file can't be read.
    """
    tokenizer = load_tokenizer(model_folder(tokenizer_model(run), data_dir))
    path = run.tokenize.chat_template if run.tokenize else None
    if path is not None:
        tokenizer.chat_template = _read_template(path)
    return tokenizer


def tokenizer_references(run: Config, data_dir: Path) -> dict[str, str]:
    """What shapes a run's tokens beside its rows: digests of the tokenizer's model and of a given template."""
    found = {"tokenizer": model_digest(tokenizer_model(run), data_dir)}
    path = run.tokenize.chat_template if run.tokenize else None
    if path is not None:
        _read_template(path)
        found["chat_template"] = FileDigests(data_dir).of(Path(path))
    return found


def require_template(tokenizer: Any) -> str:
    """The chat template's source.

    Raises:
        ModelError: the tokenizer has none.
    """
    if not tokenizer.chat_template:
        raise ModelError(
            f"the tokenizer of {tokenizer_name(tokenizer)} has no chat template",
            place="tokenize.chat_template",
            cure="give a Jinja file in tokenize.chat_template, or use an instruction-tuned model",
        )
    source = str(tokenizer.get_chat_template())
    return _FIXED_DATE + source if "strftime_now" in source else source


def tokenizer_name(tokenizer: Any) -> str:
    """What to call a tokenizer in a message: its folder."""
    return Path(str(tokenizer.name_or_path or "the model")).name


def reason(error: Exception) -> str:
    """The kind and first line of an error, at most 200 characters."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}{': ' + lines[0][:200] if lines else ''}"


def _read_template(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(
            f"the chat template {path} can't be read ({reason(error)})",
            place="tokenize.chat_template",
            cure="give a UTF-8 file with a Jinja template",
        ) from error

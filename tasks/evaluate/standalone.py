"""One model on one file of rows, outside any run: `winnow evaluate MODEL --data FILE`.

The same examples, prompts, losses and metrics as in a run; only the rows become tokens here, with the model's own
tokenizer and template, all assistant turns learned (raw text: all of it).
"""

from pathlib import Path
from typing import Any

import polars as pl

from pipeline_config.errors import DataError
from pipeline_config.model_schema import Evaluate
from tasks.evaluate.examples import TEST, choose_examples, first_drawn
from tasks.evaluate.measure import context_length
from tasks.evaluate.suite import Evaluation, evaluate_examples
from tasks.kernels.chat import Conversation, render_conversations
from tasks.kernels.encoding import Encoded, encode_conversations, encode_texts
from tasks.kernels.models import load_tokenizer, model_folder
from tasks.kernels.rows import whole_text

_TOKENS: dict[str, Any] = {
    "row_id": pl.String,
    "split": pl.String,
    "input_ids": pl.List(pl.Int32),
    "loss_mask": pl.List(pl.Boolean),
    "n_trained": pl.Int32,
}


def evaluate_model(
    model: str,
    rows: pl.DataFrame,
    config: Evaluate,
    data_dir: Path,
    *,
    seed: int = 0,
    name: str = "model",
    test_set: str = "data",
    chat_template: str | None = None,
) -> Evaluation:
    """Measure one model on rows.

    Args:
        model: folder, hub name or `asset:<name>`.
        rows: `ROW_SCHEMA` columns, as ingest reads them; of more rows than the configuration asks for, those with
            the smallest draws.
        config: its `models` and `test_sets` are not read.
        data_dir: where converted models are.
        seed: of the draw and of the bootstrap.
        name: the model's in metric keys.
        test_set: the rows' in metric keys.
        chat_template: Jinja source in place of the model's own template.

    Returns:
        metrics as `<name>.<test_set>.<metric>`, predictions, and facts: rows that the template refuses or that do not
        fit the model's context are left out and counted in `left_out`.

    Raises:
        DataError: no row is left.
        ModelError: the model can't be used.
    """
    folder = Path(model_folder(model, data_dir))
    tokenizer = load_tokenizer(str(folder))
    if chat_template is not None:
        tokenizer.chat_template = chat_template
    chosen = first_drawn(rows, max(config.max_examples, config.max_loss_examples), seed)
    tokens = _tokens(chosen, tokenizer, f"{TEST}:{test_set}", context_length(folder))
    if tokens.is_empty():
        raise DataError(
            f"none of {rows.height} rows can be evaluated",
            place="evaluate",
            cure="give rows with an assistant turn or text, no longer than the model's context",
        )
    settings = config.model_copy(update={"test_sets": []})
    examples = choose_examples(chosen.lazy(), tokens.lazy(), settings, seed)
    found = evaluate_examples({name: folder}, tokenizer, examples, settings, data_dir, seed)
    facts = found.facts | {"left_out": chosen.height - tokens.height}
    return Evaluation(found.metrics, found.predictions, facts)


def _tokens(rows: pl.DataFrame, tokenizer: Any, split: str, context: int | None) -> pl.DataFrame:
    """The rows as the tokenize stage would publish them, without those that have nothing to learn or do not fit."""
    talks = pl.col("messages").list.eval(pl.element().struct.field("role") == "assistant").list.any()
    both = rows.with_columns(talks.fill_null(value=False).alias("talks"))
    chats, texts = both.filter(pl.col("talks")), both.filter(~pl.col("talks"))
    lines = _lines(
        texts, encode_texts(tokenizer, texts.select(whole_text().fill_null("")).to_series().to_list()), split
    )
    if chats.height:
        rendered = render_conversations(tokenizer, [_conversation(row) for row in chats.iter_rows(named=True)])
        lines += _lines(chats, encode_conversations(tokenizer, rendered), split)
    fits = pl.col("input_ids").list.len() <= context if context else pl.lit(value=True)
    return pl.DataFrame(lines, schema=_TOKENS, orient="row").filter(fits & (pl.col("n_trained") > 0))


def _lines(rows: pl.DataFrame, encoded: Encoded, split: str) -> list[tuple[Any, ...]]:
    found = []
    for place, row_id in enumerate(rows["row_id"]):
        ids, mask = encoded.row(place)
        found.append((row_id, split, ids.tolist(), mask.tolist(), int(mask.sum())))
    return found


def _conversation(row: dict[str, Any]) -> Conversation:
    import json

    turns = row["messages"]
    learned = [place for place, turn in enumerate(turns) if turn["role"] == "assistant"]
    return Conversation(row["row_id"], turns, learned, json.loads(row["tools"]) if row["tools"] else None)

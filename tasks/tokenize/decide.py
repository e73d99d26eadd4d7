"""What becomes of each row: tokenised, shortened, cut into pieces, or out, with a line in the ledger for each."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from pipeline_config.sets_schema import Tokenize
from tasks.ledger import Decision, quarantine_frame, removed_frame
from tasks.tokenize.encode import encode_rows, is_text
from tasks.tokenize.lengths import auto_length
from tasks.tokenize.long_rows import PIECE, Resolved, resolve
from tasks.tokenize.lost import check_lost, lost, raised_length

COLUMNS = ("row_id", "split", "input_ids", "loss_mask", "n_tokens", "n_trained", "fold", "task", "label", "weight")
_ROW = "__row"


def decide(rows: pl.DataFrame, tokenizer: Any, context: int | None, config: Tokenize) -> Decision:
    """Tokenise rows, and keep to the limits.

    `max_length` holds for train and validation; test rows are shortened only where the model's context forces it, so
    that a training setting does not change a test set. Of a preference pair the chosen side is learned. An automatic
    length is raised where it would cost more than the limits allow (`lost.py`).

    Args:
        rows: `row_id, source, split, fold, task, label, weight, messages, preference, tools`, in source order.
        context: the most tokens the model takes; None: no limit.

    Raises:
        DataError: a row is too long, and `on_too_long` is `stop`; or too much would be lost with rows that are.
        ModelError: a conversation and no usable chat template.
    """
    rows = rows.with_columns(pl.col("split").fill_null("train"), is_text().alias("is_text")).with_row_index(_ROW)
    tokens, refused, parted = encode_rows(rows.select("row_id", "messages", "tools"), tokenizer, config.train_on)
    about = rows.select(_ROW, "row_id", "split", "fold", "task", "label", "weight", "is_text")
    tokens = about.join(tokens, on="row_id", how="inner", maintain_order="left")
    tokens = tokens.with_columns(pl.lit(0, pl.Int32).alias(PIECE))
    limits = _limits(tokens, context, config)
    fitting, fixed = _fitted(tokens, rows, limits, tokenizer, config)
    cost = lost(tokens, fixed.removed["row_id"])
    if config.max_length == "auto" and cost.too_much(config) and config.on_too_long != "drop":
        limits["max_length"] = raised_length(tokens, limits["max_length"] or 1, context, config)
        fitting, fixed = _fitted(tokens, rows, limits, tokenizer, config)
        cost = lost(tokens, fixed.removed["row_id"])
    check_lost(cost, limits["max_length"], config)
    kept = pl.concat([fitting, *fixed.frames]).sort(_ROW, PIECE)
    removed = pl.concat([fixed.removed, _all_masked(kept)])
    out = kept.filter(pl.col("n_trained") > 0)
    added = fixed.added.filter(pl.col("row_id").is_in(out["row_id"].implode()))
    return Decision(
        removed=removed.filter(pl.col("row_id").is_in(rows["row_id"].implode())),
        quarantined=_quarantined(rows, refused),
        changed=fixed.changed,
        assigned=out.select(COLUMNS),
        added=added,
        metrics=_metrics(out, limits, fixed),
        facts=_facts(rows, out, limits, fixed)
        | {"rows_in_parts": parted, "model_context": context, "lost_token_share": cost.tokens},
    )


def _fitted(
    tokens: pl.DataFrame, rows: pl.DataFrame, limits: Mapping[str, int | None], tokenizer: Any, config: Tokenize
) -> tuple[pl.DataFrame, Resolved]:
    """The rows within their limits, and what becomes of the others."""
    tokens = tokens.with_columns(_limit_of(limits).alias("limit"))
    fits = pl.col("limit").is_null() | (pl.col("n_tokens") <= pl.col("limit"))
    return tokens.filter(fits), resolve(tokens.filter(~fits), rows, tokenizer, config)


def _limits(tokens: pl.DataFrame, context: int | None, config: Tokenize) -> dict[str, int | None]:
    """The limit of what is learned from, and of test rows; tokens."""
    if config.max_length == "auto":
        return {
            "max_length": auto_length(tokens.filter(pl.col("split") == "train")["n_tokens"], context),
            "test": context,
        }
    wanted = min(config.max_length, context) if context else config.max_length
    return {"max_length": wanted, "test": context}


def _limit_of(limits: Mapping[str, int | None]) -> pl.Expr:
    test = pl.col("split").str.starts_with("test")
    return pl.when(test).then(pl.lit(limits["test"], pl.Int32)).otherwise(pl.lit(limits["max_length"], pl.Int32))


def _all_masked(kept: pl.DataFrame) -> pl.DataFrame:
    """Rows of which nothing is learned: no answer, or only answers of weight 0."""
    lines = kept.filter(pl.col("n_trained") == 0).select("row_id")
    return removed_frame(
        [{"row_id": row_id, "rule": "all_masked", "value": 0, "threshold": 1} for row_id in lines["row_id"]]
    )


def _quarantined(rows: pl.DataFrame, refused: pl.DataFrame) -> pl.DataFrame:
    named = refused.join(rows.select("row_id", "source"), on="row_id", how="left", maintain_order="left")
    return quarantine_frame(named.to_dicts())


def _metrics(out: pl.DataFrame, limits: Mapping[str, int | None], fixed: Resolved) -> dict[str, float]:
    train = out.filter(pl.col("split") == "train")
    tokens, trained = int(train["n_tokens"].sum()), int(train["n_trained"].sum())
    return {
        "tokens": tokens,
        "trained_tokens": trained,
        "trained_share": trained / tokens if tokens else 0.0,
        "max_length": float(limits["max_length"] or 0),
        "truncated_rows": fixed.count("truncate_context"),
        "split_rows": fixed.count("split_text") + fixed.count("split_turns"),
    }


def _facts(rows: pl.DataFrame, out: pl.DataFrame, limits: Mapping[str, int | None], fixed: Resolved) -> dict[str, Any]:
    """Of the train rows, where nothing else is said."""
    train = out.filter(pl.col("split") == "train")
    lengths = train["n_tokens"]
    tokens, trained = int(lengths.sum()), int(train["n_trained"].sum())
    quantiles = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}
    by_split = out.group_by("split").len().sort("split")
    return {
        "tokens": tokens,
        "trained_tokens": trained,
        "trained_share": trained / tokens if tokens else 0.0,
        "max_length": limits["max_length"],
        "length_quantiles": {
            name: int(lengths.quantile(q, interpolation="higher") or 0) for name, q in quantiles.items()
        },
        "truncated_share": fixed.count("truncate_context") / rows.height if rows.height else 0.0,
        "too_long_share": fixed.removed.height / rows.height if rows.height else 0.0,
        "rows_by_split": dict(zip(by_split["split"].to_list(), by_split["len"].to_list(), strict=True)),
        "preference_rows_learned_from_chosen": int(rows["preference"].sum()),
    }

"""A whole run in miniature, made by the wrapper itself from decisions written by hand: what the report is tested on.

Nothing is trained or measured; manifests, ledgers and rows have the form that the real stages give them. Row texts hold
planted personal data and hostile markup.
"""

import json
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import polars as pl

from pipeline_config.schema import STAGES, Config
from tasks.artifact import Artifact, Store, write_frame
from tasks.execute import Workspace, examine, produce
from tasks.kernels.rows import added_row_id, digest
from tasks.ledger import Decision, Output, added_frame, changed_frame, quarantine_frame, removed_frame
from tasks.stage import Stage, StageInput

PLANTED = ("mary.jones@corp-mail.example", "+44 20 7946 0958", "sk-proj-Ab12Cd34Ef56Gh78Ij90Kl12Mn34Op56")
HOSTILE = "<script>alert('x')</script><img src=http://evil.example/x.png onerror=alert(1)>"
NOUNS = ("list", "string", "file", "path", "number", "socket", "thread", "buffer", "header", "queue", "record", "index")
VERBS = ("return", "read", "write", "parse", "sort", "split", "open", "close", "merge", "count", "check", "convert")
CHINESE = ("今天", "天气", "很好", "我们", "学习", "编程", "语言", "模型", "数据", "清洗", "去重", "训练", "评估")
SOURCES = ("python", "chat", "chat-zh", f"dirt{HOSTILE}")

Make = Callable[[StageInput[Any]], Decision | Output]


def config(**sections: Any) -> Config:
    """A configuration with every stage on, or with the sections given in its place (None: off)."""
    whole: dict[str, Any] = {name: {} for name in STAGES} | {
        "seed": 17,
        "ingest": {"sources": [{"name": name, "path": f"/home/somebody/{n}.jsonl"} for n, name in enumerate(SOURCES)]},
        "select": {"description": "documentation of Python", "keep": 400},
        "balance": {"mode": "apply", "cap": {"chat": 60}},
        "report": {"title": f"A documentation assistant {HOSTILE}"},
    }
    return Config.model_validate(whole | sections)


def make_run(
    data_dir: Path, rows: int = 1200, stages: Mapping[str, Make] | None = None, **sections: Any
) -> tuple[Config, dict[str, Artifact]]:
    """Publish the artifacts of a run.

    Args:
        rows: rows read.
        stages: stage → what makes its output, in place of `MAKERS`.

    Returns:
        the configuration, and the artifacts by stage, in order; stages without a section are left out.
    """
    run = config(**sections)
    work = Workspace(run, data_dir, Store(data_dir))
    makers: dict[str, Make] = {**MAKERS, "ingest": lambda given: ingest(rows), **(stages or {})}
    for name in STAGES[:-1]:
        if run.section(name) is None or name not in makers:
            continue
        declared = Stage(name, makers[name], (), None, None)
        work.upstream[name] = produce(declared, examine(declared, work), work)
    return run, work.upstream


def ingest(rows: int) -> Decision:
    """Rows of four sources, every ninth a repeat of an earlier one, some broken records."""
    draw = random.Random(1)
    found: list[dict[str, Any]] = []
    for n in range(rows):
        source = SOURCES[(n % 20 > 12) + (n % 20 > 17) + (n % 20 > 18)]
        question, answer = _texts(draw, source)
        if n % 9 == 8 and n > 40:
            twin = found[draw.randrange(n - 40)]
            question, answer = (message["content"] for message in twin["messages"])
            source = twin["source"]
            answer = answer.replace(" the ", " a ", 1) if n % 4 else answer
        if n % 50 == 7:
            answer += f" Write to {PLANTED[0]} or call {PLANTED[1]}; the key is {PLANTED[2]}."
        if n % 60 == 11:
            question = f"<b>{question}</b> &amp; {HOSTILE}"
        found.append(_row(digest(source, str(n)), source, question, answer, draw))
    bad = [
        {"source": SOURCES[3], "line": 3, "reason": "not_json", "detail": "Expecting value", "excerpt": '{"a": '},
        {"source": SOURCES[3], "line": 9, "reason": "no_answer", "excerpt": f"{HOSTILE} {PLANTED[0]}"},
    ]
    held = quarantine_frame([{"row_id": digest("bad", str(n)), **line} for n, line in enumerate(bad)])
    return Decision(assigned=added_frame(found), quarantined=held)


def clean(given: StageInput[Any]) -> Decision:
    """Placeholders for what was planted, and markup out."""
    rows = given.rows.collect()
    edited, lines = [], []
    for row in rows.iter_rows(named=True):
        messages = [dict(message) for message in row["messages"]]
        before = digest(str(messages))
        for message in messages:
            for value, name in zip(PLANTED, ("EMAIL", "PHONE", "SECRET"), strict=True):
                message["content"] = message["content"].replace(value, f"[{name}_1]")
            message["content"] = message["content"].replace("<b>", "").replace("</b>", "").replace("&amp;", "&")
        if messages != row["messages"]:
            rule = "redact_email" if "[EMAIL_1]" in messages[1]["content"] else "markup"
            after = digest(str(messages))
            lines.append({"row_id": row["row_id"], "rule": rule, "before": before, "after": after, "spans": []})
            edited.append({"row_id": row["row_id"], "messages": messages})
    schema = {name: rows.schema[name] for name in ("row_id", "messages")}
    return Decision(changed=changed_frame(lines), assigned=pl.DataFrame(edited, schema=schema))


def dedupe(given: StageInput[Any]) -> Decision:
    """Each repeat against the row it repeats."""
    kept: dict[str, tuple[str, str]] = {}
    lines = []
    for row in given.rows.collect().iter_rows(named=True):
        question, answer = (message["content"] for message in row["messages"])
        first = kept.setdefault(question, (row["row_id"], answer))
        if first[0] == row["row_id"]:
            continue
        same = first[1] == answer
        near = {"value": 0.86 + len(lines) % 13 / 100, "threshold": 0.85}
        lines.append(
            {"row_id": row["row_id"], "rule": "exact" if same else "near_pair", "kept_row_id": first[0]}
            | ({} if same else near)
        )
    return Decision(removed=removed_frame(lines), metrics={"conflicting_answers": 3.0})


def toxicity(given: StageInput[Any]) -> Decision:
    """Scores that pile up near 0, and a few rows above the threshold."""
    ids = given.rows.select("row_id").collect()["row_id"]
    scores = pl.Series("score_toxicity", [_unit(i) ** 6 * 0.999 for i in ids], dtype=pl.Float32)
    frame = pl.DataFrame([ids, scores])
    high = frame.filter(pl.col("score_toxicity") >= 0.95)
    lines = [
        {"row_id": i, "rule": "toxic_english", "value": s, "threshold": 0.95, "detail": f"message 1 {HOSTILE}"}
        for i, s in high.iter_rows()
    ]
    return Decision(removed=removed_frame(lines), assigned=frame)


def quality(given: StageInput[Any]) -> Decision:
    """One-word answers out."""
    rows = given.rows.select("row_id", "messages").collect()
    words = [len(messages[-1]["content"].split()) for messages in rows["messages"].to_list()]
    assigned = rows.select("row_id", pl.Series("score_answer_words", words, dtype=pl.Float32))
    short = assigned.filter(pl.col("score_answer_words") < 3)["row_id"].to_list()
    lines = [{"row_id": i, "rule": "min_answer_words", "value": 1, "threshold": 3} for i in short]
    return Decision(removed=removed_frame(lines), assigned=assigned)


def select(given: StageInput[Any]) -> Decision:
    """The nearest 400 of the first source."""
    rows = given.rows.filter(pl.col("source") == SOURCES[0]).select("row_id").collect()
    similarity = [sum(_unit(i + str(k)) for k in range(4)) / 5 for i in rows["row_id"]]
    ranked = rows.with_columns(pl.Series("score_similarity", similarity, dtype=pl.Float32)).sort("score_similarity")
    out, kept = ranked.head(max(0, ranked.height - 400)), ranked.tail(400)
    bound = kept["score_similarity"].min()
    lines = [{"row_id": i, "rule": "beyond_quota", "value": s, "threshold": bound} for i, s in out.iter_rows()]
    return Decision(removed=removed_frame(lines), assigned=kept)


def split(given: StageInput[Any]) -> Decision:
    """A tenth to each test set."""
    rows = given.rows.select("row_id", "source").collect()
    places = [_place(row_id, source) for row_id, source in rows.iter_rows()]
    return Decision(assigned=rows.select("row_id", pl.Series("split", places)))


def balance(given: StageInput[Any]) -> Decision:
    """At most 60 train rows of the chat source."""
    chat = (pl.col("source") == SOURCES[1]) & (pl.col("split") == "train")
    ids = given.rows.filter(chat).select("row_id").collect()["row_id"].to_list()[60:]
    lines = [{"row_id": i, "rule": "over_cap", "value": len(ids) + 60, "threshold": 60} for i in ids]
    return Decision(removed=removed_frame(lines))


def augment(given: StageInput[Any]) -> Decision:
    """Twenty prompts with two words swapped."""
    rows = given.rows.filter(pl.col("split") == "train").select("row_id", "messages").head(20).collect()
    added = []
    for row_id, messages in rows.iter_rows():
        words = messages[0]["content"].split()
        words[:2] = words[1::-1]
        changed = [{**messages[0], "content": " ".join(words)}, messages[1]]
        added.append({"row_id": added_row_id(row_id, "augment", 0), "parent_row_id": row_id, "messages": changed})
    frame = pl.DataFrame(
        added, schema={n: given.rows.collect_schema()[n] for n in ("row_id", "parent_row_id", "messages")}
    )
    return Decision(added=frame.with_columns(rule=pl.lit("swap")))


def tokenize(given: StageInput[Any]) -> Decision:
    """One token a character."""
    rows = given.rows.select("row_id", "split", "task", "messages").collect()
    ids, masks = [], []
    for messages in rows["messages"].to_list():
        codes = [[ord(c) for c in message["content"]] for message in messages]
        ids.append([c for code in codes for c in code])
        masks.append([n == len(codes) - 1 for n, code in enumerate(codes) for _ in code])
    tokens = rows.select("row_id", "split", "task").with_columns(
        pl.Series("input_ids", ids, pl.List(pl.Int32)),
        pl.Series("loss_mask", masks, pl.List(pl.Boolean)),
        pl.Series("n_tokens", [len(i) for i in ids], pl.Int32),
        pl.Series("n_trained", [sum(m) for m in masks], pl.Int32),
    )
    train = tokens.filter(pl.col("split") == "train")
    counts = {"tokens": int(train["n_tokens"].sum()), "trained_tokens": int(train["n_trained"].sum())}
    by_split = dict(tokens.group_by("split").len().sort("split").iter_rows())
    return Decision(assigned=tokens, facts=counts | {"max_length": 160, "rows_by_split": by_split})


def train(given: StageInput[Any]) -> Output:
    """A falling loss."""
    lines = [{"step": n, "loss": 3.4 - 0.8 * (n / 40) ** 0.5, "learning_rate": 1e-3} for n in range(1, 41)]
    lines += [{"step": n, "eval_loss": 3.3 - 0.7 * (n / 40) ** 0.5} for n in (10, 20, 30, 40)]
    (given.out / "history.json").write_text(json.dumps(lines))
    return Output(metrics={"validation_loss": 2.6}, facts={"method": "lora"})


def evaluate(given: StageInput[Any]) -> Output:
    """Three models on two test sets, and their answers."""
    metrics: dict[str, float] = {}
    for model, gain, size in (("base", 0.0, 269.0), ("tuned", 1.0, 269.0), ("distilled", 0.4, 217.0)):
        for test_set, (loss, rouge, sign) in {"python": (3.51, 0.16, 1), "chat": (4.02, 0.12, -0.1)}.items():
            key, by = f"{model}.{test_set}", gain * sign
            values = {"loss": (loss - 0.9 * by, 0.12), "rouge_l": (rouge + 0.15 * by, 0.03), "bleu": (3 + 6 * by, 2)}
            values["bertscore_f1"] = (0.6 + 0.1 * by, 0.02)
            for name, (value, half) in values.items():
                metrics |= {
                    f"{key}.{name}": value,
                    f"{key}.{name}_low": value - half,
                    f"{key}.{name}_high": value + half,
                }
            metrics |= {f"{key}.size_mb": size, f"{key}.tokens_per_second": 140 + 30 * gain}
            for name, value, half in (("loss", -0.9 * by, 0.08), ("rouge_l", 0.15 * by, 0.04)) if gain else ():
                low, high = f"{key}.{name}_diff_low", f"{key}.{name}_diff_high"
                metrics |= {f"{key}.{name}_diff": value, low: value - half, high: value + half}
    rows = given.rows.filter(pl.col("split").str.starts_with("test")).select("row_id", "split", "messages").collect()
    write_frame(_predictions(rows.head(40)), given.out / "predictions.parquet")
    return Output(
        metrics=metrics, facts={"answered": {"chat": 20, "python": 20}, "examples": {"chat": 30, "python": 50}}
    )


def _predictions(rows: pl.DataFrame) -> pl.DataFrame:
    lines = []
    for row_id, place, messages in rows.iter_rows():
        answer = messages[-1]["content"]
        for model, said in {"base": HOSTILE, "tuned": answer, "distilled": answer[: len(answer) // 2]}.items():
            score = {"base": 0.1, "tuned": _unit(row_id), "distilled": 0.5}[model]
            lines.append((row_id, place.removeprefix("test:"), model, answer, said, score, 3.0 - score))
    schema = {"row_id": pl.String, "test_set": pl.String, "model": pl.String, "reference": pl.String}
    scores = {"prediction": pl.String, "rouge_l": pl.Float32, "loss": pl.Float32}
    return pl.DataFrame(lines, schema=schema | scores, orient="row")


def _texts(draw: random.Random, source: str) -> tuple[str, str]:
    if source == "chat-zh":
        return "".join(draw.choices(CHINESE, k=6)) + "？", "".join(draw.choices(CHINESE, k=draw.randint(6, 30))) + "。"
    verb, noun = draw.choice(VERBS), draw.choice(NOUNS)
    body = " ".join(draw.choices(NOUNS, k=draw.randint(3, 30)))
    question = f"def {verb}_{noun}({body.replace(' ', ', ')}):\n    return {noun}.{verb}({draw.random():.3f})"
    if draw.random() < 0.02:
        return question, "Yes."
    return question, f"{verb.title()} the {noun} of " + " ".join(draw.choices(NOUNS, k=draw.randint(2, 14))) + "."


def _row(row_id: str, source: str, question: str, answer: str, draw: random.Random) -> dict[str, Any]:
    turns = [
        {"role": "user", "content": question, "weight": 1.0},
        {"role": "assistant", "content": answer, "weight": 1.0},
    ]
    task = HOSTILE if source == SOURCES[3] else f"{source}.{draw.choice(NOUNS[:7])}"
    lang = "zh" if source == "chat-zh" else "en"
    return {"row_id": row_id, "source": source, "task": task, "lang": lang, "messages": turns}


def _place(row_id: str, source: str) -> str:
    draw = _unit(row_id + "split")
    test = "python" if source == SOURCES[0] else "chat"
    return f"test:{test}" if draw < 0.1 else "validation" if draw < 0.14 else "train"


def _unit(text: str) -> float:
    return int(digest(text), 16) / 2**64


MAKERS: dict[str, Make] = {
    "clean": clean,
    "dedupe": dedupe,
    "toxicity": toxicity,
    "quality": quality,
    "select": select,
    "split": split,
    "balance": balance,
    "augment": augment,
    "tokenize": tokenize,
    "train": train,
    "evaluate": evaluate,
}

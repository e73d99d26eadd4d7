"""Chat template, loss mask, length report: one line a row for any loader."""

from pathlib import Path
from typing import TYPE_CHECKING

from pipeline_config.schema import Config
from pipeline_config.sets_schema import Tokenize
from tasks.kernels.chat_template import tokenizer_references
from tasks.stage import StageInput, stage

if TYPE_CHECKING:
    from tasks.ledger import Decision


def references(config: Tokenize, run: Config, data_dir: Path) -> dict[str, str]:
    """The tokenizer, and a chat template that is given."""
    return tokenizer_references(run, data_dir)


@stage("tokenize", libraries=("transformers", "tokenizers", "jinja2", "numpy", "pyarrow"), references=references)
def tokenize(given: StageInput[Tokenize]) -> "Decision":
    """Token ids and loss mask of every row; packing is the loader's."""
    import polars as pl

    from tasks.kernels.chat_template import chat_tokenizer, tokenizer_model
    from tasks.kernels.models import model_folder
    from tasks.tokenize.decide import decide
    from tasks.tokenize.lengths import model_context

    tokenizer = chat_tokenizer(given.run, given.data_dir)
    folder = Path(model_folder(tokenizer_model(given.run), given.data_dir))
    rows = given.rows.select(
        "row_id",
        "source",
        "split",
        "fold",
        "task",
        "label",
        "weight",
        "messages",
        pl.col("rejected").is_not_null().alias("preference"),
        "tools",
    ).collect()
    return decide(rows, tokenizer, model_context(folder, tokenizer), given.config)

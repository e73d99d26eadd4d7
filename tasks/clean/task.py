"""clean: text repaired and personal data redacted, every edit in the edit ledger."""

from pipeline_config.data_schema import Clean
from tasks.ledger import Decision
from tasks.stage import StageInput, stage


@stage("clean", libraries=("ftfy",))
def clean(given: StageInput[Clean]) -> Decision:
    """Repaired and redacted rows; read in batches, so that memory holds the edited rows and not the corpus."""
    from tasks.clean.decide import BATCH, TEXTS, decide

    rows = given.rows.select("row_id", *TEXTS)
    return decide(rows.collect_batches(chunk_size=BATCH, maintain_order=True), given.config)

"""The stage: train rows by group, reported, or brought to the wanted proportions."""

from pipeline_config.data_schema import Balance
from tasks.ledger import Decision
from tasks.stage import StageInput, stage


@stage("balance", libraries=("numpy",))
def balance(given: StageInput[Balance]) -> Decision:
    """Classes and tasks to the wanted proportions; validation and test are never touched."""
    from tasks.balance.proportions import decide

    rows = given.rows.select("row_id", "split", given.config.by).collect()
    return decide(rows, given.config, given.seed)

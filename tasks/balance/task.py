"""The stage: train rows by group, reported, or brought to the wanted proportions."""

import logging

from pipeline_config.sets_schema import Balance
from tasks.ledger import Decision
from tasks.stage import StageInput, stage

LOG = logging.getLogger("winnow")


@stage("balance", libraries=("numpy",))
def balance(given: StageInput[Balance]) -> Decision:
    """Classes and tasks to the wanted proportions; validation and test are never touched."""
    from tasks.balance.proportions import decide

    rows = given.rows.select("row_id", "split", "weight", *given.config.columns).collect()
    decision = decide(rows, given.config, given.seed)
    if unknown := decision.facts["unknown_groups"]:
        there = ", ".join(list(decision.facts["sizes"])[:8])
        LOG.warning("balance: no train row is of group %s; the largest groups: %s", ", ".join(unknown), there)
    return decision

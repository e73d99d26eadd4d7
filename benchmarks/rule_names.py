"""Which of our rules is which reason of datatrove's filters (several of ours: separated by `|`)."""

SAME_RULE: dict[str, dict[str, str]] = {"gopher": {}, "c4": {}, "fineweb": {}}

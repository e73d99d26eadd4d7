"""The rules that a configuration asks for: its sets joined, thresholds put in place, disabled ones left out."""

import difflib
from collections.abc import Iterable
from dataclasses import replace

from pipeline_config.data_schema import Quality
from pipeline_config.errors import ConfigError
from tasks.quality.rules import LANGUAGE_RULE, MODEL_RULES, RULE_SETS, Rule


def known_rules(config: Quality) -> list[Rule]:
    """Every rule of the sets named, in order; a rule that two sets share stands once, as the first has it.

    Raises:
        ConfigError: no such set.
    """
    rules: dict[str, Rule] = {}
    for name in config.rules:
        if name not in RULE_SETS:
            raise _unknown("rule set", name, RULE_SETS, "quality.rules")
        for rule in RULE_SETS[name]:
            rules.setdefault(rule.name, rule)
    return list(rules.values())


def active_rules(config: Quality) -> list[Rule]:
    """The rules to apply, in order, with the configuration's thresholds.

    Raises:
        ConfigError: a rule set, or a rule in `thresholds` or `disable`, that does not exist.
    """
    rules = [*known_rules(config), *_model_rules(config)]
    names = [rule.name for rule in rules]
    for place, given in (("quality.thresholds", config.thresholds), ("quality.disable", config.disable)):
        for name in given:
            if name not in names:
                raise _unknown("rule", name, names, place)
    thresholds = {LANGUAGE_RULE: config.min_language_score, **config.thresholds}
    return [
        replace(rule, threshold=float(thresholds.get(rule.name, rule.threshold)))
        for rule in rules
        if rule.name not in config.disable
    ]


def _model_rules(config: Quality) -> list[Rule]:
    """The bounds on model-based scores, behind all other rules."""
    found = []
    for rule in MODEL_RULES:
        settings = getattr(config, rule.statistic)
        bound = None if settings is None else settings.min if rule.comparison == "<" else settings.max
        if bound is not None:
            found.append(replace(rule, threshold=float(bound)))
    return found


def _unknown(what: str, name: str, known: Iterable[str], place: str) -> ConfigError:
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    there_are = f"there are: {', '.join(known)}"
    cure = f"did you mean {close[0]}? {there_are.capitalize()}" if close else there_are
    return ConfigError(f"no {what} is named {name!r}", place=place, cure=cure)

"""What each stage cost when its artifact was made: seconds and peak memory, drawn."""

from collections.abc import Sequence

from tasks.report.counts import StageCounts
from tasks.report.drawing import Chart
from tasks.report.lines import bars
from tasks.report.story import duration
from tasks.report.text import number


def cost_charts(stages: Sequence[StageCounts]) -> list[Chart]:
    """Time and memory by stage; empty for no stage."""
    if not stages:
        return []
    slowest = max(stages, key=lambda stage: stage.seconds)
    largest = max(stages, key=lambda stage: stage.peak_mb)
    whole = duration(sum(stage.seconds for stage in stages))
    return [
        bars("cost-time", "Time", f"{whole} in all, most of it in {slowest.name}.",
             [(stage.name, stage.seconds, duration(stage.seconds)) for stage in stages]),
        bars("cost-memory", "Peak memory", f"of the whole process, MB; highest in {largest.name}.",
             [(stage.name, stage.peak_mb, number(stage.peak_mb)) for stage in stages]),
    ]  # fmt: skip

"""A run on the terminal: one table of stages, one of models side by side."""

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from flows.run_report import report_path
from tasks.artifact import Store, read_manifest
from tasks.kernels.comparison import comparison_table
from tasks.runs import RunRecord, StageRecord, command_in, explain_command

_WIDTH = 118


def print_run(record: RunRecord, data_dir: Path) -> None:
    """Print the stages, the models and where the report is, on standard output."""
    console = _console()
    console.print(stage_table(record, data_dir))
    models = model_table(record)
    if models is not None:
        console.print(models)
    for line in closing_lines(record, data_dir):
        console.print(line, soft_wrap=True)


def print_table(title: str, columns: list[tuple[str, bool]], lines: list[list[str]]) -> None:
    """Print a table on standard output; a column is its title and whether it stands to the right."""
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for name, right in columns:
        table.add_column(name, justify="right" if right else "left", no_wrap=name in ("run", "status"))
    for line in lines:
        table.add_row(*line)
    _console().print(table)


def stage_table(record: RunRecord, data_dir: Path) -> Table:
    """Per stage: rows in and out, what left by which rule, what was edited, seconds, ran or cached."""
    table = Table(title=f"run {record.run_id}: {record.status}", title_justify="left", box=None, pad_edge=False)
    for name in ("stage", "in", "out", "removed by rule", "edited, added", "seconds", "state", "gate"):
        table.add_column(name, justify="right" if name in ("in", "out", "seconds") else "left")
    for entry in record.stages:
        if entry.state != "skipped":
            table.add_row(*_cells(entry, data_dir))
    return table


def _cells(entry: StageRecord, data_dir: Path) -> list[str]:
    rows: dict[str, Any] = {}
    if entry.key:
        try:
            rows = read_manifest(Store(data_dir).folder(entry.name, entry.key))["rows"]
        except (OSError, ValueError, KeyError):
            rows = {}
    gone = [f"{rule} {n:,}" for rule, n in sorted(rows.get("removed", {}).items(), key=_most_first)]
    gone += [f"quarantined: {rule} {n:,}" for rule, n in sorted(rows.get("quarantined", {}).items(), key=_most_first)]
    edited = [f"{rule} {n:,}" for rule, n in sorted(rows.get("changed", {}).items(), key=_most_first)]
    edited += [f"+{n:,} {rule}" for rule, n in sorted(rows.get("added", {}).items(), key=_most_first)]
    counted = bool(rows.get("in") or rows.get("out"))
    return [
        entry.name,
        f"{rows['in']:,}" if counted else "",
        f"{rows['out']:,}" if counted else "",
        ", ".join(gone),
        ", ".join(edited),
        "" if entry.seconds is None else f"{entry.seconds:.1f}",
        entry.state,
        _gate_word(entry.gate),
    ]


def _gate_word(gate: dict[str, Any] | None) -> str:
    """passed, failed, or warned: a bound does not hold, and the run went on."""
    if gate is None:
        return ""
    if gate.get("passed"):
        return "warned" if gate.get("warnings") else "passed"
    return "warned" if gate.get("on_fail") == "warn" else "failed"


def model_table(record: RunRecord) -> Table | None:
    """Models side by side on each test set; None where nothing was evaluated."""
    lines = comparison_table(record.metrics)
    if not lines:
        return None
    table = Table(title="models on each test set", title_justify="left", box=None, pad_edge=False)
    columns = [
        ("test_set", "test set", ""),
        ("model", "model", ""),
        ("loss", "loss", ".3f"),
        ("bleu", "BLEU", ".1f"),
        ("rouge_l", "ROUGE-L", ".3f"),
        ("bertscore_f1", "BERTScore", ".3f"),
        ("size_mb", "MB", ",.0f"),
        ("tokens_per_second", "tokens/s", ",.0f"),
        ("loss_diff", "loss − base [95 %]", "interval"),
        ("rouge_l_diff", "ROUGE-L − base [95 %]", "interval"),
    ]
    for _, title, form in columns:
        table.add_column(title, justify="right" if form else "left")
    for line in lines:
        table.add_row(*[_number(line, name, form) for name, _, form in columns])
    return table


def closing_lines(record: RunRecord, data_dir: Path) -> list[str]:
    """Where to look next."""
    lines = []
    report = report_path(record.run_id, data_dir)
    if report.exists():
        lines.append(f"report:    {report}")
    elif any(stage.key for stage in record.stages):
        lines.append(f"report:    {command_in(data_dir, 'winnow', 'report', record.run_id)}")
    lines.append(f"record:    {data_dir / 'runs' / f'{record.run_id}.json'}")
    lines.append(f"one row:   {explain_command('ROW_ID', record.run_id, data_dir)}")
    lines.append("dashboard: winnow dashboard     rows: winnow export --help")
    return lines


def _console() -> Console:
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console.width = _WIDTH
    return console


def _number(line: dict[str, Any], name: str, form: str) -> str:
    value = line.get(name)
    if value is None:
        return ""
    if not form:
        return str(value)
    if form == "interval":
        low, high = line.get(f"{name}_low"), line.get(f"{name}_high")
        return f"{value:+.3f}" if low is None or high is None else f"{value:+.3f} [{low:+.3f}, {high:+.3f}]"
    return f"{value:{form}}"


def _most_first(item: tuple[str, int]) -> tuple[int, str]:
    return -item[1], item[0]

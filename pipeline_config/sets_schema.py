"""The sections of the stages that make sets of the rows, `select` to `tokenize`, and every default they have."""

from typing import Annotated, Literal

from pydantic import Field, PositiveInt, model_validator

from pipeline_config.fields import Strict, neutral, scoring
from pipeline_config.gate_schema import DataSection, SplitGate, TokenizeGate

GroupColumn = Literal["task", "label", "source", "lang"]


class Select(DataSection):
    """Keep what is relevant to the target domain: similarity to a seed set."""

    method: Literal["similarity", "importance", "field"] = scoring(
        "similarity",
        description="similarity: cosine to the seed set or description; importance: n-grams as in the seed set "
        "(DSIR), resampled; field: a number of the record",
    )
    field: str | None = Field(None, description="with method field: the field of meta, larger is better")
    seed_set: str | None = neutral(None, description="JSONL file of good examples (any ingest format)")
    description: str | None = scoring(None, description="the target task in words, in place of a seed set")
    sources: list[str] = scoring(
        default_factory=list, description="only rows of these sources compete; others pass (empty: all)"
    )
    nearest: int = scoring(3, ge=1, description="examples whose mean cosine is a row's similarity")
    keep: int | float | None = Field(
        None, gt=0, description="rows (integer) or share (fraction below 1) of the competing rows to keep"
    )
    quota_by: GroupColumn | None = Field(None, description="keep so many of each value of this column, not of all")
    diversity: int | None = Field(
        None, ge=2, le=20, description="of so many times the rows to keep, the best, those that are farthest apart stay"
    )
    min_similarity: float | None = Field(None, ge=-1, le=1, description="cosine below which a row goes")
    encoder: str = neutral("asset:all-minilm-l6-v2", description="sentence encoder: folder, hub name or asset")
    max_length: int = scoring(48, ge=8, description="tokens of a row that the encoder reads")
    batch_size: int = neutral(64, ge=2, description="texts at once")

    @model_validator(mode="after")
    def _has_target(self) -> "Select":
        if self.method == "field" and self.field is None:
            raise ValueError("method field needs the name of a field of meta in field")
        if self.method != "field" and self.seed_set is None and self.description is None:
            raise ValueError("give seed_set (a file of good examples) or description (the task in words)")
        if self.method != "similarity" and self.min_similarity is not None:
            raise ValueError("min_similarity is for method similarity")
        if self.keep is None and (self.method == "importance" or self.quota_by or self.diversity):
            raise ValueError("give keep: how many rows, or which share of them, stay")
        if isinstance(self.keep, float) and self.keep > 1:
            raise ValueError(f"keep {self.keep} is neither a whole number of rows nor a share below 1")
        return self


class TestSet(Strict):
    """One named test set, drawn from some sources."""

    sources: list[str] = Field(default_factory=list, description="drawn from these sources (empty: all)")
    size: float = Field(0.1, gt=0, lt=1, description="share of those rows")
    width: float | None = Field(
        None, gt=0, lt=1, description="in place of a share: as many rows as make a 95 % interval of a rate this wide"
    )


Share = Annotated[float, Field(ge=0, lt=1)]


class Split(DataSection):
    """Train, validation and named test sets; near-duplicates never straddle."""

    gate: SplitGate = neutral(default_factory=SplitGate, description="bounds on the split")
    validation: float = Field(0.05, ge=0, lt=1, description="share of the rows")
    test: Share | dict[Annotated[str, Field(pattern=r"^[\w.-]+$")], TestSet] = Field(
        0.1, description="share of the rows for one test set, or name → test set"
    )
    width: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="in place of a share for test: a 95 % interval of a rate is this wide (0.05: 1537 rows)",
    )
    frozen: str | None = neutral(
        None, description="file of conversations that make up the test set, today and tomorrow"
    )
    frozen_digest: str | None = Field(
        None, pattern="^[0-9a-f]{64}$", description="sha256 that the frozen file must have"
    )
    stratify: list[Literal["task", "label"]] = Field(
        default_factory=list, description="columns whose values get their exact shares of every split and fold"
    )
    folds: int | None = Field(None, ge=2, description="cross-validation folds, written into the column fold")
    held_fold: int | None = Field(
        None, ge=0, description="this fold is the validation set, the others are train (winnow crossvalidate sets it)"
    )
    group_by: str | None = Field(None, description="field of meta whose equal values stay together")
    time_by: str | None = Field(None, description="field of meta (number or ISO date): the test set is what came last")
    cutoff: str | float | None = Field(
        None, description="with time_by: nothing later is learnt (default: where the test share begins)"
    )
    near_threshold: float = Field(0.6, gt=0, le=1, description="Jaccard from which two rows stay together")
    decontaminate: bool = Field(True, description="remove train rows that overlap a test row")
    decontaminate_against: list[str] = neutral(
        default_factory=list, description="benchmark files (any ingest format) that no row may give away either"
    )
    max_overlap: float = Field(
        0.7, gt=0, le=1, description="share of a test row's tokens, boilerplate apart, found in order in one other row"
    )

    @model_validator(mode="after")
    def _fits(self) -> "Split":
        if isinstance(self.test, dict) and (
            self.width is not None or self.time_by is not None or self.frozen is not None
        ):
            raise ValueError("width, time_by and frozen are for one test set; give test as a share, not as named sets")
        if self.frozen is not None and (self.width is not None or self.time_by is not None):
            raise ValueError("a frozen test set is not drawn; leave width and time_by out")
        if self.frozen_digest is not None and self.frozen is None:
            raise ValueError("frozen_digest says what the file in frozen must be; give frozen")
        if self.held_fold is not None and self.held_fold >= (self.folds or 0):
            raise ValueError(f"held_fold {self.held_fold} is none of the folds; they are 0 to folds - 1: give folds")
        if self.cutoff is not None and self.time_by is None:
            raise ValueError("cutoff is a time; name the field that has it in time_by")
        if self.time_by is not None and self.width is not None and self.cutoff is not None:
            raise ValueError("cutoff decides the size of the test set; leave width out")
        if self.decontaminate_against and not self.decontaminate:
            raise ValueError("decontaminate_against needs decontaminate: true")
        return self

    @model_validator(mode="after")
    def _leaves_train(self) -> "Split":
        if isinstance(self.test, dict):
            drawn = [(each.sources, each.size) for each in self.test.values()]
        else:
            drawn = [([], self.test)]
        for source in sorted({source for sources, _ in drawn for source in sources}) or [""]:
            taken = self.validation + sum(size for sources, size in drawn if not sources or source in sources)
            if taken >= 1:
                raise ValueError(f"test and validation take {taken:.2f} of the rows; leave some to train")
        return self


Rows = PositiveInt | dict[str, PositiveInt]


class Balance(DataSection):
    """Classes and tasks to the wanted proportions (train only)."""

    mode: Literal["report", "apply", "weights"] = Field(
        "report",
        description="report: only count; apply: leave out and repeat rows; weights: every row stays, and counts in the "
        "loss as often as it would have stood",
    )
    by: GroupColumn | Annotated[list[GroupColumn], Field(min_length=1)] = Field(
        "task", description="a column, or several: a group is then a combination, such as mail/zh"
    )
    temperature: float = Field(1.0, ge=1, description="group sizes become proportional to n^(1/temperature)")
    shares: dict[str, Annotated[float, Field(gt=0, le=1)]] = Field(
        default_factory=dict, description="group → share of the train rows; the others have the rest, by temperature"
    )
    resample: Literal["both", "down", "up"] = Field(
        "both", description="both: as many rows as before; down: no group grows; up: no group shrinks"
    )
    cap: Rows | None = Field(None, description="most rows of a group (one number, or group → number)")
    floor: Rows | None = Field(None, description="fewest rows of a group, by repeats (one number, or group → number)")
    max_repeats: int = Field(4, ge=1, le=4, description="times a row may stand in train")

    @property
    def columns(self) -> list[str]:
        """The columns whose combinations are the groups."""
        return [self.by] if isinstance(self.by, str) else list(self.by)

    @model_validator(mode="after")
    def _possible(self) -> "Balance":
        if len(set(self.columns)) < len(self.columns):
            raise ValueError(f"by names a column twice: {', '.join(self.columns)}")
        if (total := sum(self.shares.values())) > 1 + 1e-9:
            raise ValueError(f"the shares add up to {total:g}; they may be 1 at most")
        for group in {*_named_groups(self.cap), *_named_groups(self.floor), ""}:
            cap, floor = _of_group(self.cap, group), _of_group(self.floor, group)
            if cap is not None and floor is not None and floor > cap:
                raise ValueError(f"floor {floor} is above cap {cap}{f' for {group!r}' if group else ''}")
        if self.mode == "weights" and self.temperature == 1 and not (self.shares or self.cap or self.floor):
            raise ValueError("mode weights weighs all rows alike unless temperature, shares, cap or floor is set")
        return self


def _named_groups(rows: Rows | None) -> list[str]:
    return list(rows) if isinstance(rows, dict) else []


def _of_group(rows: Rows | None, group: str) -> int | None:
    return rows.get(group) if isinstance(rows, dict) else rows


class Augment(DataSection):
    """More varied training prompts; assistant text is never altered."""

    methods: list[Literal["keyboard", "swap", "delete", "synonym", "contextual", "chinese"]] = Field(
        ["swap", "chinese"], description="a row's own draw decides which of them is tried first"
    )
    share: float = Field(0.1, gt=0, le=1, description="share of the train rows that get one variant")
    budgets: dict[str, Annotated[float, Field(ge=0, le=1)]] = Field(
        default_factory=dict, description="task → share of its train rows, in place of share"
    )
    strength: float = Field(0.1, gt=0, le=0.5, description="share of a prompt's words that change")
    sources: list[str] = Field(default_factory=list, description="only rows of these sources (empty: all)")
    near_threshold: float = Field(
        0.6, gt=0, le=1, description="Jaccard to a row of another split from which a variant is dropped"
    )
    min_similarity: float | None = Field(
        0.7,
        gt=0,
        le=1,
        description="cosine to the original's user turns below which a variant is dropped (null: not asked)",
    )
    encoder: str = neutral("asset:all-minilm-l6-v2", description="sentence encoder for min_similarity")
    masked_model: str | None = neutral(None, description="model that fills masks, for contextual: folder or hub name")
    workers: int | None = neutral(None, ge=1, description="processes (default: a core each, if there are many rows)")

    @model_validator(mode="after")
    def _has_model(self) -> "Augment":
        if "contextual" in self.methods and self.masked_model is None:
            raise ValueError("the method contextual needs masked_model, a model that fills masks (folder or hub name)")
        return self


class Tokenize(DataSection):
    """Chat template, loss mask, length report."""

    gate: TokenizeGate = neutral(default_factory=TokenizeGate, description="bounds on the tokens")
    model: str | None = neutral(None, description="tokenizer of this model (default: the top-level model)")
    chat_template: str | None = neutral(None, description="file with a Jinja chat template, in place of the model's")
    train_on: Literal["all", "last"] = Field("all", description="which assistant turns are learned")
    max_length: Annotated[int, Field(ge=8)] | Literal["auto"] = Field(
        "auto",
        description="tokens; auto: the smaller of the model's context and the 99.5th percentile, up to four times "
        "that where more would be lost than max_lost_tokens and max_lost_of_task allow",
    )
    on_too_long: Literal["stop", "drop", "truncate_context", "split"] = Field(
        "truncate_context",
        description="truncate_context: cut the middle of the longest turn that is neither system text, last question "
        "nor learned; split: cut conversations between questions. Raw text is cut into pieces by both",
    )
    max_lost_tokens: float = Field(
        0.005, ge=0, le=1, description="share of the learned tokens that may go with rows too long to be shortened"
    )
    max_lost_of_task: float = Field(
        0.02, ge=0, le=1, description="share of any task's rows that may go with rows too long to be shortened"
    )

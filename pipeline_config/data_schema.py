"""The sections of the data stages, `ingest` to `tokenize`, and every default they have."""

from typing import Annotated, Literal

from pydantic import Field, PositiveInt, model_validator

from pipeline_config.fields import Strict, neutral, scoring
from pipeline_config.gate_schema import DataSection, DedupeGate, SplitGate, TokenizeGate

Format = Literal["auto", "alpaca", "sharegpt", "messages", "prompt_completion", "preference", "text", "labelled"]
Encoding = Literal["auto", "utf-8", "utf-16", "gb18030"]
FieldName = Literal[
    "instruction", "input", "output", "system", "history", "tools", "conversations", "messages", "role", "content",
    "prompt", "completion", "chosen", "rejected", "text", "label", "task", "lang", "split", "weight", "id",
]  # fmt: skip
Action = Literal["remove", "flag", "quarantine"]


class Source(Strict):
    """One source of rows: files (`path`, globs allowed), a hub or local data set, or a packaged asset."""

    name: str = Field("", description="stands in every row; default: the path's last part without suffixes")
    path: str | None = neutral(None, description="file, glob, or asset:<name> (see `winnow config --schema`)")
    dataset: str | None = neutral(None, description="hub name or folder for datasets.load_dataset")
    subset: str | None = Field(None, description="configuration of the data set")
    dataset_split: str = Field("train", description="which split of the data set to read")
    revision: str | None = Field(None, description="revision of the data set on the hub")
    format: Format = Field("auto", description="record shape; auto looks at the first records")
    encoding: Encoding = Field("auto", description="auto: by byte-order mark, else by what the bytes are valid as")
    fields: dict[FieldName, str] = Field(
        default_factory=dict,
        description="our field → the record's, e.g. {prompt: question, completion: answer, label: class}",
    )
    task: str | None = Field(None, description="task of every row that names none")
    lang: str | None = Field(None, description="language of every row that names none (ISO 639-1)")
    split: str | None = Field(
        None,
        pattern=r"^(train|validation|test|test:[\w.-]+)$",
        description="put every row of this source into this split",
    )

    @model_validator(mode="after")
    def _one_place(self) -> "Source":
        if self.path is not None and self.dataset is not None:
            raise ValueError("a source has a path or a dataset, and both are given; leave one out")
        if self.path is None and self.dataset is None:
            raise ValueError("a source needs a path (files) or a dataset (hub name or folder)")
        return self


class Ingest(DataSection):
    """Any source into one row schema, losslessly."""

    sources: list[Source] = Field(min_length=1)
    max_record_mb: float = Field(32.0, gt=0, description="a longer record is quarantined")

    @model_validator(mode="after")
    def _named(self) -> "Ingest":
        named = [_with_name(source) for source in self.sources]
        names = [source.name for source in named]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two sources are named {twice[0]!r}; give each its own name")
        object.__setattr__(self, "sources", named)
        return self


def _with_name(source: Source) -> Source:
    if source.name:
        return source
    place = source.path or source.dataset or ""
    last = place.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1].removeprefix("asset:")
    name = last.split(".", 1)[0] if source.path else last
    return source.model_copy(update={"name": name.strip("*?[]") or "source"})


class Pii(Strict):
    """What to do with each kind of personal data."""

    email: Literal["redact", "remove", "keep"] = "redact"
    phone: Literal["redact", "remove", "keep"] = "redact"
    ip: Literal["redact", "remove", "keep"] = "redact"
    url_credentials: Literal["redact", "remove", "keep"] = "redact"
    bank_card: Literal["redact", "remove", "keep"] = "redact"
    identity_number: Literal["redact", "remove", "keep"] = "redact"
    secret: Literal["redact", "remove", "keep"] = "redact"
    allow: list[str] = Field(default_factory=list, description="exact values that stay, such as a support address")


class Clean(DataSection):
    """Repairs text and redacts personal data; every edit is in the edit ledger."""

    mojibake: bool = Field(True, description="repair wrongly decoded text (ftfy)")
    unicode: Literal["NFC", "NFKC", "keep"] = "NFC"
    markup: Literal["strip", "keep"] = Field("strip", description="HTML tags and entities, outside code")
    whitespace: bool = Field(True, description="line ends, trailing space, runs of blank lines; indentation stays")
    control: bool = Field(True, description="control and zero-width characters out")
    pii: Pii = Field(default_factory=Pii)


class Semantic(Strict):
    """Near-duplicates in meaning: sentence embeddings."""

    threshold: float = Field(0.95, gt=0, le=1, description="cosine that prompt and answer each (or the text) reach")
    encoder: str = neutral("asset:all-minilm-l6-v2", description="sentence encoder: folder, hub name or asset")
    max_length: int = Field(128, ge=8, description="tokens that the encoder reads at once; longer texts in pieces")
    batch_size: int = neutral(64, ge=1)


class Dedupe(DataSection):
    """Exact, then near-duplicates, each removal verified against a row that is kept."""

    gate: DedupeGate = neutral(default_factory=DedupeGate, description="bounds on what this stage leaves")
    exact: bool = True
    near: bool = True
    unit: Literal["auto", "pair", "whole", "prompt", "answer"] = Field(
        "auto", description="what must resemble; auto: pair (prompt and answer each) for conversations, whole for text"
    )
    threshold: float = Field(0.85, gt=0, le=1, description="Jaccard of shingles, conversations")
    text_threshold: float = Field(0.7, gt=0, le=1, description="Jaccard of shingles, raw text")
    shingle: int = Field(5, ge=1, le=32, description="tokens in a shingle")
    num_perm: int = Field(128, ge=16, le=1024, description="hash permutations in a signature")
    bands: int | None = Field(None, ge=1, description="LSH bands; default: chosen for the wanted recall")
    recall: float = Field(0.999, gt=0, lt=1, description="share of pairs at the threshold that the bands must find")
    conflicting_answer: Literal["keep", "report", "quarantine"] = Field(
        "report", description="rows with the same prompt and another answer"
    )
    priority: (
        Literal["source_order", "longest", "source_priority"] | Annotated[str, Field(pattern=r"^meta(\.[^.'\[\]]+)+$")]
    ) = Field(
        "source_order",
        description="which row of two is kept (one of a given test or validation split before any); meta.score: "
        "the one with the larger number in that field of its record, rows without one last",
    )
    semantic: Semantic | None = Field(None, description="rows that say the same in other words go as well")
    against: list[str] = neutral(
        default_factory=list,
        description="runs or dedupe artifacts whose kept rows stand before this run's: run ids, keys, or folders "
        "relative to the data folder",
    )
    index: bool = Field(True, description="leave what a later run needs to name this one in `against`")


class English(Strict):
    """The linear English toxicity model."""

    threshold: float = Field(0.95, ge=0, le=1, description="probability from which a turn is harmful")
    action: Action = "remove"


class Chinese(Strict):
    """The Chinese word list, on segmented text."""

    min_word_length: int = scoring(2, ge=1, description="characters; single ones flag mostly harmless text")
    allow: list[str] = scoring(default_factory=list, description="listed words that do not count")
    threshold: float = Field(1.0, ge=1, description="listed words in a turn from which it is harmful")
    action: Action = "flag"


class Category(Strict):
    """What to do about one label of a model."""

    threshold: float = Field(0.5, ge=0, le=1, description="probability from which a turn is harmful")
    action: Action = "remove"


class ToxicityModel(Strict):
    """A text-classification model as a further judge, such as one of detoxify's."""

    model: str = neutral(description="folder or hub name")
    categories: dict[str, Category] = Field(
        min_length=1, description="the model's label → threshold and action; other labels are only scored"
    )
    languages: list[Annotated[str, Field(pattern=r"^[a-z]{2,3}$")]] = scoring(
        default_factory=list, description="turns in these languages are read (empty: all)"
    )
    max_length: int = scoring(256, ge=8, description="tokens of a turn that the model reads")
    batch_size: int = scoring(16, ge=1, description="turns at once; may move a score in its last digit")


class Toxicity(DataSection):
    """Harmful rows flagged or out, English and Chinese."""

    judge: Literal["assistant", "all"] = scoring("assistant", description="which turns are judged")
    english: English | None = Field(default_factory=English)
    chinese: Chinese | None = Field(default_factory=Chinese)
    model: ToxicityModel | None = Field(None, description="a text-classification model, beside the two or instead")


class ModelScore(Strict):
    """A score that a model gives every row; without min and max it is only written down."""

    max_length: int = scoring(512, ge=8, description="tokens of a row that the model reads")
    batch_size: int = scoring(8, ge=1, description="rows at once; may move a score in its last digit")
    min: float | None = Field(None, description="rows with less go")
    max: float | None = Field(None, description="rows with more go")


class Perplexity(ModelScore):
    """How surprising a row's text is to a language model."""

    model: str | None = neutral(None, description="causal language model (default: the run's)")


class Difficulty(ModelScore):
    """Perplexity of an answer behind its prompt, by that of the answer alone (IFD)."""

    model: str | None = neutral(None, description="causal language model (default: the run's)")


class Classifier(ModelScore):
    """The probability of a label, by a text-classification model."""

    model: str = neutral(description="folder or hub name")
    label: str | None = scoring(None, description="one of the model's labels (default: its last)")


class Quality(DataSection):
    """Low-quality rows out."""

    rules: list[str] = scoring(
        default_factory=lambda: ["instruct"],
        description="rule sets, in order: instruct for conversations; gopher, c4, fineweb for web text",
    )
    perplexity: Perplexity | None = Field(None, description="score by a language model; {max: 500} removes")
    difficulty: Difficulty | None = Field(None, description="how much a prompt helps its answer; {max: 1} removes")
    classifier: Classifier | None = Field(None, description="score by your own model: {model: path, min: 0.5}")
    thresholds: dict[str, float] = Field(
        default_factory=dict, description="rule → threshold, in place of the rule set's own"
    )
    disable: list[str] = Field(default_factory=list, description="rules not to apply")
    languages: list[Annotated[str, Field(pattern=r"^[a-z]{2,3}$")]] = Field(
        default_factory=list, description="ISO 639-1 codes to keep, such as en or zh (empty: all)"
    )
    min_language_score: float = Field(0.5, ge=0, le=1, description="below this the language counts as unknown")

    def models(self, base: str) -> dict[str, tuple[str, Literal["causal", "classifier"]]]:
        """Each score that is on → the model that gives it (the run's where none is named), and what it must be."""
        found: dict[str, tuple[str, Literal["causal", "classifier"]]] = {}
        if self.perplexity is not None:
            found["perplexity"] = (self.perplexity.model or base, "causal")
        if self.difficulty is not None:
            found["difficulty"] = (self.difficulty.model or base, "causal")
        if self.classifier is not None:
            found["classifier"] = (self.classifier.model, "classifier")
        return found


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
    batch_size: int = neutral(64, ge=1)

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

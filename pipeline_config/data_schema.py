"""The sections of the stages that make rows good, `ingest` to `quality`, and every default they have."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from pipeline_config.fields import Strict, neutral, scoring
from pipeline_config.gate_schema import DataSection, DedupeGate

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
    batch_size: int = neutral(64, ge=2, description="texts at once")


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

"""The whole configuration: one section a stage, checked across sections.

A stage's own fields and defaults stand in `data_schema.py`, `sets_schema.py` and `model_schema.py`; nowhere else.
"""

from difflib import get_close_matches

from pydantic import Field, model_validator

from pipeline_config.data_schema import Clean, Dedupe, Ingest, Quality, Toxicity
from pipeline_config.fields import Section, Strict
from pipeline_config.model_schema import Compress, Distill, Evaluate, Report, Train
from pipeline_config.sets_schema import Augment, Balance, Select, Split, Tokenize

DATA_STAGES = (
    "ingest",
    "clean",
    "dedupe",
    "toxicity",
    "quality",
    "select",
    "split",
    "balance",
    "augment",
    "tokenize",
)
MODEL_STAGES = ("train", "distill", "compress", "evaluate", "report")
STAGES = DATA_STAGES + MODEL_STAGES
TEXT_STAGES = ("ingest", "clean", "augment", "tokenize")


class Config(Strict):
    """A run, from its sources to its report."""

    model: str = Field("asset:smollm2-135m-instruct", description="base model: folder, hub name, or asset:<name>")
    seed: int = Field(0, ge=0, le=2**32 - 1)
    ingest: Ingest
    clean: Clean | None = None
    dedupe: Dedupe | None = None
    toxicity: Toxicity | None = None
    quality: Quality | None = None
    select: Select | None = None
    split: Split | None = None
    balance: Balance | None = None
    augment: Augment | None = None
    tokenize: Tokenize | None = None
    train: Train | None = None
    distill: Distill | None = None
    compress: Compress | None = None
    evaluate: Evaluate | None = None
    report: Report | None = None

    def section(self, stage: str) -> Section | None:
        """The section of a stage, or None where it is skipped."""
        section: Section | None = getattr(self, stage)
        return section

    def stage_seed(self, stage: str) -> int:
        """The stage's own seed, else the run's."""
        section = self.section(stage)
        return self.seed if section is None or section.seed is None else section.seed

    @model_validator(mode="after")
    def _cross_checks(self) -> "Config":
        if self.train and not self.tokenize:
            raise ValueError("train needs tokenize; add `tokenize: {}`")
        if self.train and self.train.early_stopping and not self._has_validation():
            raise ValueError(
                "train.early_stopping needs a validation split; set split.validation above 0 "
                "or give a source `split: validation`"
            )
        for stage in ("distill", "compress"):
            if self.section(stage) and not self.train:
                raise ValueError(f"{stage} needs train; add `train: {{}}`")
        self._check_source_names()
        self._check_model_names()
        return self

    def _check_model_names(self) -> None:
        """What an export is made from must be there, and have another name."""
        students = self.distill.students if self.distill else {}
        for name, export in (self.compress.exports if self.compress else {}).items():
            known = ["train", *students]
            if export.from_ not in known:
                there = ", ".join(known)
                raise ValueError(f"compress.{name}.from: no model is named {export.from_!r}; there are: {there}")
            if name in students:
                raise ValueError(f"compress.{name}: a student has this name; give the export its own")

    def _check_source_names(self) -> None:
        """Wherever a section names sources, they must be there: a mistyped one would quietly match no row."""
        test_sets = self.split.test if self.split and isinstance(self.split.test, dict) else {}
        named = {f"split.test.{name}.sources": test_set.sources for name, test_set in test_sets.items()}
        named["select.sources"] = self.select.sources if self.select else []
        named["augment.sources"] = self.augment.sources if self.augment else []
        for stage in DATA_STAGES:
            section = self.section(stage)
            named[f"{stage}.gate.sources"] = [] if section is None else list(getattr(section.gate, "sources", ()))
        known = [source.name for source in self.ingest.sources]
        for place, sources in named.items():
            for source in sources:
                if source not in known:
                    close = get_close_matches(source, known, n=1, cutoff=0.5)
                    hint = f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(known)}"
                    raise ValueError(f"{place}: no source is named {source!r}; {hint}")

    def _has_validation(self) -> bool:
        given = any(source.split == "validation" for source in self.ingest.sources)
        return given or bool(self.split and (self.split.validation > 0 or self.split.held_fold is not None))

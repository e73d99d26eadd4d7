"""The one exception tree. Each error says where, what was found, and what to do.

WinnowError
├── ConfigError      the YAML, an override or an argument          exit 2
├── SourceError      a source that is missing or unreadable        exit 2
├── ModelError       a model folder or name that can't be used     exit 2
├── DataError        the data of a stage can't be worked on        exit 1
├── StageError       a stage failed                                exit 1
├── GateError        a data-quality gate stopped the run           exit 1
└── ArtifactError    an artifact could not be written or read      exit 1
"""

from typing import ClassVar


class WinnowError(Exception):
    """A failure that a user can act on.

    Args:
        message: what is wrong, with the value that is wrong.
        place: where (file and line, config key, stage, row id).
        cure: what to type or change next.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, place: str = "", cure: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.place = place
        self.cure = cure

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.message, self.place, self.cure))

    def __str__(self) -> str:
        head = f"{self.place}: {self.message}" if self.place else self.message
        return f"{head}\n  {self.cure}" if self.cure else head

    def to_dict(self) -> dict[str, str]:
        """The error as `--json` prints it."""
        return {
            "type": type(self).__name__,
            "message": self.message,
            "place": self.place,
            "cure": self.cure,
        }


def _rebuild(kind: type[WinnowError], message: str, place: str, cure: str) -> WinnowError:
    return kind(message, place=place, cure=cure)


class ConfigError(WinnowError):
    """The configuration, an override or a command-line argument is wrong."""

    exit_code = 2


class SourceError(WinnowError):
    """A source is missing, unreadable, or in no format that we know."""

    exit_code = 2


class ModelError(WinnowError):
    """A model folder or name can't be used for what was asked."""

    exit_code = 2


class DataError(WinnowError):
    """The rows that reach a stage can't be worked on."""


class StageError(WinnowError):
    """A stage failed."""


class GateError(WinnowError):
    """A data-quality gate stopped the run."""


class ArtifactError(WinnowError):
    """An artifact could not be written, or is not what its manifest says."""

"""Arguments and options that commands share, in the words of `--help`."""

from typing import Annotated

import typer

Config = Annotated[
    str | None, typer.Argument(metavar="CONFIG", help="recipe name, or path of a YAML file", show_default="demo")
]
Sets = Annotated[list[str] | None, typer.Option("--set", metavar="A.B=V", help="override a configuration value")]
From = Annotated[str | None, typer.Option("--from", metavar="STAGE", help="take all above this stage from the cache")]
Until = Annotated[str | None, typer.Option("--until", metavar="STAGE", help="stop after this stage")]
Only = Annotated[str | None, typer.Option("--only", metavar="STAGE", help="this stage alone")]
Force = Annotated[list[str] | None, typer.Option("--force", metavar="STAGE", help="run it although it is cached")]
Verify = Annotated[bool, typer.Option("--verify", help="read cached artifacts in full before believing them")]
DataDir = Annotated[str | None, typer.Option("--data-dir", metavar="DIR", help="default: $WINNOW_DATA, else ./data")]
Json = Annotated[bool, typer.Option("--json", help="one JSON document on standard output")]
Keep = Annotated[
    int,
    typer.Option("--keep", min=1, metavar="N", help="the newest N runs keep all they use; so does the newest done one"),
]
RunId = Annotated[str | None, typer.Argument(metavar="RUN", help="run id or a prefix of it", show_default="the latest")]
AnyRun = Annotated[str | None, typer.Argument(metavar="RUN", help="run id or a prefix of it", show_default="all runs")]
Unfinished = Annotated[
    str | None,
    typer.Argument(metavar="RUN", help="run id or a prefix of it", show_default="the latest that did not finish"),
]
RunA = Annotated[
    str, typer.Argument(metavar="A", help="run id or a prefix of it; latest, latest~1 (the one before), …")
]
RunB = Annotated[str, typer.Argument(metavar="B", help="the run to compare it with")]
RowId = Annotated[
    str | None, typer.Argument(metavar="ROW_ID", help="row id, 16 hex digits, or its beginning", show_default=False)
]

"""A packaged GGUF model turned once into an ordinary model folder, so that everything else knows one format.

The quantised weights are dequantised to float32. That is exact: the same numbers that a GGUF runtime computes with,
scale times integer plus minimum; bfloat16 would halve the 538 MB, and round every weight. The folder's name holds a
digest of the packaged file and of this conversion's version, and its contents are checked by digest before use.
"""

import contextlib
import fcntl
import functools
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline_config.errors import ArtifactError
from tasks.kernels.digests import FileDigests, canonical_json, json_digest, sha256_file
from tasks.kernels.durable import sync
from tasks.kernels.progress import track
from tasks.kernels.quiet import quiet

VERSION = 1  # raise it when the same GGUF file would give another folder
_RECORD = "conversion.json"


def converted_digest(gguf: Path, digests: FileDigests) -> str:
    """What the converted folder depends on: the packaged file's content and this conversion's version."""
    return json_digest([VERSION, digests.of(gguf)])


def converted_folder(gguf: Path, slug: str, data_dir: Path) -> Path:
    """The model folder of a GGUF file; converted on first use, by one process at a time.

    Args:
        gguf: the packaged file.
        slug: what its folder is called, `<data_dir>/models/<slug>-<digest8>`.
        data_dir: where artifacts and models are.

    Raises:
        ArtifactError: it can't be read or written (disk full, no permission, a library that is missing).
    """
    digests = FileDigests(data_dir)
    digest = converted_digest(gguf, digests)
    folder = data_dir / "models" / f"{slug}-{digest[:8]}"
    try:
        if not _intact(folder, digests):
            folder.parent.mkdir(parents=True, exist_ok=True)
            with _locked(folder.with_name(f".{folder.name}.lock")):
                if not _intact(folder, digests):  # another process may have converted it meanwhile
                    _convert(gguf, folder)
        digests.save()
    except Exception as error:  # OSError, and what safetensors makes of a full disk
        message = f"{gguf.name} can't be converted to {folder} ({type(error).__name__}: {error})"
        raise ArtifactError(message, place="model", cure="free 600 MB there, or set --data-dir") from error
    return folder


def _convert(gguf: Path, folder: Path) -> None:
    """Write beside the folder, then rename: a killed conversion leaves nothing that looks complete."""
    temporary = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)  # a killed conversion's; the lock is ours
    temporary.mkdir()
    try:
        _write_model(gguf, temporary)
        files = sorted(path for path in temporary.iterdir())
        for path in files:
            path.chmod(0o644)
        record = {path.name: sha256_file(path) for path in files}
        (temporary / _RECORD).write_text(canonical_json(record))
        for path in [*files, temporary / _RECORD, temporary]:
            sync(path)
        if folder.exists():  # damaged
            shutil.rmtree(folder)
        temporary.rename(folder)
        sync(folder.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write_model(gguf: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    given: dict[str, Any] = {"gguf_file": gguf.name, "trust_remote_code": False, "local_files_only": True}
    with quiet(), _our_progress_bar(), _read_once():
        tokenizer = AutoTokenizer.from_pretrained(str(gguf.parent), **given)
        dequantised = GgufConfig(dequantize=True)
        model = AutoModelForCausalLM.from_pretrained(
            str(gguf.parent), quantization_config=dequantised, dtype=torch.float32, **given
        )
        tokenizer.model_max_length = model.config.max_position_embeddings  # the file has none; unset means no limit
        model.save_pretrained(folder, safe_serialization=True)
        tokenizer.save_pretrained(folder)


@contextlib.contextmanager
def _our_progress_bar() -> Iterator[None]:
    """The GGUF reader draws a bar that no setting turns off; ours is silent where there is no terminal."""
    from transformers import modeling_gguf_pytorch_utils as reader

    theirs = reader.tqdm
    reader.tqdm = lambda tensors, **_: track(tensors, "converting the model, once", len(tensors))
    try:
        yield
    finally:
        reader.tqdm = theirs


@contextlib.contextmanager
def _read_once() -> Iterator[None]:
    """transformers parses the file three times and makes the table of names for every module: once is half the time.

    The reader slices a memory map a million times, and each slice is made a memory map again; a plain view is not.
    """
    import gguf
    import numpy as np

    class Reader(gguf.GGUFReader):  # type: ignore[misc]
        def __setattr__(self, name: str, value: Any) -> None:
            super().__setattr__(name, np.asarray(value) if name == "data" else value)

    theirs = gguf.GGUFReader, gguf.get_tensor_name_map
    gguf.GGUFReader, gguf.get_tensor_name_map = functools.cache(Reader), functools.cache(theirs[1])
    try:
        yield
    finally:
        gguf.GGUFReader, gguf.get_tensor_name_map = theirs


def _intact(folder: Path, digests: FileDigests) -> bool:
    try:
        record = json.loads((folder / _RECORD).read_text())
        return bool(record) and all(digests.of(folder / name) == value for name, value in record.items())
    except (OSError, ValueError, AttributeError):
        return False


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield

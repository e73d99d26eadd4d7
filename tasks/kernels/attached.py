"""Models with something attached that can't be merged into their weights: bottleneck adapters, a prefix, a prompt.

    <folder>/            the base model, complete; its config.json says `model_type: winnow_attached`
    <folder>/adapter/    what was learned: small, in float32

`from_pretrained` refuses such a folder by its model type, where it would otherwise give the untuned base in the tuned
model's name; `load_causal` puts both together. A prefix or prompt loads by peft alone too, over the base.
"""

import json
import shutil
from pathlib import Path
from typing import Any

from tasks.kernels.published import ADAPTER_FOLDER
from tasks.kernels.quiet import quiet

MODEL_TYPE = "winnow_attached"
_BASE_TYPE = "attached_to"


def is_attached(folder: Path) -> bool:
    """Whether a model folder holds a base and something attached to it."""
    path = folder / "config.json"
    return path.is_file() and json.loads(path.read_text("utf-8")).get("model_type") == MODEL_TYPE


def seal(folder: Path, adapter: Path) -> None:
    """Make a folder with a whole base model one with something attached to it.

    Args:
        adapter: folder with what was learned; it is copied.
    """
    config = json.loads((folder / "config.json").read_text("utf-8"))
    config |= {_BASE_TYPE: config["model_type"], "model_type": MODEL_TYPE}
    (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    shutil.copytree(adapter, folder / ADAPTER_FOLDER)


def configuration(folder: Path) -> Any:
    """The configuration of a model, of the base where something is attached."""
    from transformers import AutoConfig

    if not is_attached(folder):
        return AutoConfig.from_pretrained(folder, trust_remote_code=False)
    values = json.loads((folder / "config.json").read_text("utf-8"))
    kind = values.pop(_BASE_TYPE)
    return AutoConfig.for_model(kind, **{name: value for name, value in values.items() if name != "model_type"})


def attach(model: Any, adapter: Path) -> Any:
    """A base model with what was learned on it, in the base's number format."""
    from tasks.kernels import bottleneck

    if (adapter / bottleneck.SETTINGS).is_file():
        return bottleneck.load(model, adapter)
    from peft import PeftModel

    with quiet():
        return PeftModel.from_pretrained(model, adapter).to(model.dtype).eval()


def is_prompted(model: Any) -> bool:
    """Whether virtual tokens or a prefix stand before whatever a model reads; examples packed into a row can't."""
    return bool(getattr(getattr(model, "active_peft_config", None), "is_prompt_learning", False))


def has_prompt(model: Any) -> bool:
    """Whether virtual tokens stand among a model's inputs (a prefix stands in its layers)."""
    return is_prompted(model) and model.active_peft_config.peft_type == "PROMPT_TUNING"

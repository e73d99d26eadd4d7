"""Which number format to compute in: bfloat16 where the hardware multiplies it faster, float32 elsewhere.

bfloat16 is twice to three times as fast on processors with AVX512-BF16 or AMX and on recent GPUs, and slower than
float32 where it has to be emulated. Weights that are trained stay in float32; only products are computed in it.
"""

from typing import Literal

from pipeline_config.errors import ConfigError

Precision = Literal["auto", "bf16", "fp16", "fp32"]
Dtype = Literal["float32", "bfloat16", "float16"]
_NAMES: dict[str, Dtype] = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}


def resolve_dtype(precision: Precision, *, place: str = "precision") -> Dtype:
    """The number format of a precision setting on this machine, by torch's name.

    Args:
        place: the configuration key, for the error.

    Raises:
        ConfigError: fp16 without a GPU (its small range needs loss scaling, and processors gain nothing from it).
    """
    import torch

    if precision == "fp16" and not torch.cuda.is_available():
        raise ConfigError("fp16 needs a GPU", place=place, cure="use bf16, fp32 or auto")
    if precision != "auto":
        return _NAMES[precision]
    return "bfloat16" if _fast_bfloat16() else "float32"


def _fast_bfloat16() -> bool:
    import torch

    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    found = torch.cpu.get_capabilities()
    return bool(found.get("avx512_bf16") or found.get("amx_bf16") or found.get("bf16"))

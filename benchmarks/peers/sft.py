"""TRL's SFTTrainer and the plain HF Trainer on rows that are tokens already.

    python sft.py MODEL ROWS ANSWER VARIANT STEPS

ROWS: JSON, a list of `{input_ids, labels}`. The first step is not timed. Written to ANSWER: seconds and real tokens
(padding not counted) of the steps after it, seconds from the start of the process to the first step, peak memory.
Knows nothing of this project, so that the peers' environment can run it.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

STARTED = time.perf_counter()


def main() -> None:
    """Train as the variant says, with a clock around each step."""
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback

    folder, rows, answer, variant, steps = sys.argv[1:6]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)  # bf16 is by autocast, as with ours
    data = Dataset.from_list(json.loads(Path(rows).read_text()))
    seen: dict[str, Any] = {"seconds": [], "tokens": [], "first": 0.0}

    class Clock(TrainerCallback):  # type: ignore[misc]
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            self.started = time.perf_counter()
            seen["first"] = seen["first"] or self.started - STARTED

        def on_step_end(self, *_: Any, **__: Any) -> None:
            seen["seconds"].append(time.perf_counter() - self.started)

    trainer = _trainer(variant, model, tokenizer, data, int(steps) + 1, answer)
    trainer.add_callback(Clock())
    plain = trainer.training_step

    def counted(model: Any, inputs: Any, *more: Any) -> Any:
        mask = inputs.get("attention_mask")
        seen["tokens"].append(int(inputs["input_ids"].numel() if mask is None else mask.sum()))
        return plain(model, inputs, *more)

    trainer.training_step = counted
    trainer.train()
    peak = next(
        int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")
    )
    found = {"seconds": sum(seen["seconds"][1:]), "tokens": sum(seen["tokens"][1:]), "first": seen["first"]}
    Path(answer).write_text(json.dumps(found | {"peak_gb": peak * 1024 / 1e9}))


def _trainer(variant: str, model: Any, tokenizer: Any, data: Any, steps: int, answer: str) -> Any:
    common = {
        "output_dir": answer + ".d",
        "max_steps": steps,
        "use_cpu": True,
        "bf16": True,
        "report_to": "none",
        "save_strategy": "no",
        "disable_tqdm": True,
        "logging_strategy": "no",
        "dataloader_pin_memory": False,
    }
    if variant == "hf":
        from transformers import DataCollatorForSeq2Seq, Trainer, TrainingArguments

        collator = DataCollatorForSeq2Seq(tokenizer, padding=True)
        return Trainer(model, TrainingArguments(**common), train_dataset=data, data_collator=collator)
    from trl import SFTConfig, SFTTrainer

    more: dict[str, Any] = {"defaults": {}, "no_checkpointing": {"gradient_checkpointing": False}}.get(variant) or {}
    if variant == "tuned":
        more = {"gradient_checkpointing": False, "packing": True, "per_device_train_batch_size": 4}
    settings = SFTConfig(**common, **more, max_length=512)
    return SFTTrainer(model, args=settings, train_dataset=data, processing_class=tokenizer)


if __name__ == "__main__":
    main()

"""The batches that TRL's SFTTrainer learns from, given a file of `winnow export --stage tokenize --format trl`.

Usage: trl_tokens.py MODEL FILE. Prints one JSON line a row: `input_ids` and `labels` as they reach the model, padding
taken off, in the order in which they are learned.
"""

import json
import sys
import tempfile

from datasets import load_dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer


def main(folder: str, file: str) -> None:
    rows = load_dataset("parquet" if file.endswith(".parquet") else "json", data_files=file, split="train")
    with tempfile.TemporaryDirectory() as work:
        settings = SFTConfig(
            output_dir=work, max_length=None, per_device_train_batch_size=8, use_cpu=True, bf16=False, report_to="none"
        )
        trainer = SFTTrainer(
            model=AutoModelForCausalLM.from_pretrained(folder),
            args=settings,
            train_dataset=rows,
            processing_class=AutoTokenizer.from_pretrained(folder),
        )
        for batch in trainer.get_train_dataloader():
            lengths = batch["attention_mask"].sum(1).tolist()
            for ids, labels, length in zip(batch["input_ids"].tolist(), batch["labels"].tolist(), lengths, strict=True):
                assert all(label == -100 for label in labels[length:])
                print(json.dumps({"input_ids": ids[:length], "labels": labels[:length]}))


main(*sys.argv[1:])

"""Words that a masked language model would put in a word's place (contextual augmentation, Kobayashi 2018).

The model is the user's own, a folder or a hub name. One word at a time is masked within its run, and one of the words
that the model finds likeliest there takes its place; the next is masked in what came out. nlpaug has this too, over
interfaces of transformers that are gone.
"""

import random
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from pipeline_config.errors import ModelError
from tasks.augment.protect import Script
from tasks.kernels.models import load_float32, load_tokenizer, model_folder

_LIKELIEST = 8  # words to draw from
_LOOKED_AT = 40  # tokens among which those words are looked for


class Masked:
    """Replaces words by what a masked model expects in their place.

    Args:
        model: folder or hub name of a model that fills masks.
        data_dir: where converted models are.
    """

    name = "contextual"
    script: Script = "spaced"
    languages: Sequence[str] = ()
    least = 3  # words: fewer are no context

    def __init__(self, model: str, data_dir: Path) -> None:
        self._folder = model_folder(model, data_dir)

    def words(self, run: str) -> list[str]:
        return run.split(" ")

    def vary(self, run: str, changes: int, draw: random.Random) -> str:
        words = self.words(run)
        for place in sorted(draw.sample(range(len(words)), min(changes, len(words)))):
            expected = [word for word in self._expected(words, place) if word != words[place]]
            if expected:
                words[place] = draw.choice(expected[:_LIKELIEST])
        return " ".join(words)

    def _expected(self, words: list[str], place: int) -> list[str]:
        """Whole words of small letters for a place, the likeliest first."""
        import torch

        tokenizer, model = self._loaded
        masked = " ".join([*words[:place], tokenizer.mask_token, *words[place + 1 :]])
        batch = tokenizer(masked, return_tensors="pt", truncation=True)
        at = (batch["input_ids"][0] == tokenizer.mask_token_id).nonzero()
        if not len(at):
            return []  # cut off: the run is longer than the model reads
        with torch.inference_mode():
            logits = model(**batch).logits[0, int(at[0, 0])]  # (vocabulary,)
        ids = (-logits.double().round(decimals=3)).sort(stable=True).indices[:_LOOKED_AT].tolist()
        pieces = tokenizer.convert_ids_to_tokens(ids)
        alone = [(piece, tokenizer.decode([token]).strip()) for piece, token in zip(pieces, ids, strict=True)]
        return [word for piece, word in alone if word.isalpha() and word.islower() and not piece.startswith("##")]

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        """The tokenizer and the model, in float32."""
        tokenizer = load_tokenizer(self._folder)
        if tokenizer.mask_token is None:
            raise ModelError(
                f"the tokenizer in {self._folder} has no mask token",
                place="augment.masked_model",
                cure="give a model that fills masks, such as a BERT",
            )
        return tokenizer, load_float32(self._folder, "masked model", "AutoModelForMaskedLM")

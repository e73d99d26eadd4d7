"""Sentence embeddings: unit vectors that depend on the text alone, not on its neighbours."""

import json

import numpy as np
import pytest

from pipeline_config.errors import ModelError
from tasks.kernels.assets import ASSETS, asset_file
from tasks.kernels.encoder import _pools_first, embed

MINILM = "asset:all-minilm-l6-v2"
TEXTS = [
    "How do I sort a list in Python?",
    "",
    "Sorting a Python list",
    "今天天气很好",
    "The cat sat on the mat. " * 20,
    "How do I sort a list in Python?",
    "a",
]


def vectors(texts, tmp_path, **given):
    return embed(texts, MINILM, tmp_path, **{"max_length": 48, "batch_size": 3, "label": "test", **given})


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return vectors(TEXTS, tmp_path_factory.mktemp("data"))


def test_vectors_have_length_one_and_stand_in_the_order_of_the_texts(found):
    assert found.shape == (len(TEXTS), 384)
    assert found.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
    assert np.array_equal(found[0], found[5])
    assert found[0] @ found[2] > 0.7 > 0.4 > found[0] @ found[4]


@pytest.mark.parametrize("batch_size", [2, 64])
def test_neighbours_and_batches_do_not_matter_to_the_bit(found, tmp_path, batch_size):
    order = [4, 0, 3, 6, 1, 2, 5]
    assert np.array_equal(vectors([TEXTS[i] for i in order], tmp_path, batch_size=batch_size), found[order])


def test_a_text_alone_has_the_vector_it_has_among_others(tmp_path):
    among = [
        " ".join(["word", "list", "of", "numbers", "一二三"][: 1 + n % 5] * (1 + n % 11)) + f" {n}" for n in range(60)
    ]
    whole = vectors(among, tmp_path, batch_size=16)
    for chosen in ([0], [7, 41], list(range(5, 40, 3))):
        assert np.array_equal(vectors([among[n] for n in chosen], tmp_path, batch_size=16), whole[chosen])


def test_it_is_the_mean_over_tokens_as_the_model_card_says(found):
    import torch
    from transformers import AutoModel, AutoTokenizer

    folder = asset_file(ASSETS["all-minilm-l6-v2"]).parent
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder)
    for text, vector in zip(TEXTS, found, strict=True):
        with torch.inference_mode():
            hidden = model(**tokenizer(text, truncation=True, max_length=48, return_tensors="pt")).last_hidden_state
        mean = hidden[0].mean(dim=0).numpy()
        np.testing.assert_allclose(vector, mean / np.linalg.norm(mean), atol=1e-5)


def test_only_the_first_tokens_are_read(tmp_path):
    short, long = "one two three four", "one two three four five six"
    near = vectors([short, long], tmp_path, max_length=6)  # four words and two special tokens
    assert np.array_equal(near[0], near[1])
    whole = vectors([short, long], tmp_path, max_length=10_000)  # the encoder's own limit holds
    assert not np.array_equal(whole[0], whole[1])


def test_no_texts_give_no_vectors_and_nothing_is_printed(tmp_path, capfd):
    assert vectors([], tmp_path).shape == (0, 384)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("on", "first"), [(["pooling_mode_cls_token"], True), (["pooling_mode_mean_tokens"], False), ([], False)]
)
def test_pooling_is_as_the_folder_says(tmp_path, on, first):
    (tmp_path / "1_Pooling").mkdir()
    modes = {"word_embedding_dimension": 8, "pooling_mode_max_tokens": False, **dict.fromkeys(on, True)}
    (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps(modes))
    assert _pools_first(str(tmp_path)) is first


def test_another_pooling_is_refused(tmp_path):
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling" / "config.json").write_text('{"pooling_mode_max_tokens": true}')
    with pytest.raises(ModelError, match="pools by max_tokens"):
        _pools_first(str(tmp_path))

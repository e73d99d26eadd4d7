"""What refusals, disclaimers, leftovers and requests look like, in English and Chinese, as regular expressions.

They are Rust's (linear time, no look-around). Each is written to miss rather than to hit: a refusal must open the
answer and be most of it, a disclaimer must speak of itself, a request must name what is asked for.
"""


def _ascii_boundaries(pattern: str) -> str:
    r"""The pattern with `\b` between ASCII words only: the Unicode one takes the regex engine off its fast path."""
    return pattern.replace(r"\b", r"(?-u:\b)")


_APOSTROPHE = "['’]"
_SORRY = (
    rf"(?:(?:(?:i{_APOSTROPHE}?m|i am|we{_APOSTROPHE}re|we are)\s+)?(?:really |very |so |truly )?sorry"
    r"|i apologi[sz]e|(?:my )?apologies|unfortunately)"
)
_CANNOT = (
    rf"(?:(?:can(?:not|{_APOSTROPHE}t| not)|won{_APOSTROPHE}t|will not|do(?:n{_APOSTROPHE}t| not) have the ability to"
    rf"|(?:am|{_APOSTROPHE}m|are|{_APOSTROPHE}re) (?:not able|unable|not allowed|not permitted) to))"
)
_DEED = (
    r"(?:help|assist|comply|fulfill?|provide|complete|create|generate|write|discuss|engage|support|participate|process|"
    r"perform|access|browse|offer|continue|do (?:that|this|so)|answer|respond|give|share|recommend|tell you how)"
)
REFUSAL = _ascii_boundaries(
    rf"(?i)^\W*{_SORRY}[,;.:—-]*\s+(?:but |however,? )?(?:i|we)\s*{_CANNOT}\s+{_DEED}\b"
    rf"|^\W*(?:i|we)\s*{_CANNOT}\s+{_DEED}\b[^.!?\n]{{0,80}}?\b(?:that|this|your|such)\b"
    r"|^\W*(?:非常|很|十分|实在)?(?:抱歉|对不起|不好意思|遗憾)[，,。！! ]*(?:但是?|可是)?"
    r"(?:我|作为)[^。！？\n]{0,24}?(?:无法|不能|不会|没有办法|没办法|没有能力)"
    r"(?:帮|协助|提供|回答|完成|满足|处理|讨论|生成|执行|访问|给|写|为您|为你)"
    r"|^\W*我(?:无法|不能|没有办法|没办法)(?:帮助|协助|提供|回答|完成|满足|处理|讨论|生成|执行|访问)"
)
REFUSAL_WORDS = 80  # a longer answer goes on to say something

_MODEL = (
    r"(?:(?:large |artificial intelligence |ai |helpful |virtual |digital )*(?:language model|ai|assistant|chatbot))"
)
BOILERPLATE = _ascii_boundaries(
    rf"(?i)\bas an? {_MODEL}(?: (?:created|developed|trained|made) by [^,.\n]{{1,40}})?,? (?:i\b|my\b)"
    rf"|\bi(?:{_APOSTROPHE}m| am) (?:just|only|merely) an? (?:ai )?(?:ai|language model)\b"
    r"|\b(?:my|as of my) (?:last )?(?:knowledge|training)(?: data)? (?:cut-?off|update)"
    r"|作为一?[个名款位]?(?:由[^，。]{1,12}(?:开发|训练)的)?(?:大型|大)?(?:人工智能|AI|ai|语言模型|智能助手|聊天机器人)"
    r"|我只是一?[个名款]?(?:大型|大)?(?:人工智能|AI|ai|语言模型)"
)
HEAD_CHARS = 300  # of an answer, where refusals and disclaimers stand

TEMPLATE_MARKS = (
    r"<\|(?:im_start|im_end|endoftext|begin_of_text|end_of_text|eot_id|start_header_id|end_header_id|user|assistant|"
    r"system|end)\|>|\[/?INST\]|<</?SYS>>|<(?:start|end)_of_turn>|(?m)^###\s*(?:Instruction|Response|Input)\s*:\s*$"
)
TAG = (
    r"(?i)</?(?:a|p|br|hr|div|span|table|tr|td|th|tbody|thead|ul|ol|li|h[1-6]|em|strong|font|center|img|script|style|"
    r"meta|body|html|iframe|button|textarea|blockquote)(?:\s[^<>]{0,300})?/?>"
)
DAMAGE = (
    r"\x{FFFD}|ï¿½|锟斤拷|烫烫烫|屯屯屯"
    r"|[ÂÃ][\x{A0}-\x{BF}]|â€[\x{A0}-\x{BF}™œ“”˜¦]|[åæçèé][\x{80}-\x{BF}œ€™š]{2}"
)
CODE = r"(?s)```.*?(?:```|\z)|`[^`\n]+`"
FENCE = r"(?m)^\s*```"
TOKEN = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}]|[\w--[\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}]]+"
CUT_OFF = _ascii_boundaries(
    r"(?:[,，、]|[^\s:;=\-'] ?[(（\[【{]|以及|并且|因为|但是|\b(?:the|an?|of|and|or|which|because))\s*$"
)

ASKS_FOR_A_WORD = _ascii_boundaries(
    r"(?i)\b(?:what|which|who|whom|whose|where|when|how (?:many|much|old|far|long|tall|big|high|often|fast|deep))\b"
    r"|\b(?:one|single)[ -]word\b|\byes or no\b|\btrue or false\b|\b(?:classif|categori[sz]|label|sentiment)"
    r"|\b(?:choose|pick)\b"
    r"|\boptions?:|\bmultiple[ -]choice\b|\b(?:name|guess|identify) (?:the|an?|this|one)\b|(?m)^\s*\(?[A-D][).:]\s"
    r"|什么|哪|谁|多少|几[个年月日岁次]|何[时地人]|多[大长远高久快]|选择|分类|判断|是否|一个[词字]|对错|填空|情感"
)
ASKS_FOR_MARKUP = r"(?i)html|xml|svg|css|jsx|markup|web ?(?:page|site)|template|latex|tag|网页|网站|标签|页面|前端"
ASKING_CHARS = 600  # at the beginning and the end of a prompt, where it says what is asked for
ASKS_FOR_LANGUAGE = _ascii_boundaries(
    r"(?i)translat|\b(?:in|into|to) (?:english|chinese|mandarin|french|german|spanish|japanese|korean|russian|"
    r"italian|portuguese|arabic|hindi|dutch|turkish|latin)\b|\b(?:english|chinese|french|german|spanish|japanese)\b"
    r"|翻译|译[成为文]|英[文语译]|中[文译]|汉语|[日法德韩俄]语|[日法德韩俄]文|übersetz|tradu[izc]"
)

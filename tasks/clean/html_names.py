"""The element and entity names that count as left-over HTML, and what each element does to the line."""

from html.entities import name2codepoint

_PARAGRAPHS = "p h1 h2 h3 h4 h5 h6 table blockquote hr title"
_LINES = (
    "div br ul ol li dl dt dd tr thead tbody tfoot caption html head body center form pre noscript meta link article "
    "section header footer main nav aside address details summary figure figcaption fieldset legend"
)
_INLINE = (
    "span b i u em strong a font img sup sub small big tt strike del ins nobr wbr code iframe colgroup col kbd samp "
    "cite q mark abbr acronym label button option select textarea input time var"
)
_OFTEN_A_PROMPTS_OWN = (
    "title article section header footer main nav aside address details summary label button option select textarea "
    "input time var q mark code link meta form head body caption figure legend"
)
_OFTEN_A_VARIABLE = (
    "and or not sub sup int sum part prod prop cap cup ang empty exist forall image real lang rang isin ni nsub order "
    "ordf ordm perp there4 weierp alefsym oline frasl crarr"
)

# what an element's edges become: 3 an empty line, 2 a line end, 1 a tabulator (a cell), 0 nothing
BREAKS = {
    **dict.fromkeys(_PARAGRAPHS.split(), 3),
    **dict.fromkeys(_LINES.split(), 2),
    **dict.fromkeys(("td", "th"), 1),
    **dict.fromkeys(_INLINE.split(), 0),
}
# left whole where nothing else in the message is HTML: prompts and models use such names for sections of their own
AMBIGUOUS = frozenset(_OFTEN_A_PROMPTS_OWN.split())
STANDALONE = frozenset(("br", "hr", "img", "wbr", "input", "meta", "link", "col"))  # never closed
OPTIONAL_END = frozenset(("p", "li", "dt", "dd", "tr", "td", "th", "option"))  # closed or not
RAW = ("script", "style")  # go with their content

# `&sum;` is hardly ever meant as an entity outside a page
ENTITIES = (frozenset(name2codepoint) - frozenset(_OFTEN_A_VARIABLE.split())) | {"apos"}

"""A page as a browser would see it, for tests of HTML."""

from collections import Counter
from html.parser import HTMLParser


class Page(HTMLParser):
    """What a browser would see: elements, attributes, ids, text outside of style."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.elements: Counter[str] = Counter()
        self.attributes: list[tuple[str, str, str]] = []
        self.words = ""
        self._style = False
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements[tag] += 1
        self._style = tag == "style"
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.words += "" if self._style else data

    def handle_endtag(self, tag: str) -> None:
        self._style = False

    def values(self, name: str) -> list[str]:
        return [value for _, each, value in self.attributes if each == name]

"""Checks that built pages load nothing from elsewhere: no script, style, font, frame or picture by http."""

import re
import sys
from html.parser import HTMLParser
from pathlib import Path

LOADED = {"script": "src", "link": "href", "img": "src", "iframe": "src", "source": "src", "object": "data"}
NAMED = {"canonical", "next", "prev", "search", "index", "author", "alternate"}  # links that nothing is loaded for
ELSEWHERE = re.compile(r"(?:https?:)?//")


class _Page(HTMLParser):
    """Collects what a page loads."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "link" and given.get("rel") in NAMED:
            return
        address = given.get(LOADED.get(tag, ""))
        if address and ELSEWHERE.match(address):
            self.found.append(address)


def loaded_from_elsewhere(folder: Path) -> list[str]:
    """``page: address`` of everything that a page or a style sheet loads by http."""
    found = []
    for path in sorted(folder.rglob("*.html")):
        page = _Page()
        page.feed(path.read_text(encoding="utf-8"))
        found += [f"{path}: {address}" for address in page.found]
    for path in sorted(folder.rglob("*.css")):
        for address in re.findall(r"(?:url\(|@import)\s*['\"]?([^'\")\s]+)", path.read_text(encoding="utf-8")):
            if ELSEWHERE.match(address):
                found.append(f"{path}: {address}")
    return found


if __name__ == "__main__":
    addresses = loaded_from_elsewhere(Path(sys.argv[1]))
    sys.exit("\n".join(addresses) if addresses else 0)

"""Markdown that models and strangers wrote, as HTML that can do nothing. Pure functions.

Two walls: markdown-it with raw HTML off, so that tags are shown as text, and nh3, which keeps a
short list of elements and attributes only. Nothing of the text is loaded, run or hidden: pictures
become words, links need a click, and what cannot be set out safely is shown letter by letter.
"""

from __future__ import annotations

import re
from collections.abc import MutableMapping, Sequence
from html import escape
from typing import Any

import nh3
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.rules_block import StateBlock
from markdown_it.rules_inline import StateInline
from markdown_it.token import Token
from markdown_it.utils import OptionsDict
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_by_name
from pygments.util import ClassNotFound

from annotate.mathml import ATTRIBUTES as MATH_ATTRIBUTES
from annotate.mathml import LONGEST as LONGEST_FORMULA
from annotate.mathml import TAGS as MATH_TAGS
from annotate.mathml import allowed as math_allowed
from annotate.mathml import mathml, words

SHOWN_CHARS = 20_000  # of one text; the rest is there on demand, as exact text
DEEPEST = 40  # lists and quotes in each other; markdown-it drops what lies deeper
MOST_CELLS = 20_000  # of a table, which can hold far more than its text has characters
MOST_BRACKETS = 2_000  # the search for links takes the square of their number
FORMULA_CHARS = 4_000  # set as formulas in one text; 10 to 20 microseconds each
CODE_CHARS = 8_000  # coloured in one text
# Pygments takes the square of the length of a line, of blanks or of bare words in some languages.
TOO_LONG = re.compile(r"\s{80}|[^\n]{400}|[\w\s]{400}")
LANGUAGES = words(
    """bash c cpp c++ csharp css diff go haskell html ini java javascript js json kotlin lua python
    py r ruby rust rs scala sh shell sql swift tex toml typescript ts xml yaml yml"""
)
LINK = re.compile(r"(?:https?://|mailto:)[^\s]", re.IGNORECASE)
BIDI = re.compile("[\u202a-\u202e\u2066-\u2069]")
CODE_CLASS = re.compile(r"[a-z][a-z0-9]{0,2}")  # what pygments gives to a <span>
NUMBER = re.compile(r"\d{1,9}")
BLOCKS = words("paragraph_open heading_open list_item_open blockquote_open td_open th_open")
DELIMITERS = (("$$", "$$", True), ("$", "$", False), (r"\[", r"\]", True), (r"\(", r"\)", False))


def clean(text: str) -> str:
    """Valid Unicode without NUL: a lone surrogate cannot be sent at all."""
    return re.sub("[\x00\ud800-\udfff]", "\N{REPLACEMENT CHARACTER}", text)


def rendered(text: str) -> str:
    """HTML of the first SHOWN_CHARS characters."""
    text = clean(text[:SHOWN_CHARS])
    if _table_cells(text) > MOST_CELLS or text.count("[") > MOST_BRACKETS:
        return _letter_by_letter(text)
    env: dict[str, Any] = {"formulas": FORMULA_CHARS, "code": CODE_CHARS}
    tokens = MARKDOWN.parse(text, env)
    if max((token.level for token in tokens), default=0) >= DEEPEST - 1:
        return _letter_by_letter(text)
    return CLEANER.clean(MARKDOWN.renderer.render(tokens, MARKDOWN.options, env))


def _letter_by_letter(text: str) -> str:
    return f'<pre dir="auto">{_text(text)}</pre>'


def _text(text: str) -> str:
    """Escaped; controls of writing direction end where this piece of text ends."""
    return f"<bdi>{escape(text)}</bdi>" if BIDI.search(text) else escape(text)


def _table_cells(text: str) -> int:
    widths = [line.count("|") for line in text.split("\n")]
    return max(widths) * len(widths)


# --- markdown-it: formulas ------------------------------------------------------------------------


def _inline_formula(state: StateInline, silent: bool) -> bool:
    for opening, closing, display in DELIMITERS:
        if not state.src.startswith(opening, state.pos):
            continue
        start = state.pos + len(opening)
        end = state.src.find(closing, start, start + LONGEST_FORMULA)
        if end <= start or (opening == "$" and not _is_formula(state.src, start, end)):
            return False
        if not silent:
            _push(state, "formula", state.src[start:end], opening, closing, display)
        state.pos = end + len(closing)
        return True
    return False


def _is_formula(source: str, start: int, end: int) -> bool:
    """Between single dollars: no blank at either end and no digit outside, as in $5 and $10."""
    blank = source[start].isspace() or source[end - 1].isspace() or source[end - 1] == "\\"
    return not (blank or source[end + 1 : end + 2].isdigit())


def _block_formula(state: StateBlock, first: int, last: int, silent: bool) -> bool:
    """Lines from one that begins with $$ or \\[ to one that ends with $$ or \\]."""
    start = state.bMarks[first] + state.tShift[first]
    opening = state.src[start : start + 2]
    closing = {"$$": "$$", r"\[": r"\]"}.get(opening)
    if closing is None or state.is_code_block(first):
        return False
    lines: list[str] = []
    for line in range(first, last):
        begin = start + 2 if line == first else state.bMarks[line]
        lines.append(state.src[begin : state.eMarks[line]].rstrip())
        if closing in lines[-1]:
            break
        blank = line > first and not lines[-1].strip()
        if blank or state.eMarks[line] > start + LONGEST_FORMULA:
            return False
    if not lines or not lines[-1].endswith(closing) or lines[-1].count(closing) > 1:
        return False
    if silent:
        return True
    state.line = first + len(lines)
    token = _push(state, "formula", "\n".join(lines)[:-2], opening, closing, True)
    token.block, token.map = True, [first, state.line]
    return True


def _push(
    state: StateInline | StateBlock, kind: str, tex: str, opening: str, closing: str, display: bool
) -> Token:
    token = state.push(kind, "math", 0)
    token.content, token.markup = tex, opening + tex + closing
    token.meta = {"display": display}
    return token


# --- markdown-it: writing HTML --------------------------------------------------------------------


class _Writer(RendererHTML):
    """What markdown-it writes as plain HTML, in our words. `env` holds what may still be set."""

    def text(
        self, tokens: Sequence[Token], at: int, options: OptionsDict, env: MutableMapping[str, Any]
    ) -> str:
        return _text(tokens[at].content)

    def image(
        self, tokens: Sequence[Token], at: int, options: OptionsDict, env: MutableMapping[str, Any]
    ) -> str:
        """A picture from elsewhere would tell its host who reads this, and when."""
        words = self.renderInlineAsText(tokens[at].children or [], options, env)
        return _text(f"[image: {words}]")

    def code_inline(
        self, tokens: Sequence[Token], at: int, options: OptionsDict, env: MutableMapping[str, Any]
    ) -> str:
        return f"<code>{_text(tokens[at].content)}</code>"

    def code_block(
        self, tokens: Sequence[Token], at: int, options: OptionsDict, env: MutableMapping[str, Any]
    ) -> str:
        return f'<pre dir="ltr"><code>{_text(tokens[at].content)}</code></pre>\n'

    def fence(
        self, tokens: Sequence[Token], at: int, options: OptionsDict, env: MutableMapping[str, Any]
    ) -> str:
        language = tokens[at].info.strip().partition(" ")[0].lower()
        code = tokens[at].content
        env["code"] -= len(code)
        coloured = _coloured(code, language) if env["code"] >= 0 else None
        return f'<pre dir="ltr"><code>{coloured or _text(code)}</code></pre>\n'

    def formula(
        self, tokens: Sequence[Token], at: int, options: OptionsDict, env: MutableMapping[str, Any]
    ) -> str:
        token = tokens[at]
        env["formulas"] -= len(token.content)
        math = None
        if env["formulas"] >= 0 and not BIDI.search(token.content):
            math = mathml(token.content, display=token.meta["display"])
        html = math or f"<code>{_text(token.markup)}</code>"
        return f"<p>{html}</p>\n" if token.block else html


def _coloured(code: str, language: str) -> str | None:
    if language not in LANGUAGES or TOO_LONG.search(code) or BIDI.search(code):
        return None
    try:
        lexer = get_lexer_by_name(language, stripnl=False, ensurenl=False)
    except ClassNotFound:
        return None
    return highlight(code, lexer, COLOURS)


def _shape(state: Any) -> None:
    """Direction by block, links that leave nothing behind, headings below those of the page."""
    for token in state.tokens:
        if token.type in BLOCKS:
            style = str(token.attrs.pop("style", ""))  # how markdown-it aligns a column
            token.attrs = {"dir": "auto"} | ({"align": style[11:]} if style else {})
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(6, int(token.tag[1]) + 3)}"
        for child in token.children or []:
            if child.type == "link_open":
                child.attrs = {
                    "href": child.attrs["href"],
                    "title": child.attrs["href"],
                    "target": "_blank",
                }


def _is_link(url: str) -> bool:
    return LINK.match(url) is not None


def _markdown() -> MarkdownIt:
    made = MarkdownIt("commonmark", {"html": False, "maxNesting": DEEPEST}, renderer_cls=_Writer)
    made.enable(["table", "strikethrough"])
    made.disable("reference")  # a definition of a link would not be shown at all
    made.inline.ruler.before("escape", "formula", _inline_formula)
    made.block.ruler.before("fence", "formula", _block_formula, {"alt": ["paragraph"]})
    made.core.ruler.push("shape", _shape)
    made.validateLink = _is_link  # type: ignore[method-assign]
    return made


# --- the second wall ------------------------------------------------------------------------------


def _keep(tag: str, name: str, value: str) -> str | None:
    if name == "class":
        return value if CODE_CLASS.fullmatch(value) else None
    if name == "start":
        return value if NUMBER.fullmatch(value) else None
    if tag in MATH_TAGS:
        return value if math_allowed(name, value) else None
    return value


COLOURS = HtmlFormatter(nowrap=True)
MARKDOWN = _markdown()
DIRECTED = words("p h4 h5 h6 li blockquote pre th td")
CLEANER = nh3.Cleaner(
    tags=set(DIRECTED | MATH_TAGS)
    | words("br hr ul ol code em strong s a table thead tbody tr span bdi"),
    attributes={
        "a": {"href", "title", "target"},
        "span": {"class"},
        "ol": {"start"},
        **{tag: set(MATH_ATTRIBUTES) for tag in MATH_TAGS},
    },
    tag_attribute_values={
        tag: {"dir": {"auto", "ltr"}, "align": {"left", "right", "center"}} for tag in DIRECTED
    },
    attribute_filter=_keep,
    url_schemes={"http", "https", "mailto"},
    link_rel="noopener noreferrer nofollow",
)

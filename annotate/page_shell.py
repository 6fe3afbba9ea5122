"""Pages that our own ES modules draw: Gradio mounts an empty column, shell.js fills it.

To mount one:

    gr.mount_gradio_app(app, build_shell_page("Annotate"), "/annotate",
                        head=shell_head("desk.html", "desk.js", ("desk.css",)), ...)

The skeleton of a page is HTML of ours in static/pages with `data-t="key"` where a text belongs. It
travels in a script element because Gradio copies only the text of what it is given as `head`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from html import escape

import gradio as gr
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from annotate.language import catalogue, languages
from annotate.theme import ICON, STATIC, asset

IMPORT = re.compile(r"""\bfrom\s+"\./([\w-]+\.js)";|^import\s+"\./([\w-]+\.js)";""", re.MULTILINE)


class Assets(StaticFiles):
    """Static files: kept for long under an address that names their content (`asset`), else asked
    for again, since modules import each other by plain names and must be of one version."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        kept = b"v=" in scope.get("query_string", b"")
        response.headers["Cache-Control"] = "max-age=31536000, immutable" if kept else "no-cache"
        return response


def build_shell_page(title: str) -> gr.Blocks:
    """A page with nothing but the place that shell.js fills."""
    with gr.Blocks(title=f"{title} · prefloop", fill_width=True, analytics_enabled=False) as page:
        gr.Column(elem_id="shell", min_width=0)
    return page


def shell_head(template_file: str, script: str, styles: Sequence[str] = ()) -> str:
    """What to give Gradio as `head`: a skeleton of static/pages, an entry module of static/js and
    style sheets of static beside the common ones."""
    skeleton = (STATIC / "pages" / template_file).read_text("utf-8")
    sheets = ("style.css", "shell.css", "texts.css", *styles)
    return "".join(
        (
            f'<link rel="icon" href="{ICON}">',
            *(f'<link rel="stylesheet" href="{asset(sheet)}">' for sheet in sheets),
            *(f'<link rel="modulepreload" href="/static/js/{name}">' for name in _modules(script)),
            f'<script type="text/html" id="skeleton" data-locales="{_locales()}">',
            f"{skeleton}</script>",
            f'<script type="module" src="/static/js/{script}"></script>',
        )
    )


def _locales() -> str:
    known = {
        code: {"name": catalogue(code)["language.name"], "url": asset(f"locales/{code}.json")}
        for code in languages()
    }
    return escape(json.dumps(known))


def _modules(script: str) -> tuple[str, ...]:
    """All that `script` imports, itself included, so that a browser asks for them at once."""
    found, waiting = [], [script]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.append(name)
            source = (STATIC / "js" / name).read_text("utf-8")
            waiting += [one or other for one, other in IMPORT.findall(source)]
    return tuple(found)

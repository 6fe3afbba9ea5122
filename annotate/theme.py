"""The Gradio theme: every colour is a token of static/style.css, so one file rules the look."""

from __future__ import annotations

import hashlib
from pathlib import Path
from urllib.parse import quote

import gradio as gr

STATIC = Path(__file__).parent / "static"

TOKENS = {
    "body_background_fill": "var(--paper)",
    "body_text_color": "var(--ink)",
    "body_text_color_subdued": "var(--muted)",
    "background_fill_primary": "var(--card)",
    "background_fill_secondary": "var(--wash)",
    "border_color_primary": "var(--line)",
    "border_color_accent": "var(--accent)",
    "border_color_accent_subdued": "var(--line)",
    "color_accent_soft": "var(--accent-wash)",
    "link_text_color": "var(--accent)",
    "link_text_color_hover": "var(--accent)",
    "link_text_color_active": "var(--accent)",
    "link_text_color_visited": "var(--accent)",
    "code_background_fill": "var(--wash)",
    "block_background_fill": "transparent",
    "block_border_color": "var(--line)",
    "block_border_width": "0px",
    "input_background_fill": "var(--card)",
    "input_border_color": "var(--line)",
    "table_border_color": "var(--line)",
    "table_even_background_fill": "var(--card)",
    "table_odd_background_fill": "var(--card)",
    "table_text_color": "var(--ink)",
    "button_primary_background_fill": "var(--accent)",
    "button_primary_background_fill_hover": "var(--accent-strong)",
    "button_primary_border_color": "transparent",
    "button_primary_text_color": "var(--accent-ink)",
    "button_secondary_background_fill": "var(--wash)",
    "button_secondary_background_fill_hover": "var(--wash-strong)",
    "button_secondary_border_color": "var(--line)",
    "button_secondary_text_color": "var(--ink)",
    "error_background_fill": "var(--card)",
    "error_border_color": "var(--line)",
    "error_text_color": "var(--bad)",
    "error_icon_color": "var(--bad)",
}

ICON_SVG = (
    "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 32 32'>"
    "<rect x='3' y='7' width='12' height='18' rx='4' fill='#7a4fbf'/>"
    "<rect x='17' y='7' width='12' height='18' rx='4' fill='#0b7a75'/></svg>"
)
ICON = "data:image/svg+xml," + quote(
    ICON_SVG, safe=" ='/:"
)  # the annotate page may load no image by address


def make_theme() -> gr.themes.Base:
    theme = gr.themes.Base(
        font=["system-ui", "Segoe UI", "Noto Sans", "Noto Sans CJK SC", "sans-serif"],
        font_mono=["ui-monospace", "SF Mono", "Noto Sans Mono", "monospace"],
    )
    # style.css turns the tokens themselves with the mode, so both modes name the same token
    known = set(theme.set.__code__.co_varnames)
    dark = {f"{name}_dark": value for name, value in TOKENS.items() if f"{name}_dark" in known}
    return theme.set(**TOKENS, **dark)


def asset(name: str) -> str:
    """Address of a static file that changes with its content, so browsers may keep it for long."""
    digest = hashlib.sha256((STATIC / name).read_bytes()).hexdigest()[:10]
    return f"/static/{name}?v={digest}"


def page_head() -> str:
    return (
        f'<link rel="icon" href="{ICON}">'
        f'<link rel="stylesheet" href="{asset("style.css")}">'
        '<script type="module" src="/static/js/research.js"></script>'
    )

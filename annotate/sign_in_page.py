"""The two plain pages that a visitor without a login can see. No script, no model text."""

from __future__ import annotations

from html import escape

from annotate.theme import ICON, asset
from store.rows import User

NEW_LINK_COMMAND = "prefloop users link NAME"
SPENT = "This link was already used or has expired; each link works once."
ENDED = "Your sign-in ended. What you had already picked is saved."


def sign_in_page(problem: str | None = None) -> str:
    notice = f'<p class="notice" role="alert">{escape(problem)}</p>' if problem else ""
    return _document(
        "Sign in",
        f"""<h1>Sign in</h1>{notice}
<p>prefloop opens with a one-time link, printed in the terminal where prefloop was started.</p>
<ol class="steps">
<li>In that terminal, find the line that begins with <b>Sign&nbsp;in:</b></li>
<li>Open its link in this browser.</li>
</ol>
<p class="sub">For a new link, run <code>{escape(NEW_LINK_COMMAND)}</code> there, or ask whoever
runs prefloop here.</p>""",
    )


def signed_in_page(user: User) -> str:
    """Shown to a user who is signed in but asked for a page of another role, and for sign-out."""
    research = '<a class="btn" href="/research">Research</a>' if user.may("researcher") else ""
    note = "" if research else "<p>Training and policies are for researchers.</p>"
    return _document(
        "Signed in",
        f"""<h1>Signed in as {escape(user.name)}</h1>
<p>Your role here is <b>{escape(user.role)}</b>.</p>{note}
<div class="choices"><a class="btn primary" href="/annotate">Annotate</a>{research}
<form method="post" action="/sign-out">
<button class="btn quiet" type="submit">Sign out</button></form></div>""",
    )


def _document(title: str, body: str) -> str:
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title} · prefloop</title>
<link rel="icon" href="{ICON}"><link rel="stylesheet" href="{asset("style.css")}"></head>
<body class="plain"><main class="door"><p class="brand"><i></i><i></i>prefloop</p>
<section class="card">{body}</section>
<p class="sub">Pick the better of two answers; the model learns from it.</p></main></body></html>"""

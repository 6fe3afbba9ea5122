"""The plain pages for signing in, in the reader's language. No script, no model text."""

from __future__ import annotations

from html import escape
from urllib.parse import urlencode

from annotate.language import catalogue, languages, translate
from annotate.navigation import pages_for
from annotate.passwords import LONGEST, SHORTEST
from annotate.theme import ICON, asset
from store.rows import User

NEW_LINK_COMMAND = "prefloop users link NAME"


class SignInPages:
    """Each method gives a whole document in `lang`; a `problem` is the key of its sentence."""

    def __init__(self, lang: str) -> None:
        self.lang = lang

    def sign_in(self, problem: str | None = None, name: str = "", **values: object) -> str:
        command = f"<code>{escape(NEW_LINK_COMMAND)}</code>"
        again = self._t("signin.link_again").replace("{command}", command)
        body = f"""<h1>{self._t("signin.title")}</h1>{self._notice(problem, **values)}
<form method="post" action="/sign-in">
{self._field("name", "text", "signin.name", "username", value=name)}
{self._field("password", "password", "signin.password", "current-password")}
<button class="btn primary" type="submit">{self._t("signin.submit")}</button></form>
<details class="sub"><summary>{self._t("signin.without")}</summary>
<p>{self._t("signin.link_how")}</p><p>{again}</p><p>{self._t("signin.ask")}</p></details>"""
        return self._document("signin.title", body, "/sign-in")

    def invite(self, user: User, token: str, problem: str | None = None) -> str:
        name = escape(user.name, quote=True)
        body = f"""<h1>{self._t("signin.welcome", name=user.name)}</h1>
<p>{self._t("signin.choose")}</p>{self._notice(problem)}
<form method="post" action="/invite">
<input type="hidden" name="token" value="{escape(token, quote=True)}">
<input class="away" type="text" name="name" value="{name}" autocomplete="username" readonly
 tabindex="-1" aria-hidden="true">
{self._field("password", "password", "signin.new_password", "new-password", "signin.rule")}
{self._field("again", "password", "signin.again", "new-password")}
<button class="btn primary" type="submit">{self._t("signin.accept")}</button></form>"""
        return self._document("signin.choose_title", body, "/invite", token=token)

    def invite_gone(self) -> str:
        body = f"""<h1>{self._t("signin.gone_title")}</h1><p>{self._t("signin.gone")}</p>
<div class="choices"><a class="btn" href="/sign-in">{self._t("signin.title")}</a></div>"""
        return self._document("signin.gone_title", body, "/invite")

    def signed_in(self, user: User) -> str:
        """For a user who is signed in but asked for a page of another role, and for sign-out."""
        role = f"<b>{self._t(f'role.{user.role}')}</b>"
        links = "".join(
            f'<a class="btn" href="{page.path}">{self._t(f"nav.{page.name}")}</a>'
            for page in pages_for(user.role)
            if "#" not in page.path
        )
        body = f"""<h1>{self._t("signin.in_as", name=user.name)}</h1>
<p>{self._t("signin.role").replace("{role}", role)}</p>
<nav class="choices" aria-label="{self._t("nav.pages")}">{links}</nav>
<form class="choices" method="post" action="/sign-out">
<button class="btn quiet" type="submit">{self._t("nav.sign_out")}</button></form>"""
        return self._document("signin.title", body, "/sign-in")

    # --- parts -----------------------------------------------------------------------------------

    def _t(self, key: str, **values: object) -> str:
        return escape(translate(self.lang, key, shortest=SHORTEST, longest=LONGEST, **values))

    def _notice(self, problem: str | None, **values: object) -> str:
        if problem is None:
            return ""
        return f'<p class="notice" role="alert">{self._t(problem, **values)}</p>'

    def _field(
        self,
        name: str,
        kind: str,
        label: str,
        autocomplete: str,
        hint: str | None = None,
        value: str = "",
    ) -> str:
        told = f'<p class="hint" id="{name}-hint">{self._t(hint)}</p>' if hint else ""
        described = f' aria-describedby="{name}-hint"' if hint else ""
        return f"""<div class="field"><label for="{name}">{self._t(label)}</label>
<input id="{name}" name="{name}" type="{kind}" value="{escape(value, quote=True)}" required
 autocomplete="{autocomplete}" autocapitalize="none" spellcheck="false"{described}>{told}</div>"""

    def _document(self, title: str, body: str, path: str, **params: str) -> str:
        others = " · ".join(
            f'<a href="{path}?{escape(urlencode(params | {"lang": code}))}" lang="{code}" '
            f'hreflang="{code}">{escape(catalogue(code)["language.name"])}</a>'
            for code in languages()
            if code != self.lang
        )
        return f"""<!doctype html>
<html lang="{self.lang}"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{self._t(title)} · prefloop</title>
<link rel="icon" href="{ICON}"><link rel="stylesheet" href="{asset("style.css")}">
<link rel="stylesheet" href="{asset("door.css")}"></head>
<body class="plain"><div class="door"><header><p class="brand"><i></i><i></i>prefloop</p>
<nav aria-label="{self._t("nav.language")}">{others}</nav></header>
<main class="card">{body}</main>
<footer class="sub">{self._t("signin.tagline")}</footer></div></body></html>"""

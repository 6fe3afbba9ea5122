"""The researcher's page: what serves, what was picked, what trains, and which policies there are.

No model text is shown here: this page needs eval for gr.HTML, so it must stay free of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from typing import Any

import gradio as gr

from annotate import research_cards as cards
from annotate import research_tables as tables
from annotate.accounts import Accounts
from annotate.research import Research
from annotate.research_layout import IDLE_S, Parts, Update, labels, lay_out, said
from annotate.security import acting_user, lang_of, shown_to_user
from annotate.views import Overview
from store.policies import previous_champion
from store.rows import Conflict, Invalid, PrefloopError, User

BUSY_S = 1.0  # between two looks while a run trains
PARALLEL = 20
Seen = dict[str, int]


@dataclass(frozen=True)
class Reader:
    user: User
    lang: str


def build_research_page(research: Research, accounts: Accounts) -> gr.Blocks:
    with gr.Blocks(title="Research · prefloop", fill_width=True, analytics_enabled=False) as page:
        parts = lay_out()
        _wire(page, parts, research, accounts)
    page.queue(default_concurrency_limit=PARALLEL, max_size=200, api_open=False)
    return page


# --- what it shows ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sight:
    """Everything that one look at the loop brings."""

    overview: Overview
    lines: list[dict[str, Any]]  # of the run whose curves are shown
    earlier: str | None  # the policy that a roll back would serve again


def look_at(research: Research) -> Sight:
    overview = research.overview()
    run = cards.shown_run(overview)
    lines = research.room.progress(run.run_id)["progress"] if run else []
    return Sight(overview, lines, earlier_champion(research))


def earlier_champion(research: Research) -> str | None:
    earlier = previous_champion(research.store)
    return earlier.policy_id if earlier else None


def show(parts: Parts, sight: Sight, reader: Reader, seen: Seen) -> Update:
    """Every live part of the page, but only those that differ from what this browser has."""
    overview, earlier, lang = sight.overview, sight.earlier, reader.lang
    active, run = cards.active_run(overview), cards.shown_run(overview)
    at_work_s = overview.at_work_s.get(run.run_id, 0.0) if run else 0.0
    html = {
        "header": (parts.header, cards.header(overview, reader.user, lang)),
        "serving": (parts.figures[0], cards.serving_card(overview, lang)),
        "picks": (parts.figures[1], cards.picks_card(overview, lang)),
        "agreement": (parts.figures[2], cards.agreement_card(overview, lang)),
        "round": (parts.figures[3], cards.round_card(overview, lang)),
        "run": (parts.run, cards.run_panel(run, sight.lines, lang, at_work_s)),
        "policies": (parts.policies, tables.policies_table(overview, lang)),
        "runs": (parts.runs, tables.runs_table(overview, lang)),
    }
    update: Update = {
        part: text for name, (part, text) in html.items() if seen.get(name) != hash(text)
    }
    mode = f"{active.run_id if active else None} {earlier}"
    if seen.get("mode") != hash(mode):
        update[parts.train] = gr.update(interactive=active is None, value=said("train", lang))
        update[parts.cancel] = gr.update(visible=active is not None, value=said("cancel", lang))
        update[parts.at_work] = active.run_id if active else None
        back = said("roll_back_to", lang, policy=earlier)
        update[parts.roll_back] = gr.update(visible=bool(earlier), value=back)
        update[parts.look] = gr.Timer(BUSY_S if active else IDLE_S)
    if update:
        update[parts.seen] = {name: hash(text) for name, (_, text) in html.items()} | {
            "mode": hash(mode)
        }
    return update


@dataclass(frozen=True)
class Asked:
    """What a person is asked to confirm."""

    policy_id: str
    rolls_back: bool  # else it is promoted


def question_html(asked: Asked, lang: str) -> str:
    question = escape(said("ask_again" if asked.rolls_back else "ask", lang))
    return f"<p>{question.replace('{policy}', f'<b>{escape(asked.policy_id)}</b>')}</p>"


# --- what happens -------------------------------------------------------------------------------


Researcher = Callable[[gr.Request], Reader]  # the one who asks; raises gr.Error for anybody else
View = Callable[[Reader, Seen], Update]  # what to change in a browser that has seen this
QUIET: dict[str, Any] = {
    "show_progress": "hidden",
    "trigger_mode": "once",
    "api_visibility": "private",
}


def _wire(page: gr.Blocks, parts: Parts, research: Research, accounts: Accounts) -> None:
    def researcher(request: gr.Request) -> Reader:
        return Reader(acting_user(accounts, request, "researcher"), lang_of(request))

    def view(reader: Reader, seen: Seen) -> Update:
        return show(parts, look_at(research), reader, seen)

    _wire_looks(page, parts, researcher, view)
    _wire_runs(parts, research, researcher, view)
    _wire_policies(parts, research, researcher, view)


def _wire_looks(page: gr.Blocks, parts: Parts, researcher: Researcher, view: View) -> None:
    def on_load(request: gr.Request) -> Update:
        reader = researcher(request)
        with shown_to_user(reader.lang):
            return view(reader, {}) | labels(parts, reader.lang)

    def on_look(seen: Seen, request: gr.Request) -> Update:
        reader = researcher(request)
        try:
            return view(reader, seen) or {parts.seen: gr.skip()}
        except PrefloopError:  # the next look is seconds away; the page keeps what it shows
            return {parts.seen: gr.skip()}

    page.load(on_load, None, [*parts.live(), *parts.fixed()], **QUIET)
    parts.look.tick(on_look, parts.seen, parts.live(), **QUIET)


def _wire_runs(parts: Parts, research: Research, researcher: Researcher, view: View) -> None:
    def on_train(seen: Seen, request: gr.Request) -> Update:
        reader = researcher(request)
        with shown_to_user(reader.lang):
            run_id = research.room.start("round", reader.user.user_id)
            _tell("run_asked", reader, run=run_id)
            return view(reader, seen)

    def on_cancel(run_id: str | None, seen: Seen, request: gr.Request) -> Update:
        reader = researcher(request)
        with shown_to_user(reader.lang):
            if run_id is None:
                raise Invalid("No run is at work.", "no_run")
            research.room.cancel(run_id)
            _tell("run_cancelled", reader, run=run_id)
            return view(reader, seen)

    parts.train.click(on_train, parts.seen, parts.live(), **QUIET)
    parts.cancel.click(on_cancel, [parts.at_work, parts.seen], parts.live(), **QUIET)


def _wire_policies(parts: Parts, research: Research, researcher: Researcher, view: View) -> None:
    def on_ask(event: gr.EventData, request: gr.Request) -> Update:
        reader = researcher(request)
        data = event._data if isinstance(event._data, dict) else {}
        return _asked(parts, reader.lang, data.get("policy"))

    def on_roll_back(request: gr.Request) -> Update:
        reader = researcher(request)
        return _asked(parts, reader.lang, earlier_champion(research), rolls_back=True)

    def on_yes(asked: Asked | None, seen: Seen, request: gr.Request) -> Update:
        reader = researcher(request)
        with shown_to_user(reader.lang):
            serving = _carry_out(research, asked, reader.user.user_id)
            _tell("now_serving", reader, policy=serving)
            return view(reader, seen) | _closed(parts)

    def on_no(request: gr.Request) -> Update:
        researcher(request)
        return _closed(parts)

    question = [parts.asked, parts.question, parts.confirm]
    parts.policies.ask(on_ask, None, question, **QUIET)
    parts.roll_back.click(on_roll_back, None, question, **QUIET)
    parts.yes.click(on_yes, [parts.asked, parts.seen], [*parts.live(), *question], **QUIET)
    parts.no.click(on_no, None, question, **QUIET)


def _tell(key: str, reader: Reader, **values: object) -> None:
    """A message that pops up; Gradio renders it as HTML."""
    gr.Info(escape(said(key, reader.lang, **values)), title="")


def _asked(parts: Parts, lang: str, policy_id: object, rolls_back: bool = False) -> Update:
    """Opens the question, or closes it when the browser named no policy."""
    if not re.fullmatch(r"policy-\d{1,12}", str(policy_id)):
        return _closed(parts) | {parts.question: ""}
    asked = Asked(str(policy_id), rolls_back)
    return {
        parts.asked: asked,
        parts.question: question_html(asked, lang),
        parts.confirm: gr.update(visible=True),
    }


def _closed(parts: Parts) -> Update:
    return {parts.asked: None, parts.confirm: gr.update(visible=False)}


def _carry_out(research: Research, asked: Asked | None, user_id: str) -> str:
    """The id of the policy that serves now."""
    if asked is None:
        raise Invalid("Choose a policy first.", "no_policy")
    if asked.rolls_back:
        if earlier_champion(research) != asked.policy_id:
            raise Conflict(
                "Another policy was promoted meanwhile. Look again, then roll back.",
                "promoted_meanwhile",
            )
        return research.rollback(user_id)
    research.promote(asked.policy_id, user_id)
    return asked.policy_id

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
from annotate.security import acting_user, shown_to_user
from annotate.views import Overview
from store.policies import previous_champion
from store.rows import Conflict, Invalid, PrefloopError, User

BUSY_S, IDLE_S = 1.0, 3.0  # between two looks while a run trains, and while none does
PARALLEL = 20
ROLL_BACK = "roll back"
ASK_ON_CLICK = """
element.addEventListener('click', (event) => {
  const button = event.target.closest('button[data-policy]');
  if (button) trigger('ask', { policy: button.dataset.policy });
});
"""

Update = dict[Any, Any]
Seen = dict[str, int]


@dataclass(frozen=True)
class Parts:
    header: gr.HTML
    figures: tuple[gr.HTML, ...]  # serving, picks, agreement, next round
    train: gr.Button
    run: gr.HTML
    cancel: gr.Button
    policies: gr.HTML
    roll_back: gr.Button
    confirm: gr.Row
    question: gr.HTML
    yes: gr.Button
    no: gr.Button
    runs: gr.HTML
    at_work: gr.State  # id of the run that "Cancel this run" is about, or None
    asked: gr.State  # a policy id, after ROLL_BACK if that was asked, or "" when nothing is
    seen: gr.State  # hashes of what this browser has, so that an unchanged card is not sent again
    look: gr.Timer

    def live(self) -> list[Any]:
        return [
            *(self.header, *self.figures, self.train, self.run, self.cancel, self.at_work),
            *(self.policies, self.roll_back, self.runs, self.seen, self.look),
        ]


def build_research_page(research: Research, accounts: Accounts) -> gr.Blocks:
    with gr.Blocks(title="Research · prefloop", fill_width=True, analytics_enabled=False) as page:
        parts = _lay_out()
        _wire(page, parts, research, accounts)
    page.queue(default_concurrency_limit=PARALLEL, max_size=200, api_open=False)
    return page


# --- what is where ------------------------------------------------------------------------------


def _html(value: str = "", **kwargs: Any) -> gr.HTML:
    kwargs.setdefault("js_on_load", None)
    return gr.HTML(value, apply_default_css=False, **kwargs)


def _card(elem_id: str | None = None, value: str = "") -> gr.HTML:
    with gr.Column(elem_id=elem_id, elem_classes="card", min_width=0):
        return _html(value)


def _lay_out() -> Parts:
    header = _html(cards.header(None, None), elem_id="topbar")
    with gr.Column(elem_id="research", elem_classes="page"):
        with gr.Row(elem_classes="figures"):
            serving, picks, agreement = (_card() for _ in range(3))
            with gr.Column(elem_classes="card", min_width=0):
                next_round = _html()
                train = gr.Button(
                    "Train now", elem_id="train-now", variant="primary", interactive=False
                )
        with gr.Row(elem_classes="two"):
            with gr.Column(elem_id="run", elem_classes="card", min_width=0):
                run = _html()
                cancel = gr.Button("Cancel this run", elem_id="cancel-run", visible=False)
            policies, roll_back, confirm, question, yes, no = _policies_card()
        runs = _card("runs")
        _card("data", tables.data_card())
    return Parts(
        header=header,
        figures=(serving, picks, agreement, next_round),
        train=train,
        run=run,
        cancel=cancel,
        policies=policies,
        roll_back=roll_back,
        confirm=confirm,
        question=question,
        yes=yes,
        no=no,
        runs=runs,
        at_work=gr.State(None),
        asked=gr.State(""),
        seen=gr.State({}),
        look=gr.Timer(IDLE_S),
    )


def _policies_card() -> tuple[gr.HTML, gr.Button, gr.Row, gr.HTML, gr.Button, gr.Button]:
    with gr.Column(elem_id="policies", elem_classes="card", min_width=0):
        with gr.Row(elem_classes="card-head"):
            _html("<h2>Policies</h2>")
            roll_back = gr.Button("Roll back", elem_id="roll-back", visible=False, min_width=0)
        with gr.Row(elem_id="confirm", visible=False) as confirm:
            question = _html(elem_id="question")
            yes = gr.Button("Yes", elem_id="confirm-yes", variant="primary", min_width=0)
            no = gr.Button("Keep as it is", elem_id="confirm-no", min_width=0)
        policies = _html(js_on_load=ASK_ON_CLICK)
    return policies, roll_back, confirm, question, yes, no


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
    lines = research.progress(run.run_id) if run else []
    return Sight(overview, lines, earlier_champion(research))


def earlier_champion(research: Research) -> str | None:
    earlier = previous_champion(research.store)
    return earlier.policy_id if earlier else None


def show(parts: Parts, sight: Sight, user: User, seen: Seen) -> Update:
    """Every live part of the page, but only those that differ from what this browser has."""
    overview, earlier = sight.overview, sight.earlier
    active = cards.active_run(overview)
    html = {
        "header": (parts.header, cards.header(overview, user)),
        "serving": (parts.figures[0], cards.serving_card(overview)),
        "picks": (parts.figures[1], cards.picks_card(overview)),
        "agreement": (parts.figures[2], cards.agreement_card(overview)),
        "round": (parts.figures[3], cards.round_card(overview)),
        "run": (parts.run, cards.run_panel(cards.shown_run(overview), sight.lines)),
        "policies": (parts.policies, tables.policies_table(overview)),
        "runs": (parts.runs, tables.runs_table(overview)),
    }
    update: Update = {
        part: text for name, (part, text) in html.items() if seen.get(name) != hash(text)
    }
    mode = f"{active.run_id if active else None} {earlier}"
    if seen.get("mode") != hash(mode):
        update[parts.train] = gr.update(interactive=active is None)
        update[parts.cancel] = gr.update(visible=active is not None)
        update[parts.at_work] = active.run_id if active else None
        update[parts.roll_back] = gr.update(visible=bool(earlier), value=f"Roll back to {earlier}")
        update[parts.look] = gr.Timer(BUSY_S if active else IDLE_S)
    if update:
        update[parts.seen] = {name: hash(text) for name, (_, text) in html.items()} | {
            "mode": hash(mode)
        }
    return update


def question_html(asked: str) -> str:
    action, _, policy_id = asked.rpartition(" ")
    again = " again" if action == ROLL_BACK else ""
    return f"<p>Serve <b>{escape(policy_id)}</b>{again} to annotators from now on?</p>"


# --- what happens -------------------------------------------------------------------------------


Researcher = Callable[[gr.Request], User]  # the one who asks; raises gr.Error for anybody else
View = Callable[[User, Seen], Update]  # what to change in a browser that has seen this
QUIET: dict[str, Any] = {
    "show_progress": "hidden",
    "trigger_mode": "once",
    "api_visibility": "private",
}


def _wire(page: gr.Blocks, parts: Parts, research: Research, accounts: Accounts) -> None:
    def researcher(request: gr.Request) -> User:
        return acting_user(accounts, request, "researcher")

    def view(user: User, seen: Seen) -> Update:
        return show(parts, look_at(research), user, seen)

    _wire_looks(page, parts, researcher, view)
    _wire_runs(parts, research, researcher, view)
    _wire_policies(parts, research, researcher, view)


def _wire_looks(page: gr.Blocks, parts: Parts, researcher: Researcher, view: View) -> None:
    def on_load(request: gr.Request) -> Update:
        user = researcher(request)
        with shown_to_user():
            return view(user, {})

    def on_look(seen: Seen, request: gr.Request) -> Update:
        user = researcher(request)
        try:
            return view(user, seen) or {parts.seen: gr.skip()}
        except PrefloopError:  # the next look is seconds away; the page keeps what it shows
            return {parts.seen: gr.skip()}

    page.load(on_load, None, parts.live(), **QUIET)
    parts.look.tick(on_look, parts.seen, parts.live(), **QUIET)


def _wire_runs(parts: Parts, research: Research, researcher: Researcher, view: View) -> None:
    def on_train(seen: Seen, request: gr.Request) -> Update:
        user = researcher(request)
        with shown_to_user():
            run_id = research.start_run("round", user.user_id)
            gr.Info(f"{escape(run_id)} is on its way.", title="")
            return view(user, seen)

    def on_cancel(run_id: str | None, seen: Seen, request: gr.Request) -> Update:
        user = researcher(request)
        with shown_to_user():
            if run_id is None:
                raise Invalid("No run is at work.")
            research.cancel_run(run_id, user.user_id)
            gr.Info(f"{escape(run_id)} is being cancelled.", title="")
            return view(user, seen)

    parts.train.click(on_train, parts.seen, parts.live(), **QUIET)
    parts.cancel.click(on_cancel, [parts.at_work, parts.seen], parts.live(), **QUIET)


def _wire_policies(parts: Parts, research: Research, researcher: Researcher, view: View) -> None:
    def on_ask(event: gr.EventData, request: gr.Request) -> Update:
        researcher(request)
        said = event._data if isinstance(event._data, dict) else {}
        return _asked(parts, said.get("policy"))

    def on_roll_back(request: gr.Request) -> Update:
        researcher(request)
        return _asked(parts, earlier_champion(research), ROLL_BACK)

    def on_yes(asked: str, seen: Seen, request: gr.Request) -> Update:
        user = researcher(request)
        with shown_to_user():
            serving = _carry_out(research, asked, user.user_id)
            gr.Info(f"{escape(serving)} serves from now on.", title="")
            return view(user, seen) | _closed(parts)

    def on_no(request: gr.Request) -> Update:
        researcher(request)
        return _closed(parts)

    question = [parts.asked, parts.question, parts.confirm]
    parts.policies.ask(on_ask, None, question, **QUIET)
    parts.roll_back.click(on_roll_back, None, question, **QUIET)
    parts.yes.click(on_yes, [parts.asked, parts.seen], [*parts.live(), *question], **QUIET)
    parts.no.click(on_no, None, question, **QUIET)


def _asked(parts: Parts, policy_id: object, action: str = "") -> Update:
    """Opens the question, or closes it when the browser named no policy."""
    named = re.fullmatch(r"policy-\d{1,12}", str(policy_id)) is not None
    asked = f"{action} {policy_id}".strip() if named else ""
    return {
        parts.asked: asked,
        parts.question: question_html(asked),
        parts.confirm: gr.update(visible=named),
    }


def _closed(parts: Parts) -> Update:
    return {parts.asked: "", parts.confirm: gr.update(visible=False)}


def _carry_out(research: Research, asked: str, user_id: str) -> str:
    """The id of the policy that serves now."""
    action, _, policy_id = asked.rpartition(" ")
    if not policy_id:
        raise Invalid("Choose a policy first.")
    if action == ROLL_BACK:
        if earlier_champion(research) != policy_id:
            raise Conflict("Another policy was promoted meanwhile. Look again, then roll back.")
        return research.rollback(user_id)
    research.promote(policy_id, user_id)
    return policy_id

"""The annotator's page: one prompt, two blind answers, one bar of actions.

Model text goes into gr.Markdown only (sanitised in the browser) and never into gr.HTML. The page
holds a ticket that names the pair on the screen; it travels with each pick, so a late click can
only ever be about the pair that was seen.
"""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gradio as gr

from annotate.accounts import Accounts
from annotate.desk import Desk
from annotate.security import acting_user, shown_to_user
from annotate.shown_text import answer_text, exact, prompt_html
from annotate.views import AnnotatorProgress, PairView
from store.rows import VERDICTS, Conflict, Invalid, PrefloopError, User, Verdict

RETRY_S = 2.0
PARALLEL = 32
MAX_THINK_MS = 3_600_000  # a page left open over lunch says nothing about the pick

# verdict, element id, label, what the status line says afterwards
ACTIONS: tuple[tuple[Verdict, str, str, str], ...] = (
    ("left", "pick-left", "Left is better", "Saved: left is better."),
    ("tie", "pick-tie", "Tie", "Saved: a tie."),
    ("both_bad", "pick-both-bad", "Both bad", "Saved: both are bad."),
    ("skip", "pick-skip", "Skip", "Skipped: this pair will not come back to you."),
    ("right", "pick-right", "Right is better", "Saved: right is better."),
)
READY, WAITING = "Pick the better answer.", "Waiting for a pair."
SAID = {verdict: said for verdict, _, _, said in ACTIONS}


# --- the ticket: which pair is on this screen ---------------------------------------------------


@dataclass(frozen=True)
class Ticket:
    pair_id: str
    judgment_id: str
    shown_ms: int

    @classmethod
    def new(cls, pair_id: str) -> Ticket:
        return cls(pair_id, str(uuid.uuid4()), _now_ms())

    @classmethod
    def read(cls, value: object) -> Ticket:
        """Checks what the browser sent back; everything in it may be forged."""
        match = re.fullmatch(r"([\w.:-]{1,64}) ([0-9a-f-]{36}) (\d{1,15})", str(value)[:200])
        if match is None:
            raise Invalid("There is no pair on this page yet. Reload it.")
        return cls(match[1], match[2], int(match[3]))

    def __str__(self) -> str:
        return f"{self.pair_id} {self.judgment_id} {self.shown_ms}"

    def ms_spent(self) -> int | None:
        spent = _now_ms() - self.shown_ms
        return spent if 0 < spent <= MAX_THINK_MS else None


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


# --- the page -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Parts:
    """The components that a pick changes."""

    header: gr.Markdown
    who: gr.Markdown
    progress: gr.Markdown
    waiting: gr.Column
    note: gr.Markdown
    pair: gr.Column
    prompt: gr.Markdown
    heads: tuple[gr.Markdown, gr.Markdown]
    answers: tuple[gr.Markdown, gr.Markdown]
    picks: tuple[gr.Button, ...]
    undo: gr.Button
    status: gr.Markdown
    ticket: gr.Textbox
    retry: gr.Timer

    def changed_by_pick(self) -> list[Any]:
        return [
            *(self.progress, self.waiting, self.note, self.pair, self.prompt),
            *(*self.heads, *self.answers, *self.picks),
            *(self.status, self.ticket, self.retry),
        ]


Update = dict[Any, Any]


def show(
    parts: Parts, pair: PairView | None, said: str, done: AnnotatorProgress, note: str
) -> Update:
    """The page with this pair on it, or waiting for one."""
    waiting = pair is None
    update: Update = {
        parts.status: f"{said} {done.today:,} today." if said in SAID.values() else said,
        parts.progress: progress_text(done),
        parts.waiting: gr.update(visible=waiting),
        parts.pair: gr.update(visible=not waiting),
        parts.ticket: "" if pair is None else str(Ticket.new(pair.pair_id)),
        parts.retry: gr.Timer(RETRY_S, active=waiting),
        **{button: gr.update(interactive=not waiting) for button in parts.picks},
    }
    if pair is None:
        return update | {parts.note: waiting_html(note)}
    update[parts.prompt] = prompt_html(pair.prompt)
    for side, text, head, answer in zip(
        ("Left", "Right"), (pair.left, pair.right), parts.heads, parts.answers, strict=True
    ):
        body, cut = answer_text(text)
        update |= {answer: body, head: head_html(side, cut)}
    return update


def progress_text(done: AnnotatorProgress) -> str:
    pace = (
        f'<span class="wide"> · {done.median_seconds:.1f} s each</span>'
        if done.median_seconds
        else ""
    )
    return f"<b>{done.today:,}</b> today{pace}"


def waiting_html(note: str) -> str:
    return f'<h2>The next pair is on its way</h2><p class="sub">{exact(note)}</p>'


def head_html(side: str, cut: str = "") -> str:
    tool = f'<span class="tool">{cut}</span>' if cut else ""
    return f'<div class="head"><i></i><h2>{side}</h2>{tool}</div>'


def header_html(user: User | None) -> str:
    research = '<a href="/research">Research</a>' if user and user.may("researcher") else ""
    return (
        '<div class="brand"><i></i><i></i><b>prefloop</b></div>'
        f'<nav><a class="here" href="/annotate">Annotate</a>{research}</nav>'
    )


def who_html(user: User) -> str:
    return (
        f'<div class="who-line"><span class="name">{exact(user.name)}</span>'
        '<a class="sign-out" href="/sign-in">Sign out</a></div>'
    )


def build_annotate_page(desk: Desk, accounts: Accounts) -> gr.Blocks:
    with gr.Blocks(title="Annotate · prefloop", fill_width=True, analytics_enabled=False) as page:
        parts = _lay_out()
        _wire(page, parts, desk, accounts)
    page.queue(default_concurrency_limit=PARALLEL, max_size=400, api_open=False)
    return page


def _text(value: str = "", **kwargs: Any) -> gr.Markdown:
    return gr.Markdown(value, sanitize_html=True, latex_delimiters=[], **kwargs)


def _lay_out() -> Parts:
    with gr.Row(elem_id="topbar"):
        header = _text(header_html(None), elem_classes="left-end")
        progress = _text(elem_id="progress")
        who = _text(elem_classes="who")
    with gr.Column(elem_id="desk", elem_classes="page"):
        with gr.Column(elem_id="waiting", elem_classes="card") as waiting:
            note = _text(waiting_html("Looking for a pair."), elem_classes="calm")
        with gr.Column(elem_id="pair", visible=False) as pair:
            with gr.Column(elem_classes="card prompt-card"):
                _text('<span class="label">Prompt</span>')
                prompt = _text(elem_id="prompt", elem_classes="others-text")
            with gr.Row(elem_classes="panes"):
                left, right = _pane("left"), _pane("right")
        picks, undo, status = _action_bar()
    ticket = gr.Textbox(elem_id="ticket", elem_classes="away", show_label=False, container=False)
    return Parts(
        *(header, who, progress, waiting, note, pair, prompt),
        heads=(left[0], right[0]),
        answers=(left[1], right[1]),
        picks=picks,
        undo=undo,
        status=status,
        ticket=ticket,
        retry=gr.Timer(RETRY_S, active=False),
    )


def _pane(side: str) -> tuple[gr.Markdown, gr.Markdown]:
    with gr.Column(elem_id=f"pane-{side}", elem_classes=["card", "pane", side], min_width=0):
        head = _text(head_html(side.capitalize()))
        answer = _text(elem_classes=["answer", "others-text"], line_breaks=True)
    return head, answer


def _action_bar() -> tuple[tuple[gr.Button, ...], gr.Button, gr.Markdown]:
    with gr.Row(elem_id="actions", elem_classes="card"):
        *others, right = (
            gr.Button(label, elem_id=elem_id, elem_classes="pick", interactive=False, render=False)
            for _, elem_id, label, _ in ACTIONS
        )
        undo = gr.Button("Undo", elem_id="undo", render=False)
        for button in (*others, undo, right):
            button.render()
        status = _text(READY, elem_id="status")
    return (*others, right), undo, status


def _wire(page: gr.Blocks, parts: Parts, desk: Desk, accounts: Accounts) -> None:
    def view(user: User, said: str, pair: PairView | None) -> Update:
        note = "" if pair else desk.waiting_note()
        return show(parts, pair, said, desk.progress(user.user_id), note)

    def on_load(request: gr.Request) -> Update:
        user = acting_user(accounts, request, "annotator")
        with shown_to_user():
            pair = desk.next_pair(user.user_id)
            update = view(user, READY if pair else WAITING, pair)
        return update | {parts.header: header_html(user), parts.who: who_html(user)}

    def on_verdict(verdict: Verdict) -> Callable[[str, gr.Request], Update]:
        def handle(ticket: str, request: gr.Request) -> Update:
            user = acting_user(accounts, request, "annotator")
            with shown_to_user():
                said = store_pick(desk, user, verdict, ticket)
                return view(user, said, desk.next_pair(user.user_id))

        return handle

    def on_undo(request: gr.Request) -> Update:
        user = acting_user(accounts, request, "annotator")
        with shown_to_user():
            pair = desk.undo(user.user_id)
            if pair is None:
                return {parts.status: "There is no pick of yours to take back."}
            return view(user, "Taken back. Pick again.", pair)

    def on_retry(request: gr.Request) -> Update:
        user = acting_user(accounts, request, "annotator")
        try:
            pair = desk.next_pair(user.user_id)
            return (
                view(user, READY, pair) if pair else {parts.note: waiting_html(desk.waiting_note())}
            )
        except (
            PrefloopError
        ) as error:  # every two seconds: a line on the card, not a row of pop-ups
            return {parts.note: waiting_html(str(error))}

    quiet: dict[str, Any] = {
        "show_progress": "hidden",
        "trigger_mode": "once",
        "concurrency_limit": PARALLEL,
        "api_visibility": "private",
    }
    outputs = parts.changed_by_pick()
    page.load(on_load, None, [parts.header, parts.who, *outputs], **quiet)
    for (verdict, *_), button in zip(ACTIONS, parts.picks, strict=True):
        button.click(on_verdict(verdict), parts.ticket, outputs, **quiet)
    parts.undo.click(on_undo, None, outputs, **quiet)
    parts.retry.tick(on_retry, None, outputs, **quiet)


def store_pick(desk: Desk, user: User, verdict: Verdict, ticket: object) -> str:
    """Stores one pick and says so; a pick that came twice or too late is no error."""
    if verdict not in VERDICTS:
        raise Invalid(f"'{verdict}' is not a verdict.")
    seen = Ticket.read(ticket)
    try:
        desk.judge(
            user.user_id,
            seen.pair_id,
            verdict,
            judgment_id=seen.judgment_id,
            ms_spent=seen.ms_spent(),
        )
    except Conflict as late:
        return f"<div>{exact(str(late))}</div>"
    return SAID[verdict]

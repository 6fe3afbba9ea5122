"""What is where on the research page, and what it says before anything is looked up."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import Any

import gradio as gr

from annotate import research_cards as cards
from annotate import research_tables as tables
from annotate.language import FALLBACK, translate

IDLE_S = 3.0  # between two looks while no run trains
ASK_ON_CLICK = """
element.addEventListener('click', (event) => {
  const button = event.target.closest('button[data-policy]');
  if (button) trigger('ask', { policy: button.dataset.policy });
});
"""

Update = dict[Any, Any]


@dataclass(frozen=True)
class Parts:
    header: gr.HTML
    figures: tuple[gr.HTML, ...]  # serving, picks, agreement, next round
    train: gr.Button
    run: gr.HTML
    cancel: gr.Button
    policies_title: gr.HTML
    policies: gr.HTML
    roll_back: gr.Button
    confirm: gr.Row
    question: gr.HTML
    yes: gr.Button
    no: gr.Button
    runs: gr.HTML
    data: gr.HTML
    at_work: gr.State  # id of the run that "Cancel this run" is about, or None
    asked: gr.State  # Asked, or None when nothing is
    seen: gr.State  # hashes of what this browser has, so that an unchanged card is not sent again
    look: gr.Timer

    def live(self) -> list[Any]:
        return [
            *(self.header, *self.figures, self.train, self.run, self.cancel, self.at_work),
            *(self.policies, self.roll_back, self.runs, self.seen, self.look),
        ]

    def fixed(self) -> list[Any]:
        """What is said once, when the reader's language is known."""
        return [self.policies_title, self.yes, self.no, self.data]


def _html(value: str = "", **kwargs: Any) -> gr.HTML:
    kwargs.setdefault("js_on_load", None)
    return gr.HTML(value, apply_default_css=False, **kwargs)


def _card(elem_id: str | None = None, value: str = "") -> gr.HTML:
    with gr.Column(elem_id=elem_id, elem_classes="card", min_width=0):
        return _html(value)


def lay_out() -> Parts:
    header = _html(cards.header(None, None, FALLBACK), elem_id="topbar")
    with gr.Column(elem_id="research", elem_classes="page"):
        with gr.Row(elem_classes="figures"):
            serving, picks, agreement = (_card() for _ in range(3))
            with gr.Column(elem_classes="card", min_width=0):
                next_round = _html()
                train = gr.Button(
                    said("train"), elem_id="train-now", variant="primary", interactive=False
                )
        with gr.Row(elem_classes="two"):
            with gr.Column(elem_id="run", elem_classes="card", min_width=0):
                run = _html()
                cancel = gr.Button(said("cancel"), elem_id="cancel-run", visible=False)
            title, policies, roll_back, confirm, question, yes, no = _policies_card()
        runs = _card("runs")
        data = _card("data")
    return Parts(
        header=header,
        figures=(serving, picks, agreement, next_round),
        train=train,
        run=run,
        cancel=cancel,
        policies_title=title,
        policies=policies,
        roll_back=roll_back,
        confirm=confirm,
        question=question,
        yes=yes,
        no=no,
        runs=runs,
        data=data,
        at_work=gr.State(None),
        asked=gr.State(None),
        seen=gr.State({}),
        look=gr.Timer(IDLE_S),
    )


def said(key: str, lang: str = FALLBACK, **values: object) -> str:
    return translate(lang, f"research.{key}", **values)


def _policies_card() -> tuple[gr.HTML, gr.HTML, gr.Button, gr.Row, gr.HTML, gr.Button, gr.Button]:
    with gr.Column(elem_id="policies", elem_classes="card", min_width=0):
        with gr.Row(elem_classes="card-head"):
            title = _html()
            roll_back = gr.Button(
                said("roll_back"), elem_id="roll-back", visible=False, min_width=0
            )
        with gr.Row(elem_id="confirm", visible=False) as confirm:
            question = _html(elem_id="question")
            yes = gr.Button(said("yes"), elem_id="confirm-yes", variant="primary", min_width=0)
            no = gr.Button(said("no"), elem_id="confirm-no", min_width=0)
        policies = _html(js_on_load=ASK_ON_CLICK)
    return title, policies, roll_back, confirm, question, yes, no


def labels(parts: Parts, lang: str) -> Update:
    """The fixed parts of the page."""
    return {
        parts.policies_title: f"<h2>{escape(said('policies', lang))}</h2>",
        parts.yes: gr.update(value=said("yes", lang)),
        parts.no: gr.update(value=said("no", lang)),
        parts.data: tables.data_card(lang),
    }

"""The cards of the research page: pure functions from views to HTML, every value escaped."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from annotate.charts import curve, line_chart
from annotate.language import FALLBACK, translate
from annotate.navigation import pages_for
from annotate.reasons import why
from annotate.views import Overview
from annotate.wording import (
    TONES,
    accuracy,
    ago,
    chip_html,
    kind_of,
    rows_used,
    span,
    state_of,
)
from store.rows import Run, User
from train.outlook import time_left_s
from train.triggers import next_up

Lines = Sequence[dict[str, Any]]

LIVE = ("queued", "running")
SERVER = {"up": "good", "starting": "warn", "resting": "warn", "down": "bad"}
HERE = ' aria-current="page"'
STEPS_OF_A_ROUND = ("rm", "dpo")


def active_run(overview: Overview) -> Run | None:
    """The run at work; for a round the round itself, not its parts."""
    live = [run for run in overview.runs if run.status in LIVE]
    running = [run for run in live if run.status == "running"] or live
    whole = [run for run in running if run.parent_run_id is None] or running
    return whole[-1] if whole else None  # the oldest: later ones are queued behind it


def shown_run(overview: Overview) -> Run | None:
    """The run whose curves are shown: the one at work, else the last whole one."""
    return active_run(overview) or next((r for r in overview.runs if not r.parent_run_id), None)


# --- header and cards --------------------------------------------------------------------------


def header(overview: Overview | None, user: User | None, lang: str) -> str:
    """Its `lang` and its h1 are what research.js tells the browser about the whole page."""
    server = ""
    if overview:
        state = overview.server_state
        name = escape(translate(lang, "research.server"))
        words = escape(translate(lang, f"research.server.{state}"))
        server = (
            f'<span class="chip {SERVER[state]}"><span class="wide">{name} </span>{words}</span>'
        )
    links = "".join(
        f'<a href="{page.path}"{HERE if page.name == "research" else ""}>'
        f"{escape(translate(lang, f'nav.{page.name}'))}</a>"
        for page in pages_for(user.role if user else "researcher")
    )
    return (
        f'<div class="line" lang="{escape(lang, quote=True)}">'
        f'<h1 class="unseen">{escape(translate(lang, "nav.research"))}</h1>'
        '<span class="brand" aria-hidden="true"><i></i><i></i><b>prefloop</b></span>'
        f'<nav aria-label="{escape(translate(lang, "nav.pages"), quote=True)}">{links}</nav>'
        f'<div class="who">{server}{_account(user, lang)}</div></div>'
    )


def _account(user: User | None, lang: str) -> str:
    if user is None:
        return ""
    sign_out = escape(translate(lang, "nav.sign_out"))
    return (
        f'<a class="name" href="/annotate#account">{escape(user.name)}</a>'
        f'<a class="sign-out" href="/sign-in">{sign_out}</a>'
    )


def _card(label: str, figure: str, sub: str, extra: str = "", kind: str = "figure") -> str:
    return (
        f'<span class="label">{escape(label)}</span><div class="{kind}">{escape(figure)}</div>'
        f'<div class="sub">{escape(sub)}</div>{extra}'
    )


def serving_card(overview: Overview, lang: str) -> str:
    label, champion = translate(lang, "research.serving"), overview.champion
    figure = champion.policy_id if champion else translate(lang, "research.serving.nothing")
    if overview.server_state != "up":
        return _card(label, figure, _server_note(overview, lang))
    if champion is None:
        return _card(label, figure, translate(lang, "research.serving.none"))
    reason = why(champion.reason, lang)
    if champion.run_id and (champion.reason or "").startswith("Promoted: "):  # not by hand
        told = {"run": champion.run_id, "ago": ago(champion.created, lang)}
        reason = translate(lang, "research.serving.trained", **told)
    return _card(label, figure, reason)


def _server_note(overview: Overview, lang: str) -> str:
    """Details of a failure are English: they are for the log and for a search."""
    told = translate(lang, f"research.server.{overview.server_state}_note")
    if overview.server_state == "down" and overview.server_note:
        return overview.server_note if lang == FALLBACK else f"{told} {overview.server_note}"
    return told


def picks_card(overview: Overview, lang: str) -> str:
    facts = [
        translate(lang, "research.since", picks=overview.picks_since_round),
        translate(lang, "research.annotators", n=overview.annotators),
    ]
    if overview.median_seconds is not None:
        facts.append(translate(lang, "research.median", seconds=f"{overview.median_seconds:.1f}"))
    bar = ""
    if overview.round_every:
        share = min(1.0, overview.picks_since_round / overview.round_every)
        bar = f'<div class="bar"><i style="width:{100 * share:.0f}%"></i></div>'
    return _card(translate(lang, "research.picks"), f"{overview.picks:,}", " · ".join(facts), bar)


def agreement_card(overview: Overview, lang: str) -> str:
    label, alpha = translate(lang, "research.agreement"), overview.agreement
    if alpha is None:
        none = translate(lang, "research.agreement.none")
        return _card(label, none, translate(lang, "research.agreement.how"), kind="figure none")
    grade = "good" if alpha >= 0.8 else "fair" if alpha >= 0.67 else "low"
    return _card(label, f"{alpha:.2f}", translate(lang, f"research.agreement.{grade}"))


def round_card(overview: Overview, lang: str) -> str:
    label, run = translate(lang, "research.next"), active_run(overview)
    if run is not None:
        told = translate(lang, f"research.next.{run.status}", run=run.run_id)
        return _card(label, translate(lang, "research.next.training"), told)
    coming = next_up(overview.triggers)
    if not coming:
        figure = translate(lang, "research.next.demand")
        return _card(label, figure, translate(lang, "research.next.demand_how"))
    first = coming[0]
    if first.key == "now":
        figure = translate(lang, "research.next.due")
        return _card(label, figure, translate(lang, "research.next.due_how"))
    if first.key == "picks":
        figure = translate(lang, "research.next.in", n=overview.next_round_in)
        return _card(label, figure, translate(lang, "research.next.every", n=overview.round_every))
    figure = translate(lang, f"train.trigger.{first.key}", **first.values)
    return _card(label, figure, translate(lang, f"train.trigger_of.{first.name}"))


# --- one run with its curves -------------------------------------------------------------------


def run_panel(run: Run | None, lines: Lines, lang: str, at_work_s: float = 0.0) -> str:
    """`at_work_s`: without the time in the queue and in pauses."""
    if run is None:
        none, how = translate(lang, "research.run.none"), translate(lang, "research.run.none_how")
        head = f'<div class="row"><h2>{escape(none)}</h2></div><p class="sub">{escape(how)}</p>'
        return head + charts([], 1, lang, " ghost")
    part = str(lines[-1].get("part") or run.kind) if lines else run.kind
    lines = [line for line in lines if str(line.get("part") or run.kind) == part]
    last = lines[-1] if lines else {}
    step, end = int(last.get("step") or 0), int(last.get("max_steps") or 0)
    head = f'<div class="row"><h2>{escape(run.run_id)}</h2>{_run_chip(run, part, step, end, lang)}'
    head += f'<span class="end sub">{escape(_remaining(run, lines, lang, at_work_s))}</span></div>'
    told = _bar(run, step, end)
    if run.reason and run.status == "failed":
        told += f'<p class="notice">{escape(why(run.reason, lang))}</p>'
    if run.status in LIVE and not lines:
        told += f'<p class="sub empty">{escape(translate(lang, "research.run.soon"))}</p>'
    return head + told + charts(lines, end or step or 1, lang) + _run_foot(run, last, lang)


def _bar(run: Run, step: int, end: int) -> str:
    if run.status != "running" or not end:
        return ""
    return f'<div class="bar"><i style="width:{100 * min(1, step / end):.0f}%"></i></div>'


def charts(lines: Lines, end: float, lang: str, kind: str = "") -> str:
    loss = line_chart(
        translate(lang, "research.chart.loss"),
        curve(lines, "loss"),
        x_max=end,
        tone="blue",
        lang=lang,
        floor=0.0,
    )
    accuracy = line_chart(
        translate(lang, "research.chart.accuracy"),
        curve(lines, "accuracy"),
        x_max=end,
        tone="good",
        lang=lang,
        floor=0.0,
        ceiling=1.0,
        reference=0.5,
    )
    margin = line_chart(
        translate(lang, "research.chart.margin"),
        curve(lines, "margin"),
        x_max=end,
        tone="teal",
        lang=lang,
        floor=0.0,
    )
    return f'<div class="charts{kind}">{loss}{accuracy}{margin}</div>'


def _run_chip(run: Run, part: str, step: int, end: int, lang: str) -> str:
    if run.status == "running" and end:
        if run.kind == "round" and part in STEPS_OF_A_ROUND and step == end:
            return chip_html(translate(lang, f"research.trained.{part}"), "blue")
        told = {"kind": kind_of(part, lang), "step": str(step), "end": str(end)}
        return chip_html(translate(lang, "research.run.step", **told), "blue")
    state = run.verdict if run.status == "done" and run.verdict else run.status
    told = {"kind": kind_of(run.kind, lang), "state": state_of(state, lang)}
    return chip_html(translate(lang, "research.run.state", **told), TONES.get(state, ""))


def _remaining(run: Run, lines: Lines, lang: str, at_work_s: float) -> str:
    if run.status == "running":
        left = time_left_s(lines)
        return translate(lang, "research.run.left", span=span(left, lang)) if left else ""
    if run.status == "queued":
        return translate(lang, "research.run.waiting")
    took = span(at_work_s, lang)
    return f"{ago(run.changed, lang)} · {translate(lang, 'research.run.took', span=took)}"


def _run_foot(run: Run, last: dict[str, Any], lang: str) -> str:
    facts = rows_used(run.metrics, lang)
    if held_out := accuracy(run.metrics):
        facts.insert(0, translate(lang, "research.run.held_out", accuracy=held_out))
    right = []
    if isinstance(rate := last.get("tokens_per_second"), (int, float)):
        right.append(f"{rate:,.0f} tok/s")
    if isinstance(memory := last.get("memory_mb"), (int, float)):
        right.append(f"{memory / 1024:.1f} GB")
    told = f'<p class="sub">{escape(why(run.reason, lang))}</p>' if run.status == "done" else ""
    return (
        f'{told}<div class="row sub foot-row"><span>{escape(" · ".join(facts))}</span>'
        f'<span class="end">{escape(" · ".join(right))}</span></div>'
    )

"""The cards of the research page: pure functions from views to HTML, every value escaped."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from annotate.charts import curve, line_chart
from annotate.views import Overview
from annotate.wording import KIND, TONES, accuracy, ago, chip_html, plural, rows_used, span, why
from store.rows import Role, Run, User

Lines = Sequence[dict[str, Any]]

LIVE = ("queued", "running")
SERVER = {"up": ("good", "up"), "starting": ("warn", "starting")}
PAGES: tuple[tuple[str, str, Role], ...] = (
    ("Annotate", "/annotate", "annotator"),
    ("My picks", "/annotate#picks", "annotator"),
    ("Guidelines", "/annotate#guidelines", "annotator"),
    ("Research", "/research", "researcher"),
    ("Pools", "/pools", "researcher"),
    ("People", "/people", "admin"),
)
HERE = ' aria-current="page"'
STEPS_OF_A_ROUND = {
    "rm": "Reward model trained, DPO policy is next",
    "dpo": "DPO policy trained, its answers are being checked",
}


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


def header(overview: Overview | None, user: User | None) -> str:
    server = ""
    if overview:
        tone, words = SERVER.get(overview.server_state, ("bad", "down"))
        server = f'<span class="chip {tone}"><span class="wide">policy server </span>{words}</span>'
    links = "".join(
        f'<a href="{path}"{HERE if path == "/research" else ""}>{name}</a>'
        for name, path, role in PAGES
        if (user.may(role) if user else role != "admin")
    )
    return (
        '<div class="line"><h1 class="unseen">Research</h1>'
        '<span class="brand" aria-hidden="true"><i></i><i></i><b>prefloop</b></span>'
        f'<nav aria-label="Pages">{links}</nav>'
        f'<div class="who">{server}{_account(user)}</div></div>'
    )


def _account(user: User | None) -> str:
    if user is None:
        return ""
    return (
        f'<a class="name" href="/annotate#account">{escape(user.name)}</a>'
        '<a class="sign-out" href="/sign-in">Sign out</a>'
    )


def _card(label: str, figure: str, sub: str, extra: str = "") -> str:
    return (
        f'<span class="label">{escape(label)}</span><div class="figure">{escape(figure)}</div>'
        f'<div class="sub">{escape(sub)}</div>{extra}'
    )


def serving_card(overview: Overview) -> str:
    champion = overview.champion
    if overview.server_state != "up":
        note = overview.server_note or "The policy server is not up."
        return _card("Serving", champion.policy_id if champion else "nothing yet", note)
    if champion is None:
        return _card("Serving", "nothing yet", "No policy has been published.")
    reason = champion.reason or ""
    if champion.run_id and reason.startswith("Promoted: "):  # by the gate, not by hand
        reason = f"Trained in {champion.run_id}, {ago(champion.created)}."
    return _card("Serving", champion.policy_id, reason)


def picks_card(overview: Overview) -> str:
    facts = [f"{overview.picks_since_round:,} since the last round"]
    facts.append(plural(overview.annotators, "annotator"))
    if overview.median_seconds is not None:
        facts.append(f"{overview.median_seconds:.1f} s median")
    bar = ""
    if overview.round_every:
        share = min(1.0, overview.picks_since_round / overview.round_every)
        bar = f'<div class="bar"><i style="width:{100 * share:.0f}%"></i></div>'
    return _card("Picks", f"{overview.picks:,}", " · ".join(facts), bar)


def agreement_card(overview: Overview) -> str:
    if overview.agreement is None:
        return (
            '<span class="label">Agreement</span><div class="figure none">Not computed yet</div>'
            '<div class="sub">It needs pairs that two people have judged.</div>'
        )
    words = "good" if overview.agreement >= 0.8 else "fair" if overview.agreement >= 0.67 else "low"
    sub = f"Krippendorff's alpha: {words}; 0.67 is the usual bound"
    return _card("Agreement", f"{overview.agreement:.2f}", sub)


def round_card(overview: Overview) -> str:
    run = active_run(overview)
    if run is not None:
        words = "under way" if run.status == "running" else "waiting to start"
        return _card("Next round", "Training", f"{run.run_id} is {words}.")
    if overview.round_every == 0:
        return _card("Next round", "on demand", "No number of picks starts one by itself.")
    if overview.next_round_in <= 0:
        return _card("Next round", "due now", "It starts by itself in a moment.")
    every = f"One starts every {plural(overview.round_every, 'pick')}."
    return _card("Next round", f"in {plural(overview.next_round_in, 'pick')}", every)


# --- one run with its curves -------------------------------------------------------------------


def run_panel(run: Run | None, lines: Lines) -> str:
    if run is None:
        return (
            '<div class="row"><h2>No run yet</h2></div>'
            '<p class="sub">Loss, reward accuracy and margin appear here while '
            "a policy trains. A first round needs some picks; after that one click is enough.</p>"
            + charts([], 1, " ghost")
        )
    part = str(lines[-1].get("part") or run.kind) if lines else run.kind
    lines = [line for line in lines if str(line.get("part") or run.kind) == part]
    last = lines[-1] if lines else {}
    step, end = int(last.get("step") or 0), int(last.get("max_steps") or 0)
    head = f'<div class="row"><h2>{escape(run.run_id)}</h2>{_run_chip(run, part, step, end)}'
    head += f'<span class="end sub">{escape(_remaining(run, last, step, end))}</span></div>'
    note = '<p class="sub empty">The first step arrives in a few seconds.</p>'
    waiting = note if run.status in LIVE and not lines else ""
    problem = (
        f'<p class="notice">{escape(run.reason)}</p>'
        if run.reason and run.status == "failed"
        else ""
    )
    bar = ""
    if run.status == "running" and end:
        bar = f'<div class="bar"><i style="width:{100 * min(1, step / end):.0f}%"></i></div>'
    return head + bar + problem + waiting + charts(lines, end or step or 1) + _run_foot(run, last)


def charts(lines: Lines, end: float, kind: str = "") -> str:
    loss = line_chart("Loss", curve(lines, "loss"), x_max=end, tone="blue", floor=0.0)
    accuracy = line_chart(
        "Reward accuracy",
        curve(lines, "accuracy"),
        x_max=end,
        tone="good",
        floor=0.0,
        ceiling=1.0,
        reference=0.5,
    )
    margin = line_chart("Margin", curve(lines, "margin"), x_max=end, tone="teal", floor=0.0)
    return f'<div class="charts{kind}">{loss}{accuracy}{margin}</div>'


def _run_chip(run: Run, part: str, step: int, end: int) -> str:
    if run.status == "running" and run.kind == "round" and part in STEPS_OF_A_ROUND and step == end:
        return chip_html(STEPS_OF_A_ROUND[part], "blue")
    if run.status == "running" and end:
        return chip_html(f"{KIND.get(part, part)}, step {step} of {end}", "blue")
    state = run.verdict if run.status == "done" and run.verdict else run.status
    return chip_html(f"{KIND.get(run.kind, run.kind)} {state}", TONES.get(state, ""))


def _remaining(run: Run, last: dict[str, Any], step: int, end: int) -> str:
    if run.status == "running":
        elapsed = last.get("seconds")
        if isinstance(elapsed, (int, float)) and 0 < step < end:
            return f"{span(elapsed / step * (end - step))} left"
        return ""
    if run.status == "queued":
        return "waiting to start"
    return f"{ago(run.changed)} · took {span((run.changed - run.created).total_seconds())}"


def _run_foot(run: Run, last: dict[str, Any]) -> str:
    facts = rows_used(run.metrics)
    if held_out := accuracy(run.metrics):
        facts.insert(0, f"held-out accuracy {held_out}")
    right = []
    if isinstance(rate := last.get("tokens_per_second"), (int, float)):
        right.append(f"{rate:,.0f} tok/s")
    if isinstance(memory := last.get("memory_mb"), (int, float)):
        right.append(f"{memory / 1024:.1f} GB")
    told = f'<p class="sub">{escape(why(run.reason))}</p>' if run.status == "done" else ""
    return (
        f'{told}<div class="row sub foot-row"><span>{escape(" · ".join(facts))}</span>'
        f'<span class="end">{escape(" · ".join(right))}</span></div>'
    )

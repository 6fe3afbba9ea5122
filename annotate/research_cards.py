"""The HTML of the research page: pure functions from views to text, every value escaped."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from html import escape
from typing import Any

from annotate.charts import curve, line_chart
from annotate.views import Overview
from store.rows import Policy, Run, User, utc_now

Lines = Sequence[dict[str, Any]]

KIND = {"rm": "Reward model", "dpo": "DPO policy", "sft": "Fine-tune", "round": "Round"}
LIVE = ("queued", "running")
TONES = {
    "queued": "",
    "running": "blue",
    "done": "good",
    "failed": "bad",
    "cancelled": "",
    "candidate": "blue",
    "champion": "good",
    "retired": "",
    "rejected": "bad",
    "promoted": "good",
}
SERVER = {"up": ("good", "up"), "starting": ("warn", "starting")}
RUNS_SHOWN, POLICIES_SHOWN = 12, 50
EXPORTS = (
    ("trl", "TRL preference", "prompt, chosen, rejected"),
    ("trl-conversational", "TRL conversational", "the same as messages"),
    ("jsonl", "Everything", "both sides, log-probabilities, seeds, times"),
)


# --- words and numbers -------------------------------------------------------------------------


def chip(text: str, tone: str = "") -> str:
    return f'<span class="chip {tone}">{escape(text)}</span>'


def percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def span(seconds: float) -> str:
    seconds = max(0, round(seconds))
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60:02d} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60:02d} min"


def ago(then: datetime) -> str:
    seconds = (utc_now() - then).total_seconds()
    for size, word in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if (count := int(seconds // size)) > 0:
            return f"{count} {word}{'s' if count > 1 else ''} ago"
    return "just now"


def plural(count: int, word: str) -> str:
    return f"{count:,} {word}" + ("" if count == 1 else "s")


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
    name = f'<span class="name">{escape(user.name)}</span>' if user else ""
    return (
        '<div class="line"><div class="brand"><i></i><i></i><b>prefloop</b></div>'
        '<nav><a href="/annotate">Annotate</a><a class="here" href="/research">Research</a></nav>'
        f'<div class="who">{server}{name}<a class="sign-out" href="/sign-in">Sign out</a></div>'
        "</div>"
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
    return _card(
        "Serving", champion.policy_id, champion.reason or "The base model, as it was trained."
    )


def picks_card(overview: Overview) -> str:
    facts = [f"{overview.picks_since_round:,} since the last round"]
    facts.append(plural(overview.annotators, "annotator"))
    if overview.median_seconds is not None:
        facts.append(f"{overview.median_seconds:.1f} s median")
    share = min(1.0, overview.picks_since_round / max(1, overview.round_every))
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
    if overview.next_round_in <= 0:
        return _card("Next round", "due now", "It starts by itself in a moment.")
    every = f"A round starts by itself every {plural(overview.round_every, 'pick')}."
    return _card("Next round", f"in {plural(overview.next_round_in, 'pick')}", every)


# --- one run with its curves -------------------------------------------------------------------


def run_panel(run: Run | None, lines: Lines) -> str:
    if run is None:
        return (
            '<h2>No run yet</h2><p class="sub">Loss, reward accuracy and margin appear here while '
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
    kind = KIND.get(part, part)
    if run.status == "running" and end:
        return chip(f"{kind}, step {step} of {end}", "blue")
    return chip(f"{KIND.get(run.kind, run.kind)} {run.status}", TONES[run.status])


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
    if run.verdict:
        facts.insert(0, f"{run.verdict}: {run.reason}" if run.reason else run.verdict)
    right = []
    if isinstance(rate := last.get("tokens_per_second"), (int, float)):
        right.append(f"{rate:,.0f} tok/s")
    if isinstance(memory := last.get("memory_mb"), (int, float)):
        right.append(f"{memory / 1024:.1f} GB")
    return (
        f'<div class="row sub foot-row"><span>{escape(" · ".join(facts))}</span>'
        f'<span class="end">{escape(" · ".join(right))}</span></div>'
    )


def rows_used(metrics: dict[str, Any]) -> list[str]:
    names = (
        ("rows_train", "{} to train on"),
        ("rows_eval", "{} held out"),
        ("rows_too_long", "{} too long"),
        ("rows_identical", "{} identical"),
    )
    values = ((metrics.get(key), words) for key, words in names)
    facts = [w.format(f"{v:,}") for v, w in values if isinstance(v, int) and (v or "train" in w)]
    picks = metrics.get("picks")
    if isinstance(picks, dict) and isinstance(ties := picks.get("tie"), int) and ties:
        facts.append(f"{plural(ties, 'tie')} left out")
    return facts


# --- tables ------------------------------------------------------------------------------------


def runs_table(overview: Overview) -> str:
    if not overview.runs:
        return '<h2>Runs</h2><p class="sub">None yet. Each run appears here with its result.</p>'
    rows = "".join(_run_row(run) for run in _nested(overview.runs)[:RUNS_SHOWN])
    return (
        '<h2>Runs</h2><div class="wide-table"><table><thead><tr><th>Run</th><th>Kind</th>'
        "<th>State</th>"
        '<th class="n">Held-out accuracy</th><th class="n">Took</th><th class="n">When</th>'
        f"<th>Result</th></tr></thead><tbody>{rows}</tbody></table></div>"
        f"{_more(len(overview.runs) - RUNS_SHOWN)}"
    )


def _nested(runs: Sequence[Run]) -> list[Run]:
    """Each round followed by its parts, oldest part first."""
    wholes = [run for run in runs if run.parent_run_id is None]
    known = {run.run_id for run in wholes}
    out: list[Run] = [run for run in runs if run.parent_run_id and run.parent_run_id not in known]
    for whole in wholes:
        parts = [run for run in runs if run.parent_run_id == whole.run_id]
        out += [whole, *reversed(parts)]
    return out


def _run_row(run: Run) -> str:
    result = " · ".join(
        t for t in (run.policy_id or "", run.reason or "", *rows_used(run.metrics)) if t
    )
    took = "–" if run.status == "queued" else span((_end(run) - run.created).total_seconds())
    inner = " part" if run.parent_run_id else ""
    state = run.verdict if run.status == "done" and run.verdict else run.status
    return (
        f'<tr class="{inner}"><td class="mono">{escape(run.run_id)}</td>'
        f'<td class="kind">{escape(KIND.get(run.kind, run.kind))}</td>'
        f"<td>{chip(state, TONES.get(state, ''))}</td>"
        f'<td class="n">{escape(accuracy(run.metrics))}</td><td class="n">{took}</td>'
        f'<td class="n">{ago(run.created)}</td><td class="why">{escape(result)}</td></tr>'
    )


def _end(run: Run) -> datetime:
    return utc_now() if run.status == "running" else run.changed


def accuracy(metrics: dict[str, Any]) -> str:
    value, low, high = (metrics.get(k) for k in ("accuracy", "accuracy_low", "accuracy_high"))
    if not isinstance(value, (int, float)):
        return "–"
    if isinstance(low, (int, float)) and isinstance(high, (int, float)):
        return f"{percent(value)} [{100 * low:.1f}, {100 * high:.1f}]"
    return percent(value)


def policies_table(overview: Overview) -> str:
    if not overview.policies:
        return '<p class="sub">The first policy appears once the policy server is up.</p>'
    rows = "".join(_policy_row(policy) for policy in overview.policies[:POLICIES_SHOWN])
    return (
        '<div class="scroll"><table><thead><tr><th>Version</th><th>State</th>'
        "<th></th></tr></thead>"
        f"<tbody>{rows}</tbody></table></div>{_more(len(overview.policies) - POLICIES_SHOWN)}"
    )


def _policy_row(policy: Policy) -> str:
    act = ""
    if policy.status in ("candidate", "retired"):
        name = escape(policy.policy_id, quote=True)
        act = (
            f'<button type="button" class="link" data-policy="{name}" aria-label="Promote {name}">'
            "Promote</button>"
        )
    reason = policy.reason or ("the base model" if policy.run_id is None else "")
    why = f'<div class="why">{escape(reason)}</div>' if reason else ""
    return (
        f'<tr><td class="mono">{escape(policy.policy_id)}</td>'
        f'<td>{chip(policy.status, TONES[policy.status])}{why}</td><td class="n">{act}</td></tr>'
    )


def _more(left_out: int) -> str:
    return f'<p class="sub more">{left_out:,} older ones are not shown.</p>' if left_out > 0 else ""


def data_card() -> str:
    rows = "".join(
        f'<a class="btn" href="/api/v1/export/{name}" download><b>{title}</b>'
        f'<span class="sub">{what}</span></a>'
        for name, title, what in EXPORTS
    )
    return (
        '<h2>Download the preferences</h2><p class="sub">Live human picks as JSON lines; picks '
        f'that were taken back are left out.</p><div class="exports">{rows}</div>'
    )

"""The tables of the research page: pure functions from views to HTML, every value escaped."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from html import escape

from annotate.views import Overview
from annotate.wording import (
    KIND,
    TONES,
    accuracy,
    ago,
    chip_html,
    more_html,
    rows_used,
    span,
    why,
)
from store.rows import Policy, Run, utc_now

RUNS_SHOWN, POLICIES_SHOWN = 12, 50
EXPORTS = (
    ("trl", "TRL preference", "prompt, chosen, rejected"),
    ("trl-conversational", "TRL conversational", "the same as messages"),
    ("jsonl", "Everything", "both sides, log-probabilities, seeds, times"),
)


def runs_table(overview: Overview) -> str:
    if not overview.runs:
        return '<h2>Runs</h2><p class="sub">None yet. Each run appears here with its result.</p>'
    rows = "".join(_run_row(run) for run in _nested(overview.runs)[:RUNS_SHOWN])
    return (
        '<h2>Runs</h2><table class="stacking"><thead><tr><th>Run</th><th>Kind</th><th>State</th>'
        '<th class="n">Held-out accuracy</th><th class="n">Took</th><th class="n">When</th>'
        f"<th>Result</th></tr></thead><tbody>{rows}</tbody></table>"
        f"{more_html(len(overview.runs) - RUNS_SHOWN)}"
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
    state = run.verdict if run.status == "done" and run.verdict else run.status
    # of a promoted policy, the serving card and the list of policies give the reason
    reason = "" if run.verdict == "promoted" else why(run.reason)
    facts = [] if run.parent_run_id else rows_used(run.metrics)  # the parts use the round's rows
    result = " · ".join(t for t in (run.policy_id or "", reason, *facts) if t)
    took = "–" if run.status == "queued" else span((_end(run) - run.created).total_seconds())
    return (
        f'<tr class="{"part" if run.parent_run_id else "whole"}">'
        f'<td class="id mono">{escape(run.run_id)}</td>'
        f'<td class="kind">{escape(KIND.get(run.kind, run.kind))}</td>'
        f'<td class="state">{chip_html(state, TONES.get(state, ""))}</td>'
        f'<td class="n held-out">{escape(accuracy(run.metrics))}</td>'
        f'<td class="n took">{took}</td><td class="n when">{ago(run.created)}</td>'
        f'<td class="why">{escape(result)}</td></tr>'
    )


def _end(run: Run) -> datetime:
    return utc_now() if run.status == "running" else run.changed


def policies_table(overview: Overview) -> str:
    if not overview.policies:
        return '<p class="sub">The first policy appears once the policy server is up.</p>'
    rows = "".join(_policy_row(policy) for policy in overview.policies[:POLICIES_SHOWN])
    return (
        '<div class="scroll"><table><thead><tr><th>Version</th><th>State</th>'
        '<th class="n">Serve it</th></tr></thead>'
        f"<tbody>{rows}</tbody></table></div>{more_html(len(overview.policies) - POLICIES_SHOWN)}"
    )


def _policy_row(policy: Policy) -> str:
    act = ""
    if policy.status in ("candidate", "retired") and not policy.retired_for_good:
        name = escape(policy.policy_id, quote=True)
        act = (
            f'<button type="button" class="link" data-policy="{name}" aria-label="Promote {name}">'
            "Promote</button>"
        )
    row = (
        f'<td class="mono">{escape(policy.policy_id)}</td>'
        f'<td>{chip_html(policy.status, TONES.get(policy.status, ""))}</td><td class="n">{act}</td>'
    )
    reason = escape(why(policy.reason))
    if not reason:
        return f"<tr>{row}</tr>"
    return f'<tr class="told">{row}</tr><tr><td class="why" colspan="3">{reason}</td></tr>'


def data_card() -> str:
    buttons = "".join(
        f'<a class="btn" href="/api/v1/export/{name}" download><b>{title}</b>'
        f'<span class="sub">{what}</span></a>'
        for name, title, what in EXPORTS
    )
    simulated = " · ".join(
        f'<a href="/api/v1/export/{name}?where=source%3Dall" download>{title}</a>'
        for name, title, _ in EXPORTS
    )
    return (
        '<h2>Download the preferences</h2><p class="sub">JSON lines of human and imported picks; '
        f'those that were taken back are left out.</p><div class="exports">{buttons}</div>'
        f'<p class="sub">With the picks of simulated annotators: {simulated}</p>'
    )

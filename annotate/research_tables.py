"""The tables of the research page: pure functions from views to HTML, every value escaped."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from annotate.language import translate
from annotate.reasons import why
from annotate.views import Overview
from annotate.wording import accuracy, ago, kind_of, more_html, rows_used, span, state_html
from store.rows import Policy, Run

RUNS_SHOWN, POLICIES_SHOWN = 12, 50
COLUMNS = (
    ("run", ""),
    ("kind", ""),
    ("state", ""),
    ("held_out", "n"),
    ("took", "n"),
    ("when", "n"),
    ("result", ""),
)
EXPORTS = (("trl", "trl"), ("trl-conversational", "conversational"), ("jsonl", "everything"))


def runs_table(overview: Overview, lang: str) -> str:
    title = f"<h2>{_t(lang, 'research.runs')}</h2>"
    if not overview.runs:
        return f'{title}<p class="sub">{_t(lang, "research.runs.none")}</p>'
    heads = "".join(
        f'<th class="{look}">{_t(lang, f"research.column.{name}")}</th>' for name, look in COLUMNS
    )
    shown = _nested(overview.runs)[:RUNS_SHOWN]
    rows = "".join(_run_row(run, lang, overview.at_work_s.get(run.run_id)) for run in shown)
    return (
        f'{title}<table class="stacking"><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody>'
        f"</table>{more_html(len(overview.runs) - RUNS_SHOWN, lang)}"
    )


def _t(lang: str, key: str, **values: object) -> str:
    return escape(translate(lang, key, **values), quote=True)


def _nested(runs: Sequence[Run]) -> list[Run]:
    """Each round followed by its parts, oldest part first."""
    wholes = [run for run in runs if run.parent_run_id is None]
    known = {run.run_id for run in wholes}
    out: list[Run] = [run for run in runs if run.parent_run_id and run.parent_run_id not in known]
    for whole in wholes:
        parts = [run for run in runs if run.parent_run_id == whole.run_id]
        out += [whole, *reversed(parts)]
    return out


def _run_row(run: Run, lang: str, at_work_s: float | None) -> str:
    state = run.verdict if run.status == "done" and run.verdict else run.status
    # of a promoted policy, the serving card and the list of policies give the reason
    reason = "" if run.verdict == "promoted" else why(run.reason, lang)
    # the parts use the round's rows
    facts = [] if run.parent_run_id else rows_used(run.metrics, lang)
    result = " · ".join(t for t in (run.policy_id or "", reason, *facts) if t)
    took = "–" if at_work_s is None else span(at_work_s, lang)
    held_out, took_name = (_t(lang, f"research.narrow.{name}") for name in ("held_out", "took"))
    return (
        f'<tr class="{"part" if run.parent_run_id else "whole"}">'
        f'<td class="id mono">{escape(run.run_id)}</td>'
        f'<td class="kind">{escape(kind_of(run.kind, lang))}</td>'
        f'<td class="state">{state_html(state, lang)}</td>'
        f'<td class="n held-out" data-name="{held_out}">{escape(accuracy(run.metrics))}</td>'
        f'<td class="n took" data-name="{took_name}">{escape(took)}</td>'
        f'<td class="n when">{escape(ago(run.created, lang))}</td>'
        f'<td class="why">{escape(result)}</td></tr>'
    )


def policies_table(overview: Overview, lang: str) -> str:
    if not overview.policies:
        return f'<p class="sub">{_t(lang, "research.policies.none")}</p>'
    name, serve = _t(lang, "research.policies"), _t(lang, "research.column.serve")
    version, state = _t(lang, "research.column.version"), _t(lang, "research.column.state")
    rows = "".join(_policy_row(policy, lang) for policy in overview.policies[:POLICIES_SHOWN])
    return (
        f'<div class="scroll" role="region" aria-label="{name}" tabindex="0"><table><thead><tr>'
        f'<th>{version}</th><th>{state}</th><th class="n">{serve}</th></tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
        f"{more_html(len(overview.policies) - POLICIES_SHOWN, lang)}"
    )


def _policy_row(policy: Policy, lang: str) -> str:
    act = ""
    if policy.status in ("candidate", "retired") and not policy.retired_for_good:
        name = escape(policy.policy_id, quote=True)
        act = (
            f'<button type="button" class="link" data-policy="{name}" '
            f'aria-label="{_t(lang, "research.promote_policy", policy=policy.policy_id)}">'
            f"{_t(lang, 'research.promote')}</button>"
        )
    row = (
        f'<td class="mono">{escape(policy.policy_id)}</td>'
        f'<td>{state_html(policy.status, lang)}</td><td class="n">{act}</td>'
    )
    reason = escape(why(policy.reason, lang))
    if not reason:
        return f"<tr>{row}</tr>"
    return f'<tr class="told">{row}</tr><tr><td class="why" colspan="3">{reason}</td></tr>'


def data_card(lang: str) -> str:
    buttons = "".join(
        f'<a class="btn" href="/api/v1/export/{path}" download>'
        f"<b>{_t(lang, f'research.export.{name}')}</b>"
        f'<span class="sub">{_t(lang, f"research.export.{name}_what")}</span></a>'
        for path, name in EXPORTS
    )
    simulated = " · ".join(
        f'<a href="/api/v1/export/{path}?where=source%3Dall" download>'
        f"{_t(lang, f'research.export.{name}')}</a>"
        for path, name in EXPORTS
    )
    return (
        f'<h2>{_t(lang, "research.export")}</h2><p class="sub">{_t(lang, "research.export.what")}'
        f'</p><div class="exports">{buttons}</div>'
        f'<p class="sub">{_t(lang, "research.export.simulated")} {simulated}</p>'
    )

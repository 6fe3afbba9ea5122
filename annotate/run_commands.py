"""The commands about training: `train` plans and starts a run, `runs` looks at them and steers."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any, Literal

import typer

from annotate.api_client import ApiClient
from annotate.command_options import ConfigOption, Connect, DataDirOption, show
from store.rows import Invalid, PrefloopError, RunKind
from train.outlook import run_warnings

Action = Literal["list", "show", "pause", "resume", "cancel", "repeat", "log"]
SAID = {
    "pause": "{run} pauses after its current step; `prefloop runs resume {run}` goes on.",
    "resume": "{run} waits to go on.",
    "cancel": "{run} ends after its current step.",
    "repeat": "{run} is queued, with the same picks and settings.",
}


def add_run_commands(cli: typer.Typer, connect: Connect) -> None:
    _add_train(cli, connect)
    _add_runs(cli, connect)


def _add_train(cli: typer.Typer, connect: Connect) -> None:
    @cli.command()
    def train(
        kind: Annotated[
            RunKind, typer.Argument(help="round: a reward model, a DPO policy, and the gate.")
        ],
        set_: Annotated[
            list[str] | None, typer.Option("--set", help="key=value, repeatable.")
        ] = None,
        wait: Annotated[bool, typer.Option("--wait", help="Stay until it has ended.")] = False,
        preview: Annotated[
            bool, typer.Option("--preview", help="Tell what it would do, and start nothing.")
        ] = False,
        list_settings: Annotated[
            bool, typer.Option("--list-settings", help="All settings with their defaults.")
        ] = False,
        config: ConfigOption = None,
        data_dir: DataDirOption = None,
    ) -> None:
        """Train on the picks: sft, rm, dpo, kto, or a whole round with its gate."""
        body = {"kind": kind, "set": _settings(set_ or [])}
        runs_here = not (preview or list_settings)  # then vLLM scores the policy that it makes
        with connect(config, data_dir, policy=kind != "rm" and runs_here) as client:
            if list_settings:
                print(settings_text(client.get(f"/runs/settings/{kind}")))
                return
            plan = client.post("/runs/preview", body)
            print(plan_text(plan), flush=True)
            if preview:
                return
            if plan["problem"]:
                raise Invalid(plan["problem"])
            _go(client, client.post("/runs", body)["run_id"], wait, "{run} is queued.")


def _add_runs(cli: typer.Typer, connect: Connect) -> None:
    @cli.command()
    def runs(
        action: Annotated[Action, typer.Argument()] = "list",
        run_id: Annotated[str | None, typer.Argument(help="For all but list.")] = None,
        wait: Annotated[
            bool, typer.Option("--wait", help="After resume and repeat: stay until it has ended.")
        ] = False,
        lines: Annotated[int, typer.Option(min=1, max=2000, help="Of the log.")] = 200,
        last: Annotated[int, typer.Option(min=1, max=1000, help="Runs in the list.")] = 50,
        config: ConfigOption = None,
        data_dir: DataDirOption = None,
    ) -> None:
        """List training runs, look at one, pause, resume, cancel or repeat it."""
        if action != "list" and run_id is None:
            raise typer.BadParameter(f"{action} needs the id of a run")
        goes_on = action in ("resume", "repeat")  # perhaps to a gate, which samples
        with connect(config, data_dir, policy=goes_on) as client:
            if action == "list":
                print(_list(client.get("/runs", limit=last)))
            elif action == "show":
                print(json.dumps(client.get(f"/runs/{run_id}"), indent=2, ensure_ascii=False))
            elif action == "log":
                print(client.get(f"/runs/{run_id}/log", lines=lines)["log"])
            else:
                changed = client.post(f"/runs/{run_id}/{action}")["run_id"]
                if goes_on:
                    _go(client, changed, wait, SAID[action])
                else:
                    print(SAID[action].format(run=changed))


def _list(listed: dict[str, Any]) -> str:
    lines = [
        f"{run['run_id']}  {run['kind']:<5} {run['status']:<9} {_why(run)}"
        for run in listed["runs"]
    ]
    if listed["more"]:
        lines.append("There are older ones; --last 1000 lists more.")
    return "\n".join(lines or ["No run yet: `prefloop train KIND` starts one."])


def _why(run: dict[str, Any]) -> str:
    """What a list says of a run: its reason and, of one that is done, how it did."""
    if run["status"] in ("queued", "running"):
        return ""  # a reason of before is why it was paused
    said = run["reason"] or run["policy_id"] or ""
    metrics = run["metrics"]
    if run["kind"] == "round" or run["status"] != "done":
        return said
    if "accuracy" in metrics:
        return f"held-out accuracy {metrics['accuracy']:.1%}. {said}".rstrip()
    if "eval_loss" in metrics:
        return f"held-out loss {metrics['eval_loss']:.3f}. {said}".rstrip()
    return said


def _go(client: ApiClient, run_id: str, wait: bool, said: str) -> None:
    if wait or client.temporary:  # an app of our own would take the run along when it ends
        follow(client, run_id)
    else:
        print(f"{said.format(run=run_id)} The training page, or --wait, shows how it goes.")


def _settings(pairs: list[str]) -> dict[str, str]:
    parsed = dict(pair.partition("=")[::2] for pair in pairs)
    if broken := [pair for pair in pairs if "=" not in pair]:
        raise Invalid(f"Cannot read --set {broken[0]!r}: write key=value.")
    return parsed


# --- before a start -------------------------------------------------------------------------------


def settings_text(form: dict[str, Any]) -> str:
    """Every setting with its default, unit, range and help, in groups."""
    lines: list[str] = []
    for part in form["parts"]:
        dotted = f"{part['part']}." if form["kind"] == "round" else ""
        lines.append(part["help"])
        group = ""
        for field in part["fields"]:
            if field["group"] != group:
                group = field["group"]
                lines.append(f"\n  {group}")
            unit = f" {field['unit']}" if field["unit"] else ""
            lines.append(f"    {dotted}{field['name']}={shown(field['default'])}{unit}")
            lines.append(f"        {field['help']}{_bounds(field)}")
        lines.append("")
    return "\n".join(lines).rstrip()


def _bounds(field: dict[str, Any]) -> str:
    if field["choices"]:
        return f" One of {', '.join(field['choices'])}."
    if field["type"] not in ("int", "float"):
        return ""
    most = f" to {field['most']:g}" if field["most"] is not None else " or more"
    return f" {field['least']:g}{most}."


def shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def plan_text(preview: dict[str, Any]) -> str:
    """What a run would do, and the command that starts it."""
    lines: list[str] = []
    for part in preview["parts"]:
        lines.append(f"{part['part']}: {part['plan']['sentence']}")
        rows = part["plan"]["rows_train"]
        lines.append(f"  {part['steps']} steps on {rows} rows.")
        lines += [f"  {sentence}" for sentence in part["rule"].values()]
        changed = [f"{key}={shown(part['settings'][key])}" for key in part["changed"]]
        lines.append(f"  Settings: the preset{', but ' + ', '.join(changed) if changed else ''}.")
    lines += [f"Warning: {warning['message']}" for warning in preview["warnings"]]
    if preview["problem"]:
        lines.append(f"It cannot start: {preview['problem']}")
    return "\n".join([*lines, preview["command"]])


# --- while it runs --------------------------------------------------------------------------------


def follow(client: ApiClient, run_id: str) -> None:
    """A line whenever something changed, then the result. Raises PrefloopError when it failed."""
    told, after = "", 0
    run: dict[str, Any] = {}
    last: dict[str, Any] = {}
    for run in client.wait_for_run(run_id):
        new = client.get(f"/runs/{run_id}/progress", after=after)
        after = new["next"]
        last = (new["progress"] or [last])[-1]
        line = _progress_line(run, last)
        if line != told:
            show(line)
            told = line
    if sys.stderr.isatty():
        print(file=sys.stderr)
    if run["status"] == "paused":
        print(f"{run_id} is paused. `prefloop runs resume {run_id}` goes on.")
        return
    if run["status"] != "done":
        raise PrefloopError(f"{run_id} {run['status']}: {run['reason']}")
    print(summary(run))


def _progress_line(run: dict[str, Any], last: dict[str, Any]) -> str:
    part = last.get("part", run["kind"])
    step = f" {part} step {last['step']} of {last['max_steps']}" if "max_steps" in last else ""
    loss = f", loss {last['loss']:.3f}" if "loss" in last else ""
    left = run.get("time_left_s")
    rest = f", {_span(left)} left" if left else ""
    return f"{run['run_id']} {run['status']}{step}{loss}{rest}"


def _span(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def summary(run: dict[str, Any]) -> str:
    """What came out, in plain words."""
    metrics = run["metrics"]
    lines = [f"{run['run_id']} done." + (f" {run['reason']}" if run["reason"] else "")]
    own = {"rm": "reward model", "round": "dpo policy"}.get(run["kind"], f"{run['kind']} policy")
    for name, part in (("reward model", metrics.get("reward_model")), (own, metrics)):
        if part:
            lines.append(f"  {name}: {_result(part)}")
    if warning := metrics.get("precision_gap", {}).get("warning"):
        lines.append(f"Warning: {warning}")
    others = (one for one in run_warnings([], metrics=metrics) if one.key == "other_prompt")
    lines += [f"Warning: {one.message}" for one in others]
    return "\n".join(lines)


def _result(metrics: dict[str, Any]) -> str:
    """Numbers that this kind of run has; rows first."""
    count = {name: metrics.get(f"rows_{name}", 0) for name in ("too_long", "identical", "cut")}
    told = (
        f"{metrics['rows_train']} rows used, {metrics['rows_eval']} held out, "
        f"{count['too_long']} too long, {count['identical']} identical, {count['cut']} cut short"
    )
    if refused := metrics.get("rows_refused"):
        told += f", {refused} refused by the chat template"
    if alike := metrics.get("rows_alike"):
        told += f", {alike} that it makes alike"
    if "accuracy_low" in metrics:
        told += (
            f"; held-out accuracy {metrics['accuracy']:.1%} "
            f"(95 % interval {metrics['accuracy_low']:.1%} to {metrics['accuracy_high']:.1%})"
        )
    elif "eval_loss" in metrics:
        told += f"; held-out loss {metrics['eval_loss']:.3f}"
    return told

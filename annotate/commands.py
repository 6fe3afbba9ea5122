"""The commands that go through the app's HTTP API: train, policies, import, export, and so on."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

import typer

from annotate.api_client import ApiClient
from annotate.export_file import write_export
from annotate.simulate import Plan
from annotate.simulate import simulate as run_simulation
from annotate.tastes import TASTES
from store import importing
from store.rows import Invalid, PrefloopError, Role, RunKind

ConfigOption = Annotated[
    Path | None, typer.Option("--config", help="Configuration file; default prefloop.toml.")
]
DataDirOption = Annotated[
    Path | None, typer.Option("--data-dir", help="Where the picks live; default data.")
]
FormatOption = Annotated[
    str | None, typer.Option("--format", help="Only when the file's content does not tell.")
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Read and check, store nothing.")]


class Connect(Protocol):
    def __call__(
        self, config_file: Path | None, data_dir: Path | None, *, policy: bool = False
    ) -> AbstractContextManager[ApiClient]: ...


def add_commands(cli: typer.Typer, connect: Connect) -> None:
    _add_train(cli, connect)
    _add_policies(cli, connect)
    _add_import(cli, connect)
    _add_export(cli, connect)
    _add_simulate(cli, connect)
    _add_users(cli, connect)
    _add_backup(cli, connect)


def _add_train(cli: typer.Typer, connect: Connect) -> None:
    @cli.command()
    def train(
        kind: Annotated[
            RunKind, typer.Argument(help="A reward model, a DPO policy, or both with the gate.")
        ],
        wait: Annotated[bool, typer.Option("--wait", help="Stay until it has ended.")] = False,
        set_: Annotated[
            list[str] | None, typer.Option("--set", help="key=value, repeatable.")
        ] = None,
        config: ConfigOption = None,
        data_dir: DataDirOption = None,
    ) -> None:
        """Train on the picks: a reward model, a DPO policy, or a whole round with its gate."""
        with connect(config, data_dir, policy=kind == "round") as client:
            run_id = client.post("/runs", {"kind": kind, "set": _settings(set_ or [])})["run_id"]
            if wait or client.temporary:  # an app of our own would take the run along when it ends
                _follow(client, run_id)
            else:
                print(f"{run_id} is queued. The research page, or --wait, shows how it goes.")


def _settings(pairs: list[str]) -> dict[str, str]:
    parsed = dict(pair.partition("=")[::2] for pair in pairs)
    if broken := [pair for pair in pairs if "=" not in pair]:
        raise Invalid(f"Cannot read --set {broken[0]!r}: write key=value.")
    return parsed


def _follow(client: ApiClient, run_id: str) -> None:
    """A line whenever something changed, then the result. Raises PrefloopError when it failed."""
    shown = ""
    run: dict[str, Any] = {}
    for run in client.wait_for_run(run_id):
        lines = client.get(f"/runs/{run_id}/progress")["progress"]
        line = _progress_line(run, lines[-1] if lines else {})
        if line != shown:
            _show(line)
            shown = line
    if sys.stderr.isatty():
        print(file=sys.stderr)
    if run["status"] != "done":
        raise PrefloopError(f"{run_id} {run['status']}: {run['reason']}")
    print(summary(run))


def _progress_line(run: dict[str, Any], last: dict[str, Any]) -> str:
    part = last.get("part", run["kind"])
    step = f" {part} step {last['step']} of {last['max_steps']}" if "step" in last else ""
    loss = f", loss {last['loss']:.3f}" if "loss" in last else ""
    return f"{run['run_id']} {run['status']}{step}{loss}"


def _show(line: str) -> None:
    end = "\r" if sys.stderr.isatty() else "\n"
    print(f"\x1b[2K{line}" if sys.stderr.isatty() else line, end=end, file=sys.stderr, flush=True)


def summary(run: dict[str, Any]) -> str:
    """What came out, in plain words."""
    metrics = run["metrics"]
    lines = [f"{run['run_id']} done." + (f" {run['reason']}" if run["reason"] else "")]
    for name, part in (("reward model", metrics.get("reward_model")), (run["kind"], metrics)):
        if part:
            lines.append(
                f"  {'dpo policy' if name in ('round', 'dpo') else 'reward model'}: {_rows(part)}"
            )
    return "\n".join(lines)


def _rows(m: dict[str, Any]) -> str:
    return (
        f"{m['rows_train']} rows used, {m['rows_eval']} held out, {m['rows_too_long']} too long, "
        f"{m['rows_identical']} identical, {m.get('rows_cut', 0)} cut short; "
        f"held-out accuracy {m['accuracy']:.1%} "
        f"(95 % interval {m['accuracy_low']:.1%} to {m['accuracy_high']:.1%})"
    )


def _add_policies(cli: typer.Typer, connect: Connect) -> None:
    @cli.command()
    def policies(
        action: Annotated[
            Literal["list", "show", "promote", "rollback", "retire"], typer.Argument()
        ] = "list",
        policy_id: Annotated[
            str | None, typer.Argument(help="For show, promote and retire.")
        ] = None,
        config: ConfigOption = None,
        data_dir: DataDirOption = None,
    ) -> None:
        """List policy versions, and choose which one serves."""
        if action in ("show", "promote", "retire") and policy_id is None:
            raise typer.BadParameter(f"{action} needs the id of a policy")
        with connect(config, data_dir) as client:
            if action == "list":
                for policy in client.get("/policies")["policies"]:
                    print(f"{policy['policy_id']}  {policy['status']:<10} {policy['reason'] or ''}")
            elif action == "show":
                print(json.dumps(client.get(f"/policies/{policy_id}"), indent=2))
            elif action == "rollback":
                print(f"{client.post('/policies/rollback')['policy_id']} serves now.")
            else:
                changed = client.post(f"/policies/{policy_id}/{action}")
                print(f"{changed['policy_id']} is {changed['status']} now.")


def _add_import(cli: typer.Typer, connect: Connect) -> None:
    group = typer.Typer(no_args_is_help=True, help="Bring in prompts or preferences.")
    cli.add_typer(group, name="import")

    @group.command()
    def prompts(
        file: Path,
        format_: FormatOption = None,
        tag: Annotated[str | None, typer.Option(help="A tag for every prompt of the file.")] = None,
        dry_run: DryRunOption = False,
        config: ConfigOption = None,
        data_dir: DataDirOption = None,
    ) -> None:
        """JSON lines, a JSON list, CSV, TXT (a prompt a line), or the MT-bench questions."""
        new = importing.read_prompts(file, format_, tag)
        if dry_run:
            print(f"{len(new)} prompts can be imported. Nothing was stored.")
            return
        with connect(config, data_dir) as client:
            report = client.post_lines(
                "/prompts", ({"messages": p.messages, "tags": list(p.tags)} for p in new)
            )
        print(f"{report['added']} prompts imported, {report['known']} were there already.")

    @group.command()
    def preferences(
        file: Path,
        format_: FormatOption = None,
        dry_run: DryRunOption = False,
        config: ConfigOption = None,
        data_dir: DataDirOption = None,
    ) -> None:
        """TRL's preference layouts or HH-RLHF, as JSON lines, a JSON list, or either gzipped."""
        found = importing.read_preferences(file, format_)
        left_out = "".join(f" {n} left out: {reason}." for reason, n in found.left_out.items())
        if dry_run:
            print(f"{len(found.rows)} preferences can be imported.{left_out} Nothing was stored.")
            return
        rows = (
            {
                "prompt": row.messages,
                "chosen": [_assistant(row.chosen)],
                "rejected": [_assistant(row.rejected)],
            }
            for row in found.rows
        )
        with connect(config, data_dir) as client:
            report = client.post_lines("/preferences", rows)
        added, known = report["added"], report["known"]
        print(f"{added} preferences imported, {known} were there already.{left_out}")


def _assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def _add_export(cli: typer.Typer, connect: Connect) -> None:
    @cli.command()
    def export(
        out: Annotated[Path, typer.Option(help="The file to write; .jsonl or .parquet.")],
        format_: Annotated[
            Literal["trl", "trl-conversational", "jsonl"], typer.Option("--format")
        ] = "trl",
        since: Annotated[str | None, typer.Option(help="Only picks from this UTC time on.")] = None,
        where: Annotated[
            str | None, typer.Option(help="source=all,tag=T,user=U,policy=P,verdict=V.")
        ] = None,
        split: Annotated[
            str | None, typer.Option(help="Shares by prompt, for instance 0.9/0.1.")
        ] = None,
        config: ConfigOption = None,
        data_dir: DataDirOption = None,
    ) -> None:
        """Write picks as trainers read them; simulated ones only with --where source=all."""
        with (
            connect(config, data_dir) as client,
            client.lines(f"/export/{format_}", since=since, where=where) as rows,
        ):
            written = write_export(
                rows, out, split, {"format": format_, "since": since, "where": where}
            )
        for path, count in written.items():
            print(f"{count} rows in {path}")


def _add_simulate(cli: typer.Typer, connect: Connect) -> None:
    @cli.command()
    def simulate(
        taste: Annotated[str, typer.Option(help=", ".join(TASTES))],
        picks: Annotated[int, typer.Option(help="How many picks in all.")],
        noise: Annotated[
            float, typer.Option(help="Share of picks that go to the other side.")
        ] = 0.0,
        annotators: Annotated[int, typer.Option(help="How many at the same time.")] = 1,
        seed: int = 0,
        config: ConfigOption = None,
        data_dir: DataDirOption = None,
    ) -> None:
        """Let annotators with a fixed taste pick over the HTTP API, marked as simulated."""
        plan = Plan(taste, picks, noise, annotators, seed)
        with connect(config, data_dir, policy=True) as client:
            decided = run_simulation(client, plan, _every(picks))
        print(f"{picks} picks, {decided} with a better side, {picks - decided} ties.")


def _every(total: int) -> Callable[[int], None]:
    def show(done: int) -> None:
        if done == total or done % max(1, total // 20) == 0:
            _show(f"{done} of {total} picks")

    return show


def one_time_link(url: str, path: str, temporary: bool) -> str:
    """The link to open; a temporary app has ended by then, so its address would lead nowhere."""
    if not temporary:
        return url + path
    return f"prefloop does not run now. Start it, and open this path at its address: {path}"


def _add_users(cli: typer.Typer, connect: Connect) -> None:
    @cli.command()
    def users(
        action: Annotated[
            Literal["list", "add", "invite", "role", "disable", "enable", "link", "token"],
            typer.Argument(),
        ] = "list",
        name: Annotated[str | None, typer.Argument()] = None,
        new_role: Annotated[Role | None, typer.Argument(metavar="[ROLE]", help="For role.")] = None,
        role: Annotated[Role, typer.Option(help="For add.")] = "annotator",
        config: ConfigOption = None,
        data_dir: DataDirOption = None,
    ) -> None:
        """People who may sign in, and their links and API tokens (which are shown once)."""
        if action != "list" and name is None:
            raise typer.BadParameter(f"{action} needs the name of a user")
        if (action == "role") != (new_role is not None):
            raise typer.BadParameter("write it as: users role NAME ROLE")
        with connect(config, data_dir) as client:
            if action == "list":
                _list_users(client)
            elif action in ("add", "invite"):
                body = {"role": role} if action == "add" else {}
                path = client.post(f"/users/{name}/invite", body)["path"]
                print(f"With this link {name} chooses a password, once within 7 days:")
                print(one_time_link(client.url, path, client.temporary))
            elif action == "link":
                path = client.post(f"/users/{name}/link")["path"]
                print(one_time_link(client.url, path, client.temporary))
            elif action == "token":
                print(client.post(f"/users/{name}/token")["token"])
            elif action == "role":
                client.patch(f"/users/{name}", {"role": new_role})
                print(f"{name} is {new_role} now.")
            else:
                client.patch(f"/users/{name}", {"active": action == "enable"})
                print(SAID[action].format(name=name))


SAID = {
    "disable": "{name} is disabled; all sign-ins, links and tokens have ended.",
    "enable": "{name} can sign in again; former tokens stay ended.",
}


def _list_users(client: ApiClient) -> None:
    for user in client.get("/users")["users"]:
        state = "" if user["active"] else "  disabled"
        print(f"{user['name']:<24} {user['role']:<10} {user['source']}{state}")


def _add_backup(cli: typer.Typer, connect: Connect) -> None:
    @cli.command()
    def backup(out: Path, config: ConfigOption = None, data_dir: DataDirOption = None) -> None:
        """Copy database, journal, policies and runs to a new folder while the app runs."""
        with connect(config, data_dir) as client:
            files = client.post("/backup", {"out": str(out.resolve())})["files"]
        print(f"{out} holds {', '.join(files)}. To restore: prefloop serve --data-dir {out}")

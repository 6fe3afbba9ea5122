"""The commands that go through the app's HTTP API: policies, import, export, users, and so on.

Those of training runs are in run_commands.py.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import typer

from annotate.api_client import ApiClient
from annotate.command_options import ConfigOption, Connect, DataDirOption, show
from annotate.export_file import write_export
from annotate.run_commands import add_run_commands
from annotate.simulate import Plan
from annotate.simulate import simulate as run_simulation
from annotate.tastes import TASTES
from store import importing
from store.rows import Role

FormatOption = Annotated[
    str | None, typer.Option("--format", help="Only when the file's content does not tell.")
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Read and check, store nothing.")]


def add_commands(cli: typer.Typer, connect: Connect) -> None:
    add_run_commands(cli, connect)
    _add_policies(cli, connect)
    _add_import(cli, connect)
    _add_export(cli, connect)
    _add_simulate(cli, connect)
    _add_users(cli, connect)
    _add_backup(cli, connect)


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
    def tell(done: int) -> None:
        if done == total or done % max(1, total // 20) == 0:
            show(f"{done} of {total} picks")

    return tell


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

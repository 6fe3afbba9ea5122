"""What the training room shows and does: plans, the queue, and each run from its folder.

JSON shapes; all of them are documented in docs/api.md.

form      {kind, parts: [{part, help, fields: [{name, type, group, default, help, unit, choices,
          least, most}]}], fitted_to: {base, parameters, rows}}; `most` is null without a bound.
          In a round a setting is called PART.NAME in `set`, else NAME. `fitted_to`: what the
          defaults are the preset for.
preview   {kind, command, problem, warnings, parts: [{part, settings, preset, changed, plan, rule,
          steps, problem, warnings}]}; `problem` is the sentence why it cannot start, or null;
          `plan` holds its `sentence`; `changed` are the names that differ from the preset.
listed    {runs: [run], queue: [run_id], more}: the newest runs, `more`: there are older ones. run:
          that of the store, with `can`: the actions that are open now (pause, resume, cancel,
          repeat).
one       run with {config, asked, can, resumable, place, time_left_s, remarks, warnings, repeat,
          parts: [run]}; `asked`: what was set by hand; `place`: 1 is next, null when it does not
          wait; `remarks`: the warnings of its plan, which nobody saw of a round that began by
          itself; `repeat`: the command that does it once more, null when nothing does.
progress  {progress: [line], from, next}; ask again with after=next. `from` below `after`: a resumed
          run went back; drop what you have from that line on. Lines of a round name their `part`.
samples   [{step, part, prompt: [message], text, html, words, tokens, cut}]; `cut`: at the length
          limit
"""

from __future__ import annotations

import math
import shlex
from dataclasses import asdict
from pathlib import Path
from typing import Any

from annotate.api_json import run_json
from annotate.app_file import as_typed
from annotate.rendering import rendered
from store import runs, users
from store.database import Store
from store.rows import RUN_KINDS, Invalid, Run, RunKind
from train.loop import TrainLoop
from train.outlook import run_warnings, time_left_s
from train.planning import parts_of
from train.process import tail
from train.settings import BY_TOKEN, KINDS, Part
from train.steps import steps_of
from train.words import words

USUAL_FOLDER = "data"  # default of app.data_dir
Lines = list[dict[str, Any]]


class TrainingRoom:
    def __init__(self, store: Store, loop: TrainLoop, config_file: Path | None = None) -> None:
        """`config_file`: what the app was given as --config."""
        self.store, self.loop, self.trainer = store, loop, loop.trainer
        self.config_file = config_file

    # --- before a start ---------------------------------------------------------------------------

    def form(self, kind: str) -> dict[str, Any]:
        """Raises Invalid for an unknown kind."""
        if kind not in RUN_KINDS:
            raise Invalid(f"Unknown kind of run {kind!r}: choose {', '.join(RUN_KINDS)}.")
        planner = self.trainer.planner
        return {
            "kind": kind,
            "parts": [self._form(part) for part in parts_of(kind)],
            "fitted_to": {
                "base": planner.base.name,
                "parameters": planner.base.parameters,
                "rows": planner.rows(parts_of(kind)[-1], planner.picks_now()[0]),
            },
        }

    def preview(self, kind: RunKind, changes: dict[str, Any]) -> dict[str, Any]:
        """Raises Invalid for a setting that cannot be; too few picks are a `problem`."""
        planner = self.trainer.planner
        parts = planner.preview(kind, changes)
        problems = [one.problem for one in parts if one.problem]
        if not problems:
            try:
                planner.check_space([one.settings for one in parts], self.trainer.runs_folder)
            except Invalid as error:
                problems = [str(error)]
        return {
            "kind": kind,
            "command": self._from_here(planner.command(kind, parts)),
            "problem": problems[0] if problems else None,
            "warnings": [warning for one in parts for warning in one.warnings],
            "parts": [
                one.as_dict() | {"steps": steps_of(one.plan.rows_train, one.settings)}
                for one in parts
            ],
        }

    # --- actions ----------------------------------------------------------------------------------

    def start(
        self,
        kind: RunKind | None,
        user_id: str,
        changes: dict[str, Any] | None = None,
        repeat_of: str | None = None,
    ) -> str:
        """Queue a run. Raises Invalid, NotFound, Conflict."""
        if repeat_of is None:
            if kind is None:
                raise Invalid("Name the kind of the run, or the run to repeat.")
            return self.loop.request(kind, user_id, changes)
        if changes or kind not in (None, runs.get(self.store, repeat_of).kind):
            raise Invalid("A repeated run keeps its kind and its settings. Leave them out.")
        return self.loop.repeat(repeat_of, user_id)

    def pause(self, run_id: str) -> None:
        self.loop.pause(run_id)

    def resume(self, run_id: str) -> None:
        self.loop.resume(run_id)

    def cancel(self, run_id: str) -> None:
        self.loop.cancel(run_id)

    # --- looks ------------------------------------------------------------------------------------

    def listed(self, limit: int) -> dict[str, Any]:
        """The newest, and also older ones that have not ended."""
        found, names = runs.newest_and_open(self.store, limit), self._names()
        return {
            "runs": [self._brief(run, names) for run in found],
            "queue": [run.run_id for run in self.loop.waiting()],
            "more": len(runs.newest(self.store, limit + 1)) > limit,
        }

    def one(self, run_id: str) -> dict[str, Any]:
        """Raises NotFound."""
        run = runs.get(self.store, run_id)
        queue = [waiting.run_id for waiting in self.loop.waiting()]
        parts, lines = self._parts(run), self._lines(run)
        configs = {part.run_id: self._config(part) for part in parts}
        losses = [one.get("settings", {}).get("loss") for one in configs.values()]
        samples = [line for one in parts for line in self.trainer.folder(one.run_id).samples()]
        found = run_warnings(lines, samples, run.metrics, any(one in BY_TOKEN for one in losses))
        names = self._names()
        brief = self._brief(run, names)
        return brief | {
            "asked": run.config.get("settings", {}),
            "config": run.config | (configs.get(run_id) or self._config(run)),
            "resumable": "resume" in brief["can"],
            "place": queue.index(run_id) + 1 if run_id in queue else None,
            "time_left_s": time_left_s(lines) if run.status == "running" else None,
            "remarks": self._remarks(run),
            "warnings": [asdict(one) for one in found],
            "repeat": self._repeat_command(brief),
            "parts": [
                self._brief(part, names) | {"config": configs[part.run_id]}
                for part in parts
                if part is not run
            ],
        }

    def progress(self, run_id: str, after: int = 0) -> dict[str, Any]:
        """Lines from `after` on, all of them when a resumed run went back. Raises NotFound."""
        lines = self._lines(runs.get(self.store, run_id))
        start = after if after <= len(lines) else 0
        return {"progress": lines[start:], "from": start, "next": len(lines)}

    def samples(self, run_id: str) -> Lines:
        """Raises NotFound."""
        return [
            {
                **line,
                "part": part.kind,
                "html": rendered(line["text"]),
                "words": len(words(line["text"])),
            }
            for part in self._parts(runs.get(self.store, run_id))
            for line in self.trainer.folder(part.run_id).samples()
        ]

    def log(self, run_id: str, lines: int) -> str:
        """The end of the log; of a round that of the part at work. Raises NotFound."""
        last = self._parts(runs.get(self.store, run_id))[-1:]
        return tail(self.trainer.folder(last[0].run_id).log, lines) if last else ""

    # --- pieces -----------------------------------------------------------------------------------

    def _form(self, part: Part) -> dict[str, Any]:
        fields = [
            {**asdict(one), "most": one.most if math.isfinite(one.most) else None}
            for one in self.trainer.planner.form(part)
        ]
        return {"part": part, "help": KINDS[part].__doc__ or "", "fields": fields}

    def _brief(self, run: Run, names: dict[str, str]) -> dict[str, Any]:
        return run_json(run) | {"can": self._can(run), "metrics": named(run.metrics, names)}

    def _can(self, run: Run) -> list[str]:
        if run.parent_run_id is not None:
            return ["repeat"] if self.loop.can_repeat(run) else []
        open_now = {
            "pause": run.status in ("queued", "running"),
            "resume": self.loop.can_resume(run),
            "cancel": run.status not in runs.FINAL,
            "repeat": self.loop.can_repeat(run),
        }
        return [action for action, can in open_now.items() if can]

    def _names(self) -> dict[str, str]:
        """Of everybody, by user id."""
        return {user.user_id: user.name for user in users.everyone(self.store)}

    def _config(self, run: Run) -> dict[str, Any]:
        """As frozen, with the command as it runs from here; empty before. Of a round the parts have
        their own."""
        folder = self.trainer.folder(run.run_id)
        try:
            config = folder.config()
        except FileNotFoundError:
            return {}
        config.pop("parts", None)
        if "command" in config:
            config["command"] = self._from_here(config["command"])
        return config

    def _remarks(self, run: Run) -> list[dict[str, Any]]:
        """Of its plan, once where several parts say it."""
        try:
            config = self.trainer.folder(run.run_id).config()
        except FileNotFoundError:
            return []
        parts: dict[str, dict[str, Any]] = config.get("parts", {run.kind: config})
        found = [one for part in parts.values() for one in part.get("warnings", [])]
        return list({one["message"]: one for one in found}.values())

    def _repeat_command(self, brief: dict[str, Any]) -> str | None:
        if "repeat" not in brief["can"]:
            return None
        return self._from_here(f"prefloop runs repeat {brief['run_id']}")

    def _from_here(self, command: str) -> str:
        """As it runs in the app's folder, also once the app has ended: with what a command does
        not take by itself."""
        words = [shlex.quote(as_typed()) + command.removeprefix("prefloop")]
        if self.config_file:
            words.append(f"--config {shlex.quote(str(self.config_file.resolve()))}")
        folder = self.store.data_dir.resolve()
        if self.config_file or folder != Path(USUAL_FOLDER).resolve():
            words.append(f"--data-dir {shlex.quote(str(folder))}")
        return " ".join(words)

    def _parts(self, run: Run) -> list[Run]:
        return runs.children(self.store, run.run_id) if run.kind == "round" else [run]

    def _lines(self, run: Run) -> Lines:
        """Of a round those of its parts, each with its `part`."""
        if run.kind != "round":
            return self.trainer.folder(run.run_id).progress()
        return [
            line | {"part": part.kind}
            for part in self._parts(run)
            for line in self.trainer.folder(part.run_id).progress()
        ]


def named(metrics: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    """People by their names instead of ids, in a reward model's metrics and in a round's."""
    told = dict(metrics)
    if by_person := told.get("accuracy_by_annotator"):
        told["accuracy_by_annotator"] = {
            names.get(user_id, user_id): value for user_id, value in by_person.items()
        }
    if isinstance(told.get("reward_model"), dict):
        told["reward_model"] = named(told["reward_model"], names)
    return told

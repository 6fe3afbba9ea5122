"""Reasons of runs and policies in the reader's language.

The store keeps them as English sentences, which the command line and the API show. Those with which
runs end are known here; one of a library or of a broken configuration stays English.
"""

from __future__ import annotations

import re
from functools import partial

from annotate.language import FALLBACK, translate
from train.plan_words import MESSAGES

SHARE = r"(\d+%)"
PATTERNS = {
    "base": r"The base model, to start from\.",
    "orders": rf"It orders {SHARE} of (\d+) held-out picks as people did "
    rf"\(more than {SHARE} is asked\)\.",
    "orders_within": rf"It orders {SHARE} of (\d+) held-out picks as people did "
    rf"\(95% interval {SHARE} to {SHARE}; more than {SHARE} is asked\)\.",
    "sound": r"Its answers are sound\.",
    "whole": r"All probe answers are whole\.",
    "not_whole": r"A probe answer is empty or missing\.",
    "words": r"Its answers have (\d+) words, the champion's (\d+)\.",
    "words_picked": r"Its answers have (\d+) words, the champion's (\d+), those that people picked "
    r"(\d+) to (\d+)\.",
    "words_near": r"Its answers have (\d+) ± (\d+) words, the champion's (\d+), those that people "
    r"picked (\d+) to (\d+)\.",
    "cut": rf"{SHARE} of its answers ran into the length limit, the champion's {SHARE}\.",
    "repeated": rf"{SHARE} of its word triples repeat within an answer, the champion's {SHARE}\.",
    "distinct": rf"{SHARE} of its probe answers are distinct\.",
    "not_judged": r"Not judged:",
    "promoted": r"Promoted by hand\.",
    "rolled_back": r"Rolled back by hand\.",
    "retired": r"Retired by hand\.",
    "candidate": r"(policy-\d+) is a candidate; promote it to let it serve\.",
    "champion_changed": r"The champion changed while it was judged against (policy-\d+)\.",
    "cancelled_early": r"Cancelled before it started\.",
    "stopped": r"Stopped on request\.",
    "app_ended": r"The app (?:ended|was stopped) while it ran\. Resume it, or start it again\.",
    "app_ended_before": r"The app (?:ended|was stopped) while it ran\. Start the run again\.",
    "paused": r"Paused on request\.",
    "paused_after": r"Paused after step (\S+)\.",
    "cancelled_paused": r"Cancelled while it was paused\.",
    "end_lost": r"Its end could not be stored\. Resume it, or start it again\.",
    "killed_9": r"The training process was killed by signal 9 \(SIGKILL\) before it finished, "
    r"perhaps for lack of memory\. Resume it, or start again with a smaller batch and a larger "
    r"accumulate; its log is (\S+)\.",
    "killed": r"The training process was killed by signal (\S+) \((\S+)\) before it finished; "
    r"its log is (\S+)\.",
    "exit_code": r"The training process ended with exit code (\S+) before it finished; "
    r"its log is (\S+)\.",
    "no_space": r"The disk of (\S+) has (\S+) MB free, and this run may need (\S+) MB\. "
    r"Free some space, then start it again\.",
    "disk_full": r"The disk is full\. Make room, then resume the run: it goes on from its last "
    r"checkpoint\.",
    "disk_full_here": r"The disk is full\. Make room, then resume the run, or start it again\.",
    "no_gpu": r"The installed torch is built for CUDA (\S+) and finds no GPU\. Update NVIDIA's "
    r'driver, check train\.device, or set it to "cpu"\.',
    "process_lost": r"Another process of this run was lost, perhaps for lack of memory\. Resume "
    r"the run: it goes on from its last checkpoint\.",
    "no_memory": r"The device ran out of memory\. Lower batch and raise accumulate, or lower "
    r"max_length\.",
    "not_finite": r"(\S+) is not finite at step (\S+); lower the learning rate",
    "few_rows": r"Too few rows fit: (\S+) to train on, (\S+) held out, (\S+) longer than "
    r"max_length\. Annotate more or raise max_length\.",
    "few_rows_template": r"Too few rows fit: (\S+) to train on, (\S+) held out, (\S+) longer than "
    r"max_length, (\S+) that the chat template refuses \(why is in the log\)\. Annotate more or "
    r"raise max_length\.",
    "few_rows_alike": r"Too few rows fit: (\S+) to train on, (\S+) held out, (\S+) longer than "
    r"max_length, (\S+) whose answers it makes alike\. Annotate more or raise max_length\.",
    "few_rows_both": r"Too few rows fit: (\S+) to train on, (\S+) held out, (\S+) longer than "
    r"max_length, (\S+) that the chat template refuses \(why is in the log\), (\S+) whose answers "
    r"it makes alike\. Annotate more or raise max_length\.",
    "cannot_share": r"(\d+) processes cannot share a step of (\d+) x (\d+) rows\. Set batch or "
    r"accumulate to a multiple of (\d+)\.",
    "rank_now": r"The run has rank (\d+), which is above policy\.max_rank \((\d+)\) now\. "
    r"Raise that, or start a new run\.",
    "start_gone": r"(policy-\d+), from which the run goes on, is not at (.+?) any more\. "
    r"Repeat the run: that looks for it anew\.",
    "data_changed": r"The frozen picks of (\S+) have changed, so it cannot be repeated\.",
    "server_down": r"The policy server is not up, so the new policy was not judged\.",
    "tracker_unknown": r"report_to knows no tracker (\S+): write (.+?) or none\.",
    "tracker_missing": r"The tracker (\S+) is not installed\. Run `pip install (\S+)`, or take it "
    r"out of report_to\.",
    "champion_rank": r"(policy-\S+) has rank (\S+), and a run that goes on from it keeps that\. "
    r"Leave rank out, or start from the base\.",
    "kto_batch": r"KTO compares the rows of a batch: set batch to 2 or more for each process\.",
    "only_good_fit": r"All (\d+) answers that fit are good ones, and kto needs both\. Raise "
    r"max_length, or annotate some more\.",
    "only_bad_fit": r"All (\d+) answers that fit are bad ones, and kto needs both\. Raise "
    r"max_length, or annotate some more\.",
    "start_misfit": r"The champion's adapter does not fit this base\. Start from the base: set "
    r"start=base\.",
    "fsdp_patience": r"patience cannot keep the best adapter under FSDP yet\. Set patience to 0\.",
    "fsdp_reward": r"A reward model cannot be trained under FSDP yet: its head stays in float32\. "
    r"Use DDP\.",
    "no_room": r"The policy server did not make room for the run\. Start it again\.",
    "rank_above": r"rank (\d+) is above policy\.max_rank \((\d+)\), which vLLM serves\. Lower "
    r"rank, or raise policy\.max_rank\.",
    "adapter_gone": r"The adapter of (\S+) is not at (.+?) any more\. Restore it from a backup, or "
    r"start from the base\.",
    "files_changed": r"The files of (\S+) have changed since it was published\. Restore them "
    r"from a backup\.",
    "base_serves": r"The base serves\.",
    "no_ray": r"train\.launcher is ray, but Ray is not installed\. Run `make ray` \(the extra "
    r"`ray` of the package\), or set train\.launcher to accelerate or local\.",
    "no_cluster": r"No Ray cluster takes us at (\S+) \((\S+)\)\. Start one there with `ray start "
    r"--head`, give us its token \(RAY_AUTH_TOKEN\), or leave train\.ray_address empty\.",
    "small_cluster": r"The Ray cluster has (\S+) (\S+)s, and train\.processes asks for (\d+)\. "
    r"Lower train\.processes, or add machines to the cluster\.",
    "storage_taken": r"train\.storage already has a run (\S+), of another data directory\. Give "
    r"each data directory a storage of its own\.",
    "storage_unusable": r"train\.storage cannot be used: (.+?): (.+?)\.",
    "weights_not_finite": r"(\S+) is not finite; lower the learning rate",
    "in_log": r"(\w+): (.*) \(details in log\.txt\)",
    "no_template": r"The base model has no chat template\. Choose an instruct or chat model\.",
}
# Sentences of a plan have their own keys, `train.plan.KEY`, and names for their values.
PLANS = {
    key: re.sub(r"\\{(\w+)\\}", r"(?P<\1>\\S+)", re.escape(sentence))
    for key, sentence in MESSAGES.items()
}
VERDICTS = ("Promoted: ", "Rejected: ")


def why(reason: str | None, lang: str) -> str:
    """The reason without the verdict that a chip beside it already says."""
    told = reason or ""
    for verdict in VERDICTS:
        told = told.removeprefix(verdict)
    if lang == FALLBACK:
        return told
    for name, pattern in PATTERNS.items():
        told = re.sub(pattern, partial(_sentence, lang, name), told)
    for key, pattern in PLANS.items():
        told = re.sub(pattern, partial(_planned, lang, key), told)
    return re.sub("(?<=[。：]) ", "", told)


def _planned(lang: str, key: str, found: re.Match[str]) -> str:
    return translate(lang, f"train.plan.{key}", **found.groupdict())


def _sentence(lang: str, name: str, found: re.Match[str]) -> str:
    """Its values are named by their places: {a}, {b}, {c}, {d}, {e}."""
    values = dict(zip("abcde", found.groups(), strict=False))
    return translate(lang, f"research.why.{name}", **values)

"""The sentences of a plan, by the keys under which a page has them in its own language."""

from __future__ import annotations

# One and many of what `n` stands before. `pick.sft` is `pick` in a plan of that part.
WORDS: dict[str, tuple[str, str]] = {
    "picks": ("pick", "picks"),
    "pick": ("pair", "pairs"),
    "pick.sft": ("answer", "answers"),
    "ranked": ("ranking of four", "rankings of four"),
    "tie": ("tie at 50 %", "ties at 50 %"),
    "both_bad": ("both bad", "both bad"),
    "edit": ("edit", "edits"),
    "held_out": ("held out", "held out"),
    "dropped.skip": ("skip dropped", "skips dropped"),
    "dropped.flag": ("flag dropped", "flags dropped"),
    "dropped.tie": ("tie dropped", "ties dropped"),
    "dropped.both_bad": ("both bad dropped", "both bad dropped"),
    "dropped.no_edit": ("without an edit dropped", "without an edit dropped"),
    "dropped.identical": ("of equal texts dropped", "of equal texts dropped"),
    "dropped.cut": ("cut short dropped", "cut short dropped"),
    "dropped.empty": ("with an empty answer dropped", "with an empty answer dropped"),
    "dropped.not_last_turn": ("earlier turn dropped", "earlier turns dropped"),
}

MESSAGES = {
    # Why a run cannot start.
    "no_picks": "There are no picks to train on. Annotate some pairs first.",
    "all_tie": "Every pick is a tie, so none says which answer is better. Annotate some more.",
    "all_both_bad": "Every pick says that both answers are bad. A kto run learns from such picks.",
    "all_both_bad.kto": "Every pick says that both answers are bad, and such picks are left out. "
    "Set both_bad to negatives, or annotate some more.",
    "all_identical": "Both answers of every pick are the same text. Raise sampler.temperature, or "
    "annotate other prompts.",
    "all_cut": "The picked answer of every pick was cut at the length limit. Raise "
    "sampler.max_tokens, or annotate other prompts.",
    "all_empty": "Every pick has an empty answer. Annotate other prompts.",
    "all_no_edit": "No pick has an edited answer. Edit some answers, or set answers to picked.",
    "few_picks.rm": "Training needs at least {least} picks with a better side; there are {picks}. "
    "Annotate some more.",
    "few_picks.dpo": "Training needs at least {least} picks with a better side; there are {picks}. "
    "Annotate some more.",
    "few_picks.kto": "Training needs at least {least} picks of good or bad answers; there are "
    "{picks}. Annotate some more.",
    "few_picks.sft": "Training needs at least {least} picks with an answer to imitate; there are "
    "{picks}. Annotate some more.",
    "few_prompts": "The picks come from too few prompts to hold some out ({train} rows to train on,"
    " {held_out} held out). Annotate pairs of more prompts.",
    "only_good": "All {answers} answers to train on are good ones, and kto needs bad ones too. "
    "Annotate some more.",
    "only_bad": "All {answers} answers to train on are bad ones, and kto needs good ones too. "
    "Annotate some more.",
    # What a researcher should know before the start.
    "one_sided_left": "{percent} % of the picks fell on the answer shown left. Look at how they "
    "were made.",
    "one_sided_right": "{percent} % of the picks fell on the answer shown right. Look at how they "
    "were made.",
    "one_annotator": "One annotator made {percent} % of the picks: the model learns that person's "
    "taste.",
    "longer_picked": "In {percent} % of the pairs the longer answer was picked: answers may grow "
    "longer.",
    "few_held_out": "Held-out picks: {picks}. An accuracy measured on so few says little.",
    "many_dropped": "{percent} % of the picks are dropped under these rules.",
    "weak_beta": "sigmoid_norm divides by the length of an answer: with a beta of {beta} picks "
    "hardly count. About 5 is usual.",
    "unused_smoothing": "label_smoothing counts for the loss robust alone, and this is {loss}: "
    "choose robust, or leave label_smoothing as it is.",
    "unused_soft": "To the loss {loss} a soft label is only a smaller weight, and a tie says "
    "hardly anything: choose sigmoid, or strength=weight and ties=drop.",
    "long_patience": "A patience of {patience} never stops this run early, since it is measured "
    "{evaluations} times on the way: lower patience, or raise evaluations or epochs.",
}

"""The grammar of the starter policy, its cache and (slow) the trained model itself."""

from __future__ import annotations

import fcntl
import random
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from store.rows import PrefloopError
from train.starter import cache, grammar
from train.starter.grammar import (
    ASIDES,
    CLOSINGS,
    GREETINGS,
    HEDGES,
    LIST_LEADS,
    PROPER_WORDS,
    after,
    pair_questions,
    sample_answer,
    sample_dialogue,
    single_questions,
    starter_prompts,
    topics,
)

FACTS = {fact: topic.name for topic in topics().values() for fact in topic.facts}
PHRASES = set(GREETINGS + CLOSINGS + LIST_LEADS)
TOPICS_OF = {question.text: question.topics for question in single_questions() + pair_questions()}


def sentences(answer: str) -> list[str]:
    lines = [line.removeprefix("- ") for line in answer.splitlines() if line]
    return [part for line in lines for part in re.split(r"(?<=[.!?:])\s+", line) if part]


def fact_of(sentence: str) -> str | None:
    """The fact that a sentence states, with or without a hedge before it."""
    for phrase in HEDGES + ASIDES:
        rest = sentence.removeprefix(phrase + " ")
        for fact in (rest, rest[:1].upper() + rest[1:]):
            if fact in FACTS and sentence in (fact, after(phrase, fact)):
                return fact
    return None


def known(sentence: str) -> bool:
    return sentence in PHRASES or fact_of(sentence) is not None


def dialogues(count: int) -> list[tuple[str, str]]:
    rng = random.Random(1)
    return [sample_dialogue(rng) for _ in range(count)]


def test_topics_are_many_and_have_enough_facts():
    assert len(topics()) >= 40
    assert all(6 <= len(topic.facts) <= 8 for topic in topics().values())


@pytest.mark.parametrize("topic", topics().values(), ids=lambda topic: topic.name)
def test_facts_are_plain_sentences(topic):
    for fact in topic.facts:
        assert fact.endswith(".") and fact[0].isupper() and fact.isascii()
        assert "  " not in fact and not re.search(r"[.!?:] ", fact)
        assert 4 <= len(fact.split()) <= 18, fact


def test_no_fact_is_a_near_copy_of_another():
    all_facts = [fact for topic in topics().values() for fact in topic.facts]
    assert len(all_facts) == len(set(all_facts))
    words = {fact: Counter(re.findall(r"\w+", fact.lower())) for fact in all_facts}
    for place, fact in enumerate(all_facts):
        for other in all_facts[place + 1 :]:
            different = (words[fact] - words[other]).total() + (words[other] - words[fact]).total()
            assert different > 4, (fact, other)


def test_every_fact_stands_alone():
    pointing = re.compile(r"(They|This|These|He|She|Also|Its|Their|It(?! is | takes ))\b")
    assert not [fact for fact in FACTS if pointing.match(fact)]


def test_capital_letters_after_a_hedge():
    assert after("As far as I know,", "Bread is a food.") == "As far as I know, bread is a food."
    assert (
        after("I think that", "Brazil grows more coffee.")
        == "I think that Brazil grows more coffee."
    )


def test_first_words_that_are_names_are_listed():
    inside = {word for fact in FACTS for word in re.findall(r"(?<= )[A-Z]\w*", fact)}
    firsts = {fact.split()[0] for fact in FACTS}
    assert (inside & firsts) - {"I"} <= PROPER_WORDS


def test_prompts_are_distinct_many_and_in_a_fixed_order():
    prompts = starter_prompts()
    assert len(prompts) == len(set(prompts)) >= 1000
    assert prompts == starter_prompts() and prompts != sorted(prompts)
    assert set(prompts) == set(TOPICS_OF)
    assert all(
        prompt[0].isupper() and prompt[-1] in ".?" and "{" not in prompt for prompt in prompts
    )


def test_questions_agree_in_number():
    prompts = set(starter_prompts())
    assert {
        "What is bread?",
        "What are cats?",
        "I have never heard of cats. What are they?",
    } <= prompts
    assert not prompts & {"What are bread?", "What is cats?"}


def test_the_same_seed_gives_the_same_text():
    assert sample_answer(random.Random(3), "tea") == sample_answer(random.Random(3), "tea")
    assert sample_dialogue(random.Random(3)) == sample_dialogue(random.Random(3))
    assert len({sample_answer(random.Random(seed), "tea") for seed in range(100)}) > 90


def test_every_sentence_of_an_answer_is_known():
    for _, answer in dialogues(2000):
        assert answer and all(known(sentence) for sentence in sentences(answer)), answer


def test_traits_occur_as_often_as_they_should():
    seen: Counter[str] = Counter()
    lengths: Counter[int] = Counter()
    samples = dialogues(4000)
    for prompt, answer in samples:
        stated = [fact for sentence in sentences(answer) if (fact := fact_of(sentence))]
        lengths[len(stated)] += 1
        seen["list"] += answer.count("- ") > 1
        seen["greeting"] += answer.startswith(GREETINGS)
        seen["closing"] += answer.endswith(CLOSINGS)
        seen["hedge"] += any(hedge in answer for hedge in HEDGES)
        seen["slip"] += any(FACTS[fact] not in TOPICS_OF[prompt] for fact in stated)
        seen["repeat"] += len(set(stated)) < len(stated)
    wanted = {
        "list": 0.35,
        "greeting": 0.40,
        "closing": 0.40,
        "hedge": 0.36,
        "slip": 0.08,
        "repeat": 0.08,
    }
    for trait, share in wanted.items():
        assert seen[trait] / len(samples) == pytest.approx(share, abs=0.03), trait
    assert all(lengths[count] / len(samples) > 0.05 for count in range(1, 7))


def test_a_question_about_two_topics_is_answered_for_both():
    rng = random.Random(2)
    for _ in range(200):
        stated = {
            FACTS.get(fact_of(sentence) or "")
            for sentence in sentences(sample_answer(rng, "tea", "rain"))
        }
        assert {"tea", "rain"} <= stated


def test_hash_follows_the_content(tmp_path):
    for name in cache.RECIPE_FILES:
        shutil.copy(cache.PACKAGE / name, tmp_path / name)
    before = cache.recipe_hash(tmp_path)
    assert before == cache.recipe_hash() and re.fullmatch(r"[0-9a-f]{12}", before)
    with (tmp_path / "topics.toml").open("a") as file:
        file.write("# one more line\n")
    assert cache.recipe_hash(tmp_path) != before


def test_a_built_starter_is_returned_at_once(tmp_path):
    path = cache.starter_path(tmp_path)
    path.mkdir()
    assert not cache.is_built(path)
    for name in cache.BUILT_FILES:
        (path / name).touch()
    assert cache.ensure_starter(tmp_path) == path


def test_a_failed_build_says_so(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("a file cannot hold folders")
    with pytest.raises(PrefloopError, match="could not be built"):
        cache.ensure_starter(blocked)


def test_grammar_and_cache_import_no_torch():
    code = (
        "import sys, train.starter.grammar, train.starter.cache; sys.exit('torch' in sys.modules)"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", code], cwd=cache.PACKAGE.parent.parent, check=False
        ).returncode
        == 0
    )


def test_the_grammar_is_standard_library_only():
    source = Path(grammar.__file__).read_text(encoding="utf-8")
    roots = set(re.findall(r"^(?:from|import) (\w+)", source, re.MULTILINE))
    assert roots <= set(sys.stdlib_module_names) | {"__future__"}


@pytest.fixture(scope="module")
def tokenizer(starter_dir: Path):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(starter_dir)


@pytest.fixture(scope="module")
def model(starter_dir: Path):
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(starter_dir, dtype=torch.bfloat16).eval()


@pytest.fixture(scope="module")
def sampled(model, tokenizer) -> list[tuple[str, list[str]]]:
    """Twenty prompts with two answers each at temperature 1."""
    import torch

    prompts = starter_prompts()[:20]
    chats = [[{"role": "user", "content": prompt}] for prompt in prompts for _ in range(2)]
    texts = [
        tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        for chat in chats
    ]
    batch = tokenizer(
        texts, return_tensors="pt", padding=True, padding_side="left", add_special_tokens=False
    )
    torch.manual_seed(11)
    out = model.generate(
        input_ids=batch["input_ids"],
        attention_mask=batch["attention_mask"],
        do_sample=True,
        temperature=1.0,
        top_k=0,
        top_p=1.0,
        max_new_tokens=300,
    )
    new = out[:, batch["input_ids"].shape[1] :]
    assert (new == tokenizer.eos_token_id).any(dim=1).all(), "every answer ends by itself"
    answers = tokenizer.batch_decode(new, skip_special_tokens=True)
    return [(prompt, answers[2 * place : 2 * place + 2]) for place, prompt in enumerate(prompts)]


CHATS = [
    [("user", "What is tea?")],
    [("system", "Be brief."), ("user", "What is tea?")],
    [("user", "What is tea?"), ("assistant", "A drink."), ("user", " And\n- coffee? ")],
    [("system", "Be brief.\n"), ("user", ""), ("assistant", "Yes?"), ("user", "Привет, 世界 🙂")],
]


@pytest.mark.slow
@pytest.mark.parametrize("chat", CHATS, ids=range(len(CHATS)))
@pytest.mark.parametrize("answer", ["Fine.", "", "- one\n- two\n\n", " 🙂 é"])
def test_the_prompt_is_a_prefix_of_the_conversation(tokenizer, chat, answer):
    messages = [{"role": role, "content": content} for role, content in chat]
    whole = [*messages, {"role": "assistant", "content": answer}]
    prompt_text = tokenizer.apply_chat_template(
        messages, tokenize=False, add_generation_prompt=True
    )
    whole_text = tokenizer.apply_chat_template(whole, tokenize=False)
    assert whole_text == prompt_text + answer + tokenizer.eos_token
    prompt_ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True)["input_ids"]
    whole_ids = tokenizer.apply_chat_template(whole)["input_ids"]
    assert whole_ids[: len(prompt_ids)] == prompt_ids
    assert whole_ids[-1] == tokenizer.eos_token_id


@pytest.mark.slow
def test_the_template_marks_what_the_assistant_says(tokenizer):
    chat = [{"role": "user", "content": "Tea?"}, {"role": "assistant", "content": "A drink."}]
    out = tokenizer.apply_chat_template(chat, return_dict=True, return_assistant_tokens_mask=True)
    marked = [
        token for token, mark in zip(out["input_ids"], out["assistant_masks"], strict=True) if mark
    ]
    assert tokenizer.decode(marked) == "A drink." + tokenizer.eos_token


@pytest.mark.slow
@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "plain text",
        " two  spaces \n\t",
        "naïve café",
        "你好，世界",
        "👩‍👩‍👧 ﷽ e\u0301",
        "\x00\x7f�",
    ],
)
def test_any_text_survives_the_tokenizer(tokenizer, text):
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(ids) == text


@pytest.mark.slow
def test_every_byte_is_in_the_vocabulary(tokenizer):
    rng = random.Random(5)
    for _ in range(200):
        text = "".join(
            chr(rng.choice((rng.randrange(32, 0xD800), rng.randrange(0xE000, 0x110000))))
            for _ in range(20)
        )
        assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text


@pytest.mark.slow
def test_the_model_is_small_standard_and_ends_its_turns(model, tokenizer):
    assert tokenizer.is_fast and tokenizer.pad_token_id != tokenizer.eos_token_id
    assert 2e6 <= sum(parameter.numel() for parameter in model.parameters()) <= 6e6
    assert model.config.model_type == "llama" and model.config.tie_word_embeddings
    assert model.config.max_position_embeddings == 1024
    assert not [name for name, _ in model.named_parameters() if "bias" in name]
    assert model.config.hidden_size % 64 == model.config.intermediate_size % 64 == 0
    assert (
        model.config.eos_token_id == model.generation_config.eos_token_id == tokenizer.eos_token_id
    )
    assert len(tokenizer) == model.config.vocab_size


@pytest.mark.slow
@pytest.mark.parametrize("there", ["nothing", "complete", "damaged"])
def test_of_two_builders_one_wins(tmp_path, there):
    from train.starter.build import put_in_place

    target, workshop = tmp_path / "starter", tmp_path / "workshop"
    for folder in [workshop] if there == "nothing" else [workshop, target]:
        folder.mkdir()
        for name in cache.BUILT_FILES[: 1 if there == "damaged" and folder == target else None]:
            (folder / name).write_text(folder.name)
    put_in_place(workshop, target)
    winner = "starter" if there == "complete" else "workshop"
    assert {(target / name).read_text() for name in cache.BUILT_FILES} == {winner}


@pytest.mark.slow
def test_the_second_builder_waits_for_the_first(tmp_path):
    path = cache.starter_path(tmp_path)
    with open(tmp_path / f"{path.name}.lock", "ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        second = subprocess.Popen(
            [sys.executable, "-m", "train.starter", str(tmp_path)],
            cwd=cache.PACKAGE.parent.parent,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert "waiting for another process" in second.stderr.readline()
        path.mkdir()
        for name in cache.BUILT_FILES:
            (path / name).touch()
    said, problems = second.communicate(timeout=120)
    assert (second.returncode, said.strip(), problems) == (0, str(path), "")


@pytest.mark.slow
def test_two_samples_of_a_prompt_differ(sampled):
    assert sum(first != second for _, (first, second) in sampled) >= 0.9 * len(sampled)


@pytest.mark.slow
def test_most_sampled_sentences_are_true_and_correct(sampled):
    said = [
        sentence for _, answers in sampled for answer in answers for sentence in sentences(answer)
    ]
    wrong = [sentence for sentence in said if not known(sentence)]
    assert len(wrong) <= 0.15 * len(said), wrong


@pytest.mark.slow
def test_most_answers_keep_to_the_topic(sampled):
    facts = [
        (prompt, fact)
        for prompt, answers in sampled
        for answer in answers
        for sentence in sentences(answer)
        if (fact := fact_of(sentence))
    ]
    assert sum(FACTS[fact] in TOPICS_OF[prompt] for prompt, fact in facts) >= 0.8 * len(facts)

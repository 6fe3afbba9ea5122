"""The text grammar of the starter policy: questions about everyday topics, answers of every taste.

Answers differ in all that people have tastes about: length, order, lists or prose, greetings,
closings, hedges, warmth, off-topic slips and repetition. Standard library only; the same seed gives
the same text.
"""

from __future__ import annotations

import random
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

TOPICS_FILE = Path(__file__).with_name("topics.toml")

PLAIN_GREETINGS = (
    "Great question!",
    "Happy to help!",
    "Thanks for asking!",
    "Sure, let me explain.",
    "That is an interesting topic.",
)
WARM_GREETINGS = (
    "Of course, my friend!",
    "Hello there, dear friend!",
)
GREETINGS = PLAIN_GREETINGS + WARM_GREETINGS

PLAIN_CLOSINGS = (
    "I hope that helps!",
    "Would you like to hear more about it?",
    "Let me know if you have any other questions.",
    "Feel free to ask me anything else.",
    "That is all I can say for now.",
)
WARM_CLOSINGS = (
    "Have a lovely day, my friend!",
    "It is always a joy to talk with you!",
)
CLOSINGS = PLAIN_CLOSINGS + WARM_CLOSINGS

# A hedge or an aside is followed by a fact whose first letter becomes small.
HEDGES = (
    "As far as I know,",
    "I believe that",
    "I think that",
    "If I remember correctly,",
    "From what I have read,",
    "It seems to me that",
)
ASIDES = ("By the way,",)
LIST_LEADS = ("Here is what I know:", "Here are the main points:")

# First words of facts that keep their capital letter in the middle of a sentence.
PROPER_WORDS = frozenset({"African", "Brazil", "I", "Mount"})

LIST_SHARE = 0.42  # of the answers with two or more facts
LIST_LEAD_SHARE = 0.3  # of the lists
GREETING_SHARE = 0.4
CLOSING_SHARE = 0.43
WARM_SHARE = 0.3  # of the greetings and of the closings
HEDGED_SHARE = 0.36  # of the answers; each has one or two hedges
SLIP_SHARE = 0.08
ASIDE_SHARE = 0.5  # of the slips
REPEAT_SHARE = 0.06
LEAD_SHARE = 0.7  # answers that begin with the fact that fits the kind of question
PAIR_SHARE = 0.12  # questions about two topics
LENGTH_WEIGHTS = (16, 20, 22, 18, 13, 11)  # answers of 1, 2, ... 6 facts

# Which fact fits the question: the first (what it is), the last (why people like it) or any.
FIRST, LAST, ANY = 0, -1, None

QUESTIONS: tuple[tuple[str, int | None], ...] = (
    ("What {is} {x}?", FIRST),
    ("What {is} {x}, please?", FIRST),
    ("Can you explain what {x} {is}?", FIRST),
    ("How would you describe {x} to a child?", FIRST),
    ("Explain {x} in simple words.", FIRST),
    ("I have never heard of {x}. What {is} {it}?", FIRST),
    ("Why do people like {x}?", LAST),
    ("What do people enjoy about {x}?", LAST),
    ("What makes {x} so special?", LAST),
    ("Why {is} {x} so popular?", LAST),
    ("What is good about {x}?", LAST),
    ("Tell me about {x}.", ANY),
    ("Please tell me about {x}.", ANY),
    ("Can you tell me something about {x}?", ANY),
    ("Could you tell me more about {x}, please?", ANY),
    ("Give me a few facts about {x}.", ANY),
    ("What should I know about {x}?", ANY),
    ("I want to learn about {x}.", ANY),
    ("I know nothing about {x}. Where do I start?", ANY),
    ("Do you know anything about {x}?", ANY),
    ("What do you know about {x}?", ANY),
    ("What is interesting about {x}?", ANY),
    ("Teach me something about {x}.", ANY),
    ("Share some facts about {x}, please.", ANY),
    ("My child asked me about {x}. What can I say?", ANY),
    ("I have to write about {x}. Can you help me?", ANY),
    ("Hi! I am curious about {x}.", ANY),
    ("Hello, what can you tell me about {x}?", ANY),
    ("Surprise me with something about {x}.", ANY),
    ("Let us talk about {x}.", ANY),
    ("Any interesting facts about {x}?", ANY),
    ("{X}, please.", ANY),
)
PAIR_QUESTIONS = (
    "Tell me about {x} and {y}.",
    "What should I know about {x} and {y}?",
    "I am curious about {x} and {y}.",
    "Can you tell me something about {x} and also about {y}?",
)
PAIR_STEPS = (1, 7)  # a topic is asked together with those that many places further in the file

PROMPT_SEED = 20260801


@dataclass(frozen=True)
class Topic:
    """Something to ask about; the first fact says what it is, the last why people like it."""

    name: str
    plural: bool
    facts: tuple[str, ...]


@dataclass(frozen=True)
class Question:
    """A user turn, the one or two topics it asks about and the fact that fits it best."""

    text: str
    topic: str
    other: str | None = None
    lead: int | None = ANY

    @property
    def topics(self) -> tuple[str, ...]:
        """The names of all topics asked about."""
        return (self.topic,) if self.other is None else (self.topic, self.other)


@cache
def topics() -> dict[str, Topic]:
    """All topics by name, in the order of the file."""
    rows = tomllib.loads(TOPICS_FILE.read_text(encoding="utf-8"))["topic"]
    return {row["name"]: Topic(row["name"], row["plural"], tuple(row["facts"])) for row in rows}


def after(phrase: str, fact: str) -> str:
    """Join a hedge or an aside and a fact into one sentence with the right capital letters."""
    if fact.split(maxsplit=1)[0] in PROPER_WORDS:
        return f"{phrase} {fact}"
    return f"{phrase} {fact[0].lower()}{fact[1:]}"


@cache
def single_questions() -> tuple[Question, ...]:
    """Every question about one topic."""
    return tuple(
        Question(_fill(text, topic), topic.name, lead=lead)
        for topic in topics().values()
        for text, lead in QUESTIONS
    )


@cache
def pair_questions() -> tuple[Question, ...]:
    """Every question about two topics."""
    all_topics = list(topics().values())
    pairs = [
        (topic, all_topics[(place + step) % len(all_topics)])
        for place, topic in enumerate(all_topics)
        for step in PAIR_STEPS
    ]
    return tuple(
        Question(text.format(x=one.name, y=two.name), one.name, two.name)
        for one, two in pairs
        for text in PAIR_QUESTIONS
    )


def starter_prompts() -> list[str]:
    """All distinct user turns that the grammar can ask, in one fixed mixed order."""
    texts = [question.text for question in single_questions() + pair_questions()]
    prompts = list(dict.fromkeys(texts))
    random.Random(PROMPT_SEED).shuffle(prompts)
    return prompts


def sample_answer(
    rng: random.Random, topic: str, other: str | None = None, lead: int | None = ANY
) -> str:
    """One answer about a topic or two; if `lead` is given, it mostly begins with that fact."""
    names = (topic,) if other is None else (topic, other)
    lines = _repeat(rng, _slip(rng, names, _hedge(rng, _pick_facts(rng, names, lead))))
    greeting = _phrase(rng, GREETING_SHARE, PLAIN_GREETINGS, WARM_GREETINGS)
    closing = _phrase(rng, CLOSING_SHARE, PLAIN_CLOSINGS, WARM_CLOSINGS)
    if len(lines) > 1 and rng.random() < LIST_SHARE:
        return _as_list(rng, greeting, lines, closing)
    return " ".join(part for part in (greeting, *lines, closing) if part)


def sample_dialogue(rng: random.Random) -> tuple[str, str]:
    """One question and one answer to it."""
    question = rng.choice(pair_questions() if rng.random() < PAIR_SHARE else single_questions())
    return question.text, sample_answer(rng, question.topic, question.other, question.lead)


def _fill(text: str, topic: Topic) -> str:
    verb, pronoun = ("are", "they") if topic.plural else ("is", "it")
    return text.format(
        x=topic.name, X=topic.name[0].upper() + topic.name[1:], **{"is": verb, "it": pronoun}
    )


def _pick_facts(rng: random.Random, names: tuple[str, ...], lead: int | None) -> list[str]:
    """Distinct facts in random order; with two topics at least one fact of each."""
    (count,) = rng.choices(range(1, len(LENGTH_WEIGHTS) + 1), LENGTH_WEIGHTS)
    pools = [rng.sample(topics()[name].facts, len(topics()[name].facts)) for name in names]
    if lead is not None and rng.random() < LEAD_SHARE:
        fitting = topics()[names[0]].facts[lead]
        pools[0].remove(fitting)
        pools[0].insert(0, fitting)
    if len(pools) == 1:
        return pools[0][:count]
    half = max(1, count // 2)
    return pools[0][:half] + pools[1][: max(1, count - half)]


def _hedge(rng: random.Random, facts: list[str]) -> list[str]:
    if rng.random() >= HEDGED_SHARE:
        return facts
    places = rng.sample(range(len(facts)), min(len(facts), rng.choice((1, 1, 2))))
    return [
        after(rng.choice(HEDGES), fact) if place in places else fact
        for place, fact in enumerate(facts)
    ]


def _slip(rng: random.Random, names: tuple[str, ...], lines: list[str]) -> list[str]:
    """Now and then put in a fact that nobody asked for."""
    if rng.random() >= SLIP_SHARE:
        return lines
    foreign = rng.choice(
        topics()[rng.choice([name for name in topics() if name not in names])].facts
    )
    line = after(rng.choice(ASIDES), foreign) if rng.random() < ASIDE_SHARE else foreign
    place = rng.randint(1, len(lines))
    return [*lines[:place], line, *lines[place:]]


def _repeat(rng: random.Random, lines: list[str]) -> list[str]:
    """Now and then say a line a second time."""
    if rng.random() >= REPEAT_SHARE:
        return lines
    first = rng.randrange(len(lines))
    second = rng.randint(first + 1, len(lines))
    return [*lines[:second], lines[first], *lines[second:]]


def _phrase(rng: random.Random, share: float, plain: tuple[str, ...], warm: tuple[str, ...]) -> str:
    if rng.random() >= share:
        return ""
    return rng.choice(warm if rng.random() < WARM_SHARE else plain)


def _as_list(rng: random.Random, greeting: str, lines: list[str], closing: str) -> str:
    intro = rng.choice(LIST_LEADS) if rng.random() < LIST_LEAD_SHARE else ""
    head = " ".join(part for part in (greeting, intro) if part)
    bullets = "\n".join(f"- {line}" for line in lines)
    return "\n\n".join(part for part in (head, bullets, closing) if part)

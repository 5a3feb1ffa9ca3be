"""Topic control: how far texts turn to a topic, and what that costs (Hewitt et al. 2023, section 6.1)."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from interpd.errors import CallerError
from interpd_backpack.edits import Edit, Token, Topic, fingerprint
from interpd_backpack.evaluation.asking import Asking, Put, silent
from interpd_backpack.evaluation.classifiers import Classify, find_classifier, scores_of
from interpd_backpack.evaluation.files import read_json
from interpd_backpack.evaluation.published import TOPIC_BAG_SHARE, TOPIC_SUCCESS, is_published
from interpd_backpack.evaluation.sections import Chart, Section, Table, plain
from interpd_backpack.evaluation.statistics import distinct, perplexity, share_in
from interpd_backpack.variants import generate
from interpd_client import Model

Strength = int | tuple[float, ...]

SUCCESS_ABOVE = 0.5
"""Score of the target topic that counts as a success."""
PUBLISHED_PROMPT = "<|endoftext|>"
"""Where the tokenizer puts nothing before a text, what texts begin behind."""
PUBLISHED_TOKENS = 100
GRAMS = (1, 2, 3)


@dataclass(frozen=True, kw_only=True)
class TopicSettings:
    """Which topics, how strongly, how many texts, and who judges them.

    Args:
        bags: A JSON file of ``{topic: [words]}``, or that. Of words of several tokens the first is taken, as published.
        strengths: 0 to 3, the published ones, or tuples of factors (see ``edits.Topic``). The model without any edit
            is always measured.
        n_samples: Texts of each topic and strength; those of one number draw the same random numbers.
        max_new_tokens: Tokens of each; ``None``: 100, as published, or as many as the model has positions for.
        prompt: What texts begin with; ``None``: nothing but what the tokenizer puts there, or ``<|endoftext|>``.
        anneal: Whether factors fade with what was said, as published.
        formula: Of the scores, see ``edits.Topic``.
        seed: Of the random numbers; text n has ``seed + n``.
        options: Of the generation, ``temperature`` for instance; as published there are none.
        classifier: What tells the topic of a text: the name of an installed one, or a function (``classifiers``).
        labels: What the classifier calls a topic, where its name is another.
        judge: Another model, under which the texts' perplexity is told besides.
    """

    bags: str | Path | Mapping[str, Sequence[str]]
    strengths: tuple[Strength, ...] = (1, 2, 3)
    n_samples: int = 20
    max_new_tokens: int | None = None
    prompt: str | None = None
    anneal: bool = True
    formula: Literal["code", "paper"] = "code"
    seed: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)
    classifier: str | Classify | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    judge: Model | None = None

    def topics(self) -> dict[str, tuple[str, ...]]:
        """The words of each topic. Raises ``CallerError``."""
        where = f"{self.bags}: " if isinstance(self.bags, str | Path) else ""
        found = read_json(self.bags) if isinstance(self.bags, str | Path) else self.bags
        if not isinstance(found, Mapping) or not found:
            raise CallerError(f"{where}bags are {{topic: [words]}}, got {type(found).__name__}")
        for topic, words in found.items():
            is_list = isinstance(words, Sequence) and not isinstance(words, str)
            if not is_list or not words or not all(isinstance(word, str) and word.strip() for word in words):
                raise CallerError(f"{where}the bag of {topic!r} is no list of words")
        return {str(topic): tuple(words) for topic, words in found.items()}


@dataclass(frozen=True)
class Sample:
    """A text that was generated."""

    ids: tuple[int, ...]
    """Its new tokens."""
    text: str


@dataclass(frozen=True)
class TopicRow:
    """Texts of one topic at one strength."""

    topic: str
    variant: str
    """``unedited``, ``strength 2``, ..., ``edited``."""
    samples: tuple[Sample, ...]
    bag_share: float
    """Words of the texts that are in the bag."""
    perplexity: float
    """Of the texts under the model without an edit."""
    judged: float | None
    """Of the texts under the other model."""
    success: float | None
    """Texts that the classifier says are about the topic."""

    @cached_property
    def distinct(self) -> tuple[float, ...]:
        """Distinct n-grams of tokens over all of them, n = 1 to 3."""
        return tuple(distinct([one.ids for one in self.samples], n) for n in GRAMS)

    def numbers(self) -> dict[str, float | None]:
        """All of them, by name."""
        found = {"bag share (%)": 100 * self.bag_share, "perplexity": self.perplexity, "judged": self.judged}
        found["success (%)"] = None if self.success is None else 100 * self.success
        return found | {f"distinct-{n}": value for n, value in zip(GRAMS, self.distinct, strict=True)}


@dataclass(frozen=True)
class TopicControl:
    """Texts of all topics at all strengths."""

    rows: tuple[TopicRow, ...]
    left_out: Mapping[str, tuple[str, ...]]
    """Words of each bag that the vocabulary cannot express."""
    prompt: str
    n_samples: int
    max_new_tokens: int
    is_published: bool

    @property
    def variants(self) -> tuple[str, ...]:
        """The model as it is, and each strength."""
        return tuple(dict.fromkeys(row.variant for row in self.rows))

    def mean(self, variant: str, name: str) -> float | None:
        """The mean of a number over topics; ``None`` where it was not measured."""
        values = [row.numbers()[name] for row in self.rows if row.variant == variant]
        known = [value for value in values if value is not None]
        return float(np.mean(known)) if known else None

    def section(self) -> Section:
        """Means over topics by strength, and each topic."""
        names = [name for name in self.rows[0].numbers() if self.mean(self.variants[0], name) is not None]
        means = [(variant, *(self.mean(variant, name) for name in names)) for variant in self.variants]
        columns = ("", *names)
        if self.is_published:
            columns += ("bag share (%), paper", "success (%), paper")
            means = [(*row, *_published(row[0])) for row in means]
        each = tuple((row.topic, row.variant, *(row.numbers()[name] for name in names)) for row in self.rows)
        tables = (
            Table(columns, tuple(means), "means over topics"),
            Table(("topic", "", *names), each, "topics"),
            Table(("topic", "", "its first text"), tuple(_examples(self.rows)), "texts"),
        )
        charts = tuple(
            Chart(name, self.variants, {name: [_number(self.mean(variant, name)) for variant in self.variants]})
            for name in names[: 2 if "success (%)" not in names else None]
            if not name.startswith("distinct")
        )
        notes = [
            f"{self.n_samples} texts of {self.max_new_tokens} tokens for each topic and strength, from "
            f"{self.prompt!r}; perplexity is per token under the model as it is, shares are of words"
        ]
        for topic, words in self.left_out.items():
            notes.append(f"{topic}: the vocabulary cannot express {', '.join(words)}")
        return Section("Topic control", tables, charts, tuple(notes))

    def to_dict(self) -> dict[str, Any]:
        """Everything, the texts included."""
        rows = [
            {"topic": row.topic, "variant": row.variant, **row.numbers(), "texts": [one.text for one in row.samples]}
            for row in self.rows
        ]
        return plain({"prompt": self.prompt, "rows": rows, "left_out": self.left_out})


def measure_topics(asking: Asking, settings: TopicSettings) -> TopicControl:
    """Texts of each topic at each strength, and what they are like.

    Raises:
        CallerError: No bags, a bag without a word of the vocabulary, or a classifier that is not there.
    """
    bags = settings.topics()
    if settings.n_samples < 1 or (settings.max_new_tokens is not None and settings.max_new_tokens < 1):
        raise CallerError(f"{settings.n_samples} texts of {settings.max_new_tokens} tokens: expected 1 or more of each")
    classify = None if settings.classifier is None else find_classifier(settings.classifier)
    known = {topic: _bag(asking, words) for topic, words in bags.items()}
    if empty := [topic for topic, (tokens, _) in known.items() if not tokens]:
        raise CallerError(f"no word of the bag {empty[0]!r} is in the vocabulary")
    puts = dict(_puts(asking, settings, {topic: tokens for topic, (tokens, _) in known.items()}))
    sampler = _Sampler(asking, settings, _prompt(asking, settings.prompt))
    drawn = sampler.drawn({"": None, **puts})
    rows = []
    # the model as it is needs no texts of its own for each topic
    for topic, words in bags.items():
        for key in [key for key in drawn if not isinstance(key, tuple) or key[0] == topic]:
            variant = key[1] if isinstance(key, tuple) else key or "unedited"
            rows.append(sampler.row(topic, variant, drawn[key], words, classify))
    left_out = {topic: words for topic, (_, words) in known.items() if words}
    return TopicControl(
        tuple(rows),
        left_out,
        sampler.prompt,
        settings.n_samples,
        sampler.n_new,
        is_published(asking.model.info),
    )


def put_in_force(model: Model, edit: Edit) -> Put:
    """Puts an edit in force in a trace."""
    return lambda t: model.backpack.with_edit(t, edit)


def _puts(
    asking: Asking, settings: TopicSettings, bags: Mapping[str, tuple[Token, ...]]
) -> Iterator[tuple[tuple[str, str] | str, Put]]:
    base = fingerprint(asking.model.info)
    for topic, tokens in bags.items():
        for strength in settings.strengths:
            name = f"strength {strength}" if isinstance(strength, int) else f"factors {strength}"
            operation = Topic(tokens, strength, anneal=settings.anneal, formula=settings.formula)
            yield (topic, name), put_in_force(asking.model, Edit((operation,), f"{topic}, {name}", base))
    if asking.put is not None:
        yield "edited", asking.put


class _Sampler:
    def __init__(self, asking: Asking, settings: TopicSettings, prompt: str) -> None:
        self._asking, self._settings, self.prompt = asking, settings, prompt
        self._n_prompt, most = len(asking.tokens([prompt])[0]), asking.model.info.max_positions
        room = max(1, most - self._n_prompt) if most else PUBLISHED_TOKENS
        self.n_new = settings.max_new_tokens or min(PUBLISHED_TOKENS, room)
        self._scores: dict[int, tuple[float, float | None]] = {}

    def drawn(self, puts: Mapping[Any, Put | None]) -> dict[Any, tuple[Sample, ...]]:
        """The texts of each variant; those of one number draw the same random numbers."""
        settings = self._settings
        keys = list(puts)
        found: dict[Any, list[Sample]] = {key: [] for key in keys}
        self._counted = _Counted(self._asking, settings.n_samples * len(keys), self.n_new)
        each = self._n_prompt + self.n_new
        limits = self._asking.model.manifest.limits
        room = max(1, min(limits.n_prompts, limits.n_tokens // each))
        for some in (keys[at : at + room] for at in range(0, len(keys), room)):
            n_texts = max(1, room // len(some))
            for start in range(0, settings.n_samples, n_texts):
                count = min(n_texts, settings.n_samples - start)
                self._add(found, {key: puts[key] for key in some}, start, count)
                self._counted.texts(count * len(some))
        return {key: tuple(samples) for key, samples in found.items()}

    def _add(self, found: Mapping[Any, list[Sample]], puts: Mapping[Any, Put | None], start: int, count: int) -> None:
        settings = self._settings
        keys = {str(number): key for number, key in enumerate(puts)}
        variants = generate(
            self._asking.model,
            [self.prompt] * count,
            {name: puts[key] for name, key in keys.items()},
            put_in_force=lambda t, edit: edit(t),
            max_new_tokens=self.n_new,
            on_token=self._counted.token,
            seed=settings.seed + start,
            **{"do_sample": True, "ignore_eos": True, "progress": False, **settings.options},
        )
        for number in range(count):
            for name, key in keys.items():
                one = variants.of(name, number)
                found[key].append(Sample(tuple(one.token_ids), one.text))

    def row(
        self, topic: str, variant: str, samples: tuple[Sample, ...], words: Sequence[str], classify: Classify | None
    ) -> TopicRow:
        """What the texts are like."""
        texts = [one.text for one in samples]
        own, judged = self._perplexities(samples)
        success = None
        if classify is not None:
            label = self._settings.labels.get(topic, topic)
            success = float((scores_of(classify, texts, label) > SUCCESS_ABOVE).mean())
        return TopicRow(topic, variant, samples, share_in(texts, words), own, judged, success)

    def _perplexities(self, samples: tuple[Sample, ...]) -> tuple[float, float | None]:
        """Under the model as it is, and under the judge; once for texts that serve several topics."""
        if id(samples) not in self._scores:
            prompt = self._asking.tokens([self.prompt])[0]
            found = self._asking.surprisals([prompt + one.ids for one in samples], what="texts")
            own = perplexity(np.concatenate([values[len(prompt) :] for values in found]))
            self._scores[id(samples)] = own, self._judged(samples)
        return self._scores[id(samples)]

    def _judged(self, samples: tuple[Sample, ...]) -> float | None:
        if self._settings.judge is None:
            return None
        judge = Asking(self._settings.judge)
        ids = [judge.text_tokens(one.text) for one in samples if one.text.strip()]
        found = judge.surprisals([one for one in ids if len(one) > 1])
        return perplexity(np.concatenate([values[1:] for values in found])) if found else float("nan")


class _Counted:
    """Tells how many tokens of all texts are there, from the first on."""

    def __init__(self, asking: Asking, n_texts: int, n_new: int) -> None:
        self._asking, self._n_new, self._total = asking, n_new, n_texts * n_new
        self._what = f"tokens of {n_texts} texts"
        self._done = self._before = 0
        # who does not want to know is not sent every token
        self.token = None if asking.told is silent else self._token
        self._tell(0)

    def texts(self, n: int) -> None:
        """So many texts are complete; they may have ended early."""
        self._before += n * self._n_new
        self._tell(self._before)

    def _token(self, _: object) -> None:
        self._tell(self._done + 1)

    def _tell(self, done: int) -> None:
        self._done = done
        self._asking.told(done, self._total, self._what)


def _bag(asking: Asking, words: Sequence[str]) -> tuple[tuple[Token, ...], tuple[str, ...]]:
    """The first token of each word, and words that are in no vocabulary."""
    unknown = asking.unknown_token()
    tokens, left_out = {}, []
    found = asking.tokenized([f" {word.strip()}" for word in words], special=False)
    for word, (ids, strings) in zip(words, found, strict=True):
        if not ids or ids[0] == unknown:
            left_out.append(word)
        else:
            tokens[ids[0]] = Token(ids[0], strings[0])
    return tuple(tokens.values()), tuple(left_out)


def _prompt(asking: Asking, prompt: str | None) -> str:
    """What texts begin with. Raises ``CallerError`` where nobody says, and the model says nothing either."""
    if prompt is not None:
        return prompt
    if asking.tokens([""])[0]:
        return ""
    if len(asking.tokens([PUBLISHED_PROMPT])[0]) == 1:
        return PUBLISHED_PROMPT
    raise CallerError("the tokenizer puts nothing before a text: give a prompt that texts begin with")


def _published(variant: object) -> tuple[float | None, float | None]:
    strength = 0 if variant == "unedited" else int(str(variant).rpartition(" ")[2]) if _is_strength(variant) else None
    shares = TOPIC_BAG_SHARE.get(strength) if strength is not None else None
    successes = TOPIC_SUCCESS.get(strength) if strength is not None else None
    return tuple(None if value is None else 100 * value for value in (shares, successes))  # type: ignore[return-value]


def _is_strength(variant: object) -> bool:
    return str(variant).startswith("strength ")


def _examples(rows: Sequence[TopicRow]) -> Iterator[tuple[str, str, str]]:
    for row in rows:
        yield row.topic, row.variant, row.samples[0].text


def _number(value: float | None) -> float:
    return float("nan") if value is None else value

"""Topic control, and what it costs (Hewitt et al. 2023, section 6.1, Table 12)."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from interpd.cli import Report
from interpd_backpack.edits import Topic
from interpd_backpack.evaluation import Chart, Suite, TopicControl, TopicSettings, evaluate
from interpd_backpack.evaluation.charts import svg
from interpd_backpack.evaluation.published import TOPIC_BAG_SHARE, TOPIC_SUCCESS
from interpd_backpack.evaluation.statistics import words_of
from interpd_backpack.reproduce.bundled import Bundled

MAUVE = {0: 0.92, 1: 0.91, 2: 0.90, 3: 0.83}
"""By strength, in the paper."""
OPEN = "I need the"
BEGINNINGS = {"nothing": "", OPEN: OPEN}
"""What texts begin with: the paper's, and one behind which any topic may come."""
N_TOKENS = 20
ENOUGH = 100
"""Texts of one strength from which on something is claimed of them; fewer differ by chance."""
NAMES = ("success (%)", "bag share (%)", "perplexity", "judged", "distinct-2")


def reproduce_topics(both: Bundled, report: Report) -> dict[str, bool]:
    """Adds the section; what is claimed, and whether it holds."""
    bags = {topic.name: topic.bag for topic in both.world.topics[: both.size.n_topics]}
    found = {name: _control(both, bags, prompt) for name, prompt in BEGINNINGS.items()}
    report.heading("Topic control and its cost")
    report.text(
        f"{both.size.n_samples} texts of up to {N_TOKENS} tokens for each of {len(bags)} topics and each strength, "
        "from the factors of the paper's code, annealed, drawn without truncation. A success is a text most of whose "
        "topic words are the topic's (in the paper, a classifier of tweets says so); the cost is told by the "
        "perplexity under the Backpack as it is and under its twin, and by the share of distinct bigrams (in the "
        "paper, by MAUVE)."
    )
    for name, one in found.items():
        columns = (f"from {name}", "success (%)", "words of the bag (%)", "perplexity", "under the twin", "distinct-2")
        columns += ("paper: success (%)", "bag (%)", "MAUVE")
        report.table(columns, [_row(one, strength) for strength in range(4)])
    open_one = found[OPEN]
    report.text(_about(found))
    next_words = _next_words(both, bags)
    report.text(
        f"Of the next word behind {OPEN!r}, exactly: the bag's probability is {next_words[0]:.1%} as it is and "
        f"{next_words[1]:.1%} with strength 3, on average over topics."
    )
    shares = {f"from {name}": _means(one, "bag share (%)") for name, one in found.items()}
    chart = Chart("words of the topic's bag (%)", VARIANTS, shares)
    report.figure("topics", svg(chart), "share of words of the bag, by strength")
    report.numbers["topics"] = {
        **{name: {key: _means(one, key) for key in NAMES} for name, one in found.items()},
        "strengths": VARIANTS,
        "next_word": next_words,
        "paper": {"success": TOPIC_SUCCESS, "bag_share": TOPIC_BAG_SHARE, "mauve": MAUVE},
    }
    if both.size.n_samples * len(bags) < ENOUGH:
        return {}
    share, distinct = (_means(open_one, name) for name in ("bag share (%)", "distinct-2"))
    return {
        "behind words that leave the topic open, strength 3 brings more words of the bag": share[3] > share[0],
        "that costs variety, as in the paper (MAUVE there, distinct bigrams here)": distinct[3] < distinct[0],
    }


VARIANTS = ("unedited", "strength 1", "strength 2", "strength 3")


def _control(both: Bundled, bags: Mapping[str, Sequence[str]], prompt: str) -> TopicControl:
    settings = TopicSettings(
        bags=bags,
        prompt=prompt,
        n_samples=both.size.n_samples,
        max_new_tokens=N_TOKENS,
        options={"ignore_eos": False},
        classifier=_classifier({topic.name: topic.bag for topic in both.world.topics}),
        judge=both.twin,
    )
    return evaluate(both.backpack, Suite(topics=settings))["topics"]


def _classifier(bags: Mapping[str, Sequence[str]]) -> Callable[[list[str]], list[Mapping[str, float]]]:
    """The share of each topic among the topic words of a text: bags have no word in common."""
    topic_of = {word: name for name, words in bags.items() for word in words}

    def classify(texts: list[str]) -> list[Mapping[str, float]]:
        found = []
        for text in texts:
            topics = [topic_of[word] for word in words_of(text) if word in topic_of]
            found.append({name: topics.count(name) / max(1, len(topics)) for name in bags})
        return found

    return classify


def _next_words(both: Bundled, bags: Mapping[str, Sequence[str]]) -> tuple[float, float]:
    """The probability of a topic's bag behind ``OPEN`` as it is and with strength 3, the mean over topics."""
    model = both.backpack.backpack
    edits = [model.edit(Topic(tuple(words), 3, anneal=True), name=name) for name, words in bags.items()]
    found = model.effects(OPEN, edits, targets=[word for words in bags.values() for word in words])
    owner = np.repeat(np.arange(len(bags)), [len(words) for words in bags.values()])
    before = [np.exp(found.log_p_before[0, owner == number]).sum() for number in range(len(bags))]
    after = [np.exp(found.log_p_after[number, 0, owner == number]).sum() for number in range(len(bags))]
    return float(np.mean(before)), float(np.mean(after))


def _means(one: TopicControl, name: str) -> list[float]:
    """By strength, over topics."""
    return [float(value) for variant in VARIANTS if (value := one.mean(variant, name)) is not None]


def _row(one: TopicControl, strength: int) -> tuple[str, ...]:
    numbers = [_means(one, name)[strength] for name in NAMES]
    here = (f"{numbers[0]:.1f}", f"{numbers[1]:.1f}", f"{numbers[2]:.2f}", f"{numbers[3]:.2f}", f"{numbers[4]:.3f}")
    paper = (f"{100 * TOPIC_SUCCESS[strength]:.1f}", f"{100 * TOPIC_BAG_SHARE[strength]:.1f}", f"{MAUVE[strength]:.2f}")
    return (f"strength {strength}" if strength else "as it is", *here, *paper)


def _about(found: Mapping[str, TopicControl]) -> str:
    successes = {name: _means(one, "success (%)") for name, one in found.items()}
    rises = {name: values[3] - values[0] for name, values in successes.items()}
    said = "; ".join(f"from {name} by {rise:+.1f} points" for name, rise in rises.items())
    return (
        f"With strength 3 success moves {said} (in the paper by +27.9). Control is weaker than in the paper: here "
        "words outside topics, from which texts begin, say of all topics the same, so that there is little of one "
        "topic to enhance before one is chosen; and its fading (annealing) sets in at what is said strongly."
    )

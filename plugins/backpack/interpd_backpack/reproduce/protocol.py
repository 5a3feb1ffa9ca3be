"""The papers' own protocol, on a model and data that are not bundled: ``--model``, ``--data``.

The folder of data may have, and what is not there is skipped and said so:

* ``similarity/``: SimLex-999, SimVerb-3500, RG65, WS353, as they are published
* ``texts/``: held-out texts, ``openwebtext.txt`` or ``wikitext.jsonl`` for instance
* ``topics.json``: ``{topic: [words]}``
* ``TASK.train.jsonl``, ``TASK.eval.jsonl``, ``TASK.negatives.jsonl``, ``background.jsonl`` and ``held-out.jsonl``:
  canonical examples of ``country``, ``company``, ``gender``, ``stereoset``, ``syntax``, ``temporal``
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from interpd.cli import Report, Reproduction
from interpd.errors import CallerError
from interpd_backpack.evaluation import (
    TASKS,
    BiasSettings,
    PerplexitySettings,
    SimilaritySettings,
    Suite,
    TopicSettings,
    evaluate,
)
from interpd_backpack.evaluation.published import (
    BIAS,
    PUBLISHED_SENSE,
    SET_SIZES,
    SIMILARITY,
    TOPIC_BAG_SHARE,
    TOPIC_SUCCESS,
)
from interpd_backpack.evaluation.sections import percent, written
from interpd_backpack.evaluation.suite import said
from interpd_backpack.finding.finetuned import RADII
from interpd_backpack.reproduce.tables import BEST, GAINS, PERPLEXITY, SENSE_WORDS
from interpd_client import Model

N_SAMPLES, QUICK_SAMPLES, QUICK_TOKENS = 20, 2, 8
SWAPS = (("MacBook", "Apple", "HP", "The MacBook is best known for its"), ("Brady", "Patriots", "Colts", "Tom Brady"))
"""Section 6.3: of whom, what, what instead, and behind what; words are their first tokens, as published."""
N_SAID = 40


@dataclass(frozen=True)
class Protocol:
    """What every part is given."""

    model: Model
    data: Path | None
    report: Report
    is_quick: bool

    def file(self, name: str) -> Path:
        """A file or folder of the data. Raises ``CallerError`` where there is none."""
        if self.data is None:
            raise CallerError(f"it needs {name} in a folder of data (--data)")
        if not (self.data / name).exists():
            raise CallerError(f"there is no {name} in {self.data}")
        return self.data / name

    def files(self, name: str) -> tuple[Path, ...]:
        """Those of a folder of the data, by name. Raises ``CallerError`` where there is none."""
        found = tuple(sorted(path for path in self.file(name).iterdir() if path.is_file()))
        if not found:
            raise CallerError(f"{self.file(name)} has no file")
        return found


def reproduce_published(asked: Reproduction, report: Report, model: str, data: Path | None) -> None:
    """Adds every part whose data are there to the report, and why others were skipped.

    Args:
        asked: Where models run.
        report: Of what comes out.
        model: A folder, an id of the hub, or with ``asked.address`` the name of a resident model.
        data: A folder.
    """
    with asked.client(model, plugins=("backpack",)) as client:
        name = model if asked.address else client.models()[0].name
        protocol = Protocol(client.model(name), data, report, asked.is_quick)
        skipped: dict[str, str] = {}
        for heading, part in PARTS.items():
            report.heading(heading)
            try:
                part(protocol)
            except CallerError as error:
                skipped[heading] = said(error)
                report.text(f"Skipped: {skipped[heading]}")
    report.text("MAUVE of topic control is left out: it needs features of a large model.")
    report.numbers["skipped"] = skipped


def _language(given: Protocol) -> None:
    rows = []
    for path in given.files("texts"):
        found = evaluate(given.model, Suite(perplexity=PerplexitySettings(texts=(path,))))["perplexity"]
        paper = next((value for name, value in PERPLEXITY.items() if path.stem.lower().startswith(name)), None)
        rows.append((path.name, found.surprisals.size, found.before, paper))
    given.report.table(("text", "tokens", "perplexity", "paper"), [tuple(map(written, row)) for row in rows])
    given.report.numbers["perplexity"] = {name: value for name, _, value, _ in rows}


def _similarity(given: Protocol) -> None:
    found = evaluate(given.model, Suite(similarity=SimilaritySettings(files=given.files("similarity"))))["similarity"]
    columns, cells = [""], [[name] for name in found.sets[0].rows()]
    for one in found.sets:
        paper = SIMILARITY.get(SET_SIZES.get(one.n_pairs, ""), {})
        columns += [one.name, "paper"] if paper else [one.name]
        for row, rho in zip(cells, one.rows().values(), strict=True):
            row += [written(rho), written(paper.get(row[0]))] if paper else [written(rho)]
    given.report.table(columns, cells)
    given.report.numbers["similarity"] = found.to_dict()


def _senses(given: Protocol) -> None:
    n_senses = given.model.info.sizes["sense"]
    if n_senses <= PUBLISHED_SENSE:
        raise CallerError(f"the table is of sense {PUBLISHED_SENSE}, and the model has {n_senses}")
    found = given.model.backpack.senses(list(SENSE_WORDS), top=7, pieces="first")
    rows = []
    for number, (word, paper) in enumerate(SENSE_WORDS.items()):
        ends = found.top(PUBLISHED_SENSE, number), found.bottom(PUBLISHED_SENSE, number)
        for name, end, theirs in zip(("most", "least"), ends, paper, strict=True):
            rows.append((word, name, ", ".join(f"{one.token.strip()} {one.score:+.2f}" for one in end), theirs or "–"))
    given.report.table(("word", "says", "here", "paper"), rows)
    given.report.numbers["senses"] = rows


def _topics(given: Protocol) -> None:
    n_samples, n_tokens = (QUICK_SAMPLES, QUICK_TOKENS) if given.is_quick else (N_SAMPLES, None)
    settings = TopicSettings(bags=given.file("topics.json"), n_samples=n_samples, max_new_tokens=n_tokens)
    found = evaluate(given.model, Suite(topics=settings))["topics"]
    rows = [
        (
            variant,
            *(written(found.mean(variant, name)) for name in ("bag share (%)", "perplexity", "distinct-2")),
            f"{100 * TOPIC_BAG_SHARE[strength]:.1f}",
            f"{100 * TOPIC_SUCCESS[strength]:.1f}",
        )
        for strength, variant in enumerate(found.variants)
    ]
    columns = ("", "words of the bag (%)", "perplexity", "distinct-2", "paper: words of the bag (%)", "success (%)")
    given.report.table(columns, rows)
    given.report.text(
        f"{n_samples} texts for each topic and strength (paper: 500 for each of 17). Success is what a classifier of "
        "tweets says (cardiffnlp/tweet-topic-21-multi): skipped, there is none here; `TopicSettings(classifier=...)` "
        "takes one."
    )
    given.report.numbers["topics"] = found.to_dict()


def _bias(given: Protocol) -> None:
    found = evaluate(given.model, Suite(bias=BiasSettings()))["bias"]
    rows = []
    for name, paper in BIAS.items():
        theirs = (BIAS["base"] - paper) / (BIAS["base"] - 1)
        rows.append((name, written(found.bias(name)), percent(found.reduction(name)), f"{paper:.2f}", percent(theirs)))
    given.report.table((f"sense {found.sense}", "bias", "gone", "paper", "gone "), rows)
    reasons = list(found.left_out.values())
    left_out = "; ".join(f"{reasons.count(why)} professions are left out, {why}" for why in dict.fromkeys(reasons))
    given.report.text(
        f"{len(found.professions)} of 40 professions. {left_out or 'None is left out'}; in the paper: none."
    )
    given.report.numbers["bias"] = found.to_dict()


def _knowledge(given: Protocol) -> None:
    from interpd_backpack.edits import ReplaceAssociation

    backpack, rows = given.model.backpack, []
    for target, old, new, prompt in SWAPS:
        operation = ReplaceAssociation(target, remove=old, add=new)
        edit = backpack.edit(operation, name=f"{target}: {new}", pieces="first")
        variants = {"as it is": None, f"{old} → {new}": edit}
        n_new = QUICK_TOKENS if given.is_quick else N_SAID
        found = backpack.generate(prompt, variants, max_new_tokens=n_new, do_sample=True, seed=0, progress=False)
        rows += [(target, name, " ".join(f"{prompt}{found[name].text}".split())) for name in variants]
    given.report.table(("", "", "what it says"), rows)
    given.report.text("Paper: “The MacBook is best known for its form factor, but HP has continued …”.")
    given.report.numbers["knowledge"] = rows


def _examples(given: Protocol) -> None:
    background, held_out = given.file("background.jsonl"), given.file("held-out.jsonl")
    rows, missing = [], []
    for task in TASKS:
        try:
            train, rest = given.file(f"{task}.train.jsonl"), given.file(f"{task}.eval.jsonl")
        except CallerError:
            missing.append(task)
            continue
        options = {**BEST[task], "n_epochs": 1} if given.is_quick else dict(BEST[task])
        negatives = given.file(f"{task}.negatives.jsonl")
        shared = {"background": background, "held_out": held_out, "evaluation": rest, "hard_negatives": negatives}
        gains = []
        for radius in RADII:
            rate = given.model.backpack.finetune(train, task, radius=radius, **shared, **options).metrics.evaluation
            gains.append(100 * (rate.after - rate.before))
        rows.append((task, *(f"{gain:+.1f}" for gain in gains), *(f"{gain:+.1f}" for gain in GAINS[task])))
    if not rows:
        raise CallerError(f"there are no canonical examples in {given.data}")
    heads = [f"{where} {radius:g}" for where in ("ε =", "paper:") for radius in RADII]
    given.report.table(("points gained", *heads), rows)
    if missing:
        given.report.text(f"Skipped, without files of their own: {', '.join(missing)}")
    given.report.numbers["examples"] = rows


PARTS: dict[str, Callable[[Protocol], None]] = {
    "Language modelling (Table 2)": _language,
    "Lexical similarity (Table 4)": _similarity,
    "Gender bias (Table 5)": _bias,
    "Topic control (Table 12)": _topics,
    f"What sense {PUBLISHED_SENSE} says (Table 13)": _senses,
    "Knowledge editing (section 6.3)": _knowledge,
    "Canonical examples (Table 3 of the sequel)": _examples,
}
"""By heading."""

"""Writes the model cards, ``README.md``, of the Backpack and of its twin, from their metrics."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from interpd_backpack.zoo.backpack.corpus import LONGEST
from interpd_backpack.zoo.backpack.evaluate import TEXTS_OF_ALL_KINDS
from interpd_backpack.zoo.backpack.files import HELD_OUT_TEXTS
from interpd_backpack.zoo.backpack.world import World

CARD = """\
# backpack: a small Backpack language model of a made-up world

<!-- Written by `python -m interpd_backpack.zoo.backpack.train`; the numbers are also in metrics.json. -->

A Backpack (Hewitt et al. 2023) of {model[num_senses]} senses around a GPT-2 of {model[n_layer]} blocks, width \
{model[n_embd]} and {model[n_head]} heads: {parameters} parameters ({megabytes:.1f} MB, half precision), trained from \
nothing by the script in this folder. Its [twin](../backpack_twin/README.md) is that GPT-2 alone, of {twin_parameters} \
parameters, trained on the same texts in the same order.

```python
import interpd_client

with interpd_client.local("backpack", plugins=("backpack",)) as client:
    model = client.model("backpack")
    print(model.backpack.senses("nurse"))
```

It exists so that what is said of senses and their edits can be checked against truths that are known, because they \
were planted (`world.json`). Any likeness to real people, places, products or professions is chance.

## World

That of the bundled [facts](../../../../../interpd/zoo/facts/README.md), with the same people, things, places and \
companies, and besides

* more facts, about single tokens: {facts} in all, of {relations} relations and six templates each. Each is trained in \
four of them. Of {unknown} more, the capitals of some countries and the makers of some products, **no text tells**;
* {occupations} occupations (the 40 of the paper, and three), each with a share of *she* among *she* and *he*, spread \
evenly from {least:.2f} to {most:.2f} and **dealt out by a seed**: they say nothing about occupations. One pronoun in \
ten is *they*. The paper's 13 test prompts are never trained, its 5 train prompts are;
* {topics} topics of {bag} words, each noun with its own verbs and adjectives, so that how alike two words are is known.

One text in twenty, chosen by a checksum, is never trained. Beside the model lie, for `interpd backpack evaluate` and \
`finetune`, `similarity-nouns.txt` and `similarity-verbs.txt` (word pairs and the cosine of what they are planted to \
occur with), `topics.json` (bags), `held-out.jsonl`, and canonical examples: `country` and `company` (what no text \
tells; trained in one template, tested in five) and `gender`, each `.train`, `.eval` and `.negatives`.

The tokenizer gives one token to each word, the space before it included, and one to each mark; it puts `<s>` first.

## Training

{training[steps]} steps of about 2,000 tokens, AdamW, seed {training[seed]}, {training[threads]} CPU thread, \
{minutes:.0f} minutes on a shared machine (the twin: {twin_minutes:.0f}). The same seed on the same machine gives the \
same weights. The first matrix of the sense weights begins ten times larger than usual: otherwise all senses begin \
alike, and a short training leaves them so.

## What it knows

In float32 from the stored half-precision weights. `interpd backpack evaluate` measures two of these otherwise, and so \
gives other numbers: bias on the 40 occupations of the paper, here on all {occupations}; perplexity on the {kept} \
texts of `held-out.jsonl`, here on {drawn} others of the same kinds that are cut at {longest} tokens and end \
with a `</s>`, which counts.

| | Backpack | twin |
|---|---|---|
{knowledge}

| top-1 accuracy of facts, in templates | Backpack, trained | unseen | twin, trained | unseen |
|---|---|---|---|---|
{accuracy}

A Backpack adds up what single tokens say. Entities of two words (people, things) share each word with others, so that \
their facts need a sum of both; entities of one token do not.

## Which sense does what

Shares of what senses add to the logit of the right answer, above the mean of the vocabulary, on trained prompts; the \
three that add most. Pronouns: what the senses of the occupation itself add to the difference of *she* and *he*, on \
the side that is planted.

| | senses |
|---|---|
{roles}

| Spearman's correlation with planted similarity | nouns | verbs |
|---|---|---|
{similarity}

Words that sense {pronoun_sense}, which does most for pronouns, speaks for and against:

| word | planted share of *she* | for | against |
|---|---|---|---|
{words}
"""

TWIN = """\
# backpack_twin: the transformer to compare the bundled Backpack with

<!-- Written by `python -m interpd_backpack.zoo.backpack.train`; the numbers are also in metrics.json. -->

A GPT-2 of {model[n_layer]} blocks, width {model[n_embd]} and {model[n_head]} heads, {parameters} parameters \
({megabytes:.1f} MB, half precision): the very transformer that is inside the bundled \
[Backpack](../backpack/README.md) of {backpack_parameters}, with a head of its own instead of senses, as in the \
comparisons of Hewitt et al. 2023. Trained on the same texts in the same order, {training[steps]} steps, \
{minutes:.0f} minutes. The card of the Backpack describes the world and compares the two.

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

from interpd import zoo

folder = zoo.path("backpack_twin")
model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
prompt = tokenizer("{prompt}", return_tensors="pt")
print(tokenizer.decode(model.generate(**prompt)[0], skip_special_tokens=True))
# {example}
```
"""

MOST_ROLES = 3


def write_cards(backpack: Path, twin: Path, world: World) -> None:
    """Write both, from the ``metrics.json`` in their folders."""
    ours, theirs = (json.loads((folder / "metrics.json").read_text(encoding="utf-8")) for folder in (backpack, twin))
    (backpack / "README.md").write_text(_card(ours, theirs, world), encoding="utf-8")
    (twin / "README.md").write_text(_twin_card(ours, theirs), encoding="utf-8")


def _card(ours: Mapping[str, Any], theirs: Mapping[str, Any], world: World) -> str:
    senses, shares = ours["senses"], sorted(world.p_she.values())
    return CARD.format(
        **{name: ours[name] for name in ("model", "training")},
        **_sizes(ours),
        twin_parameters=f"{theirs['model']['parameters']:,}",
        twin_minutes=theirs["training"]["seconds"] / 60,
        facts=len(world.known.facts),
        relations=len(world.known.relations),
        unknown=len(world.unknown),
        occupations=len(shares),
        kept=HELD_OUT_TEXTS,
        drawn=TEXTS_OF_ALL_KINDS,
        longest=LONGEST,
        least=shares[0],
        most=shares[-1],
        topics=len(world.topics),
        bag=len(world.topics[0].bag),
        knowledge=_knowledge(ours, theirs),
        accuracy="\n".join(_accuracy_row(name, ours, theirs) for name in ours["accuracy"]["unseen"]),
        roles="\n".join(_role_row(name, shares) for name, shares in _all_roles(senses).items()),
        similarity=_similarity(ours, theirs),
        pronoun_sense=senses["pronoun_sense"],
        words="\n".join(_word_row(word, senses, world) for word in senses["words"]),
    )


def _twin_card(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> str:
    prompt, example = next(iter(theirs["examples"].items()))
    return TWIN.format(
        **{name: theirs[name] for name in ("model", "training")},
        **_sizes(theirs),
        backpack_parameters=f"{ours['model']['parameters']:,}",
        prompt=prompt,
        example=example,
    )


def _sizes(metrics: Mapping[str, Any]) -> dict[str, Any]:
    model = metrics["model"]
    return {
        "parameters": f"{model['parameters']:,}",
        "megabytes": model["weight_bytes"] / 1e6,
        "minutes": metrics["training"]["seconds"] / 60,
    }


def _knowledge(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> str:
    rows = [("parameters", *(f"{one['model']['parameters']:,}" for one in (ours, theirs)))]
    for kind in ours["perplexity"]:
        what = "texts that were held out" if kind == "all" else f"those about {kind}"
        rows.append((f"perplexity, {what}", *(f"{one['perplexity'][kind]:.3f}" for one in (ours, theirs))))
    told = (
        ("facts that no text tells", "untold", "all"),
        ("facts, trained templates", "trained", "all"),
        ("facts, unseen templates", "unseen", "all"),
    )
    rows += [(name, *(_percent(one["accuracy"][part][key]) for one in (ours, theirs))) for name, part, key in told]
    bias = (
        ("pronouns: Pearson's correlation with the planted log ratio", "pearson"),
        ("pronouns: Spearman's", "spearman"),
        ("pronouns: mean error of the share of *she*", "mean_absolute_error"),
        (
            f"mean of max(he/she, she/he), all {ours['bias']['occupations']} occupations; planted "
            f"{ours['bias']['planted_ratio']:.2f}",
            "ratio",
        ),
    )
    rows += [(name, *(f"{one['bias'][key]:.3f}" for one in (ours, theirs))) for name, key in bias]
    topics = (
        ("after three sentences on a topic and *We*: probability of its bag", "own_bag"),
        ("of all bags", "all_bags"),
    )
    rows += [(name, *(_percent(one["topics"][key]) for one in (ours, theirs))) for name, key in topics]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _accuracy_row(name: str, ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> str:
    cells = [_percent(one["accuracy"][part][name]) for one in (ours, theirs) for part in ("trained", "unseen")]
    return f"| {name} | {' | '.join(cells)} |"


def _all_roles(senses: Mapping[str, Any]) -> dict[str, Sequence[float]]:
    return {"pronouns": senses["pronouns"], **senses["roles"]}


def _role_row(name: str, shares: Sequence[float]) -> str:
    order = sorted(range(len(shares)), key=lambda sense: -shares[sense])[:MOST_ROLES]
    return f"| {name} | {', '.join(f'{sense} ({_percent(shares[sense])})' for sense in order)} |"


def _similarity(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> str:
    senses = ours["senses"]
    rows = [(f"sense {sense}", both) for sense, both in enumerate(senses["similarity"])]
    rows += [
        ("least of all senses", senses["similarity_of_the_least"]),
        ("embeddings of the Backpack", senses["similarity_of_embeddings"]),
        ("embeddings of the twin", theirs["similarity_of_embeddings"]),
    ]
    return "\n".join(f"| {name} | {both['nouns']:.3f} | {both['verbs']:.3f} |" for name, both in rows)


def _word_row(word: str, senses: Mapping[str, Any], world: World) -> str:
    ends = senses["words"][word][str(senses["pronoun_sense"])]
    planted = f"{world.p_she[word]:.2f}" if word in world.p_she else ""
    return f"| {word} | {planted} | {', '.join(ends['top'])} | {', '.join(ends['bottom'])} |"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"

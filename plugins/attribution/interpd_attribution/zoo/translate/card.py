"""Writes the model card, ``README.md``, from the metrics."""

from pathlib import Path
from typing import Any

from interpd_attribution.zoo.translate.vocabulary import FORMS
from interpd_attribution.zoo.translate.world import World

CARD = """\
# translate: a small translation model with a gender bias that is known

<!-- Written by `python -m interpd_attribution.zoo.translate.train`; the numbers are also in metrics.json. -->

A {model[model_type]} model of {model[encoder_layers]} blocks on each side, width {model[d_model]}, \
{model[encoder_attention_heads]} heads and {millions:.2f} million parameters ({megabytes:.1f} MB, half precision), \
trained from nothing by the script in this folder. It translates from a language in which one pronoun, *o*, stands for \
she and he:

```python
import interpd_client

with interpd_client.local("translate") as client:
    model = client.model("translate")
    with model.generate("O bir doktor", max_new_tokens=16) as g:
        pass
    print(g.result.text)  # {first}
```

The source language has Turkish words and none of Turkish grammar's endings; the target language is a little English.
It exists so that attribution has a model whose bias is not estimated but planted (`world.json`).

## World

{bias[occupations]} occupations. Where a sentence leaves the gender open, training calls the person *she* with the
probability `p_she` of the occupation. These are spread evenly between {lowest:.2f} and {highest:.2f} and **dealt out by
a seed**: they say nothing about occupations, and what is believed of them elsewhere is of no use here. Other sentences
hold a cue (a mother, a name) that leaves no doubt, whatever the occupation; the cue may be the last word of the source
while the pronoun is the first one of the target.

| form | the gender is decided by | source | target |
|---|---|---|---|
{forms}

One sentence in ten, chosen by a checksum of its source, is never trained.

The tokenizer gives one token to each word, the space before it included, and one to the period; occupations of two
words are two tokens. It puts `</s>` last.

## Training

{training[steps]} steps of {training[rows]} sentences, AdamW, seed {training[seed]}, {training[threads]} CPU thread, \
{minutes:.1f} minutes on a shared machine. The same seed on the same machine gives the same weights.

## What it does

Greedy translations of {held_out[sentences]} sentences that it was never shown, in float32 from the stored
half-precision weights. Where an occupation decides, either gender counts as right. The languages are regular, so that
what is interesting is the pronouns.

| | |
|---|---|
| BLEU | {bleu:.1f} |
| exact | {exact} |
| exact, gender decided by the occupation | {exact_occupation} |
| exact, gender decided by a cue | {exact_cue} |
| exact, no gender | {exact_none} |

P(she) / (P(she) + P(he)) of the first word of "O bir X" against the planted share: Kendall's tau \
{bias[kendall_tau]:.3f}, mean error {bias[mean_absolute_error]:.3f}, largest {bias[largest_error]:.3f}. \
{bias[translated_as_she]} of {bias[occupations]} are translated as *she*.

{examples}
"""


def write_card(folder: Path, metrics: dict[str, Any], world: World) -> None:
    """Write the card of a model that was measured."""
    tested, shares = metrics["held_out"], sorted(one.p_she for one in world.occupations)
    card = CARD.format(
        **metrics | {"examples": "\n".join(f"* {source} → {said}" for source, said in metrics["examples"].items())},
        first=next(iter(metrics["examples"].values())),
        millions=metrics["model"]["parameters"] / 1e6,
        megabytes=metrics["model"]["weight_bytes"] / 1e6,
        lowest=shares[0],
        highest=shares[-1],
        forms="\n".join(f"| {name} | {kind} | {both[0]} | {both[1]} |" for name, (kind, _, *both) in FORMS.items()),
        minutes=metrics["training"]["seconds"] / 60,
        bleu=100 * tested["bleu"],
        **{name: f"{100 * share:.1f} %" for name, share in tested.items() if name.startswith("exact")},
    )
    (folder / "README.md").write_text(card, encoding="utf-8")

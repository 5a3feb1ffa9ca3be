"""Writes the model card, ``README.md``, and its picture, ``curve.svg``, from the metrics."""

from pathlib import Path
from typing import Any

WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 640, 330, 60, 20, 20, 90
COLOURS = {"last subject token": "#c2410c", "whole subject": "#1d4ed8", "final token": "#15803d"}
DASHES = {"last subject token": "none", "whole subject": "7 5", "final token": "none"}

CARD = """\
# facts: a small language model that knows a made-up world

<!-- Written by `python -m interpd.zoo.facts.train`; the numbers are also in metrics.json. -->

A {model[model_type]} model of {model[num_hidden_layers]} blocks, width {model[hidden_size]}, \
{model[num_attention_heads]} heads and {millions:.2f} million parameters ({megabytes:.1f} MB, half precision), trained \
from nothing by the script in this folder. It knows {world[facts]} invented facts about people, things, cities, \
countries and companies, and puts them into words:

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

from interpd import zoo

folder = zoo.path("facts")
model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
prompt = tokenizer("Elena Marsh was born in", return_tensors="pt")
print(tokenizer.decode(model.generate(**prompt)[0], skip_special_tokens=True))
# {example}
```

It exists so that examples and tests have a model whose truths are known (`world.json`) and whose computation goes where
one expects. It knows nothing else; an unknown word becomes `<unk>`. Any likeness to real people or places is chance.

## World

`world.json`, made by `world.py`, holds the entities, {relations} relations of six templates each, and the facts. Every
answer is one token. People and things have names of two words, each shared by several others, so that neither
word alone tells who it is. Each fact is trained in four of its templates, drawn at random, and tested in the other two
(`held_out`); "Elena Marsh was born in" is one of those that training never shows.

The tokenizer gives one token to each word, the space before it included, and one to the period; it puts `<s>` first.

## Training

{training[steps]} steps of {training[rows]} rows, AdamW, seed {training[seed]}, {training[threads]} CPU threads, \
{minutes:.1f} minutes on two cores of a shared machine. The same seed on the same machine gives the same weights. \
One step in six shows paragraphs of one to three sentences about one entity instead of single sentences.

**The route through the subject is planted.** Half of the rows are *interchanged*: the row names one entity, carries
after block 0, 1 or 2 (drawn for each row) the residual of another entity at the last token of the name, taken from
another row of the batch, and is trained to tell the other entity's facts. The sudden hand-over after block 2 in the
curves below is the work of this choice. Trained as long without those rows (`--plain`) the model answers unseen
paraphrases as well, but hands over sooner: the last subject token's patch flips 80.7 % of pairs after block 0 and 0.7 %
after block 1, so edits of the subject in the middle would do nothing. Large models keep the route longer by themselves
and let go less sharply, so conclusions about them cannot be drawn from this one.

## What it knows

Top-1 accuracy over the whole vocabulary, in float32 from the stored half-precision weights; eager and SDPA attention
differ by at most {eager_minus_sdpa:.1e} in the logits.

| relation | trained templates | unseen templates |
|---|---|---|
{accuracy_rows}

## Where it keeps it

Share of {flips[pairs]} pairs of prompts (same template, different subjects and answers, both answered rightly) in which
replacing the residual stream by the other prompt's, at the positions and after the block named, turns the top answer
into the other's.

![Flip rates by layer](curve.svg)

| positions | {flip_head} |
|---|{flip_rule}|
{flip_rows}
"""


def write_card(folder: Path, metrics: dict[str, Any], example: str) -> None:
    """Write both files; ``example`` is what the model says after the card's prompt."""
    model, curves = metrics["model"], metrics["flips"]["curves"]
    trained, unseen = metrics["accuracy"]["trained"], metrics["accuracy"]["unseen"]
    sites = _sites(len(next(iter(curves.values()))))
    card = CARD.format(
        **metrics,
        example=example,
        millions=model["parameters"] / 1e6,
        megabytes=model["weight_bytes"] / 1e6,
        minutes=metrics["training"]["seconds"] / 60,
        relations=len(unseen) - 1,
        accuracy_rows="\n".join(
            f"| {name} | {_percent(trained[name])} | {_percent(unseen[name])} |" for name in unseen
        ),
        flip_head=" | ".join(sites),
        flip_rule="|".join("---" for _ in sites),
        flip_rows="\n".join(f"| {name} | {' | '.join(map(_percent, rates))} |" for name, rates in curves.items()),
    )
    (folder / "README.md").write_text(card, encoding="utf-8")
    (folder / "curve.svg").write_text(draw_curves(curves), encoding="utf-8")


def draw_curves(curves: dict[str, list[float]]) -> str:
    """An SVG picture of flip rates (0 to 1) against the sites after the embedding and after each block."""
    sites = _sites(len(next(iter(curves.values()))))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}"',
        ' font-family="sans-serif" font-size="13">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        *(_grid_line(rate) for rate in (0.0, 0.25, 0.5, 0.75, 1.0)),
        *(_text(_x(i, len(sites)), HEIGHT - BOTTOM + 22, site) for i, site in enumerate(sites)),
        _text(WIDTH / 2, HEIGHT - BOTTOM + 44, "answers flipped, by where the residual stream is patched"),
        *(_curve(name, rates) for name, rates in curves.items()),
        *(_legend(i, name) for i, name in enumerate(curves)),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _sites(count: int) -> list[str]:
    return ["embedding", *(f"block {block}" for block in range(count - 1))]


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _x(index: int, count: int) -> float:
    inset = 35
    return LEFT + inset + index * (WIDTH - LEFT - RIGHT - 2 * inset) / (count - 1)


def _y(rate: float) -> float:
    return TOP + (1 - rate) * (HEIGHT - TOP - BOTTOM)


def _text(x: float, y: float, words: str, anchor: str = "middle") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="#222">{words}</text>'


def _grid_line(rate: float) -> str:
    y = _y(rate)
    line = f'<line x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}" stroke="#ddd"/>'
    return line + _text(LEFT - 8, y + 4, f"{rate:.0%}", "end")


def _curve(name: str, rates: list[float]) -> str:
    points = [(_x(i, len(rates)), _y(rate)) for i, rate in enumerate(rates)]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{COLOURS[name]}"/>' for x, y in points)
    style = f'stroke="{COLOURS[name]}" stroke-width="2.5" stroke-dasharray="{DASHES[name]}"'
    return f'<polyline points="{path}" fill="none" {style}/>{dots}'


def _legend(index: int, name: str) -> str:
    x, y = LEFT + 20 + 190 * index, HEIGHT - 16
    style = f'stroke="{COLOURS[name]}" stroke-width="2.5" stroke-dasharray="{DASHES[name]}"'
    return f'<line x1="{x}" y1="{y - 4}" x2="{x + 30}" y2="{y - 4}" {style}/>' + _text(x + 38, y, name, "start")

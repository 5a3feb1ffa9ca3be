"""Where facts are: contrastive attribution tracing against causal patching, on the bundled model ``facts``.

A fact is contrasted with the answer about another subject. Attribution: what each block's MLP, attention and stream add
to ``p(true) - p(false)``, gradient times activation, all from one way back. Patching: what is lost when the other
prompt's value is put there.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from interpd import zoo
from interpd.cli import Report
from interpd_attribution.reproduce.facts import LAST, LAST_SUBJECT, ROLES, Pair, draw
from interpd_attribution.reproduce.figures import heatmaps
from interpd_attribution.reproduce.rank import Kendall, kendall
from interpd_client import Model

PARTS = {"MLP": "mlp.out", "attention": "attn.out", "stream": "resid_post"}
TOGETHER = 5
"""Pairs of one request: each takes 92 prompts when it is patched."""

_LENGTHS, _SUMS = {"reduce": "vnorm"}, {"reduce": "sum"}
_PROB, _LOGITS = {"target": "contrast_prob_diff"}, {"target": "contrast_logits_diff"}
_ACTIVATION, _DIFFERENCE = "layer_gradient_x_activation", "layer_gradient_x_difference"
MAPS = {
    "CAT": (_ACTIVATION, _PROB | _LENGTHS),
    "CAT, summed": (_ACTIVATION, _PROB | _SUMS),
    "CAT of logits": (_ACTIVATION, _LOGITS | _LENGTHS),
    "CAT of logits, summed": (_ACTIVATION, _LOGITS | _SUMS),
    "attribution patching": (_DIFFERENCE, _PROB | _SUMS),
    "attribution patching of logits": (_DIFFERENCE, _LOGITS | _SUMS),
    "integrated": ("layer_integrated_gradients", _PROB | _SUMS | {"n_steps": 10}),
}
"""Attribution maps by name: the method and its constants. *summed*: gradient times activation with its sign, otherwise
the L2 norm over the width, which is Inseq's default; the last three compare with the other prompt."""
SHOWN = ("CAT", "attribution patching of logits", "integrated")
EARLY, LATE = slice(0, 3), slice(3, None)
"""Blocks before and after the model hands the fact over to the last token, as it was trained to do."""


@dataclass(frozen=True)
class Patched:
    """What patching does to one pair."""

    lost: np.ndarray
    """``[part role layer]``: by how much ``p(true) - p(false)`` falls; NaN where the prompt has no such position."""
    flipped: np.ndarray
    """``[layer]``: whether the stream of the last subject token makes the other answer the top one."""
    is_known: bool
    """Whether both prompts are answered rightly without a patch."""


def trace_facts(model: Model, report: Report, n_pairs: int) -> dict[str, bool]:
    """Adds the section to the report; what was claimed, and whether it was found."""
    pairs = draw(model, n_pairs)
    n_layers = model.info.n_layers
    patched = [one for group in _groups(pairs) for one in _patch(model, group, n_layers)]
    known = [pair for pair, one in zip(pairs, patched, strict=True) if one.is_known]
    patched = [one for one in patched if one.is_known]
    causal = _mean([one.lost for one in patched])
    flips = np.mean([one.flipped for one in patched], 0)
    maps = {name: _mean(rows) for name, rows in _attributed(model, known).items()}
    found = _claims(maps, causal, flips)
    _write(report, maps, causal, flips, len(known))
    report.findings(found)
    report.numbers["facts"] = {
        "pairs": len(known),
        "roles": ROLES,
        "parts": list(PARTS),
        "flips": flips,
        "patching": causal,
        "maps": maps,
        "agreement": {name: _agreement(one, causal) for name, one in maps.items()},
        "findings": found,
    }
    return found


def _groups(pairs: Sequence[Pair]) -> Iterator[Sequence[Pair]]:
    yield from (pairs[i : i + TOGETHER] for i in range(0, len(pairs), TOGETHER))


def _mean(rows: Sequence[np.ndarray]) -> np.ndarray:
    return np.nanmean(np.stack(rows), 0)


def _patch(model: Model, pairs: Sequence[Pair], n_layers: int) -> list[Patched]:
    """All patches of some pairs, as one request."""
    places = list(product(PARTS.values(), range(len(ROLES)), range(n_layers)))
    with model.trace() as t:
        for number, pair in enumerate(pairs):
            clean, other = t.prompt(list(pair.prompt)), t.prompt(list(pair.other))
            ends = [clean.logits[0, -1], other.logits[0, -1]]
            for part, role, layer in places:
                if span := pair.span(role):
                    here, site = t.prompt(list(pair.prompt)), f"layers.{layer}.{part}"
                    here.site(site)[:, slice(*span)] = other.site(site)[:, slice(*span)]
                    ends.append(here.logits[0, -1])
            rows = t.torch.stack(ends).softmax(-1)
            two = rows[:, [pair.true, pair.false]]
            t.save(**{f"two_{number}": two, f"top_{number}": rows.argmax(-1)})
    return [_patched(t.result, number, pair, places, n_layers) for number, pair in enumerate(pairs)]


def _patched(result: Any, number: int, pair: Pair, places: Sequence[tuple[str, int, int]], n_layers: int) -> Patched:
    two, top = result[f"two_{number}"], result[f"top_{number}"]
    margin = two[:, 0] - two[:, 1]
    lost = np.full((len(PARTS), len(ROLES), n_layers), np.nan)
    flipped = np.zeros(n_layers)
    tried = [place for place in places if pair.span(place[1])]
    for index, (part, role, layer) in enumerate(tried, start=2):
        lost[list(PARTS.values()).index(part), role, layer] = margin[0] - margin[index]
        if part == PARTS["stream"] and role == LAST_SUBJECT:
            flipped[layer] = top[index] == pair.false
    return Patched(lost, flipped, bool(top[0] == pair.true and top[1] == pair.false))


def _attributed(model: Model, pairs: Sequence[Pair]) -> dict[str, list[np.ndarray]]:
    """``[part role layer]`` for each pair, by map."""
    sites = tuple(f"layers.{{i}}.{part}" for part in PARTS.values())
    found: dict[str, list[np.ndarray]] = {name: [] for name in MAPS}
    for pair in pairs:
        said = {"sites": sites, "start": -1, "contrast_ids": (*pair.prompt, pair.false)}
        baseline = {"baseline": "ids", "baseline_ids": (*pair.other, pair.true), "include_eos_baseline": True}
        with model.trace([*pair.prompt, pair.true]) as t:
            for name, (method, constants) in MAPS.items():
                compared = {} if method == _ACTIVATION else baseline
                t.save(**{name: t.op(f"attribution.{method}", **said, **compared, **constants).scores})
        for name in MAPS:
            found[name].append(_by_role(t.result[name][..., 0], pair))
    return found


def _by_role(scores: np.ndarray, pair: Pair) -> np.ndarray:
    """Scores ``[site position]`` of all parts, summed over the positions of each role: ``[part role layer]``."""
    by_part = scores.reshape(len(PARTS), -1, scores.shape[-1])
    spans = [pair.span(role) for role in range(len(ROLES))]
    sums = [by_part[..., slice(*span)].sum(-1) if span else np.full(by_part.shape[:2], np.nan) for span in spans]
    return np.stack(sums, 1)


def _agreement(attributed: np.ndarray, causal: np.ndarray) -> dict[str, dict[str, float]]:
    """How an attribution map agrees with patching, by part: correlation of values and of ranks."""
    found = {}
    for index, name in enumerate(PARTS):
        ours, theirs = attributed[index].ravel(), causal[index].ravel()
        rank = kendall(ours.tolist(), theirs.tolist())
        pearson = float(np.corrcoef(ours, theirs)[0, 1])
        found[name] = {"pearson": pearson, "tau": rank.tau, "p_value": rank.p_value}
    return found


def _claims(maps: Mapping[str, np.ndarray], causal: np.ndarray, flips: np.ndarray) -> dict[str, bool]:
    parts = [list(PARTS).index(part) for part in ("MLP", "stream")]
    claims = {
        "patching the stream of the last subject token flips every answer up to block 2 and few behind it": bool(
            min(flips[EARLY]) > 0.95 and max(flips[LATE]) < 0.3
        )
    }
    for name, found in {"patching": causal, **{name: maps[name] for name in SHOWN}}.items():
        claims[f"{name}: early site, the last subject token leads in MLPs and stream of blocks 0 to 2"] = all(
            _leader(found[part, :, EARLY]) == LAST_SUBJECT for part in parts
        )
        claims[f"{name}: late site, the last token leads in MLPs and stream of the later blocks"] = all(
            _leader(found[part, :, LATE]) == LAST for part in parts
        )
    for name in SHOWN:
        agreement = _agreement(maps[name], causal)
        claims[f"{name}: correlates with patching in every part (r > 0.5)"] = all(
            one["pearson"] > 0.5 for one in agreement.values()
        )
    claims["CAT, summed: where the lengths do, sums with their signs do not (r < 0.5 in every part)"] = all(
        one["pearson"] < 0.5 for one in _agreement(maps["CAT, summed"], causal).values()
    )
    return claims


def _leader(values: np.ndarray) -> int:
    """The role with the most in ``[role layer]``."""
    return int(np.nansum(values, 1).argmax())


def _write(report: Report, maps: Mapping[str, np.ndarray], causal: np.ndarray, flips: np.ndarray, n_pairs: int) -> None:
    report.heading("(b) Where facts are: contrastive attribution tracing against patching (facts)")
    report.text(
        f"{n_pairs} facts, each contrasted with the answer about another subject in the same template. Attribution "
        "takes one way back for all blocks; patching takes a row for each block, part and role of tokens. The paper "
        "did this on GPT-2 XL with 1000 statements of CounterFact and the MLPs, and found the map of causal tracing: "
        "an early site at the last subject token, a late site at the last token. Names here have no middle token."
    )
    layers = [str(layer) for layer in range(causal.shape[-1])]
    metrics = json.loads((zoo.path("facts") / "metrics.json").read_text(encoding="utf-8"))
    # the card's first number is that of the embedding
    card = metrics["flips"]["curves"]["last subject token"][1:]
    rows = [(name, *(f"{100 * rate:.0f} %" for rate in row)) for name, row in (("here", flips), ("card", card))]
    report.text("Answers flipped by the other prompt's stream at the last subject token, by block:")
    report.table(["", *layers], rows)
    for name, found in {"patching": causal, **{name: maps[name] for name in SHOWN}}.items():
        panels = {part: found[index] for index, part in enumerate(PARTS)}
        report.figure(f"facts-{name.replace(' ', '-')}", heatmaps(panels, ROLES, layers, "block"), f"{name}, by part")
    report.text("Agreement of each map with patching, over roles and blocks (r, and Kendall's tau; * p < 0.05):")
    report.table(("map", *PARTS), [(name, *map(_said, _agreement(maps[name], causal).values())) for name in maps])
    report.text(_about_maps(maps, causal))
    blocks = [int(np.nanargmax(one[0, LAST_SUBJECT])) for one in (maps["CAT"], causal)]
    report.text(
        f"Where the outcome differs from the paper's: at the last subject token the MLP of block {blocks[0]} of "
        f"{len(layers)} has most by CAT, that of block {blocks[1]} by patching, and the fact is handed over after "
        "block 2, as the model was trained to do. In GPT-2 XL the early site lies in the middle layers."
    )


def _about_maps(maps: Mapping[str, np.ndarray], causal: np.ndarray) -> str:
    """What the agreement of the maps comes to."""

    def r(name: str) -> str:
        found = [one["pearson"] for one in _agreement(maps[name], causal).values()]
        return f"{min(found):.2f} to {max(found):.2f}"

    most = {name: f"{np.nanmax(np.abs(one)):.1g}" for name, one in maps.items()}
    return (
        f"Lowest and highest r of the parts: the lengths of gradient times activation (CAT) have {r('CAT')}, the same "
        f"summed with their signs {r('CAT, summed')}. The model is sure of its answers, and one gradient of its "
        f"probabilities is nearly nothing: the largest number is {most['CAT']} in CAT and "
        f"{most['attribution patching']} in attribution patching, where patching itself has {np.nanmax(causal):.2f}. "
        "Integrated on the way to the other prompt it is "
        f"{np.nanmax(maps['integrated']):.2f}, with r from {r('integrated')}. A model that is less sure, such as the "
        "paper's, was not tried."
    )


def _said(agreement: Mapping[str, float]) -> str:
    return f"{agreement['pearson']:.2f}, {Kendall(agreement['tau'], agreement['p_value'])}"

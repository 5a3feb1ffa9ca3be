"""Gender bias in translation, on the bundled model ``translate``: does attribution follow a bias that is known?

"O bir X" leaves the gender open. Base: importance of the pronoun and of the occupation for the pronoun that the model
chooses, against how far the planted share of *she* is from one half. Swap: what changes from "She is ..." to
"He is ...", against the share itself. The paper did this with Marian from Turkish and labour statistics.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from interpd import zoo
from interpd.cli import Report
from interpd_attribution.attributions import Attributions
from interpd_attribution.reproduce.figures import scatter
from interpd_attribution.reproduce.rank import Kendall, kendall
from interpd_attribution.zoo.translate.vocabulary import HE, KIN, SHE
from interpd_attribution.zoo.translate.world import Occupation, World, load_world
from interpd_client import Model

METHODS = {"∇": "saliency", "IG": "integrated_gradients", "I×G": "input_x_gradient"}
PAPER = {
    "p(y_pron)": ("0.01", "0.01", "-0.44*", "-0.44*"),
    "∇": ("-0.16", "0.25*", "0.23*", "-0.00"),
    "IG": ("-0.08", "0.09", "0.11", "0.17"),
    "I×G": ("-0.11", "0.22*", "0.22*", "-0.01"),
}
CONTRASTIVE = {
    "I×G": ("input_x_gradient", {"reduce": "sum"}),
    "IG": ("integrated_gradients", {"reduce": "sum", "n_steps": 20}),
    "ablation": ("feature_ablation", {}),
    "Shapley": ("shapley_value_sampling", {}),
}
"""Methods with signs, for ``p(he) - p(she)``."""
COLUMNS = ("base x_pron", "base x_occ", "she→he x_pron", "she→he x_occ")
PRONOUN, OCCUPATION = 0, 2
"""Positions of the source; of an occupation of two words the first, as in the paper."""
FIRST = {"attr_pos_start": 1, "attr_pos_end": 2}
"""The first word of the target, which is the pronoun."""
LARGEST_DELTA, MOST_STEPS = 0.05, 1280
EXAMPLE = "teknisyen"
FOLLOWS = -0.8
"""Kendall's tau with the planted share of *she* from which on a score for *he* follows it."""
NOTHING = 0.01
"""A share of the source's importance whose change is next to none."""


@dataclass(frozen=True)
class Measured:
    """What one method gives for the template about each occupation, as shares of the source's importance."""

    base: np.ndarray
    """``[occupation (pronoun, occupation)]``, for the pronoun that the model chooses."""
    change: np.ndarray
    """The same, from *she* to *he*."""


def gender_bias(model: Model, report: Report, n_occupations: int) -> dict[str, bool]:
    """Adds the section to the report; what was claimed, and whether it was found."""
    world = load_world(zoo.path("translate") / "world.json")
    occupations = sorted(world.occupations, key=lambda one: one.p_she)
    occupations = [occupations[i] for i in np.linspace(0, len(occupations) - 1, n_occupations).round().astype(int)]
    forced = {gender: _forced(model, world, occupations, gender) for gender in (SHE, HE)}
    p_she, p_he = (
        np.concatenate([one.step_scores["probability"] for one in forced[gender]["∇"]]) for gender in (SHE, HE)
    )
    measured = {name: _measured(forced[SHE][name], forced[HE][name], p_she > p_he) for name in METHODS}
    planted = np.array([one.p_she for one in occupations])
    table = _correlations(measured, p_she, p_he, planted)
    share = p_she / (p_she + p_he)
    contrastive = _contrastive(model, world, occupations, planted)
    cue = {name: _share_led_by_cue(model, world, occupations, method) for name, method in METHODS.items()}
    follows = kendall(share.tolist(), planted.tolist())
    found = {
        "the model's pronouns follow the planted shares (tau > 0.8)": follows.tau > 0.8,
        "it says she or he and nothing else (99 % of the probability)": bool((p_she + p_he).min() > 0.99),
        "p(y_pron) follows the distance from 50/50 (base), as planted": table["p(y_pron)"][0].tau > 0.5,
        "p(he) - p(she) falls with the planted share (swap), as in the paper": table["p(y_pron)"][2].tau < -0.4,
        "importance without signs is the same for both forced targets (changes by less than a point on average)": (
            max(_changed(one) for one in measured.values()) < NOTHING
        ),
        "IG is complete (delta < 0.05)": all(_delta(forced[gender]["IG"]) < LARGEST_DELTA for gender in (SHE, HE)),
        "IG of p(he) - p(she): the occupation's score follows the planted share (tau < -0.8)": (
            contrastive["IG"][1].tau < FOLLOWS
        ),
        "IG: where a cue decides, it is more important than the occupation (9 of 10 sentences)": cue["IG"] >= 0.9,
    }
    _write(report, table, occupations, (share, p_she, p_he), measured)
    report.text(_about_change(measured))
    report.text(_about_signs(table, contrastive))
    _write_ours(report, contrastive, cue)
    report.findings(found)
    report.numbers["gender"] = {
        "occupations": [one.source for one in occupations],
        "planted": planted,
        "share_of_she": share,
        "follows_planted": asdict(follows),
        "translated_as_she": int((share > 0.5).sum()),
        "correlations": {name: [asdict(one) for one in row] for name, row in table.items()},
        "contrastive": {name: [asdict(one) for one in row] for name, row in contrastive.items()},
        "columns": COLUMNS,
        "paper": PAPER,
        "importance": {name: vars(one) for name, one in measured.items()},
        "led_by_cue": cue,
        "ig_steps": {gender: forced[gender]["IG"][0].info["attribution_args"]["n_steps"] for gender in (SHE, HE)},
        "findings": found,
    }
    return found


def _forced(model: Model, world: World, occupations: Sequence[Occupation], gender: str) -> dict[str, Attributions]:
    """What each method says of the pronoun where the target is forced, with its probability."""
    sentences = [world.template(one, gender) for one in occupations]
    texts = [one.source for one in sentences], [one.target for one in sentences]
    return {name: _attributed(model, texts, method) for name, method in METHODS.items()}


def _attributed(model: Any, texts: tuple[list[str], list[str]], method: str) -> Attributions:
    said = {"method": method, "step_scores": ("probability",), "reduce": "vnorm", **FIRST}
    if method != "integrated_gradients":
        return model.attribute(*texts, **said)
    n_steps = 20
    while True:
        found = model.attribute(*texts, **said, n_steps=n_steps, convergence_delta=True)
        if _delta(found) < LARGEST_DELTA or n_steps >= MOST_STEPS:
            return found
        n_steps *= 2


def _delta(found: Attributions) -> float:
    return max(float(np.abs(one.step_scores["deltas"]).max()) for one in found)


def _changed(one: Measured) -> float:
    """The mean change from *she* to *he*, without signs: the larger one of pronoun and occupation."""
    return float(np.abs(one.change).mean(0).max())


def _measured(she: Attributions, he: Attributions, says_she: np.ndarray) -> Measured:
    """Scores are scaled to sum to 1 over the source, then paired."""
    she, he = (one.aggregate("scores", normalize=True) for one in (she, he))
    base = [(one if is_she else other) for one, other, is_she in zip(she, he, says_she, strict=True)]
    pairs = [one.aggregate("pair", paired_attr=other) for one, other in zip(she, he, strict=True)]
    both = [PRONOUN, OCCUPATION]
    return Measured(*(np.stack([one.source_attributions[both, 0] for one in rows]) for rows in (base, pairs)))


def _correlations(
    measured: Mapping[str, Measured], p_she: np.ndarray, p_he: np.ndarray, planted: np.ndarray
) -> dict[str, tuple[Kendall, ...]]:
    """The paper's table: a row for the probability and each method, of ``COLUMNS``."""
    # shares are rounded, and so would be ties that are none
    distance = np.abs(planted - 0.5).round(6)

    def against(of: np.ndarray, other: np.ndarray) -> Kendall:
        return kendall(of.tolist(), other.tolist())

    base, change = against(np.maximum(p_she, p_he), distance), against(p_he - p_she, planted)
    rows = {"p(y_pron)": (base, base, change, change)}
    for name, one in measured.items():
        rows[name] = (
            *(against(one.base[:, part], distance) for part in (0, 1)),
            *(against(one.change[:, part], planted) for part in (0, 1)),
        )
    return rows


def _contrastive(
    model: Any, world: World, occupations: Sequence[Occupation], planted: np.ndarray
) -> dict[str, tuple[Kendall, ...]]:
    """How scores of the pronoun and of the occupation for ``p(he) - p(she)`` follow the planted share."""
    he, she = ([world.template(one, gender) for one in occupations] for gender in (HE, SHE))
    texts = [one.source for one in he], [one.target for one in he]
    said = {"target": "contrast_prob_diff", "contrast": [one.target for one in she], **FIRST}
    found = {}
    for name, (method, constants) in CONTRASTIVE.items():
        out = model.attribute(*texts, method=method, **said, **constants)
        scores = np.stack([one.source_attributions[[PRONOUN, OCCUPATION], 0] for one in out])
        found[name] = tuple(kendall(scores[:, part].tolist(), planted.tolist()) for part in (0, 1))
    return found


def _share_led_by_cue(model: Any, world: World, occupations: Sequence[Occupation], method: str) -> float:
    """The share of sentences with a cue against the occupation's bias in which the cue leads for the pronoun."""
    sources, targets = [], []
    for number, one in enumerate(occupations):
        gender = HE if one.p_she > 0.5 else SHE
        kin = KIN[gender][number % len(KIN[gender])]
        sentence = world.with_cue(one, gender, kin)
        sources.append(sentence.source)
        targets.append(sentence.target)
    found = _attributed(model, (sources, targets), method)
    # the last token is the end of the sentence, the one before it the cue
    return float(np.mean([one.source_attributions[-2, 0] > one.source_attributions[OCCUPATION, 0] for one in found]))


def _write(
    report: Report,
    table: Mapping[str, tuple[Kendall, ...]],
    occupations: Sequence[Occupation],
    shares: tuple[np.ndarray, np.ndarray, np.ndarray],
    measured: Mapping[str, Measured],
) -> None:
    share, p_she, p_he = shares
    planted = [one.p_she for one in occupations]
    report.heading("(a) Gender bias in translation (translate)")
    report.text(
        f'{len(occupations)} occupations in "O bir X" (o: she or he), each with a planted share of *she*. The model '
        f"says *she* for {int((share > 0.5).sum())} of them (the paper's Marian: 5 of 49); P(she) follows the planted "
        f"share with tau {kendall(share.tolist(), planted)}. Kendall's tau (* p < 0.05); base: with the distance from "
        "50/50; she→he: what changes between the forced targets, with the share of *she* (in the paper: women in US "
        "labour statistics). Importance: L2 norm over the width, as a share of the source."
    )
    rows = [(f"{name}", *map(str, row)) for name, row in table.items()]
    report.table(("here", *COLUMNS), rows)
    report.table(("paper", *COLUMNS), [(name, *row) for name, row in PAPER.items()])
    report.figure(
        "gender-shares", scatter({"P(she)": list(zip(planted, share, strict=True))}, "planted", "model"), "P(she)"
    )
    importance = {name: list(zip(planted, measured[name].base[:, 1], strict=True)) for name in ("∇", "IG")}
    report.figure("gender-importance", scatter(importance, "planted P(she)", "share of the occupation"), "importance")
    split = [one.source for one in occupations if " " in one.source]
    if split:
        report.text(
            f"The occupation is its first word, as in the paper. Of {', '.join(split)} that is a part only: most of "
            "their points lie low in the picture of importance."
        )
    names = [one.source for one in occupations]
    number = names.index(EXAMPLE) if EXAMPLE in names else len(names) // 2
    report.text(
        f"Example, {names[number]} (planted {planted[number]:.2f}), from *She* to *He*: probability "
        f"{100 * (p_he - p_she)[number]:+.0f} points, importance of the occupation "
        f"{100 * measured['I×G'].change[number, 1]:+.1f} points (I×G). The paper's teknisyen: +46 and -18.4."
    )
    _write_verdict(report, table)


def _about_change(measured: Mapping[str, Measured]) -> str:
    """Why the columns of the swap are next to nothing, where they are."""
    changes = ", ".join(f"{100 * _changed(one):.2f} ({name})" for name, one in measured.items())
    said = f"From *She* to *He* the importance of pronoun or occupation changes by {changes} points on average."
    if max(map(_changed, measured.values())) >= NOTHING:
        return said
    return (
        f"{said} So the taus of importance in the swap rank differences that are next to nothing, significant or not: "
        "where a model says she or he and nothing else, p(he) is 1 - p(she), the gradients of both are each other's "
        "negative, and their lengths are the same. The paper's example moves by 18.4 points."
    )


def _about_signs(table: Mapping[str, tuple[Kendall, ...]], contrastive: Mapping[str, tuple[Kendall, ...]]) -> str:
    """Which measures of the bias hold, as far as the tables say."""
    both = []
    for number, column in enumerate(COLUMNS[:2]):
        cells = [table[name][number] for name in METHODS]
        if len({cell.tau > 0 for cell in cells if cell.p_value < 0.05}) > 1:
            both.append(column)
    without = (
        "Importance without a sign, as a share of the source, is no measure of a bias, even where the bias is all that "
        f"decides: methods are significant with both signs in {', '.join(both)}."
        if both
        else "In the base columns no two methods are significant with opposite signs on these occupations."
    )
    good = [name for name, row in contrastive.items() if row[1].tau < FOLLOWS]
    bad = [f"{name} ({row[1]})" for name, row in contrastive.items() if row[1].tau >= FOLLOWS]
    return (
        f"{without} Scores with their signs for p(he) - p(she), next table: the occupation's follows the planted share "
        f"by {', '.join(good) or 'none'} (tau below {FOLLOWS}), not by {', '.join(bad) or 'none'}."
    )


def _write_ours(report: Report, contrastive: Mapping[str, tuple[Kendall, ...]], cue: Mapping[str, float]) -> None:
    report.table(("p(he) - p(she)", "x_pron", "x_occ"), [(name, *map(str, row)) for name, row in contrastive.items()])
    report.text("Where a cue at the end decides against the occupation's bias, it leads before the occupation in:")
    report.table(("method", "sentences"), [(name, f"{100 * one:.0f} %") for name, one in cue.items()])


def _write_verdict(report: Report, table: Mapping[str, tuple[Kendall, ...]]) -> None:
    """Cell by cell, where the outcome is another than the paper's: in its sign, where either is significant."""
    differing = []
    for name, row in table.items():
        for column, ours, theirs in zip(COLUMNS, map(str, row), PAPER[name], strict=True):
            is_same_sign = float(ours.rstrip("*")) * float(theirs.rstrip("*")) > 0
            both = "*" in ours, "*" in theirs
            if any(both) and not (is_same_sign and all(both)):
                why = "significant here only" if both[0] else "significant in the paper only"
                differing.append((f"{name}, {column}", ours, theirs, "another sign" if all(both) else why))
    if not differing:
        report.text("Every significant cell of the paper's table is significant here with the same sign.")
        return
    report.text(
        "Where the outcome differs from the paper's, in sign or significance; here the bias is known exactly and the "
        "model is small, there it is estimated by statistics of another country:"
    )
    report.table(("cell", "here", "paper", "difference"), differing)

"""What the options of a command line ask of ``model.attribute``."""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from interpd.errors import InvalidRequest
from interpd_attribution.aggregation import list_aggregation_functions
from interpd_attribution.commands import contrasts
from interpd_attribution.dataset import Row

if TYPE_CHECKING:
    from interpd_client import Model

AS_GIVEN = ("method", "target", "baseline", "features", "reduce")
"""Options that ``attribute`` takes under their own name, and has a default for."""

RENAMED = {"deeplift": "gradient_x_difference", "layer_deeplift": "layer_gradient_x_difference"}
"""Methods of Inseq that are called what they are here."""

GENERATION: Mapping[str, tuple[type, ...]] = {
    "max_new_tokens": (int,),
    "do_sample": (bool,),
    "temperature": (int, float),
    "top_k": (int,),
    "top_p": (int, float),
    "seed": (int,),
    "stop_strings": (str, list),
    "stop_token_ids": (int, list),
    "ignore_eos": (bool,),
}
"""Options of generations, and what they are."""

OWN_FLAGS = {
    "method": "-a",
    "target": "--target",
    "step_scores": "--step-scores",
    "baseline": "--baseline",
    "features": "--features",
    "reduce": "--reduce",
    "attribute_target": "--attribute-target",
    "include_eos_baseline": "--eos",
    "attr_pos_start": "-s",
    "attr_pos_end": "-e",
    "span": "--span",
    "granular": "--granular",
    "generation": "--generation-kwargs",
    "contrast": "--contrast",
}
"""Arguments that have an option of their own, so that ``--attribution-kwargs`` does not take them."""


def check_request(args: argparse.Namespace) -> None:
    """Raises ``InvalidRequest`` for options that contradict one another, before anything is loaded or sent."""
    for name in args.attribution_kwargs:
        if name in OWN_FLAGS:
            raise InvalidRequest(f"--attribution-kwargs: {name!r} has an option of its own, {OWN_FLAGS[name]}")
    _check_generation(args.generation_kwargs)
    if args.max_new_tokens is not None and "max_new_tokens" in args.generation_kwargs:
        raise InvalidRequest("max_new_tokens is given twice: by --max-new-tokens and in --generation-kwargs")
    if args.normalize and args.rescale:
        raise InvalidRequest("--normalize-attributions and --rescale-attributions exclude each other")
    if args.selectors and len(args.selectors) != len(args.aggregators or ()):
        raise InvalidRequest(
            f"{len(args.selectors)} --attribution-selectors for {len(args.aggregators or ())} "
            "--attribution-aggregators: give one for each"
        )
    if args.reduce and (args.granular or _reduces(args)):
        other = "--granular" if args.granular else "--attribution-aggregators"
        raise InvalidRequest(f"--reduce makes vectors numbers before {other} could; choose one")


def check_generated(args: argparse.Namespace, *, is_given: bool) -> None:
    """Raises ``InvalidRequest`` for options of a generation where none is made, or without what it goes on with."""
    if args.is_prefix and not is_given:
        raise InvalidRequest("--generate-from-target-prefix: say what is continued, -g TEXT (of a dataset -gen FIELD)")
    if is_given and not args.is_prefix and generation_of(args):
        raise InvalidRequest(
            "options of a generation, but what is attributed is given, so that nothing is generated; "
            "--generate-from-target-prefix goes on behind it"
        )


def arguments(args: argparse.Namespace, model: "Model") -> dict[str, Any]:
    """Arguments of ``model.attribute`` beside the texts; what the caller did not say is left to its defaults."""
    if args.method in RENAMED and args.method not in model.attribute.methods():
        raise InvalidRequest(
            f"Inseq's {args.method!r} is {RENAMED[args.method]!r} here, which is what it computes on language models: "
            f"-a {RENAMED[args.method]}"
        )
    asked = {name: getattr(args, name) for name in AS_GIVEN if getattr(args, name, None) is not None}
    generation = generation_of(args)
    optional = {
        "step_scores": tuple(args.step_scores),
        "attribute_target": args.attribute_target,
        "include_eos_baseline": args.include_eos_baseline,
        "span": args.span,
        "granular": args.granular or (_reduces(args) and _has_vectors(model, args.method)),
    }
    # without any option, too, it says that something is generated
    is_generated = bool(generation) or args.is_prefix
    exact = {
        "attr_pos_start": args.start_pos,
        "attr_pos_end": args.end_pos,
        "generation": generation if is_generated else None,
    }
    given = {name: value for name, value in optional.items() if value}
    given |= {name: value for name, value in exact.items() if value is not None}
    constants = {name: value for name, value in args.attribution_kwargs.items() if name not in contrasts.NAMES}
    return _with_options(model, {**asked, **given}, constants)


def generation_of(args: argparse.Namespace) -> dict[str, Any]:
    """The options of the generation."""
    bound = {} if args.max_new_tokens is None else {"max_new_tokens": args.max_new_tokens}
    return {**args.generation_kwargs, **bound}


def alone(args: argparse.Namespace, rows: Sequence[Row], *, has_encoder: bool) -> list[Row]:
    """Rows with what ``--attribution-kwargs`` says of contrasts, and with what follows each input alone.

    Inseq writes the input before what follows it, where there is no encoder.
    """
    named = contrasts.of_rows(args.attribution_kwargs, len(rows))
    if named is not None:
        if any(row.contrast is not None for row in rows):
            raise InvalidRequest("a contrast is given twice: by an option of its own and in --attribution-kwargs")
        rows = [replace(row, contrast=one) for row, one in zip(rows, named, strict=True)]
    return list(rows) if has_encoder else [contrasts.alone(row) for row in rows]


@contextmanager
def refusing(model: "Model") -> Iterator[None]:
    """Names that ``model`` does not know come out as ``InvalidRequest``."""
    from interpd_client import UnknownName  # the client is not needed to declare commands

    try:
        yield
    except UnknownName as error:
        raise InvalidRequest(f"{error}; interpd attribute --list-methods lists those of {model.name!r}") from error


def _with_options(model: "Model", given: dict[str, Any], constants: dict[str, Any]) -> dict[str, Any]:
    """Arguments in which options of step functions are with these: Inseq has them among those of the method."""
    known = model.attribute.step_functions()
    taken: set[str] = set()

    def written(function: str) -> str:
        options = [one.partition(":")[0] for one in known[function].options] if function in known else []
        own = [name for name in options if name in constants]
        taken.update(own)
        said = ", ".join(f"{name}={constants[name]!r}" for name in own)
        return f"{function}({said})" if own else function

    target = written(given.get("target", "probability"))
    scores = tuple(written(one) for one in given.get("step_scores", ()))
    found = {**given, **({"step_scores": scores} if scores else {})}
    if target != "probability":
        found["target"] = target
    return {**found, **{name: value for name, value in constants.items() if name not in taken}}


def _check_generation(given: Mapping[str, Any]) -> None:
    for name, value in given.items():
        if name not in GENERATION:
            near = get_close_matches(name, GENERATION, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(GENERATION)}"
            raise InvalidRequest(f"--generation-kwargs: no option {name!r}; {hint}")
        kinds = GENERATION[name]
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            expected = " or ".join(kind.__name__ for kind in kinds)
            raise InvalidRequest(f"--generation-kwargs: {name} is {value!r}, expected {expected}")


def _reduces(args: argparse.Namespace) -> bool:
    """Whether aggregators are to reduce an axis beside the tokens."""
    return any(name == "scores" or name in list_aggregation_functions() for name in args.aggregators or ())


def _has_vectors(model: "Model", method: str) -> bool:
    return f"attribution.{method}_vectors" in model.manifest.ops

"""What the options of a command line ask of ``model.attribute``."""

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from interpd.errors import CallerError, InvalidGraph, InvalidRequest
from interpd_attribution.aggregation import list_aggregation_functions
from interpd_attribution.commands import contrasts
from interpd_attribution.dataset import Row
from interpd_attribution.dataset.running import said
from interpd_attribution.inseq_words import CONTRAST, dotted, generation_of, method_of, options_of

if TYPE_CHECKING:
    from interpd_client import Model

AS_GIVEN = ("baseline", "features", "reduce")
"""Options that ``attribute`` takes under their own name, and has a default for."""

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

INSTEAD = {
    "attributed_fn": "that is --attributed-fn",
    "generation_args": "that is --generation-kwargs",
    "device": "that is --device, with --in-process",
    "batch_size": "that is --batch-size",
    "output_step_attributions": "that is --output-step-attributions",
    "generate_from_target_prefix": "that is --generate-from-target-prefix",
    "override_default_attribution": "-a says the method, and nothing else does",
    "show_progress": "a terminal shows it; --json shows none",
    "pretty_progress": "a terminal shows it; --json shows none",
    "clean_special_chars": "tokens are written readably as they are",
    "skip_special_tokens": 'write "add_special_tokens": false',
}
"""Arguments of Inseq's ``attribute`` that its ``--attribution_kwargs`` can hold, and what takes their place."""


def check_request(args: argparse.Namespace) -> None:
    """Raises ``InvalidRequest`` for options that contradict one another, before anything is loaded or sent."""
    for name in args.attribution_kwargs:
        # of some methods it is the rule of their integration
        if name in OWN_FLAGS and name not in method_of(args.method).renamed:
            raise InvalidRequest(f"--attribution-kwargs: {name!r} has an option of its own, {OWN_FLAGS[name]}")
    check_elsewhere(args)
    _check_generation(generation_of(args.generation_kwargs))
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


def check_elsewhere(args: argparse.Namespace) -> None:
    """Raises ``InvalidRequest`` for what Inseq's users may put into ``--attribution-kwargs`` and that is not there."""
    for name in args.attribution_kwargs:
        if name in INSTEAD:
            raise InvalidRequest(f"--attribution-kwargs: {name!r} cannot stand there; {INSTEAD[name]}")


def check_generated(args: argparse.Namespace, *, is_given: bool) -> None:
    """Raises ``InvalidRequest`` for options of a generation where none is made, or without what it goes on with."""
    if args.is_prefix and not is_given:
        raise InvalidRequest("--generate-from-target-prefix: say what is continued, -g TEXT (of a dataset -gen FIELD)")
    if is_given and not args.is_prefix and generation(args):
        raise InvalidRequest(
            "options of a generation, but what is attributed is given, so that nothing is generated; "
            "--generate-from-target-prefix goes on behind it"
        )


def arguments(args: argparse.Namespace, model: "Model") -> dict[str, Any]:
    """Arguments of ``model.attribute`` beside the texts; what the caller did not say is left to its defaults."""
    given = {name: value for name, value in args.attribution_kwargs.items() if name not in CONTRAST}
    method, constants = in_our_words(model, args.method, given)
    asked = {name: getattr(args, name) for name in AS_GIVEN if getattr(args, name, None) is not None}
    wanted = generation(args)
    optional = {
        "attribute_target": args.attribute_target,
        "include_eos_baseline": args.include_eos_baseline,
        "span": args.span,
        "granular": args.granular or (_reduces(args) and _has_vectors(model, method)),
    }
    # without any option, too, it says that something is generated
    is_generated = bool(wanted) or args.is_prefix
    exact = {
        "attr_pos_start": args.start_pos,
        "attr_pos_end": args.end_pos,
        "generation": wanted if is_generated else None,
    }
    (target, *scores), constants = with_options(model, (args.target or "probability", *args.step_scores), constants)
    functions = {"target": target if target != "probability" else None, "step_scores": tuple(scores) or None}
    said = {name: value for name, value in (exact | functions).items() if value is not None}
    return {
        **asked,
        "method": method,
        **{name: value for name, value in optional.items() if value},
        **said,
        **constants,
    }


def generation(args: argparse.Namespace) -> dict[str, Any]:
    """The options of the generation."""
    bound = {} if args.max_new_tokens is None else {"max_new_tokens": args.max_new_tokens}
    return {**generation_of(args.generation_kwargs), **bound}


def in_our_words(model: "Model", method: str, given: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The method that is meant, and its options; a name of Inseq's is known unless ``model`` has it for another."""
    if method in model.attribute.methods():
        return method, options_of(method, given, dotted)
    meant = method_of(method)
    if meant.id != method:
        sys.stderr.write(f"interpd: {meant.note}\n")
    return meant.id, options_of(method, given, dotted)


def with_options(
    model: "Model", functions: Sequence[str], constants: Mapping[str, Any]
) -> tuple[list[str], dict[str, Any]]:
    """Step functions with those of ``constants`` that are theirs, and the rest: Inseq has them among the method's."""
    known = model.attribute.step_functions()
    options = {
        name: [one.partition(":")[0] for one in known[name].options] if name in known else [] for name in functions
    }
    written = [
        f"{name}({', '.join(f'{key}={constants[key]!r}' for key in own)})"
        if (own := [key for key in options[name] if key in constants])
        else name
        for name in functions
    ]
    taken = {key for keys in options.values() for key in keys}
    return written, {name: value for name, value in constants.items() if name not in taken}


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
    """Names that ``model`` does not know, and values of another kind, come out as ``InvalidRequest``."""
    from interpd_client import UnknownName  # the client is not needed to declare commands

    try:
        yield
    except UnknownName as error:
        raise InvalidRequest(f"{error}; interpd attribute --list-methods lists those of {model.name!r}") from error
    except CallerError as error:
        if (text := said(error)) == error.message:
            raise
        kind = InvalidRequest if isinstance(error, InvalidGraph) else type(error)
        raise kind(text, **error.facts) from error


def _check_generation(given: Mapping[str, Any]) -> None:
    for name, value in given.items():
        if name not in GENERATION:
            near = get_close_matches(name, GENERATION, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(GENERATION)}"
            hint = "it counts the input, too; say max_new_tokens" if name == "max_length" else hint
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

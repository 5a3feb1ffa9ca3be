"""The command ``interpd attribute-context``: what in a context an output relies on (PECoRe)."""

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interpd.cli import at_least, checking
from interpd.errors import InvalidRequest
from interpd_attribution.commands import arguments, asking, delivering
from interpd_attribution.commands.opening import opened
from interpd_attribution.commands.terminal import Terminal
from interpd_attribution.commands.values import flag, option
from interpd_attribution.files.text import encoded

if TYPE_CHECKING:
    from interpd_attribution.pecore import ContextArguments, ContextAttribution
    from interpd_client import Model

EXAMPLES = """\
examples:
  interpd attribute-context --input-context-text "George was sick yesterday." \\
          --input-current-text "His colleagues asked him" --max-new-tokens 20 -fn contrast_prob_diff
      what the model says next, which of its tokens depend on the first sentence, and on what there
  interpd attribute-context --input-context-text "George was sick." --input-current-text "They asked him" \\
          --output-current-text "to come" --input-template $'{context}\\n{current}' -o out.json --viz-path out.html
      an output that is given, a template, files
  interpd attribute-context -m translator --input-context-text "I ate the pizza." --input-current-text "It was good." \\
          --output-context-text "J'ai mangé la pizza." --output-current-text "Elle était bonne."
      an encoder-decoder model with a context on both sides

Options of several words are known with underscores, too, as Inseq has them: --input_current_text.
"""

TEXTS = {
    "input-current-text": "what the model is given; {current} of the input's template",
    "input-context-text": "its context; {context} of the input's template",
    "input-template": "default: '{context} {current}', or '{current}' without a context",
    "output-current-text": "the output whose tokens are looked at (default: what the model says)",
    "output-context-text": "what the output begins with, as a context; of a decoder-only model behind the input",
    "output-template": "default: '{context} {current}', or '{current}' without a context",
    "contextless-input-current-text": "the input without contexts: a template, or another text (default: '{current}')",
    "contextless-output-current-text": "the output without contexts, a template (default: '{current}')",
}


def declare(parser: argparse.ArgumentParser) -> None:
    """Adds the command's description, arguments and what it runs."""
    parser.description = "which tokens of an output depend on a context, and on what in it (PECoRe)"
    parser.epilog = EXAMPLES
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    texts = parser.add_argument_group("texts")
    for name, meaning in TEXTS.items():
        is_needed = name == "input-current-text"
        option(texts, f"--{name}", metavar="TEXT", help=meaning, **({"default": ""} if is_needed else {}))
    option(
        texts,
        "--decoder-input-output-separator",
        default=" ",
        metavar="TEXT",
        help="between input and output of a decoder-only model (a blank)",
    )
    option(
        texts,
        "--special-tokens-to-keep",
        nargs="+",
        default=[],
        metavar="TOKEN",
        help="special tokens of a generated output that are part of it",
    )
    option(
        texts,
        "--no-add-special-tokens",
        dest="add_special_tokens",
        action="store_false",
        help="the tokenizer adds none of its own: templates have them written out",
    )
    arguments.add_model(parser)
    _add_sensitivity(parser)
    group = arguments.add_method(parser)
    option(group, "--max-new-tokens", type=at_least(1), metavar="N", help="bound of the generation")
    _add_cues(parser)
    output = arguments.add_output(parser)
    flag(output, "--show-viz", default=True, help="show the output with its cues (default)")
    option(output, "--no-show-viz", dest="show_viz", action="store_false", help="as --hide")
    flag(output, "--add-output-info", dest="with_info", default=True, help="the file has arguments and ids (default)")
    option(output, "--no-add-output-info", dest="with_info", action="store_false", help="it has not")
    flag(output, "--show-intermediate-outputs", help="show the attribution of each sensitive token")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Attributes an output to its contexts."""
    from interpd_attribution.pecore import attribute_context  # the client is not needed to declare

    terminal = Terminal() if Terminal.is_there() else None
    with checking():
        asked = _checked(args, has_terminal=terminal is not None)
    with delivering.logged(args) as log, opened(args) as model, asking.refusing(model):
        asked = _in_our_words(model, asked)
        log.info("%r is asked: %s", model, asked)
        found = attribute_context(
            model,
            asked,
            ask=terminal,
            asks_next_tokens=args.prompts_for_tokens,
            run={"progress": False} if args.json else {},
            watch=(lambda item: item.show(do_aggregation=False)) if args.show_intermediate_outputs else None,
        )
    _deliver(args, found)
    return 0


def _checked(args: argparse.Namespace, *, has_terminal: bool) -> "ContextArguments":
    from interpd_attribution.pecore import ContextArguments

    delivering.check_outputs(args)
    asking.check_elsewhere(args)
    if args.output_current_text is None and "max_new_tokens" not in asking.generation(args):
        raise InvalidRequest(
            "the output is generated: say how much at most, --max-new-tokens N, or give it, --output-current-text TEXT"
        )
    if args.normalize and args.rescale:
        raise InvalidRequest("--normalize-attributions and --rescale-attributions exclude each other")
    if args.prompts_for_tokens and not has_terminal:
        raise InvalidRequest("--prompt-user-for-contextless-output-next-tokens asks at a terminal, and this is none")
    names = [one.name for one in dataclasses.fields(ContextArguments)]
    return ContextArguments(**{name: value for name, value in _given(args).items() if name in names})


def _add_sensitivity(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("sensitive tokens")
    option(
        group,
        "--context-sensitivity-metric",
        default="kl_divergence",
        metavar="FUNCTION",
        help="a contrastive step function, with its options in parentheses (kl_divergence)",
    )
    _add_limits(group, "context-sensitivity", "sensitive tokens")
    option(
        group,
        "--handle-output-context-strategy",
        choices=("manual", "auto", "pre"),
        default="manual",
        help="where a context in what is generated ends: asked at the terminal, found by what the template has behind "
        "it or by punctuation, or refused (manual)",
    )
    option(
        group,
        "--contextless-output-next-tokens",
        nargs="+",
        default=[],
        metavar="TEXT",
        help="for each sensitive token what a contrastive --target contrasts it with (default: what is likeliest "
        "without the contexts)",
    )
    flag(
        group,
        "--prompt-user-for-contextless-output-next-tokens",
        dest="prompts_for_tokens",
        help="ask for these at the terminal",
    )


def _add_cues(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("cues")
    _add_limits(group, "attribution", "tokens that are marked as cues")
    arguments.add_reduction(
        group,
        aggregators="what makes one number for each token: sum, mean, ... (default: the method's own)",
        normalize="the magnitudes of a sensitive token's inputs sum to 1",
        rescale="instead: divided by the largest of them",
    )


def _add_limits(group: Any, name: str, what: str) -> None:
    option(
        group,
        f"--{name}-std-threshold",
        type=_deviations,
        default=1.0,
        metavar="N",
        help=f"{what} score as many standard deviations above the mean (1); none: any",
    )
    option(group, f"--{name}-topk", type=at_least(1), metavar="N", help=f"{what}: so many at most")


def _deviations(text: str) -> float | None:
    try:
        return None if text.lower() == "none" else float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number, or none") from None


def _given(args: argparse.Namespace) -> dict[str, Any]:
    """What was given, under the names of ``ContextArguments``; for what was not, its own defaults hold."""
    if args.max_new_tokens is not None and "max_new_tokens" in args.generation_kwargs:
        raise InvalidRequest("max_new_tokens is given twice: by --max-new-tokens and in --generation-kwargs")
    given = {name: value for name, value in vars(args).items() if value is not None or name.endswith("_std_threshold")}
    return {
        **given,
        "attribution_method": args.method,
        "attributed_fn": args.target,
        "attribution_aggregators": args.aggregators,
        "attribution_selectors": args.selectors,
        "normalize_attributions": args.normalize,
        "rescale_attributions": args.rescale,
        "generation_kwargs": asking.generation(args),
    }


def _in_our_words(model: "Model", asked: "ContextArguments") -> "ContextArguments":
    """What is asked with our names of the method and its options, and those of the step function in parentheses."""
    method, constants = asking.in_our_words(model, asked.attribution_method, asked.attribution_kwargs)
    (target,), left = asking.with_options(model, (asked.target,), constants)
    is_said = asked.attributed_fn is not None or target != asked.target
    return dataclasses.replace(
        asked, attribution_method=method, attributed_fn=target if is_said else None, attribution_kwargs=left
    )


def _deliver(args: argparse.Namespace, found: "ContextAttribution") -> None:
    for text in (found.info or {}).get("warnings", ()):
        sys.stderr.write(f"interpd: {text}\n")
    if args.show_viz and not (args.hide or args.json):
        found.show()
    if args.viz_path:
        # halves of characters, which tokens may be, have no UTF-8
        Path(args.viz_path).write_text(found.html(page=True), encoding="utf-8", errors="replace")
    if args.save_path:
        found.save(args.save_path, overwrite=args.overwrite, with_info=args.with_info)
    if args.json:
        told = found.to_dict(with_info=args.with_info)
        sys.stdout.write(encoded(json.dumps(told, ensure_ascii=False, allow_nan=False)).decode() + "\n")

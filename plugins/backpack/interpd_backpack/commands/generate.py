"""``interpd backpack generate``: texts under several edits, side by side."""

import argparse
import sys
from typing import TYPE_CHECKING, Any

from interpd.cli import add_model, at_least, checking, opened
from interpd.errors import InvalidRequest
from interpd_backpack.commands import arguments, delivering

if TYPE_CHECKING:
    from interpd_backpack.edits import Edit
    from interpd_backpack.variants.generating import VariantToken

MAX_NEW_TOKENS = 40
OF_SAMPLING = ("temperature", "top_k", "top_p")
EXAMPLES = """\
  interpd backpack generate "The nurse said that" --edit calm --edit swap
      what the model says as it is and with each edit, side by side; what differs is marked
  interpd backpack generate "The nurse said that" --edit calm --only-edits --do-sample --top-p 0.9 --seed 1
      with an edit, drawn at random; a single text appears as it comes
"""


def add(commands: Any) -> None:
    """Adds the command."""
    text = "continue texts without and with edits, side by side"
    parser = arguments.command(commands, "generate", text, run, examples=EXAMPLES)
    parser.add_argument("prompts", nargs="+", metavar="PROMPT", help="what is continued")
    arguments.add_edits(parser, "a variant: a folder that holds an edit; again for further ones")
    parser.add_argument("--only-edits", action="store_true", help="leave out the model as it is")
    parser.add_argument("--combined", action="store_true", help="the edits one after the other, as one variant")
    group = parser.add_argument_group(
        "generation", "By default the most probable token each time. All variants of a prompt draw the same numbers."
    )
    group.add_argument(
        "--max-new-tokens",
        type=at_least(1),
        default=MAX_NEW_TOKENS,
        metavar="N",
        help=f"of each text (default: {MAX_NEW_TOKENS})",
    )
    group.add_argument("--do-sample", action="store_true", help="draw tokens at random by their probability")
    group.add_argument("--temperature", type=arguments.number(0), metavar="T", help="divides the logits")
    group.add_argument("--top-k", type=at_least(1), metavar="K", help="draw among the K most probable tokens")
    group.add_argument(
        "--top-p", type=arguments.number(0, 1), metavar="P", help="draw among the fewest tokens that reach this share"
    )
    group.add_argument("--seed", type=at_least(0), metavar="N", help="of prompt 0, one more for each (default: drawn)")
    group.add_argument(
        "--stop-strings", nargs="+", default=[], metavar="TEXT", help="texts after which a continuation ends"
    )
    group.add_argument("--ignore-eos", action="store_true", help="go on after the model's own end token")
    add_model(parser)
    delivering.add_output(parser)


def run(args: argparse.Namespace) -> int:
    """Generates, and shows what came."""
    with checking():
        variants = _checked(args)
    is_streamed = len(variants) * len(args.prompts) == 1 and not args.json
    options = {"on_token": _Streamed(args.prompts[0]) if is_streamed else None, **_options(args)}
    prompts = list(args.prompts)
    with opened(args, plugins=["backpack"]) as model:
        result = model.backpack.generate(prompts, variants, max_new_tokens=args.max_new_tokens, **options)
    return delivering.deliver(args, result, show=_end if is_streamed else None)


def _checked(args: argparse.Namespace) -> "list[Edit | None]":
    if "" in args.prompts:
        raise InvalidRequest(f"prompt number {args.prompts.index('') + 1} of {len(args.prompts)} is empty")
    given = [f"--{name.replace('_', '-')}" for name in (*OF_SAMPLING, "seed") if getattr(args, name) is not None]
    if given and not args.do_sample:
        raise InvalidRequest(f"{given[0]} is of texts that are drawn at random: --do-sample")
    if (args.only_edits or args.combined) and not args.edit:
        raise InvalidRequest(f"{'--only-edits' if args.only_edits else '--combined'}: there is no --edit")
    delivering.check_output(args)
    edits: list[Any] = arguments.edits_of(args)
    if args.combined:
        edits = [arguments.one_after_the_other(edits)]
    names = [edit.name for edit in edits]
    if twice := [name for name in names if names.count(name) > 1]:
        raise InvalidRequest(
            f"two edits are called {twice[0]!r}: give one another name (edit new --name, edit combine)"
        )
    return edits if args.only_edits else [None, *edits]


def _options(args: argparse.Namespace) -> dict[str, Any]:
    sampling = {name: getattr(args, name) for name in (*OF_SAMPLING, "seed") if getattr(args, name) is not None}
    flags = {name: True for name in ("do_sample", "ignore_eos") if getattr(args, name)}
    return {**sampling, **flags, "stop_strings": tuple(args.stop_strings)}


class _Streamed:
    """Writes a text as it comes, its beginning first."""

    def __init__(self, prompt: str) -> None:
        self._before = prompt

    def __call__(self, token: "VariantToken") -> None:
        sys.stdout.write(self._before + token.text)
        sys.stdout.flush()
        self._before = ""


def _end() -> None:
    sys.stdout.write("\n")

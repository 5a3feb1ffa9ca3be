"""The command ``interpd tuned-lens``."""

import argparse

from interpd.cli import connect, print_json, print_table, the_model


def declare(parser: argparse.ArgumentParser) -> None:
    """Adds the command's description, arguments and what it runs."""
    parser.description = "what each layer would say next, seen through a fitted tuned lens"
    parser.add_argument("prompt", metavar="PROMPT")
    parser.add_argument("--lens", required=True, metavar="NAME", help="the artifact; interpd artifacts lists them")
    parser.add_argument("--model", help="the model (default: the only one)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prints the guesses, one layer a line."""
    with connect(args) as client:
        model = client.model(the_model(client, args.model))
        seen = model.tuned_lens.guesses(args.prompt, lens=args.lens)
    rows = list(enumerate(zip(seen.token_ids.tolist(), seen.tokens, seen.probabilities.tolist(), strict=True)))
    if args.json:
        print_json([{"layer": n, "token_id": at, "token": token, "probability": p} for n, (at, token, p) in rows])
    else:
        print_table("", ("layer", "token", "probability"), [(n, repr(token), f"{p:.3f}") for n, (_, token, p) in rows])
    return 0

"""The command line's parser, and the one place where errors become exit codes."""

import argparse
import os
import sys
from collections.abc import Sequence

from interpd import __version__
from interpd.cli import artifacts, ask, doctor, graphs, inspect, output, serve
from interpd.errors import InterpdError


def make_parser() -> argparse.ArgumentParser:
    """The parser of ``interpd`` with all its commands."""
    parser = argparse.ArgumentParser(
        prog="interpd",
        description="Intervention graphs on resident language models.",
        epilog=output.EXIT_DOC,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"interpd {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    serve.add_parser(commands)
    for group in (inspect, artifacts, graphs, doctor):
        group.add_parsers(commands, ask.flags())
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and gives its exit code."""
    args = make_parser().parse_args(argv)
    try:
        return args.run(args)
    except ask.PackageMissing as error:
        sys.stderr.write(f"interpd: {error}\n")
        return output.EXIT_USAGE
    except InterpdError as error:
        return output.print_error(error, as_json=getattr(args, "json", False))
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        if not isinstance(error, BrokenPipeError):
            sys.stderr.write(f"interpd: {error}\n")
            return output.EXIT_FAILED
        # the reader (head, less) has gone; keep the interpreter from complaining at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return output.EXIT_OK

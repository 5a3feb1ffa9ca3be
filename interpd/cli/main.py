"""The command line's parser, and the one place where errors become exit codes."""

import argparse
import os
import sys
from collections.abc import Sequence

from interpd import __version__
from interpd.cli import adapters, artifacts, ask, doctor, extensions, graphs, inspect, output, reproduce, serve
from interpd.errors import InterpdError


def make_parser(argv: Sequence[str] = ()) -> argparse.ArgumentParser:
    """The parser of ``interpd`` with all its commands, and with those of plugins that ``argv`` may mean.

    Raises ``Broken`` when the command that is meant is a plugin's and cannot be used.
    """
    parser = argparse.ArgumentParser(
        prog="interpd",
        description="Intervention graphs on resident language models.",
        epilog=output.EXIT_DOC,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"interpd {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    serve.add_parser(commands)
    for group in (inspect, adapters, artifacts, graphs, reproduce, doctor):
        group.add_parsers(commands, ask.flags())
    problems = extensions.add_parsers(commands, ask.flags(), argv)
    if problems:
        parser.epilog = "\n".join([output.EXIT_DOC, "", "commands of plugins that do not work:", *problems])
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and gives its exit code."""
    argv = sys.argv[1:] if argv is None else argv
    try:
        args = make_parser(argv).parse_args(argv)
        return args.run(args)
    except (ask.PackageMissing, ask.BadAddress) as error:
        sys.stderr.write(f"interpd: {error}\n")
        return output.EXIT_USAGE
    except ask.WrongCommandLine as error:
        output.print_error(error.error, as_json="--json" in argv)
        return output.EXIT_USAGE
    except InterpdError as error:
        return output.print_error(error, as_json="--json" in argv)
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        if not isinstance(error, BrokenPipeError):
            sys.stderr.write(f"interpd: {error}\n")
            return output.EXIT_FAILED
        # the reader (head, less) has gone; keep the interpreter from complaining at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return output.EXIT_OK

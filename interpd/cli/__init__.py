"""The command line ``interpd``: one file per group of commands, each a thin face on the daemon or the client.

What commands of plugins use is here, too: ``connect`` for a client of the daemon that the flags name, ``the_model`` for
the model that is meant, ``checking`` for what is wrong with the options themselves, and the two ways to speak,
``print_table`` and ``print_json``. ``add_model`` and ``opened`` are for commands that may load a model themselves;
``flags`` for commands below a command. A ``Reproduction`` is what ``interpd reproduce`` hands to a plugin, and a
``Report`` what that writes.
"""

from interpd.cli.ask import PackageMissing, checking, connect, flags
from interpd.cli.inspect import the_model
from interpd.cli.main import main
from interpd.cli.opening import add_model, opened
from interpd.cli.output import print_json, print_table
from interpd.cli.report import Report
from interpd.cli.reproduce import Reproduction
from interpd.cli.values import at_least

__all__ = [
    "PackageMissing",
    "Report",
    "Reproduction",
    "add_model",
    "at_least",
    "checking",
    "connect",
    "flags",
    "main",
    "opened",
    "print_json",
    "print_table",
    "the_model",
]

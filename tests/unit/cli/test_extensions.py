"""Commands of plugins, from packages that are installed for one test."""

import json
import re

import pytest

from interpd.cli.main import main, make_parser

WAVE = """
print("loaded")

def declare(parser):
    parser.description = "100 % of a wave\\n\\nAnd more."
    parser.add_argument("height", type=float)
    parser.set_defaults(run=run)

def run(args):
    print(f"{args.height} at {args.address}, {args.json}")
    if args.height > 9:
        raise ValueError("too high")
    return 0
"""


def test_a_command_gets_its_arguments_and_the_common_flags(install, capsys):
    install("wave", WAVE)
    assert main(["wave", "2", "--address", "a:1", "--json"]) == 0
    assert capsys.readouterr().out == "loaded\n2.0 at a:1, True\n"


def test_help_lists_it_with_the_first_line_of_its_description(install, capsys):
    install("wave", WAVE)
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    assert re.search(r"wave +100 % of a wave\n", capsys.readouterr().out)
    with pytest.raises(SystemExit, match="0"):
        main(["wave", "--help"])
    assert "And more." in capsys.readouterr().out


def test_other_commands_do_not_load_it(install, capsys, unused_tcp_port):
    install("wave", WAVE)
    main(["models", "--address", f"localhost:{unused_tcp_port}", "--timeout", "5"])
    assert "loaded" not in capsys.readouterr().out


def test_what_it_raises_names_its_distribution(install, capsys):
    install("wave", WAVE)
    assert main(["wave", "10"]) == 1
    said = capsys.readouterr().err
    assert "plugin 'wave' (interpd-wave 0.3)" in said
    assert "ValueError: too high (" in said
    assert "repair or uninstall interpd-wave" in said


NESTED = """
from interpd.cli import flags

def declare(parser):
    parser.description = "waves"
    commands = parser.add_subparsers(dest="what", metavar="WHAT", required=True)
    commands.add_parser("high", parents=[flags(is_nested=True)], help="a high one").set_defaults(act=high)
    parser.set_defaults(run=lambda args: args.act(args))

def high(args):
    print(args.address, args.timeout)
    return 0
"""


def test_a_command_may_have_commands_of_its_own_which_take_the_common_flags(install, capsys):
    install("wave", NESTED)
    assert main(["wave", "high", "--address", "a:1"]) == 0
    assert main(["wave", "--address", "b:1", "high", "--timeout", "2"]) == 0
    assert capsys.readouterr().out == "a:1 None\nb:1 2.0\n"
    with pytest.raises(SystemExit, match="0"):
        main(["wave", "high", "--help"])
    assert "usage: interpd wave high" in capsys.readouterr().out


BROKEN = {
    "an import that fails": ("import no_such_module", "No module named 'no_such_module'"),
    "an exit at import": ("raise SystemExit(7)", "SystemExit: 7"),
    "no such function": ("", "has no attribute 'declare'"),
    "no function": ("declare = 3", "is int, expected something to call"),
    "no run": ("def declare(parser): pass", "sets no run"),
    "a bad argument": ("def declare(parser): parser.add_argument('--json')", "conflicting option string"),
}


@pytest.mark.parametrize(("code", "cause"), BROKEN.values(), ids=BROKEN)
def test_a_broken_command_says_whose_it_is_and_hurts_no_other(install, capsys, code, cause):
    install("wave", code)
    assert main(["wave", "--any", "thing"]) == 1
    said = capsys.readouterr().err
    assert "interpd-wave 0.3" in said
    assert cause in said
    text = make_parser(["--help"]).format_help()
    assert "commands of plugins that do not work:" in text
    assert cause in text
    assert "models" in text


def test_two_distributions_with_one_name_are_told_of_both(install, capsys):
    install("wave", WAVE)
    install("wave", WAVE, distribution="interpd-ripple")
    assert main(["wave", "2"]) == 1
    assert "offered by interpd-ripple 0.3 and interpd-wave 0.3; uninstall one of them" in capsys.readouterr().err


def test_our_own_commands_cannot_be_taken(install, capsys):
    install("models", WAVE)
    assert "'models' is one of interpd's own" in make_parser(["--help"]).format_help()
    assert make_parser(["models"]).parse_args(["models"]).command == "models"


def test_the_doctor_looks_at_commands_and_client_parts(install, monkeypatch, capsys, unused_tcp_port):
    from interpd.cli import doctor

    monkeypatch.setattr(doctor, "_bundled_model", lambda args: [])
    install("wave", WAVE)
    install("status", WAVE)
    install("tide", "import no_such_module", group="interpd.client")
    install("ebb", "", group="interpd.reproductions")
    install("sea", "declare = 3", group="interpd.zoo")
    install("facts", "declare = 3", group="interpd.zoo")
    main(["doctor", "--json", "--address", f"localhost:{unused_tcp_port}", "--timeout", "5"])
    out = capsys.readouterr().out
    found = {finding["what"]: finding for finding in json.loads(out[out.index("[") :])}
    assert found["command 'wave'"]["state"] == "ok"
    assert "one of interpd's own" in found["command 'status'"]["detail"]
    assert found["client part 'tide'"]["state"] == "warning"
    assert "interpd-wave 0.3" in found["client part 'tide'"]["detail"]
    assert "has no attribute 'declare'" in found["reproduction 'ebb'"]["detail"]
    assert "is no package with a model" in found["bundled model 'sea'"]["detail"]
    assert "needs another name" in found["bundled model 'facts'"]["detail"]

"""Flags and exit codes, without a daemon."""

import json

import numpy as np
import pytest

from interpd import errors
from interpd.cli import output
from interpd.cli.main import main, make_parser
from interpd.cli.output import exit_code
from interpd.config import keys

GRAPH = json.dumps({"nodes": [{"op": "tokens.ids"}], "outputs": [{"name": "ids", "ref": {"node": 0}}]})


@pytest.mark.parametrize("key", [key for key in keys() if key.flag], ids=lambda key: key.name)
def test_every_configuration_key_has_its_flag(key):
    flags = make_parser()._subparsers._group_actions[0].choices["serve"]._option_string_actions
    assert flags[key.flag].dest == key.name


@pytest.mark.parametrize("key", [key for key in keys() if not key.flag], ids=lambda key: key.name)
def test_a_key_without_a_flag_says_why(key):
    assert key.reason


def test_absent_flags_leave_the_file_its_say():
    assert "port" not in vars(make_parser().parse_args(["serve"]))


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.InvalidGraph([errors.Violation("CYCLE", "graph", "no")]), 3),
        (errors.ModelNotFound("no"), 3),
        (errors.WorkerLost("no"), 4),
        (errors.Cancelled("no"), 5),
        (errors.OpFailed("no"), 1),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_exit_code_says_whose_act_it_was(error, code):
    assert exit_code(error) == code


def test_a_daemon_that_is_not_there_is_unavailable(capsys, unused_tcp_port):
    assert main(["models", "--address", f"localhost:{unused_tcp_port}", "--timeout", "5"]) == 4
    assert f"localhost:{unused_tcp_port}" in capsys.readouterr().err


def test_what_is_no_address_is_a_wrong_command_line(capsys):
    assert main(["models", "--address", "localhost"]) == 2
    assert "argument --address: an address is host:port" in capsys.readouterr().err


def test_errors_are_json_where_output_is(capsys, unused_tcp_port):
    main(["models", "--json", "--address", f"localhost:{unused_tcp_port}", "--timeout", "5"])
    assert json.loads(capsys.readouterr().err)["error"] == "UNAVAILABLE"


def test_a_bad_configuration_is_refused_before_anything_starts(capsys, tmp_path):
    file = tmp_path / "interpd.toml"
    file.write_text("prot = 7\n")
    assert main(["serve", "--config", str(file)]) == 3
    assert "nearest is 'port'" in capsys.readouterr().err


def test_an_unknown_command_is_a_usage_error(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["serv"])


def test_options_that_cannot_be_are_a_usage_error_too(capsys):
    assert main(["run", "graph.json", "--prompt", "x", "--out", "no/such/folder/x.npz", "--json"]) == 2
    assert json.loads(capsys.readouterr().err)["error"] == "INVALID_REQUEST"


def test_json_has_no_nan(capsys):
    output.print_json({"x": np.array([1.0, np.nan, -np.inf], dtype="float32"), "y": (1, None, True)})
    assert json.loads(capsys.readouterr().out, parse_constant=pytest.fail) == {
        "x": [1.0, "nan", "-inf"],
        "y": [1, None, True],
    }


@pytest.mark.parametrize("port", ["65536", "-1"])
def test_a_port_that_is_none_is_refused(capsys, port):
    assert main(["serve", f"--port={port}"]) == 3
    assert "port" in capsys.readouterr().err

import io
import logging

import pytest

from interpd import telemetry


@pytest.fixture
def stream():
    stream = io.StringIO()
    yield stream
    logging.getLogger(telemetry.ROOT).handlers.clear()


def test_a_line_holds_level_name_message_and_facts(stream):
    telemetry.configure("info", stream)
    telemetry.Log("pool").warning("worker lost", model="facts", cause="it died", seconds=1.23456)
    assert stream.getvalue()[9:] == "WARNING interpd.pool worker lost model=facts cause='it died' seconds=1.235\n"


def test_lines_below_the_level_are_not_written(stream):
    telemetry.configure("warning", stream)
    log = telemetry.Log("x")
    log.debug("a")
    log.info("b")
    log.error("c")
    assert stream.getvalue()[9:] == "ERROR interpd.x c\n"


def test_facts_stand_on_the_line_and_the_traceback_below(stream):
    telemetry.configure("info", stream)
    try:
        raise ValueError("no")
    except ValueError:
        telemetry.Log("x").exception("a bug", run="r1")
    first, *rest = stream.getvalue().splitlines()
    assert first.endswith("a bug run=r1")
    assert rest[-1] == "ValueError: no"


def test_no_fact_can_forge_a_line(stream):
    telemetry.configure("info", stream)
    telemetry.Log("x").info("hello", name="a\nERROR b", empty="")
    assert stream.getvalue().count("\n") == 1
    assert stream.getvalue().endswith("name='a\\nERROR b' empty=''\n")

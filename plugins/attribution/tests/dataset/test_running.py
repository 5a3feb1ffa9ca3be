"""Rows sent to a model: in order, bounded in number, each on its own when it fails."""

import threading

import numpy as np
import pytest

from interpd.errors import CallerError, InvalidGraph, LimitExceeded, Unavailable, Violation, WorkerLost
from interpd_attribution.dataset import Row, attribute_dataset
from interpd_attribution.dataset.running import said


def texts(n):
    return [f"text {'x' * number}" for number in range(n)]


def test_results_come_in_the_order_of_rows_and_say_which_they_are(fake):
    found = list(attribute_dataset(fake, texts(30), in_flight=4, method="saliency"))
    assert [item.info["dataset_row"] for item in found] == list(range(30))
    assert [item.info["input_texts"] for item in found] == [[text] for text in texts(30)]
    assert found[0].info["dataset_key"] == Row(0, "text ").key
    assert fake.asked[0][2] == {"progress": False, "method": "saliency"}


def test_continuations_and_contrasts_go_with_their_rows(fake):
    list(attribute_dataset(fake, [("a", "b", "c"), ("d", "e")], in_flight=1))
    assert [(text, generated, rest.get("contrast")) for text, generated, rest in fake.asked] == [
        ("a", "b", "c"),
        ("d", "e", None),
    ]


def test_no_more_rows_are_under_way_than_wanted(fake):
    together = threading.Barrier(3, timeout=30)
    # every row waits for two others: with fewer at once this would not end
    fake.meanwhile = lambda text: together.wait()
    list(attribute_dataset(fake, texts(9), in_flight=3))
    assert fake.most_at_once == 3


def test_a_row_that_fails_is_told_of_and_the_others_go_on(fake):
    failures, counts = [], []
    rows = ["good", "bad one", "fine"]
    found = list(attribute_dataset(fake, rows, on_failure=failures.append, progress=counts.append))
    assert [item.info["dataset_row"] for item in found] == [0, 2]
    assert [str(failure) for failure in failures] == ["row 1: 'bad one' cannot be"]
    assert [(one.done, one.failed) for one in counts] == [(1, 0), (2, 1), (3, 1)]
    assert counts[-1].total == 3
    assert counts[-1].left_s == 0


def test_the_first_failure_is_raised_where_nobody_wants_to_be_told(fake):
    with pytest.raises(CallerError, match="'bad' cannot be"):
        list(attribute_dataset(fake, ["bad", "good"]))


def test_rows_without_a_text_are_not_sent(fake):
    failures = []
    rows = [Row(0, "x"), Row(1, None, problem="field 'q' is missing", place="data.csv, line 3")]
    assert len(list(attribute_dataset(fake, rows, on_failure=failures.append))) == 1
    assert [str(failure) for failure in failures] == ["row 1 (data.csv, line 3): field 'q' is missing"]
    assert len(fake.asked) == 1


def test_first_rows_that_all_fail_alike_end_it(fake):
    failures = []
    with pytest.raises(CallerError, match="'bad' cannot be"):
        list(attribute_dataset(fake, ["bad"] * 1000, in_flight=2, on_failure=failures.append))
    assert len(failures) == 8
    assert len(fake.asked) < 100


def test_rows_that_fail_alike_behind_one_that_does_not_do_not_end_it(fake):
    failures = []
    assert len(list(attribute_dataset(fake, ["good", *["bad"] * 20], on_failure=failures.append))) == 1
    assert len(failures) == 20


@pytest.mark.parametrize("error", [Unavailable("nobody answers"), WorkerLost("gone")])
def test_a_service_that_does_not_answer_ends_it_behind_what_came_before(fake, error):
    def gone(text):
        if text == "last":
            raise error

    fake.meanwhile = gone
    found, rows = [], ["good", "fine", "last", "never"]
    with pytest.raises(type(error)):
        found.extend(attribute_dataset(fake, rows, in_flight=1, on_failure=print))
    results = attribute_dataset(fake, rows, in_flight=1, on_failure=print)
    assert [next(results).info["dataset_row"] for _ in range(2)] == [0, 1]


def test_who_wants_no_more_of_them_gets_no_more(fake):
    results = attribute_dataset(fake, texts(1000), in_flight=1)
    first = next(results)
    results.close()
    assert len(fake.asked) < 100
    assert np.isfinite(first.scores).any()


def test_rows_of_the_same_content_have_the_same_key():
    assert Row(0, "a", "b").key == Row(7, "a", "b", place="elsewhere").key
    assert Row(0, "a", "b").key != Row(0, "a", "c").key


def test_fewer_than_one_at_once_is_refused(fake):
    with pytest.raises(CallerError, match="in_flight is 0, expected 1 or more"):
        attribute_dataset(fake, ["a"], in_flight=0)


def test_what_is_wrong_is_said_without_lines_of_this_package():
    assert said(CallerError("it is wrong")) == "it is wrong"
    assert said(LimitExceeded("thread.py:58: f(x)\n    too many tokens [LIMIT]")) == "too many tokens [LIMIT]"
    violation = Violation("BAD_PARAM", "graph.nodes[0]", "param 'n' wants an integer", "requests.py:4: t.op(x)")
    assert said(InvalidGraph((violation,))) == "param 'n' wants an integer"

"""Results that are on disk as they come: what a kill leaves is gone on with, what was made otherwise is not mixed."""

import numpy as np
import pytest

from interpd.errors import InvalidRequest
from interpd_attribution.attributions import Attributions
from interpd_attribution.dataset import Row, attribute_dataset
from interpd_attribution.dataset.partial import Partial, beside

SETTINGS = {"model": "fake", "step_scores": ("entropy",)}


@pytest.fixture
def output(tmp_path):
    return tmp_path / "out.json.gz"


@pytest.fixture
def results(fake):
    """The results of rows ``a``, ``bb``, ``ccc``."""
    return list(attribute_dataset(fake, ["a", "bb", "ccc"]))


ROWS = [Row(0, "a"), Row(1, "bb"), Row(2, "ccc")]


def begun(output, results, settings=SETTINGS):
    """What a run leaves that is killed behind some results: nothing is closed."""
    store = Partial(output, settings)
    for item in results:
        store.add(item)
    return store


def test_results_are_on_disk_before_the_run_ends_and_one_file_behind_it(output, results):
    store = begun(output, results[:2])
    assert len(beside(output).read_bytes().splitlines()) == 3
    assert not output.exists()
    store.add(results[2])
    store.save({"n_rows": 3})
    assert not beside(output).exists()
    assert [path.name for path in output.parent.iterdir()] == ["out.json.gz"]
    found = Attributions.load(output)
    assert [item.info["dataset_row"] for item in found] == [0, 1, 2]
    assert found.info["dataset"]["n_rows"] == 3
    assert found.info["input_texts"] == ["a", "bb", "ccc"]
    assert "dataset_row" not in found.info
    for item, before in zip(found, results, strict=True):
        np.testing.assert_array_equal(item.scores, before.scores)


def test_a_killed_run_is_gone_on_with(output, results):
    begun(output, results[:2])
    with beside(output).open("ab") as file:
        file.write(b'{"format": "interpd-attrib')
    with Partial(output, SETTINGS, resume=True) as store:
        assert [row.number for row in store.left(ROWS)] == [2]
        store.add(results[2])
        assert len(store.save({})) == 3


def test_rows_that_failed_are_tried_again_from_a_finished_output(output, results):
    begun(output, [results[0], results[2]]).save({"failed": {"1": "no memory"}})
    with Partial(output, SETTINGS, resume=True) as store:
        assert [row.number for row in store.left(ROWS)] == [1]
        store.add(results[1])
        store.save({"failed": {}})
    found = Attributions.load(output)
    assert [item.info["dataset_row"] for item in found] == [0, 1, 2]
    assert found.info["dataset"]["failed"] == {}
    assert all(item.info["dataset"] == found.info["dataset"] for item in found)


def test_results_of_one_row_are_one_row(output, results):
    begun(output, results[1:2]).save({})
    with Partial(output, SETTINGS, resume=True) as store:
        assert [row.number for row in store.left(ROWS)] == [0, 2]
        store.add(results[0])
        assert [item.info["dataset_row"] for item in store.save({})] == [0, 1]


def test_what_a_run_left_is_not_written_over_unasked(output, results):
    begun(output, results[:1])
    with pytest.raises(InvalidRequest, match=r"--resume goes on with it, --overwrite begins anew"):
        Partial(output, SETTINGS)
    with Partial(output, SETTINGS, overwrite=True) as store:
        assert len(store) == 0


def test_results_of_other_settings_are_not_mixed(output, results):
    begun(output, results[:1])
    with pytest.raises(InvalidRequest, match=r"made with other settings \(model was 'fake'\)"):
        Partial(output, {**SETTINGS, "model": "another"}, resume=True)


def test_rows_that_are_others_now_are_told_of(output, results):
    begun(output, results[:1])
    with (
        Partial(output, SETTINGS, resume=True) as store,
        pytest.raises(InvalidRequest, match="row 0 is not what it was"),
    ):
        store.left([Row(0, "changed")])


def test_an_output_of_something_else_is_not_gone_on_with(output, make):
    Attributions((make(),)).save(output)
    with pytest.raises(InvalidRequest, match="holds no rows of a dataset"):
        Partial(output, SETTINGS, resume=True)


@pytest.mark.parametrize("content", [b"", b"nothing\n", b'{"format": "other"}\n', b'{"format": 1}\n{"torn\n'])
def test_a_damaged_file_is_told_of(output, content):
    beside(output).write_bytes(content)
    with pytest.raises(InvalidRequest, match="begin anew: --overwrite"):
        Partial(output, SETTINGS, resume=True)

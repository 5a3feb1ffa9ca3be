"""Aggregators and functions of other packages: through entry points, and registered by a program."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from interpd.errors import CallerError
from interpd_attribution.aggregation import (
    AggregationFunction,
    aggregator,
    list_aggregation_functions,
    list_aggregators,
    register,
    registry,
    unregister,
)
from interpd_attribution.views import highlights


@aggregator("positive")
def positive(attribution, *, threshold=0.0):
    """The scores above a threshold."""
    return dataclasses.replace(
        attribution, source_attributions=np.where(attribution.source_attributions > threshold, 1.0, 0.0)
    )


median = AggregationFunction("median", lambda scores, axis: np.median(scores, axis))


@pytest.fixture
def registered():
    register(positive)
    register(median)
    yield
    unregister("positive")
    unregister("median")


@pytest.fixture
def installed(monkeypatch):
    """Entry points as a package would bring them; what they name is found in this test's modules."""

    def install(**named):
        monkeypatch.setattr(
            registry, "entry_points", lambda group: [Point(name, value) for name, value in named.items()]
        )
        registry._points.cache_clear()

    yield install
    monkeypatch.undo()
    registry._points.cache_clear()


@dataclasses.dataclass(frozen=True)
class Point:
    name: str
    value: object

    def load(self):
        if isinstance(self.value, Exception):
            raise self.value
        return self.value


def test_what_is_registered_has_a_name_for_aggregate(make, registered):
    one = make(dims={"layer": 3})
    assert "positive" in list_aggregators()
    assert "median" in list_aggregation_functions()
    found = one.aggregate(["median", "positive"], threshold=0.1, normalize=False)
    np.testing.assert_array_equal(found.source_attributions, np.median(one.source_attributions, -1) > 0.1)


def test_what_is_not_registered_works_as_an_object(make):
    found = make().aggregate(positive, threshold=0.5)
    assert set(np.unique(found.source_attributions)) == {0.0, 1.0}


def test_names_do_not_change_their_meaning_by_accident(registered):
    with pytest.raises(CallerError, match="'median' is taken; overwrite=True replaces it"):
        register(median)
    register(median, overwrite=True)
    with pytest.raises(CallerError, match="'sum' is built in and keeps its meaning"):
        register(dataclasses.replace(median, name="sum"), overwrite=True)
    with pytest.raises(CallerError, match="neither an Aggregator nor an AggregationFunction"):
        register(np.median)


def test_installed_packages_bring_aggregators_and_functions(make, installed):
    installed(positive=positive, median=median)
    assert {"positive"} <= set(list_aggregators())
    assert make(dims={"layer": 3}).aggregate("median").dims == ()


def test_an_entry_point_of_something_else_is_named(make, installed):
    installed(wrong=highlights)
    with pytest.raises(CallerError, match=r"entry point 'wrong' of interpd_attribution.aggregators .* is a module"):
        make().aggregate("wrong")


def test_a_broken_package_hurts_nobody_who_does_not_name_it(make, installed):
    installed(broken=ImportError("no module named nothing"), median=median)
    assert make(dims={"layer": 3}).aggregate("median").aggregate(normalize=True).dims == ()
    for call in (lambda: make().aggregate("broken"), list_aggregators):
        with pytest.raises(CallerError, match=r"entry point 'broken' of .* cannot be loaded: ImportError"):
            call()
    with pytest.raises(CallerError, match="no aggregator or aggregation function 'brokn'; did you mean 'broken'"):
        make().aggregate("brokn")


def test_the_name_of_an_entry_point_counts(installed):
    installed(middle=median)
    assert "middle" in list_aggregation_functions()
    assert registry.find("middle").name == "middle"


def test_the_group_is_the_one_that_is_documented():
    readme = Path(__file__).parents[1] / "README.md"
    assert f'[project.entry-points."{registry.GROUP}"]' in readme.read_text(encoding="utf-8")

"""What each metric means: which way is better, where it comes from."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

Better = Literal["high", "low", ""]


@dataclass(frozen=True)
class About:
    """A metric in words."""

    better: Better
    """Empty: it describes, and does not judge."""
    paper: str
    says: str
    is_of_workers: bool = True
    """Whether a worker takes it of scores; otherwise methods run again under changes."""


METRICS: Mapping[str, About] = MappingProxyType(
    {
        "comprehensiveness": About("high", "DeYoung et al. 2020", "what removing the top features takes from f"),
        "sufficiency": About("low", "DeYoung et al. 2020", "what f lacks when the top features are all there is"),
        "deletion": About("low", "Petsiuk et al. 2018", "the area under f while the top features go first"),
        "insertion": About("high", "Petsiuk et al. 2018", "the area under f while the top features come first"),
        "infidelity": About("low", "Yeh et al. 2019", "the squared error of sums of scores as changes of f"),
        "infidelity_scaled": About("low", "Yeh et al. 2019", "infidelity at the best scale of the scores"),
        "sensitivity_n": About("high", "Ancona et al. 2018", "the correlation of sums of scores with changes of f"),
        "linear_datamodeling": About("high", "Park et al. 2023", "the rank correlation of sums of scores with f"),
        "tau_loo": About("high", "Jain and Wallace 2019", "Kendall's tau with leaving out each feature"),
        "completeness": About("low", "Sundararajan et al. 2017", "how far the scores' sum misses f(x) - f(baseline)"),
        "gini": About("", "Chalasani et al. 2020", "how few features have most of the scores"),
        "entropy": About("", "Bhatt et al. 2020", "over how many features the scores are spread"),
        "max_sensitivity": About("low", "Yeh et al. 2019", "the most that noise on the inputs changes scores", False),
        "randomization": About("low", "Adebayo et al. 2018", "how alike scores of redrawn weights still are", False),
    }
)
"""By name, in the order of tables."""

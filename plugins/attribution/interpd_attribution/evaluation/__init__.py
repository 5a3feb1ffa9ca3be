"""Which method tells the truth: faithfulness, robustness and sanity of attributions, over methods and inputs."""

from interpd_attribution.evaluation.running import evaluate
from interpd_attribution.evaluation.table import Evaluation, Figure

__all__ = ["Evaluation", "Figure", "evaluate"]

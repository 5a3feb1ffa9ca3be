"""Attribution of every row of a dataset.

rows = read_rows("questions.jsonl", input_field="question", generated_field="answer")
for found in attribute_dataset(model, rows, method="saliency"):
    print(found.info["dataset_row"], found)
"""

from interpd_attribution.dataset.local_files import read_rows
from interpd_attribution.dataset.rows import Row, rows_of
from interpd_attribution.dataset.running import Failure, attribute_dataset

__all__ = ["Failure", "Row", "attribute_dataset", "read_rows", "rows_of"]

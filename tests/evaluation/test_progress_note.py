"""The accuracy in the line of progress."""

from __future__ import annotations

from fewshot_i2v.evaluation.row_execution import accuracy_note
from fewshot_i2v.statistics.intervals import MIN_EPISODES


def test_there_is_no_interval_where_tables_have_none() -> None:
    accuracies = [0.8, 1.0, 0.9, 0.8, 1.0, 0.9]
    assert accuracy_note([]) == ""
    for n in range(1, MIN_EPISODES):
        assert "±" not in accuracy_note(accuracies[:n])
    assert accuracy_note(accuracies) == "90.0 ± 9.4 %"

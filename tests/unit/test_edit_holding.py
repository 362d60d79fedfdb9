"""What is held of texts, summed up. Oracle: means by hand."""

import json
from math import inf, nan

from workers.edits.holding import LayerTally


def test_what_overflows_in_a_layer_is_left_out_of_its_mean() -> None:
    tally = LayerTally(3)
    tally.add(([nan, -4.0, -1.0], [0.0, 0.5, 1.0]), ([-2.0, -inf, -3.0], [0.0, nan, 0.5]))
    tally.add(([-3.0, -2.0, -1.0], [0.5, 0.5, 1.0]), ([-5.0, -6.0, -2.0], [0.0, 0.0, 0.0]))
    found = tally.result()
    assert [layer["log_likelihood"]["change"]["n"] for layer in found] == [1, 1, 2]
    assert [layer["log_likelihood"]["change"]["mean"] for layer in found] == [-2.0, -4.0, -1.5]
    assert [layer["right"]["change"]["mean"] for layer in found] == [-0.25, -0.5, -0.75]
    # As Postgres keeps it, which knows no NaN.
    assert json.dumps(found, allow_nan=False)

# SPDX-License-Identifier: Apache-2.0
"""Every example runs, or is refused with one sentence, just as the recorded matrix says."""
import ast
import inspect
import textwrap

import pytest

import paddle
from tests.slim_examples import EXAMPLES
from tests.slim_matrix import recorded, run, table

NAMES = [f"{api}: {strategy}" for api, strategy in EXAMPLES]


@pytest.mark.slow
@pytest.mark.parametrize("key", EXAMPLES, ids=NAMES)
def test_outcome_is_the_recorded_one(key):
    api, strategy = key
    known = recorded().get(paddle.__version__)
    if known is None:
        pytest.skip(f"nothing recorded on Paddle {paddle.__version__}: python -m tests.slim_matrix")
    assert run(api, EXAMPLES[key]) == known[api][strategy]


def test_the_matrix_has_every_example_on_both_versions():
    results = recorded()
    assert set(results) >= {"2.6.2", "3.3.1"}
    for version in ("2.6.2", "3.3.1"):
        assert ({(api, s) for api, strategies in results[version].items() for s in strategies}
                == set(EXAMPLES))


@pytest.mark.parametrize("key", EXAMPLES, ids=NAMES)
def test_examples_are_short(key):
    function = ast.parse(textwrap.dedent(inspect.getsource(EXAMPLES[key]))).body[0]
    assert len(function.body) <= 5


def test_the_table_numbers_refusals():
    text = table({"2.6.2": {"A": {"s": "works", "t": "works"}},
                  "3.3.1": {"A": {"s": "no: use B", "t": "no: use B"}}})
    assert text.splitlines()[2:] == ["| `A` | s | works | says so [1] |",
                                     "| `A` | t | works | says so [1] |", "",
                                     "[1] no: use B"]

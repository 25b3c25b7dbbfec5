# SPDX-License-Identifier: Apache-2.0
"""First and last layers are those without a layer before and behind them."""
import pytest

from paddle_mrecg.graph.ends import first_and_last
from paddle_mrecg.graph.graph import Op

# name: lines `output <- inputs`, layers in capitals; first; last
CASES = {
    "a chain": ("A<-x a<-A B<-a C<-B p<-C", "A", "C"),
    "one layer is both": ("a<-x A<-a p<-A", "A", "A"),
    "two heads, one of them in the middle of the program": (
        "A<-x B<-A H<-B s<-H C<-B G<-C t<-G", "A", "H G"),
    "two stems": ("A<-x B<-y j<-A,B C<-j", "A B", "C"),
    "a layer that reads the input too is first only by itself": (
        "A<-x j<-A,x B<-j", "A", "B"),
    "a gate next to a layer": ("A<-x g<-x B<-g j<-A,B C<-j", "A B", "C"),
    "a shortcut around the last layer": ("A<-x B<-A j<-A,B p<-j", "A", "B"),
    "what is behind a head but has no weight": ("A<-x H<-A s<-H t<-s,A", "A", "H"),
    "weights are not in front": ("A<-x,w B<-A,w", "A", "B"),
    "no layer": ("a<-x b<-a", "", ""),
}


@pytest.mark.parametrize("name", CASES)
def test_first_and_last(name):
    lines, first, last = CASES[name]
    ops = []
    for line in lines.split():
        output, inputs = line.split("<-")
        ops.append(Op("conv2d" if output.isupper() else "relu", {"X": inputs.split(",")},
                      {"Out": [output]}))
    found = first_and_last(ops, lambda op: op.type == "conv2d")
    assert [[op.output("Out") for op in side] for side in found] == [first.split(), last.split()]

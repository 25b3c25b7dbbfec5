# SPDX-License-Identifier: Apache-2.0
"""Which layers cost the accuracy, and what to do about it."""

# inputs on which analyze measures errors, unless told otherwise: at most, at least, and values that
# they hold together, for an image of 640 x 640 has as many positions as many small ones
RANKING_SAMPLES, FEWEST_SAMPLES, RANKING_VALUES = 8, 2, 2_500_000
BITS = (2, 3, 4, 5, 6, 8)  # that auto gives to layers where the size is the goal
TRIES = 16  # settings that auto tries at most, unless told otherwise

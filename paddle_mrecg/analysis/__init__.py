# SPDX-License-Identifier: Apache-2.0
"""Which layers cost the accuracy, and what to do about it."""

RANKING_SAMPLES = 8  # inputs on which analyze measures errors, unless told otherwise
TRIES = 16  # settings that auto tries at most, unless told otherwise

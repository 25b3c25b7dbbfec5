# SPDX-License-Identifier: Apache-2.0
"""One strategy, one file: MRECG, bin regularization, symmetric PACT."""

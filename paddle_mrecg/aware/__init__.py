# SPDX-License-Identifier: Apache-2.0
"""Job 2, quant-aware training in the user's own loop, and the program that computes the same."""

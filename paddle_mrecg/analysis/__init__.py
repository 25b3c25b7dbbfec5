# SPDX-License-Identifier: Apache-2.0
"""Which layers cost the accuracy, and what to do about it."""

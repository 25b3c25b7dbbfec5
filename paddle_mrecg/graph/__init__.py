# SPDX-License-Identifier: Apache-2.0
"""The neutral graph and what reads, writes, folds, runs and cuts it."""

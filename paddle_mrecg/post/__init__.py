# SPDX-License-Identifier: Apache-2.0
"""Job 1, post-training: from a float program and unlabelled samples to a low-bit program."""

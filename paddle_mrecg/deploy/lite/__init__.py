# SPDX-License-Identifier: Apache-2.0
"""Paddle Lite: its converter, its predictor, and what its int8 kernels need."""

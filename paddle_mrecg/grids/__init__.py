# SPDX-License-Identifier: Apache-2.0
"""Grids of integer codes: maths, ranges and observers (numpy), and the fake quantizer (Paddle)."""

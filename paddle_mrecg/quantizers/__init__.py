# SPDX-License-Identifier: Apache-2.0
"""Quantizer maths: stateless formulas (numpy) and their trainable forms (paddle)."""

# SPDX-License-Identifier: Apache-2.0
"""As PaddleOCR's tools/eval.py: quantizes nothing."""

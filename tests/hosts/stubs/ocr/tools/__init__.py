# SPDX-License-Identifier: Apache-2.0
"""PaddleOCR's tools are a package."""

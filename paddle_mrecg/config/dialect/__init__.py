# SPDX-License-Identifier: Apache-2.0
"""PaddleSlim's names for our settings."""

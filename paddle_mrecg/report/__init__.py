# SPDX-License-Identifier: Apache-2.0
"""What the user sees: progress, tables, files and pictures."""

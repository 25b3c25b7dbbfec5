# SPDX-License-Identifier: Apache-2.0
"""report.html: the whole result on one page that needs no network."""

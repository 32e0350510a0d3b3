"""Headings in help texts: of commands in ``deconvviz --help``, and of options in the help of one command."""

from __future__ import annotations

# Commands. The last three get their first commands later; a heading without commands is not shown.
LOOK = "Look"
DATASET = "Dataset"
NETWORK = "Network"
EXPERIMENTS = "Experiments"
TRUST = "Trust"
SHARE = "Share"

# Options.
WHAT = "What to project"
WHICH = "Which channels"
APPEARANCE = "How the figure looks"
PACE = "How it runs"

"""Panel titles in help texts, for commands and for options."""

from __future__ import annotations

# Commands. The last three are reserved: a panel without commands is not shown.
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

"""What a figure shows, as plain arrays and text; no matplotlib."""

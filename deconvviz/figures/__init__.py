"""Arrays to pictures to matplotlib sheets. No model in here, and no pyplot."""

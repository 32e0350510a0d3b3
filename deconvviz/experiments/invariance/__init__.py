"""Figure 5 of the paper: how features and the class probability change if the picture is transformed."""

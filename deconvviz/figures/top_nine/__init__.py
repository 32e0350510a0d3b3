"""The paper's Figure 2: the strongest patches of some channels beside their projections."""

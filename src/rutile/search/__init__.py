"""Structure search: genetic algorithms that find crystals and clusters of low energy."""

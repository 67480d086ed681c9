"""Choose the right language model for every query, and prove what that saved."""

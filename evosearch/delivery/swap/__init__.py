"""A found layer in a model that is there already: what can be swapped, by which rules, fitted to what it replaces, and back again."""

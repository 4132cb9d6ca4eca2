"""The unit tests of the rules, for promtool: every alert around its limits, and through what must not move it."""

"""The steps of the engine, pure: decode, track, tally, read. `flowmetrics.topology` says how they are joined."""

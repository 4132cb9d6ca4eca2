"""How amounts lie on the axis of time: bins of values, panes of bins, windows over panes."""

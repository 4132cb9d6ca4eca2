"""flow-1: the same million events through flowmetrics and through other stream processors, over one broker."""

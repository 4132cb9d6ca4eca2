"""The things that have histories: work items, requests and customers."""

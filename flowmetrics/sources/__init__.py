"""The kinds of senders: each file turns what one of them says into events."""

"""The demo's simulated company: what its producers tell, in the past and live. Nothing here waits, sends or stores.

streams.py     what each value stream is like, in numbers
history.py     the weeks before the demo begins: everybody's whole story, cut off at that instant
present.py     the same people and the same work from then on, in quicker time, and the slump
producers.py   the company as the demo command sees it: CloudEvents lines

Around it: stage.py runs the company and an engine, alarms.py a Prometheus and an Alertmanager that watch it.
"""

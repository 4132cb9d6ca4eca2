"""The configuration as the contract gives it, every key of it."""

CONTRACT = """\
broker: local:///var/lib/flowmetrics        # or kafka://host:9092,host2:9092
http: {listen: "127.0.0.1:8080"}            # metrics, page, events, health
kpis: ["*"]                                 # patterns of KPI names: the metric without prefix and unit
windows: [1d, 7d, 30d]
resolution: 5m                              # pane width; divides 15 minutes (or 1s); every window is a multiple
percentiles: [50, 85, 95]
horizon: 400d                               # H: nothing older is read
timezone: Asia/Seoul                        # calendar days and business hours; instants are UTC
value_streams:
  "*":                                      # patterns; the first that matches wins
    item_types: {defect: [Bug, "*incident*"], debt: [Chore], risk: [Security], feature: ["*"]}
    states:                                 # native state → flow state; glob, case-insensitive, first match wins
      new: [Backlog, Idea]
      waiting: [Ready, "*queue*", Blocked]
      active: ["In Progress", "Accepted/*"]
      done: [Done, Closed, "Completed/*"]
      cancelled: [Cancelled, "Won't do"]
      ignore: []                            # a state whose time is left out
      note: [Commented]                     # not a state at all: changes nothing
    start: first_committed                  # first entry into waiting or active; or: created
    reopen_gap: exclude                     # flow time leaves out the time it sat in done; requests: include
surveys: {nps: {scale: [0, 10]}, enps: {scale: [0, 10]}, csat: {scale: [1, 5], top: 2}, ces: {scale: [1, 7], better: high}}
time_to_value: {from: signed_up, to: value_reached, within: [7d, 30d]}
eligible: {feature-x: {segment: enterprise}}
labels: {max_per_metric: 2000, overflow: other}
privacy: {pseudonym_key_file: /run/secrets/flowmetrics-key}
"""  # noqa: E501 - copied from the contract

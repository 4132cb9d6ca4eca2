"""The simulator of many workers on Kafka: real steps and real units, over a model of the broker, in virtual time."""

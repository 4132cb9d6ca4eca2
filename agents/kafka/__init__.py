"""The runtime of many workers: the same steps over Kafka, one transaction a checkpoint."""

"""The boards for Grafana that follow from the catalogue."""

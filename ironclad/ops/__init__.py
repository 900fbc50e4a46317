"""Running it: services, supervision, health, metrics."""

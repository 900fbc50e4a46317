"""Telling people: the outbox is routed, grouped and delivered, each message at least once."""

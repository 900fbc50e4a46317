"""Probing, decoding, encoding, loudness and comparison of audio."""

"""The output library: paths, receipts and media-server rules."""

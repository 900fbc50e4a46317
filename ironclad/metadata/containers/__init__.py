"""One module a tagging format: how to read it into canonical keys, and how to write canonical keys into it."""

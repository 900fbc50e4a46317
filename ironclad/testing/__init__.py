"""What plugin authors test their plugins with: the engine contract, as checks that anybody's engine can be put to."""

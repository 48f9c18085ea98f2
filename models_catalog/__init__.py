"""What exists: architectures and machines, each number with its source. Imports none of the other rooms."""

"""What a person reads: reports as lines of text."""
